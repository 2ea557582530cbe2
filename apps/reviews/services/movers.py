"""Who moved, and asking whoever answers for them now about what they brought along."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.inventory.models import Connection, Identity
from apps.inventory.succession import acting_for
from apps.reviews import permissions, population
from apps.reviews.models import Campaign, Holder, Move, ReviewItem, State
from apps.reviews.services import campaigns, items
from apps.reviews.services.items import NotAllowed
from apps.users.models import PortalRole, User

DUE_IN = timedelta(days=14)
LOOK_AGAIN = timedelta(minutes=5)
MOST_AT_ONCE = 2000  # moves one look settles
INSTRUCTIONS = (
    "They came to you with what their former work needed. Keep what they need now. Everything else goes, and they can ask "
    "for it again when they need it."
)

# People seen for the first time are where they are: joiners, not movers.
_PLACE = """
    INSERT INTO reviews_placement (identity_id, manager_id, department)
    SELECT i.id, i.manager_id, i.department FROM inventory_identity i
    WHERE i.kind = 'human' AND i.ended_at IS NULL
      AND NOT EXISTS (SELECT FROM reviews_placement p WHERE p.identity_id = i.id)
    ON CONFLICT DO NOTHING"""
# A source that falls silent moves nobody: what it said last holds until it says something else.
_MOVED = """
    SELECT i.id, p.manager_id AS from_manager, coalesce(i.manager_id, p.manager_id) AS to_manager,
           p.department AS from_department, coalesce(nullif(i.department, ''), p.department) AS to_department
    FROM reviews_placement p JOIN inventory_identity i ON i.id = p.identity_id
    WHERE i.ended_at IS NULL AND (coalesce(i.manager_id, p.manager_id) IS DISTINCT FROM p.manager_id
          OR coalesce(nullif(i.department, ''), p.department) <> p.department)"""
_FOLLOW = f"""
    WITH moved AS ({_MOVED}
    ), real AS (  -- from somewhere that was known; a team that got another manager because its manager left stays a team
        SELECT moved.* FROM moved LEFT JOIN inventory_identity old ON old.id = from_manager
        WHERE (from_department <> '' AND from_department <> to_department)
           OR (from_manager IS NOT NULL AND from_manager <> to_manager AND old.ended_at IS NULL)
    ), before AS (
        UPDATE reviews_move SET settled_at = %(now)s, outcome = 'superseded', problem = ''
        WHERE settled_at IS NULL AND identity_id IN (SELECT id FROM real) RETURNING 1
    ), placed AS (
        UPDATE reviews_placement p SET manager_id = to_manager, department = to_department
        FROM moved WHERE p.identity_id = moved.id RETURNING 1
    ) SELECT id, from_manager, to_manager, from_department, to_department, (SELECT count(*) FROM before),
             (SELECT count(*) FROM placed) FROM real"""  # noqa: S608  constants of this file only


@transaction.atomic
def follow() -> int:
    """Note who moved since the last look, in a few statements whatever the size. A second move supersedes the first, unless
    somebody was asked about that already. Returns how many moved."""
    now = timezone.now()
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('reviews.movers'))")  # one look at a time
        cursor.execute(_PLACE)
        cursor.execute(_FOLLOW, {"now": now})
        found = cursor.fetchall()
    Move.objects.bulk_create(
        [
            Move(
                identity_id=person,
                from_manager_id=from_manager,
                to_manager_id=to_manager,
                from_department=from_department,
                to_department=to_department,
                noticed_at=now,
                next_try_at=now,
            )
            for person, from_manager, to_manager, from_department, to_department, *_ in found
        ],
        batch_size=1000,
    )
    return len(found)


@transaction.atomic
def settle(connection: Connection) -> None:
    """Ask about everybody of this connection who moved: a small review for each, launched at once. Where suspiciously many
    moved within a day it is a reorganisation: a review for each new manager is drafted, and administrators decide."""
    Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)  # one look at a time
    now = timezone.now()
    due = list(Move.objects.due(now).filter(identity__connection=connection).with_names().order_by("pk")[:MOST_AT_ONCE])
    lately = Move.objects.filter(
        identity__connection=connection, outcome=Move.Outcome.REVIEW, noticed_at__gte=now - Move.WINDOW
    )
    if len(due) + lately.count() > settings.MOVERS_MOST:
        _propose(connection, due)
        return
    for move in due:
        try:
            with transaction.atomic():
                _settle_one(move)
        except NotAllowed as error:
            Move.objects.filter(pk=move.pk).update(problem=str(error)[:1000], next_try_at=now + LOOK_AGAIN)


def _settle_one(move: Move) -> None:
    person = move.identity
    if person.ended_at:
        _done([move], Move.Outcome.LEFT)
    elif _pass_running(move):
        _done([move], Move.Outcome.PASSED)
    elif not _holds_something([person]):
        _done([move], Move.Outcome.NOTHING)
    else:
        campaigns.launch(_draft([move], f"{person} moved {move.words}"), by=audit.CLOCK)
        _done([move], Move.Outcome.REVIEW)


def _propose(connection: Connection, due: list[Move]) -> None:
    """One draft for each new manager; nobody is asked before an administrator launches it."""
    teams: dict[int | None, list[Move]] = defaultdict(list)
    for move in due:
        if move.identity.ended_at:
            _done([move], Move.Outcome.LEFT)
        else:
            teams[move.to_manager_id].append(move)
    drafts = []
    for moves in teams.values():
        try:
            with transaction.atomic():
                if not _holds_something([move.identity for move in moves]):
                    _done(moves, Move.Outcome.NOTHING)
                    continue
                drafts.append(_draft(moves, f"{len(moves)} moved to {moves[0].to_manager or 'no manager'}"))
                _done(moves, Move.Outcome.PROPOSED)
        except NotAllowed as error:
            later = {"problem": str(error)[:1000], "next_try_at": timezone.now() + LOOK_AGAIN}
            Move.objects.filter(pk__in=[move.pk for move in moves]).update(**later)
    if drafts:
        data = {"movers": sum(len(draft.people) for draft in drafts), "campaigns": [draft.pk for draft in drafts]}
        audit.record("reviews.move.many_proposed", by=audit.CLOCK, subject=connection, about=drafts, data=data)


def _draft(moves: list[Move], name: str) -> Campaign:
    people = [move.identity for move in moves]
    return campaigns.draft(
        kind=Campaign.Kind.MOVE,
        name=name[:120],
        instructions=INSTRUCTIONS,
        connection=people[0].connection,
        holders=[Holder.HUMAN],
        privileged_only=False,
        people=[person.pk for person in people],
        due_at=timezone.now() + DUE_IN,
        fallback=_fallback(people),
        by=audit.CLOCK,
    )


def _fallback(people: list[Identity]) -> User:
    """An administrator who is none of them: reviews what no manager can."""
    users = User.objects.filter(portal_roles__role=PortalRole.Role.ADMINISTRATOR, is_active=True)
    for user in users.exclude(identity__in=people).order_by("pk"):
        if permissions.can_be_reviewer(user):
            return user
    raise NotAllowed("No administrator is linked to a person in the inventory, so nobody could stand in for a manager.")


def _holds_something(people: list[Identity]) -> bool:
    fallback = _fallback(people)
    imagined = Campaign(
        connection=people[0].connection,
        holders=[Holder.HUMAN],
        privileged_only=False,
        people=[person.pk for person in people],
        fallback=fallback,
    )
    return population.preview(imagined, launcher=fallback.pk).items > 0


def _pass_running(move: Move) -> bool:
    """They moved again while somebody was asked about the move before: what is not signed for goes to whoever answers for
    them now. What was signed for stands, so there is no second review of the same."""
    running = Campaign.objects.filter(state=State.RUNNING, kind=Campaign.Kind.MOVE, people__contains=[move.identity_id])
    waiting = ReviewItem.objects.unsigned().filter(campaign__in=running, identity=move.identity_id)
    boss = acting_for(move.to_manager)
    to = boss.user if boss else None
    found = False
    for campaign in running.filter(pk__in=waiting.values("campaign")):
        rows = waiting.filter(campaign=campaign)
        taker = to if to and permissions.can_be_reviewer(to) and not rows.own_of(to).exists() else campaign.fallback
        others = rows.exclude(reviewer=taker)
        if others.exists():
            items.reassign(others, campaign=campaign, to=taker, by=audit.CLOCK, reason=f"{move.identity} moved again.")
        found = True
    return found


def _done(moves: list[Move], outcome: str) -> None:
    values = {"settled_at": timezone.now(), "outcome": outcome, "problem": ""}
    Move.objects.filter(pk__in=[move.pk for move in moves]).update(**values)
