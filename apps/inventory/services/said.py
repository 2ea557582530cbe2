"""What people systems say about people, made true in the inventory: SCIM, one person at a time; the HR file, many.

The narrower word wins: somebody has left when the directory, SCIM or the HR file says so, and is here again only when
all of them do. Of title, department and manager the last word of a people system holds, against the directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.inventory.models import Connection, Departure, Employment, Identity
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync import said as directory
from apps.users import services as users
from apps.users.models import User

BATCH = 2_000


@dataclass(frozen=True)
class Said:
    """What one source says about one person. None says nothing; `manager_id` counts only where `says_manager`, and
    `leaves_at` (None: they stay) where `says_presence`."""

    identity_id: int
    title: str | None = None
    department: str | None = None
    says_manager: bool = False
    manager_id: int | None = None
    says_presence: bool = False
    leaves_at: datetime | None = None


@dataclass
class Taken:
    """What became of it, by the row of each person; and who was kept out of the portal."""

    changed: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    kept_out: list[User] = field(default_factory=list)


def take_said(
    connection: Connection, said: Iterable[Said], *, source: Departure.Source, said_by: str, by: Any
) -> Taken:
    """Make it true, and keep those who left out of the portal at once. Called by a service inside its transaction, which
    records the decision. A sync that runs meanwhile waits, and respects what was said afterwards."""
    directory.hold(connection)
    known = {one.identity_id: one for one in said}
    people = Identity.objects.human().filter(connection=connection).in_bulk([*known])
    wanted = {pk: known[pk] for pk in people}
    taken = Taken()
    _take_facts(people, wanted, as_rows.text(said_by, 120), taken)
    _take_presence(wanted, source, as_rows.text(said_by, 120), taken)
    taken.kept_out = users.shut_out_leavers(User.objects.filter(identity__in=taken.ended), by=by)
    return taken


@transaction.atomic
def end_departed(*, now: datetime) -> list[Identity]:
    """End everybody whose last day is over and who is still here: an event for each."""
    due = Departure.objects.due(now).values("identity")
    gone = list(Identity.objects.select_for_update(no_key=True).present().filter(pk__in=due))
    Identity.objects.filter(pk__in=[one.pk for one in gone]).update(ended_at=now)
    audit.record_all([audit.event("inventory.identity.departed", by=audit.CLOCK, subject=one) for one in gone])
    return gone


def _take_facts(people: Mapping[int, Identity], wanted: Mapping[int, Said], said_by: str, taken: Taken) -> None:
    jobs, changed = [], []
    for pk, identity in people.items():
        one = wanted[pk]
        named = {"title": one.title, "department": one.department}
        values: dict[str, Any] = {name: as_rows.text(value, 200) for name, value in named.items() if value is not None}
        if values:
            job = Employment(identity_id=pk, said_by=said_by, said_at=timezone.now(), **values)
            jobs.append((job, tuple(sorted(values, reverse=True))))  # title before department
        if one.says_manager:
            is_self = one.manager_id == pk
            values |= {"manager_id": None if is_self else one.manager_id, "manager_source": said_by}
        if any(getattr(identity, name) != value for name, value in values.items()):
            for name, value in values.items():
                setattr(identity, name, value)
            changed.append(identity)
    for names in (("title",), ("department",), ("title", "department")):
        Employment.objects.bulk_create(
            [job for job, said in jobs if said == names],
            batch_size=BATCH,
            update_conflicts=True,
            unique_fields=["identity"],
            update_fields=[*names, "said_by", "said_at"],
        )
    Identity.objects.bulk_update(changed, ["title", "department", "manager", "manager_source"], batch_size=BATCH)
    taken.changed = [identity.pk for identity in changed]


def _take_presence(wanted: Mapping[int, Said], source: Departure.Source, said_by: str, taken: Taken) -> None:
    now = timezone.now()
    says = [one for one in wanted.values() if one.says_presence]
    leaving = {one.identity_id: one.leaves_at for one in says if one.leaves_at}
    staying = [one.identity_id for one in says if not one.leaves_at]
    Departure.objects.bulk_create(
        [
            Departure(identity_id=pk, source=source, said_by=said_by, leaves_at=leaves_at, said_at=now)
            for pk, leaves_at in leaving.items()
        ],
        batch_size=BATCH,
        update_conflicts=True,
        unique_fields=["identity", "source"],
        update_fields=["said_by", "leaves_at", "said_at"],
    )
    Departure.objects.filter(identity__in=staying, source=source).delete()
    touched = [one.identity_id for one in says]
    due = Departure.objects.due(now).filter(identity__in=touched)
    gone = Identity.objects.present().filter(pk__in=due.values("identity"))
    taken.ended = list(gone.values_list("pk", flat=True))
    Identity.objects.filter(pk__in=taken.ended).update(ended_at=now)
    back = directory.listed(touched).exclude(ended_at=None).exclude(pk__in=due.values("identity"))
    taken.returned = list(back.values_list("pk", flat=True))
    Identity.objects.filter(pk__in=taken.returned).update(ended_at=None)
