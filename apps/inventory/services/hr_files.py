"""Taking the people team's file: look first, then apply exactly what was looked at.

The brake: a file that says that more people leave than the connection's drop share allows (and more than a few) is not
applied by the administrator who uploaded it. Another one looks at it and applies it; the command cannot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.refusals import NotPossible
from apps.inventory.models import Connection, Departure, HrFile, Identity
from apps.inventory.services import org_chart
from apps.inventory.services.org_chart import Change, OrgChartError, Plan
from apps.inventory.services.said import Said, take_said
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync import said as directory
from apps.users.models import User

LONGEST_FILE = 50_000_000  # bytes
GOOD_FOR = timedelta(hours=24)
MOST_JOINERS = 200
WINDOW = timedelta(days=1)  # files applied within it count as one
ALWAYS_FINE = 3  # so many may leave at once in the smallest company
SOURCE = Departure.Source.HR_FILE


@dataclass
class Imported:
    """What an import did. People and managers whom the directory does not know are left as they were, and named."""

    changed: int = 0
    unchanged: int = 0
    ended: int = 0
    unknown: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


class Text:
    """The lines of a file of bytes, as they are read; and the SHA-256 of what was read so far."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks, self.sha256, self.size = chunks, hashlib.sha256(), 0

    @property
    def digest(self) -> str:
        return self.sha256.hexdigest()

    def __iter__(self) -> Iterator[str]:
        rest = b""
        for chunk in self.chunks:
            self.sha256.update(chunk)
            self.size += len(chunk)
            if self.size > LONGEST_FILE:
                raise OrgChartError([f"The file is larger than {LONGEST_FILE // 1_000_000} MB."])
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (self._decoded(line) + "\n" for line in lines)
        if rest:
            yield self._decoded(rest)

    @staticmethod
    def _decoded(line: bytes) -> str:
        try:
            return line.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError:
            raise OrgChartError(["The file is not UTF-8 text. Save it as CSV in UTF-8."]) from None


@transaction.atomic
def look_at(connection: Connection, chunks: Iterable[bytes], *, name: str, by: User) -> HrFile:
    """What a file would change, kept until it is applied. An older one that waits is thrown away."""
    text = Text(chunks)
    plan = org_chart.read(connection, text)
    now = timezone.now()
    connection.hr_files.open().update(discarded_at=now)
    shown = as_rows.text(name, 100) or "file.csv"
    file = HrFile.objects.create(
        connection=connection,
        name=shown,
        digest=text.digest,
        lines=plan.lines,
        changes=[_as_json(change) for change in plan.changes],
        joiners=plan.unknown[:MOST_JOINERS],
        counts=_counts(plan),
        ignored=plan.ignored[:50],
        needs_second=is_exodus(connection, plan.leavers, plan.present),
        looked_by=by,
        looked_at=now,
    )
    data = {"name": shown, "digest": file.digest, "counts": file.counts, "needs_second": file.needs_second}
    audit.record("inventory.hr_file.looked_at", by=by, subject=file, about=[connection], data=data)
    return file


@transaction.atomic
def apply(file: HrFile, *, by: User) -> HrFile:
    """Do exactly what was shown, in one transaction; or nothing, where any of these people has changed since, or where
    with what was said since it closes a circle of managers, or ends so many that it needs a second administrator now."""
    directory.hold(file.connection)
    file = HrFile.objects.select_for_update(of=("self",)).select_related("connection").get(pk=file.pk)
    if file.applied_at or file.discarded_at:
        raise NotPossible("This file was applied or replaced already. Look at the latest one.")
    if timezone.now() - file.looked_at > GOOD_FOR:
        raise NotPossible("This was looked at more than a day ago. Upload the file again.")
    leavers = file.counts["leavers"]
    needs_second = file.needs_second or is_exodus(file.connection, leavers, _present(file.connection))
    if needs_second and by.pk == file.looked_by_id:
        raise NotPossible(f"It ends {leavers:,} people. Another administrator looks at it and applies it.")
    changes = [_from_json(entry) for entry in file.changes]
    if not _is_as_seen(file.connection, file.changes):
        raise NotPossible("The inventory changed since this was looked at. Upload the file again.")
    if _closes_a_circle(file.connection, changes):
        raise NotPossible("Managers changed since this was looked at; now it closes a circle. Upload the file again.")
    taken = take_said(file.connection, changes, source=SOURCE, said_by=f"CSV {file.name}", by=by)
    file.applied_at, file.applied_by = timezone.now(), by
    file.save(update_fields=["applied_at", "applied_by"])
    data = {"name": file.name, "digest": file.digest, "counts": file.counts, "ended": taken.ended[:1_000]}
    audit.record(
        "inventory.connection.org_chart_imported",
        by=by,
        subject=file.connection,
        about=[file, *taken.kept_out],
        data=data,
    )
    return file


