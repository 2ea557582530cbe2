"""Handing out evidence. A file is written to disk first, so that its digest is on record before the first byte leaves."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from django.db import transaction

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.evidence import selection, sheets
from apps.evidence.models import Export
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
    return export, Handout(file, f"audit-events-{start:%Y%m%d}-{end:%Y%m%d}.csv")
