"""Who may look at the evidence."""

from __future__ import annotations

from apps.users.models import User


def can_see_evidence(user: User) -> bool:
    """The audit log, the exports, the packs: auditors and administrators. For everybody else there are no such pages."""
    return user.is_active and (user.is_auditor or user.is_administrator)
