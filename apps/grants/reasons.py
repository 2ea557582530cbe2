"""Why an assignment that is not standing is there: which grant put it there, and until when."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils import timezone

from apps.grants.models import Grant
from apps.inventory.extensions import Explained, Reason

MOST_NAMED = 500  # entitlements in a statement; beyond it naming them costs more than the grants of other ones


def explain(assignments: Iterable[Explained]) -> dict[int, Reason]:
    """The grant behind each of these assignments, if there is one: for what is held now the unfinished one, for what
    ended the one that was open then. One query, however many there are."""
    asked = [*assignments]
    entitlements = {row.entitlement_id for row in asked}
    grants = (Grant.objects.unfinished() | Grant.objects.exclude(revoked_at=None)).filter(
        principal__in={row.principal_id for row in asked}
    )
    if len(entitlements) <= MOST_NAMED:
        grants = grants.filter(entitlement__in=entitlements)
    known = list(grants.order_by("ends_at"))
    if not known:
        return {}
    rows: dict[tuple[int, int], list[Explained]] = {}
    for row in asked:
        rows.setdefault((row.principal_id, row.entitlement_id), []).append(row)
    found = {}
    for grant in known:
        for row in rows.get((grant.principal_id, grant.entitlement_id), ()):
            if row.is_open and grant.revoked_at is None:
                found[row.pk] = _reason(grant)
            elif not row.is_open and _was_open(grant, row):
                found[row.pk] = Reason(kind="idle", icon="clock", word="JIT, ended", url=grant.get_absolute_url())
    return found


def _was_open(grant: Grant, row: Explained) -> bool:
    """The grant was being opened or open while the assignment was there."""
    if grant.claimed_at is None or grant.claimed_at >= row.period.upper:
        return False
    return grant.revoked_at is None or bool(grant.revoked_at > row.period.lower)


def _reason(grant: Grant) -> Reason:
    url = grant.get_absolute_url()
    if grant.is_ending:
        return Reason(kind="wait", icon="hourglass-low", word="Ending", url=url)
    ends_at = grant.ends_at or grant.not_after
    word = f"JIT until {timezone.localtime(ends_at):%H:%M}" if ends_at else "JIT"
    return Reason(kind="now", icon="clock", word=word, url=url, is_timed=True)
