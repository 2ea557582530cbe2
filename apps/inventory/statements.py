"""The statements of `history`: who held what on a day, and what changed between two.

Rows are found from one side. What is held directly are the subject's own rows. What comes through a group is found from
`brings`: the memberships of a person, or the rows of the groups that hold it, each cut to the days; the other half of a
path is then one walk in an index for each of them. Both indexes carry the key and both ends of the period, so that no row
costs a visit to the table, nor a period to be taken apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from apps.inventory.models import Entitlement, Identity, Resource

BEGAN, ENDED, STAYED = "began", "ended", "stayed"
Subject = Identity | Entitlement | Resource


@dataclass(frozen=True)
class _Side:
    """From where the rows of a subject are found. `of` are the keys that its `column` of an assignment may have, `other` is
    who holds it or what they hold. `brings` is what comes through a group, `joined` the other half `o` of it. `keys` name a
    path of both halves; `same` and `pair` find those of one pair of holder and entitlement. A list is told in this `order`,
    page by page: by `first` each source gives no more than the page needs, where its index has that order."""

    of: str
    column: str
    other: str
    brings: str
    keys: str
    joined: str
    same: str
    pair: str
    order: str
    first_direct: str = ""
    first_through: str = ""
    first_pairs: str = ""


_FIRST = "ORDER BY {row}.principal_id, {row}.id LIMIT %(start)s + %(limit)s"
_PERSON = _Side(
    of="(SELECT id FROM inventory_principal WHERE identity_id = %(subject)s)",
    column="principal_id",
    other="entitlement_id",
    brings="""
        SELECT g.id, g.principal_id, x.group_id, g.period, {cut} FROM {of} w
        JOIN inventory_assignment g ON g.principal_id = w.id
        JOIN inventory_entitlement x ON x.id = g.entitlement_id AND x.group_id IS NOT NULL
        WHERE {held}
    """,
    keys="o.id AS assignment_id, b.id AS via_id, b.principal_id, o.entitlement_id",
    joined="o.principal_id = b.group_id",
    same="b.principal_id = s.principal_id",
    pair="o.entitlement_id = s.entitlement_id",
    order="(SELECT x.name FROM inventory_entitlement x WHERE x.id = s.entitlement_id), s.entitlement_id",
)
_ENTITLEMENT = _Side(
    of="(SELECT %(subject)s::bigint AS id)",
    column="entitlement_id",
    other="principal_id",
    brings="""
        SELECT g.id, g.principal_id AS group_id, g.entitlement_id, x.id AS membership, g.period, {cut} FROM {of} w
        JOIN inventory_assignment g ON g.entitlement_id = w.id
        JOIN inventory_entitlement x ON x.group_id = g.principal_id
        WHERE {held} AND {wanted}
    """,
    keys="b.id AS assignment_id, o.id AS via_id, o.principal_id, b.entitlement_id",
    joined="o.entitlement_id = b.membership",
    same="b.entitlement_id = s.entitlement_id",
    pair="o.principal_id = s.principal_id",
    order="s.entitlement_id, s.principal_id",
    first_direct=_FIRST.format(row="a"),
    first_through=_FIRST.format(row="o"),
    first_pairs="LIMIT %(start)s + %(limit)s",
)
_ACCOUNT = replace(_ENTITLEMENT, of="(SELECT id FROM inventory_entitlement WHERE resource_id = %(subject)s)")
_SIDES: dict[type[Subject], _Side] = {Identity: _PERSON, Entitlement: _ENTITLEMENT, Resource: _ACCOUNT}

# A group's own row is left out where its members are told; a group nobody can be a member of stands for itself.
_OWN = "SELECT {told} FROM inventory_assignment a WHERE a.{column} = w.id AND {apart} AND {held} {first}"
_OWN_KEYS = "a.id AS assignment_id, NULL::bigint AS via_id, a.principal_id, a.entitlement_id"
_DIRECTLY = f"SELECT d.* FROM {{of}} w CROSS JOIN LATERAL ({_OWN}) d"  # noqa: S608
_THROUGH = """
    SELECT t.* FROM brings b CROSS JOIN LATERAL (
        SELECT {told} FROM inventory_assignment o WHERE {joined} AND {held} {first}
    ) t
