"""Carrying grants out in the governed system, and settling them by what it answers.

Every function may run at any time, twice, late, or be killed between any two lines: what is in the database before a
call is the intent, what is read back after it is the truth, and the object in AWS is only touched under its lock. No
transaction is open round a call. The end is written and read back before access opens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import registry
from apps.connectors.base import Look, Proof, Provisioner, Remover, Target, Ticket
from apps.connectors.errors import Busy, ConnectorError, Denied, Gone, Refused, Unproven, Unreachable
from apps.core.lifecycle import Conflict, move
from apps.core.locks import Taken, exclusive
from apps.grants import warrants
from apps.grants.models import EndReason, Grant, State
from apps.grants.windows import is_held_standing, is_open, provisioner_of, target_of, window_for, windows_of
from apps.inventory.sync import seen

logger = logging.getLogger(__name__)

POLLS = (0.2, 0.5, 1, 2, 3, 4)  # seconds between looks at an asynchronous change; then the clock takes over
HANDOVER = timedelta(minutes=1)  # a worker silent for so long has lost its turn
BACKOFF, BACKOFF_CAP = 3, 60  # seconds: 3, 6, 12 … 60, for ever
ASKED = Ticket("asked")  # sent, and no answer yet: AWS may have done it, be doing it, or never have heard of it
TERMINAL = (Refused, Denied, Gone, warrants.InvalidWarrant)  # trying again cannot help an opening


class OutOfTurn(Exception):
    """The grant moved on, or another worker took it over: whoever holds this turn stops at once."""


@dataclass
class Turn:
    """One worker's turn at one grant, fenced by its attempt number."""

    grant: Grant

    @cached_property
    def target(self) -> Target:
        return target_of(self.grant)

    @cached_property
    def provisioner(self) -> Provisioner:
        return provisioner_of(self.grant)

    @cached_property
    def hand(self) -> Remover:
        """What ends this grant: its provisioner, or the remover of what was found."""
        grant = self.grant
        if grant.origin == Grant.Origin.FOUND:
            return registry.remover(grant.connection.kind, grant.remover, grant.connection.config)
        return self.provisioner

    def still(self, state: State) -> None:
        """Stop unless the row is still in `state` and this is still our turn. Reads anew what AWS was asked last."""
        mine = Grant.objects.filter(pk=self.grant.pk, state=state, attempt=self.grant.attempt)
        ticket = mine.values_list("ticket", flat=True).first()
        if ticket is None:
            raise OutOfTurn
        self.grant.ticket = ticket

    def save(self, **fields: Any) -> None:
        """Keep a fact about this turn (never the state)."""
        grant = self.grant
        if not Grant.objects.filter(pk=grant.pk, state=grant.state, attempt=grant.attempt).update(**fields):
            raise OutOfTurn
        for name, value in fields.items():
            setattr(grant, name, value)

    def asked(self, verb: str, ticket: Ticket = ASKED) -> None:
        """Keep what AWS was asked (open, close) and what it answered."""
        self.save(ticket=_kept(verb, ticket))

    def awaits(self, verb: str) -> bool:
        """AWS accepted this change and is still working on it."""
        ticket = self.grant.ticket
        return (ticket.get("verb"), ticket.get("state")) == (verb, "pending")

    @property
    def ticket(self) -> Ticket:
        return Ticket(**{name: value for name, value in self.grant.ticket.items() if name != "verb"})


def _kept(verb: str, ticket: Ticket) -> dict[str, str]:
    return {"verb": verb, **asdict(ticket)}


# ---- towards ACTIVE -----------------------------------------------------------------------------------------------


