"""People and machines, and everything that one of them holds."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from django.db.models import Count, F, Prefetch, Q, Value, Window
from django.db.models.functions import Concat
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from apps.core import paging
from apps.inventory import extensions, holdings, permissions, services
from apps.inventory.extensions import Reason
from apps.inventory.forms import CorrectionForm, DescriptionForm, LinkForm, OwnerForm, SuccessorForm
from apps.inventory.holdings import Light
from apps.inventory.lines import Shown, details
from apps.inventory.models import Credential, Identity, Principal
from apps.inventory.models.access import PRIVILEGED, weight_of
from apps.inventory.models.holders import Classification, IdentityQuerySet
from apps.inventory.views import pictures
from apps.inventory.views.common import (
    account_asked,
    address,
    connections_of,
    freshness,
    holds_privileged,
    manager_only,
    part,
    reason_of,
    refused,
    risk,
    set_owner,
    try_to,
    user_of,
    visitor,
    who,
    why,
    with_worst,
)
from apps.inventory.views.signs import signs_of
from apps.users.models import User

MOST_SHOWN = 50  # holdings on one page before "show all"
MOST_REPORTS = 20
MOST_SORTED = 5000  # found by a name; of more, reading them in order soon fills a page


@require_safe
def identities(request: HttpRequest) -> HttpResponse:
    """Everybody this user may look at."""
    user = visitor(request)
    kind = Identity.Kind.MACHINE if request.GET.get("kind") == "machine" else Identity.Kind.HUMAN
    visible = permissions.visible_identities(user).filter(kind=kind)
    found = visible.exclude(ended_at=None) if request.GET.get("left") else visible.present()
    query = paging.searched(request.GET)
    if query:
        found = found.filter(Q(name__icontains=query) | Q(email__icontains=query))
    if request.GET.get("department"):
        found = found.filter(department=request.GET["department"][:200])
    if request.GET.get("classification"):
        found = found.classified(request.GET["classification"][:40])
    if request.GET.get("risk") == "privileged":
        found = found.filter(holds_privileged())
    if request.GET.get("owner") == "none":
        found = found.unowned()
    account = account_asked(request)
    if account:
        found = found.filter(pk__in=Principal.objects.filter(resource=account).values("identity"))
    context = {
        "page": paging.page(with_worst(_shown(_by_name(found, query), kind)), request.GET, order=("by_name", "pk")),
        "account": account,
        "is_people": kind == Identity.Kind.HUMAN,
        "departments": _departments(visible) if kind == Identity.Kind.HUMAN else [],
        "classifications": Classification.choices,
        "freshness": freshness(connections_of(user)),
        "sees_all": permissions.can_see_everything(user),
    }
    return render(request, part(request, "inventory/identities.html", "rows"), context)


def _by_name(found: IdentityQuerySet, query: str) -> IdentityQuerySet:
    """With the name to sort them by. PostgreSQL would rather read everybody in the order of names until a page is full: for
    a name late in the alphabet, nearly everybody. So what has few answers is sorted by what no index has, and found by its
    letters, of which the index of them wants three."""
    few = len(query) > 2 and not found.order_by()[MOST_SORTED : MOST_SORTED + 1].exists()
    return found.annotate(by_name=Concat("name", Value("")) if few else F("name"))


def _shown(found: IdentityQuerySet, kind: str) -> IdentityQuerySet:
    """With what the list prints of people, or of machines. A row has five times as many columns."""
    own = "kind", "name", "ended_at"
    if kind == Identity.Kind.HUMAN:
        return found.select_related("manager").only(*own, "email", "title", "department", *who("manager"))
    where = Principal.objects.select_related("resource").only("identity", "resource__name", "resource__external_id")
    machines = found.select_related("owner", "successor", "correction").prefetch_related(Prefetch("principals", where))
    what = "evidence", "classification", "correction__classification"
    return machines.only(*own, *what, *who("owner", "successor"))


def _departments(visible: IdentityQuerySet) -> list[tuple[str, str]]:
    names = visible.present().exclude(department="").order_by("department")
    return [(name, name) for name in names.values_list("department", flat=True).distinct()[:200]]


@require_safe
def identity(request: HttpRequest, pk: int) -> HttpResponse:
    """One person or machine: what they hold, by which path, and who answers for it."""
    row = _load(request, pk)
    user = user_of(request)
    paths = holdings.unsorted_paths_of(row)
    reasons = extensions.reasons_for(paths)
    sees_all = permissions.can_see_everything(user)
    brought = {path.via_id for path in paths if path.via_id}
    # what a membership brings is listed in its place
    held = sorted((path for path in paths if not (path.is_membership and path.pk in brought)), key=_weight)
    principals = list(row.principals.select_related("resource", "correlation__decided_by").order_by("kind", "pk"))
    iam_user = next((one for one in principals if one.kind == Principal.Kind.IAM_USER and not one.ended_at), None)
    seen = [one.last_used_at for one in principals if one.last_used_at]
    reports = _first(permissions.visible_identities(user).present().filter(manager=row))
    owned = _first(row.owned_identities.present().select_related("correction"))
    context = {
        "identity": row,
        "holdings": _lines(row, held if request.GET.get("all") else held[:MOST_SHOWN], reasons, sees_all=sees_all),
        "holding_count": len(held),
        "accounts": len({path.resource_id for path in paths} - {None}),
        "privileged": sum(path.privilege in PRIVILEGED for path in held),
        "can_escalate": any(path.can_escalate for path in held),
        "last_seen_at": max(seen, default=None),
        "picture": pictures.draw(row, held, reasons),
        "principals": principals,
        "credentials": list(Credential.objects.filter(principal__in=principals, ended_at=None).order_by("kind", "pk")),
        "reports": reports,
        "report_count": reports[0].all if reports else 0,
        "owned": owned,
        "owned_count": owned[0].all if owned else 0,
        "tabs": extensions.tabs_of(request, row),
        "freshness": freshness([row.connection]),
        "sees_all": sees_all,
        "can_manage": permissions.can_manage(user),
        "owner_form": OwnerForm(initial={"owner": row.owner.email if row.owner else ""}, connection=row.connection),
        "link_form": LinkForm(initial={"user": row.email}),
        "signs": [] if row.is_human else signs_of(row),
        "can_describe": permissions.can_describe(user, row),
        "iam_user": iam_user,
        "succeeding": list(row.succeeding_identities.present().order_by("name", "pk")[:MOST_REPORTS]),
        "correction_form": CorrectionForm(is_iam_user=iam_user is not None),
        "description_form": DescriptionForm(initial={"purpose": row.purpose, "consumers": row.consumers}),
        "successor_form": SuccessorForm(
            initial={"owner": row.successor.email if row.successor else ""}, connection=row.connection
        ),
    }
    return render(request, "inventory/identity.html", context)


def _first(people: IdentityQuerySet) -> list[Any]:
    """The first of them, each with how many there are in `all`."""
    return list(people.annotate(all=Window(Count("pk"))).order_by("name", "pk")[:MOST_REPORTS])


class Line(NamedTuple):
    """One of the holdings. What is the same in many lines is written once: badges, and why it is there."""

    held: Shown
    why: str
    risk: str
    what_url: str
    via_url: str


def _lines(row: Identity, lights: list[Light], reasons: dict[int, Reason], *, sees_all: bool) -> list[Line]:
    is_baselined = row.connection.baselined_at is not None
    told, rated, entitlement = cache(why), cache(risk), address("inventory:entitlement")
    return [
        Line(
            one,
            told(reason_of(one.light, reasons, is_baselined=is_baselined)),
            rated(one.light.privilege, one.light.can_escalate, one.is_sensitive_read),
            entitlement(one.light.entitlement_id) if sees_all or not one.light.is_ours else "",
            entitlement(one.via_entitlement_id),
        )
        for one in details(lights)
    ]


@require_POST
def link(request: HttpRequest, pk: int) -> HttpResponse:
    """An administrator says which portal user this person is."""
    by, row = manager_only(request), _load(request, pk)
    form = LinkForm(request.POST)
    if not form.is_valid():
        return refused(request, form, row)
    chosen = form.cleaned_data["user"]
    try_to(request, lambda: services.link_user(row, chosen, by=by), f"{chosen.email} is {row} from now on.")
    return redirect(row)


@require_POST
def unlink(request: HttpRequest, pk: int) -> HttpResponse:
    """An administrator takes that back."""
    by, row = manager_only(request), _load(request, pk)
    try_to(request, lambda: services.unlink_user(row, by=by), f"No portal user is {row} any more.")
    return redirect(row)


@require_POST
def own(request: HttpRequest, pk: int) -> HttpResponse:
    """An administrator says who answers for a machine."""
    by, row = manager_only(request), _load(request, pk)
    return set_owner(request, row, by, or_else=f"Tags say again who answers for {row}.")


@require_POST
def correct(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody who answers for a machine says what it is."""
    row, by = _described(request, pk)
    is_iam_user = row.principals.present().filter(kind=Principal.Kind.IAM_USER).exists()
    form = CorrectionForm(request.POST, is_iam_user=is_iam_user)
    if not form.is_valid():
        return refused(request, form, row)
    done = "An administrator says next whose login it is." if form.is_person else f"What {row} is was corrected."
    try_to(
        request,
        lambda: services.correct(
            row,
            classification=form.classification,
            is_person=form.is_person,
            reason=form.cleaned_data["reason"],
            by=by,
        ),
        done,
    )
    return redirect(row)


