"""Who can become an administrator, though no policy of theirs says so: the rows of `Escalation`, brought up to date.

They are looked for backwards, an account at a time: who can become an administrator, then who can become one of those.
Cycles end by themselves, since a holder that has a way is not looked at again. A bound that is reached is noted, never
passed over in silence. What was known of those beyond it stays, and so does what rests on a policy that cannot be read,
a role's trust policy included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy import steps, trusts
from apps.connectors.aws.policy.documents import MalformedPolicy, parse
from apps.connectors.aws.policy.knocks import ASSUME, KEYS, PASS, PASSWORD, RESET, REWRITE
from apps.inventory import callers
from apps.inventory.callers import Node
from apps.inventory.models import Assignment, Connection, Entitlement, Escalation, Principal, Resource, Trust

BATCH = 500
MOST_COMPARED = 200_000  # pairs of a holder and somebody powerful, in one account
MOST_TARGETS = 50_000  # administrators of one connection

_SAYS = {
    ASSUME: "can assume the role {name}",
    REWRITE: "can change whom the role {name} lets in",
    PASS: "can hand the role {name} to {service} and run something as it",
    KEYS: "can make an access key for the user {name}",
    PASSWORD: "can make a password for the user {name}",
    RESET: "can change the password of the user {name}",
}


def bring_up_to_date(connection: Connection, now: datetime) -> list[str]:
    """Look for all of a connection's and write what was found. Returns what a bound left out, in sentences."""
    found = _Escalations(connection, now)
    found.look()
    found.write()
    return found.notes


@dataclass(frozen=True)
class _Goal:
    """Somebody worth becoming: an administrator (steps 0), or who can become one (1)."""

    pk: int
    name: str
    target: steps.Target
    says: str = ""  # of the step that follows, for the sentence
    conditions: tuple[str, ...] = ()  # of that step


@dataclass
class _Goals:
    """Goals, found by who might be let in."""

    by_key: dict[str, list[_Goal]] = field(default_factory=lambda: defaultdict(list))
    by_account: dict[str, list[_Goal]] = field(default_factory=lambda: defaultdict(list))
    count: int = 0

    def add(self, goal: _Goal, keys: Iterable[str]) -> None:
        self.count += 1
        if not goal.target.is_fixed:
            self.by_account[goal.target.account_id].append(goal)
        for key in keys:
            self.by_key[key].append(goal)


@dataclass(frozen=True)
class _Way:
    """The best step of one holder towards a goal."""

    goal: _Goal
    step: steps.Step
    count: int

    @property
    def conditions(self) -> tuple[str, ...]:
        """What must be so on the whole way, in words."""
        return tuple(dict.fromkeys((*self.step.conditions, *self.goal.conditions)))

    @property
    def says(self) -> str:
        return _SAYS[self.step.way].format(name=self.goal.name, service=self.step.service)

    @property
    def reason(self) -> str:
        then = f", which {self.goal.says}" if self.goal.says else ", an administrator"
        asks = f" Only {' and '.join(self.conditions)}." if self.conditions else ""
        return f"{self.says[0].upper()}{self.says[1:]}{then}.{asks}"[:1000]


