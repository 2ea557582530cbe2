"""Network openings: one port of one security group that can be let in to for a time."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from apps.audit import services as audit
from apps.connectors.aws.ingress import Rule, rule_of
from apps.connectors.base import EntitlementRecord
from apps.connectors.errors import Refused
from apps.core.refusals import NotPossible
from apps.inventory.models import Entitlement, Resource
from apps.inventory.models.access import Privilege
from apps.inventory.services.policies import SLUG
from apps.inventory.sync import rows


@transaction.atomic
def define_opening(
    account: Resource,
    *,
    slug: str,
    name: str,
    region: str,
    group_id: str,
    protocol: str,
    from_port: int,
    to_port: int,
    source: str,
    by: Any,
    description: str = "",
) -> Entitlement:
    """Define what a network opening lets in. Nothing is written in AWS: the rule exists there while a grant needs it.

    Its privilege is *write*, whatever the port. There is no policy to compute it from: a path gives no right by itself,
    whoever comes through it still has to sign in to what stands behind, so it is not privileged; what they can do there
    is not known, so it is not merely read. The sentence that says why names what people sign in to over these ports.

    Raises `NotPossible` for what is no rule, or would let in more than a network of our own.
    """
    if not SLUG.fullmatch(slug) or len(slug) > 60:
        raise NotPossible("A short name has small letters, digits and hyphens, up to 60 of them.")
    facts = {
        "region": region,
        "group_id": group_id,
        "protocol": protocol,
        "from_port": from_port,
        "to_port": to_port,
        "source": source,
    }
    try:
        rule = rule_of(account.external_id, facts, account.connection.config)
    except Refused as refusal:
        raise NotPossible(str(refusal)) from refusal
    external_id = f"gatehouse:opening:{account.external_id}:{slug}"
    if Entitlement.objects.filter(connection=account.connection, external_id=external_id).exists():
        raise NotPossible(f"{account} has a network opening {slug} already. Choose another short name.")
    record = EntitlementRecord(
        kind=Entitlement.Kind.NETWORK_RULE,
        external_id=external_id,
        name=name,
        account_id=account.external_id,
        description=description,
        attributes={**facts, "source": rule.source},
    )
    values: dict[str, Any] = rows.entitlement(record, account.pk, None)
    values |= {"privilege": Privilege.WRITE, "privilege_reason": rows.text(_reason(rule), 500)}
    entitlement = Entitlement.objects.create(connection=account.connection, external_id=external_id, **values)
    audit.record(
        "inventory.entitlement.defined",
        by=by,
        subject=entitlement,
        about=[account],
        data={"rule": record.attributes},
    )
    return entitlement


def _reason(rule: Rule) -> str:
    usually = f" (usually {', '.join(rule.services)})" if rule.services else ""
    return (
        f"It lets {rule.source} in to {rule.group_id} in {rule.region} over {rule.ports}{usually}. It opens for a source, "
        "not for a person: everybody there can connect while it is open, and what they can do then is for what stands "
        "behind it to decide."
    )
