"""Who may look at the portal's own numbers, and at what does not look right."""

from __future__ import annotations

from apps.insights.models import Finding, FindingQuerySet
from apps.inventory.permissions import can_see_everything, identity_of
from apps.users.models import User


def can_see_insights(user: User) -> bool:
    """Auditors and administrators: what is overdue, and how fast we are, also tells a thief when to come."""
    return user.is_active and (user.is_auditor or user.is_administrator)


def visible_findings(user: User) -> FindingQuerySet:
    """Auditors and administrators see all; everybody else what they answer for and what is about them."""
    if can_see_everything(user):
        return Finding.objects.all()
    me = identity_of(user)
    return Finding.objects.of(me) if me else Finding.objects.none()


def sees_findings(user: User) -> bool:
    """There is something for them to look at; for those who see all, that there is nothing."""
    return can_see_everything(user) or visible_findings(user).open().exists()


def can_resolve(user: User, finding: Finding) -> bool:
    """Say that it is done: whoever answers for it, and administrators. A scan has the last word."""
    me = identity_of(user)
    return user.is_active and (user.is_administrator or (me is not None and me.pk == finding.owner_id))


def can_accept(user: User, finding: Finding) -> bool:
    """Let it stay: administrators, but nobody what is about themselves."""
    me = identity_of(user)
    return user.is_active and user.is_administrator and (me is None or me.pk != finding.identity_id)
