"""Working out who can become whom: the rows of `models.ways`, brought up to date after a reading.

Trusts and rights to knock are derived where a digest changed, in batches; what they add up to is found in `escalations`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection as database
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy import trusts
from apps.connectors.aws.policy.documents import Document, MalformedPolicy, parse
from apps.connectors.aws.privilege import Cause, NamedDocument, privilege_of
from apps.core import locks
from apps.inventory import callers, escalations
from apps.inventory.models import Assignment, Connection, Entitlement, Knock, Principal, Tracing, Trust
from apps.inventory.models.access import HEAVIEST_FIRST
from apps.inventory.models.holders import CALLERS

AGAIN_AFTER = timedelta(hours=1)  # also when no reading ended: single things are read again in between
BATCH = 500


def is_due(connection: Connection, now: datetime) -> bool:
    """Whether a reading ended, or an hour went by, since it was last worked out."""
    done = Tracing.objects.filter(connection=connection).first()
    latest = connection.runs.finished().values_list("pk", flat=True).first()
    return latest is not None and (done is None or done.run_id != latest or done.traced_at < now - AGAIN_AFTER)


def exclusive(connection: Connection, wait_ms: int = 10_000) -> AbstractContextManager[None]:
    """While this is held, nothing of it is half worked out. Raises `locks.Taken` when another does not finish by then."""
    return locks.exclusive("trace", str(connection.pk), wait_ms=wait_ms)


def trace(connection: Connection) -> Tracing:
    """Bring everything up to date. Two at once wait for each other; a second one finds little left to do.

    Raises `locks.Taken` when another one does not finish soon.
    """
    with exclusive(connection):
        now = timezone.now()
        run = connection.runs.finished().first()
        notes = [*_derive_knocks(connection, now), *_derive_trusts(connection)]
        _name_roles_of_permission_sets(connection)
        _weigh(connection, now)
        notes += escalations.bring_up_to_date(connection, now)
        values = {"run": run, "traced_at": now, "notes": notes}
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
            update_fields=["lines", "boundary", "runs", "denied_runs", "digest"],
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
        runs=list(knocking.runs_of(known, now, bounds)),
        denied_runs=list(knocking.denied_runs_of(known)),
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
    due = Principal.objects.present().filter(~Exists(current), connection=connection, kind__in=CALLERS)
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
    """The level of each role and user: of the one policy it holds, itself or through groups, or of all of them together,
    since two may be harmless and both not, and a Deny or a boundary may leave less than any of them says. Only those who
    hold something else than when they were last weighed, or what is assessed in another way by now, are weighed again."""
    weights = [str(weight) for weight in HEAVIEST_FIRST]
    with database.cursor() as cursor:
        for statement in (_HOLDS, _ALONE):
            cursor.execute(statement, {"connection": connection.pk, "weights": weights})
    together = Trust.objects.filter(resource__connection=connection, principal__ended_at=None).exclude(holds="")
    for rows in _batches(together.exclude(holds=F("weighed"))):
        _weigh_together([pk for (pk,) in rows], now)


# An entitlement's digest covers its documents and how they are assessed. The mark begins with what is kept of a weighing
# besides the level: those that were weighed before it was kept are weighed again.
_HOLDS = """
    WITH held AS (
        SELECT t.principal_id AS holder, e.digest, e.group_id
        FROM inventory_trust t
        JOIN inventory_resource r ON r.id = t.resource_id AND r.connection_id = %(connection)s
        JOIN inventory_assignment a ON a.principal_id = t.principal_id AND upper_inf(a.period)
        JOIN inventory_entitlement e ON e.id = a.entitlement_id
    ), policies AS (
        SELECT holder, digest FROM held WHERE group_id IS NULL
        UNION ALL
        SELECT h.holder, e.digest FROM held h
        JOIN inventory_assignment g ON g.principal_id = h.group_id AND upper_inf(g.period)
        JOIN inventory_entitlement e ON e.id = g.entitlement_id
    ), bounded AS (
        SELECT p.id AS holder, p.resource_id, p.attributes ->> 'boundary' AS arn
        FROM inventory_principal p JOIN inventory_trust t ON t.principal_id = p.id
        WHERE p.connection_id = %(connection)s AND p.ended_at IS NULL AND p.attributes ->> 'boundary' <> ''
    ), bounds AS (
        SELECT b.holder, min(e.digest) AS digest FROM bounded b
        LEFT JOIN inventory_entitlement e ON e.resource_id = b.resource_id AND e.kind = 'iam_policy'
            AND e.ended_at IS NULL AND e.attributes ->> 'policy_arn' = b.arn
        GROUP BY b.holder
    ), marks AS (
        SELECT t.principal_id, CASE WHEN p.number > 1 OR b.holder IS NOT NULL
            THEN md5(concat_ws(' ', 'with statement', p.digests, 'within', b.holder IS NOT NULL, b.digest))
            ELSE '' END AS mark
        FROM inventory_trust t
        JOIN inventory_resource r ON r.id = t.resource_id AND r.connection_id = %(connection)s
        LEFT JOIN (
            SELECT holder, count(*) AS number, string_agg(digest, ' ' ORDER BY digest) AS digests
            FROM policies GROUP BY holder
        ) p ON p.holder = t.principal_id
        LEFT JOIN bounds b ON b.holder = t.principal_id
    )
    UPDATE inventory_trust t SET holds = marks.mark
    FROM marks WHERE marks.principal_id = t.principal_id AND t.holds <> marks.mark
