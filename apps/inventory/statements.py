"""The statements of `history`: who held what on a day, and what changed between two.

Rows are found from one side. What is held directly are the subject's own rows. What comes through a group is found from
`brings`: the memberships of a person, or the rows of the groups that hold it, each cut to the days; the other half of a
path is then one walk in an index for each of them. Both indexes carry the period and the key, so that no row costs a visit
to the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from apps.inventory.models import Entitlement, Identity, Resource

Subject = Identity | Entitlement | Resource


@dataclass(frozen=True)
class _Side:
    """From where the rows of a subject are found. `of` are the keys that its `column` of an assignment may have, `brings`
    what comes through a group, `joined` the other half `o` of it. `keys` name a path of both halves; `same` and `pair` find
    those of one pair of holder and entitlement. A list is told in this `order`, page by page: by `first` each source gives
    no more than the page needs, where its index has that order."""

    of: str
    column: str
    brings: str
    keys: str
    joined: str
    same: str
    pair: str
    order: str
    first_direct: str = ""
    first_through: str = ""


_FIRST = "ORDER BY {row}.principal_id, {row}.id LIMIT %(start)s + %(limit)s"
_PERSON = _Side(
    of="(SELECT id FROM inventory_principal WHERE identity_id = %(subject)s)",
    column="principal_id",
    brings="""
        SELECT m.id, m.principal_id, x.group_id, m.period FROM {of} w
        JOIN inventory_assignment m ON m.principal_id = w.id
        JOIN inventory_entitlement x ON x.id = m.entitlement_id AND x.group_id IS NOT NULL
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
    brings="""
        SELECT g.id, g.principal_id AS group_id, g.entitlement_id, x.id AS membership, g.period FROM {of} w
        JOIN inventory_assignment g ON g.entitlement_id = w.id
        JOIN inventory_entitlement x ON x.group_id = g.principal_id
        WHERE {wanted}
    """,
    keys="b.id AS assignment_id, o.id AS via_id, o.principal_id, b.entitlement_id",
    joined="o.entitlement_id = b.membership",
    same="b.entitlement_id = s.entitlement_id",
    pair="o.principal_id = s.principal_id",
    order="s.entitlement_id, s.principal_id",
    first_direct=_FIRST.format(row="a"),
    first_through=_FIRST.format(row="o"),
)
_ACCOUNT = replace(_ENTITLEMENT, of="(SELECT id FROM inventory_entitlement WHERE resource_id = %(subject)s)")
_SIDES: dict[type[Subject], _Side] = {Identity: _PERSON, Entitlement: _ENTITLEMENT, Resource: _ACCOUNT}

