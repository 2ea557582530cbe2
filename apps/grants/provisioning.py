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
from django.db.models import Q
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import registry
from apps.connectors.base import Look, Proof, Provisioner, Remover, Target, Ticket, Window
from apps.connectors.errors import ConnectorError, Denied, Gone, Refused, Unproven
from apps.core.lifecycle import Conflict, move
from apps.core.locks import Taken, exclusive
from apps.grants import warrants
from apps.grants.models import IN_AWS, EndReason, Grant, State
from apps.inventory.models import Assignment
from apps.inventory.sync import seen

logger = logging.getLogger(__name__)

POLLS = (0.2, 0.5, 1, 2, 3, 4)  # seconds between looks at an asynchronous change; then the clock takes over
HANDOVER = timedelta(minutes=1)  # a worker silent for so long has lost its turn
BACKOFF, BACKOFF_CAP = 3, 60  # seconds: 3, 6, 12 … 60, for ever
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
        grant = self.grant
        return registry.provisioner(grant.connection.kind, grant.provisioner, grant.connection.config)

    @cached_property
    def hand(self) -> Remover:
        """What ends this grant: its provisioner, or the remover of what was found."""
        grant = self.grant
        if grant.origin == Grant.Origin.FOUND:
            return registry.remover(grant.connection.kind, grant.remover, grant.connection.config)
        return self.provisioner

    def still(self, state: State) -> None:
        """Stop unless the row is still in `state` and this is still our turn."""
        if not Grant.objects.filter(pk=self.grant.pk, state=state, attempt=self.grant.attempt).exists():
            raise OutOfTurn

    def save(self, **fields: Any) -> None:
        """Keep a fact about this turn (never the state)."""
        if not Grant.objects.filter(pk=self.grant.pk, attempt=self.grant.attempt).update(**fields):
            raise OutOfTurn
        for name, value in fields.items():
            setattr(self.grant, name, value)


# ---- towards ACTIVE -----------------------------------------------------------------------------------------------


def provision(grant_id: int) -> None:
    """Take a pending grant to ACTIVE: claim it, write its end, read that back, open access, read that back.

    Access opens only after its end was read back from AWS; the state becomes ACTIVE only after access was read back.
    What cannot help (a limit, a refusal) ends the attempt for good; everything else is tried again by the clock until
    the grant's own time is up.
    """
    grant = Grant.objects.with_names().select_related("warrant").get(pk=grant_id)
    turn = _claim(grant) if _is_warranted(grant) else None
    if turn is None:
        return
    try:
        if turn.grant.ticket.get("state") != "pending":
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


def _is_warranted(grant: Grant) -> bool:
    """Whether this grant may be provisioned at all. A row without a valid warrant goes no further, loudly."""
    if grant.state not in (State.PENDING, State.PROVISIONING):
        return False
    try:
        warrants.check(grant)
        warrants.ask_rules_again(grant)
    except warrants.InvalidWarrant as error:
        _give_up(Turn(grant), error)
        return False
    return True


def _claim(grant: Grant) -> Turn | None:
    """Write the intent with its latest end before AWS hears of it; or take over from a worker that went silent."""
    if grant.state == State.PROVISIONING:
        return _take_over(grant)
    now = _now()
    if grant.duration is None:
        return None
    target = target_of(grant)
    tool = registry.provisioner(grant.connection.kind, grant.provisioner, grant.connection.config)
    try:
        move(
            grant,
            State.PROVISIONING,
            by=audit.WORKER,
            event="grants.grant.claimed",
            about=_about(grant),
            claimed_at=now,
            not_after=now + Grant.ALLOWANCE + grant.duration,
            shared_key=tool.shared_key(target),
            attempt=grant.attempt + 1,
            next_try_at=now + HANDOVER,
        )
    except Conflict:
        return None
    return Turn(grant)


def _take_over(grant: Grant) -> Turn | None:
    """Begin another attempt, if nobody's turn is running: their `next_try_at` has passed."""
    now = timezone.now()
    mine = Grant.objects.filter(pk=grant.pk, state=grant.state, attempt=grant.attempt, next_try_at__lte=now)
    if not mine.update(attempt=models.F("attempt") + 1, next_try_at=now + HANDOVER):
        return None
    grant.attempt += 1
    return Turn(grant)


