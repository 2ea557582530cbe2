"""What templates see in demo mode only: the people on the sign-in page, and what the banner says."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from apps.demo import cast
from apps.demo.company.harbourline import HARBOURLINE

ASK_FOR_CODE = ("users:step_up", "account_reauthenticate", "mfa_reauthenticate")


def demo(request: HttpRequest) -> dict[str, Any]:
    """Costs no query: who else there is, is asked only where a template shows it."""
    return {
        "demo_company": HARBOURLINE.name,
        "demo_people": cast.parts,
        "demo_everybody": cast.everybody,
        "demo_asks_for_code": request.path in map(reverse, ASK_FOR_CODE),
    }
