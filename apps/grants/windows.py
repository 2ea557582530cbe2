"""What an object that grants share in AWS (a guard, a policy document) must say now, from the rows of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from apps.connectors import registry
from apps.connectors.base import Provisioner, Target, Window
from apps.grants import narrowing, warrants
from apps.grants.models import Grant, State, Stop, StopWrite
from apps.grants.models.grants import GrantQuerySet
from apps.grants.models.stops import EVERYTHING, StopWriteQuerySet
from apps.inventory.models import Assignment, Entitlement, Principal


@dataclass(frozen=True, slots=True)
class Shared:
    """One object that grants share in AWS, as a row names it: by its key, by what writes it, and by a target in it."""

    key: str
    provisioner: Provisioner
    target: Target
    row: Grant | StopWrite

    def holds(self, target: Target) -> bool:
        """Whether this is the object that AWS would really change for the target. A row's word is not enough for that."""
        return self.provisioner.shared_key(target) == self.key


@dataclass(frozen=True, slots=True)
class _Held:
    """Something that a principal holds, whoever gave it."""

    entitlement_id: int
    is_standing: bool
    documents: list[Any]


def windows_of(shared_key: str, *, opening: Grant | None = None, without: Grant | None = None) -> list[Window]:
    """What the object must say: what was `decided_in` it. Read under the object's lock, so that the last writer wrote the
    latest truth.

    `opening` is counted in although AWS has not heard of it yet; `without` is to leave the object. While the database may
    have forgotten something the object keeps all that it denies in AWS, and nothing leaves it. When it is trusted again,
    sessions of what it forgot may still live: for that long the object keeps what it denies to others than rows know.
    """
    if without:
        narrowing.require_may_take_back()
    windows = decided_in(shared_key, opening=opening, without=without)
    is_narrowing = bool(narrowing.reason())
    if not (is_narrowing or narrowing.is_watchful()):
        return windows
    shared = find_shared(shared_key) or _once_shared(shared_key)
    if shared is None:
        return windows
    if is_narrowing:
        return narrowing.strictest(shared.provisioner, shared.target, windows)
    kept = narrowing.with_strangers(shared.provisioner, shared.target, windows)
    if opening and any(_reaches(window.target, shared_of(opening).target) for window in kept[len(windows) :]):
        narrowing.require_may_take_back()  # what nobody knows denies it: it opens when that may go
    return kept


def decided_in(shared_key: str, *, opening: Grant | None = None, without: Grant | None = None) -> list[Window]:
    """What the rows alone say: the union of live grants for each (principal, entitlement), and a date in the past for those
    that ended. Where a stop is in force, and the object is a guard, it also denies what no row names."""
    rows: dict[tuple[Any, ...], list[Grant]] = {}
    grants = Grant.objects.sharing(shared_key, opening).with_names().select_related("warrant").order_by("pk")
    for grant in grants:
        if grant != without:
            own = grant.reference if grant.is_alone_in_aws else ""
            rows.setdefault((grant.principal_id, grant.entitlement_id, own), []).append(grant)
    held = _held_by({grant.principal_id for grants in rows.values() for grant in grants})
    stopped = _stopped_in(shared_key)
    return [*(_window(grants, held, stopped) for grants in rows.values()), *_stops_in(shared_key)]


def shared_of(grant: Grant) -> Shared:
    """The object that this grant shares with others."""
    return Shared(grant.shared_key, provisioner_of(grant), target_of(grant), grant)


def shared_by(row: StopWrite) -> Shared | None:
    """The object that a stop speaks in by itself; None where it has nothing of its own to say, or names another one."""
    targets = row.targets()
    if not targets:
        return None
    shared = Shared(row.shared_key, writer_for(row), targets[0], row)
    return shared if shared.holds(shared.target) else None


def writer_for(row: StopWrite) -> Provisioner:
    """What writes the object that a stop has to be written into."""
    return registry.provisioner(row.connection.kind, row.provisioner, row.connection.config)


def _reaches(line: Target, target: Target) -> bool:
    """Whether a line of a guard is a stop that is about this pair too."""
    names = {line.entitlement_external_id, line.entitlement_attributes.get("permission_set_name")}
    if EVERYTHING in names:
        return line.principal_external_id in (EVERYTHING, target.principal_external_id)
    same = {target.entitlement_external_id, target.entitlement_attributes.get("permission_set_name", "")}
    return line.principal_external_id == EVERYTHING and not names.isdisjoint(same)


def find_shared(shared_key: str) -> Shared | None:
    """The object of this key, by a grant that has something to say in it, or else by a stop; None where nobody has."""
    return _first_shared(Grant.objects.sharing(shared_key), StopWrite.objects.said_in(shared_key))


def _once_shared(shared_key: str) -> Shared | None:
    """The same, by whoever had something to say in it once, or will: AWS may still say what these rows have forgotten."""
    return _first_shared(Grant.objects.filter(shared_key=shared_key), StopWrite.objects.naming(shared_key))


