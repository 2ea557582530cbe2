"""Deciding what ends when somebody leaves, what is handed over, and what is taken away.

Three moments. What can be given again ends at once, in one transaction (`notice`). What could not be undone waits for the
settling time and for the brake (`decide`): duties are handed over, and what stood is taken away (`take`). What comes back
with somebody who comes back is nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from apps.audit import services as audit
from apps.core.lifecycle import move
from apps.core.refusals import NotPossible
from apps.grants import leaving as steps
from apps.grants.leaving import Gone
from apps.grants.models import EndReason, Exodus, Grant, Leaving, State
from apps.grants.services import brake
from apps.grants.services.grants import can_remove, end_many, remove_standing
from apps.inventory import succession
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Principal, Resource
from apps.inventory.models.access import AssignmentQuerySet
from apps.inventory.services import handing_over
from apps.users import services as users

TASK_FOR = timedelta(days=14)  # what only its owner can remove is due after this
LOOK_AGAIN = timedelta(minutes=5)
GONE_AGAIN = timedelta(hours=1)
MOST_AT_ONCE = 200  # holdings of one person that one look decides about


# ---- at once ------------------------------------------------------------------------------------------------------


@transaction.atomic
def notice(identity: Identity, *, by: Any) -> Leaving | None:
    """Somebody left, by the inventory. In this one transaction they are shut out of the portal with all their sessions,
    what they asked for is withdrawn, what rests on their yes and is not open yet is refused, and every grant they hold or
    asked for ends. None when they are here, or this was noticed before."""
    rows = Identity.objects.human().select_for_update(no_key=True, of=("self",)).select_related("user", "manager")
    identity = rows.get(pk=identity.pk)
    if identity.ended_at is None or Leaving.objects.open().filter(identity=identity).exists():
        return None
    gone = Gone(identity=identity, user=identity.user, to=succession.acting_for(identity))
    ended = _end_at_once(gone, by)
    leaving = Leaving.objects.create(
        identity=identity,
        user=gone.user,
        left_at=identity.ended_at,
        ended={words: count for words, count in ended.items() if count},
        passes_to=gone.to,
    )
    audit.record(
        "grants.leaving.noticed",
        by=by,
        subject=leaving,
        about=[row for row in (identity, gone.user, gone.to) if row],
        data={"ended": leaving.ended, "left_at": leaving.left_at.isoformat(), "passes_to": str(gone.to or "")},
    )
    return leaving


@transaction.atomic
def notice_login(leaving: Leaving, *, by: Any) -> Leaving:
    """Another login became theirs after they had been noticed: it is shut out like the first, and what was asked for with
    it ends. One that an administrator let in again is left alone."""
    rows = Identity.objects.select_for_update(no_key=True, of=("self",)).select_related("user", "manager")
    identity = rows.get(pk=leaving.identity_id)
    leaving = Leaving.objects.select_for_update(of=("self",)).get(pk=leaving.pk)
    is_known = leaving.user_id == identity.user_id
    if identity.ended_at is None or leaving.returned_at or identity.user is None or is_known:
        return leaving
    _end_at_once(Gone(identity=identity, user=identity.user, to=succession.acting_for(identity)), by)
    leaving.user = identity.user
    leaving.save(update_fields=["user"])
    return leaving


def _end_at_once(gone: Gone, by: Any) -> dict[str, int]:
    """What can be given again, and how many of it there was."""
    if gone.user:
        users.shut_out_leavers([gone.user], by=by)  # whoever said that they left may have done so already
        brake.forget(gone.user)
    ended = {"portal sign-in": int(gone.user is not None)}
    ended |= steps.end(gone, by)
    held = Grant.objects.live().filter(_theirs(gone))
    ended["grants"] = held.count()
    end_many(held, reason=EndReason.LEAVER, by=by)
    return ended


def _theirs(gone: Gone) -> Q:
    """What they hold, and what they asked for on behalf of a machine: nobody uses that for them."""
    asked = Q(requested_by=gone.user, origin=Grant.Origin.REQUEST) if gone.user else Q(pk__in=[])
    return Q(identity=gone.identity) | asked


@transaction.atomic
def note_return(leaving: Leaving, *, by: Any) -> Leaving:
    """They are here again. Nothing comes back by itself: an administrator lets them in, and they ask for what they need.
    Removals that were decided go on."""
    if Leaving.objects.open().filter(pk=leaving.pk).update(returned_at=timezone.now()):
        data = {"gone_for_good": leaving.passed_at is not None}
        audit.record("grants.leaving.returned", by=by, subject=leaving, about=[leaving.identity], data=data)
    return leaving


# ---- for good, behind the brake -----------------------------------------------------------------------------------


@transaction.atomic
def decide(connection: Connection) -> Exodus | None:
    """Say what becomes of what leavers of this connection left behind: handed over and taken away for each, as a decision
    of the clock; or, when suspiciously many left within a day, nothing before two people say so. Returns what is held."""
    Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)  # one decision at a time
    now = timezone.now()
    held = _still_held(connection)
    due = Leaving.objects.unpassed(now).filter(identity__connection=connection)
    for leaving in due.filter(exodus__isnull=False).with_names()[:MOST_AT_ONCE]:
        _pass_on(leaving)
    new = due.filter(exodus=None)
    new.filter(_has_something(), at_stake=False).update(at_stake=True)
    for leaving in new.filter(at_stake=False).with_names()[:MOST_AT_ONCE]:
        _pass_on(leaving)
    staked = new.filter(at_stake=True)
    if not staked.exists():
        return held
    if held:
        if held.proposed_by is None:  # what the first of two has looked at stays what it is
            staked.update(exodus=held)
        return held
    lately = Leaving.objects.filter(
        identity__connection=connection, at_stake=True, exodus=None, passed_at__gte=now - Leaving.WINDOW
    )
    leavers = staked.count() + lately.count()
    people = Identity.objects.present().human().filter(connection=connection).count() + leavers
    if brake.bites(leavers, people, most=settings.LEAVERS_MOST, percent=settings.LEAVERS_MOST_PERCENT):
        return _hold(connection, staked, people)
    for leaving in staked.with_names():
        _pass_on(leaving)
    return None


def _still_held(connection: Connection) -> Exodus | None:
    held = Exodus.objects.held().filter(connection=connection).select_related("connection", "proposed_by").first()
    if held and not Leaving.objects.open().filter(exodus=held).exists():
        move(held, Exodus.State.OVER, by=audit.CLOCK, event="grants.exodus.over", about=[connection])
        return None
    return held


def _hold(connection: Connection, staked: models.QuerySet[Leaving], people: int) -> Exodus:
    exodus = Exodus.objects.create(connection=connection, people_before=people)
    staked.update(exodus=exodus)
    data = {"leavers": exodus.leavings.count(), "people": people}
    audit.record("grants.exodus.held", by=audit.CLOCK, subject=exodus, about=[connection], data=data)
    return exodus


def _has_something() -> Exists | Q:
    """Condition on leavings: they hold or own something, so that a mistake about them would cost something."""
    owned = (Resource, Entitlement, Principal, Identity)
    found: Q = Q(_holds())
    for model in owned:
        found |= Q(Exists(model._default_manager.filter(owner=OuterRef("identity"), ended_at=None)))
    return found


def _holds() -> Exists:
    """Condition on leavings: the inventory shows that they hold something that is not Gatehouse's own."""
    return Exists(Assignment.objects.open().filter(principal__identity=OuterRef("identity")).strangers_only())


