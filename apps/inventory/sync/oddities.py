"""What was odd about what a scope handed over: counted, and said in sentences. Nothing odd is left out silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import Model

from apps.connectors.base import CredentialRecord, EntitlementRecord, PrincipalRecord
from apps.inventory.models.access import EntitlementQuerySet, Privilege
from apps.inventory.sync import rows as as_rows

LONGEST_NAME = 256
CLOCKS_MAY_DIFFER_BY = timedelta(minutes=5)
MOST_NAMES = 3
LOOKS_AGAIN = "Pages shift when something changes while they are read. The next reading looks again."

R = TypeVar("R", PrincipalRecord, EntitlementRecord, CredentialRecord)


@dataclass
class Oddities:
    """Counted while a scope is written. `problems` make it incomplete, so that nothing ends because of them.

    `is_counted`: the provider says how many there are. Where it does not, what is listed twice proves that pages shifted
    while they were read, so that something else may not have been listed at all.
    """

    is_counted: bool = False
    cannot_be_stored: Counter[str] = field(default_factory=Counter)
    contradict: Counter[str] = field(default_factory=Counter)
    came_twice: Counter[str] = field(default_factory=Counter)
    came_elsewhere: Counter[str] = field(default_factory=Counter)
    names_cut: Counter[str] = field(default_factory=Counter)
    names_cleaned: Counter[str] = field(default_factory=Counter)
    from_the_future: int = 0
    of_nobody: int = 0  # secrets

    def kept(self, records: Iterable[R], model: type[Model], kinds: Collection[str]) -> list[R]:
        """Records that can be stored, each id once: the last of several that have the same."""
        name = str(model._meta.verbose_name_plural)
        fine: dict[object, R] = {}
        for record in records:
            if record.kind not in kinds or not as_rows.fits(model, record.external_id):
                self.cannot_be_stored[name] += 1
                continue
            key = _key(record)
            if key in fine:
                (self.came_twice if fine[key] == record else self.contradict)[name] += 1
            else:
                self.look_at_name(record, name)
            fine[key] = record
        return list(fine.values())

    def look_at_name(self, record: R, name: str) -> None:
        if isinstance(record, CredentialRecord):
            return
        names = [record.name, getattr(record, "display_name", "")]
        if any(len(one) > LONGEST_NAME for one in names):
            self.names_cut[name] += 1
        if any(map(as_rows.has_hidden, names)):
            self.names_cleaned[name] += 1

    def look_at_dates(self, records: Iterable[PrincipalRecord | CredentialRecord], now: datetime) -> None:
        horizon = now + CLOCKS_MAY_DIFFER_BY
        self.from_the_future += sum(1 for one in records if one.created_at is not None and one.created_at > horizon)

    def problems(self) -> Iterator[str]:
        for name, count in self.cannot_be_stored.items():
            yield f"{count:,} {name} have a kind or an id that Gatehouse cannot store."
        for name, count in self.contradict.items():
            yield f"{count:,} {name} were listed twice, and not the same both times. The last one was kept."
        for name, count in self.came_elsewhere.items():
            elsewhere = "have the id of something in another account"
            yield f"{count:,} {name} {elsewhere}. Neither they nor what they hold is shown here."
        if not self.is_counted:
            for name, count in self.came_twice.items():
                yield f"{count:,} {name} were listed twice, so others may be missing. {LOOKS_AGAIN}"

    def notes(self) -> Iterator[str]:
        if self.is_counted:
            for name, count in self.came_twice.items():
                yield f"{count:,} {name} were listed twice, the same both times."
        for name, count in self.names_cut.items():
            yield f"{count:,} {name} have a name of more than {LONGEST_NAME} characters, which is shown cut."
        for name, count in self.names_cleaned.items():
            yield f"{count:,} {name} have characters in their name that do not show. A space is shown in their place."
        if self.of_nobody:
            yield f"{self.of_nobody:,} credentials belong to somebody who is not listed (any more). They are not shown."
        if self.from_the_future:
            yield f"{self.from_the_future:,} say that they were made in the future. A clock is wrong, there or here."


def _key(record: PrincipalRecord | EntitlementRecord | CredentialRecord) -> object:
    if isinstance(record, CredentialRecord):
        return record.principal_external_id, record.kind, record.external_id
    return record.external_id


def unreadable(entitlements: EntitlementQuerySet) -> Iterator[str]:
    """A sentence about policies that are no policies, if there are any."""
    unknown = entitlements.present().filter(privilege=Privilege.UNKNOWN).exclude(kind__in=as_rows.COMPUTED_LATER)
    names = list(unknown.order_by("pk").values_list("name", flat=True)[: MOST_NAMES + 1])
    if names:
        more = " and more" if len(names) > MOST_NAMES else ""
        yield f"What these allow cannot be read, so it counts as unknown: {', '.join(names[:MOST_NAMES])}{more}."
