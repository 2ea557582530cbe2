"""Working out who can become whom: the rows of `models.ways`, brought up to date after a reading.

Trusts and rights to knock are derived where a digest changed, in batches. Escalations are looked for backwards, an account
at a time: who can become an administrator, then who can become one of those. Cycles end by themselves, since a holder that
has a way is not looked at again. A bound that is reached is noted, never passed over in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection as database
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy import steps, trusts
from apps.connectors.aws.policy.documents import Document, MalformedPolicy, parse
from apps.connectors.aws.policy.knocks import ASSUME, KEYS, PASS, PASSWORD, RESET, REWRITE
from apps.connectors.aws.privilege import NamedDocument, Privilege, privilege_of
from apps.core import locks
from apps.inventory import paths
from apps.inventory.models import (
    Assignment,
    Connection,
    Entitlement,
    Escalation,
    Knock,
    Principal,
    Resource,
    Tracing,
    Trust,
)

AGAIN_AFTER = timedelta(hours=1)  # also when no reading ended: single things are read again in between
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


def is_due(connection: Connection, now: datetime) -> bool:
    """Whether a reading ended, or an hour went by, since it was last worked out."""
    done = Tracing.objects.filter(connection=connection).first()
    latest = connection.runs.finished().values_list("pk", flat=True).first()
    return latest is not None and (done is None or done.run_id != latest or done.traced_at < now - AGAIN_AFTER)


def trace(connection: Connection) -> Tracing:
    """Bring everything up to date. Two at once wait for each other; a second one finds little left to do.

    Raises `locks.Taken` when another one does not finish soon.
    """
    with locks.exclusive("trace", str(connection.pk)):
        now = timezone.now()
        run = connection.runs.finished().first()
        notes = [*_derive_knocks(connection, now), *_derive_trusts(connection)]
        _name_roles_of_permission_sets(connection)
        _weigh(connection, now)
        found = _Escalations(connection, now)
        found.look()
        found.write()
        values = {"run": run, "traced_at": now, "notes": [*notes, *found.notes]}
        return Tracing.objects.update_or_create(connection=connection, defaults=values)[0]


# ---- what policies say


def _derive_knocks(connection: Connection, now: datetime) -> list[str]:
    """A row for each policy and permission set whose digest is not the one it was made from."""
    current = Knock.objects.filter(entitlement=OuterRef("pk"), digest=OuterRef("digest"))
    kinds = (Entitlement.Kind.PERMISSION_SET, Entitlement.Kind.IAM_POLICY, Entitlement.Kind.IAM_INLINE_POLICY)
    due = Entitlement.objects.present().filter(~Exists(current), connection=connection, kind__in=kinds)
    unread = 0
    for rows in _batches(due, "digest", "documents", "attributes__boundary"):
        made = [_knock(now, *row) for row in rows]
        unread += sum(1 for _, is_unread in made if is_unread)
        Knock.objects.bulk_create(
            [row for row, _ in made],
            update_conflicts=True,
            unique_fields=["entitlement"],
            update_fields=["lines", "boundary", "runs", "digest"],
        )
    return [f"{unread} policies cannot be read, so what they allow is unknown."] if unread else []


def _knock(now: datetime, pk: int, mark: str, documents: Any, boundary: Any) -> tuple[Knock, bool]:
    read = [_parsed(one.get("document")) for one in documents]
    known = tuple(one for one in read if one is not None)
    bounds = _parsed(boundary.get("document")) if isinstance(boundary, Mapping) else None
    row = Knock(
        entitlement_id=pk,
        lines=_numbered(read, now),
        boundary=None if bounds is None else _numbered([bounds], now),
        runs=list(knocking.runs_of(known, now)),
        digest=mark,
    )
    return row, len(known) < len(read)


def _numbered(documents: Sequence[Document | None], now: datetime) -> list[dict[str, Any]]:
    """Lines that say which of the documents they are from, those among them that cannot be read counted."""
    places = [n for n, one in enumerate(documents) if one is not None]
    lines = knocking.knocks_of([one for one in documents if one is not None], now)
    return [{**knocking.as_json(line), "doc": places[line.document]} for line in lines]


def _parsed(document: Any) -> Document | None:
    try:
        return parse(document or "")
    except MalformedPolicy:
        return None


# ---- what trusts say


def _derive_trusts(connection: Connection) -> list[str]:
    """A row for each role and user whose digest is not the one it was made from."""
    current = Trust.objects.filter(principal=OuterRef("pk"), digest=OuterRef("digest"))
    due = Principal.objects.present().filter(~Exists(current), connection=connection, kind__in=paths.ROLES)
    columns = ("external_id", "digest", "kind", "resource_id", "is_reserved", "attributes")
    for rows in _batches(due.exclude(resource=None), *columns):
        Trust.objects.bulk_create(
            [_trust(*row) for row in rows],
            update_conflicts=True,
            unique_fields=["principal"],
            update_fields=["arn", "resource", "keys", "services", "lines", "is_fixed", "problem", "digest"],
        )
    unread = Trust.objects.filter(resource__connection=connection, principal__ended_at=None).exclude(problem="").count()
    return [f"{unread} trust policies cannot be read, so whom they let in is unknown."] if unread else []


def _trust(
    pk: int, arn: str, mark: str, kind: str, resource: int, is_reserved: bool, attributes: Mapping[str, Any]
) -> Trust:
    row = Trust(principal_id=pk, arn=arn, resource_id=resource, digest=mark, is_fixed=is_reserved)
    # The role of one grant lets in that grant's person while it lasts: the grant itself is the path, and shown as one.
    if kind == Principal.Kind.IAM_USER or attributes.get("is_ours"):
        return row
    try:
        lines = trusts.lines_of(attributes.get("trust") or "")
        services = trusts.services_of(attributes.get("trust") or "")
    except MalformedPolicy as error:
        row.problem = str(error)[:500]
        return row
    row.lines = [trusts.as_json(line) for line in lines]
    row.services = list(services)
    row.keys = trusts.keys_of(lines)
    return row


def _name_roles_of_permission_sets(connection: Connection) -> None:
    """Say as which role the holders of each permission set act: the one that Identity Center made for it in the account,
    which carries its name and 16 digits. One statement."""
    with database.cursor() as cursor:
        cursor.execute(
            """
            UPDATE inventory_knock k SET acts_as = role.external_id
            FROM inventory_entitlement e, inventory_principal role
            WHERE k.entitlement_id = e.id AND e.connection_id = %(connection)s AND e.kind = 'permission_set'
              AND role.resource_id = e.resource_id AND role.is_reserved AND role.ended_at IS NULL
              AND left(role.name, -17) = 'AWSReservedSSO_' || e.name AND role.name ~ '_[0-9a-f]{16}$'
              AND k.acts_as <> role.external_id
            """,
            {"connection": connection.pk},
        )


# ---- how much each role and user may do


def _weigh(connection: Connection, now: datetime) -> None:
    """The heaviest of what each holds, itself or through groups. Within a boundary that lets less through, less."""
    with database.cursor() as cursor:
        cursor.execute(
            """
            WITH worst AS (
                SELECT DISTINCT ON (t.principal_id) t.principal_id, e.privilege, e.privilege_reason, e.can_escalate
                FROM inventory_trust t
                JOIN inventory_resource r ON r.id = t.resource_id AND r.connection_id = %(connection)s
                LEFT JOIN inventory_assignment a ON a.principal_id = t.principal_id AND upper_inf(a.period)
                LEFT JOIN inventory_entitlement e ON e.id = a.entitlement_id
                ORDER BY t.principal_id, array_position(%(weights)s::text[], e.privilege::text), e.can_escalate, e.id
            )
            UPDATE inventory_trust t SET privilege = coalesce(worst.privilege, 'none'),
                privilege_reason = coalesce(worst.privilege_reason, 'No policy allows anything.'),
                is_outright = coalesce(worst.privilege = 'admin' AND NOT worst.can_escalate, false)
            FROM worst, inventory_principal p
            WHERE worst.principal_id = t.principal_id AND p.id = t.principal_id
              AND coalesce(p.attributes ->> 'boundary', '') = ''
              AND (t.privilege, t.privilege_reason, t.is_outright) IS DISTINCT FROM
                (coalesce(worst.privilege, 'none'), coalesce(worst.privilege_reason, 'No policy allows anything.'),
                 coalesce(worst.privilege = 'admin' AND NOT worst.can_escalate, false))
            """,
            {"connection": connection.pk, "weights": [str(weight) for weight in paths.WEIGHT]},
        )
    bounded = Principal.objects.present().filter(trust__resource__connection=connection)
    for rows in _batches(bounded.exclude(attributes__boundary="").filter(attributes__has_key="boundary")):
        _weigh_bounded([pk for (pk,) in rows], now)


def _weigh_bounded(pks: Sequence[int], now: datetime) -> None:
    """All of a holder's policies together, within its boundary. A boundary that was not read bounds nothing."""
    people = {one.pk: one for one in Principal.objects.filter(pk__in=pks).select_related("trust")}
    held: dict[int, list[NamedDocument]] = defaultdict(list)
    for holder, documents in _documents_of(pks):
        held[holder] += [NamedDocument(one["name"], one["document"]) for one in documents]
    policies = Entitlement.objects.present().filter(
        kind=Entitlement.Kind.IAM_POLICY,
        resource__in={one.resource_id for one in people.values()},
        attributes__policy_arn__in={one.attributes["boundary"] for one in people.values()},
    )
    bounds = {(row.resource_id, row.attributes["policy_arn"]): row.documents for row in policies}
    due = []
    for one in people.values():
        bound = bounds.get((one.resource_id, one.attributes["boundary"]))
        boundary = NamedDocument(bound[0]["name"], bound[0]["document"]) if bound else None
        found = privilege_of(held[one.pk], boundary=boundary, now=now)
        if _note(one.trust, found, is_bounded=boundary is not None):
            due.append(one.trust)
    Trust.objects.bulk_update(due, ["privilege", "privilege_reason", "is_outright"], batch_size=BATCH)