"""
_ALONE = """
    WITH worst AS (
        SELECT DISTINCT ON (t.principal_id) t.principal_id, coalesce(e.privilege, 'none') AS privilege,
            coalesce(e.privilege_reason, 'No policy allows anything.') AS reason,
            coalesce(e.privilege = 'admin' AND NOT e.can_escalate, false) AS is_outright,
            coalesce(e.can_escalate, false) AS can_escalate
        FROM inventory_trust t
        JOIN inventory_resource r ON r.id = t.resource_id AND r.connection_id = %(connection)s
        LEFT JOIN inventory_assignment a ON a.principal_id = t.principal_id AND upper_inf(a.period)
        LEFT JOIN inventory_entitlement e ON e.id = a.entitlement_id
        WHERE t.holds = ''
        ORDER BY t.principal_id, array_position(%(weights)s::text[], e.privilege::text), e.can_escalate, e.id
    )
    UPDATE inventory_trust t SET privilege = worst.privilege, privilege_reason = worst.reason,
        is_outright = worst.is_outright, can_escalate = worst.can_escalate, weighed = '', privilege_statement = NULL
    FROM worst
    WHERE worst.principal_id = t.principal_id
      AND (t.privilege, t.privilege_reason, t.is_outright, t.can_escalate, t.weighed) IS DISTINCT FROM
        (worst.privilege, worst.reason, worst.is_outright, worst.can_escalate, '')
"""


def _weigh_together(pks: Sequence[int], now: datetime) -> None:
    """All of a holder's policies together, within its boundary. A boundary that was not read bounds nothing."""
    people = {one.pk: one for one in Principal.objects.filter(pk__in=pks).select_related("trust")}
    held: dict[int, set[int]] = defaultdict(set)
    for holder, entitlement in callers.held_by(pks, Assignment.objects.open(), "entitlement_id"):
        held[holder].add(entitlement)
    policies = _documents(Entitlement.objects.filter(pk__in=set().union(*held.values())), "pk")
    bounds = _documents(
        Entitlement.objects.present().filter(
            kind=Entitlement.Kind.IAM_POLICY,
            resource__in={one.resource_id for one in people.values()},
            attributes__policy_arn__in={one.attributes.get("boundary") or "" for one in people.values()} - {""},
        ),
        "resource_id",
        "attributes__policy_arn",
    )
    for one in people.values():
        arn = one.attributes.get("boundary") or ""
        bound = bounds.get((one.resource_id, arn), [])
        documents = sorted((document for pk in held[one.pk] for document in policies[(pk,)]), key=lambda d: d.name)
        found = privilege_of(documents, boundary=bound[0] if bound else None, now=now)
        where = "" if not arn else "Within its boundary: " if bound else "Its boundary was not read: "
        trust = one.trust
        trust.privilege, trust.privilege_reason = found.level, f"{where}{found.reason}"[:500]
        trust.is_outright, trust.can_escalate = found.level == "admin" and not found.can_escalate, found.can_escalate
        trust.privilege_statement = _caused_by(found.statement)
        trust.weighed = trust.holds
    columns = ["privilege", "privilege_reason", "privilege_statement", "is_outright", "can_escalate", "weighed"]
    Trust.objects.bulk_update([one.trust for one in people.values()], columns, batch_size=BATCH)


def _caused_by(cause: Cause | None) -> dict[str, Any] | None:
    return None if cause is None else {"policy": cause.document, "statement": cause.statement}


def _documents(entitlements: QuerySet[Entitlement], *key: str) -> dict[tuple[Any, ...], list[NamedDocument]]:
    """What policies say, each read once however many hold it."""
    found = entitlements.values_list(*key, "documents")
    return {
        tuple(key): [NamedDocument(one["name"], _parsed(one["document"]) or one["document"]) for one in documents]
        for *key, documents in found.iterator(chunk_size=BATCH)
    }


def _batches(rows: QuerySet[Any], *columns: str) -> Iterator[list[tuple[Any, ...]]]:
    """(pk, *columns) in lists, by key, so that rows which drop out of the selection meanwhile skip nobody."""
    last = 0
    while batch := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", *columns)[:BATCH]):
        yield batch
        last = batch[-1][0]
