"""Who may decide which identity provider tells us about people."""

from __future__ import annotations

from apps.users.models import User


def can_manage(user: User) -> bool:
    """Add identity providers, make and revoke their tokens, and say who somebody of theirs is."""
    return user.is_active and user.is_administrator
