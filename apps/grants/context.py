"""What every page tells administrators while nothing opens."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from apps.grants import narrowing
from apps.users.models import User


def only_narrowing(request: HttpRequest) -> dict[str, Any]:
    """Asked where a template shows it, so that a part of a page costs no query."""

    def why() -> str:
        user = getattr(request, "user", None)
        return narrowing.reason() if isinstance(user, User) and user.pk and user.is_administrator else ""

    return {"only_narrowing": why}
