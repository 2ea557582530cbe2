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
from apps.inventory import callers, doors, holdings
from apps.inventory.callers import Node
from apps.inventory.doors import Role
from apps.inventory.holdings import Light
from apps.inventory.models import Entitlement, Identity, Principal, Resource
from apps.inventory.models.access import weight_of
from apps.inventory.models.holders import CALLERS

DEPTH = 3  # roles one after the other; AWS sets no limit but an hour for each
MOST_ROLES = 200  # that one level looks at, those in the account that is asked about first, then the most powerful
MOST_PAIRS = 2_000  # of a holder and a role, compared at one level
MOST_WALKED = 2_000  # chains that are looked at, wherever they lead


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
    search = _Search(identity, holdings.light_paths_of(identity), account, now or timezone.now())
    search.go()
    paths = sorted(search.paths(), key=lambda path: path.order)
    is_traced = hasattr(identity.connection, "tracing")
    return Found(paths, search.is_cut, is_traced, search.starts)


@dataclass
class _Search:
    """One walk along trusts, from what an identity holds."""

    identity: Identity
    held: Sequence[Light]
    account: Resource | None
    now: datetime
    is_cut: bool = False
    hops: dict[Node, list[Hop]] = field(default_factory=lambda: defaultdict(list))
    starts: dict[Node, list[Light | None]] = field(default_factory=lambda: defaultdict(list))
    names: dict[Node, str] = field(default_factory=dict)

    def go(self) -> None:
        frontier = self.begin()
        seen = {*frontier}
        for level in range(DEPTH):
            is_last = level == DEPTH - 1
            reached = self.step(frontier, only_here=is_last)
            fresh = [role for pk, role in reached.items() if ("principal", pk) not in seen]
            if is_last or not fresh:
                return
            self.names |= {("principal", role.pk): role.name for role in fresh}
            frontier = callers.of_principals([role.face for role in fresh])
            seen |= {*frontier}

    def begin(self) -> dict[Node, steps.Holder]:
        """What the identity acts as: a role for each permission set it holds, and its own users and roles."""
        sets: dict[int, tuple[str, str]] = {}
        for path in self.held:
            if path.kind == Entitlement.Kind.PERMISSION_SET and path.account_id:
                self.starts["set", path.entitlement_id].append(path)
                sets[path.entitlement_id] = (path.name, path.account_id)
        mine = Principal.objects.present().filter(identity=self.identity, kind__in=CALLERS).exclude(resource=None)
        principals = list(mine.select_related("resource"))
        for principal in principals:
            self.starts["principal", principal.pk] = [None]
        self.names |= {("set", pk): name for pk, (name, _) in sets.items()}
        self.names |= {("principal", principal.pk): principal.name for principal in principals}
        return {**callers.of_sets(sets), **callers.of_principals([*map(callers.face_of, principals)])}

    def step(self, frontier: Mapping[Node, steps.Holder], *, only_here: bool) -> dict[int, Role]:
        """Note every hop from the frontier; returns the roles they lead to."""
        named, accounts, patterns = _knockers(frontier)
        by_key = {**named, **accounts}
        reached: dict[int, Role] = {}
        pairs = 0
        for role in self.candidates(named, accounts, patterns, only_here=only_here):
            for node in dict.fromkeys(node for key in role.keys for node in by_key.get(key, ())):
                pairs += 1
                if pairs > MOST_PAIRS:
                    self.is_cut = True
                    return reached
                holder = frontier[node]
                step = steps.assume(holder, role.target, self.now)
                if step is not None:
                    self.hops[node].append(Hop(node, self.names[node], holder.caller.account_id, role, step))
                    reached[role.pk] = role
        return reached

    def candidates(
        self, named: Iterable[str], accounts: Iterable[str], patterns: Sequence[str], *, only_here: bool
    ) -> list[Role]:
        """The roles that could let somebody of the frontier in, each once, at most so many."""
        here = self.account.pk if self.account else None
        found = doors.letting_in(
            self.identity.connection_id,
            named=named,
            accounts=accounts,
            patterns=patterns,
            first=here,
            only=here if only_here else None,
            most=MOST_ROLES + 1,
        )
        self.is_cut |= len(found) > MOST_ROLES
        return found[:MOST_ROLES]

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


def _knockers(
    frontier: Mapping[Node, steps.Holder],
) -> tuple[dict[str, list[Node]], dict[str, list[Node]], list[str]]:
    """Who is found by which name; who by which account, since their policies let them try; and on what they may."""
    named: dict[str, list[Node]] = defaultdict(list)
    accounts: dict[str, list[Node]] = defaultdict(list)
    patterns: dict[str, None] = {}
    for node, holder in frontier.items():
        for key in trusts.names_for(holder.caller):
            if key == trusts.ANYBODY or "*" not in key:  # no trust names a part of a name
                named[key].append(node)
        asked = knocking.asks(holder.knocks, ASSUME)
        if asked:
            accounts[holder.caller.account_id].append(node)
            patterns |= dict.fromkeys(asked)
    return named, accounts, [*patterns]
