"""Every way from somebody into an account: what they hold there, and the roles they can become, step by step.

A trust and a policy are each derived by `tracing` from one row; here they are joined for one identity, level by level, in
the same number of queries whatever there is. Everything is bounded, and what a bound leaves out is said: `is_cut`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils import timezone

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy import steps, trusts
from apps.connectors.aws.policy.knocks import ASSUME
from apps.core import words
from apps.inventory import approaches, callers, doors, holdings
from apps.inventory.approaches import Circle
from apps.inventory.callers import Face, Node, Said
from apps.inventory.doors import Role
from apps.inventory.holdings import Light
from apps.inventory.models import Entitlement, Identity, Principal, Resource
from apps.inventory.models.access import weight_of
from apps.inventory.models.holders import CALLERS

DEPTH = 3  # roles one after the other; AWS sets no limit but an hour for each
MOST_STARTS = 500  # permission sets that are followed, those that say that a role may be assumed first
MOST_ROLES = 200  # that are looked at, those in the account that is asked about first, then the most powerful
MOST_PAIRS = 1_000  # of a holder and a role, compared
MOST_WALKED = 1_000  # chains that are looked at, wherever they lead


@dataclass(frozen=True)
class Hop:
    """One step of a chain: the role that is become, and why that is possible."""

    source: Node
    source_name: str
    source_account: str
    role: Role
    step: steps.Step

    @property
    def conditions(self) -> str:
        """What must be so that cannot be decided here: "with MFA and from listed addresses". Empty when nothing."""
        return " and ".join(self.step.conditions)

    @property
    def is_foreign(self) -> bool:
        """The role lets in somebody of another account."""
        return self.role.account_id != self.source_account

    @property
    def why(self) -> str:
        """One sentence: whom the trust names, and whether a policy was needed too."""
        entry = self.step.entry
        if entry is not None and entry.is_anybody:
            trusted = "anybody"
        elif entry is not None and entry.is_named:
            trusted = self.source_name
        else:
            trusted = f"the account {words.account_id(self.source_account)}" if self.is_foreign else "its whole account"
        allowed = f", and a policy lets {self.source_name} assume it" if self.step.knock is not None else ""
        return f"{self.role.name} trusts {trusted}{allowed}."


@dataclass(slots=True)
class AccessPath:
    """One way into an account. `held` is how it begins (None: the machine itself); `hops` are the roles after that."""

    start: Node
    held: Light | None
    hops: tuple[Hop, ...] = ()

    @property
    def key(self) -> str:
        """Names the path in an address, as long as it is the same."""
        held = (self.held.pk, self.held.via_id or 0) if self.held else ()
        parts = (*self.start, *held, *(hop.role.pk for hop in self.hops))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def order(self) -> tuple[object, ...]:
        """The most powerful first, then the sure and the short. Asked of thousands."""
        if not self.hops:
            return (weight_of(self._held.privilege), False, 0, self._held.name.lower())
        role = self.hops[-1].role
        return (weight_of(role.privilege), self.is_conditional, len(self.hops), role.name.lower())

    @property
    def resource_id(self) -> int | None:
        return self.hops[-1].role.resource_id if self.hops else self._held.resource_id

    @property
    def account_name(self) -> str:
        return self.hops[-1].role.account_name if self.hops else self._held.account_name or ""

    @property
    def privilege(self) -> str:
        return self.hops[-1].role.privilege if self.hops else self._held.privilege

    @property
    def reason(self) -> str:
        return self.hops[-1].role.reason if self.hops else self._held.reason

    @property
    def can_escalate(self) -> bool:
        return not self.hops and self._held.can_escalate

    @property
    def name(self) -> str:
        """What it ends in: a role, or what is held."""
        return self.hops[-1].role.name if self.hops else self._held.name

    @property
    def is_conditional(self) -> bool:
        return any(hop.step.conditions for hop in self.hops)

    @property
    def words(self) -> str:
        """The whole path in one line, for a receipt or a screen reader."""
        line = " → ".join([*self._beginning, *(hop.role.name for hop in self.hops)])
        said = dict.fromkeys(hop.conditions for hop in self.hops if hop.conditions)
        return f"{line} (may, {'; '.join(said)})" if said else line

    @property
    def _beginning(self) -> list[str]:
        if self.held is None:
            return []
        return [f"{self.held.name}, {f'through {self.held.via_name}' if self.held.via_id else 'held directly'}"]

    @property
    def goes_with(self) -> tuple[object, ...]:
        """What would have to go for this path to go: the last trust of a chain, or what is held."""
        if self.hops:
            return ("hop", self.hops[-1].source, self.hops[-1].role.pk)
        return ("held", self.held.removable_id if self.held else 0)

    @property
    def taken(self) -> str:
        """The same in words: "the membership of Engineers", "deployer letting Deploy in"."""
        if self.hops:
            return f"{self.hops[-1].role.name} letting {self.hops[-1].source_name} in"
        return f"the membership of {self._held.via_name}" if self._held.via_id else self._held.name

    def needs(self, gone: tuple[object, ...]) -> bool:
        """Whether this path goes when that goes."""
        if gone[0] == "held":
            return self.held is not None and self.held.removable_id == gone[1]
        return any(("hop", hop.source, hop.role.pk) == gone for hop in self.hops)

    @property
    def _held(self) -> Light:
        assert self.held is not None  # a machine's own chain has hops
        return self.held


@dataclass(frozen=True)
class Found:
    """Paths, the most powerful first, then the sure and the short; whether a bound left some out; and whether it was worked
    out at all who can become whom."""

    paths: list[AccessPath] = field(default_factory=list)
    is_cut: bool = False
    is_traced: bool = True
    starts: Mapping[Node, Sequence[Light | None]] = field(
        default_factory=dict
    )  # in every account, with how they are held

    @property
    def worst(self) -> AccessPath | None:
        return self.paths[0] if self.paths else None

    def by_key(self, key: str) -> AccessPath | None:
        return next((path for path in self.paths if path.key == key), None)

    def without(self, path: AccessPath) -> Found:
        """What remains when `path` goes, with everything that goes with it."""
        gone = path.goes_with
        return replace(self, paths=[one for one in self.paths if not one.needs(gone)])


def find(identity: Identity, account: Resource | None = None, *, now: datetime | None = None) -> Found:
    """Every path of `identity` into `account`, or into all of them."""
    search = _Search(identity, account, now or timezone.now())
    search.go()
    paths = sorted(search.paths(), key=lambda path: path.order)
    is_traced = hasattr(identity.connection, "tracing")
    return Found(paths, search.is_cut, is_traced, search.starts)


class _Frontier:
    """Who moves next, found by the names under which a trust could let them in."""

    def __init__(self) -> None:
        self.named: dict[str, list[Node]] = defaultdict(list)
        self.accounts: dict[str, list[Node]] = defaultdict(list)  # of those whose policies let them try
        self.patterns: dict[str, None] = {}  # on what they may
        self.account_of: dict[Node, str] = {}
        self.asking: set[Node] = set()

    def add(self, node: Node, account: str, names: Iterable[str], asks: Iterable[str]) -> None:
        self.account_of[node] = account
        for name in names:
            if name == trusts.ANYBODY or "*" not in name:  # no trust names a part of a name
                self.named[name].append(node)
        if asks:
            self.asking.add(node)
            self.accounts[account].append(node)
            self.patterns |= dict.fromkeys(asks)

    def knocking_at(self, role: Role) -> Iterator[Node]:
        """Those whom the role's trust could let in, each once: in another account only who may try."""
        nodes = dict.fromkeys(
            node for key in role.keys for by in (self.named, self.accounts) if key in by for node in by[key]
        )
        for node in nodes:
            if node in self.asking or self.account_of[node] == role.account_id:
                yield node


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
    starts: dict[Node, list[Light | None]] = field(default_factory=lambda: defaultdict(list))
    names: dict[Node, str] = field(default_factory=dict)
    holders: dict[Node, steps.Holder] = field(default_factory=dict)
    sets: dict[int, tuple[str, str]] = field(default_factory=dict)
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
            frontier = self.of_principals([(role.face, role.name) for role in fresh])
            seen |= {*frontier.account_of}

    def begin(self) -> _Frontier:
        """What the identity acts as: a role for each permission set it holds, and its own users and roles."""
        if self.account:
            self.circles = approaches.leading_to(self.account, DEPTH)
        circle = self.circles[-1]
        self.held = (
            holdings.light_paths_of(self.identity, self.account, circle.every_account)
            if circle
            else holdings.light_paths_of(self.identity)
        )
        mine = Principal.objects.present().filter(identity=self.identity, kind__in=CALLERS).exclude(resource=None)
        principals = list(mine.select_related("resource"))
        for principal in principals:
            self.starts["principal", principal.pk] = [None]
        frontier = self.of_principals([(callers.face_of(principal), principal.name) for principal in principals])
        self.add_sets(frontier, circle)
        return frontier

    def add_sets(self, frontier: _Frontier, circle: Circle | None) -> None:
        """The permission sets that could lead anywhere: those that ask first, then the most powerful."""
        weights: dict[int, int] = {}
        for path in self.held:
            if path.kind == Entitlement.Kind.PERMISSION_SET and path.account_id:
                self.starts["set", path.entitlement_id].append(path)
                named = trusts.set_key(path.name, path.account_id)
                if circle is None or circle.has(path.account_id, [named]):
                    self.sets[path.entitlement_id] = (path.name, path.account_id)
                    weights[path.entitlement_id] = weight_of(path.privilege)
        self.said = callers.said_by_sets(self.sets)
        nothing = Said()
        order = sorted(self.sets, key=lambda pk: (not self.said.get(pk, nothing).asks, weights[pk]))
        self.is_cut |= len(order) > MOST_STARTS
        for pk in order[:MOST_STARTS]:
            name, account = self.sets[pk]
            said = self.said.get(pk, nothing)
            caller = trusts.of_permission_set(name, account, said.acts_as)
            frontier.add(("set", pk), account, trusts.names_for(caller), said.asks)

    def of_principals(self, faces: Sequence[tuple[Face, str]]) -> _Frontier:
        frontier = _Frontier()
        found = callers.of_principals([face for face, _ in faces])
        self.holders |= found
        self.names |= {("principal", face.pk): name for face, name in faces}
        for node, holder in found.items():
            asks = knocking.asks(holder.knocks, ASSUME)
            frontier.add(node, holder.caller.account_id, trusts.names_for(holder.caller), asks)
        return frontier

    def holder(self, node: Node) -> steps.Holder:
        """Of permission sets only those that are asked about are put together."""
        if node not in self.holders:
            self.names[node], account = self.sets[node[1]]
            self.holders[node] = callers.as_holder(self.names[node], account, self.said.get(node[1], Said()))
        return self.holders[node]

    def step(self, frontier: _Frontier, left: int) -> dict[int, Role]:
        """Note every hop from the frontier, after which so many are left; returns the roles they lead to."""
        reached: dict[int, Role] = {}
        for role in self.candidates(frontier, left):
            target = role.target
            for node in frontier.knocking_at(role):
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

    def candidates(self, frontier: _Frontier, left: int) -> list[Role]:
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

    def paths(self) -> Iterator[AccessPath]:
        """All that is held where it is asked about, then all chains that lead there, the short ones first."""
        here = self.account and self.account.pk
        for row in self.held:
            if row.resource_id and here in (None, row.resource_id):
                yield AccessPath(("held", row.pk), row)
        for path in self.chains():
            if here in (None, path.resource_id):
                yield path

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
