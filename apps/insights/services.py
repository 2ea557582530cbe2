"""What people decide about findings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.refusals import NotPossible
from apps.insights.models import Finding

MOST_WORDS = 1000


@transaction.atomic
def accept(finding: Finding, *, by: Any, until: datetime, reason: str) -> Finding:
    """It may stay so until then: it is no longer to be done, and comes back by itself. It closes all the same when a scan
    shows it gone."""
    finding, reason, now = _open(finding), _reason(reason, "Say why it may stay."), timezone.now()
    if not now < until <= now + Finding.LONGEST_ACCEPTANCE:
        raise NotPossible(f"Choose a day in the next {Finding.LONGEST_ACCEPTANCE.days}.")
    finding.accepted_until, finding.accepted_by, finding.accepted_reason = until, by, reason
    finding.save(update_fields=["accepted_until", "accepted_by", "accepted_reason"])
    return _recorded(finding, "accepted", by, reason=reason, until=until.isoformat())


@transaction.atomic
def resolve(finding: Finding, *, by: Any, reason: str) -> Finding:
    """Somebody says that it is done. The next complete scan closes it, or opens it again."""
    finding, reason = _open(finding), _reason(reason, "Say what was done.")
    finding.resolved_at, finding.resolved_by, finding.resolved_reason = timezone.now(), by, reason
    finding.save(update_fields=["resolved_at", "resolved_by", "resolved_reason"])
    return _recorded(finding, "resolved", by, reason=reason)


def _open(finding: Finding) -> Finding:
    finding = Finding.objects.select_for_update(of=("self",)).with_names().get(pk=finding.pk)
    if not finding.is_open:
        raise NotPossible("A scan shows that this is gone. There is nothing to decide.")
    return finding


def _reason(reason: str, otherwise: str) -> str:
    reason = reason.strip()[:MOST_WORDS]
    if not reason:
        raise NotPossible(otherwise)
    return reason


def _recorded(finding: Finding, what: str, by: Any, **data: Any) -> Finding:
    about = [row for row in (finding.identity, finding.entitlement, finding.resource, finding.owner) if row]
    data |= {"kind": finding.kind, "what": finding.what, "severity": finding.severity}
    audit.record(f"insights.finding.{what}", by=by, subject=finding, about=about, data=data)
    return finding
