"""Who may see and end grants, and see and decide about differences to AWS."""

from __future__ import annotations

from django.db.models import Q

from apps.connectors import registry
from apps.grants.models import LIVE, Exodus, Grant, Leaving, Reconciliation, State, Stop
from apps.grants.models.leaving import LeavingQuerySet
from apps.inventory import permissions as inventory
from apps.inventory.models import Identity
from apps.inventory.succession import acting_for, stood_for
from apps.rules.approvers import is_independent
from apps.users.models import User


def can_see_all(user: User) -> bool:
    return user.is_auditor or user.is_administrator


def can_see(user: User, grant: Grant) -> bool:
    """The holder, whoever asked, the holder's manager (or who stands in for one who left), the owners of what is held,
    auditors and administrators. The same as `Grant.objects.visible_to`."""
    manager = grant.identity.manager if grant.identity else None
    return can_see_all(user) or is_holder(user, grant) or _is(user, acting_for(manager)) or is_owner(user, grant)


def can_stop(user: User) -> bool:
    """Order an emergency stop."""
    return user.is_active and user.is_administrator


def can_lift(user: User, stop: Stop) -> bool:
    """Say that a stop may go, as one of two: administrators of whom we know who they are, and whom it is not about."""
    return stop.is_in_force and can_stop(user) and inventory.identity_of(user) is not None and not is_about(user, stop)


def can_lift_after(user: User, stop: Stop) -> bool:
    """Be the second, and another person than the first."""
    first = stop.lift_proposed_by
    return can_lift(user, stop) and first is not None and are_two_people(first, user)


def is_about(user: User, stop: Stop) -> bool:
    """Whether the stop is about this user, by whichever login or address."""
    them = stop.identity
    return them is not None and (
        user.pk == them.user_id or bool(_addresses(user, inventory.identity_of(user)) & _addresses(them.user, them))
    )


def is_holder(user: User, grant: Grant) -> bool:
    """It is theirs: they hold it, or asked for it."""
    return user.pk == grant.requested_by_id or (grant.identity is not None and grant.identity.user_id == user.pk)


def can_ask_for_session(user: User, grant: Grant) -> bool:
    """The holder alone, while it is active, where access is a session that the broker makes."""
    is_theirs = grant.identity is not None and grant.identity.user_id == user.pk
    return is_theirs and grant.state == State.ACTIVE and registry.has_minter(grant.connection.kind, grant.provisioner)


def is_owner(user: User, grant: Grant) -> bool:
    """They own the entitlement or the account, or the removal is their task."""
    resource = grant.entitlement.resource
    owners = (grant.entitlement.owner, resource.owner if resource else None, grant.task_owner)
    return any(_is(user, owner) for owner in owners)


def can_end(user: User, grant: Grant) -> bool:
    """Taking access away is open to whoever holds it, owns it or administers the portal. A removal that was decided is
    no longer live."""
    if grant.state not in LIVE:
        return False
    return is_holder(user, grant) or is_owner(user, grant) or user.is_administrator


def can_see_drift(user: User) -> bool:
    """Differences name holders everywhere."""
    return user.is_active and can_see_all(user)


def can_see_leavers(user: User) -> bool:
    """Look at who left: overseers, and whoever answered for one of them or stands in for one."""
    return user.is_active and (can_see_all(user) or visible_leavings(user).exists())


def visible_leavings(user: User) -> LeavingQuerySet:
    """Everybody who left and whom this user may look at. Whoever took over for somebody looks until they are back."""
    if can_see_all(user):
        return Leaving.objects.all()
    me = inventory.identity_of(user)
    if me is None:
        return Leaving.objects.none()
    return Leaving.objects.filter(Q(passes_to=me, returned_at=None) | Q(identity__manager__in=stood_for(user)))


def can_accept(user: User) -> bool:
    """Let a difference stay for a while."""
    return user.is_active and user.is_administrator


def can_release(user: User) -> bool:
    """Be one of the two who let the brake go: an administrator of whom we know who they are."""
    return can_accept(user) and inventory.identity_of(user) is not None


def can_propose_release(user: User, held: Reconciliation | Exodus) -> bool:
    """Be the first of the two, where nobody is yet."""
    return can_release(user) and held.proposed_by is None


def can_let_go(user: User, held: Reconciliation | Exodus) -> bool:
    """Be the second, and another person than the first."""
    first = held.proposed_by
    return can_release(user) and first is not None and are_two_people(first, user)


def are_two_people(first: User, second: User) -> bool:
    """Whether these are known to be two different people, whichever logins they use."""
    person = inventory.identity_of(first)
    return person is not None and is_independent(second, first, person)


def _addresses(user: User | None, person: Identity | None) -> set[str]:
    return {one.email.lower() for one in (user, person) if one and one.email}


def _is(user: User, person: Identity | None) -> bool:
    """Whether the user is this person, who still works here."""
    return person is not None and person.user_id == user.pk and person.ended_at is None
