"""Whose login an IAM user is: what the rules propose, and carrying out what was answered. A few statements, whatever the
size, run after each reading and after each answer.

IAM users belong to no directory, so their names and tags are all there is, and whoever runs an account writes those. So
one rule alone links by itself, the others propose, and nothing a rule linked lets anybody ask for more with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.inventory.models import Connection

USER_NAME, TAG, DIRECTORY, LOCAL_PART = "user_name", "tag", "directory_name", "local_part"


@dataclass(frozen=True)
class Rule:
    """One way to tell whose login an IAM user is, as people read it. `is_exact`: it links by itself."""

    key: str
    name: str
    sentence: str
    is_exact: bool = False


# In the order in which they are asked: the first that names somebody proposes.
RULES = (
    Rule(
        USER_NAME,
        "The user name is a work e-mail",
        "The whole name equals the e-mail of exactly one person who is here, there is a console password, and no tag names"
        " somebody else.",
        is_exact=True,
    ),
    Rule(TAG, "A tag holds a work e-mail", "A tag such as email or owner equals the e-mail of exactly one person."),
    Rule(
        DIRECTORY,
        "The user name is somebody's in Identity Center",
        "The name equals the Identity Center user name of exactly one person.",
    ),
    Rule(
        LOCAL_PART,
        "The user name is the first part of a work e-mail",
        "The name equals what stands before the @ of exactly one person's e-mail.",
    ),
)
PERSON_TAGS = ("email", "e-mail", "mail", "user-email", "person")
TWO = "More than one person fits this, so nobody is proposed."

_ASK = """
WITH person AS (
    SELECT id, upper(email) AS address, upper(split_part(email, '@', 1)) AS local FROM inventory_identity
    WHERE connection_id = %(connection)s AND kind = 'human' AND ended_at IS NULL AND email LIKE '%%_@_%%'
), question AS (
    SELECT p.id, upper(p.name) AS name, p.attributes, coalesce(p.attributes ->> 'unique_id', '') AS unique_id,
           EXISTS (SELECT FROM inventory_credential c WHERE c.principal_id = p.id AND c.kind = 'password'
                   AND c.is_active AND c.ended_at IS NULL) AS has_password
    FROM inventory_principal p
    WHERE p.connection_id = %(connection)s AND p.kind = 'iam_user' AND p.ended_at IS NULL AND NOT p.is_reserved
), asked AS (
    SELECT q.* FROM question q LEFT JOIN inventory_correlation c ON c.principal_id = q.id
    WHERE c.id IS NULL AND q.has_password OR c.decision IN ('', 'later')
), fits AS (
    SELECT q.id, 1 AS rank, 'user_name' AS rule, person.id AS person FROM asked q JOIN person ON person.address = q.name
    UNION ALL
    SELECT q.id, 2, 'tag', person.id FROM asked q
    CROSS JOIN LATERAL jsonb_each_text(CASE jsonb_typeof(q.attributes -> 'tags') WHEN 'object'
                                       THEN q.attributes -> 'tags' ELSE '{}' END) AS tag
    JOIN person ON person.address = upper(btrim(tag.value)) WHERE lower(tag.key) = ANY(%(tags)s)
    UNION ALL
    SELECT q.id, 3, 'directory_name', d.identity_id FROM asked q
    JOIN inventory_principal d ON d.connection_id = %(connection)s AND d.kind = 'idc_user' AND d.ended_at IS NULL
         AND upper(d.name) = q.name
    JOIN person ON person.id = d.identity_id
    UNION ALL
    SELECT q.id, 4, 'local_part', person.id FROM asked q JOIN person ON person.local = q.name
), named AS (
    SELECT id, rank, rule, count(DISTINCT person) AS people, min(person) AS person FROM fits GROUP BY id, rank, rule
), best AS (
    SELECT DISTINCT ON (id) id, rule, people, person FROM named ORDER BY id, rank
), sure AS (  -- by the user name, and no tag says otherwise
    SELECT id FROM fits WHERE rank <= 2 GROUP BY id
    HAVING count(DISTINCT person) = 1 AND bool_or(rank = 1)
), answer AS (
    SELECT q.id, q.unique_id, coalesce(b.rule, '') AS rule, CASE WHEN b.people = 1 THEN b.person END AS person,
           CASE WHEN b.people > 1 THEN %(two)s ELSE '' END AS note,
           %(with_rules)s AND q.has_password AND sure.id IS NOT NULL AS is_exact
    FROM asked q LEFT JOIN best b ON b.id = q.id LEFT JOIN sure ON sure.id = q.id
), written AS (
    INSERT INTO inventory_correlation AS c
        (principal_id, unique_id, asked_at, proposed_id, rule, note, decision, person_id, decided_at, reason)
    SELECT id, unique_id, %(now)s, person, rule, note, CASE WHEN is_exact THEN 'person' ELSE '' END,
           CASE WHEN is_exact THEN person END, CASE WHEN is_exact THEN %(now)s::timestamptz END, ''
    FROM answer
    ON CONFLICT (principal_id) DO UPDATE SET proposed_id = EXCLUDED.proposed_id, rule = EXCLUDED.rule,
        note = CASE WHEN c.asked_by_id IS NULL THEN EXCLUDED.note ELSE c.note END,
        unique_id = EXCLUDED.unique_id,
        decision = CASE WHEN c.decision = '' THEN EXCLUDED.decision ELSE c.decision END,
        person_id = CASE WHEN c.decision = '' THEN EXCLUDED.person_id END,
        decided_at = CASE WHEN c.decision = '' THEN EXCLUDED.decided_at ELSE c.decided_at END
    WHERE (c.proposed_id, c.rule, c.unique_id) IS DISTINCT FROM (EXCLUDED.proposed_id, EXCLUDED.rule, EXCLUDED.unique_id)
       OR c.asked_by_id IS NULL AND c.note <> EXCLUDED.note
       OR c.decision = '' AND EXCLUDED.decision <> ''
    RETURNING xmax = 0 AS is_new
) SELECT count(*) FILTER (WHERE is_new) FROM written"""

# Whose password is gone looks like nobody's login any more.
_DROP = """
DELETE FROM inventory_correlation c USING inventory_principal p
WHERE p.id = c.principal_id AND p.connection_id = %(connection)s AND c.decision = '' AND c.asked_by_id IS NULL
  AND NOT EXISTS (SELECT FROM inventory_credential k WHERE k.principal_id = p.id AND k.kind = 'password'
                  AND k.is_active AND k.ended_at IS NULL)"""


def _weight(row: str) -> str:
    """How much what a row says counts beside another about the same user: a person's word before a rule's, then the
    later one."""
    at = f"coalesce({row}.decided_at, CASE WHEN {row}.asked_by_id IS NOT NULL THEN {row}.asked_at END, '-infinity')"
    return f"(coalesce({row}.decided_by_id, {row}.asked_by_id) IS NOT NULL, {at})"


_ANSWER = (
    *("unique_id", "asked_at", "asked_by_id", "proposed_id", "rule", "note", "decision", "person_id", "decided_by_id"),
    *("decided_at", "until", "reason"),
)

# An IAM user that was renamed is still the same one: what a person last said about a unique id holds for each principal of
# the account that has it, also for the old name, or history would give that to somebody else. A rule spoke of the name. One
# look into the index of unique ids for each answer: fenced off (OFFSET 0), since all principals of the connection would be
# read in place of a few.
_CARRY_OVER = f"""
INSERT INTO inventory_correlation AS c (principal_id, {", ".join(_ANSWER)})
SELECT DISTINCT ON (p.id) p.id, {", ".join(f"s.{column}" for column in _ANSWER)}
FROM (
    SELECT s.*, same.id AS same_id FROM inventory_correlation s CROSS JOIN LATERAL (
        SELECT id FROM inventory_principal
        WHERE connection_id = %(connection)s AND (attributes ->> 'unique_id') = s.unique_id OFFSET 0
    ) same
    WHERE same.id <> s.principal_id AND s.unique_id <> '' AND coalesce(s.decided_by_id, s.asked_by_id) IS NOT NULL OFFSET 0
) s
JOIN inventory_principal q ON q.id = s.principal_id AND q.connection_id = %(connection)s
JOIN inventory_principal p ON p.id = s.same_id AND p.resource_id = q.resource_id AND p.kind = 'iam_user'
ORDER BY p.id, {_weight("s")} DESC
ON CONFLICT (principal_id) DO UPDATE SET {", ".join(f"{column} = EXCLUDED.{column}" for column in _ANSWER)}
WHERE c.unique_id NOT IN ('', EXCLUDED.unique_id) OR {_weight("c")} < {_weight("EXCLUDED")}"""  # noqa: S608  our own

# Another IAM user by the name of one that was decided about is another one: it is asked about anew.
_FORGET = """
UPDATE inventory_correlation c SET decision = '', person_id = NULL, decided_by_id = NULL, decided_at = NULL, until = NULL,
    reason = '', asked_by_id = NULL, note = '', unique_id = p.attributes ->> 'unique_id', asked_at = %(now)s
