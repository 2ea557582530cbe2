"""Every way from somebody into an account: what they hold there, and the roles they can become, step by step.

A trust and a policy are each derived by `tracing` from one row; here they are joined for one identity, level by level, in
the same number of queries whatever there is. Everything is bounded, and what a bound leaves out is said: `is_cut`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from django.utils import timezone

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy import steps, trusts
from apps.connectors.aws.policy.knocks import ASSUME
from apps.inventory import approaches, callers, doors, holdings
from apps.inventory.approaches import Circle
from apps.inventory.callers import NOTHING, Face, Frontier, Node, Said
from apps.inventory.chains import AccessPath, Hop, Own, Tie
from apps.inventory.doors import Role
from apps.inventory.holdings import Light, Order
from apps.inventory.models import Identity, Resource
from apps.inventory.models.access import Privilege, weight_of

DEPTH = 3  # roles one after the other; AWS sets no limit but an hour for each
MOST_STARTS = 250  # permission sets that are followed, those that say that a role may be assumed first
MOST_ROLES = 200  # that are looked at, those in the account that is asked about first, then the most powerful
MOST_PAIRS = 1_000  # of a holder and a role, compared
MOST_WALKED = 1_000  # chains that are looked at, wherever they lead


class ActsAs(NamedTuple):
    """As whom somebody acts without assuming a role: their own users and roles, and the permission sets they hold that are
    not an administrator's already, in the account that is asked about and those that could lead there."""

    principals: Collection[int] = ()
    sets: Collection[int] = ()


NOBODY = ActsAs()


@dataclass(frozen=True)
class Found:
    """Paths, the most powerful first, then the sure and the short; whether a bound left some out; and whether it was worked
    out at all who can become whom."""

    paths: list[AccessPath] = field(default_factory=list)
    is_cut: bool = False
    is_traced: bool = True
    acts_as: ActsAs = NOBODY
    own: Sequence[Own] = ()
    now: datetime = field(default_factory=timezone.now)

    @property
    def worst(self) -> AccessPath | None:
        return self.paths[0] if self.paths else None

    def by_key(self, key: str) -> AccessPath | None:
        return next((path for path in self.paths if path.key == key), None)

    def without(self, path: AccessPath) -> Found:
        """What remains when `path` goes, with everything that goes with it."""
        if path.hops:
            return self._left({path.hops[-1].tie})
        return self.without_held([path.held.removable_id] if path.held else [])

    def without_held(self, ended: Collection[int]) -> Found:
        """What remains when these assignments end: neither what they bring, nor the steps that no other policy lets the
        identity's own users and roles take."""
        lost = {tie for own in self.own for tie in own.lost_with(ended, self.now)}
        return self._left({("held", pk) for pk in ended} | lost)

    def _left(self, gone: Collection[Tie]) -> Found:
        return replace(self, paths=[path for path in self.paths if not path.needs(gone)])


class Reached(NamedTuple):
    """One account that somebody gets into."""

    pk: int
    worst: AccessPath
    ways: int
    by_role: int

    @property
    def reason(self) -> str:
        return _cut(self.worst.reason, 110)

    @property
    def by(self) -> str:
        return _cut(self.worst.words, 70)


@dataclass(frozen=True)
class Everywhere:
    """The keys of all accounts that somebody gets into, those with the most powerful way first; the rest as in `Found`."""

    accounts: list[int]
    worst: Mapping[int, Light | AccessPath]
    ways: Mapping[int, int]
    by_role: Mapping[int, int]
    is_cut: bool
    is_traced: bool
    acts_as: ActsAs

    def reached(self, account: int) -> Reached:
        """What is said of one of them."""
        worst = self.worst[account]
        path = AccessPath(("held", worst.pk), worst) if isinstance(worst, Light) else worst
        return Reached(account, path, self.ways[account], self.by_role[account])


def find(identity: Identity, account: Resource | None = None, *, now: datetime | None = None) -> Found:
    """Every path of `identity` into `account`, or into all of them."""
    search = _Search(identity, account, now or timezone.now())
    search.go()
    paths = sorted(search.paths(), key=lambda path: path.order)
    return Found(paths, search.is_cut, search.is_traced, search.acts_as, [*search.own()], search.now)