def _is_here(identity_id: int) -> bool:
    """Whether they are back, by the inventory; until this transaction ends nobody brings them back."""
    return Identity.objects.select_for_update(no_key=True).get(pk=identity_id).ended_at is None


def _pass_on(leaving: Leaving) -> None:
    """Who answers in their place gets what they left behind, and what they held begins to go. Whoever is here keeps it."""
    if _is_here(leaving.identity_id):
        return
    to = succession.acting_for(leaving.identity)
    gone = Gone(identity=leaving.identity, user=leaving.user, to=to)
    passed = handing_over.hand_over(leaving.identity, to, by=audit.CLOCK)
    tasks = Grant.objects.filter(state=State.REVOKING, task_owner=leaving.identity)
    passed["removals to do by hand"] = tasks.update(task_owner=to)
    passed |= steps.pass_on(gone, audit.CLOCK)
    leaving.passes_to, leaving.passed_at = to, timezone.now()
    leaving.passed = {words: count for words, count in passed.items() if count}
    leaving.next_try_at = leaving.passed_at
    leaving.save(update_fields=["passes_to", "passed_at", "passed", "next_try_at"])
    audit.record(
        "grants.leaving.passed_on",
        by=audit.CLOCK,
        subject=leaving,
        about=[row for row in (leaving.identity, to) if row],
        data={"passed": leaving.passed, "to": str(to or ""), "exodus": leaving.exodus_id},
    )


