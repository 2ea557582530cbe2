"""Who may see and change what in the inventory. Closed by default: what is not said here is a 404.

Administrators and auditors see everything. A person sees themselves; a manager, their reports; an owner, what they own
and who holds it. Whoever is linked to a person of a connection sees what can be held there, but not who holds it.
"""

from __future__ import annotations

from django.db.models.expressions import RawSQL

from apps.inventory import succession
from apps.inventory.models import Entitlement, Identity, Principal, Resource
from apps.inventory.models.access import EntitlementQuerySet
from apps.inventory.models.holders import IdentityQuerySet
from apps.inventory.models.resources import ResourceQuerySet
from apps.users.models import User

# Themselves, their reports, and the machines that they answer for (`holders.answered_by`). Each is a look into an index,
# which an OR of them is not.
_VISIBLE = f"""
    SELECT %s::bigint
    UNION ALL
    SELECT report.id FROM ({succession.STOOD_FOR}) boss JOIN inventory_identity report ON report.manager_id = boss.id
    UNION ALL
    SELECT id FROM inventory_identity WHERE owner_id = %s
    UNION ALL
    SELECT machine.id FROM inventory_identity machine LEFT JOIN inventory_identity owner ON owner.id = machine.owner_id
    WHERE machine.successor_id = %s AND (owner.id IS NULL OR owner.ended_at IS NOT NULL)"""  # noqa: S608  our own words


def identity_of(user: User) -> Identity | None:
    """The person this user is, if somebody linked them and they have not left."""
    known: dict[str, Identity | None] = user.__dict__  # asked many times for one page
    if "_identity" not in known:
        known["_identity"] = Identity.objects.present().filter(user=user).first() if user.is_active else None
    return known["_identity"]


def can_see_everything(user: User) -> bool:
    return user.is_active and (user.is_administrator or user.is_auditor)


def can_view_connections(user: User) -> bool:
    return can_see_everything(user)


def can_look_up(user: User) -> bool:
    """Use the lists of entitlements and accounts at all."""
    return can_see_everything(user) or identity_of(user) is not None


def sees_others(user: User) -> bool:
    """There is somebody beside themselves whom they may look at."""
    if can_see_everything(user):
        return True
    me = identity_of(user)
    return me is not None and visible_identities(user).exclude(pk=me.pk).exists()


def can_manage(user: User) -> bool:
    """Decide about connections, owners, environments and links."""
    return user.is_active and user.is_administrator


def can_describe(user: User, identity: Identity) -> bool:
    """Correct what a machine is, write down what it is for and name who comes after: who answers for it, administrators."""
    if identity.is_human or identity.ended_at:
        return False
    me = identity_of(user)
    return can_manage(user) or (me is not None and me == identity.answerer)


def can_view_identity(user: User, identity: Identity) -> bool:
    """Also all that the identity holds."""
    return visible_identities(user).filter(pk=identity.pk).exists()


def visible_identities(user: User) -> IdentityQuerySet:
    """Everybody for whom `can_view_identity` is true."""
    if can_see_everything(user):
        return Identity.objects.all()
    me = identity_of(user)
    if me is None:
        return Identity.objects.none()
    return Identity.objects.filter(pk__in=RawSQL(_VISIBLE, [me.pk, user.pk, me.pk, me.pk]))  # noqa: S611  keys


def visible_entitlements(user: User) -> EntitlementQuerySet:
    """What the user may look up, though not who holds it."""
    if can_see_everything(user):
        return Entitlement.objects.all()
    me = identity_of(user)
    return Entitlement.objects.filter(connection=me.connection_id, is_ours=False) if me else Entitlement.objects.none()


def visible_resources(user: User) -> ResourceQuerySet:
    """The accounts that the user may look up, though not who holds what in them."""
    if can_see_everything(user):
        return Resource.objects.all()
    me = identity_of(user)
    return Resource.objects.filter(connection=me.connection_id) if me else Resource.objects.none()


def can_view_holders(user: User, entitlement: Entitlement) -> bool:
    """See who holds it: whoever owns it, its group or its account."""
    if can_see_everything(user):
        return True
    me = identity_of(user)
    owners = {entitlement.owner_id}
    if entitlement.resource:
        owners.add(entitlement.resource.owner_id)
    if entitlement.group:
        owners.add(entitlement.group.owner_id)
    return me is not None and me.pk in owners


def can_view_contents(user: User, resource: Resource) -> bool:
    """See who and what is inside an account, and how it was read: its owner."""
    me = identity_of(user)
    return can_see_everything(user) or (me is not None and me.pk == resource.owner_id)


def owns_anything(user: User) -> bool:
    """Whether the derived role of an entitlement owner is theirs."""
    me = identity_of(user)
    if me is None:
        return False
    owned = (Resource, Entitlement, Principal, Identity)
    return any(model._default_manager.filter(owner=me, ended_at=None).exists() for model in owned)