def _write_end_first(turn: Turn) -> None:
    grant = turn.grant
    with exclusive("shared", grant.shared_key):
        turn.still(State.PROVISIONING)
        windows = windows_of(grant.shared_key)
        turn.provisioner.check(turn.target, windows)
        proof = turn.provisioner.enforce(turn.target, windows)
    left_out = any(window.target == turn.target and window.holds_standing for window in windows)
    turn.save(deny_left_out=left_out)
    _tell(turn, "grants.grant.end_written", proof)


def _open(turn: Turn) -> None:
    with exclusive("object", turn.provisioner.lock_key(turn.target)):
        turn.still(State.PROVISIONING)
        turn.save(ticket={"state": "opening"})  # from here on AWS may have heard of it
        ticket = turn.provisioner.open(turn.target)
        turn.save(ticket=asdict(ticket))


def _await(turn: Turn, hand: Remover) -> Look:
    """Poll the change under way, outside any lock, then read back.

    Raises `OutOfTurn` when it takes longer (the clock looks again), and `Refused` when AWS failed an opening.
    """
    ticket = Ticket(**turn.grant.ticket)
    for seconds in POLLS:
        if ticket.state != "pending":
            break
        time.sleep(seconds)
        ticket = hand.status(turn.target, ticket)
    if ticket.state == "pending":
        turn.save(ticket=asdict(ticket), next_try_at=timezone.now() + timedelta(seconds=5))
        raise OutOfTurn
    look = hand.look(turn.target)
    if ticket.state == "failed" and not look.is_present and turn.grant.state == State.PROVISIONING:
        raise Refused(f"AWS accepted the change and then failed it: {ticket.reason or 'it gave no reason'}.")
    return look


def _settle_active(turn: Turn, look: Look) -> None:
    grant = turn.grant
    if not look.is_present:
        turn.save(ticket={"state": "opening"})
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
        logger.warning("%s: its end in AWS is not narrowed yet: %s", grant.number, error)
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
    try:
        proofs, denied = _deny_first(turn)
        other = _close(turn)
        proofs.append(other or _read_gone(turn))
        if denied:
            raise denied  # it is gone from AWS; sessions that live are not cut yet
        _settle_revoked(turn, proofs)
    except OutOfTurn:
        return
    except (ConnectorError, Taken) as error:
        _postpone(turn, error)


def _deny_first(turn: Turn) -> tuple[list[Proof], ConnectorError | None]:
    """Deny at once what the shared object can deny; sessions that live are cut by it too. A Deny that cannot be written
    must not keep the removal waiting, so its error is handed back to be raised after that."""
    grant = turn.grant
    if not grant.shared_key:
        return [], None
    try:
        with exclusive("shared", grant.shared_key):
            turn.still(State.REVOKING)
            proof = turn.provisioner.enforce(turn.target, windows_of(grant.shared_key))
    except Gone as error:
        return [Proof(str(error), _now())], None
    except ConnectorError as error:
        return [], error
    if grant.denied_at is None:
        turn.save(denied_at=proof.read_at)
        _tell(turn, "grants.grant.denied", proof)
    return [proof], None


def _read_gone(turn: Turn) -> Proof:
    look = _await(turn, turn.hand)
    if look.is_present:
        turn.save(ticket={})  # ask AWS again from the start
        raise Unproven("AWS took the removal and still shows the access. It is asked again.")
    seen.note(turn.grant.principal, turn.grant.entitlement, is_present=False, at=look.proof.read_at)
    return look.proof


def _close(turn: Turn) -> Proof | None:
    """Remove it, unless another grant needs the same thing in AWS; then say which."""
    grant = turn.grant
    if grant.ticket.get("state") == "pending":
        return None
    with exclusive("object", turn.hand.lock_key(turn.target)):
        turn.still(State.REVOKING)
        other = Grant.objects.same_access(grant).filter(state__in=IN_AWS).order_by("-not_after").first()
        if other:
            until = f"{other.ends_at or other.not_after:%H:%M} UTC"
            what = f"Nothing was removed: {other.number} holds the same access until {until}."
            return Proof(what, _now(), {"other": other.number})
        turn.save(ticket={"state": "opening"})
        try:
            ticket = turn.hand.close(turn.target)
        except Gone:
            ticket = Ticket("done")
        turn.save(ticket=asdict(ticket))
    return None


def _settle_revoked(turn: Turn, proofs: list[Proof]) -> None:
    grant = turn.grant
    since = grant.revoking_at or _now()
    session_for = grant.entitlement.session_for
    if grant.origin != Grant.Origin.FOUND:
        session_for = turn.provisioner.session_for(turn.target)
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
            sessions_until=since + session_for if session_for else None,
            ticket={},
            problem="",
            problem_count=0,
        )
    except Conflict:
        raise OutOfTurn from None


