"""Deciding who may sign in and which portal roles people have, and noting what they did to sign in.

Whether *this* user may decide is `permissions.can_change`; here stands what nobody may: change their own roles, or
leave the portal without an administrator.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.db import IntegrityError, transaction

from apps.audit import services as audit
from apps.users import oidc, tasks, totp
from apps.users.models import PortalRole, User

if TYPE_CHECKING:
    from apps.audit.services import Actor

    By = User | Actor

log = logging.getLogger(__name__)


class Refused(Exception):
    """Nobody may do this. The message says why, to the person who tried."""


# Portal roles


def give_role(*, user: User, role: PortalRole.Role, by: By) -> PortalRole:
    """Make somebody auditor or administrator. Giving a role twice changes nothing."""
    _not_oneself(user, by)
    with transaction.atomic():
        if not user.is_active:
            raise Refused(f"{user} cannot sign in. Let them in again before you give them a role.")
        given, is_new = PortalRole.objects.get_or_create(user=user, role=role, defaults={"source": str(by)[:200]})
        if is_new:
            audit.record("users.portal_role.given", by=by, subject=user, data={"role": role})
    _forget_roles(user)
    return given


def take_role(*, user: User, role: PortalRole.Role, by: By) -> None:
    """Take a given role back. At least one administrator who can sign in stays."""
    _not_oneself(user, by)
    with transaction.atomic():
        if role == PortalRole.Role.ADMINISTRATOR:
            _another_administrator_stays(user)
        taken, _ = PortalRole.objects.filter(user=user, role=role).delete()
        if taken:
            audit.record("users.portal_role.taken", by=by, subject=user, data={"role": role})
    _forget_roles(user)


# Who may sign in


def invite_user(*, email: str, name: str, by: By) -> User:
    """Let somebody in: a user without a password, whose address counts as theirs because only its mailbox gets the
    link to set one. With single sign-on the mail only says where to sign in, once they are linked."""
    with transaction.atomic():
        if User.objects.filter(email__iexact=email).exists():
            raise Refused(f"{email} is a user already.")
        user = User.objects.create_user(email, name=name)
        EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        audit.record("users.user.invited", by=by, subject=user, data={"email": user.email})
        _mail_invitation(user)
    return user


def invite_again(*, user: User, by: By) -> None:
    """Send the invitation once more, to somebody who has not signed in yet."""
    if user.last_login or not user.is_active:
        raise Refused(f"{user} has signed in before, or may not sign in.")
    with transaction.atomic():
        audit.record("users.user.invited", by=by, subject=user, data={"email": user.email, "again": True})
        _mail_invitation(user)


def deactivate_user(*, user: User, by: By) -> None:
    """Keep somebody out, from this moment on: their sessions end. Their rows and roles stay as history."""
    _not_oneself(user, by)
    with transaction.atomic():
        _another_administrator_stays(user)
        sessions = UserSession.objects.filter(user=user).count()
        if User.objects.filter(pk=user.pk, is_active=True).update(is_active=False):
            user.is_active = False  # a trigger ends the sessions
            audit.record("users.user.deactivated", by=by, subject=user, data={"sessions_ended": sessions})
    _forget_roles(user)


def shut_out_leavers(leavers: Iterable[User], *, by: By) -> list[User]:
    """Keep out those who left the company, the last administrator too: a portal that waits for a new one is better than one
    that is open to who is gone (`manage.py createsuperuser` makes one). A trigger of the database ends every session of
    theirs with it, whichever process does it. One event each, a few statements for all; returns who could come in until
    now."""
    known = {user.pk: user for user in leavers}
    with transaction.atomic():
        here = User.objects.filter(pk__in=known, is_active=True).select_for_update(no_key=True).order_by("pk")
        out = [known[pk] for pk in here.values_list("pk", flat=True)]
        if not out:
            return []
        given = PortalRole.objects.filter(role=PortalRole.Role.ADMINISTRATOR, user__is_active=True)
        administrators = set(given.values_list("user_id", flat=True))
        last = administrators if administrators <= {user.pk for user in out} else set()
        User.objects.filter(pk__in=[user.pk for user in out]).update(is_active=False)
        audit.record_all(
            audit.event(
                "users.user.deactivated",
                by=by,
                subject=user,
                data={"why": "left", "was_last_administrator": user.pk in last},
            )
            for user in out
        )
    for user in out:
        user.is_active = False
        _forget_roles(user)
    if last:
        log.error("No administrator is left: user %s left. Make one with manage.py createsuperuser.", sorted(last))
    return out


def reactivate_user(*, user: User, by: By) -> None:
    """Let somebody in again who was kept out, without the portal roles they had: those are given anew."""
    _not_oneself(user, by)
    with transaction.atomic():
        if User.objects.filter(pk=user.pk, is_active=False).update(is_active=True):
            user.is_active = True
            roles = list(user.portal_roles.values_list("role", flat=True))
            user.portal_roles.all().delete()
            audit.record("users.user.reactivated", by=by, subject=user, data={"roles_taken": roles})
    _forget_roles(user)


def set_emergency(*, user: User, is_emergency: bool, by: By) -> None:
    """Name somebody who may use a password when single sign-on is on, or no longer."""
    _not_oneself(user, by)
    with transaction.atomic():
        if User.objects.filter(pk=user.pk).exclude(is_emergency=is_emergency).update(is_emergency=is_emergency):
            user.is_emergency = is_emergency
            event = "users.user.named_for_emergencies" if is_emergency else "users.user.no_longer_for_emergencies"
            audit.record(event, by=by, subject=user)


def link_user(*, user: User, issuer: str, subject: str, by: By) -> None:
    """Let the account `subject` at the identity provider `issuer` sign in as this user. This is the only way in with
    single sign-on. A subject belongs to one user; a user has one subject at each issuer."""
    provider = oidc.provider_id(issuer)
    facts = {"issuer": issuer, "subject": subject}
    try:
        with transaction.atomic():
            if SocialAccount.objects.filter(user=user, provider=provider).exists():
                raise Refused(f"{user.email} is linked to a subject at {issuer} already. Unlink it first.")
            SocialAccount.objects.create(user=user, provider=provider, uid=subject)
            audit.record("users.user.linked", by=by, subject=user, data=facts)
    except IntegrityError:
        raise Refused(f"Subject {subject} is linked to another user.") from None


def unlink_user(*, user: User, issuer: str, by: By) -> None:
    """No account at this identity provider signs in as this user any more."""
    with transaction.atomic():
        accounts = SocialAccount.objects.filter(user=user, provider=oidc.provider_id(issuer))
        subjects = list(accounts.values_list("uid", flat=True))
        if not subjects:
            raise Refused(f"{user.email} is not linked to a subject at {issuer}.")
        accounts.delete()
        audit.record("users.user.unlinked", by=by, subject=user, data={"issuer": issuer, "subjects": subjects})


# One's own settings


def set_single_keys(*, user: User, single_keys: bool) -> None:
    """Single-key shortcuts on or off (WCAG 2.1.4). A taste, not a decision: no event."""
    User.objects.filter(pk=user.pk).update(single_keys=single_keys)
    user.single_keys = single_keys


# Authenticators


def seed_totp(*, user: User, secret: str, by: By) -> Authenticator:
    """Enrol an authenticator app whose base32 `secret` is known, in place of what was there. For the demo."""
    with transaction.atomic():
        Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).delete()
        authenticator = TOTP.activate(user, secret).instance
        note_authenticator(user=user, what="added", authenticator=authenticator, by=by)
    return authenticator


def totp_now(user: User) -> str:
    """The code that the user's authenticator app shows at this moment. Raises `Refused` without one."""
    authenticator = Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).first()
    if authenticator is None:
        raise Refused(f"{user} has no authenticator app.")
    return totp.now(authenticator)


