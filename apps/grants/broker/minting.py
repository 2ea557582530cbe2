"""Whether a session is made, and making it. The broker believes no row's word for itself and no request's word for anything
that it can read: whose grant it is, that it runs, what it rests on.

It only reads grants, and inserts: one row and one audit event for each session, before the session is handed out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import registry
from apps.connectors.errors import ConnectorError
from apps.connectors.minting import Minted
from apps.grants import narrowing, presence, warrants, windows
from apps.grants.broker import signing
from apps.grants.broker.signing import Confirmed
from apps.grants.models import Grant, Minting, State, Stop
from apps.users.models import User

logger = logging.getLogger(__name__)

BROKER = replace(audit.WORKER, name="the broker")
STEP_UP_FOR = timedelta(minutes=15)
METHODS = frozenset({"passkey", "totp"})
LONGEST_FACT = 200
SERVED = "This signature served before. Sign again."


class NotGiven(Exception):
    """No session is made. The text is for the person who asked."""


@dataclass(frozen=True)
class Asked:
    """Who asks for a session of which grant. `step_up` and `origin` are the web's word (docs/security.md), `signed` is the
    holder's own."""

    reference: str
    user_id: str
    kind: Minting.Kind
    step_up: Mapping[str, Any]
    origin: Mapping[str, str]
    signed: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Asked:
        """Raises `NotGiven` for what is not a request."""
        step_up, origin, signed = (body.get(name) for name in ("step_up", "origin", "signed"))
        try:
            if not (isinstance(step_up, dict) and isinstance(origin, dict) and isinstance(signed, dict | None)):
                raise TypeError
            return cls(
                reference=str(body["grant"]),
                user_id=str(body["user"]),
                kind=Minting.Kind(body["kind"]),
                step_up={name: step_up.get(name) for name in ("method", "at")},
                origin={str(name)[:40]: str(value)[:LONGEST_FACT] for name, value in list(origin.items())[:10]},
                signed=signed or {},
            )
        except (KeyError, TypeError, ValueError):
            raise NotGiven("This is no request for a session.") from None


def hand_out(asked: Asked) -> dict[str, str]:
    """A session of the grant for its holder, as `client.Session` takes it. Raises `NotGiven` with the reason.

    What is recorded is the key's id; the secret is in what is returned and nowhere else.
    """
    grant, holder = _read(asked)
    confirmed = _confirmed(asked, grant, holder)
    _require_authority(grant)
    now = timezone.now()
    try:
        minter = registry.minter(grant.connection.kind, grant.provisioner, grant.connection.config)
        if asked.kind == Minting.Kind.CONSOLE:
            minter.require_console()
        minted = minter.mint(windows.target_of(grant), _end_of(grant), person=holder.email, now=now)
        _record(grant, holder, asked, minted, confirmed, now)
        url = minter.console_url(minted) if asked.kind == Minting.Kind.CONSOLE else ""
    except ConnectorError as error:
        # Without its traceback: what AWS answered may be quoted in it.
        logger.warning("%s: no session could be made: %s", grant.number, error)
        raise NotGiven(str(error)) from None
    given = {"expires_at": minted.expires_at.isoformat(), "session_name": minted.session_name}
    if asked.kind == Minting.Kind.CONSOLE:
        return {**given, "console_url": url}
    return {
        **given,
        "access_key_id": minted.access_key_id,
        "secret_access_key": minted.secret_access_key,
        "session_token": minted.session_token,
        "endpoint_url": minted.endpoint_url,
    }


