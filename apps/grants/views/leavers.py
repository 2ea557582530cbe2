"""Who left: what ended with them, what is still there and why, and letting the brake go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from apps.audit.models import AuditEvent, ref
from apps.core import paging
from apps.grants import permissions
from apps.grants.leaving import counted
from apps.grants.models import Exodus, Grant, Leaving, State
from apps.grants.services import NotPossible
from apps.grants.services import leaving as deciding
from apps.inventory.models import Assignment, Identity
from apps.inventory.views.common import connections_of, freshness
from apps.users.models import User

MOST_SHOWN = 200  # people of a held exodus, and holdings of one person, on one page
SHOWS = [("there", "Something is still there"), ("gone", "All gone"), ("back", "Came back")]


@dataclass(frozen=True)
class Left:
    """One leaver as pages show them. `held` is what the inventory still shows, `by_hand` how much of it waits for people,
    `ending` how much is being taken away."""

    row: Leaving
    held: int
    by_hand: int
    ending: int

    @property
    def ended(self) -> str:
        return counted(self.row.ended)

    @property
    def passed(self) -> str:
        return counted(self.row.passed)

    @property
    def state(self) -> str:
        """A word for the template: what is true of what they held all the time."""
        row = self.row
        if row.returned_at:
            return "back"
        if row.exodus and row.exodus.state == Exodus.State.HELD:
            return "held"
        if row.passed_at is None:
            return "settling"
        if not self.held:
            return "gone"
        if row.problem:
            return "stuck"
        return "by_hand" if self.by_hand >= self.held else "ending"


@require_safe
def every(request: HttpRequest) -> HttpResponse:
    """Everybody who left, the latest first, and those whom the brake holds."""
    user = _visitor(request)
    rows = permissions.visible_leavings(user).with_names()
    query, shown = paging.searched(request.GET), request.GET.get("show", "")
    if query:
        rows = rows.filter(Q(identity__name__icontains=query) | Q(identity__email__icontains=query))
    held = _held_for(user)
    if not query:  # they are listed above
        rows = rows.exclude(exodus__in=held, returned_at=None)
    narrowed = {"there": Q(gone_at=None, returned_at=None), "gone": ~Q(gone_at=None), "back": ~Q(returned_at=None)}
    if shown in narrowed:
        rows = rows.filter(narrowed[shown])
    page = paging.page(rows, request.GET, order=("-left_at", "-pk"))
    context = {
        "page": page,
        "leavers": described(page),
        "shows": SHOWS,
        "is_filtered": bool(query or shown or held),
        "held": [_Held.of(exodus, user) for exodus in held],
        "freshness": freshness(connections_of(user)),
        "sees_all": permissions.can_see_all(user),
    }
    return render(request, "grants/leavers.html#rows" if request.htmx else "grants/leavers.html", context)  # type: ignore[attr-defined]


@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One of them: everything that ended, was handed over or is still there."""
    user = _visitor(request)
    row = get_object_or_404(permissions.visible_leavings(user).with_names(), pk=pk)
    since = Q(origin=Grant.Origin.FOUND, created_at__gte=row.noticed_at)
    removals = Grant.objects.filter(Q(state=State.REVOKING) | since, identity=row.identity)
    waiting = deciding.undecided(row).with_names()
    if row.returned_at:
        waiting = waiting.none()  # they are here: what they hold now is no leaver's
    context = {
        "left": described([row])[0],
        "removals": removals.with_names().order_by("-state", "pk")[:MOST_SHOWN],
        "waiting": waiting.order_by("entitlement__name", "pk")[:MOST_SHOWN],
        "events": AuditEvent.objects.about(ref(row)).order_by("pk")[:MOST_SHOWN]
        if permissions.can_see_all(user)
        else (),
        "settle": Leaving.SETTLE,
        "freshness": freshness([row.identity.connection]),
        "sees_all": permissions.can_see_all(user),
    }
    return render(request, "grants/leaver.html", context)


@require_POST
def propose_release(request: HttpRequest, pk: int) -> HttpResponse:
    """The first of two says that so many really left."""
    return _decide_held(request, pk, deciding.propose_release)


@require_POST
def release(request: HttpRequest, pk: int) -> HttpResponse:
    """The second lets it go."""
    return _decide_held(request, pk, deciding.release)


def _decide_held(request: HttpRequest, pk: int, verb: Callable[..., Exodus]) -> HttpResponse:
    user = request.user
    if not isinstance(user, User) or not permissions.can_accept(user):
        raise Http404
    exodus = get_object_or_404(Exodus, pk=pk)
    try:
        verb(exodus, by=user)
    except NotPossible as refusal:
        messages.error(request, str(refusal))
    return redirect("leavers:every")


@dataclass(frozen=True)
class _Held:
    """People whom the brake holds, and what this user can do about it."""

    exodus: Exodus
    people: list[Identity]
    count: int
    can_propose: bool
    can_release: bool

    @classmethod
    def of(cls, exodus: Exodus, user: User) -> _Held:
        rows = Identity.objects.filter(leavings__exodus=exodus, leavings__returned_at=None).order_by("name", "pk")
        return cls(
            exodus=exodus,
            people=list(rows[:MOST_SHOWN]),
            count=rows.count(),
            can_propose=permissions.can_propose_release(user, exodus),
            can_release=permissions.can_let_go(user, exodus),
        )


def _held_for(user: User) -> list[Exodus]:
    if not permissions.can_see_all(user):
        return []
    return list(Exodus.objects.held().select_related("connection", "proposed_by").order_by("pk"))


def described(rows: Iterable[Leaving]) -> list[Left]:
    """What is still there of each, in two queries however many they are."""
    rows = list(rows)
    people = [row.identity_id for row in rows if row.returned_at is None]
    held = Assignment.objects.open().filter(principal__identity__in=people).strangers_only()
    counts = dict(held.order_by().values_list("principal__identity").annotate(n=Count("pk")))
    by_hand, removals = Q(remover=Grant.BY_OWNER), Grant.objects.filter(identity__in=people, state=State.REVOKING)
    of_each = (
        removals.order_by()
        .values_list("identity")
        .annotate(theirs=Count("pk", filter=by_hand), ours=Count("pk", filter=~by_hand))
    )
    ending = {person: (theirs, ours) for person, theirs, ours in of_each}
    return [Left(row, counts.get(row.identity_id, 0), *ending.get(row.identity_id, (0, 0))) for row in rows]


def _visitor(request: HttpRequest) -> User:
    """Overseers, and whoever answers or stands in for somebody who left; for everybody else there is no such page."""
    user = request.user
    if not isinstance(user, User) or not permissions.can_see_leavers(user):
        raise Http404
    return user
