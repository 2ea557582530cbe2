"""How much a membership is worth: the most that its group holds, said in a sentence that names it."""

from __future__ import annotations

from django.db import connection as database

from apps.inventory.models import Connection, Entitlement, Resource
from apps.inventory.models.access import HEAVIEST_FIRST, Privilege
from apps.inventory.sync.upserts import Changes

_RATE = """
    WITH membership AS (
        SELECT id, group_id FROM inventory_entitlement
        WHERE connection_id = %(connection)s AND group_id IS NOT NULL AND ended_at IS NULL
          AND resource_id IS NOT DISTINCT FROM %(resource)s
    ), held AS (
        SELECT m.id AS membership_id, e.*, r.name AS account, array_position(%(weights)s, e.privilege::text) AS weight
        FROM membership m
        JOIN inventory_assignment a ON a.principal_id = m.group_id AND upper_inf(a.period)
        JOIN inventory_entitlement e ON e.id = a.entitlement_id AND NOT e.is_ours
        LEFT JOIN inventory_resource r ON r.id = e.resource_id
    ), most AS (
        SELECT DISTINCT ON (membership_id) * FROM held ORDER BY membership_id, weight, name, id
    ), sums AS (
        SELECT membership_id, bool_or(can_escalate) AS can_escalate, bool_or(is_sensitive_read) AS is_sensitive_read,
               max(session_for) AS session_for
        FROM held GROUP BY membership_id
    ), rated AS (
        SELECT m.id, coalesce(t.privilege, %(nothing)s) AS privilege, t.privilege_statement,
               CASE WHEN t.id IS NULL THEN %(empty)s
                    ELSE left(concat('It brings ', t.name, ' in ' || t.account, ': ', t.privilege_reason), 500)
               END AS privilege_reason,
               coalesce(s.can_escalate, false) AS can_escalate,
               coalesce(s.is_sensitive_read, false) AS is_sensitive_read,
               s.session_for
        FROM membership m LEFT JOIN most t ON t.membership_id = m.id LEFT JOIN sums s ON s.membership_id = m.id
    )
    UPDATE inventory_entitlement e
    SET privilege = r.privilege, privilege_reason = r.privilege_reason, privilege_statement = r.privilege_statement,
        can_escalate = r.can_escalate, is_sensitive_read = r.is_sensitive_read, session_for = r.session_for
    FROM rated r
    WHERE r.id = e.id AND (e.privilege, e.privilege_reason, e.privilege_statement, e.can_escalate, e.is_sensitive_read,
                           e.session_for) IS DISTINCT FROM
                          (r.privilege, r.privilege_reason, r.privilege_statement, r.can_escalate, r.is_sensitive_read,
                           r.session_for)
"""


def rate(connection: Connection, resource: Resource | None, *, is_complete: bool, changes: Changes) -> None:
    """Give every present membership of a scope the privilege of the most its group holds. One statement, which touches
    only rows that differ. A group that seems to hold nothing is only called empty when all of the scope was read."""
    nothing, empty = Privilege.NONE, "The group holds nothing."
    if not is_complete:
        nothing, empty = Privilege.UNKNOWN, "Not everything that the group holds could be read."
    params = {
        "connection": connection.pk,
        "resource": resource.pk if resource else None,
        "weights": [str(value) for value in HEAVIEST_FIRST],
        "nothing": str(nothing),
        "empty": empty,
    }
    with database.cursor() as cursor:
        cursor.execute(_RATE, params)
        changes.add(Entitlement, "changed", cursor.rowcount)
