"""What is wrong with the settings of the inventory, said before a sync stumbles over it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from apps.inventory.models.resources import Environment


@register
def ou_environments(**_: Any) -> list[CheckMessage]:
    """Each organizational unit that OU_ENVIRONMENTS names is given an environment that exists."""
    known = ", ".join(Environment.values)
    return [
        Error(
            f"OU_ENVIRONMENTS says {unit!r} is {value!r}, which is no environment.",
            hint=f"Write it as unit=environment, with one of: {known}.",
            id="inventory.E001",
        )
        for unit, value in settings.OU_ENVIRONMENTS.items()
        if value not in Environment.values
    ]