@transaction.atomic
def take(leaving: Leaving) -> Leaving:
    """Begin to take away what they still hold all the time: by us where we can, else as the task of its owner. Done when
    the inventory shows nothing of it any more. Running it again begins nothing twice."""
    is_here = _is_here(leaving.identity_id)
    leaving = Leaving.objects.select_for_update(of=("self",)).select_related("identity").get(pk=leaving.pk)
    now = timezone.now()
    if is_here or leaving.returned_at or leaving.gone_at or leaving.passed_at is None:
        return leaving
    guessed = Principal.objects.present().matched_by_rule().filter(identity=leaving.identity)
    problem = f"{guessed[0]} is theirs by its name alone. An administrator says whose it is first." if guessed else ""
    due = undecided(leaving).exclude(principal__in=guessed)
    for assignment in due.select_related("connection", "principal", "entitlement__group")[:MOST_AT_ONCE]:
        try:
            with transaction.atomic():
                remove_standing(
                    assignment,
                    by=audit.CLOCK,
                    reason=f"{leaving.identity} left on {leaving.left_at:%Y-%m-%d}."[:1000],
                    end_reason=EndReason.LEAVER,
                    due_at=None if can_remove(assignment) else now + TASK_FOR,
                    about=[leaving],
                )
        except NotPossible as error:
            problem = str(error)
    leaving.gone_at = None if held_by(leaving).exists() else now
    leaving.problem, leaving.next_try_at = problem[:1000], now + LOOK_AGAIN
    leaving.save(update_fields=["gone_at", "problem", "next_try_at"])
    return leaving


@transaction.atomic
def look_again(now: datetime) -> int:
    """Look, hour by hour, at leavers of whom nothing was left: what was given to them since, or read only now, goes too.
    Two statements for many of them. Returns of how many there is something again."""
    gone = Leaving.objects.away().filter(gone_at__isnull=False, next_try_at__lte=now).order_by("next_try_at", "pk")
    due = list(gone.values_list("pk", flat=True)[:MOST_AT_ONCE])
    Leaving.objects.filter(pk__in=due).update(next_try_at=now + GONE_AGAIN)
    return Leaving.objects.filter(_holds(), pk__in=due).update(gone_at=None, next_try_at=now)


def held_by(leaving: Leaving) -> AssignmentQuerySet:
    """What the inventory still shows of them, held directly or as a membership; not what is Gatehouse's own."""
    return Assignment.objects.open().filter(principal__identity=leaving.identity_id).strangers_only()


def undecided(leaving: Leaving) -> AssignmentQuerySet:
    """What they still hold and no grant is taking away."""
    ending = Grant.objects.unfinished().filter(principal=OuterRef("principal"), entitlement=OuterRef("entitlement"))
    return held_by(leaving).exclude(Exists(ending)).order_by("pk")


# ---- two people ---------------------------------------------------------------------------------------------------


@transaction.atomic
def propose_release(exodus: Exodus, *, by: Any) -> Exodus:
    """The first of two administrators looked at who left, and says that it is real."""
    return brake.propose(exodus, by=by, event="grants.exodus.release_proposed")


@transaction.atomic
def release(exodus: Exodus, *, by: Any) -> Exodus:
    """The second, another person by whatever login, says so too: what exactly these people left behind is handed over and
    taken away by the clock. Whoever came back meanwhile is not among them."""
    data = {"leavers": Leaving.objects.open().filter(exodus=exodus).count()}
    return brake.let_go(exodus, Exodus.State.RELEASED, by=by, event="grants.exodus.released", data=data)
