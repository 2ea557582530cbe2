"""What identity providers say about people: kept as it was said, linked by rule, and made true in the inventory.

One call, one transaction, one event. Nothing here touches a portal role, gives access, or says that a portal user is a
person; it can end people, and say their title, department and manager.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from scim2_models import NotFoundException, PreconditionFailedException, UniquenessException

from apps.audit import services as audit
from apps.audit.models import AuditEvent, ref
from apps.core.refusals import NotPossible
from apps.grants.services import leaving
from apps.inventory.models import Departure, Identity
from apps.inventory.services import said
from apps.inventory.services.said import Said, Taken
from apps.inventory.sync import said as directory
from apps.scim.models import ScimUser, Source
from apps.scim.services import linking
from apps.scim.services.sources import actor_of
from apps.users import services as users
from apps.users.models import User

Values = Mapping[str, Any]
SHOWN = ("user_name", "external_id", "active", "title", "department", "manager_key")  # said word for word in the log


def hold(source: Source) -> None:
    """Who is who, and who names whom as manager, is read and written by one call at a time, and not beside a sync."""
    directory.hold(source.connection)


@transaction.atomic
def create(source: Source, values: Values, *, token: str) -> ScimUser:
    """Somebody is known at the identity provider. They are linked to who they are here, if the rule says so."""
    hold(source)
    row = ScimUser(source=source, **values)
    row.active = values["active"] is not False
    linking.link_by_rule(row, row.external_id)
    _save(row)
    taken = _make_true(row, before=None)
    _follow_sign_in(row, None, taken)
    _record("scim.user.created", row, taken, token, {name: getattr(row, name) for name in SHOWN})
    return row


@transaction.atomic
def update(source: Source, key: uuid.UUID, values: Values, *, expected_version: int | None, token: str) -> ScimUser:
    """They say something else about somebody. Who is not active any more leaves; who is again, in so many words, comes
    back, unless somebody else says that they left. Saying nothing of it, or taking the word back, changes nothing."""
    hold(source)
    row = _locked(source, key, expected_version)
    before = _as_was(row)
    for name, value in values.items():
        setattr(row, name, value)
    row.active = bool(before["active"] if values["active"] is None else values["active"])
    row.version, row.modified_at = row.version + 1, timezone.now()
    linking.link_again(row, before)
    _save(row)
    taken = _make_true(row, before)
    _follow_sign_in(row, before, taken)
    changed = {name: getattr(row, name) for name in SHOWN if getattr(row, name) != before[name]}
    what = _what_happened(bool(before["active"]), row.active)
    _record(what, row, taken, token, changed, was=before["identity_id"])
    return row


@transaction.atomic
def delete(source: Source, key: uuid.UUID, *, expected_version: int | None, token: str) -> None:
    """The identity provider knows them no more: they left. What they were is in the log."""
    hold(source)
    row = _locked(source, key, expected_version)
    before, row.active = _as_was(row), False
    linking.link_again(row, before)
    taken = _make_true(row, before)
    _follow_sign_in(row, before, taken)
    _record("scim.user.deleted", row, taken, token, {}, was=before["identity_id"])
    row.delete()


@transaction.atomic
def link(row: ScimUser, identity: Identity, *, by: Any) -> ScimUser:
    """An administrator says who this is. What the identity provider says about them holds from now on."""
    hold(row.source)
    row = ScimUser.objects.select_for_update(of=("self",)).select_related("source").get(pk=row.pk)
    identity = Identity.objects.get(pk=identity.pk)
    if row.identity_id:
        raise NotPossible(f"{row} is linked to {row.identity} already.")
    if not identity.is_human or identity.connection_id != row.source.connection_id:
        raise NotPossible(f"{identity} is not a person of {row.source.connection}.")
    if identity.user_id and by == identity.user:
        raise NotPossible("Another administrator links your own person.")
    if ScimUser.objects.filter(identity=identity).exists():
        raise NotPossible(f"{identity} is linked to another user already.")
    row.identity, row.identity_source = identity, f"linked by {by}"[:200]
    row.save(update_fields=["identity", "identity_source"])
    taken = _make_true(row, before=None)
    _record("scim.user.linked", row, taken, "", {"by_hand": True}, by=by)
    return row


@transaction.atomic
def unlink(row: ScimUser, *, by: Any) -> ScimUser:
    """This is somebody else. That they left is taken back, and they are here again unless somebody else says that they
    left; the portal stays shut for them until an administrator lets them in. Their title, department and manager stay
    until somebody's next word. The rule never links this user again by itself."""
    hold(row.source)
    row = ScimUser.objects.select_for_update(of=("self",)).select_related("source", "identity").get(pk=row.pk)
    identity = row.identity
    if identity is None:
        raise NotPossible(f"{row} is not linked to anybody.")
    if identity.user_id and by == identity.user:
        raise NotPossible("Another administrator unlinks your own person.")
    row.identity, row.identity_source, row.kept_out = None, f"unlinked by {by}"[:200], None
    row.save(update_fields=["identity", "identity_source", "kept_out"])
    back = Said(identity_id=identity.pk, says_presence=True)
    whose = {"source": Departure.Source.SCIM, "said_by": row.source.name, "by": by}
    taken = said.take_said(row.source.connection, [back], **whose)
    data = {"user_name": row.user_name, "identity": identity.pk, "returned": taken.returned}
    audit.record("scim.user.unlinked", by=by, subject=row, about=[row.source, identity], data=data)
    return row