def provision(grant_id: int) -> None:
    """Take a pending grant to ACTIVE: claim it, write its end, read that back, open access, read that back.

    Access opens only after its end was read back from AWS; the state becomes ACTIVE only after access was read back.
    What cannot help (a limit, a refusal) ends the attempt for good; everything else is tried again by the clock until
    the grant's own time is up.
    """
    grant = Grant.objects.with_names().select_related("warrant").get(pk=grant_id)
    turn = _begin(grant)
    if turn is None:
        return
    try:
        _require_authority(grant)
        _claim(turn)
        if not turn.awaits("open"):
            _write_end_first(turn)
            _open(turn)
        look = _await(turn, turn.provisioner)
        _settle_active(turn, look)
    except OutOfTurn:
        return
    except TERMINAL as error:
        _give_up(turn, error)
        return
    except (ConnectorError, Taken) as error:
        _postpone(turn, error)
        return
    narrow(grant_id)


def _begin(grant: Grant) -> Turn | None:
    """A turn at opening it. A pending one has nobody's turn yet: whoever moves it first has it."""
    if grant.state == State.PENDING:
        return Turn(grant)
    return _take_over(grant) if grant.state == State.PROVISIONING else None


def _take_over(grant: Grant) -> Turn | None:
    """Begin another attempt, if nobody's turn is running: their `next_try_at` has passed."""
    now = timezone.now()
    mine = Grant.objects.filter(pk=grant.pk, state=grant.state, attempt=grant.attempt, next_try_at__lte=now)
    if not mine.update(attempt=models.F("attempt") + 1, next_try_at=now + HANDOVER):
        return None
    grant.refresh_from_db(fields=["ticket", "problem_count", "denied_at", "sessions_until"])  # what its last turn left
    grant.attempt += 1
    return Turn(grant)


def _require_authority(grant: Grant) -> None:
    """Raise unless it may be opened at all: by its warrant, by the rules in force, in a system that we may write."""
    warrants.check(grant)
    warrants.ask_rules_again(grant)
    if not grant.connection.is_writable:
        raise Refused(
            f"Gatehouse may only look at {grant.connection} now. Ask again when an administrator lets it write."
        )


