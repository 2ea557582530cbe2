"""Towards REVOKED: denied first, removed, read back as gone; and, when no session can live any more, cleared away."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import budget
from apps.connectors.base import Proof
from apps.connectors.errors import Busy, ConnectorError, Gone, Unproven, Unreachable
from apps.core.lifecycle import Conflict, move
from apps.core.locks import Taken, exclusive
from apps.grants import narrowing, paths
from apps.grants.models import Grant, State
from apps.grants.provisioning.denying import note_denied
from apps.grants.provisioning.enforcing import alone_with, enforce
from apps.grants.provisioning.turns import (
    OutOfTurn,
    Turn,
    about_of,
    appended,
    leave_for_later,
    on_the_receipt,
    plain,
    postpone,
    read_back,
    take_over,
    tell,
    whole_now,
)
from apps.grants.windows import is_held_standing, is_open, windows_of
from apps.inventory.sync import seen

logger = logging.getLogger(__name__)


@budget.purpose("revoke")
def deprovision(grant_id: int) -> None:
    """Take a grant that shall end to REVOKED: deny first, remove what no other grant needs, read back that it is gone.

    There is no other way out and no last attempt: whatever fails is tried again, visible as overdue meanwhile.
    """
    grant = Grant.objects.with_names().get(pk=grant_id)
    if grant.state != State.REVOKING or grant.is_owner_task:
        return
    turn = take_over(grant)
    if turn is None:
        return
    undenied: ConnectorError | Taken | None = None
    try:
        with on_the_receipt(turn):
            proofs, undenied = _deny_first(turn)
            proofs.append(_close(turn) or _read_gone(turn))
        if undenied:
            proofs.append(_outlived(turn, undenied))
        _settle_revoked(turn, proofs)
    except OutOfTurn:
        return
    except (ConnectorError, Taken) as error:
        postpone(turn, undenied or error)


def _deny_first(turn: Turn) -> tuple[list[Proof], ConnectorError | Taken | None]:
    """Deny at once what the shared object can deny; sessions that live are cut by it too. A Deny that cannot be written
    must not keep the removal waiting, so its error is handed back to be raised after that.

    What was denied together with others (`denying.deny`) is not written again, unless the removal had trouble since; nor
    does it then wait for the object, which those who open something may hold for seconds.
    """
    grant = turn.grant
    if not grant.shared_key or _needs_no_deny(grant):
        return [], None
    try:
        with alone_with(turn.shared):
            turn.still(State.REVOKING)
            if _needs_no_deny(grant):
                return [], None
            windows = windows_of(grant.shared_key)
            proof = enforce(turn.shared, windows)
            is_on_receipt = bool(note_denied([grant], windows, proof)) or grant.denied_at is not None
    except Gone as error:
        return [Proof(str(error), whole_now())], None
    except (ConnectorError, Taken) as error:
        return [], error
    return ([] if is_on_receipt else [proof]), None


def _needs_no_deny(grant: Grant) -> bool:
    return grant.denied_at is not None and not grant.problem_count


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
            return Proof(what, whole_now(), {"other": keeper.number})
        turn.asked("close")
        try:
            turn.asked("close", turn.hand.close(turn.target))
        except Gone:
            pass  # the read-back proves it
        except Unreachable:
            raise  # it may be on its way, so it stays asked for
        except ConnectorError:
            turn.save(ticket={})
            raise
        turn.save(removal_accepted_at=whole_now())
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
    look = read_back(turn, turn.hand)
    if look.is_present:
        turn.save(ticket={}, sessions_until=None)  # ask AWS again from the start
        raise Unproven("AWS took the removal and still shows the access. It is asked again.")
    session_for = _session_for(turn)
    if session_for and grant.sessions_until is None:
        turn.save(sessions_until=look.proof.read_at + session_for)  # one could have been opened just before
    if not _is_held_by_another(grant):
        seen.note(grant.principal, grant.entitlement, is_present=False, at=look.proof.read_at)
    return look.proof


def _is_held_by_another(grant: Grant) -> bool:
    """Whether another grant gives the same in an object of its own in AWS. This one is active no more."""
    others = Grant.objects.filter(principal=grant.principal_id, entitlement=grant.entitlement_id, state=State.ACTIVE)
    return others.exists()


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
    return Proof(
        f"No Deny could be written. Sessions ended by themselves by {until:%H:%M} UTC. {undenied}", whole_now()
    )


def _settle_revoked(turn: Turn, proofs: list[Proof]) -> None:
    grant = turn.grant
    try:
        move(
            grant,
            State.REVOKED,
            by=audit.WORKER,
            event="grants.grant.revoked",
            about=about_of(grant),
            data={"proofs": [plain(proof) for proof in proofs]},
            expect={"attempt": grant.attempt},
            revoked_at=whole_now(),
            receipt=appended([*(plain(proof) for proof in proofs), *_paths_that_remain(grant)]),
            ticket={},
            problem="",
            problem_count=0,
        )
    except Conflict:
        raise OutOfTurn from None


def _paths_that_remain(grant: Grant) -> list[dict[str, Any]]:
    """For the receipt: what its holder still has in the same account, or in those that the group of a membership leads to,
    by the inventory of this moment."""
    left = paths.others(grant)
    if left is None:
        return []
    as_of = grant.connection.as_of
    return [{"paths": left.lines, "as_of": as_of.isoformat() if as_of else None}]


@budget.purpose("revoke")
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
        narrowing.require_may_take_back()
        _require_still_gone(turn)
        with alone_with(turn.shared):
            enforce(turn.shared, windows_of(grant.shared_key, without=grant))
    except Gone:
        logger.info("%s: the object it shared in AWS is gone", grant.number)
    except (ConnectorError, Taken) as error:
        leave_for_later(grant, "it could not be taken out of its shared object yet", error)
        return
    Grant.objects.filter(pk=grant.pk).update(cleared_at=whole_now(), ticket={})


def _require_still_gone(turn: Turn) -> None:
    grant = turn.grant
    with exclusive("object", turn.hand.lock_key(turn.target)):
        look = turn.hand.look(turn.target)
        if not look.is_present:
            return
        if not grant.ticket:  # nothing is under way, so somebody may rely on it
            if _keeper_of(grant) or is_held_standing(grant):
                return
            tell(turn, "grants.grant.came_back", look.proof)
        turn.asked("close")
        turn.asked("close", turn.hand.close(turn.target))
    raise Unproven("AWS shows the access again after it was gone. It is removed again.")
