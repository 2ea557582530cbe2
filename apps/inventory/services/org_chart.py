"""The people team's file, read: who reports to whom, in which department, with which title, and whose last day is when.

Columns are known by name; `email` says who a line is about. A column that is not there says nothing. Somebody who is not
in the file has not left: files are often partial. Only a last day says that somebody leaves.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from apps.inventory.models import Connection, Departure, Employment, Identity
from apps.inventory.services.said import Said
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.upserts import is_derived

COLUMNS = {
    "email": ("email", "e-mail", "person", "work email"),
    "manager": ("manager", "manager email", "manager_email", "manager e-mail"),
    "department": ("department",),
    "title": ("title", "job title", "job_title"),
    "last_day": ("last day", "last_day", "termination date", "termination_date", "end date", "end_date"),
}
FACTS = ("manager", "department", "title", "last_day")
MOST_PROBLEMS = 20
MOST_LINES = 500_000
LONGEST = 200  # of a title and a department


class OrgChartError(Exception):
    """The file cannot be taken as it is. `problems` are sentences with line numbers; nothing was written."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems[:MOST_PROBLEMS]
        more = len(problems) - len(self.problems)
        super().__init__("\n".join([*self.problems, *([f"And {more} more."] if more else [])]))


class Change(NamedTuple):
    """What a file would change about one person: fact → (now, then), as people read them; `said` carries it out. Without
    a fact it only says what is so already, which then holds against the directory. `last_day` is what a file said of them
    before."""

    identity: Identity
    line: int
    facts: dict[str, tuple[str, str]]
    said: Said
    last_day: str


@dataclass
class Plan:
    """What a file says against what is known. `unknown` are sentences about lines whose people nobody knows."""

    lines: int = 0
    changes: list[Change] = field(default_factory=list)
    unchanged: int = 0
    unknown: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    not_in_file: int = 0
    present: int = 0

    @property
    def leavers(self) -> int:
        """How many people it says leave who were not known to."""
        return sum(bool(change.facts.get("last_day", ("", ""))[1]) for change in self.changes)


class _Row(NamedTuple):
    line: int
    said: dict[str, str]  # the facts of the columns that are there, cleaned


def read(connection: Connection, lines: Iterable[str]) -> Plan:
    """What the file would change. All or nothing: a line that makes no sense, two different words about one person, or a
    circle of managers raises `OrgChartError`. Reads the file once, and writes nothing."""
    people = _people(connection)
    sheet = _Sheet(lines)
    plan = Plan(present=sum(one.ended_at is None for same in people.values() for one in same))
    wanted: dict[int, _Row] = {}
    problems: list[str] = []
    for row in sheet.rows():
        plan.lines += 1
        _match(row, people, wanted, plan, problems)
    above: dict[int, int | None] = {
        pk: people[row.said["manager"]][0].pk for pk, row in wanted.items() if row.said.get("manager")
    }
    above |= {pk: None for pk, row in wanted.items() if row.said.get("manager") == ""}
    problems = [*sheet.problems, *problems, *_closed(people, above, wanted)]
    if problems:
        raise OrgChartError(problems)
    plan.ignored = sheet.ignored
    plan.not_in_file = sum(one.ended_at is None and one.pk not in wanted for same in people.values() for one in same)
    days, jobs = days_known(connection), _jobs_known(connection)
    everybody = [one for same in people.values() for one in same if one.pk in wanted]
    for identity in everybody:
        row = wanted[identity.pk]
        change = _change(identity, row, people, days.get(identity.pk, ""))
        if change.facts or not _is_held(identity, row, jobs.get(identity.pk, frozenset())):
            plan.changes.append(change)
    plan.changes.sort(key=lambda change: (not change.facts.get("last_day", ("", ""))[1], not change.facts, change.line))
    plan.unchanged = len(wanted) - len(plan.changes)
    return plan