def reset_authenticators(*, user: User, by: By) -> None:
    """Remove what somebody lost, so that they can enrol anew. They wait again before it counts."""
    _not_oneself(user, by)
    with transaction.atomic():
        for authenticator in Authenticator.objects.filter(user=user):
            note_authenticator(user=user, what="removed", authenticator=authenticator, by=by)
            authenticator.delete()


def note_authenticator(*, user: User, what: str, authenticator: Authenticator, by: By) -> None:
    """An authenticator was `added`, `removed` or `reset` (recovery codes made anew)."""
    facts = {"type": authenticator.type, "name": str(authenticator)[:100], "authenticator": authenticator.pk}
    with transaction.atomic():
        audit.record(f"users.authenticator.{what}", by=by, subject=user, data=facts)
        if authenticator.type == Authenticator.Type.WEBAUTHN:
            transaction.on_commit(lambda: tasks.follow_passkeys.apply_async(expires=60))


# Signing in


def note_sign_in(*, user: User, method: str) -> None:
    """Somebody signed in. With single sign-on, any other way in is an emergency and says so loudly."""
    is_emergency = bool(settings.OIDC_ISSUER) and method != "sso"
    event = "users.user.emergency_sign_in" if is_emergency else "users.user.signed_in"
    with transaction.atomic():
        audit.record(event, by=user, subject=user, data={"method": method})
    if is_emergency:
        log.warning("Emergency sign-in of user %s with %s, past single sign-on.", user.pk, method)


def note_password(*, user: User, what: str) -> None:
    """A password was `changed`, `set` or `reset`, by whoever held the session or the mailbox."""
    with transaction.atomic():
        audit.record(f"users.user.password_{what}", by=user, subject=user)


def note_step_up(*, user: User, method: str, is_success: bool, authenticator: Authenticator | None = None) -> None:
    """Somebody proved, or failed to prove, that they are there."""
    facts: dict[str, Any] = {"method": str(method), "authenticator": authenticator.pk if authenticator else None}
    with transaction.atomic():
        audit.record(
            "users.user.stepped_up" if is_success else "users.user.step_up_failed", by=user, subject=user, data=facts
        )


def _not_oneself(user: User, by: By) -> None:
    if isinstance(by, User) and by.pk == user.pk:
        raise Refused("Nobody changes this for themselves. Ask another administrator.")


def _another_administrator_stays(user: User) -> None:
    """The rows are locked first, so that two administrators cannot remove each other at the same moment; who is still
    active is asked only then."""
    given = PortalRole.objects.filter(role=PortalRole.Role.ADMINISTRATOR)
    list(given.select_for_update().order_by("pk"))
    if set(given.filter(user__is_active=True).values_list("user_id", flat=True)) == {user.pk}:
        raise Refused(f"{user} is the last administrator. Make somebody else administrator first.")


def _forget_roles(user: User) -> None:
    user.__dict__.pop("_roles", None)


def _mail_invitation(user: User) -> None:
    transaction.on_commit(lambda: tasks.send_invitation.delay(user.pk))