"""
# Whether a row was held at any time asked about, from `since` until `until`: of the days, or of what a group's row leaves
# of them. Periods that overlap two by two have a moment in common.
_HELD = "lower({row}.period) < {until} AND coalesce(upper({row}.period), 'infinity') > {since}"
# For two days, if it was held between their outer ends: on the earlier, on the later.
_EARLIER = "lower({row}.period) < {first_until}"
_LATER = "coalesce(upper({row}.period), 'infinity') > {last_since}"
_ON_EITHER = f"{_HELD} AND ({_EARLIER} OR {_LATER})"
_ON = f"{{row}}.{{other}} AS other, {_EARLIER} AS earlier, {_LATER} AS later"
_DAYS = {name: f"%({name})s" for name in ("since", "until", "first_until", "last_since")}
_BROUGHT = {name: f"b.{name}" for name in _DAYS}
# What a group's row leaves of the days; of a day on which it did not hold it, nothing.
_CUT = "greatest(lower(g.period), %(since)s) AS since, least(upper(g.period), %(until)s) AS until"
_CUT_TWO = f"""
    {_CUT}, CASE WHEN {_EARLIER.format(row="g", **_DAYS)} THEN %(first_until)s ELSE '-infinity' END AS first_until,
    CASE WHEN {_LATER.format(row="g", **_DAYS)} THEN %(last_since)s ELSE 'infinity' END AS last_since
"""
# What a path prints, besides its keys and since when until when.
_NAMED = """
    a.is_standing AND coalesce(m.is_standing, true),
    a.principal_id, a.entitlement_id, lower(a.period), upper(a.period),
    m.principal_id, m.entitlement_id, lower(m.period), upper(m.period),
    i.id, i.name, coalesce(nullif(i.email, ''), ''), i.ended_at IS NOT NULL, p.name, p.kind,
    e.name, e.kind, e.group_id IS NOT NULL, e.privilege, e.can_escalate, e.is_sensitive_read, e.is_ours,
    r.name, r.external_id, x.name
"""
_NAMES = """
    LEFT JOIN inventory_assignment a ON a.id = s.assignment_id
    LEFT JOIN inventory_assignment m ON m.id = s.via_id
    LEFT JOIN inventory_principal p ON p.id = s.principal_id
    LEFT JOIN inventory_entitlement e ON e.id = s.entitlement_id
    LEFT JOIN inventory_identity i ON i.id = p.identity_id
    LEFT JOIN inventory_resource r ON r.id = e.resource_id
    LEFT JOIN inventory_entitlement x ON x.id = m.entitlement_id
"""
_DURING = "greatest(lower(a.period), lower(m.period)), least(upper(a.period), upper(m.period))"

_DAY = """
    WITH brings AS MATERIALIZED ({brings}), told AS MATERIALIZED (
        SELECT s.* FROM ({first}) s
        ORDER BY {order}, s.assignment_id, s.via_id NULLS FIRST OFFSET %(start)s LIMIT %(limit)s
    )
    SELECT ARRAY[{number}],
           s.assignment_id, s.via_id, {during}, {named}
    FROM (SELECT) one LEFT JOIN told s ON true {names}
    ORDER BY {order}, s.assignment_id, s.via_id NULLS FIRST
"""
_COUNT = "(SELECT count(*) FROM ({one}) one)"
_RECORDS = """
    WITH brings AS MATERIALIZED ({brings})
    SELECT NULL, s.assignment_id, s.via_id, {during}, {named}
    FROM ({all}) s {names}
    ORDER BY s.assignment_id, s.via_id
