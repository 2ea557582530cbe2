"""Who is who, who answers for what, and what an account is for: facts that people confirm and sync never overwrites."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from apps.audit import services as audit
from apps.connectors.base import AccountRecord
from apps.core.refusals import NotPossible
from apps.inventory.models import Entitlement, Identity, Principal, Resource
from apps.inventory.models.resources import ORGANIZATION, Environment
from apps.inventory.sync.environments import environment_of
from apps.users.models import User

Owned = Resource | Entitlement | Principal | Identity


@transaction.atomic
def link_user(identity: Identity, user: User, *, by: Any, source: str = "") -> Identity:
    """Say that this portal user is this person. Everything they may ask, approve and review hangs on it, so nobody does
    it for their own login. `source` is where it is known from (an issuer and subject, a SCIM id)."""
    identity = Identity.objects.select_for_update().get(pk=identity.pk)
    user = User.objects.select_for_update().get(pk=user.pk)
    if not identity.is_human or identity.ended_at:
        raise NotPossible(f"{identity} is not a person who is here now. Choose somebody else.")
    if not user.is_active:
        raise NotPossible(f"{user} may not sign in any more. Choose somebody else.")
    if by == user:
        raise NotPossible("Another administrator links your own login.")
    if identity.user:
        raise NotPossible(f"{identity} is linked to {identity.user.email} already. Unlink that first.")
    linked = Identity.objects.filter(user=user).first()
    if linked:
        raise NotPossible(f"{user.email} is linked to {linked} already. Unlink that first.")
    identity.user, identity.user_source = user, (source or f"linked by {by}")[:200]
    identity.save(update_fields=["user", "user_source"])
    data = {"user": user.email, "source": identity.user_source}
    audit.record("inventory.identity.user_linked", by=by, subject=identity, about=[user], data=data)
    return identity


@transaction.atomic
def unlink_user(identity: Identity, *, by: Any) -> Identity:
    """This portal user is not this person (any more): they can ask, approve and review nothing until they are linked."""
    identity = Identity.objects.select_for_update().get(pk=identity.pk)
    user = identity.user
    if user is None:
        raise NotPossible(f"{identity} is not linked to anybody.")
    if by == user:
        raise NotPossible("Another administrator unlinks your own login.")
    identity.user, identity.user_source = None, ""
    identity.save(update_fields=["user", "user_source"])
    audit.record("inventory.identity.user_unlinked", by=by, subject=identity, about=[user], data={"user": user.email})
    return identity


@transaction.atomic
def set_owner(owned: Owned, owner: Identity | None, *, by: Any) -> Owned:
    """Name who answers for an account, an entitlement, a group or a machine. With nobody, what tags say holds again from
    the next sync on."""
    model = type(owned)
    owned = model._default_manager.select_for_update().get(pk=owned.pk)
    if isinstance(owned, Principal) and not owned.is_group:
        raise NotPossible("Only groups have an owner of their own. Set the owner of the identity.")
    if isinstance(owned, Identity) and owned.is_human:
        raise NotPossible("People have managers, not owners.")
    if owner and (not owner.is_human or owner.ended_at):
        raise NotPossible(f"{owner} cannot answer for anything. Choose a person who is here now.")
    if owner and owner.connection_id != owned.connection_id:
        raise NotPossible(f"{owner} belongs to another connection. Choose somebody of {owned.connection}.")
    before, owned.owner = owned.owner, owner
    if isinstance(owned, Resource | Identity):
        owned.owner_source = f"set by {by}"[:120] if owner else ""
    owned.save(update_fields=["owner", *(["owner_source"] if hasattr(owned, "owner_source") else [])])
    audit.record(
        f"inventory.{model._meta.model_name}.owner_set",
        by=by,
        subject=owned,
        about=[person for person in (owner, before) if person],
        data={"from": str(before or ""), "to": str(owner or "")},
    )
    return owned


@transaction.atomic
def set_environment(resource: Resource, environment: Environment | None, *, by: Any) -> Resource:
    """Confirm what an account is for, whatever the organization's tree says; None goes back to the tree."""
    resource = Resource.objects.select_for_update().get(pk=resource.pk)
    before = resource.environment
    if environment is None:
        record = AccountRecord(
            resource.external_id, resource.name, path=resource.path, is_management=resource.is_management
        )
        resource.environment, resource.environment_source = environment_of(record), ORGANIZATION
    else:
        resource.environment, resource.environment_source = environment, f"confirmed by {by}"[:120]
    resource.save(update_fields=["environment", "environment_source"])
    data = {"from": before, "to": resource.environment, "source": resource.environment_source}
    audit.record("inventory.resource.environment_set", by=by, subject=resource, data=data)
    return resource
