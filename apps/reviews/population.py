"""Who and what a campaign is about, frozen by SQL: a million items never pass through Python.

An item is an assignment that stands and could be removed: held directly; the membership of a group, with everything the
group brings; or what a group itself holds. Its reviewer follows from a table of rules, tried in order, and is never
somebody whose own access it is. See `_RULES`.

**Digests.** Each row is written as text, hashed with SHA-256, and the hexadecimal hashes are joined in the order of the
ids and hashed again. A population's row is `<assignment id>|<frozen as jsonb writes it>`: keys ordered by length, then
bytes, with ", " and ": " between (Python: `json.dumps(row, ensure_ascii=False)` with keys sorted so). A sign-off's row is
`<item id>|<choice>|<reason>|<decided_at in UTC as 2026-11-24T13:20:05.123456Z>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection as database

from apps.inventory.models.access import PRIVILEGED, Privilege
from apps.inventory.models.holders import GROUPS
from apps.inventory.models.resources import Environment
from apps.inventory.succession import ACTING
from apps.reviews.models import Campaign

# The worst first: in a queue, and in what a group brings.
RANKED = [Privilege.ADMIN, Privilege.UNKNOWN, Privilege.PRIVILEGED, Privilege.WRITE, Privilege.READ, Privilege.NONE]
MOST_BROUGHT = 100  # how much of what a group brings is written into each item; the count is always exact

# What is in scope: entitlements themselves, and groups that hold one of them. Then every open assignment to either, with
# what decides whether it is an item.
_SCOPE = """
WITH able AS (  -- who reviews as whom: people whose user can sign in, also in the place of somebody who left
    SELECT acting.id, i.user_id, i.name,
           CASE WHEN gone.id <> i.id THEN ', in place of ' || gone.name || ', who left' ELSE '' END AS instead
    FROM (/* acting */) acting
    JOIN inventory_identity gone ON gone.id = acting.id
    JOIN inventory_identity i ON i.id = acting.acting_id
    JOIN users_user u ON u.id = i.user_id AND u.is_active
), mail AS (  -- no proof of who somebody is, but enough to keep them from reviewing it
    SELECT lower(email) AS address, id FROM users_user
), scope AS (
    SELECT e.id FROM inventory_entitlement e LEFT JOIN inventory_resource r ON r.id = e.resource_id
    WHERE e.connection_id = %(connection)s AND e.group_id IS NULL AND NOT e.is_ours
      AND (%(environments)s::text[] = '{}' OR coalesce(r.environment, 'unknown') = ANY(%(environments)s::text[]))
      AND (%(privileges)s::text[] = '{}' OR e.privilege = ANY(%(privileges)s::text[]))
      AND (%(resource)s::bigint IS NULL OR e.resource_id = %(resource)s::bigint)
), brought AS (  -- what each group holds, whether it stands or not: a member has it
    SELECT p.id AS group_id, e.id AS entitlement_id, e.id IN (SELECT id FROM scope) AS is_in_scope
    FROM inventory_principal p
    JOIN inventory_assignment a ON a.principal_id = p.id AND upper_inf(a.period)
    JOIN inventory_entitlement e ON e.id = a.entitlement_id AND NOT e.is_ours
    WHERE p.connection_id = %(connection)s AND p.kind = ANY(%(groups)s)
), bringing AS (
    SELECT group_id FROM brought GROUP BY group_id HAVING bool_or(is_in_scope)
), found AS (
    SELECT a.id, p.kind = ANY(%(groups)s) AS is_group, a.is_standing, p.is_reserved,
           EXISTS (SELECT FROM grants_grant g WHERE g.principal_id = a.principal_id
                   AND g.entitlement_id = a.entitlement_id AND g.origin <> 'found'
                   AND g.state IN ('pending', 'provisioning', 'active', 'revoking')) AS is_granted
    FROM inventory_assignment a
    JOIN inventory_principal p ON p.id = a.principal_id
    JOIN inventory_entitlement e ON e.id = a.entitlement_id AND NOT e.is_ours
    LEFT JOIN inventory_identity i ON i.id = p.identity_id
    WHERE a.connection_id = %(connection)s AND upper_inf(a.period) AND a.attributes -> 'is_ours' IS DISTINCT FROM 'true'
      /* people */
      AND (e.id IN (SELECT id FROM scope) OR e.group_id IN (SELECT group_id FROM bringing))
      AND CASE WHEN p.kind = ANY(%(groups)s) THEN 'group'
               ELSE coalesce(i.kind, CASE p.kind WHEN 'idc_user' THEN 'human' ELSE 'machine' END)
          END = ANY(%(holders)s)
), item AS (
    SELECT a.id AS assignment_id, p.id AS principal_id, e.id AS entitlement_id, i.id AS identity_id,
           CASE WHEN f.is_group THEN 'group' WHEN e.group_id IS NOT NULL THEN 'membership' ELSE 'direct' END AS kind,
           coalesce(i.name, p.name) AS holder_name,
           concat(e.name, ' in ' || r.name) AS holding_name,
           CASE WHEN i.kind = 'human' OR (i.id IS NULL AND p.kind = 'idc_user') THEN 'human'
                WHEN f.is_group THEN 'group' WHEN l.id IS NOT NULL THEN 'login' ELSE 'machine' END AS sort,
           e.name AS entitlement_name, r.name AS account_name, o.name AS login_of,
           i.manager_id, i.owner_id, i.successor_id, o.manager_id AS login_manager_id,
           p.owner_id AS group_owner_id, e.owner_id AS entitlement_owner_id, r.owner_id AS account_owner_id,
           CASE WHEN i.kind = 'human' THEN coalesce(i.user_id, im.id)
                WHEN l.id IS NOT NULL THEN coalesce(o.user_id, om.id) END AS subject_user_id
    FROM found f
    JOIN inventory_assignment a ON a.id = f.id
    JOIN inventory_principal p ON p.id = a.principal_id
    JOIN inventory_entitlement e ON e.id = a.entitlement_id
    LEFT JOIN inventory_resource r ON r.id = e.resource_id
    LEFT JOIN inventory_identity i ON i.id = p.identity_id
    LEFT JOIN LATERAL (  -- an IAM user with a console password is somebody's login: its owner's
        SELECT c.id FROM inventory_credential c
        WHERE p.kind = 'iam_user' AND c.principal_id = p.id AND c.kind = 'password' AND c.is_active AND c.ended_at IS NULL
        LIMIT 1) l ON true
    LEFT JOIN inventory_identity o ON o.id = i.owner_id
    LEFT JOIN mail im ON im.address = lower(i.email) AND i.email <> ''
    LEFT JOIN mail om ON om.address = lower(o.email) AND o.email <> ''
    WHERE f.is_standing AND NOT f.is_reserved
), member AS (
    SELECT e.group_id, coalesce(i.user_id, m.id) AS user_id
    FROM inventory_assignment a
    JOIN inventory_entitlement e ON e.id = a.entitlement_id AND e.group_id IS NOT NULL
    JOIN inventory_principal p ON p.id = a.principal_id
    JOIN inventory_identity i ON i.id = p.identity_id
    LEFT JOIN mail m ON m.address = lower(i.email) AND i.email <> ''
    WHERE a.connection_id = %(connection)s AND upper_inf(a.period) AND coalesce(i.user_id, m.id) IS NOT NULL
)""".replace("/* acting */", ACTING)

# Who reviews an item: the first of these who can sign in and whose own access it is not. (sort of holder, whose identity,
# rule, why). Then the campaign's fallback, then whoever launches it; with nobody left there is no launch.
_RULES = (
    ("human", "manager_id", "manager", "'Manager of ' || holder_name"),
    ("login", "login_manager_id", "manager", "'Manager of ' || login_of || ', whose login this is'"),
    ("machine", "owner_id", "owner", "'Owner of ' || holder_name"),
    ("machine", "successor_id", "owner", "'Successor of the owner of ' || holder_name"),
    ("group", "group_owner_id", "owner", "'Owner of the group ' || holder_name"),
    ("group", "entitlement_owner_id", "owner", "'Owner of ' || entitlement_name"),
    ("group", "account_owner_id", "owner", "'Owner of the account ' || account_name"),
)
# Only managers are stood in for: an owner's things are handed over, or have a successor.
_RULE = """
    SELECT {rank} AS rank, t.assignment_id, able.user_id, '{rule}' AS rule, {why} || able.instead AS why
    FROM item t JOIN able ON able.id = t.{whose} WHERE t.sort = '{sort}'
      AND (able.instead = '' OR '{rule}' = 'manager')"""
_LAST = """
    SELECT {rank}, t.assignment_id, able.user_id, '{rule}',
           CASE t.sort WHEN 'human' THEN '{who}: no manager of ' || holder_name || ' can review it'
                       WHEN 'login' THEN '{who}: no manager of ' || coalesce(login_of, 'its owner') || ' can review it'
                       WHEN 'machine' THEN '{who}: no owner of ' || holder_name || ' can review it'
                       ELSE '{who}: nobody who owns ' || holder_name || ' or what it holds can review it' END
    FROM item t JOIN able ON able.user_id = %({rule})s AND able.instead = ''"""
_CANDIDATES = [
    _RULE.format(rank=rank, sort=sort, whose=whose, rule=rule, why=why)
    for rank, (sort, whose, rule, why) in enumerate(_RULES)
] + [
    _LAST.format(rank=98, rule="fallback", who="Fallback"),
    _LAST.format(rank=99, rule="launcher", who="Launched the campaign, and the fallback would review their own access"),
]
_REVIEWERS = f"""{_SCOPE}, candidate AS ({" UNION ALL".join(_CANDIDATES)}
), chosen AS (
    SELECT DISTINCT ON (t.assignment_id) t.assignment_id, c.user_id, c.rule, c.why
    FROM item t JOIN candidate c ON c.assignment_id = t.assignment_id
    WHERE c.user_id IS DISTINCT FROM t.subject_user_id
      AND (t.kind <> 'group' OR (t.principal_id, c.user_id) NOT IN (SELECT group_id, user_id FROM member))
    ORDER BY t.assignment_id, c.rank
)"""  # noqa: S608  constants of this file only
_COUNTS = """
    SELECT (SELECT count(*) FROM item) AS items,
           (SELECT count(*) FROM chosen) AS placed,
           (SELECT count(DISTINCT user_id) FROM chosen) AS reviewers,
           (SELECT count(*) FROM chosen WHERE rule IN ('fallback', 'launcher')) AS by_fallback,
           (SELECT t.holder_name FROM item t WHERE t.assignment_id NOT IN (SELECT assignment_id FROM chosen) LIMIT 1)
               AS unplaced,
           count(*) FILTER (WHERE NOT is_standing AND is_granted) AS granted,
           count(*) FILTER (WHERE NOT is_standing AND NOT is_granted) AS unintended,
           count(*) FILTER (WHERE is_standing AND is_reserved) AS reserved
    FROM found"""
_INSTANT = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_PREVIEW = _REVIEWERS + _COUNTS
_FREEZE = f"""{_REVIEWERS}, brings AS (
    SELECT group_id, count(*) AS total, jsonb_agg(jsonb_build_object(
               'entitlement', name, 'account', account, 'account_id', account_id, 'environment', environment,
               'privilege', privilege, 'in_scope', is_in_scope) ORDER BY place) FILTER (WHERE place <= {MOST_BROUGHT})
               AS listed
    FROM (
        SELECT b.group_id, b.is_in_scope, e.name, e.privilege, r.name AS account, r.external_id AS account_id,
               r.environment, row_number() OVER (PARTITION BY b.group_id ORDER BY b.is_in_scope DESC,
               array_position(%(ranked)s, e.privilege::text), e.name, e.id) AS place
        FROM brought b JOIN inventory_entitlement e ON e.id = b.entitlement_id
        LEFT JOIN inventory_resource r ON r.id = e.resource_id
        WHERE b.group_id IN (SELECT group_id FROM bringing)
    ) listed GROUP BY group_id
), frozen AS (
    INSERT INTO reviews_reviewitem (campaign_id, kind, assignment_id, principal_id, entitlement_id, identity_id,
        holder_name, holding_name, privilege, reviewer_id, rule, reviewer_rule, subject_user_id, frozen,
        choice, reason, is_bulk, problem)
    SELECT %(campaign)s, t.kind, t.assignment_id, t.principal_id, t.entitlement_id, t.identity_id,
           t.holder_name, t.holding_name, e.privilege, c.user_id, c.rule, left(c.why, 700), t.subject_user_id,
           jsonb_build_object(
               'holder', t.holder_name, 'holder_kind', CASE t.sort WHEN 'login' THEN 'machine' ELSE t.sort END,
               'title', i.title, 'department', i.department, 'email', i.email, 'classification', i.classification,
               'manager', m.name, 'owner', o.name,
               'login', p.name, 'login_kind', p.kind, 'login_id', p.external_id,
               'entitlement', e.name, 'entitlement_kind', e.kind, 'entitlement_id', e.external_id,
               'description', e.description,
               'account', r.name, 'account_id', r.external_id, 'environment', r.environment,
               'privilege', e.privilege, 'privilege_reason', e.privilege_reason,
               'privilege_statement', e.privilege_statement, 'can_escalate', e.can_escalate,
               'is_sensitive_read', e.is_sensitive_read,
               'brings', coalesce(b.listed, '[]'), 'brings_total', coalesce(b.total, 0),
               'since', {_INSTANT.format("lower(a.period)")}, 'last_used_at', {_INSTANT.format("p.last_used_at")},
               'reviewer', u.name, 'reviewer_rule', left(c.why, 700)),
           'undecided', '', false, ''
    FROM item t
    JOIN chosen c ON c.assignment_id = t.assignment_id
    JOIN inventory_assignment a ON a.id = t.assignment_id
    JOIN inventory_principal p ON p.id = t.principal_id
    JOIN inventory_entitlement e ON e.id = t.entitlement_id
    JOIN users_user u ON u.id = c.user_id
    LEFT JOIN inventory_resource r ON r.id = e.resource_id
    LEFT JOIN inventory_identity i ON i.id = t.identity_id
    LEFT JOIN inventory_identity m ON m.id = i.manager_id
    LEFT JOIN inventory_identity o ON o.id = coalesce(i.owner_id, p.owner_id)
    LEFT JOIN brings b ON b.group_id = e.group_id
    ORDER BY c.user_id, t.holder_name, t.principal_id, array_position(%(ranked)s, e.privilege::text), t.holding_name,
             t.assignment_id
    RETURNING 1
) SELECT counts.*, (SELECT count(*) FROM frozen) AS frozen FROM ({_COUNTS}) counts"""  # noqa: S608  the same
_DIGEST = """
    SELECT encode(sha256(convert_to(coalesce(string_agg(encode(sha256(convert_to(line, 'UTF8')), 'hex'), '' ORDER BY id),
                                             ''), 'UTF8')), 'hex') FROM ({}) lines"""
_OF_POPULATION = _DIGEST.format("""
    SELECT assignment_id AS id, concat(assignment_id, '|', frozen::text) AS line
    FROM reviews_reviewitem WHERE campaign_id = %s""")
_OF_DECISIONS = _DIGEST.format(f"""
    SELECT id, concat_ws('|', id, choice, reason, {_INSTANT.format("decided_at")}) AS line
    FROM reviews_reviewitem WHERE id = ANY(%s)""")  # noqa: S608  the same

LEFT_OUT = ("granted", "unintended", "reserved")  # open in scope, and no items: each with a count


@dataclass(frozen=True)
class Population:
    """What is, or would be, frozen: `items`, of which `placed` have a reviewer; `unplaced` names one that has none."""

    items: int
    placed: int
    reviewers: int
    by_fallback: int
    unplaced: str | None
    left_out: dict[str, int] = field(default_factory=dict)


def preview(campaign: Campaign, *, launcher: int) -> Population:
    """What launching now would freeze. One statement that writes nothing."""
    return _run(_PREVIEW, campaign, launcher)


def freeze(campaign: Campaign, *, launcher: int) -> Population:
    """Write an item for everything in scope that has a reviewer. One INSERT … SELECT, whatever its size; the caller
    refuses, and rolls back, when something could not be placed."""
    return _run(_FREEZE, campaign, launcher)


def digest(campaign: Campaign) -> str:
    """The digest of a campaign's frozen items, as they are in the database now."""
    return _digest(_OF_POPULATION, campaign.pk)


