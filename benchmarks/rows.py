"""A company in the database, written set-based and skewed like real ones: a few accounts hold most of what there is, most
people are in a handful of groups, one group has half of everybody, one person can do everything everywhere. Roles let each
other in, some in long chains.

`fill(1_000_000)` is the design size: 1,000 accounts, 100,000 identities (60,000 people, 40,000 machines), 2,000 groups and
a million open assignments, and half as many that ended. Nothing is read or normalised here: `benchmarks.sync` measures
that. Columns that are not named get their field's default, so that a new one does not break it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection as database
from django.db import models, transaction

from apps.inventory.models import Connection, Correlation, Credential, Entitlement, Identity, Principal, Resource
from apps.inventory.models.connections import ScopeScan, SyncRun
from apps.users.models import User
from benchmarks import ways

RUNS = 60  # complete readings that are kept, each with a row for each account
SETS = 60  # permission sets; the first are provisioned nearly everywhere, the last in few accounts

Rows = tuple[type[models.Model], str, dict[str, str]]  # what, FROM where, column: SQL


@dataclass(frozen=True)
class Company:
    """How much there is of what."""

    assignments: int

    @property
    def accounts(self) -> int:
        return max(20, self.assignments // 1000)

    @property
    def people(self) -> int:
        return self.assignments * 6 // 100

    @property
    def machines(self) -> int:
        return self.assignments * 4 // 100

    @property
    def groups(self) -> int:
        return max(60, self.assignments // 500)

    @property
    def members(self) -> int:
        """Of the largest group: half of all identities."""
        return (self.people + self.machines) // 2

    @property
    def numbers(self) -> dict[str, int]:
        names = ("assignments", "accounts", "people", "machines", "groups", "members")
        return {name: getattr(self, name) for name in names} | {"sets": SETS, "runs": RUNS}


def fill(assignments: int) -> Company:
    """Write a company of this size into an empty database."""
    company = Company(assignments)
    with transaction.atomic(), database.cursor() as cursor:
        cursor.execute("SELECT setseed(0.42)")
        cursor.execute("SET LOCAL session_replication_role = replica")  # foreign keys hold by how rows are chosen
        org = Connection.objects.create(name="aws", kind=Connection.Kind.AWS)
        numbers = {"org": org.pk, **company.numbers}
        for model, source, values in _ROWS:
            _insert(cursor, model, source, values, numbers)
            cursor.execute("ANALYZE")
        for statement in (*_LINKS, ways.TRUSTS):
            cursor.execute(statement, numbers)
        for pairs in _HELD:
            cursor.execute(_HOLD.format(pairs=pairs), numbers)
            cursor.execute("ANALYZE inventory_assignment")
        cursor.execute(_ENDED)
    with database.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return company


def _insert(
    cursor: Any, model: type[models.Model], source: str, values: dict[str, str], numbers: dict[str, int]
) -> None:
    """INSERT … SELECT `values` FROM `source`; what is not named gets its default."""
    values, params = dict(values), dict[str, Any](numbers)
    for field in model._meta.concrete_fields:
        if field.column in values or field.primary_key or field.null or field.db_default is not models.NOT_PROVIDED:
            continue
        params[f"default_{field.column}"] = field.get_db_prep_save(field.get_default(), database)
        values[field.column] = f"%(default_{field.column})s"
    columns = ", ".join(f'"{column}"' for column in values)
    chosen = ", ".join(values.values())
    cursor.execute(f'INSERT INTO "{model._meta.db_table}" ({columns}) SELECT {chosen} {source}', params)


_FIRST = """(ARRAY['Alice','Bob','Carol','Dan','Erin','Frank','Grace','Heidi','Ivan','Judy','Karl','Lena','Marta','Noor',
    'Olga','Priya'])[1 + (hashint4(n) & 15)]"""
_LAST = """(ARRAY['Moreau','Lindqvist','Okafor','Berg','Kowalska','Raman','Silva','Tanaka','Haddad','Novak','Meyer',
    'Rossi'])[1 + (n / 16) %% 12]"""
_YEARS = "now() - interval '2 years'"

_ROWS: tuple[Rows, ...] = (
    (
        User,
        "FROM generate_series(1, 20) n",
        {
            "email": "format('member%%s@example.com', n)",
            "name": "format('Person %%s', n)",
            "password": "'!'",
            "is_active": "true",
            "joined_at": "now() - interval '1 year'",
        },
    ),
    (
        Resource,
        "FROM generate_series(1, %(accounts)s) n",
        {
            "connection_id": "%(org)s",
            "external_id": "(100000000000 + n)::text",
            "name": """format('%%s-%%s', (ARRAY['payments','search','ledger','web','data','ml','iot','core'])[1 + n %% 8],
                n)""",
            "path": "format('Workloads/%%s', (ARRAY['Production','Staging','Development'])[1 + n %% 3])",
            "environment": "(ARRAY['production','staging','development'])[1 + n %% 3]",
            "first_seen_at": _YEARS,
        },
    ),
    (
        Identity,
        "FROM generate_series(1, %(people)s) n",
        {
            "connection_id": "%(org)s",
            "kind": "'human'",
            "external_id": "format('user-%%s', n)",
            "name": f"format('%%s %%s %%s', {_FIRST}, {_LAST}, n)",
            "email": "format('person%%s@example.com', n)",
            "title": "(ARRAY['Engineer','Senior engineer','Analyst','Manager','Designer'])[1 + n %% 5]",
            "department": "format('Department %%s', 1 + floor(120 * power(random() + 0 * n, 3))::int)",
            "first_seen_at": _YEARS,
            "ended_at": "CASE WHEN n %% 12 = 5 AND n > 200 THEN now() - random() * interval '2 years' END",
        },
    ),
    (
        Identity,
        "FROM generate_series(1, %(machines)s) n",
        {
            "connection_id": "%(org)s",
            "kind": "'machine'",
            "external_id": "format('arn:role/%%s', n)",
            "name": "format('%%s-%%s', (ARRAY['deploy','lambda','batch','api','etl','ci','backup','scan'])[1 + n %% 8], n)",
            "classification": """(ARRAY['service','service','service','service','irsa','irsa','github_oidc','cross_account',
                'third_party','same_account'])[1 + n %% 10]""",
            "evidence": "'Its trust policy lets lambda.amazonaws.com assume it.'",
            "first_seen_at": _YEARS,
            "ended_at": "CASE WHEN n %% 9 = 4 THEN now() - random() * interval '2 years' END",
        },
    ),
    (
        Principal,
        "FROM inventory_identity i WHERE kind = 'human'",
        {
            "connection_id": "%(org)s",
            "identity_id": "id",
            "kind": "'idc_user'",
            "external_id": "external_id",
            "name": "email",
            "first_seen_at": "first_seen_at",
            "ended_at": "ended_at",
        },
    ),
    (
        Principal,
        """FROM (SELECT i.*, 1 + floor(%(accounts)s * power(random(), 2))::int AS at FROM inventory_identity i
           WHERE kind = 'machine') i JOIN inventory_resource r ON r.external_id = (100000000000 + i.at)::text""",
        {
            "connection_id": "%(org)s",
            "identity_id": "i.id",
            "resource_id": "r.id",
            "kind": "CASE WHEN i.id %% 6 = 0 THEN 'iam_user' ELSE 'iam_role' END",
            "external_id": ways.ARN,
            "name": "i.name",
            "last_used_at": "CASE WHEN i.id %% 3 > 0 THEN now() - random() * interval '200 days' END",
            "first_seen_at": "i.first_seen_at",
            "ended_at": "i.ended_at",
        },
    ),
    (
        Principal,
        "FROM generate_series(1, %(groups)s) n",
        {
            "connection_id": "%(org)s",
            "kind": "'idc_group'",
            "external_id": "format('group-%%s', n)",
            "name": "CASE n WHEN 1 THEN 'everyone' WHEN 2 THEN 'platform-admins' ELSE format('team-%%s', n) END",
            "first_seen_at": _YEARS,
        },
    ),
    (  # permission sets where they are provisioned, once a pair
        Entitlement,
        """FROM inventory_resource r CROSS JOIN generate_series(1, %(sets)s) n
           WHERE n <= 3 OR (hashint8(r.id * 131 + n) & 1023) < 1024 * 4 / n""",
        {
            "connection_id": "%(org)s",
            "resource_id": "r.id",
            "kind": "'permission_set'",
            "external_id": "format('%%s@%%s', n, r.external_id)",
            "name": """CASE n WHEN 1 THEN 'AdministratorAccess' WHEN 2 THEN 'ViewOnly'
                ELSE format('PermissionSet%%s', n) END""",
            "privilege": """CASE n WHEN 1 THEN 'admin' WHEN 2 THEN 'read' ELSE
                (ARRAY['admin','privileged','write','write','read','read','read'])[1 + n %% 7] END""",
            "privilege_reason": "'It can do what its policy says.'",
            "privilege_statement": """'{"Effect": "Allow", "Action": "*", "Resource": "*"}'""",
            "documents": ways.document("n = 1 OR n %% 7 = 0", "n %% 5 = 0"),
            "first_seen_at": _YEARS,
        },
    ),
    (
        Entitlement,
        "FROM inventory_principal p WHERE kind = 'idc_group'",
        {
            "connection_id": "%(org)s",
            "group_id": "id",
            "kind": "'idc_group'",
            "external_id": "'membership:' || external_id",
            "name": "name",
            "privilege": "(ARRAY['admin','privileged','write','read'])[1 + id %% 4]",
            "privilege_reason": "'It brings what the group holds.'",
            "first_seen_at": "first_seen_at",
        },
    ),
    (  # policies attached in accounts: AWS's own are everywhere, the rest belong to one account
        Entitlement,
        """FROM inventory_resource r CROSS JOIN generate_series(1, 60) n
           WHERE n <= 12 OR (hashint8(r.id * 977 + n) & 1023) < 1024 * 12 / n""",
        {
            "connection_id": "%(org)s",
            "resource_id": "r.id",
            "kind": "CASE WHEN n %% 5 = 0 THEN 'iam_inline_policy' ELSE 'iam_policy' END",
            "external_id": "format('policy-%%s@%%s', n, r.external_id)",
            "name": "format('policy-%%s', n)",
            "privilege": """(ARRAY['admin','privileged','write','write','write','read','read','read','read','unknown'])
                [1 + n %% 10]""",
            "privilege_reason": "'It can do what its policy says.'",
            "documents": ways.document("n %% 10 = 0", "n %% 6 = 4"),
            "first_seen_at": _YEARS,
        },
    ),
    (
        Credential,
        "FROM inventory_principal p CROSS JOIN generate_series(1, 2) n WHERE p.kind = 'iam_user'",
        {
            "principal_id": "p.id",
            "kind": "(ARRAY['access_key', 'password'])[n]",
            "external_id": "format('AKIA%%s%%s', p.id, n)",
            "created_at": "now() - random() * interval '900 days'",
            "last_used_at": "CASE WHEN p.id %% 4 > 0 THEN now() - random() * interval '300 days' END",
            "first_seen_at": "p.first_seen_at",
        },
    ),
    (  # whose logins they are: a third is answered
        Correlation,
        "FROM inventory_principal p WHERE p.kind = 'iam_user' AND p.ended_at IS NULL",
        {
            "principal_id": "p.id",
            "rule": "(ARRAY['', 'user_name', 'tag'])[1 + p.id %% 3]",
            "decision": "CASE WHEN p.id %% 9 < 3 THEN 'machine' ELSE '' END",
            "decided_by_id": "CASE WHEN p.id %% 9 < 3 THEN (SELECT min(id) FROM users_user) END",
            "decided_at": "CASE WHEN p.id %% 9 < 3 THEN now() END",
        },
    ),
    (
        SyncRun,
        "FROM generate_series(1, %(runs)s) n",
        {
            "connection_id": "%(org)s",
            "state": "'complete'",
            "started_at": "now() - (CASE n WHEN 1 THEN 0 WHEN %(runs)s THEN 2900 ELSE n END) * interval '6 hours'",
            "finished_at": "now() - (CASE n WHEN 1 THEN 0 WHEN %(runs)s THEN 2900 ELSE n END) * interval '6 hours'",
            "beat_at": "now()",
            "done": "%(accounts)s",
            "total": "%(accounts)s",
        },
    ),
    (
        ScopeScan,
        "FROM inventory_syncrun s CROSS JOIN (SELECT id FROM inventory_resource UNION ALL SELECT NULL) r",
        {
            "run_id": "s.id",
            "resource_id": "r.id",
            "state": "'complete'",
            "started_at": "s.started_at",
            "finished_at": "s.finished_at",
        },
    ),
)

# managers have eight reports and one has two hundred; most machines and accounts have an owner; a few people sign in
_LINKS = (
    """UPDATE inventory_identity i SET manager_id = m.id, manager_source = 'Identity Center' FROM inventory_identity m
       WHERE i.kind = 'human' AND m.kind = 'human' AND i.id <> m.id AND m.external_id = format('user-%%s', CASE
           WHEN split_part(i.external_id, '-', 2)::int BETWEEN 300 AND 499 THEN 3
           ELSE 4 + split_part(i.external_id, '-', 2)::int / 8 END)""",
    """UPDATE inventory_identity i SET owner_id = o.id, owner_source = 'tag' FROM inventory_identity o
       WHERE i.kind = 'machine' AND i.id %% 5 > 0 AND o.kind = 'human' AND o.external_id = format('user-%%s', CASE
           WHEN i.id %% 100 = 1 THEN 3 ELSE 4 + i.id %% (%(people)s / 20) END)""",
    """UPDATE inventory_resource r SET owner_id = o.id, owner_source = 'tag' FROM inventory_identity o
       WHERE r.id %% 9 > 0 AND o.kind = 'human'
         AND o.external_id = format('user-%%s', CASE WHEN r.id %% 10 = 1 THEN 3 ELSE 4 + r.id %% (%(people)s / 20) END)""",
    """UPDATE inventory_identity i SET user_id = u.id, user_source = 'benchmark' FROM users_user u
       WHERE u.email = format('member%%s@example.com', split_part(i.external_id, '-', 2)) AND i.kind = 'human'""",
)

_HOLD = """
    INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
    SELECT DISTINCT ON (principal_id, entitlement_id) %(org)s::bigint, principal_id, entitlement_id,
           tstzrange(now() - power(random() + 0 * principal_id, 2) * interval '700 days', NULL),
           principal_id %% 10 > 0, '{{}}'::jsonb
    FROM ({pairs}) pairs ON CONFLICT DO NOTHING