@transaction.atomic
def discard(file: HrFile, *, by: User) -> HrFile:
    """Throw away what was looked at."""
    file = HrFile.objects.select_for_update(of=("self",)).select_related("connection").get(pk=file.pk)
    if file.applied_at or file.discarded_at:
        raise NotPossible("This file was applied or replaced already.")
    file.discarded_at = timezone.now()
    file.save(update_fields=["discarded_at"])
    audit.record("inventory.hr_file.discarded", by=by, subject=file, about=[file.connection])
    return file


@transaction.atomic
def import_org_chart(connection: Connection, lines: Iterable[str], *, by: Any, source: str) -> Imported:
    """Take a file at once, without a look at it first: for commands. All or nothing; what ends too many people at once is
    refused. `source` names it in every row that it changes."""
    directory.hold(connection)
    plan = org_chart.read(connection, lines)
    if is_exodus(connection, plan.leavers, plan.present):
        said = f"It would end {plan.leavers:,} of {plan.present:,} people"
        raise OrgChartError([f"{said}. Upload it on the connection's page, where a second administrator applies it."])
    wanted = [change.said for change in plan.changes]
    taken = take_said(connection, wanted, source=SOURCE, said_by=f"CSV {source}", by=by)
    data = {"source": source, "changed": len(plan.changes), "unknown": len(plan.unknown), "ended": taken.ended[:1_000]}
    audit.record("inventory.connection.org_chart_imported", by=by, subject=connection, about=taken.kept_out, data=data)
    return Imported(len(plan.changes), plan.unchanged, len(taken.ended), plan.unknown, plan.ignored)


def is_exodus(connection: Connection, leavers: int, present: int) -> bool:
    """So many people would leave within a day, by this file and those before it, that a wrong file is more likely than
    the truth. A brake that other leavers meet is met here too."""
    said = Departure.objects.filter(identity__connection=connection, source=SOURCE)
    lately = said.filter(said_at__gte=timezone.now() - WINDOW)
    leavers, people = leavers + lately.count(), present + lately.exclude(identity__ended_at=None).count()
    percent = min(connection.drop_percent, settings.LEAVERS_MOST_PERCENT)
    return leavers > ALWAYS_FINE and leavers * 100 > percent * people


def _counts(plan: Plan) -> dict[str, int]:
    movers = sum(bool(change.facts.keys() - {"last_day"}) for change in plan.changes)
    back = sum("last_day" in change.facts and not change.facts["last_day"][1] for change in plan.changes)
    return {
        "changed": sum(bool(change.facts) for change in plan.changes),
        "confirmed": sum(not change.facts for change in plan.changes),
        "movers": movers,
        "leavers": plan.leavers,
        "staying": back,
        "unknown": len(plan.unknown),
        "unchanged": plan.unchanged,
        "not_in_file": plan.not_in_file,
        "present": plan.present,
    }


def _as_json(change: Change) -> dict[str, Any]:
    said = change.said
    return {
        "identity": change.identity.pk,
        "name": change.identity.name,
        "line": change.line,
        "facts": {name: list(pair) for name, pair in change.facts.items()},
        "was": _seen(change.identity, change.last_day),
        "title": said.title,
        "department": said.department,
        "says_manager": said.says_manager,
        "manager": said.manager_id,
        "says_presence": said.says_presence,
        "leaves_at": said.leaves_at.isoformat() if said.leaves_at else None,
    }


def _from_json(entry: dict[str, Any]) -> Said:
    return Said(
        identity_id=entry["identity"],
        title=entry["title"],
        department=entry["department"],
        says_manager=entry["says_manager"],
        manager_id=entry["manager"],
        says_presence=entry["says_presence"],
        leaves_at=datetime.fromisoformat(entry["leaves_at"]) if entry["leaves_at"] else None,
    )


def _seen(identity: Identity, last_day: str) -> list[Any]:
    return [identity.title, identity.department, identity.manager_id, identity.ended_at is not None, last_day]


def _is_as_seen(connection: Connection, changes: list[dict[str, Any]]) -> bool:
    """Whether everybody whom a file changes is as they were when it was looked at."""
    was, days = {entry["identity"]: entry["was"] for entry in changes}, org_chart.days_known(connection)
    rows = Identity.objects.filter(connection=connection, pk__in=[*was])
    rows = rows.only("title", "department", "manager_id", "ended_at")
    return {one.pk: _seen(one, days.get(one.pk, "")) for one in rows.iterator()} == was


def _closes_a_circle(connection: Connection, changes: Iterable[Said]) -> bool:
    """Whether the managers that a file names close a circle among those whom everybody has by now."""
    wanted = {one.identity_id: one.manager_id for one in changes if one.says_manager}
    return bool(wanted) and any(org_chart.circles(org_chart.managers(connection), wanted))


def _present(connection: Connection) -> int:
    """How many people a file could speak of."""
    return Identity.objects.human().present().filter(connection=connection).exclude(email="").count()
