"""What templates see in demo mode only: `demo_people` on the sign-in page, and the banner's `demo_company`."""

from typing import Any

from django.http import HttpRequest

from apps.demo import cast
from apps.demo.company.harbourline import HARBOURLINE


def demo(_request: HttpRequest) -> dict[str, Any]:
    """Costs no query: who else there is, is asked only where a template shows it."""
    return {"demo_company": HARBOURLINE.name, "demo_people": cast.parts, "demo_everybody": cast.everybody}
