"""The keys that sign approvals, as the worker knows them. The web process enrols authenticators; a worker copies each once,
starts its waiting time from its own first sight, and tells the owner."""

from __future__ import annotations

import logging
from datetime import datetime

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from fido2 import cbor
from fido2.utils import websafe_encode

from apps.audit import services as audit
from apps.users.models import Passkey, User

logger = logging.getLogger(__name__)

BATCH = 500


def follow() -> None:
    """Note passkeys that were enrolled, and end those whose authenticator is gone. A key that is changed in place stays
    what it was when it was first seen."""
    now = timezone.now()
    enrolled = Authenticator.objects.filter(type=Authenticator.Type.WEBAUTHN)
    unseen = enrolled.exclude(pk__in=Passkey.objects.values("authenticator")).select_related("user")
    for authenticator in unseen.order_by("pk")[:BATCH]:
        _note(authenticator, now)
    for gone in Passkey.objects.filter(ended_at=None).exclude(authenticator__in=enrolled.values("pk"))[:BATCH]:
        _end(gone, now)


def counting(user: User) -> list[Passkey]:
    """The user's keys whose signature counts now."""
    return list(Passkey.objects.counting(timezone.now()).filter(user=user, ended_at=None))


def waiting(user: User) -> list[Passkey]:
    """The user's keys that a worker saw and that still wait, the first to count first."""
    return list(
        Passkey.objects.filter(user=user, ended_at=None, counts_from__gt=timezone.now()).order_by("counts_from")
    )


def _note(authenticator: Authenticator, now: datetime) -> None:
    try:
        credential = authenticator.wrap().authenticator_data.credential_data
        facts = {
            "credential_id": websafe_encode(credential.credential_id),
            "public_key": websafe_encode(cbor.encode(credential.public_key)),
        }
    except (AttributeError, KeyError, TypeError, ValidationError, ValueError):
        logger.warning("Authenticator %s cannot be read and counts for nothing.", authenticator.pk)
        return
    counts_from = now + settings.STEP_UP_WAITING_TIME
    try:
        with transaction.atomic():
            Passkey.objects.create(
                user=authenticator.user,
                authenticator=authenticator.pk,
                name=str(authenticator)[:100],
                first_seen_at=now,
                counts_from=counts_from,
                **facts,
            )
            data = {
                "authenticator": authenticator.pk,
                "name": str(authenticator)[:100],
                "from": counts_from.isoformat(),
            }
            audit.record("users.passkey.seen", by=audit.WORKER, subject=authenticator.user, data=data)
    except IntegrityError:  # another worker was first, or the key is somebody's already
        logger.warning("Authenticator %s repeats a passkey that is known, and counts for nothing.", authenticator.pk)


def _end(passkey: Passkey, now: datetime) -> None:
    with transaction.atomic():
        if Passkey.objects.filter(pk=passkey.pk, ended_at=None).update(ended_at=now):
            data = {"authenticator": passkey.authenticator, "name": passkey.name}
            audit.record("users.passkey.ended", by=audit.WORKER, subject=passkey.user, data=data)
