"""Who reports to whom, from a CSV: for companies whose directory does not say it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from apps.audit import services as audit
from apps.inventory.models import Connection, Identity

PERSON = ("email", "e-mail", "person")
MANAGER = ("manager", "manager email", "manager_email", "manager e-mail")
MOST_PROBLEMS = 20


class OrgChartError(Exception):
    """The file cannot be taken as it is. `problems` are sentences with line numbers; nothing was written."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems[:MOST_PROBLEMS]
        more = len(problems) - len(self.problems)
        super().__init__("\n".join([*self.problems, *([f"And {more} more."] if more else [])]))


@dataclass
class Imported:
    """What an import did. People and managers whom the directory does not know are left as they were, and named."""

    changed: int = 0
    unchanged: int = 0
    unknown: list[str] = field(default_factory=list)


@transaction.atomic
def import_org_chart(connection: Connection, lines: Iterable[str], *, by: Any, source: str) -> Imported:
    """Take the managers from CSV lines with the columns `email` and `manager` (an e-mail; empty for somebody who reports
    to nobody). All or nothing: a line that makes no sense, two different managers for one person, or a circle raises
    `OrgChartError`. What the file says holds against the directory from then on; `source` names it."""
    Connection.objects.select_for_update().get(pk=connection.pk)
    people = _people(connection)
    rows, problems = _parsed(lines)
    matched = _matched(rows, people)
    problems += [*matched.problems, *_circles(people, matched.wanted)]
    if problems:
        raise OrgChartError(problems)
    said = f"CSV {source}"[:120]
    due = []
    for identity in (one for same in people.values() for one in same if one.pk in matched.wanted):
        manager_id = matched.wanted[identity.pk].manager_id
        if (identity.manager_id, identity.manager_source) != (manager_id, said):
            identity.manager_id, identity.manager_source = manager_id, said
            due.append(identity)
    Identity.objects.bulk_update(due, ["manager", "manager_source"], batch_size=2000)
    imported = Imported(len(due), len(matched.wanted) - len(due), matched.unknown)
    audit.record(
        "inventory.connection.org_chart_imported",
        by=by,
        subject=connection,
        data={"source": source, "changed": imported.changed, "unknown": len(imported.unknown)},
    )
    return imported


class _Line(NamedTuple):
    number: int
    manager_id: int | None


@dataclass
class _Matched:
    """Lines whose addresses are known, by person; and what is to be said about the others."""

    wanted: dict[int, _Line] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _matched(rows: Iterable[tuple[int, str, str]], people: Mapping[str, list[Identity]]) -> _Matched:
    matched = _Matched()
    for line, person, manager in rows:
        addresses = [address for address in (person, manager) if address]
        unknown = [address for address in addresses if address not in people]
        twice = [address for address in addresses if len(people.get(address, ())) > 1]
        if twice:
            matched.problems.append(f"Line {line}: {twice[0]} is the address of two people in the directory.")
            continue
        if unknown:
            matched.unknown.append(f"Line {line}: {unknown[0]} is not in the directory.")
            continue
        found = _Line(line, people[manager][0].pk if manager else None)
        first = matched.wanted.setdefault(people[person][0].pk, found)
        if first.manager_id != found.manager_id:
            matched.problems.append(f"Line {line}: {person} has another manager in line {first.number}.")
    return matched


def _people(connection: Connection) -> dict[str, list[Identity]]:
    found: dict[str, list[Identity]] = {}
    present = Identity.objects.present().human().filter(connection=connection).exclude(email="")
    for identity in present.only("pk", "email", "manager_id", "manager_source"):
        found.setdefault(identity.email.lower(), []).append(identity)
    return found


def _parsed(lines: Iterable[str]) -> tuple[list[tuple[int, str, str]], list[str]]:
    """(line number, person, manager) of each row, and what is wrong with the others."""
    reader = csv.reader(lines, strict=True)
    rows, problems = [], []
    try:
        header = [name.strip().lstrip("\ufeff").lower() for name in next(reader, [])]
        person_at, manager_at = _column(header, PERSON), _column(header, MANAGER)
        if person_at is None or manager_at is None:
            raise OrgChartError(["Line 1: the first line names the columns; email and manager must be among them."])
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                problems.append(f"Line {reader.line_num}: it has {len(cells)} cells, the first line has {len(header)}.")
                continue
            person, manager = cells[person_at].strip().lower(), cells[manager_at].strip().lower()
            problem = _problem(person, manager)
            if problem:
                problems.append(f"Line {reader.line_num}: {problem}")
            else:
                rows.append((reader.line_num, person, manager))
    except csv.Error as error:
        problems.append(f"Line {reader.line_num}: it is not CSV ({error}).")
    return rows, problems


def _column(header: list[str], names: Iterable[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _problem(person: str, manager: str) -> str:
    for address in [person, *([manager] if manager else [])]:
        try:
            validate_email(address)
        except ValidationError:
            return f"{address[:100]!r} is not an e-mail address."
    return f"{person} cannot report to themselves." if person == manager else ""


def _circles(people: Mapping[str, list[Identity]], wanted: Mapping[int, _Line]) -> Iterator[str]:
    """A sentence for each circle that the file closes."""
    everybody = [one for same in people.values() for one in same]
    names = {one.pk: one.email for one in everybody}
    above = {one.pk: one.manager_id for one in everybody} | {pk: line.manager_id for pk, line in wanted.items()}
    settled: set[int] = set()
    for start, line in wanted.items():
        chain: list[int] = []
        at: int | None = start
        while at is not None and at not in settled and at not in chain:
            chain.append(at)
            at = above.get(at)
        circle = chain[chain.index(at) :] if at in chain else []
        if any(pk in wanted for pk in circle):
            said = " → ".join(names.get(pk, "somebody") for pk in [*circle, circle[0]])
            yield f"Line {line.number}: this closes a circle: {said}."
        settled.update(chain)
