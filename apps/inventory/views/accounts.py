"""The accounts: what they are for, who answers for them, and what is inside."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from apps.core import paging, words
from apps.inventory import extensions, inside, permissions, services
from apps.inventory.forms import EnvironmentForm, OwnerForm
from apps.inventory.models import Entitlement, Resource
from apps.inventory.models.access import PRIVILEGED, by_weight
from apps.inventory.models.resources import ORGANIZATION, Environment
from apps.inventory.views.common import (
    connections_of,
    freshness,
    manager_only,
    part,
    refused,
    set_owner,
    try_to,
    user_of,
    visitor,
)

MOST_SHOWN = 15
LONG = "documents", "privilege_statement"  # of an entitlement, and printed nowhere here


@require_safe
def accounts(request: HttpRequest) -> HttpResponse:
    """Every account of the connections this user may look at."""
    user = visitor(request)
    found = permissions.visible_resources(user).present().select_related("owner").with_read_at()
    query = paging.searched(request.GET)
    if query:
        digits = query.replace("-", "").replace(" ", "")
        found = found.filter(Q(name__icontains=query) | Q(external_id__startswith=digits or query))
    if request.GET.get("env") in Environment.values:
        found = found.filter(environment=request.GET["env"])
    # counted for the rows of this page alone
    here = Entitlement.objects.present().privileged().filter(resource=OuterRef("pk"), is_ours=False).order_by()
    heavy = Coalesce(Subquery(here.values("resource").annotate(number=Count("pk")).values("number")), 0)
    context = {
        "page": paging.page(found.annotate(heavy=heavy), request.GET, order=("name", "pk")),
        "environments": Environment.choices,
        "freshness": freshness(connections_of(user)),
        "sees_all": permissions.can_see_everything(user),
    }
    return render(request, part(request, "inventory/accounts.html", "rows"), context)


@require_safe
def account(request: HttpRequest, pk: int) -> HttpResponse:
    """One account: what can be held there; for its owner, the machines inside and how it was read."""
    row = _load(request, pk)
    user = user_of(request)
    here = Entitlement.objects.present().filter(resource=row, is_ours=False)
    counted = here.aggregate(all=Count("pk"), privileged=Count("pk", filter=Q(privilege__in=PRIVILEGED)))
    context: dict[str, Any] = {
        "account": row,
        "number": words.account_id(row.external_id),
        "entitlements": list(here.defer(*LONG).order_by(by_weight("privilege"), "name", "pk")[:MOST_SHOWN]),
        "entitlement_count": counted["all"],
        "privileged": counted["privileged"],
        "tabs": extensions.tabs_of(request, row),
        "freshness": freshness([row.connection]),
        "is_confirmed": row.environment_source != ORGANIZATION,
        "sees_all": permissions.can_see_everything(user),
        "can_manage": permissions.can_manage(user),
        "can_view_contents": permissions.can_view_contents(user, row),
        "owner_form": OwnerForm(initial={"owner": row.owner.email if row.owner else ""}, connection=row.connection),
        "environment_form": EnvironmentForm(
            initial={"environment": row.environment if row.environment_source != ORGANIZATION else ""}
        ),
    }
    if context["can_view_contents"]:
        context["machines"] = inside.machines_in(row, limit=MOST_SHOWN)
        context["scan"] = row.scans.order_by("-started_at").defer("would_end_rows").first()
    return render(request, "inventory/account.html", context)


@require_POST
def own(request: HttpRequest, pk: int) -> HttpResponse:
    """An administrator says who answers for an account."""
    by, row = manager_only(request), _load(request, pk)
    return set_owner(request, row, by, or_else=f"Tags say again who answers for {row}.")


@require_POST
def environment(request: HttpRequest, pk: int) -> HttpResponse:
    """An administrator says what an account is for."""
    by, row = manager_only(request), _load(request, pk)
    form = EnvironmentForm(request.POST)
    if not form.is_valid():
        return refused(request, form, row)
    chosen = form.cleaned_data["environment"]
    done = f"{row} is {chosen.label.lower()}." if chosen else f"The organization says again what {row} is for."
    try_to(request, lambda: services.set_environment(row, chosen, by=by), done)
    return redirect(row)


def _load(request: HttpRequest, pk: int) -> Resource:
    visible = permissions.visible_resources(user_of(request))
    return get_object_or_404(visible.select_related("connection", "owner"), pk=pk)
