"""Administrators keep the catalogue."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.access import permissions
from apps.access.forms import OfferForm, OpeningForm, PolicyForm
from apps.access.models import Offer
from apps.access.services import offers as services
from apps.access.views.people import user_of
from apps.connectors import registry
from apps.core import paging
from apps.inventory import services as inventory
from apps.inventory.models import Connection, Entitlement


@require_safe
def offers(request: HttpRequest) -> HttpResponse:
    """The whole catalogue, with what opens and ends each offer."""
    _require_keeper(request)
    rows = Offer.objects.filter(withdrawn_at=None).with_names().select_related("offered_by")
    query = paging.searched(request.GET)
    if query:
        rows = rows.matching(query)
    page = paging.page(rows, request.GET, order=("entitlement__name", "pk"))
    template = "access/offers.html#rows" if request.htmx else "access/offers.html"  # type: ignore[attr-defined]
    return render(request, template, {"page": page, "kinds": _kinds()})


@require_http_methods(["GET", "HEAD", "POST"])
def add_offer(request: HttpRequest, entitlement: int) -> HttpResponse:
    """Offer one entitlement."""
    _require_keeper(request)
    rows = Entitlement.objects.present().select_related("resource", "connection", "group")
    row = get_object_or_404(rows, pk=entitlement)
    ways = services.ways_to_open(row)
    form = OfferForm(request.POST or None, ways=ways)
    if request.method == "POST" and form.is_valid():
        hours: timedelta = form.cleaned_data["hours"]
        try:
            services.offer(row, provisioner=form.cleaned_data["provisioner"], max_for=hours, by=user_of(request))
        except services.NotAllowed as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, f"{row} can be asked for now.")
            return redirect("access:offers")
    return render(
        request,
        "access/add_offer.html",
        {"form": form, "ways": ways, "can_offer": any(not way.why_not for way in ways), "entitlement": row},
        status=422 if form.errors else 200,
    )


@require_http_methods(["GET", "HEAD", "POST"])
def new_policy(request: HttpRequest) -> HttpResponse:
    """Define a dated policy and put it into the catalogue, both or neither."""
    _require_keeper(request)
    user = user_of(request)
    form = PolicyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        hours, provisioner = given.pop("hours"), given.pop("provisioner")
        try:
            with transaction.atomic():
                row = inventory.define_policy(given.pop("account"), by=user, **given)
                services.offer(row, provisioner=provisioner, max_for=hours, by=user)
        except (inventory.NotPossible, services.NotAllowed) as refusal:
            form.add_error(None, str(refusal))
        else:
            who = "for themselves" if provisioner == "iam_jit_role" else "by the owners of IAM users and roles there"
            messages.success(request, f"{row} can be asked for now, {who}.")
            return redirect("access:offers")
    return render(request, "access/new_policy.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def new_opening(request: HttpRequest) -> HttpResponse:
    """Define a network opening and put it into the catalogue, both or neither."""
    _require_keeper(request)
    user = user_of(request)
    form = OpeningForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        hours = given.pop("hours")
        try:
            with transaction.atomic():
                row = inventory.define_opening(given.pop("account"), by=user, **given)
                services.offer(row, provisioner="security_group_rule", max_for=hours, by=user)
        except (inventory.NotPossible, services.NotAllowed) as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, f"{row} can be asked for now.")
            return redirect("access:offers")
    return render(request, "access/new_opening.html", {"form": form}, status=422 if form.errors else 200)


@require_POST
def withdraw_offer(request: HttpRequest, pk: int) -> HttpResponse:
    """Take an offer out of the catalogue."""
    _require_keeper(request)
    row = get_object_or_404(Offer.objects.with_names(), pk=pk)
    services.withdraw_offer(row, by=user_of(request))
    messages.success(request, f"{row.entitlement} can no longer be asked for.")
    return redirect("access:offers")


def _kinds() -> list[tuple[str, str, list[str]]]:
    """Every kind of entitlement that something can open for a time: its value, its name, and what opens it."""
    systems = Connection.objects.order_by("kind").values_list("kind", flat=True).distinct()
    openers = {
        kind: {registry.TITLES[name] for system in systems for name in registry.provisioners_for(system, kind)}
        for kind in Entitlement.Kind.values
    }
    return [(kind, Entitlement.Kind(kind).label, sorted(titles)) for kind, titles in openers.items() if titles]


def _require_keeper(request: HttpRequest) -> None:
    if not permissions.can_offer(user_of(request)):
        raise Http404