FROM inventory_principal p
WHERE p.id = c.principal_id AND p.connection_id = %(connection)s AND p.ended_at IS NULL AND c.decision <> ''
  AND c.unique_id <> '' AND c.unique_id <> p.attributes ->> 'unique_id'"""

_DIGEST = (
    "encode(sha256(convert_to(coalesce(string_agg(id || '>' || identity_id, ',' ORDER BY id), ''), 'UTF8')), 'hex')"
)

_LINK = f"""
WITH moved AS (
    UPDATE inventory_principal p SET identity_id = who.id
    FROM inventory_correlation c JOIN inventory_identity who ON who.id = c.person_id AND who.kind = 'human'
    WHERE c.principal_id = p.id AND c.decision = 'person' AND p.connection_id = %(connection)s AND p.kind = 'iam_user'
      AND who.connection_id = p.connection_id AND p.identity_id IS DISTINCT FROM who.id
    RETURNING p.id, p.identity_id
) SELECT count(*), {_DIGEST} FROM moved"""  # noqa: S608  our own

# Whom no answer gives to a person is a machine, also where the question itself is gone.
_UNLINK = f"""
WITH moved AS (
    UPDATE inventory_principal p SET identity_id = own.id
    FROM inventory_principal q
    JOIN inventory_identity person ON person.id = q.identity_id AND person.kind = 'human'
    LEFT JOIN inventory_correlation c ON c.principal_id = q.id AND c.decision = 'person' AND c.person_id IS NOT NULL
    LEFT JOIN inventory_identity own ON own.connection_id = q.connection_id AND own.external_id = q.external_id
         AND own.kind = 'machine'
    WHERE q.id = p.id AND c.id IS NULL AND p.connection_id = %(connection)s AND p.kind = 'iam_user'
    RETURNING p.id, p.identity_id
) SELECT count(*), {_DIGEST} FROM moved"""  # noqa: S608  the same

# The machine that an IAM user was taken for is kept for history while it is a person's, and is back when it is not.
_END = """
UPDATE inventory_identity own SET ended_at = %(now)s
FROM inventory_correlation c JOIN inventory_principal p ON p.id = c.principal_id
WHERE c.decision = 'person' AND p.connection_id = %(connection)s AND own.connection_id = p.connection_id
  AND own.external_id = p.external_id AND own.kind = 'machine' AND own.ended_at IS NULL AND p.identity_id = c.person_id"""
_RETURN = """
UPDATE inventory_identity own SET ended_at = NULL
FROM inventory_principal p
WHERE p.connection_id = %(connection)s AND p.kind = 'iam_user' AND p.ended_at IS NULL
  AND own.id = p.identity_id AND own.kind = 'machine' AND own.ended_at IS NOT NULL"""


@transaction.atomic
def correlate(connection: Connection, *, by: Any, with_rules: bool) -> None:
    """Ask whose the IAM users with a password are, and make principals and identities say what was answered.

    `with_rules`: let the exact rule link, which needs a directory that was read completely, or "exactly one person" is
    not known. One event when anything moved, with counts and a digest of what belongs to whom now.
    """
    # One at a time. New rows may still refer to the connection.
    Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)
    asked: dict[str, Any] = {
        "connection": connection.pk,
        "now": timezone.now(),
        "tags": sorted({*PERSON_TAGS, *(tag.lower() for tag in settings.OWNER_TAGS)}),
        "two": TWO,
        "with_rules": with_rules,
    }
    with database.cursor() as cursor:
        cursor.execute(_CARRY_OVER, asked)
        carried_over = cursor.rowcount
        cursor.execute(_FORGET, asked)
        forgotten = cursor.rowcount
        cursor.execute(_DROP, asked)
        cursor.execute(_ASK, asked)
        new = cursor.fetchone()[0]
        cursor.execute(_UNLINK, asked)
        unlinked, unlinked_digest = cursor.fetchone()
        cursor.execute(_LINK, asked)
        linked, linked_digest = cursor.fetchone()
        cursor.execute(_END, asked)
        cursor.execute(_RETURN, asked)
    if new or carried_over or forgotten or unlinked or linked:
        data = {"asked": new, "carried_over": carried_over, "asked_again": forgotten}
        data |= {"linked": linked, "unlinked": unlinked}
        data |= {"digests": {"linked": linked_digest, "unlinked": unlinked_digest}}
        audit.record("inventory.connection.correlated", by=by, subject=connection, data=data)
