"""Identity providers and their tokens."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.core.refusals import NotPossible
from apps.inventory.models import Connection
from apps.inventory.sync import said as directory
from apps.scim.models import Source, Token

MARK = "gatehouse-scim"  # what a token begins with, so that scanners of code and mail know one when they see it
USED_EVERY = timedelta(minutes=1)


def add_source(*, name: str, connection: Connection, subject_is_external_id: bool, by: Any) -> Source:
    """A new identity provider, which can say nothing until it has a token."""
    try:
        with transaction.atomic():
            source = Source.objects.create(
                name=name, connection=connection, subject_is_external_id=subject_is_external_id
            )
            data = {"connection": connection.name, "subject_is_external_id": subject_is_external_id}
            audit.record("scim.source.added", by=by, subject=source, about=[connection], data=data)
    except IntegrityError:
        raise NotPossible(f"There is an identity provider {name} already. Choose another name.") from None
    return source


@transaction.atomic
def make_token(source: Source, *, expires_at: datetime | None, by: Any) -> tuple[Token, str]:
    """A new token, and its secret, which nobody can see again. At most two live at once: the one in use and its
    successor, so that the identity provider can be told before the old one is revoked."""
    directory.hold(source.connection)  # two at once would make three
    now = timezone.now()
    if expires_at and expires_at <= now:
        raise NotPossible("It would have expired already. Choose a later day.")
    if source.tokens.live(now).count() >= Token.MOST_LIVE:
        raise NotPossible(f"{source} has {Token.MOST_LIVE} tokens that work. Revoke the one that is not used any more.")
    prefix = secrets.token_hex(6)
    secret = f"{MARK}_{prefix}_{secrets.token_urlsafe(32)}"
    token = Token.objects.create(
        source=source, prefix=prefix, digest=_digest(secret), expires_at=expires_at, created_by=by
    )
    data = {"expires_at": expires_at.isoformat() if expires_at else None}
    audit.record("scim.token.made", by=by, subject=token, about=[source], data=data)
    return token, secret


@transaction.atomic
def revoke_token(token: Token, *, by: Any) -> Token:
    """It opens nothing from this moment on."""
    token = Token.objects.select_for_update(of=("self",)).select_related("source").get(pk=token.pk)
    if token.revoked_at:
        raise NotPossible("This token was revoked already.")
    token.revoked_at, token.revoked_by = timezone.now(), by
    token.save(update_fields=["revoked_at", "revoked_by"])
    audit.record("scim.token.revoked", by=by, subject=token, about=[token.source])
    return token


def token_of(secret: str) -> Token | None:
    """The live token with this secret. It is found by the part that is not secret, and compared in constant time."""
    token = _named(secret)
    if token is None or not constant_time_compare(token.digest, _digest(secret)) or token.state != "live":
        return None
    return token


def note_use(token: Token) -> None:
    """Remember, to the minute, that it was used."""
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
    Token.objects.filter(stale, pk=token.pk).update(last_used_at=now)


def note_refusal(secret: str) -> bool:
    """Somebody showed a token that once worked, or only its name: that is for the log. Whether it was one of ours."""
    token = _named(secret)
    if token is None:
        return False
    is_old = constant_time_compare(token.digest, _digest(secret))
    with transaction.atomic():
        data = {"why": token.state if is_old else "wrong secret"}
        audit.record("scim.token.refused", by=actor_of(token.source), subject=token, about=[token.source], data=data)
    return True


def actor_of(source: Source) -> audit.Actor:
    """Who acts when an identity provider calls."""
    return audit.Actor(AuditEvent.ActorKind.PROGRAM, source.name, f"scim.source:{source.pk}")


def _named(secret: str) -> Token | None:
    mark, _, rest = secret.partition("_")
    prefix, _, random = rest.partition("_")
    if mark != MARK or not random or not prefix.isalnum() or not prefix.isascii() or len(secret) > 100:
        return None
    return Token.objects.select_related("source__connection").filter(prefix=prefix).first()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
