"""Why an assignment that is not standing is there: which grant put it there, and until when."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils import timezone

from apps.grants.models import Grant
from apps.inventory.extensions import Reason
from apps.inventory.models import Assignment


def explain(assignments: Iterable[Assignment]) -> dict[int, Reason]:
    """The unfinished grant behind each of these assignments, if there is one. One query, however many there are."""
    rows = {(row.principal_id, row.entitlement_id): row.pk for row in assignments}
    grants = Grant.objects.unfinished().filter(
        principal__in={principal for principal, _ in rows}, entitlement__in={entitlement for _, entitlement in rows}
    )
    found = {}
    for grant in grants.order_by("ends_at"):
        pk = rows.get((grant.principal_id, grant.entitlement_id))
        if pk is not None:
            found[pk] = _reason(grant)
    return found


def _reason(grant: Grant) -> Reason:
    url = grant.get_absolute_url()
    if grant.is_ending:
        return Reason(kind="wait", icon="hourglass-low", word="Ending", url=url)
    ends_at = grant.ends_at or grant.not_after
    word = f"JIT until {timezone.localtime(ends_at):%H:%M}" if ends_at else "JIT"
    return Reason(kind="now", icon="clock", word=word, url=url, is_timed=True)
