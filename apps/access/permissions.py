"""Who may see and decide requests."""

from __future__ import annotations

from apps.access.models import AccessRequest
from apps.rules.approvers import is_independent
from apps.users.models import User


def can_see(user: User, request: AccessRequest) -> bool:
    """The requester, those who may decide it, auditors and administrators."""
    if user.pk == request.requester_id or user.is_auditor or user.is_administrator:
        return True
    return any(approver.user_id == user.pk for approver in request.approvers.all())


def can_decide(user: User, request: AccessRequest) -> bool:
    """One of its approvers, if they are still somebody else."""
    is_named = any(approver.user_id == user.pk for approver in request.approvers.all())
    return is_named and is_independent(user, request.requester, request.identity)


def can_confirm(user: User, request: AccessRequest) -> bool:
    """Only whoever asked; how they must do it is for the service to check."""
    return user.is_active and user.pk == request.requester_id


def can_withdraw(user: User, request: AccessRequest) -> bool:
    return user.pk == request.requester_id


def can_offer(user: User) -> bool:
    """Administrators keep the catalogue."""
    return user.is_administrator
