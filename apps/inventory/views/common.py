"""What all of the inventory's pages share: who is looking, how fresh the data is, and answers to what cannot be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from django.contrib import messages
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.forms import BaseForm
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from apps.inventory import permissions, services
from apps.inventory.extensions import Reason
from apps.inventory.forms import OwnerForm
from apps.inventory.models import Assignment, ChangeFeed, ChangeMark, Connection, Identity, Resource, SyncRun
from apps.inventory.models.access import PRIVILEGED, by_weight
from apps.users.models import User

STALE_AFTER = timedelta(hours=24)

STANDING = Reason(kind="idle", icon="circle-dot", word="Standing")
OURS = Reason(kind="line", icon="building-fortress", word="Gatehouse's own")
NOT_BASELINED = Reason(kind="line", icon="circle-dashed", word="Not baselined")
UNINTENDED = Reason(kind="wait", icon="alert-triangle", word="Unintended")


def user_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    return request.user


def visitor(request: HttpRequest) -> User:
    """Somebody who may use the lists; for everybody else there are none."""
    user = user_of(request)
    if not permissions.can_look_up(user):
        raise Http404
    return user


def manager_only(request: HttpRequest) -> User:
    """The administrator who is asking; for everybody else there is no such page."""
    user = user_of(request)
    if not permissions.can_manage(user):
        raise Http404
    return user


@dataclass(frozen=True)
class Freshness:
    """As of when what a page shows is complete, and what is in doubt."""

    as_of: datetime | None
    unfinished: list[SyncRun]
    followed: int = 0  # changes that a feed told of since then, and that were read again
    waiting: int = 0  # those that were not yet
    unheard: tuple[Connection, ...] = ()  # connections whose feed does not answer

    @property
    def is_stale(self) -> bool:
        return self.as_of is not None and timezone.now() - self.as_of > STALE_AFTER


def freshness(connections: Iterable[Connection]) -> Freshness:
    """The oldest of them decides; every connection whose last run was not complete is named."""
    rows = list(connections)
    instants: list[datetime | None] = []
    unfinished = []
    for connection in rows:
        latest = connection.latest_run
        if latest and latest.state == SyncRun.State.COMPLETE:
            instants.append(latest.started_at)
            continue
        instants.append(connection.as_of)
        if latest:
            unfinished.append(latest)
    known = [instant for instant in instants if instant]
    as_of = min(known) if known and len(known) == len(instants) else None
    return Freshness(as_of, unfinished, *_told_since([row for row in rows if row.change_queue], as_of))


def _told_since(rows: list[Connection], as_of: datetime | None) -> tuple[int, int, tuple[Connection, ...]]:
    """What the change feeds of these said since: how much was read again, how much not yet, and who is not heard."""
    if not rows or as_of is None:
        return 0, 0, ()
    marks = ChangeMark.objects.filter(connection__in=rows, seen_at__gte=as_of)
    said = marks.aggregate(
        followed=Count("pk", filter=Q(read_at__isnull=False)), waiting=Count("pk", filter=Q(read_at=None))
    )
    now = timezone.now()
    heard = {feed.connection_id for feed in ChangeFeed.objects.filter(connection__in=rows) if feed.is_heard(now)}
    return said["followed"], said["waiting"], tuple(row for row in rows if row.pk not in heard)


def connections_of(user: User) -> list[Connection]:
    """The connections whose data a user may look at."""
    if permissions.can_see_everything(user):
        return list(Connection.objects.all())
    me = permissions.identity_of(user)
    return [me.connection] if me else []


def who(*paths: str) -> list[str]:
    """For `only()`: what a list prints of the identities that it names, and of nobody it need load more."""
    return [f"{path}__{name}" for path in paths for name in ("kind", "name", "ended_at")]


def account_asked(request: HttpRequest) -> Resource | None:
    """The account that a list is narrowed to by `?account=`, if there is one that this user may look at."""
    key = key_of(request.GET.get("account", ""))
    return permissions.visible_resources(user_of(request)).filter(pk=key).first() if key is not None else None


def key_of(text: str) -> int | None:
    """A row's key as typed into an address, if it can be one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def with_worst(identities: QuerySet[Identity]) -> QuerySet[Identity]:
    """Each with the heaviest privilege it holds; a membership counts with what its group holds."""
    worst = _held().order_by(by_weight("entitlement__privilege")).values("entitlement__privilege")
    return identities.annotate(worst=Subquery(worst[:1]))


def _held() -> QuerySet[Assignment]:
    """What the identity of the outer query holds."""
    return Assignment.objects.open().filter(principal__identity=OuterRef("pk")).strangers_only()


def holds_privileged() -> Q:
    """Condition on identities: something they hold is privileged."""
    heavy = Assignment.objects.open().filter(entitlement__privilege__in=PRIVILEGED).strangers_only()
    return Q(pk__in=heavy.values("principal__identity"))


class Row(Protocol):
    """A path by its keys: the assignment's, and that of what would have to go for it to go."""

    @property
    def pk(self) -> int: ...
    @property
    def removable_id(self) -> int: ...
    @property
    def is_standing(self) -> bool: ...
    @property
    def is_ours(self) -> bool: ...


def reason_of(path: Row, reasons: dict[int, Reason], *, is_baselined: bool) -> Reason:
    """Why this path is there: what an upper app says, or that it stood before Gatehouse came, or nobody knows."""
    said = reasons.get(path.removable_id) or reasons.get(path.pk)
    if said:
        return said
    if path.is_ours:
        return OURS
    if path.is_standing:
        return STANDING
    return UNINTENDED if is_baselined else NOT_BASELINED


def why(reason: Reason) -> str:
    """The badge that says so. Many lines of a list say the same."""
    return render_to_string("inventory/why.html", {"reason": reason})


def address(name: str) -> Callable[[int | None], str]:
    """Where the pages of rows with this key are, resolved once: a list asks for a hundred of them."""
    before, _, after = reverse(name, args=[0]).rpartition("0")
    return lambda key: f"{before}{key}{after}" if key else ""


def risk(privilege: str, can_escalate: bool, is_sensitive_read: bool) -> str:
    """The badges of an entitlement that is like this."""
    entitlement = {"privilege": privilege, "can_escalate": can_escalate, "is_sensitive_read": is_sensitive_read}
    return render_to_string("inventory/risk.html", {"entitlement": entitlement})


def part(request: HttpRequest, template: str, name: str) -> str:
    """The template for this answer: htmx gets the named part of the page."""
    return f"{template}#{name}" if request.htmx else template  # type: ignore[attr-defined]


def try_to(request: HttpRequest, decide: Callable[[], object], done: str) -> bool:
    """Call a service; say what was done, or why it is not possible."""
    try:
        decide()
    except services.NotPossible as error:
        messages.error(request, str(error))
        return False
    messages.success(request, done)
    return True


def refused(request: HttpRequest, form: BaseForm, back: Any) -> HttpResponse:
    """A short form on somebody else's page: its errors become notes there."""
    for errors in form.errors.values():
        for error in errors:
            messages.error(request, str(error))
    return redirect(back)


def set_owner(request: HttpRequest, row: Any, by: User, *, or_else: str) -> HttpResponse:
    """An administrator says who answers for `row`; `or_else` tells what holds when nobody is named."""
    form = OwnerForm(request.POST, connection=row.connection)
    if not form.is_valid():
        return refused(request, form, row)
    owner = form.cleaned_data["owner"]
    done = f"{owner} answers for {row}." if owner else or_else
    try_to(request, lambda: services.set_owner(row, owner, by=by), done)
    return redirect(row)