def everywhere(identity: Identity) -> Everywhere:
    """The same for all accounts together. Some hold thousands of things: of each no more is made than is counted."""
    search = _Search(identity, None, timezone.now())
    search.go()
    chains = [*search.chains()]
    worst: dict[int, Light | AccessPath] = {}
    orders: dict[int, Order] = {}
    ways: Counter[int] = Counter()
    everything: list[Light | AccessPath] = [*search.held, *chains]
    for way in everything:
        account, order = way.resource_id, way.order
        if account is None:
            continue  # memberships lie in no account
        ways[account] += 1
        if account not in orders or order < orders[account]:
            worst[account], orders[account] = way, order
    return Everywhere(
        sorted(orders, key=orders.__getitem__),
        worst,
        ways,
        Counter(path.resource_id or 0 for path in chains),
        search.is_cut,
        search.is_traced,
        search.acts_as,
    )


@dataclass
class _Search:
    """One walk along trusts, from what an identity holds."""

    identity: Identity
    account: Resource | None
    now: datetime
    is_cut: bool = False
    roles: int = 0  # looked at so far
    pairs: int = 0
    held: Sequence[Light] = ()
    circles: Sequence[Circle | None] = (None,) * DEPTH  # who can be on the way, by the steps that are left
    hops: dict[Node, list[Hop]] = field(default_factory=lambda: defaultdict(list))
    acts_as: ActsAs = NOBODY
    starts: dict[Node, Sequence[Light | None]] = field(default_factory=dict)  # and how they are held
    names: dict[Node, str] = field(default_factory=dict)
    holders: dict[Node, steps.Holder] = field(default_factory=dict)
    sets: dict[Node, tuple[str, str]] = field(default_factory=dict)  # name and account
    said: Mapping[int, Said] = field(default_factory=dict)

    def go(self) -> None:
        frontier = self.begin()
        seen = {*frontier.account_of}
        for left in reversed(range(DEPTH)):
            reached = self.step(frontier, left)
            fresh = [role for pk, role in reached.items() if ("principal", pk) not in seen]
            if not left or not fresh:
                return
            if self.roles == MOST_ROLES:
                self.is_cut = True
                return
            frontier = self.of_principals({role.face: role.name for role in fresh})
            seen |= {*frontier.account_of}

    def begin(self) -> Frontier:
        """What the identity acts as: a role for each permission set it holds, and its own users and roles."""
        if self.account:
            self.circles = approaches.leading_to(self.account, DEPTH)
        circle = self.circles[-1]
        self.held = (
            holdings.light_paths_into(self.identity, self.account, circle.every_account)
            if self.account and circle
            else holdings.unsorted_paths_of(self.identity)
        )
        mine = callers.faces_of(self.identity.pk)
        self.starts |= {("principal", face.pk): [None] for face in mine}
        frontier = self.of_principals(mine)
        self.add_sets(frontier, circle, [face.pk for face in mine])
        return frontier

    def add_sets(self, frontier: Frontier, circle: Circle | None, mine: Sequence[int]) -> None:
        """The permission sets that could lead anywhere: those that ask first, then the most powerful."""
        held = {row.entitlement_id: row for row in self.held if row.kind == "permission_set" and row.account_id}
        self.acts_as = ActsAs(mine, [pk for pk, row in held.items() if not _is_administrator(row)])
        if circle:
            held = {pk: row for pk, row in held.items() if circle.has(*_place_of(row))}
        followed: dict[int, list[Light]] = {pk: [] for pk in self.most_urgent(held)}
        for row in self.held:
            if row.entitlement_id in followed:
                followed[row.entitlement_id].append(row)
        self.said = callers.said_by_sets(followed)
        for pk, rows in followed.items():
            row, node, said = rows[0], ("set", pk), self.said.get(pk, NOTHING)
            account = row.account_id or ""
            self.starts[node], self.sets[node] = rows, (row.name, account)
            caller = trusts.of_permission_set(row.name, account, said.acts_as)
            frontier.add(node, account, trusts.names_for(caller), said.asks)

    def most_urgent(self, held: Mapping[int, Light]) -> list[int]:
        if len(held) <= MOST_STARTS:
            return [*held]
        self.is_cut = True
        asking = callers.asking(held)
        others = held.keys() - {*asking} if len(asking) < MOST_STARTS else ()
        groups = (sorted(some, key=lambda pk: (weight_of(held[pk].privilege), pk)) for some in (asking, others))
        return [pk for some in groups for pk in some][:MOST_STARTS]

    def of_principals(self, faces: Mapping[Face, str]) -> Frontier:
        frontier = Frontier()
        found = callers.of_principals(faces)
        self.holders |= found
        self.names |= {("principal", face.pk): name for face, name in faces.items()}
        for node, holder in found.items():
            asks = knocking.asks(holder.knocks, ASSUME)
            frontier.add(node, holder.caller.account_id, trusts.names_for(holder.caller), asks)
        return frontier

    def holder(self, node: Node) -> steps.Holder:
        """Of permission sets only those that are asked about are put together."""
        if node not in self.holders:
            self.names[node], account = self.sets[node]
            self.holders[node] = callers.as_holder(self.names[node], account, self.said.get(node[1], NOTHING))
        return self.holders[node]

    def step(self, frontier: Frontier, left: int) -> dict[int, Role]:
        """Note every hop from the frontier, after which so many are left; returns the roles they lead to."""
        reached: dict[int, Role] = {}
        for role in self.candidates(frontier, left):
            target = role.target
            for node in frontier.knocking_at(role.keys, role.account_id):
                self.pairs += 1
                if self.pairs > MOST_PAIRS:
                    self.is_cut = True
                    return reached
                holder = self.holder(node)
                step = steps.assume(holder, target, self.now)
                if step is not None:
                    self.hops[node].append(Hop(node, self.names[node], holder.caller.account_id, role, step))
                    reached[role.pk] = role
        return reached

    def candidates(self, frontier: Frontier, left: int) -> list[Role]:
        """The roles that could let somebody of the frontier in, each once, at most so many."""
        here = self.account.pk if self.account else None
        most = MOST_ROLES - self.roles
        found = doors.letting_in(
            self.identity.connection_id,
            named=frontier.named,
            accounts=frontier.accounts,
            patterns=[*frontier.patterns],
            first=here,
            only=None if left else here,
            most=most + 1,
            towards=self.circles[left - 1] if left else None,
        )
        self.is_cut |= len(found) > most
        self.roles += min(len(found), most)
        return found[:most]

    @property
    def is_traced(self) -> bool:
        return hasattr(self.identity.connection, "tracing")

    def paths(self) -> Iterator[AccessPath]:
        """All that is held where it is asked about, then all chains that lead there, the short ones first."""
        here = self.account and self.account.pk
        for row in self.held:
            if row.resource_id and here in (None, row.resource_id):
                yield AccessPath(("held", row.pk), row)
        for path in self.chains():
            if here in (None, path.resource_id):
                yield path

    def own(self) -> Iterator[Own]:
        """The identity's own users and roles that a policy lets take a step, and which assignments bring their policies. Of
        two users in one group either membership counts for both: rather a way too many remains."""
        for node in self.starts:
            if node[0] != "principal" or not any(hop.step.knock for hop in self.hops.get(node, ())):
                continue
            brought_by: dict[int, set[int]] = defaultdict(set)
            for row in self.held:
                if row.via_id or row.principal_id == node[1]:
                    brought_by[row.entitlement_id].add(row.removable_id)
            yield Own(self.holders[node], self.hops[node], brought_by)

    def chains(self) -> Iterator[AccessPath]:
        queue = [AccessPath(node, held) for node, rows in self.starts.items() if node in self.hops for held in rows]
        walked = 0
        for _ in range(DEPTH):
            longer = []
            for path in queue:
                at = ("principal", path.hops[-1].role.pk) if path.hops else path.start
                been = {hop.role.pk for hop in path.hops} | {path.start[1] if path.start[0] == "principal" else 0}
                for hop in self.hops.get(at, ()):
                    if hop.role.pk in been:
                        continue
                    walked += 1
                    if walked > MOST_WALKED:
                        self.is_cut = True
                        return
                    longer.append(AccessPath(path.start, path.held, (*path.hops, hop)))
                    yield longer[-1]
            queue = longer


def _is_administrator(row: Light) -> bool:
    """Outright: there is nothing to make of oneself any more."""
    return row.privilege == Privilege.ADMIN and not row.can_escalate


def _place_of(row: Light) -> tuple[str, list[str]]:
    """A permission set's account, and the name by which trusts know who holds it."""
    account = row.account_id or ""
    return account, [trusts.set_key(row.name, account)]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
