"""Whose login an IAM user is: administrators answer, workers carry it out. What is said here outlives every sync; only
another IAM user by the same name is asked about anew."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.refusals import NotPossible
from apps.inventory import tasks
from apps.inventory.models import Correlation, Identity, Principal

LATER = timedelta(days=30)
MOST_AT_ONCE = 200
REASON = 500

Choice = Correlation.Choice


@transaction.atomic
def say_whose(principal: Principal, person: Identity, *, by: Any, reason: str = "") -> Correlation:
    """This IAM user is a login of this person: all it holds counts as theirs, in reviews and when they leave. Nobody says
    it of themselves, since one may ask for more with what is one's own."""
    row = _question(principal)
    _require_linkable(row, person, by)
    _answer(row, Choice.PERSON, by=by, reason=reason, person=person)
    data = {"person": str(person), "account": _account(row), "reason": row.reason}
    audit.record("inventory.principal.linked", by=by, subject=row.principal, about=[person], data=data)
    _carry_out(row.principal.connection_id)
    return row


@transaction.atomic
def say_machine(principal: Principal, *, by: Any, reason: str = "") -> Correlation:
    """This IAM user is nobody's login: it stays, or is again, a machine that its owner answers for."""
    row = _question(principal)
    before = _take_from(row, by)
    _answer(row, Choice.MACHINE, by=by, reason=reason)
    data = {"from": str(before or ""), "account": _account(row), "reason": row.reason}
    audit.record(
        "inventory.principal.called_machine", by=by, subject=row.principal, about=[before] if before else [], data=data
    )
    _carry_out(row.principal.connection_id)
    return row


@transaction.atomic
def put_off(principal: Principal, *, by: Any, reason: str = "") -> Correlation:
    """Not now: the question comes back by itself after `LATER`."""
    row = _question(principal)
    if row.decision == Choice.PERSON:
        raise NotPossible(f"{principal} is somebody's login. Take that back first.")
    _answer(row, Choice.LATER, by=by, reason=reason, until=timezone.now() + LATER)
    assert row.until
    data = {"until": row.until.isoformat(), "account": _account(row), "reason": row.reason}
    audit.record("inventory.principal.put_off", by=by, subject=row.principal, data=data)
    return row


@transaction.atomic
def unlink_login(principal: Principal, *, by: Any, reason: str = "") -> Correlation:
    """It is not this person's login after all: a machine until somebody says whose it is. No rule links it again."""
    row = _question(principal)
    before = _take_from(row, by)
    if before is None:
        raise NotPossible(f"{principal} is nobody's login.")
    _answer(row, Choice.LATER, by=by, reason=reason, until=timezone.now())
    data = {"from": str(before), "account": _account(row), "reason": row.reason}
    audit.record("inventory.principal.unlinked", by=by, subject=row.principal, about=[before], data=data)
    _carry_out(row.principal.connection_id)
    return row


@transaction.atomic
def accept_proposals(rule: str, *, by: Any) -> int:
    """Link all that one rule proposes, as an administrator who looked at the list; at most `MOST_AT_ONCE`, none of them
    their own. One event each. Returns how many."""
    rows = Correlation.objects.waiting().filter(rule=rule, proposed__ended_at=None, proposed__kind=Identity.Kind.HUMAN)
    rows = rows.exclude(proposed=None).exclude(proposed__user=by).select_related("principal__resource", "proposed")
    due = list(rows.select_for_update(of=("self",)).order_by("pk")[:MOST_AT_ONCE])
    now = timezone.now()
    events = []
    for row in due:
        row.decision, row.person, row.decided_by, row.decided_at, row.until = Choice.PERSON, row.proposed, by, now, None
        row.reason = ""
        data = {"person": str(row.proposed), "account": _account(row), "rule": rule}
        events.append(
            audit.event("inventory.principal.linked", by=by, subject=row.principal, about=[row.proposed], data=data)  # type: ignore[list-item]
        )
    Correlation.objects.bulk_update(due, ["decision", "person", "decided_by", "decided_at", "until", "reason"])
    audit.record_all(events)
    for connection_id in {row.principal.connection_id for row in due}:
        _carry_out(connection_id)
    return len(due)


def ask_whose(principal: Principal, *, by: Any, note: str) -> Correlation:
    """Put an IAM user into the queue because somebody says that it is a person's. Inside the caller's transaction, which
    records why; it changes nothing else."""
    row = _question(principal)
    if row.decision != Choice.PERSON:
        row.decision, row.until, row.decided_by, row.decided_at = "", None, None, None
        row.asked_by, row.asked_at, row.note, row.reason = by, timezone.now(), note[:300], ""
        row.save(
            update_fields=["asked_by", "asked_at", "note", "reason", "decision", "until", "decided_by", "decided_at"]
        )
    return row


def _question(principal: Principal) -> Correlation:
    """The question about this IAM user, locked; asked now if nobody did yet."""
    if principal.kind != Principal.Kind.IAM_USER or principal.is_reserved or principal.ended_at:
        raise NotPossible(f"{principal} is no IAM user that is still there. Only those are linked by hand.")
    unique_id = str(principal.attributes.get("unique_id") or "")
    Correlation.objects.get_or_create(principal=principal, defaults={"unique_id": unique_id})
    found = Correlation.objects.select_for_update(of=("self",)).select_related("principal__resource", "person")
    return found.get(principal=principal)


def _is(person: Identity, by: Any) -> bool:
    return person.user_id is not None and person.user_id == getattr(by, "pk", None)


def _require_linkable(row: Correlation, person: Identity, by: Any) -> None:
    is_confirming = row.decision == Choice.PERSON and row.person_id == person.pk  # what a rule says, also of a leaver
    if not person.is_human or (person.ended_at and not is_confirming):
        raise NotPossible(f"{person} is not a person who is here now. Choose somebody else.")
    if person.connection_id != row.principal.connection_id:
        raise NotPossible(f"{person} belongs to another connection. Choose somebody of {row.principal.connection}.")
    if _is(person, by):
        raise NotPossible("Another administrator links your own logins.")


def _take_from(row: Correlation, by: Any) -> Identity | None:
    """Whose it was until now. Nobody takes a login from themselves: what it holds would leave their reviews."""
    before = row.person if row.decision == Choice.PERSON else None
    if before and _is(before, by):
        raise NotPossible("Another administrator decides about your own logins.")
    return before


def _answer(row: Correlation, choice: Choice, *, by: Any, reason: str, person: Any = None, until: Any = None) -> None:
    if row.decision == choice and row.person == person and row.decided_by_id and choice != Choice.LATER:
        raise NotPossible("Somebody else said the same before you.")
    row.decision, row.person, row.until = choice, person, until
    row.decided_by, row.decided_at, row.reason = by, timezone.now(), reason[:REASON]
    row.unique_id = str(row.principal.attributes.get("unique_id") or "")
    row.save(update_fields=["decision", "person", "until", "decided_by", "decided_at", "reason", "unique_id"])


def _account(row: Correlation) -> str:
    return row.principal.resource.external_id if row.principal.resource else ""


def _carry_out(connection_id: int) -> None:
    transaction.on_commit(lambda: tasks.correlate_people.delay(connection_id))