def _note(trust: Trust, found: Privilege, *, is_bounded: bool) -> bool:
    """Write what was found onto the row; whether that changed it."""
    where = "Within its boundary" if is_bounded else "Its boundary was not read"
    values = (found.level, f"{where}: {found.reason}"[:500], found.level == "admin" and not found.can_escalate)
    is_news = (trust.privilege, trust.privilege_reason, trust.is_outright) != values
    trust.privilege, trust.privilege_reason, trust.is_outright = values
    return is_news


def _documents_of(pks: Sequence[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """(holder, documents) of everything these hold, themselves and through groups."""
    rows = Assignment.objects.open().filter(principal__in=pks)
    yield from rows.values_list("principal_id", "entitlement__documents")
    members = rows.filter(entitlement__group__isnull=False)
    through = members.values_list("principal_id", "entitlement__group_id")
    groups: dict[int, list[int]] = defaultdict(list)
    for holder, group in through:
        groups[group].append(holder)
    brought = Assignment.objects.open().filter(principal__in=[*groups])
    for group, documents in brought.values_list("principal_id", "entitlement__documents") if groups else ():
        yield from ((holder, documents) for holder in groups[group])


# ---- who can become an administrator


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
        self.ways: dict[paths.Node, tuple[int, _Way]] = {}  # and the account's row
        self.notes: list[str] = []

    def look(self) -> None:
        goals = self.administrators()
        for count in (1, 2):
            nearer = _Goals()
            for account in Resource.objects.present().filter(connection=self.connection).order_by("pk").iterator():
                self.look_in(account, goals, count, nearer)
            goals = nearer
            if not goals.count:
                return

    def administrators(self) -> _Goals:
        """Everybody who is one already, those without any detour first."""
        goals = _Goals()
        rows = Trust.objects.filter(resource__connection=self.connection, principal__ended_at=None, privilege="admin")
        # Nobody can become a role that AWS made for itself and that trusts nobody by name.
        found = rows.exclude(is_fixed=True, keys=[]).select_related("principal", "resource")
        found = found.order_by("-is_outright", "pk")
        for trust in found[: MOST_TARGETS + 1]:
            if goals.count == MOST_TARGETS:
                self.notes.append(f"There are more than {MOST_TARGETS:,} administrators; only so many were looked at.")
                break
            goals.add(_Goal(trust.pk, trust.principal.name, paths.as_target(trust)), trust.keys)
        return goals

    def look_in(self, account: Resource, goals: _Goals, count: int, nearer: _Goals) -> None:
        """Every holder in one account that is no administrator and has no way yet."""
        compared = 0
        for node, holder, trust in self.holders(account):
            if node in self.ways:
                continue
            best, looked = self.best(holder, goals, MOST_COMPARED - compared)
            compared += looked
            if best is not None:
                way = _Way(*best, count)
                self.ways[node] = (account.pk, way)
                if trust is not None:
                    goal = _Goal(trust.pk, trust.principal.name, paths.as_target(trust), way.says, way.conditions)
                    nearer.add(goal, trust.keys)
            if compared >= MOST_COMPARED:
                self.notes.append(f"{account.name} has too many holders and roles to compare all; the rest is unknown.")
                return

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
            yield goal, next(steps.take_over(holder, goal.target), None)

    def holders(self, account: Resource) -> Iterator[tuple[paths.Node, steps.Holder, Trust | None]]:
        """Users, roles and held permission sets of an account, unless they are administrators outright."""
        rows = Trust.objects.filter(resource=account, principal__ended_at=None, is_fixed=False, is_outright=False)
        known = {row.pk: row for row in rows.select_related("principal", "resource")}
        for trust in known.values():
            trust.principal.resource = account
        for node, holder in paths.of_principals([row.principal for row in known.values()]).items():
            yield node, holder, known[node[1]]
        held = Assignment.objects.open().filter(entitlement=OuterRef("pk"))
        sets = Entitlement.objects.present().filter(
            Exists(held), kind=Entitlement.Kind.PERMISSION_SET, resource=account
        )
        light = sets.exclude(privilege="admin", can_escalate=False).select_related("resource", "knock")
        for entitlement in light.defer("documents", "privilege_statement").order_by("pk"):
            yield ("set", entitlement.pk), paths.of_set(entitlement, getattr(entitlement, "knock", None)), None

    # ---- writing

    def write(self) -> None:
        """Let the table say what was found: rows that are gone go, those that changed change, the others stay."""
        mine = Escalation.objects.filter(connection=self.connection)
        before = {_node(row): row for row in mine}
        gone = [row.pk for node, row in before.items() if node not in self.ways]
        new: list[tuple[Escalation, _Way]] = []
        changed: list[tuple[Escalation, _Way]] = []
        for node, (account, way) in self.ways.items():
            old = before.get(node)
            row = old or Escalation(connection=self.connection, resource_id=account)
            row.principal_id, row.entitlement_id = (node[1], None) if node[0] == "principal" else (None, node[1])
            values = (way.step.way, way.goal.pk, way.count, way.reason, bool(way.conditions))
            if old is None or (old.way, old.target_id, old.steps, old.reason, old.is_conditional) != values:
                row.way, row.target_id, row.steps, row.reason, row.is_conditional = values
                (changed if old else new).append((row, way))
        _add_statements([*new, *changed])
        with transaction.atomic():
            mine.filter(pk__in=gone).delete()
            Escalation.objects.bulk_create([row for row, _ in new], batch_size=BATCH)
            columns = ["way", "target", "steps", "reason", "is_conditional", "statement"]
            Escalation.objects.bulk_update([row for row, _ in changed], columns, batch_size=BATCH)


def _node(row: Escalation) -> paths.Node:
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
    read = _parsed(document)
    return read.statements[index].raw if read and index < len(read.statements) else None


def _batches(rows: QuerySet[Any], *columns: str) -> Iterator[list[tuple[Any, ...]]]:
    """(pk, *columns) in lists, by key, so that rows which drop out of the selection meanwhile skip nobody."""
    last = 0
    while batch := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", *columns)[:BATCH]):
        yield batch
        last = batch[-1][0]
