"""Who is asking, and from where."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest

from apps.access.services.requests import Place
from apps.users import devices, stepup
from apps.users.models import User


def user_of(request: HttpRequest) -> User:
    """The signed-in user; LoginRequiredMiddleware let nobody else through."""
    assert isinstance(request.user, User)
    return request.user


def place_of(request: HttpRequest, *, within: timedelta, privileged: bool = False) -> Place:
    """From which device and session this comes, with the step-up of this session if it is fresh enough."""
    device = devices.of(request)
    return Place(
        device=device.id,
        session=devices.session_digest(request),
        known_since=None if device.is_new else device.since,
        step_up=stepup.proof(request, within=within, privileged=privileged),
    )