class _Escalations:
    """The ways to become an administrator in one connection, compared with those that are known."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection, self.now = connection, now
        self.ways: dict[Node, tuple[int, _Way]] = {}  # and the account's row
        self.before = {_node(row): row for row in Escalation.objects.filter(connection=connection)}
        self.unknown: set[Node] = set()  # of those, whose way was not found and may be there
        self.trusts = Trust.objects.filter(resource__connection=connection, principal__ended_at=None)
        self.unreadable = set(self.trusts.exclude(problem="").values_list("pk", flat=True))
        self.has_all_targets = True
        self.notes: list[str] = []

    def look(self) -> None:
        goals = self.administrators()
        for count in (1, 2):
            nearer = _Goals()
            for account in Resource.objects.present().filter(connection=self.connection).order_by("pk").iterator():
                self.look_in(account, goals, count, nearer)
            goals = nearer
            if not goals.count and not self.unknown:
                return

    def administrators(self) -> _Goals:
        """Everybody who is one already, those without any detour first. Whoever was one and cannot be read now still is."""
        goals = _Goals()
        led_to = Escalation.objects.filter(target=OuterRef("pk"), steps=1)
        rows = self.trusts.filter(Q(privilege="admin") | Exists(led_to), privilege__in=("admin", "unknown"))
        # Nobody can become a role that AWS made for itself and that trusts nobody by name.
        found = rows.exclude(is_fixed=True, keys=[]).select_related("principal", "resource")
        found = found.order_by("-is_outright", "pk")
        for trust in found[: MOST_TARGETS + 1]:
            if goals.count == MOST_TARGETS:
                self.notes.append(f"There are more than {MOST_TARGETS:,} administrators; only so many were looked at.")
                self.has_all_targets = False
                break
            goals.add(_Goal(trust.pk, trust.principal.name, callers.as_target(trust)), trust.keys)
        return goals

    def look_in(self, account: Resource, goals: _Goals, count: int, nearer: _Goals) -> None:
        """Every holder in one account that is no administrator and has no way yet."""
        compared = 0
        for node, holder, trust, privilege in self.holders(account):
            if node in self.ways:
                continue
            left = MOST_COMPARED - compared
            best, looked = self.best(holder, goals, left) if left else (None, 0)
            compared += looked
            was_compared = looked < left and self.has_all_targets and privilege != "unknown"
            if best is None and self.may_stay(node, was_compared=was_compared):
                self.unknown.add(node)
            if best is not None:
                way = _Way(*best, count)
                self.ways[node] = (account.pk, way)
                if trust is not None:
                    goal = _Goal(trust.pk, trust.principal.name, callers.as_target(trust), way.says, way.conditions)
                    nearer.add(goal, trust.keys)
        if compared == MOST_COMPARED:
            self.notes.append(
                f"{account.name} has too many holders and roles to compare all; about the rest nothing new is known."
            )

    def may_stay(self, node: Node, *, was_compared: bool) -> bool:
        """Whether a way was known, and is not known to be closed: of the holder itself, or of whom it led to."""
        row = self.before.get(node)
        return row is not None and (
            not was_compared
            or (row.target_id in self.unreadable and row.way in (ASSUME, PASS))
            or (row.steps == 2 and ("principal", row.target_id) in self.unknown)
        )

    def best(self, holder: steps.Holder, goals: _Goals, most: int) -> tuple[tuple[_Goal, steps.Step] | None, int]:
        """The surest step to any goal, and how many were compared."""
        found: tuple[_Goal, steps.Step] | None = None
        looked = doubts = 0
        for goal, step in self.tries(holder, goals):
            looked += 1
            if step and (found is None or len(step.conditions + goal.conditions) < doubts):
                found, doubts = (goal, step), len(step.conditions + goal.conditions)
            if looked >= most or (found and not doubts):
                break
        return found, looked

    def tries(self, holder: steps.Holder, goals: _Goals) -> Iterator[tuple[_Goal, steps.Step | None]]:
        """Each goal that could be reached at all."""
        keys = trusts.names_for(holder.caller)
        if knocking.asks(holder.knocks, ASSUME):
            keys.append(holder.caller.account_id)
        for goal in {goal.pk: goal for key in keys for goal in goals.by_key.get(key, ())}.values():
            yield goal, steps.assume(holder, goal.target, self.now)
        ways = {way for one in holder.knocks if one.effect == "Allow" for way in one.ways} - {ASSUME}
        for goal in goals.by_account.get(holder.caller.account_id, ()) if ways else ():
            found = steps.take_over(holder, goal.target)
            yield goal, min(found, key=lambda step: len(step.conditions), default=None)

    def holders(self, account: Resource) -> Iterator[tuple[Node, steps.Holder, Trust | None, str]]:
        """Users, roles and held permission sets of an account, unless they are administrators outright, and how much each
        may do."""
        rows = Trust.objects.filter(resource=account, principal__ended_at=None, is_fixed=False, is_outright=False)
        known = {row.pk: row for row in rows.select_related("principal", "resource").order_by("pk")}
        for trust in known.values():
            trust.principal.resource = account
        for node, holder in callers.of_principals([callers.face_of(row.principal) for row in known.values()]).items():
            trust = known[node[1]]
            yield node, holder, trust, trust.privilege
        held = Assignment.objects.open().filter(entitlement=OuterRef("pk"))
        sets = Entitlement.objects.present().filter(
            Exists(held), kind=Entitlement.Kind.PERMISSION_SET, resource=account
        )
        light = sets.exclude(privilege="admin", can_escalate=False).select_related("resource", "knock")
        for entitlement in light.defer("documents", "privilege_statement").order_by("pk"):
            holder = callers.of_set(entitlement, getattr(entitlement, "knock", None))
            yield ("set", entitlement.pk), holder, None, entitlement.privilege

    # ---- writing

    def write(self) -> None:
        """Let the table say what was found: rows that are gone go, those that changed change, the others stay."""
        gone = [row.pk for node, row in self.before.items() if node not in self.ways and node not in self.unknown]
        new: list[tuple[Escalation, _Way]] = []
        changed: list[tuple[Escalation, _Way]] = []
        for node, (account, way) in self.ways.items():
            old = self.before.get(node)
            row = old or Escalation(connection=self.connection, resource_id=account)
            row.principal_id, row.entitlement_id = (node[1], None) if node[0] == "principal" else (None, node[1])
            values = (way.step.way, way.goal.pk, way.count, way.reason, bool(way.conditions))
            if old is None or (old.way, old.target_id, old.steps, old.reason, old.is_conditional) != values:
                row.way, row.target_id, row.steps, row.reason, row.is_conditional = values
                (changed if old else new).append((row, way))
        _add_statements([*new, *changed])
        with transaction.atomic():
            Escalation.objects.filter(pk__in=gone).delete()
            Escalation.objects.bulk_create([row for row, _ in new], batch_size=BATCH)
            columns = ["way", "target", "steps", "reason", "is_conditional", "statement"]
            Escalation.objects.bulk_update([row for row, _ in changed], columns, batch_size=BATCH)


def _node(row: Escalation) -> Node:
    return ("principal", row.principal_id) if row.principal_id else ("set", row.entitlement_id or 0)


def _add_statements(rows: Sequence[tuple[Escalation, _Way]]) -> None:
    """The statement that causes each: of the holder's policy, or of the trust where that alone is enough."""
    for batch in [rows[n : n + BATCH] for n in range(0, len(rows), BATCH)]:
        policies = Entitlement.objects.filter(pk__in={way.step.knock.origin for _, way in batch if way.step.knock})
        documents = dict(policies.values_list("pk", "documents"))
        roles = Principal.objects.filter(pk__in={way.goal.pk for _, way in batch if not way.step.knock})
        trusting = dict(roles.values_list("pk", "attributes__trust"))
        for row, way in batch:
            knock, entry = way.step.knock, way.step.entry
            if knock is not None:
                stored = documents.get(knock.origin, [])
                document = stored[knock.document]["document"] if knock.document < len(stored) else None
                row.statement = _statement(document, knock.index)
            elif entry is not None:
                row.statement = _statement(trusting.get(way.goal.pk), entry.index)


def _statement(document: Any, index: int) -> Any:
    try:
        statements = parse(document or "").statements
    except MalformedPolicy:
        return None
    return statements[index].raw if index < len(statements) else None
