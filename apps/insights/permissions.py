"""Who may look at the portal's own numbers."""

from __future__ import annotations

from apps.users.models import User


def can_see_insights(user: User) -> bool:
    """Auditors and administrators: what is overdue, and how fast we are, also tells a thief when to come."""
    return user.is_active and (user.is_auditor or user.is_administrator)
