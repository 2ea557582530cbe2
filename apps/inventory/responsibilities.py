"""Following who answers for what, in a few statements whatever the size. What changes hands starts to wait again."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.inventory.models import Responsibility
from apps.inventory.succession import ACTING

# Who answers now: (user, about) of each kind.
_NOW = {
    Responsibility.Kind.ACCOUNT: """
        SELECT person.user_id, owned.id AS about FROM inventory_resource owned
        JOIN inventory_identity person ON person.id = owned.owner_id WHERE person.user_id IS NOT NULL""",
    Responsibility.Kind.ENTITLEMENT: """
        SELECT person.user_id, owned.id AS about FROM inventory_entitlement owned
        JOIN inventory_identity person ON person.id = owned.owner_id WHERE person.user_id IS NOT NULL""",
    Responsibility.Kind.MANAGER: f"""
        SELECT boss.user_id, person.id AS about FROM inventory_identity person
        JOIN ({ACTING}) acting ON acting.id = person.manager_id
        JOIN inventory_identity boss ON boss.id = acting.acting_id WHERE boss.user_id IS NOT NULL""",  # noqa: S608  our own
    Responsibility.Kind.ADMINISTRATOR: """
        SELECT user_id, 0 AS about FROM users_portalrole WHERE role = 'administrator'""",
}


@transaction.atomic
def follow() -> None:
    """Note what somebody answers for since the last time, and end what they no longer do."""
    now = timezone.now()
    for kind, rows in _NOW.items():
        _note(kind, rows, now)
        _end(kind, rows, now)


def _note(kind: str, rows: str, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO inventory_responsibility (user_id, kind, about, first_seen_at, counts_from)"  # noqa: S608  our own
            f" SELECT DISTINCT user_id, %s, about, %s::timestamptz, %s::timestamptz FROM ({rows}) answers"
            " WHERE NOT EXISTS (SELECT FROM inventory_responsibility seen WHERE seen.ended_at IS NULL"
            " AND seen.kind = %s AND seen.user_id = answers.user_id AND seen.about = answers.about)"
            " ON CONFLICT DO NOTHING",  # another worker was first
            [kind, now, now + settings.STEP_UP_WAITING_TIME, kind],
        )


def _end(kind: str, rows: str, now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE inventory_responsibility seen SET ended_at = %s WHERE seen.kind = %s AND seen.ended_at IS NULL"  # noqa: S608
            f" AND NOT EXISTS (SELECT FROM ({rows}) answers"
            " WHERE answers.user_id = seen.user_id AND answers.about = seen.about)",
            [now, kind],
        )
