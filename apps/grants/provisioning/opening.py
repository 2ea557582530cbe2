"""Towards ACTIVE: the end is written and read back, then access is opened and read back."""

from __future__ import annotations

import logging

from django.db.models import F

from apps.audit import services as audit
from apps.connectors import budget
from apps.connectors.base import Look
from apps.connectors.errors import Busy, ConnectorError, Denied, Gone, Refused, Unproven
from apps.core.lifecycle import Conflict, move
from apps.core.locks import Taken, exclusive
from apps.grants import narrowing, presence, warrants
from apps.grants.models import EndReason, Grant, State, Stop
from apps.grants.provisioning.enforcing import alone_with, enforce
from apps.grants.provisioning.turns import (
    HANDOVER,
    OutOfTurn,
    Turn,
    about_of,
    kept,
    leave_for_later,
    losing_is_fine,
    plain,
    postpone,
    read_back,
    take_over,
    tell,
    whole_now,
)
from apps.grants.windows import window_for, windows_of
from apps.inventory.sync import seen

logger = logging.getLogger(__name__)

TERMINAL = (Refused, Denied, Gone, warrants.InvalidWarrant)  # trying again cannot help an opening


@budget.purpose("grant")
def provision(grant_id: int) -> None:
    """Take a pending grant to ACTIVE: claim it, write its end, read that back, open access, read that back.

    Access opens only after its end was read back from AWS; the state becomes ACTIVE only after access was read back.
    What cannot help (a limit, a refusal) ends the attempt for good; everything else is tried again by the clock until
    the grant's own time is up.
    """
    grant = Grant.objects.with_names().get(pk=grant_id)
    turn = _begin(grant)
    if turn is None:
        return
    try:
        require_authority(grant)
        _claim(turn)
        if not turn.awaits("open"):
            _write_end_first(turn)
            _open(turn)
        look = read_back(turn, turn.provisioner)
        _settle_active(turn, look)
    except OutOfTurn:
        return
    except TERMINAL as error:
        _give_up(turn, error)
        return
    except (ConnectorError, Taken) as error:
        postpone(turn, error)
        return
    narrow(grant_id)


def _begin(grant: Grant) -> Turn | None:
    """A turn at opening it. A pending one has nobody's turn yet: whoever moves it first has it."""
    if grant.state == State.PENDING:
        return Turn(grant)
    return take_over(grant) if grant.state == State.PROVISIONING else None


def require_authority(grant: Grant) -> None:
    """Raise unless it may be opened at all: for people who are here, by its warrant, by the rules in force, where no stop
    covers it, in a system that we may write, from a database that remembers everything (else it waits)."""
    narrowing.require_may_open()
    presence.require(grant)
    warrants.check(grant)
    warrants.ask_rules_again(grant)
    stop = Stop.objects.in_force().against(grant).first()
    if stop:
        raise Refused(stop.refusal)
    if not grant.connection.is_writable:
        raise Refused(
            f"Gatehouse may only look at {grant.connection} now. Ask again when an administrator lets it write."
        )


def _claim(turn: Turn) -> None:
    """Write the intent with its latest end before AWS hears of it."""
    grant = turn.grant
    if grant.state != State.PENDING or grant.duration is None:
        return
    now = whole_now()
    if grant.created_at + Grant.ALLOWANCE + grant.duration <= now:
        raise OutOfTurn  # nobody began it in its time; the clock cancels it
    try:
        move(
            grant,
            State.PROVISIONING,
            by=audit.WORKER,
            event="grants.grant.claimed",
            about=about_of(grant),
            claimed_at=now,
            not_after=now + Grant.ALLOWANCE + grant.duration,
            shared_key=turn.provisioner.shared_key(turn.target),
            attempt=grant.attempt + 1,
            next_try_at=now + HANDOVER,
        )
    except Conflict:
        raise OutOfTurn from None


