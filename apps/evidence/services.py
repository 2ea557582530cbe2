"""Handing out evidence. A file is written to disk first, so that its digest is on record before the first byte leaves."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from django.db import connection, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.core import sheets
from apps.core.refusals import NotPossible
from apps.evidence import pack, selection
from apps.evidence.models import EvidencePack, Export
from apps.reviews.models import Campaign
from apps.users.models import User


@dataclass(frozen=True)
class Handout:
    """A file ready to be sent, at its beginning. It has no name on disk and is gone when it is closed."""

    file: IO[bytes]
    name: str


@transaction.atomic
def export_audit(*, start: datetime, end: datetime, by: User) -> tuple[Export, Handout]:
    """All audit events recorded from `start` (included) to `end` (excluded), oldest first, as one CSV file. Who took
    what, how many rows and the file's SHA-256 are themselves on the record. Constant memory, however long the period."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  the response closes it
    try:
        out = sheets.Hashed(file)
        events = AuditEvent.objects.between(start, end).order_by("at", "pk")
        rows = sheets.write_csv(out, selection.COLUMNS, selection.records(events))
        export = Export.objects.create(
            start_at=start, end_at=end, rows=rows, size=out.size, digest=out.digest, made_by=by
        )
        audit.record(
            "evidence.export.made",
            by=by,
            subject=export,
            data={
                "from": start.isoformat(),
                "until": end.isoformat(),
                "rows": rows,
                "bytes": out.size,
                "sha256": out.digest,
            },
        )
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return export, Handout(file, f"audit-events-{start:%Y%m%d}-{export.last_at:%Y%m%d}.csv")


@transaction.atomic(durable=True)
def make_pack(campaign_id: int, *, by: User) -> tuple[EvidencePack, Handout]:
    """The evidence of a launched campaign as one zip file. Every list in it shows the same instant; the same state gives
    the same content, and its digest is on the record. Constant memory, whatever the size of the campaign."""
    with connection.cursor() as sql:
        sql.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    rows = Campaign.objects.launched().select_related(
        "connection", "resource", "run", "fallback", "drafted_by", "launched_by", "closed_by"
    )
    campaign = rows.filter(pk=campaign_id).first()
    if campaign is None:
        raise NotPossible("This review was not launched yet, so there is nothing to prove. Launch it first.")
    file = tempfile.TemporaryFile()  # noqa: SIM115  the response closes it
    try:
        written = pack.write(campaign, file, made_by=str(by), made_at=timezone.now())
        row = EvidencePack.objects.create(
            campaign=campaign,
            content_digest=written.content_digest,
            digest=written.digest,
            size=written.size,
            rows=written.rows,
            made_by=by,
        )
        audit.record(
            "evidence.pack.made",
            by=by,
            subject=row,
            about=[campaign],
            data={
                "content_sha256": written.content_digest,
                "sha256": written.digest,
                "bytes": written.size,
                "rows": written.rows,
            },
        )
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return row, Handout(file, f"gatehouse-review-{campaign.pk}-{row.made_at:%Y%m%d-%H%M%S}.zip")
