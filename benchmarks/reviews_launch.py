"""How long a campaign takes to launch: `python -m benchmarks.reviews_launch [assignments]`.

By default over 100,000 standing assignments of 10,000 people, a quarter of them memberships of groups that hold
something. On a database of its own, made for this run and removed after it. The limits are for two busy cores; the ratio
says how much of the tightest one is used, and more than 1 is a failure.
"""

import resource
import sys
import time
from collections.abc import Callable

from benchmarks.portal import portal

ASSIGNMENTS = 100_000
LIMITS = {"preview": 10.0, "launch": 40.0, "numbers of the campaign": 3.0, "decide 10,000 at once": 15.0}  # seconds
PER = 100_000  # assignments that the limits are for
MEMORY_MB = 400  # whatever the size: no item passes through Python


def main() -> int:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else ASSIGNMENTS
    with portal():
        took = _measure(size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratio = 0.0
    for name, seconds in took.items():
        limit = LIMITS[name] * (size / PER if name != "decide 10,000 at once" else 1)
        ratio = max(ratio, seconds / limit)
        sys.stdout.write(f"{name}: {seconds:.2f} s (limit {limit:.1f} s)\n")
    sys.stdout.write(f"peak memory of the portal's process: {peak:.0f} MB (limit {MEMORY_MB} MB)\n")
    ratio = max(ratio, peak / MEMORY_MB)
    sys.stdout.write(f"assignments {size:,}, ratio {ratio:.2f}\n")
    return int(ratio > 1)


def _measure(size: int) -> dict[str, float]:
    from datetime import timedelta

    from django.utils import timezone

    from apps.inventory.models import Connection
    from apps.reviews import population, tie_out
    from apps.reviews.models import ReviewItem
    from apps.reviews.services import campaigns, items
    from apps.users.models import User

    _fill(size)
    erin = User.objects.get(email="member1@example.com")
    draft = campaigns.draft(
        name="Benchmark",
        connection=Connection.objects.get(),
        holders=["human", "machine", "group"],
        privileged_only=False,
        due_at=timezone.now() + timedelta(days=9),
        fallback=User.objects.get(email="member2@example.com"),
        by=erin,
    )
    took = {"preview": _timed(lambda: population.preview(draft, launcher=erin.pk))}
    took["launch"] = _timed(lambda: campaigns.launch(draft, by=erin))
    draft.refresh_from_db()
    took["numbers of the campaign"] = _timed(lambda: tie_out.equations(draft, tie_out.counts_of(draft)))
    first = ReviewItem.objects.order_by("pk")[0]
    others = ReviewItem.objects.exclude(kind="group").exclude(subject_user=first.reviewer).order_by("pk")
    mine = list(others.values_list("pk", flat=True)[:10_000])
    ReviewItem.objects.filter(pk__in=mine).update(reviewer=first.reviewer)
    chosen = ReviewItem.objects.filter(pk__in=mine)
    took["decide 10,000 at once"] = _timed(
        lambda: items.decide_many(chosen, campaign=draft, choice="revoke", reason="A benchmark.", by=first.reviewer)
    )
    return took


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _fill(size: int) -> None:
    """People with managers, accounts with permission sets, groups that hold some of them, all of it standing."""
    from django.db import connection as database

    from tests.factories.inventory import ConnectionFactory, SyncRunFactory

    org = ConnectionFactory(writable=True)
    SyncRunFactory(connection=org)
    people, groups = max(20, size // 10), max(10, size // 200)
    with database.cursor() as cursor:
        for statement in _ROWS:
            cursor.execute(statement, {"org": org.pk, "people": people, "groups": groups, "size": size})
        cursor.execute("ANALYZE")


_ROWS = (
    """INSERT INTO users_user (email, name, password, is_active, is_emergency, joined_at, single_keys)
       SELECT format('member%%s@example.com', n), format('Person %%s', n), '!', true, false, now(), true
       FROM generate_series(1, %(people)s / 10) n""",
    """INSERT INTO inventory_resource (connection_id, external_id, name, path, email, provider_state, is_management,
           environment, environment_source, tags, owner_source, digest, first_seen_at)
       SELECT %(org)s, lpad(n::text, 12, '0'), format('account-%%s', n), '', '', 'active', false, 'production',
           'organization', '{}', '', '', now() FROM generate_series(1, 100) n""",
    """INSERT INTO inventory_identity (connection_id, kind, external_id, name, email, title, department, classification,
           evidence, manager_source, owner_source, user_source, digest, first_seen_at, user_id)
       SELECT %(org)s, 'human', n, format('Person %%s', n), format('member%%s@example.com', n), 'Engineer', 'Platform', '',
           '', '', '', '', '', now(), u.id
       FROM generate_series(1, %(people)s) n LEFT JOIN users_user u ON u.email = format('member%%s@example.com', n)""",
    """UPDATE inventory_identity i SET manager_id = m.id FROM inventory_identity m
       WHERE m.external_id = (1 + i.external_id::int %% (%(people)s / 10))::text AND m.id <> i.id""",
    """INSERT INTO inventory_principal (connection_id, identity_id, kind, external_id, name, is_externally_owned,
           is_reserved, attributes, digest, first_seen_at)
       SELECT %(org)s, id, 'idc_user', external_id, name, false, false, '{}'::jsonb, '', now() FROM inventory_identity
       UNION ALL SELECT %(org)s, NULL, 'idc_group', format('group-%%s', n), format('group-%%s', n), false, false, '{}', '',
           now() FROM generate_series(1, %(groups)s) n""",
    """INSERT INTO inventory_entitlement (connection_id, resource_id, kind, external_id, name, description, privilege,
           privilege_reason, privilege_statement, can_escalate, is_sensitive_read, documents, attributes, is_ours, digest,
           first_seen_at)
       SELECT %(org)s, r.id, 'permission_set', format('%%s@%%s', n, r.id), format('PermissionSet%%s', n), '',
           (ARRAY['admin', 'write', 'read'])[1 + n %% 3], 'It allows what its policy says it allows.',
           '{"Effect": "Allow", "Action": "*", "Resource": "*"}', false, false, '[]', '{}', false, '', now()
       FROM inventory_resource r, generate_series(1, 30) n""",
    """INSERT INTO inventory_entitlement (connection_id, group_id, kind, external_id, name, description, privilege,
           privilege_reason, can_escalate, is_sensitive_read, documents, attributes, is_ours, digest, first_seen_at)
       SELECT %(org)s, id, 'idc_group', 'in-' || external_id, name, '', 'write', 'It brings something.', false, false, '[]',
           '{}', false, '', now() FROM inventory_principal WHERE kind = 'idc_group'""",
    # what groups hold, memberships, and the rest held directly
    """INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
       SELECT %(org)s, p.id, e.id, tstzrange(now() - interval '90 days', NULL), true, '{}'
       FROM inventory_principal p CROSS JOIN LATERAL (
           SELECT id FROM inventory_entitlement WHERE group_id IS NULL ORDER BY hashint8(id * 7919 + p.id) LIMIT 5) e
       WHERE p.kind = 'idc_group'""",
    """INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
       SELECT %(org)s, p.id, e.id, tstzrange(now() - interval '90 days', NULL), true, '{}'
       FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM inventory_principal WHERE kind = 'idc_user') p
       CROSS JOIN generate_series(1, greatest(1, %(size)s / 4 / %(people)s)) k
       JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM inventory_entitlement WHERE group_id IS NOT NULL) e
         ON e.n = 1 + (p.n * 31 + k * 17) %% %(groups)s""",
    """INSERT INTO inventory_assignment (connection_id, principal_id, entitlement_id, period, is_standing, attributes)
       SELECT %(org)s, p.id, e.id, tstzrange(now() - interval '90 days', NULL), true, '{}'
       FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM inventory_principal WHERE kind = 'idc_user') p
       CROSS JOIN generate_series(1, 10) k
       JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM inventory_entitlement WHERE group_id IS NULL) e
         ON e.n = 1 + (p.n * 37 + k * 211) %% 3000
       LIMIT %(size)s - (SELECT count(*) FROM inventory_assignment)""",
)

if __name__ == "__main__":
    sys.exit(main())