def _read(asked: Asked) -> tuple[Grant, User]:
    """The grant and its holder, as the rows say now. Whoever is not the holder learns nothing about the grant."""
    grant = Grant.objects.with_names().select_related("warrant", "identity__user").filter(reference=asked.reference)
    found = grant.first()
    holder = found.identity.user if found and found.identity else None
    if found is None or found.identity is None or holder is None or str(holder.pk) != asked.user_id:
        raise NotGiven("You hold no such grant.")
    if not holder.is_active or found.identity.ended_at is not None:
        raise NotGiven("Whoever has left gets no session.")
    if found.state != State.ACTIVE or _end_of(found) <= timezone.now():
        raise NotGiven("The grant is not active. Ask for access again.")
    if not registry.has_minter(found.connection.kind, found.provisioner):
        raise NotGiven("This grant is used without a session from here.")
    if not found.connection.is_writable:
        raise NotGiven(f"Gatehouse may only look at {found.connection} now. An administrator can let it write.")
    return found, holder


def _end_of(grant: Grant) -> datetime:
    """The earlier of what was asked for and what AWS enforces; a grant without an end is over."""
    ends = [at for at in (grant.ends_at, grant.not_after) if at is not None]
    return min(ends) if len(ends) == 2 else grant.created_at


def _confirmed(asked: Asked, grant: Grant, holder: User) -> Confirmed:
    """That the holder is there. For privileged access their passkey says so; for the rest the web process does, and this
    only refuses what it admits."""
    if grant.entitlement.is_privileged:
        try:
            confirmed = signing.verify(grant, holder, asked.signed)
        except signing.NotSigned as error:
            raise NotGiven(f"Privileged access takes your passkey. {error} Try again.") from error
        if Minting.objects.filter(signed_digest=confirmed.digest).exists():
            raise NotGiven(SERVED)
        return confirmed
    try:
        at = datetime.fromisoformat(str(asked.step_up.get("at")))
        is_fresh = timedelta(0) <= timezone.now() - at <= STEP_UP_FOR
    except (ValueError, TypeError):
        is_fresh = False
    if not is_fresh or asked.step_up.get("method") not in METHODS:
        raise NotGiven("Confirm that it is you, then ask again.")
    return Confirmed(asked.step_up, "")


def _require_authority(grant: Grant) -> None:
    """The same questions that are asked before anything is opened in AWS. A warrant that does not hold is an alarm."""
    if why := narrowing.reason():
        raise NotGiven(why)
    if stop := Stop.objects.in_force().against(grant).first():
        raise NotGiven(stop.refusal)
    try:
        warrants.check(grant)
        warrants.ask_rules_again(grant)
    except warrants.InvalidWarrant as error:
        logger.error("%s: a session was asked for without authority: %s", grant.number, error)  # noqa: TRY400
        with transaction.atomic():
            data = {"problem": str(error)}
            audit.record("grants.grant.credentials_refused", by=BROKER, subject=grant, data=data)
        raise NotGiven(f"This grant gives no session. {error}") from error


def _record(grant: Grant, holder: User, asked: Asked, minted: Minted, confirmed: Confirmed, now: datetime) -> None:
    """One row and one event, before the session leaves this process. A grant that ended while AWS was asked gets nothing
    (and AWS denies what was made for it), nor does a signature that served before."""
    try:
        with transaction.atomic(), audit.origin(**asked.origin):
            if not Grant.objects.filter(pk=grant.pk, state=State.ACTIVE).exists():
                raise NotGiven("The grant ended just now.")
            if not presence.is_here(grant):
                raise NotGiven("Whoever has left gets no session.")
            Minting.objects.create(
                grant=grant,
                kind=asked.kind,
                access_key_id=minted.access_key_id,
                session_name=minted.session_name,
                signed_digest=confirmed.digest or None,
                minted_at=now,
                expires_at=minted.expires_at,
            )
            audit.record(
                "grants.grant.credentials_minted",
                by=holder,
                subject=grant,
                about=[grant.identity or grant.principal, grant.entitlement],
                data={
                    "kind": asked.kind,
                    "access_key_id": minted.access_key_id,
                    "session_name": minted.session_name,
                    "expires_at": minted.expires_at.isoformat(),
                    "step_up": dict(confirmed.step_up),
                },
            )
    except IntegrityError:
        raise NotGiven(SERVED) from None