def _first_shared(grants: GrantQuerySet, rows: StopWriteQuerySet) -> Shared | None:
    grant = grants.with_names().order_by("pk").first()
    if grant:
        return shared_of(grant)
    return next((shared for row in rows.with_names() if (shared := shared_by(row))), None)


def _stops_in(shared_key: str) -> list[Window]:
    """What emergency stops deny in this object, whoever holds it and however they came to it. Rows that name it and are
    about another one say nothing here: with them it could not be written at all."""
    said = StopWrite.objects.said_in(shared_key).with_names()
    return [
        Window(target, row.stop.ordered_at, is_open=False)
        for row in said
        for target in row.targets()
        if writer_for(row).shared_key(target) == shared_key
    ]


def _stopped_in(shared_key: str) -> set[int]:
    """Grants of this object in the scope of a stop, whatever their own rows say: it bites before it is said in them, and
    where somebody holds them."""
    here = Grant.objects.filter(shared_key=shared_key)
    return set(here.filter(Stop.objects.in_force().covering()).values_list("pk", flat=True))


def window_for(target: Target, windows: Iterable[Window]) -> Window | None:
    """The one window about this pair, if there is one."""
    return next((window for window in windows if _pair(window.target) == _pair(target)), None)


def is_open(grant: Grant) -> bool:
    """Whether AWS shall let it through: its intent stands, and rests on a warrant (a row alone opens nothing)."""
    if grant.state not in (State.PROVISIONING, State.ACTIVE):
        return False
    try:
        warrants.check(grant)
    except warrants.InvalidWarrant:
        return False
    return True


def is_held_standing(grant: Grant) -> bool:
    """Whether the holder has exactly this all the time, directly or through a group."""
    return _is_among(grant, _held_by({grant.principal_id})[grant.principal_id])


def provisioner_of(grant: Grant) -> Provisioner:
    """What opens and ends it."""
    return registry.provisioner(grant.connection.kind, grant.provisioner, grant.connection.config)


def target_of(grant: Grant) -> Target:
    """The grant's pair in the provider's words."""
    return replace(
        target_for(grant.principal, grant.entitlement),
        assignment_attributes=grant.assignment.attributes if grant.assignment else {},
        reference=grant.reference if grant.is_alone_in_aws else "",
        made_as=grant.made_as,
    )


def target_for(principal: Principal, entitlement: Entitlement) -> Target:
    """Any pair in the provider's words."""
    resource = entitlement.resource or principal.resource
    return Target(
        account_id=resource.external_id if resource else "",
        principal_kind=principal.kind,
        principal_external_id=principal.external_id,
        principal_name=principal.name,
        entitlement_kind=entitlement.kind,
        entitlement_external_id=entitlement.external_id,
        entitlement_name=entitlement.name,
        entitlement_attributes=entitlement.attributes,
        principal_attributes=principal.attributes,
    )


def _window(grants: list[Grant], held: Mapping[int, list[_Held]], stopped: Collection[int]) -> Window:
    open_ends = [_end_of(grant) for grant in grants if grant.pk not in stopped and is_open(grant)]
    ended = [grant.revoking_at or grant.created_at for grant in grants]
    return Window(
        target=target_of(grants[-1]),
        not_after=max(open_ends or ended).replace(microsecond=0),
        is_open=bool(open_ends),
        holds_standing=bool(open_ends) and _holds_standing(grants[-1], held[grants[-1].principal_id]),
        lapses_at=max(grant.not_after for grant in grants if grant.not_after),
    )


def _pair(target: Target) -> tuple[str, str, str]:
    return target.principal_external_id, target.entitlement_external_id, target.reference


def _end_of(grant: Grant) -> datetime:
    return min(at for at in (grant.not_after, grant.ends_at) if at is not None)


def _holds_standing(grant: Grant, held: list[_Held]) -> bool:
    """Whether a Deny on what this grant allows could cut something its principal holds all the time."""
    documents = [entry["document"] for one in held for entry in one.documents]
    return _is_among(grant, held) or provisioner_of(grant).would_cut(target_of(grant), documents)


def _is_among(grant: Grant, held: list[_Held]) -> bool:
    return any(one.is_standing and one.entitlement_id == grant.entitlement_id for one in held)


def _held_by(principals: Collection[int]) -> Mapping[int, list[_Held]]:
    """What each of them holds, directly or through a group, that is not Gatehouse's own. Two queries for all of them: an
    object is written often, under its lock, and may be about many people."""
    holders = defaultdict(set, {principal: {principal} for principal in principals})
    memberships = Assignment.objects.open().filter(principal__in=principals, entitlement__group__isnull=False)
    for group, member in memberships.values_list("entitlement__group", "principal"):
        holders[group].add(member)
    found: dict[int, list[_Held]] = defaultdict(list)
    rows = Assignment.objects.open().filter(principal__in=holders, entitlement__is_ours=False)
    for holder, *facts in rows.values_list("principal", "entitlement", "is_standing", "entitlement__documents"):
        for principal in holders[holder]:
            found[principal].append(_Held(*facts))
    return found