"""
# Somebody who held the same by another path on the other day held it on both. So for each of the subject's keys there are
# two sorted lists, of who held it (or what they held) on either day, which costs half of grouping the rows: numbers follow
# from their lengths, and a list is looked into by halving it (width_bucket). `unnest` keeps their order. Only what is shown
# is asked by which paths and since when. OFFSET 0: one look into the index for each row, whatever the planner expects.
_COMPARE = """
    WITH brings AS MATERIALIZED ({brings}), held AS MATERIALIZED (
        SELECT w.id, h.* FROM {of} w CROSS JOIN LATERAL (
            SELECT array_agg(DISTINCT other ORDER BY other) FILTER (WHERE earlier) AS earlier,
                   array_agg(DISTINCT other ORDER BY other) FILTER (WHERE later) AS later,
                   count(DISTINCT other) FILTER (WHERE earlier OR later) AS either
            FROM ({rows}) r
        ) h
    ), numbers AS (
        SELECT coalesce(sum(cardinality(earlier)), 0)::bigint AS earlier,
               coalesce(sum(cardinality(later)), 0)::bigint AS later, coalesce(sum(either), 0)::bigint AS either
        FROM held
    ), shown AS MATERIALIZED (
        SELECT s.* FROM held h CROSS JOIN LATERAL (
            SELECT h.id AS {column}, o.other AS {other} FROM (SELECT unnest(h.{listed}) AS other) o
            WHERE (h.{compared}[width_bucket(o.other, h.{compared})] = o.other) {also} {first_pairs}
        ) s
        ORDER BY {order}, s.principal_id OFFSET %(start)s LIMIT %(limit)s
    ), paths AS (
        SELECT d.* FROM shown s CROSS JOIN LATERAL (
            SELECT {own_keys}, a.period AS during FROM inventory_assignment a
            WHERE a.principal_id = s.principal_id AND a.entitlement_id = s.entitlement_id AND {held_directly} OFFSET 0
        ) d
        UNION ALL
        SELECT t.* FROM shown s JOIN brings b ON {same} CROSS JOIN LATERAL (
            SELECT {keys}, b.period * o.period FROM inventory_assignment o
            WHERE {joined} AND {pair} AND {held_through} OFFSET 0
        ) t
    ), told AS MATERIALIZED (
        SELECT principal_id, entitlement_id, min(ARRAY[assignment_id, coalesce(via_id, 0)]) AS path,
               min(lower(during)) AS since, CASE WHEN NOT bool_or(upper_inf(during)) THEN max(upper(during)) END AS until
        FROM paths GROUP BY principal_id, entitlement_id
    )
    SELECT ARRAY[either - earlier, either - later, earlier + later - either],
           s.assignment_id, s.via_id, s.since, s.until, {named}
    FROM numbers LEFT JOIN (SELECT *, path[1] AS assignment_id, nullif(path[2], 0) AS via_id FROM told) s ON true {names}
    ORDER BY {order}, s.principal_id
"""


# What is listed of two days, where else it is looked for, and whether it is there.
_CHANGES = {
    BEGAN: {"listed": "later", "compared": "earlier", "also": "IS NOT TRUE"},
    ENDED: {"listed": "earlier", "compared": "later", "also": "IS NOT TRUE"},
    STAYED: {"listed": "later", "compared": "earlier", "also": "IS TRUE"},
}


def on_a_day(subject: Subject) -> str:
    """Counts and one page of what was held from `%(since)s` until `%(until)s`."""
    return _made(_DAY, subject)


def all_on_a_day(subject: Subject) -> str:
    """All of it."""
    return _made(_RECORDS, subject)


def between_two(subject: Subject, change: str) -> str:
    """Counts of what began, ended and stayed between two days, and one page of one of them. The earlier day is from
    `%(since)s` until `%(first_until)s`, the later from `%(last_since)s` until `%(until)s`."""
    return _made(_COMPARE, subject, **_CHANGES[change])


def _made(template: str, subject: Subject, **change: str) -> str:
    side = vars(_SIDES[type(subject)])
    # groups are members of no group, so that nobody looks for them among the members of one
    is_membership = isinstance(subject, Entitlement) and subject.group_id is not None
    apart = "true" if is_membership else "a.principal_id NOT IN (SELECT group_id FROM brings)"
    own, brought = {"row": "a", **_DAYS}, {"row": "o", **_BROUGHT}

    def rows(source: str, row: dict[str, str], told: str, first: str = "") -> str:
        told, held = told.format(**side, **row), _HELD.format(**row)
        return source.format(**side, told=told, apart=apart, held=held, first=first)

    def both(direct: str, through: str) -> list[str]:
        return [direct] if is_membership else [direct, through]

    every = both(rows(_DIRECTLY, own, _OWN_KEYS), rows(_THROUGH, brought, side["keys"]))
    first = both(
        rows(_DIRECTLY, own, _OWN_KEYS, side["first_direct"]),
        rows(_THROUGH, brought, side["keys"], side["first_through"]),
    )
    of_one = both(rows(_OWN, own, _ON), rows(f"{_THROUGH} WHERE b.{{column}} = w.id", brought, _ON))
    brings = side["brings"].format(
        of=side["of"],
        cut=_CUT_TWO if change else _CUT,
        held=_HELD.format(row="g", **_DAYS),
        wanted=not is_membership,
    )
    return template.format(
        **side | {"brings": brings},
        **change,
        all=" UNION ALL ".join(every),
        first=" UNION ALL ".join(first),
        rows=" UNION ALL ".join(of_one),
        number=" + ".join(_COUNT.format(one=one) for one in every),
        during=_DURING,
        named=_NAMED,
        names=_NAMES,
        own_keys=_OWN_KEYS,
        held_directly=_ON_EITHER.format(**own),
        held_through=_ON_EITHER.format(**brought),
    )
