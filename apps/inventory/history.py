"""Who held what on a given day, and what changed between two.

A day is a whole day in UTC, and something was held on it when it was held at any moment of it, so that access for an hour
shows. A membership counts with what its group held during it. Periods say when Gatehouse saw something, so each answer
comes with when Gatehouse looked.

One statement an answer (`statements`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection as database
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import Max, Min, Q
from django.utils import timezone

from apps.inventory import statements
from apps.inventory.lines import Place
from apps.inventory.models import Connection, Principal
from apps.inventory.statements import BEGAN, ENDED, STAYED, Subject

SIZE = 50
COLUMNS = (
    "day", "who", "email", "login", "login_kind", "what", "what_kind", "account", "account_id", "privilege", "through",
    "seen_from", "seen_until", "standing", "complete_reading",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Day:
    """A whole day in UTC."""

    date: date

    @property
    def start(self) -> datetime:
        return datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return self.start + timedelta(days=1)

    @property
    def is_today(self) -> bool:
        return self.date == today()


def today() -> date:
    return timezone.now().astimezone(UTC).date()


class Fact(NamedTuple):
    """An assignment, as far as those must know it who say why it was there."""

    pk: int
    principal_id: int
    entitlement_id: int
    since: datetime
    until: datetime | None

    @property
    def is_open(self) -> bool:
        return self.until is None

    @property
    def period(self) -> DateTimeTZRange:
        return DateTimeTZRange(self.since, self.until)


class Held(NamedTuple):
    """One path by which something was held, from when until when Gatehouse saw it (None: it is still held), with what is
    printed of it. A plain row, since lists are long. `via_id` is the membership that brought it, `pk` the assignment."""

    pk: int
    via_id: int | None
    since: datetime
    until: datetime | None
    is_standing: bool  # and so is the membership
    principal_id: int
    entitlement_id: int
    seen_from: datetime
    seen_until: datetime | None
    via_principal_id: int | None
    via_entitlement_id: int | None
    via_seen_from: datetime | None
    via_seen_until: datetime | None
    identity_id: int | None
    who: str | None
    email: str
    has_left: bool
    login: str
    login_kind: str
    what: str
    what_kind: str
    is_membership: bool
    privilege: str
    can_escalate: bool
    is_sensitive_read: bool
    is_ours: bool
    account: str | None
    account_id: str | None
    through: str | None

    @property
    def removable_id(self) -> int:
        return self.via_id or self.pk

    @property
    def resource(self) -> Place | None:
        """The account it is in; None: the whole organization."""
        return Place(self.account or "", self.account_id) if self.account_id is not None else None

    @property
    def login_word(self) -> str:
        return str(Principal.Kind(self.login_kind).label)

    def facts(self) -> Iterator[Fact]:
        """The assignment, and the membership that brought it."""
        yield Fact(self.pk, self.principal_id, self.entitlement_id, self.seen_from, self.seen_until)
        if self.via_id:
            assert self.via_principal_id and self.via_entitlement_id and self.via_seen_from
            yield Fact(
                self.via_id, self.via_principal_id, self.via_entitlement_id, self.via_seen_from, self.via_seen_until
            )


@dataclass(frozen=True)
class Found:
    """Some of the rows, and how many there are of each sort."""

    rows: list[Held]
    counts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Looked:
    """The complete readings of a connection around a day. What came and went between two of them is not known."""

    first: datetime | None
    before: datetime | None
    after: datetime | None

    def had_begun(self, day: Day) -> bool:
        """Gatehouse had read everything once by the end of that day."""
        return self.first is not None and self.first < day.end


def held(subject: Subject, day: Day, *, start: int = 0, size: int = SIZE) -> Found:
    """What this person or machine held on that day; who held this entitlement, or anything in this account."""
    found = _ask(statements.on_a_day(subject), subject, [day], start=start, limit=size)
    return Found(_rows(found), {"held": found[0][0][0]})


def compared(subject: Subject, before: Day, after: Day, *, change: str, start: int = 0, size: int = SIZE) -> Found:
    """How many pairs of holder and entitlement began, ended and stayed between the two days, and those of one sort."""
    found = _ask(statements.between_two(subject, change), subject, [before, after], start=start, limit=size)
    return Found(_rows(found), dict(zip((BEGAN, ENDED, STAYED), found[0][0], strict=True)))


def records(subject: Subject, day: Day, *, read_at: datetime | None) -> Iterator[dict[str, Any]]:
    """All of `held` as flat rows, in constant memory, each with the reading that it rests on."""
    with database.chunked_cursor() as cursor:
        cursor.execute(statements.all_on_a_day(subject), _asked(subject, [day]))
        while rows := cursor.fetchmany(2000):
            for row in _rows(rows):
                yield {"day": day.date.isoformat(), **_printed(row), "complete_reading": read_at}


def looked(connection: Connection, day: Day) -> Looked:
    """When `connection` was completely read around a day."""
    runs = connection.runs.complete().order_by()
    found = runs.aggregate(
        first=Min("started_at"),
        before=Max("started_at", filter=Q(started_at__lt=day.end)),
        after=Min("started_at", filter=Q(started_at__gte=day.end)),
    )
    return Looked(**found)


def _ask(statement: str, subject: Subject, days: Sequence[Day], **more: int) -> list[tuple[Any, ...]]:
    """The numbers are told with each row; with none there is one row without a path."""
    with database.cursor() as cursor:
        cursor.execute(statement, _asked(subject, days) | more)
        return cursor.fetchall()


def _asked(subject: Subject, days: Sequence[Day]) -> dict[str, Any]:
    first, last = days[0], days[-1]
    outer = {"since": first.start, "until": last.end}
    return {"subject": subject.pk, **outer, "first_until": first.end, "last_since": last.start}


def _rows(found: Sequence[tuple[Any, ...]]) -> list[Held]:
    return [Held(*row[1:]) for row in found if row[1]]


def _printed(row: Held) -> dict[str, Any]:
    return {
        "who": row.who,
        "email": row.email,
        "login": row.login,
        "login_kind": row.login_kind,
        "what": row.what,
        "what_kind": row.what_kind,
        "account": row.account,
        "account_id": row.account_id,
        "privilege": row.privilege,
        "through": row.through,
        "seen_from": row.since,
        "seen_until": row.until,
        "standing": row.is_standing,
    }
