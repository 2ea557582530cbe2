"""People and machines, and everything that one of them holds."""

from __future__ import annotations

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from apps.core import paging
from apps.inventory import extensions, permissions, services
from apps.inventory.forms import LinkForm, OwnerForm
from apps.inventory.models import Assignment, Credential, Identity, Path, Principal
from apps.inventory.models.access import PRIVILEGED, Privilege
from apps.inventory.models.holders import Classification, IdentityQuerySet
from apps.inventory.views import pictures
from apps.inventory.views.common import (
    WEIGHT,
    Holding,
    account_asked,
    connections_of,
    freshness,
    holds_privileged,
    manager_only,
    part,
    reason_of,
    refused,
    searched,
    set_owner,
    try_to,
    user_of,
    visitor,
    with_worst,
)

MOST_SHOWN = 100  # holdings on one page before "show all"
MOST_REPORTS = 20


@require_safe
def identities(request: HttpRequest) -> HttpResponse:
    """Everybody this user may look at."""
    user = visitor(request)
    kind = Identity.Kind.MACHINE if request.GET.get("kind") == "machine" else Identity.Kind.HUMAN
    visible = permissions.visible_identities(user).filter(kind=kind)
    found = visible.exclude(ended_at=None) if request.GET.get("left") else visible.present()
    query = searched(request)
    if query:
        found = found.filter(Q(name__icontains=query) | Q(email__icontains=query))
    for name in ("department", "classification"):
        if request.GET.get(name):
            found = found.filter(**{name: request.GET[name][:200]})
    if request.GET.get("risk") == "privileged":
        found = found.filter(holds_privileged())
    if request.GET.get("owner") == "none":
        found = found.unowned()
    account = account_asked(request)
    if account:
        found = found.filter(pk__in=Principal.objects.filter(resource=account).values("identity"))
    shown = with_worst(found.select_related("manager", "owner", "connection").prefetch_related("principals__resource"))
    context = {
        "page": paging.page(shown, request.GET, order=("name", "pk")),
        "account": account,
        "is_people": kind == Identity.Kind.HUMAN,
        "departments": _departments(visible) if kind == Identity.Kind.HUMAN else [],
        "classifications": Classification.choices,
        "freshness": freshness(connections_of(user)),
        "sees_all": permissions.can_see_everything(user),
    }
    return render(request, part(request, "inventory/identities.html", "rows"), context)


def _departments(visible: IdentityQuerySet) -> list[tuple[str, str]]:
    names = visible.present().exclude(department="").order_by("department")
    return [(name, name) for name in names.values_list("department", flat=True).distinct()[:200]]


@require_safe
def identity(request: HttpRequest, pk: int) -> HttpResponse:
    """One person or machine: what they hold, by which path, and who answers for it."""
    row = _load(request, pk)
    user = user_of(request)
    paths = Assignment.objects.paths_of(row)
    reasons = extensions.reasons_for(
        {one.pk: one for path in paths for one in (path.assignment, path.removable)}.values()
    )
    brought = {path.via.pk for path in paths if path.via}
    holdings = [
        Holding(path, reason_of(path, reasons))
        for path in sorted(paths, key=_weight)
        if not (path.is_membership and path.assignment.pk in brought)  # what it brings is listed in its place
    ]
    principals = list(row.principals.select_related("resource").order_by("kind", "pk"))
    seen = [one.last_used_at for one in principals if one.last_used_at]
    show_all = bool(request.GET.get("all"))
    reports = row.reports.present().order_by("name", "pk")
    context = {
        "identity": row,
        "holdings": holdings if show_all else holdings[:MOST_SHOWN],
        "holding_count": len(holdings),
        "accounts": len({path.assignment.entitlement.resource_id for path in paths} - {None}),
        "privileged": sum(holding.path.assignment.entitlement.privilege in PRIVILEGED for holding in holdings),
        "can_escalate": any(holding.path.assignment.entitlement.can_escalate for holding in holdings),
        "last_seen_at": max(seen, default=None),
        "picture": pictures.draw(row, [holding.path for holding in holdings], reasons),
        "principals": principals,
        "credentials": list(Credential.objects.filter(principal__in=principals, ended_at=None).order_by("kind", "pk")),
        "reports": list(reports[:MOST_REPORTS]),
        "report_count": reports.count(),
        "owned": list(row.owned_identities.present().order_by("name", "pk")[:MOST_REPORTS]),
        "owned_count": row.owned_identities.present().count(),
        "tabs": extensions.tabs_of(request, row),
        "freshness": freshness([row.connection]),
        "sees_all": permissions.can_see_everything(user),
        "can_manage": permissions.can_manage(user),
        "owner_form": OwnerForm(initial={"owner": row.owner.email if row.owner else ""}, connection=row.connection),
        "link_form": LinkForm(initial={"user": row.email}),
    }
    return render(request, "inventory/identity.html", context)


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


def _load(request: HttpRequest, pk: int) -> Identity:
    """The identity, for somebody who may look at it; for everybody else there is none."""
    visible = permissions.visible_identities(user_of(request))
    return get_object_or_404(visible.select_related("connection", "manager", "owner", "user"), pk=pk)


def _weight(path: Path) -> tuple[int, str, int]:
    entitlement = path.assignment.entitlement
    return WEIGHT.index(Privilege(entitlement.privilege)), entitlement.name.lower(), path.assignment.pk
