"""Who answers in place of somebody who left: their own manager, or the first above who is still here.

Nothing is copied: as soon as a directory names another manager, or whoever was thought gone is back, that holds. An owner's
things are handed over for good instead (`grants.services.leaving`), since nothing else would ever name somebody new.
"""

from __future__ import annotations

from django.db.models.expressions import RawSQL

from apps.inventory.models import Identity
from apps.users.models import User

MOST_STEPS = 10  # up the tree; a longer way up past people who left is nobody's

# For every person: who answers as them now. (id, acting_id); no row where nobody does.
ACTING = f"""
    SELECT id, id AS acting_id FROM inventory_identity WHERE kind = 'human' AND ended_at IS NULL
    UNION ALL
    SELECT up.id, boss.id FROM (
        WITH RECURSIVE climb AS (
            SELECT id, manager_id AS at, 1 AS steps FROM inventory_identity WHERE kind = 'human' AND ended_at IS NOT NULL
            UNION ALL
            SELECT climb.id, gone.manager_id, climb.steps + 1 FROM climb
            JOIN inventory_identity gone ON gone.id = climb.at AND gone.ended_at IS NOT NULL
            WHERE climb.steps < {MOST_STEPS}
        ) SELECT id, at FROM climb
    ) up JOIN inventory_identity boss ON boss.id = up.at AND boss.ended_at IS NULL"""  # noqa: S608  our own words

STOOD_FOR = f"""
    WITH RECURSIVE below AS (
        SELECT id, 0 AS steps FROM inventory_identity WHERE user_id = %s AND ended_at IS NULL
        UNION ALL
        SELECT gone.id, below.steps + 1 FROM below
        JOIN inventory_identity gone ON gone.manager_id = below.id AND gone.kind = 'human' AND gone.ended_at IS NOT NULL
        WHERE below.steps < {MOST_STEPS}
    ) SELECT id FROM below"""  # noqa: S608  our own words


def acting_for(person: Identity | None) -> Identity | None:
    """Who answers as this person now: themselves, or after they left the first above them who is here."""
    for _ in range(MOST_STEPS + 1):
        if person is None or person.ended_at is None:
            return person
        person = person.manager
    return None


def stood_for(user: User) -> RawSQL:
    """The people as whom a portal user answers, for `manager__in=`: themselves, and whoever left below them with nobody
    who is here in between."""
    return RawSQL(STOOD_FOR, [user.pk])  # noqa: S611  the user's key is a parameter