def _write_end_first(turn: Turn) -> None:
    grant = turn.grant
    with alone_with(turn.shared):
        turn.still(State.PROVISIONING)
        windows = windows_of(grant.shared_key, opening=grant)
        turn.provisioner.check(turn.target, windows)
        if not grant.ticket:
            turn.asked("open")  # from here on AWS may show something of it, so it ends through a removal
        proof = enforce(turn.shared, windows)
    mine = window_for(turn.target, windows)
    turn.save(
        deny_left_out=mine is not None and mine.holds_standing,
        made_as=grant.made_as or proof.made_as,  # from now on another object of that name is somebody else's
    )
    tell(turn, "grants.grant.end_written", proof)


def _open(turn: Turn) -> None:
    grant = turn.grant
    with exclusive("object", turn.provisioner.lock_key(turn.target)):
        turn.still(State.PROVISIONING)
        going = Grant.objects.taking_away(grant).first()
        if going:  # what AWS still shows of that is about to vanish
            raise Busy(f"AWS is still removing the same access for {going.number}. It opens right after that.")
        presence.require(grant)  # once more: reading and writing AWS took a while
        turn.asked("open")
        ticket = turn.provisioner.open(turn.target)
        # Kept under the object's lock, also when the turn was lost meanwhile: whoever takes it away must know.
        Grant.objects.filter(pk=grant.pk, state__in={State.PROVISIONING, State.REVOKING}).update(
            ticket=kept("open", ticket), accepted_at=whole_now()
        )
        turn.still(State.PROVISIONING)


def _settle_active(turn: Turn, look: Look) -> None:
    grant = turn.grant
    if not look.is_present:
        turn.asked("open")
        raise Unproven("AWS took the change and does not show it yet. It is asked again.")
    now = whole_now()
    if grant.not_after is None or grant.duration is None or grant.not_after <= now:
        raise OutOfTurn  # its time is up; the clock ends it
    try:
        move(
            grant,
            State.ACTIVE,
            by=audit.WORKER,
            event="grants.grant.active",
            about=about_of(grant),
            data={"proof": plain(look.proof)},
            expect={"attempt": grant.attempt},
            active_at=now,
            ends_at=min(now + grant.duration, grant.not_after),
            ticket={},
            problem="",
            problem_count=0,
        )
    except Conflict:
        raise OutOfTurn from None
    seen.note(grant.principal, grant.entitlement, is_present=True, at=look.proof.read_at)


@budget.purpose("revoke")
def narrow(grant_id: int) -> None:
    """Bring AWS's end from the allowance down to what was asked. Until it is done AWS ends it a little later, never
    not at all."""
    grant = Grant.objects.with_names().get(pk=grant_id)
    if grant.state != State.ACTIVE or grant.narrowed_at or not grant.shared_key or grant.ends_at is None:
        return
    turn = Turn(grant)
    try:
        with alone_with(turn.shared):
            enforce(turn.shared, windows_of(grant.shared_key))
            mine = Grant.objects.filter(pk=grant.pk, state=State.ACTIVE)
            mine.update(not_after=F("ends_at"), narrowed_at=whole_now())  # as of now: it may have been extended
    except (ConnectorError, Taken) as error:
        leave_for_later(grant, "its end in AWS is not narrowed yet", error)


def _give_up(turn: Turn, error: Exception) -> None:
    """Nothing was opened: FAILED. AWS may have heard of it: take it back, and read that back."""
    grant = turn.grant
    event, data = "grants.grant.failed", {"problem": str(error)}
    if isinstance(error, warrants.InvalidWarrant):
        logger.error("%s has no valid warrant: %s", grant.number, error)
        event = "grants.grant.warrant_refused"
    opened = bool(grant.ticket)  # kept when it is taken back: AWS may still be working on it
    with losing_is_fine():
        move(
            grant,
            State.REVOKING if opened else State.FAILED,
            by=audit.WORKER,
            event=event,
            about=about_of(grant),
            data=data,
            expect={"attempt": grant.attempt},
            end_reason=EndReason.LEAVER if isinstance(error, presence.Left) else EndReason.FAILED,
            end_note=str(error)[:1000],
            problem=str(error)[:1000],
            next_try_at=whole_now(),
            **({"revoking_at": whole_now()} if opened else {}),
        )
