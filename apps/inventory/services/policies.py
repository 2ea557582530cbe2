"""Dated policies: what can be given to an existing IAM user or role for a time, by a policy that ends itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction

from apps.audit import services as audit
from apps.connectors.base import DocumentRecord, EntitlementRecord
from apps.core.refusals import NotPossible
from apps.inventory.models import Entitlement, Resource
from apps.inventory.models.access import Privilege
from apps.inventory.sync import rows

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
ACTION = re.compile(r"[a-z0-9-]+:[A-Za-z0-9*?]+")
RESOURCE = re.compile(r"\*|arn:[^\s]+")


@transaction.atomic
def define_policy(
    account: Resource,
    *,
    slug: str,
    name: str,
    actions: Sequence[str],
    resources: Sequence[str],
    by: Any,
    description: str = "",
) -> Entitlement:
    """Define what a dated policy gives in one account. Its privilege is computed like that of every policy.

    Nothing is written in AWS: it only exists there while a grant gives it to somebody. Raises `NotPossible` for what is
    no action or resource, so that a typing error does not become a policy that AWS refuses later.
    """
    if not SLUG.fullmatch(slug) or len(slug) > 60:
        raise NotPossible("A short name has small letters, digits and hyphens, up to 60 of them.")
    if not actions or not resources:
        raise NotPossible("Name at least one action and one resource.")
    for wrong in (action for action in actions if not ACTION.fullmatch(action)):
        raise NotPossible(f"“{wrong[:80]}” is no action. Write it as service:Action, like s3:GetObject.")
    for wrong in (resource for resource in resources if not RESOURCE.fullmatch(resource)):
        raise NotPossible(f"“{wrong[:80]}” is no resource. Write an ARN, or * for everything.")
    external_id = f"gatehouse:policy:{account.external_id}:{slug}"
    if Entitlement.objects.filter(connection=account.connection, external_id=external_id).exists():
        raise NotPossible(f"{account} has a dated policy {slug} already. Choose another short name.")
    statements = [{"actions": list(actions), "resources": list(resources)}]
    record = EntitlementRecord(
        kind=Entitlement.Kind.DATED_POLICY,
        external_id=external_id,
        name=name,
        account_id=account.external_id,
        description=description,
        documents=(DocumentRecord(slug, _document(statements)),),
        attributes={"statements": statements},
    )
    values: dict[str, Any] = rows.entitlement(record, account.pk, None)
    entitlement = Entitlement.objects.create(connection=account.connection, external_id=external_id, **values)
    audit.record(
        "inventory.entitlement.defined",
        by=by,
        subject=entitlement,
        about=[account],
        data={"statements": record.attributes["statements"]},
    )
    return entitlement


def is_what_it_says(entitlement: Entitlement) -> bool:
    """Whether the row of what people defined says what it amounts to, computed again from what would be written. All other
    rows are read by workers; one that says less would lower the tier."""
    if entitlement.kind == Entitlement.Kind.NETWORK_RULE:
        return _says(entitlement, {**rows.UNKNOWN, "privilege": Privilege.WRITE})
    if entitlement.kind != Entitlement.Kind.DATED_POLICY:
        return True
    try:
        document = _document(entitlement.attributes["statements"])
    except (AttributeError, KeyError, TypeError):
        return False
    record = EntitlementRecord(
        kind=entitlement.kind,
        external_id=entitlement.external_id,
        name=entitlement.name,
        documents=(DocumentRecord("computed again", document),),
    )
    return _says(entitlement, rows.privilege(record))


def _says(entitlement: Entitlement, computed: Mapping[str, Any]) -> bool:
    said = ("privilege", "can_escalate", "is_sensitive_read")
    return all(getattr(entitlement, name) == computed[name] for name in said)


def _document(statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    allows = [{"Effect": "Allow", "Action": one["actions"], "Resource": one["resources"]} for one in statements]
    return {"Version": "2012-10-17", "Statement": allows}
