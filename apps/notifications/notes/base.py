"""What a note is, and the words they share."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from django.db import models

from apps.audit.models import AuditEvent
from apps.inventory.models import Identity
from apps.users.models import PortalRole, User

M = TypeVar("M", bound=models.Model)

BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, kw_only=True)
class Note:
    """What one person is to be told. Nobody is told of their own act, unless the note is there to let them notice that
    it was not them (`even_own`). What is only good to know stays in the inbox (`is_mailed=False`)."""

    to: User | None
    title: str
    text: str = ""
    url: str
    is_mailed: bool = True
    even_own: bool = False


Teller = Callable[[AuditEvent], Iterable[Note]]


def one_line(text: str, limit: int) -> str:
    """Hostile text made harmless for a subject line: no line breaks, no control or direction characters, bounded."""
    plain = "".join(" " if unicodedata.category(c) in _BREAKS else c for c in text if c not in BIDI)
    plain = " ".join(plain.split())
    return plain if len(plain) <= limit else f"{plain[: limit - 1].rstrip()}…"


_BREAKS = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})


def row(event: AuditEvent, rows: models.QuerySet[M]) -> M | None:
    """The row an event is about, as it is now; None when it is gone."""
    return rows.filter(pk=event.subject.rpartition(":")[2]).first()


def administrators() -> list[User]:
    return list(User.objects.filter(is_active=True, portal_roles__role=PortalRole.Role.ADMINISTRATOR).distinct())


def user_of(identity: Identity | None) -> User | None:
    """The portal user of somebody who still works here."""
    return identity.user if identity and identity.ended_at is None else None


def quoted(text: object) -> str:
    """What a person wrote, marked as theirs; nothing for nothing."""
    return f"“{text}”" if text else ""


def sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def at(instant: datetime | None) -> str:
    """An instant that still says the same when the mail is read tomorrow."""
    if instant is None:
        return "a time that is not known"
    exact = instant.astimezone(UTC)
    return f"{exact:%H:%M} UTC on {exact.day} {exact:%B}"