def leaves_at(last_day: str) -> datetime | None:
    """The instant after the last day, in UTC. Raises ValueError where the day is not written as 2026-03-31: days are
    compared as they are written."""
    if not last_day:
        return None
    day = date.fromisoformat(last_day)
    if day.isoformat() != last_day:
        raise ValueError(f"{last_day} is another way to write {day}")
    return datetime.combine(day + timedelta(days=1), time(), UTC)


class _Sheet:
    """The lines of a CSV whose first line names its columns."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.reader = csv.reader(lines, strict=True)
        self.problems: list[str] = []
        self.ignored: list[str] = []

    def rows(self) -> Iterator[_Row]:
        try:
            yield from self._rows()
        except csv.Error as error:
            self.problems.append(f"Line {self.reader.line_num}: it is not CSV ({error}).")

    def _rows(self) -> Iterator[_Row]:
        header = [as_rows.text(name, 60).lower() for name in next(self.reader, [])]
        at = {name: header.index(title) for name, titles in COLUMNS.items() for title in titles if title in header}
        if "email" not in at or not at.keys() & set(FACTS):
            needed = "email and one of manager, department, title, last day"
            raise OrgChartError([f"Line 1: the first line names the columns; {needed} must be among them."])
        self.ignored = [name for place, name in enumerate(header) if name and place not in at.values()]
        for number, cells in enumerate(self.reader):
            if number >= MOST_LINES:
                raise OrgChartError([f"It has more than {MOST_LINES:,} lines. Split it."])
            if not any(cell.strip() for cell in cells):
                continue
            line = self.reader.line_num
            if len(cells) != len(header):
                self.problems.append(f"Line {line}: it has {len(cells)} cells, the first line has {len(header)}.")
                continue
            said = {name: _cell(name, cells[place]) for name, place in at.items()}
            problem = _problem(said)
            if problem:
                self.problems.append(f"Line {line}: {problem}")
            else:
                yield _Row(line, said)


def _cell(name: str, value: str) -> str:
    """A cell without what does not print. Addresses are compared in small letters."""
    said = as_rows.text(value, 1_000)
    return said.lower() if name in ("email", "manager") else said


def _problem(said: Mapping[str, str]) -> str:
    person, manager = said["email"], said.get("manager", "")
    for address in [person, *([manager] if manager else [])]:
        try:
            validate_email(address)
        except ValidationError:
            return f"{address[:100]!r} is not an e-mail address."
    if person == manager:
        return f"{person} cannot report to themselves."
    for name in ("department", "title"):
        if len(said.get(name, "")) > LONGEST:
            return f"the {name} is longer than {LONGEST} characters."
    try:
        leaves_at(said.get("last_day", ""))
    except (ValueError, OverflowError):
        return f"{said['last_day'][:40]!r} is not a day. Write it as 2026-03-31."
    return ""


def _match(
    row: _Row, people: Mapping[str, list[Identity]], wanted: dict[int, _Row], plan: Plan, problems: list[str]
) -> None:
    person, manager = row.said["email"], row.said.get("manager")
    addresses = [person, *([manager] if manager else [])]
    twice = [address for address in addresses if len(people.get(address, ())) > 1]
    if twice:
        problems.append(f"Line {row.line}: {twice[0]} is the address of two people in the directory.")
        return
    if person not in people:
        plan.unknown.append(f"Line {row.line}: {person} is not in the directory.")
        return
    if manager and manager not in people:
        row = row._replace(said={name: value for name, value in row.said.items() if name != "manager"})
        says_more = bool(row.said.keys() & set(FACTS))  # a last day counts, whoever the manager is
        rest = " The rest of the line counts." if says_more else ""
        plan.unknown.append(f"Line {row.line}: {manager} is not in the directory.{rest}")
        if not says_more:
            return
    first = wanted.setdefault(people[person][0].pk, row)
    differs = next((name for name in FACTS if first.said.get(name) != row.said.get(name)), "")
    if differs:
        what = differs.replace("_", " ")
        problems.append(f"Line {row.line}: {person} has another {what} in line {first.line}.")


def _change(identity: Identity, row: _Row, people: Mapping[str, list[Identity]], day_now: str) -> Change:
    said = row.said
    now = {"department": identity.department, "title": identity.title}
    facts = {name: (value, said[name]) for name, value in now.items() if name in said and value != said[name]}
    manager_id = people[said["manager"]][0].pk if said.get("manager") else None
    if "manager" in said and identity.manager_id != manager_id:
        facts["manager"] = (identity.manager.email if identity.manager else "", said["manager"])
    if "last_day" in said and day_now != said["last_day"]:
        facts["last_day"] = (day_now, said["last_day"])
    return Change(
        identity,
        row.line,
        facts,
        Said(
            identity_id=identity.pk,
            title=said.get("title"),
            department=said.get("department"),
            says_manager="manager" in said,
            manager_id=manager_id,
            says_presence="last_day" in facts,
            leaves_at=leaves_at(said.get("last_day", "")),
        ),
        day_now,
    )


def _people(connection: Connection) -> dict[str, list[Identity]]:
    """Everybody by address. Who left counts only where nobody who is here has the address."""
    here: dict[str, list[Identity]] = {}
    gone: dict[str, list[Identity]] = {}
    everybody = Identity.objects.human().filter(connection=connection).exclude(email="").select_related("manager")
    fields = ("name", "email", "title", "department", "manager_source", "ended_at", "manager__email")
    for identity in everybody.only(*fields).iterator(chunk_size=2_000):
        (gone if identity.ended_at else here).setdefault(identity.email.lower(), []).append(identity)
    return {**gone, **here}


def _is_held(identity: Identity, row: _Row, job: frozenset[str]) -> bool:
    """Whether what the file says is held against the directory already."""
    is_managed = "manager" not in row.said or not is_derived(identity.manager_source)
    return is_managed and job >= {"title", "department"} & row.said.keys()


def _jobs_known(connection: Connection) -> dict[int, frozenset[str]]:
    """Which of title and department of each person a people system has said before."""
    known = Employment.objects.filter(identity__connection=connection)
    found = known.values_list("identity_id", "title", "department").iterator()
    return {
        pk: frozenset(name for name, value in (("title", title), ("department", department)) if value is not None)
        for pk, title, department in found
    }


def days_known(connection: Connection) -> dict[int, str]:
    """The last day of each person whom a file said to leave before."""
    known = Departure.objects.filter(identity__connection=connection, source=Departure.Source.HR_FILE)
    found = known.values_list("identity_id", "leaves_at").iterator()
    return {pk: (leaving.astimezone(UTC).date() - timedelta(days=1)).isoformat() for pk, leaving in found}


def _closed(
    people: Mapping[str, list[Identity]], wanted: Mapping[int, int | None], rows: Mapping[int, _Row]
) -> Iterator[str]:
    """A sentence for each circle that the file closes."""
    names = {one.pk: one.email for same in people.values() for one in same}
    for start, circle in circles(_managers(people), wanted):
        said = " → ".join(names.get(pk, "somebody") for pk in [*circle, circle[0]])
        yield f"Line {rows[start].line}: this closes a circle: {said}."


def managers(connection: Connection) -> dict[int, int | None]:
    """Whom everybody has as their manager whom a file could speak of."""
    return _managers(_people(connection))


def _managers(people: Mapping[str, list[Identity]]) -> dict[int, int | None]:
    return {one.pk: one.manager_id for same in people.values() for one in same}


def circles(managers: Mapping[int, int | None], wanted: Mapping[int, int | None]) -> Iterator[tuple[int, list[int]]]:
    """Each circle that `wanted` (person → manager) closes among the managers that are known, and from whom it was met."""
    above = {**managers, **wanted}
    settled: set[int] = set()
    for start in wanted:
        chain: dict[int, None] = {}
        at: int | None = start
        while at is not None and at not in settled and at not in chain:
            chain[at] = None
            at = above.get(at)
        order = [*chain]
        circle = order[order.index(at) :] if at is not None and at in chain else []
        if any(pk in wanted for pk in circle):
            yield start, circle
        settled.update(chain)