def link_waiting(source: Source, *, most: int = 500) -> int:
    """Link those whom Identity Center came to know after the identity provider spoke of them, or called them by another
    external id, and those whom it knows as somebody new since who they were has ended. One event for each; returns how
    many. The rest waits for the next time."""
    with transaction.atomic():
        hold(source)
        found = linking.waiting(source, most)
        rows = ScimUser.objects.select_for_update(of=("self",)).select_related("source").in_bulk([*found])
        for pk, identity in found.items():
            row, was = rows[pk], rows[pk].identity_id
            row.identity_id, row.identity_source, row.kept_out = identity, linking.RULE, None
            row.save(update_fields=["identity", "identity_source", "kept_out"])
            _record("scim.user.linked", row, _make_true(row, before=None), "", {"by_hand": False}, was=was)
    return len(found)


def _make_true(row: ScimUser, before: Values | None) -> Taken:
    """Say in the inventory what `row` says, for its identity and for whoever names it as their manager. What it said of
    the same person `before` is not said again: somebody else may have had the last word since."""
    if row.identity_id is None:
        return Taken()
    if before is None or before["identity_id"] != row.identity_id:
        before = {}
    is_new = {name: not before or before[name] != getattr(row, name) for name in SHOWN}
    one = Said(
        identity_id=row.identity_id,
        title=row.title if is_new["title"] and (row.title or before) else None,
        department=row.department if is_new["department"] and (row.department or before) else None,
        says_manager=bool(before.get("manager_key")) and not row.manager_key,
        says_presence=is_new["active"],
        leaves_at=None if row.active else timezone.now(),
    )
    words = [one]
    if is_new["manager_key"]:
        words += _its_manager(row)
    if is_new["external_id"] or is_new["user_name"]:
        words += _its_reports(row)
    taken = said.take_said(
        row.source.connection,
        _merged(words),
        source=Departure.Source.SCIM,
        said_by=row.source.name,
        by=actor_of(row.source),
    )
    for person in Identity.objects.filter(pk__in=taken.ended):
        leaving.notice(person, by=actor_of(row.source))  # what they asked for and hold ends in this transaction too
    _remember_kept_out(row, taken)
    return taken


def _as_was(row: ScimUser) -> dict[str, Any]:
    return {name: getattr(row, name) for name in (*SHOWN, "identity_id")}


def _its_manager(row: ScimUser) -> Iterable[Said]:
    """Whom this row names as manager: by SCIM id, or by the external id or user name that some identity providers send
    instead."""
    manager = _named(row.source, row.manager_key)
    if row.identity_id and manager and manager.identity_id:
        yield Said(identity_id=row.identity_id, says_manager=True, manager_id=manager.identity_id)


def _its_reports(row: ScimUser) -> Iterable[Said]:
    """That it is the manager of those who name it and mean it."""
    names = {name for name in (str(row.key), row.external_id, row.user_name) if _named(row.source, name) == row}
    reports = ScimUser.objects.filter(source=row.source, manager_key__in=names).exclude(Q(identity=None) | Q(pk=row.pk))
    stale = ~Q(identity__manager_id=row.identity_id) | Q(identity__manager=None)
    for pk in reports.filter(stale).values_list("identity_id", flat=True) if row.identity_id else ():
        yield Said(identity_id=pk, says_manager=True, manager_id=row.identity_id)


def _merged(words: Iterable[Said]) -> list[Said]:
    """One word for each person: what a later one says of the manager goes into the first."""
    merged: dict[int, Said] = {}
    for word in words:
        first = merged.get(word.identity_id)
        merged[word.identity_id] = (
            replace(first, says_manager=True, manager_id=word.manager_id)
            if first and word.says_manager
            else first or word
        )
    return list(merged.values())


