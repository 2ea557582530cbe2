"""Pages about grants: mine, everybody's, and the whole story of one."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.core import navigation, paging
from apps.core.lifecycle import Conflict
from apps.grants import paths, permissions, services, story
from apps.grants.models import LIVE, EndReason, Grant, State
from apps.inventory import extensions
from apps.inventory import permissions as inventory
from apps.inventory.models.holders import Identity
from apps.users.models import User

# How often an open page looks at its grant again, in seconds; what is over does not change any more.
_LOOK_AGAIN = {State.PENDING: 2, State.PROVISIONING: 2, State.ACTIVE: 10, State.REVOKING: 2}


@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """What I hold for a time, what is ending, and what I had."""
    grants = Grant.objects.of(_user(request)).with_names()
    current = grants.unfinished().order_by("ends_at", "-pk")[:50]
    past = paging.page(grants.exclude(state__in=LIVE | {State.REVOKING}), request.GET, order=("-pk",), size=25)
    return render(request, "grants/mine.html", {"current": list(current), "past": past})


@require_safe
def every(request: HttpRequest) -> HttpResponse:
    """Every grant this user may look at, with search and filters."""
    user = _user(request)
    grants = Grant.objects.visible_to(user).with_names()
    query, state = paging.searched(request.GET), request.GET.get("state", "")
    if query:
        grants = grants.filter(Q(entitlement__name__icontains=query) | Q(identity__name__icontains=query))
    if state == "overdue":
        grants = grants.overdue(timezone.now())
    elif state in State.values:
        grants = grants.filter(state=state)
    context = {
        "page": paging.page(grants, request.GET, order=("-pk",)),
        "states": [*State.choices, ("overdue", "Overdue")],
        "overdue": Grant.objects.visible_to(user).overdue(timezone.now()).count(),
    }
    return render(request, "grants/every.html#rows" if request.htmx else "grants/every.html", context)  # type: ignore[attr-defined]


@require_safe
def of_identity(request: HttpRequest, pk: int) -> HttpResponse:
    """What one identity held for a time; a tab of its page."""
    identity = Identity.objects.filter(pk=pk).first()
    if identity is None or not inventory.can_view_identity(_user(request), identity):
        raise Http404
    navigation.belongs_to(request, "inventory:identities")
    grants = Grant.objects.filter(identity=identity).with_names()
    context = {
        "identity": identity,
        "row": identity,
        "tabs": extensions.tabs_of(request, identity),
        "page": paging.page(grants, request.GET, order=("-pk",), size=25),
    }
    return render(request, "grants/of_identity.html", context)


@require_safe
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    """One grant: what, for whom, until when, its whole story and, once it ended, its receipt."""
    grant = _load(request, pk)
    user = _user(request)
    is_holder = permissions.is_holder(user, grant)
    navigation.belongs_to(request, "grants:mine" if is_holder else "grants:every")
    sees_ways = _may_see_ways(user, grant)
    context = {
        "grant": grant,
        "steps": story.of(grant),
        "can_extend": user.pk == grant.requested_by_id and services.can_extend(grant),
        "can_end": permissions.can_end(user, grant),
        "can_ask_for_session": permissions.can_ask_for_session(user, grant),
        "ways_in": services.ways_in(grant) if is_holder else (),
        "ends_by": services.how_it_ends(grant),
        "remaining": paths.others(grant) if sees_ways else None,
        "left": grant.paths_left if sees_ways else None,
        "look_again": _LOOK_AGAIN.get(State(grant.state)),
        "is_holder": is_holder,
    }
    return render(request, "grants/detail.html#live" if request.htmx else "grants/detail.html", context)  # type: ignore[attr-defined]


@require_POST
def end(request: HttpRequest, pk: int) -> HttpResponse:
    """ "I am done", or an owner or administrator takes it back."""
    grant = _load(request, pk)
    user = _user(request)
    if not permissions.can_end(user, grant):
        raise Http404
    note = request.POST.get("note", "").strip()
    reason = EndReason.DONE if permissions.is_holder(user, grant) else EndReason.REVOKED
    try:
        services.end(grant, by=user, reason=reason, note=note)
    except Conflict as conflict:
        messages.warning(request, str(conflict))
    return redirect(grant)


def _load(request: HttpRequest, pk: int) -> Grant:
    """The grant, for somebody who may see it; for everybody else there is no such grant."""
    grant = Grant.objects.with_names().filter(pk=pk).first()
    if grant is None or not permissions.can_see(_user(request), grant):
        raise Http404
    return grant


def _may_see_ways(user: User, grant: Grant) -> bool:
    """Whether they may see what else the holder has where this grant leads: all that the holder has, or all that there is
    in its one account. To see the grant is not enough."""
    identity, account = grant.identity, grant.entitlement.resource
    if identity is None:
        return False
    return inventory.can_view_identity(user, identity) or (
        account is not None and inventory.can_view_contents(user, account)
    )


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    return request.user
