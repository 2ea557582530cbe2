"""Writing the audit log. `record` is called by services inside their own transaction, once for each decision."""

from __future__ import annotations

import contextvars
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, models

from apps.audit.models import AuditEvent, ref, refs_of

_origin: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("audit_origin", default=None)


@dataclass(frozen=True)
class Actor:
    """Who acts when it is not a signed-in person."""

    kind: str
    name: str
    id: str = ""

    def __str__(self) -> str:
        return self.name


CLOCK = Actor(AuditEvent.ActorKind.CLOCK, "the clock")
WORKER = Actor(AuditEvent.ActorKind.WORKER, "a worker")
COMMAND = Actor(AuditEvent.ActorKind.COMMAND, "a command")


class NotInTransaction(RuntimeError):
    """An event was about to be written outside the transaction of what it tells about."""


@contextmanager
def origin(**facts: Any) -> Iterator[None]:
    """Say where the acts inside come from (address, device); a middleware wraps every request in it."""
    token = _origin.set(facts)
    try:
        yield
    finally:
        _origin.reset(token)


def actor_of(by: Any) -> Actor:
    """The actor for `by`: an `Actor` as it is, anything else is a user row."""
    if isinstance(by, Actor):
        return by
    return Actor(AuditEvent.ActorKind.PERSON, str(by)[:200], str(by.pk))


def event(
    name: str,
    *,
    by: Any,
    subject: models.Model,
    about: Iterable[models.Model] = (),
    data: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """An unsaved event, for bulk writes through `record_all`."""
    actor = actor_of(by)
    refs = refs_of([subject, *about])
    if actor.kind == AuditEvent.ActorKind.PERSON:
        refs.append(f"users.user:{actor.id}")
    return AuditEvent(
        event=name,
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name,
        subject=ref(subject),
        subject_name=str(subject)[:300],
        refs=list(dict.fromkeys(refs)),
        data=dict(data or {}),
        origin=dict(_origin.get() or {}),
    )


def record(
    name: str,
    *,
    by: Any,
    subject: models.Model,
    about: Iterable[models.Model] = (),
    data: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Append one event in the current transaction.

    `by` is the signed-in user or an `Actor`; `about` lists other rows the event touches, so that each of them can tell
    its whole story. Raises `NotInTransaction` outside one: the event and the change must commit or vanish together.
    """
    [row] = record_all([event(name, by=by, subject=subject, about=about, data=data)])
    return row


def record_all(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Append many events in the current transaction, in one statement for each thousand."""
    if not connection.in_atomic_block:
        raise NotInTransaction("audit events are written inside the transaction of what they tell about")
    return AuditEvent.objects.bulk_create(list(events), batch_size=1000)