def _claim(turn: Turn) -> None:
    """Write the intent with its latest end before AWS hears of it."""
    grant = turn.grant
    if grant.state != State.PENDING or grant.duration is None:
        return
    now = _now()
    try:
        move(
            grant,
            State.PROVISIONING,
            by=audit.WORKER,
            event="grants.grant.claimed",
            about=_about(grant),
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
    with exclusive("shared", grant.shared_key):
        turn.still(State.PROVISIONING)
        windows = windows_of(grant.shared_key, opening=grant)
        turn.provisioner.check(turn.target, windows)
        if not grant.ticket:
            turn.asked("open")  # from here on AWS may show something of it, so it ends through a removal
        proof = turn.provisioner.enforce(turn.target, windows)
    mine = window_for(turn.target, windows)
    turn.save(deny_left_out=mine is not None and mine.holds_standing)
    _tell(turn, "grants.grant.end_written", proof)


def _open(turn: Turn) -> None:
    grant = turn.grant
    with exclusive("object", turn.provisioner.lock_key(turn.target)):
        turn.still(State.PROVISIONING)
        going = Grant.objects.taking_away(grant).first()
        if going:  # what AWS still shows of that is about to vanish
            raise Busy(f"AWS is still removing the same access for {going.number}. It opens right after that.")
        turn.asked("open")
        ticket = turn.provisioner.open(turn.target)
        # Kept under the object's lock, also when the turn was lost meanwhile: whoever takes it away must know.
        Grant.objects.filter(pk=grant.pk, state__in={State.PROVISIONING, State.REVOKING}).update(
            ticket=_kept("open", ticket)
        )
        turn.still(State.PROVISIONING)


def _await(turn: Turn, hand: Remover) -> Look:
    """Poll the change under way, outside any lock, then read back.

    Raises `OutOfTurn` when it takes longer (the clock looks again), and `Refused` when AWS failed an opening.
    """
    ticket = turn.ticket
    for seconds in POLLS:
        if ticket.state != "pending":
            break
        time.sleep(seconds)
        ticket = hand.status(turn.target, ticket)
    if ticket.state == "pending":
        turn.save(next_try_at=timezone.now() + timedelta(seconds=5))
        raise OutOfTurn
    look = hand.look(turn.target)
    if ticket.state == "failed" and not look.is_present and turn.grant.state == State.PROVISIONING:
        raise Refused(f"AWS accepted the change and then failed it: {ticket.reason or 'it gave no reason'}.")
    return look


def _settle_active(turn: Turn, look: Look) -> None:
    grant = turn.grant
    if not look.is_present:
        turn.asked("open")
        raise Unproven("AWS took the change and does not show it yet. It is asked again.")
    now = _now()
    if grant.not_after is None or grant.duration is None or grant.not_after <= now:
        raise OutOfTurn  # its time is up; the clock ends it
    try:
        move(
            grant,
            State.ACTIVE,
            by=audit.WORKER,
            event="grants.grant.active",
            about=_about(grant),
            data={"proof": _plain(look.proof)},
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


def narrow(grant_id: int) -> None:
    """Bring AWS's end from the allowance down to what was asked. Until it is done AWS ends it a little later, never
    not at all."""
    grant = Grant.objects.with_names().get(pk=grant_id)
    if grant.state != State.ACTIVE or grant.narrowed_at or not grant.shared_key or grant.ends_at is None:
        return
    turn = Turn(grant)
    try:
        with exclusive("shared", grant.shared_key):
            turn.provisioner.enforce(turn.target, windows_of(grant.shared_key))
    except (ConnectorError, Taken) as error:
        _leave_for_later(grant, "its end in AWS is not narrowed yet", error)
        return
    Grant.objects.filter(pk=grant.pk, state=State.ACTIVE).update(not_after=grant.ends_at, narrowed_at=_now())


# ---- towards REVOKED ----------------------------------------------------------------------------------------------


def deprovision(grant_id: int) -> None:
    """Take a grant that shall end to REVOKED: deny first, remove what no other grant needs, read back that it is gone.

    There is no other way out and no last attempt: whatever fails is tried again, visible as overdue meanwhile.
    """
    grant = Grant.objects.with_names().get(pk=grant_id)
    if grant.state != State.REVOKING or grant.is_owner_task:
        return
    turn = _take_over(grant)
    if turn is None:
        return
    undenied: ConnectorError | Taken | None = None
    try:
        proofs, undenied = _deny_first(turn)
        proofs.append(_close(turn) or _read_gone(turn))
        if undenied:
            proofs.append(_outlived(turn, undenied))
        _settle_revoked(turn, proofs)
    except OutOfTurn:
        return
    except (ConnectorError, Taken) as error:
        _postpone(turn, undenied or error)


def _deny_first(turn: Turn) -> tuple[list[Proof], ConnectorError | Taken | None]:
    """Deny at once what the shared object can deny; sessions that live are cut by it too. A Deny that cannot be written
    must not keep the removal waiting, so its error is handed back to be raised after that."""
    grant = turn.grant
    if not grant.shared_key:
        return [], None
    try:
        with exclusive("shared", grant.shared_key):
            turn.still(State.REVOKING)
            windows = windows_of(grant.shared_key)
            proof = turn.provisioner.enforce(turn.target, windows)
    except Gone as error:
        return [Proof(str(error), _now())], None
    except (ConnectorError, Taken) as error:
        return [], error
    mine = window_for(turn.target, windows)
    is_denied = mine is not None and not mine.is_open  # another grant may keep the same access open
    if is_denied and grant.denied_at is None:
        turn.save(denied_at=proof.read_at)
        _tell(turn, "grants.grant.denied", proof)
    return [proof], None


def _close(turn: Turn) -> Proof | None:
    """Remove it, unless another grant needs the same thing in AWS; then say which."""
    grant = turn.grant
    with exclusive("object", turn.hand.lock_key(turn.target)):
        turn.still(State.REVOKING)
        if turn.awaits("close"):
            return None
        if turn.awaits("open"):
            _let_opening_finish(turn)
        is_under_way = grant.ticket.get("verb") == "close"  # then nobody else has come to rely on it since
        keeper = None if is_under_way else _keeper_of(grant)
        if keeper:
            until = f"{keeper.ends_at or keeper.not_after:%H:%M} UTC"
            what = f"Nothing was removed: {keeper.number} holds the same access until {until}."
            return Proof(what, _now(), {"other": keeper.number})
        turn.asked("close")
        try:
            ticket = turn.hand.close(turn.target)
        except Gone:
            ticket = Ticket("done")
        except Unreachable:
            raise  # it may be on its way, so it stays asked for
        except ConnectorError:
            turn.save(ticket={})
            raise
        turn.asked("close", ticket)
    return None


def _let_opening_finish(turn: Turn) -> None:
    """AWS is still opening what shall be removed, and would do so after a removal asked for now."""
    ticket = turn.hand.status(turn.target, turn.ticket)
    if ticket.state == "pending":
        raise Busy("AWS is still opening it. It is removed as soon as that is through.")


def _keeper_of(grant: Grant) -> Grant | None:
    """The grant that needs the same access longest. A row without a warrant keeps nothing."""
    others = Grant.objects.keeping(grant).with_names().select_related("warrant").order_by("-not_after")
    return next((other for other in others if is_open(other)), None)


def _read_gone(turn: Turn) -> Proof:
    grant = turn.grant
    look = _await(turn, turn.hand)
    if look.is_present:
        turn.save(ticket={}, sessions_until=None)  # ask AWS again from the start
        raise Unproven("AWS took the removal and still shows the access. It is asked again.")
    session_for = _session_for(turn)
    if session_for and grant.sessions_until is None:
        turn.save(sessions_until=look.proof.read_at + session_for)  # one could have been opened just before
    seen.note(grant.principal, grant.entitlement, is_present=False, at=look.proof.read_at)
    return look.proof


def _session_for(turn: Turn) -> timedelta | None:
    """How long a session could outlive the access."""
    known = turn.grant.entitlement.session_for
    if turn.grant.origin == Grant.Origin.FOUND:
        return known
    try:
        return turn.provisioner.session_for(turn.target)
    except Gone:
        return known  # it was deleted in AWS; what the last scan read is the best we know


def _outlived(turn: Turn, undenied: ConnectorError | Taken) -> Proof:
    """It is gone from AWS, but sessions that live are not cut: not done before the last of them has ended by itself."""
    until = turn.grant.sessions_until
    if until is None or until > timezone.now():
        raise undenied
    return Proof(f"No Deny could be written. Sessions ended by themselves by {until:%H:%M} UTC. {undenied}", _now())


def _settle_revoked(turn: Turn, proofs: list[Proof]) -> None:
    grant = turn.grant
    try:
        move(
            grant,
            State.REVOKED,
            by=audit.WORKER,
            event="grants.grant.revoked",
            about=_about(grant),
            data={"proofs": [_plain(proof) for proof in proofs]},
            expect={"attempt": grant.attempt},
            revoked_at=_now(),
            receipt=[_plain(proof) for proof in proofs],
            ticket={},
            problem="",
            problem_count=0,
        )
    except Conflict:
        raise OutOfTurn from None


def clear(grant_id: int) -> None:
    """Take an ended grant out of the object it shared in AWS, once none of its sessions can live any more.

    That lifts a Deny, so AWS is read once more before: an answer that came too late, or a read that was stale, must not
    come to life again. What is there again is removed again, and denied until then.
    """
    grant = Grant.objects.with_names().get(pk=grant_id)
    if not Grant.objects.uncleared(timezone.now()).filter(pk=grant.pk).exists():
        return
    turn = Turn(grant)
    try:
        _require_still_gone(turn)
        with exclusive("shared", grant.shared_key):
            turn.provisioner.enforce(turn.target, windows_of(grant.shared_key, without=grant))
    except Gone:
        logger.info("%s: the object it shared in AWS is gone", grant.number)
    except (ConnectorError, Taken) as error:
        _leave_for_later(grant, "it could not be taken out of its shared object yet", error)
        return
    Grant.objects.filter(pk=grant.pk).update(cleared_at=_now(), ticket={})


def _require_still_gone(turn: Turn) -> None:
    grant = turn.grant
    with exclusive("object", turn.hand.lock_key(turn.target)):
        look = turn.hand.look(turn.target)
        if not look.is_present or _keeper_of(grant) or is_held_standing(grant):
            return
        if not grant.ticket:
            _tell(turn, "grants.grant.came_back", look.proof)
        turn.asked("close")
        turn.asked("close", turn.hand.close(turn.target))
    raise Unproven("AWS shows the access again after it was gone. It is removed again.")


# ---- when it does not get through ---------------------------------------------------------------------------------


def _give_up(turn: Turn, error: Exception) -> None:
    """Nothing was opened: FAILED. AWS may have heard of it: take it back, and read that back."""
    grant = turn.grant
    event, data = "grants.grant.failed", {"problem": str(error)}
    if isinstance(error, warrants.InvalidWarrant):
        logger.error("%s has no valid warrant: %s", grant.number, error)
        event = "grants.grant.warrant_refused"
    opened = bool(grant.ticket)  # kept when it is taken back: AWS may still be working on it
    with _losing_is_fine():
        move(
            grant,
            State.REVOKING if opened else State.FAILED,
            by=audit.WORKER,
            event=event,
            about=_about(grant),
            data=data,
            expect={"attempt": grant.attempt},
            end_reason=EndReason.FAILED,
            end_note=str(error)[:1000],
            problem=str(error)[:1000],
            next_try_at=_now(),
            **({"revoking_at": _now()} if opened else {}),
        )


def _leave_for_later(grant: Grant, what: str, error: Exception) -> None:
    """A change that only tidies up did not get through: the clock asks for it again in a while."""
    logger.warning("%s: %s: %s", grant.number, what, error)
    Grant.objects.filter(pk=grant.pk, state=grant.state).update(
        next_try_at=timezone.now() + timedelta(seconds=BACKOFF_CAP)
    )


def _postpone(turn: Turn, error: Exception) -> None:
    """Say what stands in the way and try again later; a removal for ever."""
    grant = turn.grant
    wait = min(BACKOFF * 2 ** min(grant.problem_count, 10), BACKOFF_CAP)
    logger.warning("%s: attempt %s did not get through: %s", grant.number, grant.attempt, error)
    with _losing_is_fine():
        turn.save(
            problem=str(error)[:1000],
            problem_count=grant.problem_count + 1,
            next_try_at=_now() + timedelta(seconds=wait),
        )


@contextmanager
def _losing_is_fine() -> Iterator[None]:
    try:
        yield
    except (Conflict, OutOfTurn):
        return


def _tell(turn: Turn, event: str, proof: Proof) -> None:
    """Put a fact that AWS confirmed on the grant's timeline."""
    with transaction.atomic():
        audit.record(
            event, by=audit.WORKER, subject=turn.grant, about=_about(turn.grant), data={"proof": _plain(proof)}
        )


def _about(grant: Grant) -> list[models.Model]:
    return [grant.identity or grant.principal, grant.entitlement]


def _plain(proof: Proof) -> dict[str, Any]:
    return {"what": proof.what, "read_at": proof.read_at.isoformat(), "facts": dict(proof.facts)}


def _now() -> datetime:
    """Now, in whole seconds: what AWS compares dates with."""
    return timezone.now().replace(microsecond=0)
