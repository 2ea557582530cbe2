"""A worker's turn at one grant, and what every turn needs: reading a change back, trying again, telling the timeline."""

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
from apps.connectors import journal, registry
from apps.connectors.base import Look, Proof, Provisioner, Remover, Target, Ticket
from apps.connectors.errors import Refused
from apps.core.lifecycle import Conflict
from apps.grants.models import Grant, State
from apps.grants.windows import Shared, provisioner_of, target_of

logger = logging.getLogger(__name__)

POLLS = (0.2, 0.5, 1, 2, 3, 4)  # seconds between looks at an asynchronous change; then the clock takes over
HANDOVER = timedelta(minutes=1)  # a worker silent for so long has lost its turn
BACKOFF, BACKOFF_CAP = 3, 60  # seconds: 3, 6, 12 … 60, for ever
ASKED = Ticket("asked")  # sent, and no answer yet: AWS may have done it, be doing it, or never have heard of it


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

    @property
    def shared(self) -> Shared:
        """The object that the grant shares with others, by what its row says now."""
        return Shared(self.grant.shared_key, self.provisioner, self.target, self.grant)

    @cached_property
    def hand(self) -> Remover:
        """What ends this grant: its provisioner, or the remover of what was found."""
        grant = self.grant
        if grant.origin == Grant.Origin.FOUND:
            return registry.remover(grant.connection.kind, grant.remover, grant.connection.config)
        return self.provisioner

    def still(self, state: State) -> None:
        """Stop unless the row is still in `state` and this is still our turn. Reads anew what AWS was asked last, and
        whether it denies the access meanwhile."""
        mine = Grant.objects.filter(pk=self.grant.pk, state=state, attempt=self.grant.attempt)
        found = mine.values_list("ticket", "denied_at").first()
        if found is None:
            raise OutOfTurn
        self.grant.ticket, self.grant.denied_at = found

    def save(self, **fields: Any) -> None:
        """Keep a fact about this turn (never the state)."""
        grant = self.grant
        if not Grant.objects.filter(pk=grant.pk, state=grant.state, attempt=grant.attempt).update(**fields):
            raise OutOfTurn
        for name, value in fields.items():
            setattr(grant, name, value)

    def asked(self, verb: str, ticket: Ticket = ASKED) -> None:
        """Keep what AWS was asked (open, close) and what it answered."""
        self.save(ticket=kept(verb, ticket))

    def awaits(self, verb: str) -> bool:
        """AWS accepted this change and is still working on it."""
        ticket = self.grant.ticket
        return (ticket.get("verb"), ticket.get("state")) == (verb, "pending")

    @property
    def ticket(self) -> Ticket:
        return Ticket(**{name: value for name, value in self.grant.ticket.items() if name != "verb"})


def kept(verb: str, ticket: Ticket) -> dict[str, str]:
    return {"verb": verb, **asdict(ticket)}


def take_over(grant: Grant) -> Turn | None:
    """Begin another attempt, if nobody's turn is running: their `next_try_at` has passed. A row that another session holds
    is not waited for: behind it would wait what others need."""
    now = timezone.now()
    mine = Grant.objects.filter(pk=grant.pk, state=grant.state, attempt=grant.attempt, next_try_at__lte=now)
    with transaction.atomic():
        free = list(mine.select_for_update(skip_locked=True).values_list("pk", flat=True))
        if not mine.filter(pk__in=free).update(attempt=models.F("attempt") + 1, next_try_at=now + HANDOVER):
            return None
    grant.refresh_from_db(fields=["ticket", "problem_count", "denied_at", "sessions_until"])  # what its last turn left
    grant.attempt += 1
    return Turn(grant)


def read_back(turn: Turn, hand: Remover) -> Look:
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


def postpone(turn: Turn, error: Exception) -> None:
    """Say what stands in the way and try again later; a removal for ever."""
    grant = turn.grant
    wait = min(BACKOFF * 2 ** min(grant.problem_count, 10), BACKOFF_CAP)
    logger.warning("%s: attempt %s did not get through: %s", grant.number, grant.attempt, error)
    with losing_is_fine():
        turn.save(
            problem=str(error)[:1000],
            problem_count=grant.problem_count + 1,
            next_try_at=whole_now() + timedelta(seconds=wait),
        )


def leave_for_later(grant: Grant, what: str, error: Exception) -> None:
    """A change that only tidies up did not get through: the clock asks for it again in a while."""
    logger.warning("%s: %s: %s", grant.number, what, error)
    Grant.objects.filter(pk=grant.pk, state=grant.state).update(
        next_try_at=timezone.now() + timedelta(seconds=BACKOFF_CAP)
    )


@contextmanager
def losing_is_fine() -> Iterator[None]:
    try:
        yield
    except (Conflict, OutOfTurn):
        return


def tell(turn: Turn, event: str, proof: Proof) -> None:
    """Put a fact that AWS confirmed on the grant's timeline."""
    with transaction.atomic():
        audit.record(
            event, by=audit.WORKER, subject=turn.grant, about=about_of(turn.grant), data={"proof": plain(proof)}
        )


def about_of(grant: Grant) -> list[models.Model]:
    return [grant.identity or grant.principal, grant.entitlement]


def appended(entries: list[dict[str, Any]]) -> models.Func:
    """The receipt with more entries behind those that it has in the database by now."""
    more = models.Value(entries, models.JSONField())
    return models.Func(models.F("receipt"), more, arg_joiner=" || ", template="(%(expressions)s)")


@contextmanager
def on_the_receipt(turn: Turn) -> Iterator[None]:
    """Keep the changes that AWS is asked for inside the block, also those that failed or were never answered."""
    with journal.kept() as changes:
        try:
            yield
        finally:
            if changes:
                entries = [{"change": {**asdict(change), "at": change.at.isoformat()}} for change in changes]
                Grant.objects.filter(pk=turn.grant.pk).update(receipt=appended(entries))


def plain(proof: Proof) -> dict[str, Any]:
    return {"what": proof.what, "read_at": proof.read_at.isoformat(), "facts": dict(proof.facts)}


def whole_now() -> datetime:
    """Now, in whole seconds: what AWS compares dates with."""
    return timezone.now().replace(microsecond=0)
