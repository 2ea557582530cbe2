"""Who may see and decide requests."""

from __future__ import annotations

from apps.access.models import AccessRequest
from apps.inventory import permissions as inventory
from apps.inventory.models import Identity
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


def is_independent(user: User, requester: User, holder: Identity) -> bool:
    """Whether the user is known to be somebody else than who asks and who is to hold it, whichever login they use: linked
    to a person who works here, and not one with the same address. An address is no proof of who somebody is, but enough
    to keep them from deciding; of somebody who is linked to nobody we do not know who they are."""
    me, asker = inventory.identity_of(user), inventory.identity_of(requester)
    if me is None or user.pk in (requester.pk, holder.user_id):
        return False
    theirs = {requester.email, holder.email, asker.email if asker else ""}
    return not {address.lower() for address in (user.email, me.email) if address} & {a.lower() for a in theirs}


def can_confirm(user: User, request: AccessRequest) -> bool:
    """Only whoever asked; how they must do it is for the service to check."""
    return user.is_active and user.pk == request.requester_id


def can_withdraw(user: User, request: AccessRequest) -> bool:
    return user.pk == request.requester_id


def can_offer(user: User) -> bool:
    """Administrators keep the catalogue."""
    return user.is_administrator
