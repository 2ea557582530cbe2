"""What a grant was used for, against what it allowed: the close-out of a grant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from django.utils import timezone

from apps.connectors.aws import rightsizing
from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.policy.documents import MalformedPolicy
from apps.connectors.aws.rightsizing import Evidence, Smaller
from apps.grants.attribution import AFTERMATH
from apps.grants.models import Activity, Grant, Strength
from apps.inventory.models import TrailDay


@dataclass(frozen=True)
class CloseOut:
    """What the trail shows so far. `missing`: days of the grant whose trail is not known to be read to the end, so that
    what is not seen may still have happened."""

    rows: list[Activity]
    used: int  # actions of the entitlement that were really called
    allowed: int  # actions that its documents allow; 0 where it has none that can be read
    missing: tuple[date, ...]
    smaller: list[tuple[str, Smaller]] = field(default_factory=list)

    @property
    def is_certain(self) -> bool:
        """Every call is surely this grant's."""
        return all(row.strength == Strength.EXACT for row in self.rows)


def close_out(grant: Grant) -> CloseOut:
    """Three statements, whatever the grant was used for."""
    rows = list(Activity.objects.filter(grant=grant).order_by("-done", "action", "pk"))
    documents = grant.entitlement.documents
    allowed, _ = rightsizing.allowed_by([one["document"] for one in documents])
    own = frozenset(row.action for row in rows if row.is_mapped and row.done + row.failed)
    missing = _missing(grant)
    return CloseOut(
        rows=rows,
        used=(catalogue().select(own) & allowed).bit_count(),
        allowed=allowed.bit_count(),
        missing=missing,
        smaller=[] if missing or not own else _smaller(documents, grant, rows, own),
    )


def _smaller(
    documents: list[dict[str, object]], grant: Grant, rows: list[Activity], own: frozenset[str]
) -> list[tuple[str, Smaller]]:
    """Each document without what this grant did not need."""
    evidence = Evidence(
        since=grant.claimed_at or grant.created_at,
        used=own,
        for_services=frozenset(row.action for row in rows if row.is_mapped and row.by_services),
        unmapped=frozenset(row.action.partition(":")[0] for row in rows if not row.is_mapped),
    )
    found = []
    for one in documents:
        try:
            found.append((str(one["name"]), rightsizing.smaller(one["document"], evidence)))  # type: ignore[arg-type]
        except MalformedPolicy:
            continue
    return [(name, smaller) for name, smaller in found if smaller.is_smaller]


def _missing(grant: Grant) -> tuple[date, ...]:
    """Days on which it held whose trail was not read whole in its account."""
    account = grant.entitlement.resource
    if account is None or grant.claimed_at is None:
        return ()
    ended: datetime = min(grant.revoked_at or grant.ends_at or timezone.now(), timezone.now()) + AFTERMATH
    first, last = grant.claimed_at.astimezone(UTC).date(), ended.astimezone(UTC).date()
    days = TrailDay.objects.filter(
        connection=grant.connection_id, account_id=account.external_id, day__gte=first, day__lte=last
    )
    whole: dict[date, bool] = {}
    for day, whole_at in days.values_list("day", "whole_at"):
        whole[day] = whole.get(day, True) and whole_at is not None
    every = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return tuple(day for day in every if not whole.get(day, False))