def digest_of_decisions(items: Iterable[int]) -> str:
    """The digest of what was decided about these items."""
    return _digest(_OF_DECISIONS, list(items))


def _run(statement: str, campaign: Campaign, launcher: int) -> Population:
    if campaign.people:  # written only then, so that an index finds the few rows
        statement = statement.replace("/* people */", "AND p.identity_id = ANY(%(people)s::bigint[])")
    with database.cursor() as cursor:
        cursor.execute(statement, _params(campaign, launcher))
        names = [column.name for column in cursor.description or ()]
        row = dict(zip(names, cursor.fetchone() or (), strict=True))
    if row.get("frozen", row["placed"]) != row["placed"]:
        raise RuntimeError("not every item that has a reviewer was written")
    return Population(
        left_out={name: row[name] for name in LEFT_OUT},
        **{name: row[name] for name in ("items", "placed", "reviewers", "by_fallback", "unplaced")},
    )


def _params(campaign: Campaign, launcher: int) -> dict[str, Any]:
    environments = set(campaign.environments)
    if Environment.PRODUCTION in environments:
        environments.add(Environment.UNKNOWN)  # what nobody has classified counts as production everywhere
    return {
        "campaign": campaign.pk,
        "connection": campaign.connection_id,
        "environments": sorted(environments),
        "privileges": sorted(map(str, PRIVILEGED)) if campaign.privileged_only else [],
        "resource": campaign.resource_id,
        "people": list(campaign.people),
        "holders": list(campaign.holders),
        "groups": sorted(map(str, GROUPS)),
        "ranked": [*map(str, RANKED)],
        "fallback": campaign.fallback_id,
        "launcher": launcher,
    }


def _digest(statement: str, key: int | list[int]) -> str:
    with database.cursor() as cursor:
        cursor.execute(statement, [key])
        return str((cursor.fetchone() or ("",))[0])