def clear(grant_id: int) -> None:
    """Take an ended grant out of the object it shared in AWS, once none of its sessions can live any more."""
    grant = Grant.objects.with_names().get(pk=grant_id)
    if not Grant.objects.uncleared(timezone.now()).filter(pk=grant.pk).exists():
        return
    turn = Turn(grant)
    try:
        with exclusive("shared", grant.shared_key):
            turn.provisioner.enforce(turn.target, windows_of(grant.shared_key))
    except Gone:
        logger.info("%s: the object it shared in AWS is gone", grant.number)
    except (ConnectorError, Taken) as error:
        logger.warning("%s: could not be taken out of its shared object yet: %s", grant.number, error)
        return
    Grant.objects.filter(pk=grant.pk).update(cleared_at=_now())


# ---- what AWS shall say -------------------------------------------------------------------------------------------


def windows_of(shared_key: str) -> list[Window]:
    """What the shared object must say now: the union of live grants for each (principal, entitlement), and a date in the
    past for those that ended. Read under the object's lock, so that the last writer wrote the latest truth."""
    now = _now()
    rows: dict[tuple[int, int], list[Grant]] = {}
    for grant in Grant.objects.sharing(shared_key, now).with_names().select_related("warrant").order_by("pk"):
        rows.setdefault((grant.principal_id, grant.entitlement_id), []).append(grant)
    return [_window(grants) for grants in rows.values()]


def _window(grants: list[Grant]) -> Window:
    open_ends = [_end_of(grant) for grant in grants if _shall_be_open(grant)]
    ended = [grant.revoking_at or grant.revoked_at or grant.claimed_at for grant in grants]
    not_after = max(open_ends) if open_ends else max(at for at in ended if at is not None)
    target = target_of(grants[-1])
    return Window(
        target=target,
        not_after=not_after.replace(microsecond=0),
        is_open=bool(open_ends),
        holds_standing=_holds_standing(grants[-1]),
    )


def _shall_be_open(grant: Grant) -> bool:
    """Whether AWS shall let it through: its intent stands, and rests on a warrant (a row alone opens nothing)."""
    if grant.state not in (State.PROVISIONING, State.ACTIVE):
        return False
    try:
        warrants.check(grant)
    except warrants.InvalidWarrant:
        return False
    return True


def _end_of(grant: Grant) -> datetime:
    return min(at for at in (grant.not_after, grant.ends_at) if at is not None)


def _holds_standing(grant: Grant) -> bool:
    """Whether a Deny on what this grant allows could cut something its principal holds all the time."""
    groups = Assignment.objects.open().filter(principal=grant.principal, entitlement__group__isnull=False)
    held = Assignment.objects.open().filter(
        Q(principal=grant.principal) | Q(principal__in=groups.values("entitlement__group")), entitlement__is_ours=False
    )
    documents = [entry["document"] for row in held.values_list("entitlement__documents", flat=True) for entry in row]
    return Turn(grant).provisioner.would_cut(target_of(grant), documents)


def target_of(grant: Grant) -> Target:
    """The grant's pair in the provider's words."""
    entitlement, principal = grant.entitlement, grant.principal
    resource = entitlement.resource or principal.resource
    return Target(
        account_id=resource.external_id if resource else "",
        principal_kind=principal.kind,
        principal_external_id=principal.external_id,
        principal_name=principal.name,
        entitlement_kind=entitlement.kind,
        entitlement_external_id=entitlement.external_id,
        entitlement_name=entitlement.name,
        entitlement_attributes=entitlement.attributes,
        principal_attributes=principal.attributes,
        assignment_attributes=grant.assignment.attributes if grant.assignment else {},
    )


# ---- when it does not get through ---------------------------------------------------------------------------------


def _give_up(turn: Turn, error: Exception) -> None:
    """Nothing was opened: FAILED. AWS may have heard of it: take it back, and read that back."""
    grant = turn.grant
    event, data = "grants.grant.failed", {"problem": str(error)}
    if isinstance(error, warrants.InvalidWarrant):
        logger.error("%s has no valid warrant: %s", grant.number, error)
        event = "grants.grant.warrant_refused"
    opened = bool(grant.ticket)
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
            ticket={},
            **({"revoking_at": _now()} if opened else {}),
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