def _named(source: Source, name: str) -> ScimUser | None:
    """Whom a name means: the first whose SCIM id, external id or user name it is, in this order."""
    if not name:
        return None
    rows = ScimUser.objects.filter(source=source)
    try:
        by_key = rows.filter(key=uuid.UUID(name)).first()
    except ValueError:
        by_key = None
    return by_key or rows.filter(external_id=name).first() or rows.filter(user_name=name).first()


def _follow_sign_in(row: ScimUser, before: Values | None, taken: Taken) -> None:
    """Who may sign in. Only calls do this: a worker neither knows the subjects of sign-ins nor lets anybody in."""
    _shut_out_by_subject(row, before, taken)
    _let_in_again(row, taken)


def _shut_out_by_subject(row: ScimUser, before: Values | None, taken: Taken) -> None:
    """Where the external id is the subject that people sign in with, who left is out even before anybody linked them. It
    is the subject until the call that says so: another one, in that call or since, is not theirs. Who signed in first
    after it is out by the next one; whoever was kept out before was let in by an administrator, who decides."""
    has_left_before = before is not None and not before["active"]
    if row.active or (has_left_before and row.identity_source not in linking.BY_PRESENT_ID):
        return
    if before and before["external_id"]:
        subject = before["external_id"]
    else:
        subject = "" if before and before["identity_id"] else row.external_id
    login = linking.login_of(row.source, subject)
    if login is None or (has_left_before and _times_kept_out(login).exists()):
        return
    if users.shut_out_leavers([login], by=actor_of(row.source)):
        taken.kept_out.append(login)
        _remember_kept_out(row, taken)


def _remember_kept_out(row: ScimUser, taken: Taken) -> None:
    """Whom this leaving kept out; nobody, where they were out already."""
    if taken.kept_out or row.identity_id in taken.ended:
        row.kept_out = taken.kept_out[0] if taken.kept_out else None
        ScimUser.objects.filter(pk=row.pk).update(kept_out=row.kept_out)


def _let_in_again(row: ScimUser, taken: Taken) -> None:
    """Who was kept out because of this row alone may sign in again with it. Whoever had a portal role waits for an
    administrator: SCIM neither gives roles nor takes them. So does whoever somebody else kept out since."""
    user = row.kept_out
    if not row.active or user is None or row.identity_id not in taken.returned:
        return
    is_theirs = Identity.objects.filter(pk=row.identity_id, user=user).exists()
    if is_theirs and not user.is_active and not user.portal_roles.exists() and _kept_out_last(user, row.source):
        users.reactivate_user(user=user, by=actor_of(row.source))
    row.kept_out = None
    ScimUser.objects.filter(pk=row.pk).update(kept_out=None)


def _kept_out_last(user: User, source: Source) -> bool:
    """Whether it was this source who kept them out the last time that anybody did."""
    last = _times_kept_out(user).order_by("-pk").values_list("actor_id", flat=True).first()
    return last == actor_of(source).id


def _times_kept_out(user: User) -> QuerySet[AuditEvent]:
    return AuditEvent.objects.about(ref(user)).filter(event="users.user.deactivated")


def _locked(source: Source, key: uuid.UUID, expected_version: int | None) -> ScimUser:
    rows = ScimUser.objects.select_for_update(of=("self",)).select_related("source__connection")
    row = rows.filter(source=source, key=key).first()
    if row is None:
        raise NotFoundException(detail="There is no such user")
    if expected_version is not None and row.version != expected_version:
        raise PreconditionFailedException
    return row


def _save(row: ScimUser) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise UniquenessException(detail="Another user has this userName or externalId") from None


def _what_happened(was_active: bool, is_active: bool) -> str:
    if was_active == is_active:
        return "scim.user.updated"
    return "scim.user.reactivated" if is_active else "scim.user.deactivated"


def _record(
    name: str, row: ScimUser, taken: Taken, token: str, changed: Values, *, was: int | None = None, by: Any = None
) -> None:
    """One event, about who the user is and, where that was somebody else until now, about them too."""
    moved_from = was if was != row.identity_id else None
    data = {
        "user_name": row.user_name,
        "changed": dict(changed),
        "identity": row.identity_id,
        "ended": taken.ended,
        "returned": taken.returned,
        **({"was": moved_from} if moved_from else {}),
        **({"token": token} if token else {}),
    }
    people = Identity.objects.filter(pk__in=[pk for pk in (row.identity_id, moved_from) if pk])
    audit.record(
        name, by=by or actor_of(row.source), subject=row, about=[row.source, *people, *taken.kept_out], data=data
    )