"""
_PEOPLE = """(SELECT p.id, row_number() OVER (ORDER BY p.external_id) AS n FROM inventory_principal p
              WHERE p.kind = 'idc_user' AND p.ended_at IS NULL)"""
_GROUPS = "(SELECT id, row_number() OVER (ORDER BY id) AS n FROM inventory_principal WHERE kind = 'idc_group')"
_MEMBERSHIPS = """(SELECT e.id, row_number() OVER (ORDER BY e.group_id) AS n FROM inventory_entitlement e
                   WHERE e.group_id IS NOT NULL)"""
_SETS = """(SELECT e.id, row_number() OVER (ORDER BY hashint8(e.id)) AS n FROM inventory_entitlement e
            WHERE e.kind = 'permission_set')"""
_NUMBER_OF_SETS = "(SELECT count(*) FROM inventory_entitlement WHERE kind = 'permission_set')"

_HELD = (
    # what groups hold: the second one everything everywhere, the first one thing, the others some
    f"""SELECT g.id AS principal_id, e.id AS entitlement_id FROM {_GROUPS} g JOIN inventory_entitlement e
        ON g.n = 2 AND e.kind = 'permission_set' AND e.name = 'AdministratorAccess'
        UNION ALL
        SELECT g.id, (SELECT min(id) FROM inventory_entitlement WHERE kind = 'permission_set' AND name = 'ViewOnly')
        FROM {_GROUPS} g WHERE g.n = 1
        UNION ALL
        SELECT g.id, e.id FROM {_GROUPS} g
        CROSS JOIN LATERAL generate_series(1, 1 + (20 * power(random() + 0 * g.n, 4))::int) k
        JOIN {_SETS} e ON e.n = 1 + (g.n * 7919 + k * 104729) %% {_NUMBER_OF_SETS}
        WHERE g.n > 2""",  # noqa: S608
    # memberships: half of everybody in the first group, thirty in the second, the rest with long tails
    f"""SELECT p.id AS principal_id, m.id AS entitlement_id FROM {_PEOPLE} p JOIN {_MEMBERSHIPS} m
        ON (m.n = 1 AND p.n <= %(members)s) OR (m.n = 2 AND p.n <= 30) OR (p.n = 1 AND m.n <= 40)
        UNION ALL
        SELECT p.id, m.id FROM (
            SELECT p.id, 3 + floor((%(groups)s - 3) * power(random() + 0 * p.n, 2))::int AS at FROM {_PEOPLE} p
            CROSS JOIN LATERAL generate_series(1, 1 + (12 * power(random() + 0 * p.n, 2))::int) k) p
        JOIN {_MEMBERSHIPS} m ON m.n = p.at""",  # noqa: S608
    # machines hold policies of their own account, five each on average
    """SELECT p.id AS principal_id, e.id AS entitlement_id FROM (
           SELECT p.id, p.resource_id, 1 + floor(24 * power(random() + 0 * k, 1.5))::int AS at
           FROM inventory_principal p CROSS JOIN LATERAL generate_series(1, 2 + (p.id %% 6)::int) k
           WHERE p.kind IN ('iam_role', 'iam_user') AND p.ended_at IS NULL) p
       JOIN (SELECT id, resource_id, row_number() OVER (PARTITION BY resource_id ORDER BY id) AS n
             FROM inventory_entitlement WHERE kind IN ('iam_policy', 'iam_inline_policy')) e
         ON e.resource_id = p.resource_id AND e.n = p.at""",
    # the rest directly: people in accounts, some much more than others
    f"""SELECT p.id AS principal_id, e.id AS entitlement_id FROM (
            SELECT p.id, 1 + floor({_NUMBER_OF_SETS} * power(random() + 0 * k, 1.5))::int AS at
            FROM (SELECT *, CASE WHEN n = 1 THEN 1200 WHEN n %% 40 = 7 THEN 60 ELSE 20 END AS many FROM {_PEOPLE} p) p
            CROSS JOIN LATERAL generate_series(1, p.many) k ORDER BY p.n %% 17
        ) p JOIN {_SETS} e ON e.n = p.at
        LIMIT greatest(0, 1.03 * (%(assignments)s - (SELECT count(*) FROM inventory_assignment)))""",  # noqa: S608
)

# half of what is held was also held before
_ENDED = """
    INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
    SELECT connection_id, principal_id, entitlement_id,
           tstzrange(since - (1 + random() * 90) * interval '1 day', since - random() * interval '1 day'), false, '{}'
    FROM (SELECT *, lower(period) AS since FROM inventory_assignment WHERE id % 2 = 0) held
"""