@require_POST
def take_correction_back(request: HttpRequest, pk: int) -> HttpResponse:
    """What AWS shows is the last word again."""
    row, by = _described(request, pk)
    try_to(request, lambda: services.take_correction_back(row, by=by), f"AWS says again what {row} is.")
    return redirect(row)


@require_POST
def describe(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody who answers for a machine writes down what it is for."""
    row, by = _described(request, pk)
    form = DescriptionForm(request.POST)
    if not form.is_valid():
        return refused(request, form, row)
    try_to(request, lambda: services.describe(row, **form.cleaned_data, by=by), "Written down.")
    return redirect(row)


@require_POST
def succeed(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody who answers for a machine names who comes after its owner."""
    row, by = _described(request, pk)
    form = SuccessorForm(request.POST, connection=row.connection)
    if not form.is_valid():
        return refused(request, form, row)
    successor = form.cleaned_data["owner"]
    done = f"{successor} answers for {row} once its owner has left." if successor else f"Nobody succeeds for {row}."
    try_to(request, lambda: services.set_successor(row, successor, by=by), done)
    return redirect(row)


def _described(request: HttpRequest, pk: int) -> tuple[Identity, User]:
    """A machine, and who may write about it; for everybody else there is none."""
    row, user = _load(request, pk), user_of(request)
    if not permissions.can_manage(user) and not permissions.can_describe(user, row):
        raise Http404
    return row, user


def _load(request: HttpRequest, pk: int) -> Identity:
    """The identity, for somebody who may look at it; for everybody else there is none."""
    visible = permissions.visible_identities(user_of(request))
    return get_object_or_404(
        visible.select_related("connection", "manager", "owner", "successor", "user", "correction__said_by"), pk=pk
    )


def _weight(path: Light) -> tuple[int, str, int]:
    return weight_of(path.privilege), path.name.lower(), path.pk