# A group's own row is left out where its members are told; a group nobody can be a member of stands for itself.
_DIRECTLY = """
    SELECT d.* FROM {of} w CROSS JOIN LATERAL (
        SELECT a.id AS assignment_id, NULL::bigint AS via_id, a.principal_id, a.entitlement_id, {flags} AS flags
        FROM inventory_assignment a
        WHERE a.{column} = w.id AND {apart} AND {held}
        {first}
    ) d
"""
# Periods that overlap two by two have a moment in common, so that it is enough to look at the other half's: with the day
# itself where this half covers it, since a constant is compared in half the time.
_CUT = "g.period * %(day{day})s AS on{day}, g.period @> %(day{day})s AS whole{day}"
_OTHER_HALF = "CASE WHEN b.whole{day} THEN o.period && %(day{day})s ELSE o.period && b.on{day} END"
_THROUGH = """
    SELECT t.* FROM brings b CROSS JOIN LATERAL (
        SELECT {keys}, {flags} AS flags FROM inventory_assignment o WHERE {joined} AND {held}
        {first}
    ) t
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
    WITH brings AS MATERIALIZED (SELECT g.*, {cut} FROM ({brings}) g), told AS MATERIALIZED (
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
    WITH brings AS MATERIALIZED (SELECT g.*, {cut} FROM ({brings}) g)
    SELECT NULL, s.assignment_id, s.via_id, {during}, {named}
    FROM ({all}) s {names}
    ORDER BY s.assignment_id, s.via_id
"""
# Somebody who held the same by another path on the other day held it on both. Only the pairs that are shown are asked by
# which paths and since when. OFFSET 0: one look into the index for each row, whatever the planner expects of it.
_COMPARE = """
    WITH brings AS MATERIALIZED (SELECT g.*, {cut} FROM ({brings}) g), pairs AS MATERIALIZED (
        SELECT ARRAY[count(*) FILTER (WHERE flags = 2), count(*) FILTER (WHERE flags = 1),
                     count(*) FILTER (WHERE flags = 3)] AS counts,
               array_agg(principal_id) FILTER (WHERE flags = %(flags)s) AS principals,
               array_agg(entitlement_id) FILTER (WHERE flags = %(flags)s) AS entitlements
        FROM (
            SELECT principal_id, entitlement_id, bit_or(flags) AS flags
            FROM ({all}) p GROUP BY principal_id, entitlement_id
        ) p
    ), shown AS MATERIALIZED (
        SELECT s.* FROM (
            SELECT unnest(principals) AS principal_id, unnest(entitlements) AS entitlement_id FROM pairs
        ) s
        ORDER BY {order}, s.principal_id OFFSET %(start)s LIMIT %(limit)s
    ), paths AS (
        SELECT d.* FROM shown s CROSS JOIN LATERAL (
            SELECT a.id AS assignment_id, NULL::bigint AS via_id, a.principal_id, a.entitlement_id, a.period AS during
            FROM inventory_assignment a
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
    SELECT counts, s.assignment_id, s.via_id, s.since, s.until, {named}
    FROM pairs LEFT JOIN (SELECT *, path[1] AS assignment_id, nullif(path[2], 0) AS via_id FROM told) s ON true {names}
    ORDER BY {order}, s.principal_id
"""


def on_a_day(subject: Subject) -> str:
    """Counts and one page of what was held on `%(day0)s`."""
    return _made(_DAY, subject, days=1)


def all_on_a_day(subject: Subject) -> str:
    """All of it."""
    return _made(_RECORDS, subject, days=1)


def between_two(subject: Subject) -> str:
    """Counts of what began, ended and stayed between `%(day0)s` and `%(day1)s`, and one page of what has these `%(flags)s`:
    a bit for each of the days on which it was held."""
    return _made(_COMPARE, subject, days=2)


def _made(template: str, subject: Subject, *, days: int) -> str:
    side = _SIDES[type(subject)]
    direct = [f"a.period && %(day{day})s" for day in range(days)]
    through = [_OTHER_HALF.format(day=day) for day in range(days)]
    # groups are members of no group, so that nobody looks for them among the members of one
    is_membership = isinstance(subject, Entitlement) and subject.group_id is not None
    sources = [(_DIRECTLY, direct, side.first_direct), (_THROUGH, through, side.first_through)][: 2 - is_membership]
    apart = "true" if is_membership else "a.principal_id NOT IN (SELECT group_id FROM brings)"

    def written(source: str, on: Sequence[str], first: str) -> str:
        flags = " + ".join(f"({one})::int * {2**day}" for day, one in enumerate(on)) if days > 1 else "1"
        held = on[0] if days == 1 else "true"
        return source.format(**vars(side), apart=apart, flags=flags, held=held, first=first)

    every = [written(source, on, "") for source, on, _ in sources]
    return template.format(
        **vars(side) | {"brings": side.brings.format(of=side.of, wanted=not is_membership)},
        cut=", ".join(_CUT.format(day=day) for day in range(days)),
        all=" UNION ALL ".join(every),
        number=" + ".join(_COUNT.format(one=one) for one in every),
        first=" UNION ALL ".join(written(*source) for source in sources),
        during=_DURING,
        named=_NAMED,
        names=_NAMES,
        held_directly=f"({' OR '.join(direct)})",
        held_through=f"({' OR '.join(through)})",
    )
