"""What administrators and auditors see of campaigns, and what administrators do with them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.db.models import Count, Max, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.core import navigation, paging
from apps.inventory import extensions
from apps.inventory.models import Identity
from apps.inventory.models.access import Privilege
from apps.reviews import burndown, permissions, population, tie_out
from apps.reviews.forms import CloseForm, DraftForm, PassOnForm, picked, said_by
from apps.reviews.models import Campaign, Choice, Outcome, ReviewItem
from apps.reviews.services import campaigns as services
from apps.reviews.services import items as items_service
from apps.reviews.services.items import NotAllowed
from apps.users.models import User

DUE_IN = timedelta(days=14)  # what the form proposes

LEFT_OUT = {
    "granted": "held for a time through a grant",
    "unintended": "not standing: seen since the baseline and not adopted",
    "reserved": "of roles that AWS keeps for itself",
}


@require_safe
def campaigns(request: HttpRequest) -> HttpResponse:
    """Every campaign, the latest first."""
    user = _reader(request)
    rows = Campaign.objects.select_related("connection", "resource", "launched_by")
    state = request.GET.get("state", "")
    if state in Campaign.State.values:
        rows = rows.filter(state=state)
    query = paging.searched(request.GET)
    if query:
        rows = rows.filter(name__icontains=query)
    page = paging.page(rows, request.GET, order=("-pk",), size=25)
    counted = ReviewItem.objects.filter(campaign__in=[row.pk for row in page]).values("campaign").order_by("campaign")
    done = {row["campaign"]: row["done"] for row in counted.annotate(done=Count("pk", filter=~Q(choice="undecided")))}
    context = {
        "page": page,
        "rows": [(row, done.get(row.pk, 0)) for row in page],
        "can_run": permissions.can_run(user),
        "states": Campaign.State.choices,
        "is_filtered": bool(state or query),
    }
    name = "reviews/campaigns.html"
    return render(request, f"{name}#rows" if request.htmx else name, context)  # type: ignore[attr-defined]


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Draft a campaign."""
    user = _administrator(request)
    initial = {"due_on": (timezone.now() + DUE_IN).date()}
    form = DraftForm(request.POST or None, initial=initial)
    if form.is_valid():
        given = form.cleaned_data
        try:
            row = services.draft(
                name=given["name"],
                connection=given["connection"],
                holders=given["holders"],
                environments=given["environments"],
                privileged_only=given["privileged_only"],
                resource=given["resource"],
                due_at=given["due_on"],
                fallback=given["fallback"],
                instructions=given["instructions"],
                by=user,
            )
        except NotAllowed as error:
            form.add_error(None, str(error))
        else:
            return redirect(row)
    return render(request, "reviews/new.html", {"form": form}, status=422 if form.is_bound else 200)


@require_safe
def campaign(request: HttpRequest, pk: int) -> HttpResponse:
    """One campaign: as a draft what it would ask, afterwards how far it is and whether its numbers add up."""
    user = _reader(request)
    row = _load(pk)
    context: dict[str, Any] = {"campaign": row, "can_run": permissions.can_run(user)}
    if row.is_draft:
        found = population.preview(row, launcher=user.pk)
        context |= {"found": found, "left_out": _left_out(found.left_out), "blocked": _blocked(row, found)}
        return render(request, "reviews/draft.html", context)
    counts = tie_out.counts_of(row)
    sums = tie_out.equations(row, counts)
    reviewers = paging.page(_reviewers(row), request.GET, order=("-left", "name"), size=20)
    context |= {
        "counts": counts,
        "share": round(100 * counts.revoke / counts.decided) if counts.decided else 0,
        "equations": sums,
        "open_sums": sum(each.is_open or each.off_by != 0 for each in sums),
        "chart": burndown.of(row),
        "reviewers": reviewers,
        "reviewer_count": ReviewItem.objects.filter(campaign=row).values("reviewer").distinct().count(),
        "waiting": _reviewers(row).filter(left__gt=0).count() if row.is_running else 0,
        "left_out": _left_out(row.left_out),
    }
    return render(request, "reviews/campaign.html", context)


@require_safe
def items(request: HttpRequest, pk: int) -> HttpResponse:
    """Everything a campaign asks about, with where each stands."""
    user = _reader(request)
    row = _load(pk)
    rows = _filtered(ReviewItem.objects.filter(campaign=row).with_names(), request)
    context = {
        "campaign": row,
        "page": paging.page(rows, request.GET, order=("pk",)),
        "can_run": permissions.can_run(user) and row.is_running,
        "outcomes": Outcome.choices,
        "privileges": Privilege.choices,
        "rules": ReviewItem.Rule.choices,
        "is_filtered": any(
            request.GET.get(name) for name in ("q", "outcome", "privilege", "rule", "reviewer", "signed")
        ),
        "reviewer": User.objects.filter(pk__in=picked(request.GET.getlist("reviewer"))).first(),
    }
    name = "reviews/items.html"
    return render(request, f"{name}#rows" if request.htmx else name, context)  # type: ignore[attr-defined]


@require_safe
def item(request: HttpRequest, pk: int, item_id: int) -> HttpResponse:
    """One item: what stood, who was asked and why, what they answered over time, and what became of it."""
    _reader(request)
    row = _load(pk)
    found = ReviewItem.objects.filter(campaign=row, pk=item_id).with_names().select_related("sign_off").first()
    if found is None:
        raise Http404
    history = found.decisions.select_related("by").order_by("pk")
    return render(request, "reviews/item.html", {"campaign": row, "item": found, "history": history})


@require_safe
def of_identity(request: HttpRequest, pk: int) -> HttpResponse:
    """What reviews said about what one identity holds; a tab of its page."""
    identity = Identity.objects.filter(pk=pk).first()
    user = request.user
    if identity is None or not isinstance(user, User) or not permissions.can_see_reviews_of(user, identity):
        raise Http404
    navigation.belongs_to(request, "inventory:identities")
    rows = ReviewItem.objects.filter(identity=identity).with_names().select_related("campaign")
    context = {
        "identity": identity,
        "row": identity,
        "tabs": extensions.tabs_of(request, identity),
        "page": paging.page(rows, request.GET, order=("-pk",), size=25),
        "can_see": permissions.can_see(user),
    }
    return render(request, "reviews/of_identity.html", context)


# ---- what administrators do


@require_POST
def launch(request: HttpRequest, pk: int) -> HttpResponse:
    return _do(request, pk, lambda row, user: services.launch(row, by=user), "Launched. Its reviewers get a mail.")


@require_POST
def discard(request: HttpRequest, pk: int) -> HttpResponse:
    user = _administrator(request)
    try:
        services.discard(_load(pk), by=user)
    except NotAllowed as error:
        messages.error(request, str(error))
        return redirect("reviews:campaign", pk)
    return redirect("reviews:campaigns")


@require_POST
def remind(request: HttpRequest, pk: int) -> HttpResponse:
    return _do(
        request, pk, lambda row, user: services.remind(row, by=user), "Everybody with something left gets a mail."
    )


@require_POST
def close(request: HttpRequest, pk: int) -> HttpResponse:
    form = CloseForm(request.POST)
    if not form.is_valid():
        raise Http404
    force, note = form.cleaned_data["force"], form.cleaned_data["note"]
    return _do(request, pk, lambda row, user: services.close(row, by=user, force=force, note=note), "Closed.")


@require_POST
def reassign(request: HttpRequest, pk: int) -> HttpResponse:
    """Pass picked items on to another reviewer."""
    user = _administrator(request)
    row = _load(pk)
    chosen = ReviewItem.objects.filter(campaign=row, pk__in=picked(request.POST.getlist("item")))
    form = PassOnForm(request.POST)
    if not form.is_valid():
        said = said_by(form)
        messages.error(request, f"Nothing was passed on. {said}")
        return redirect("reviews:items", pk)
    to = form.cleaned_data["to"]
    try:
        count = items_service.reassign(chosen, campaign=row, to=to, by=user, reason=form.cleaned_data["reason"])
    except NotAllowed as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Passed {count} to {to}. They get a mail about it.")
    return redirect("reviews:items", pk)


def _do(request: HttpRequest, pk: int, act: Callable[[Campaign, User], object], said: str) -> HttpResponse:
    user = _administrator(request)
    try:
        act(_load(pk), user)
    except NotAllowed as error:
        messages.error(request, str(error))
    else:
        messages.success(request, said)
    return redirect("reviews:campaign", pk)


# ---- what they share


def _reader(request: HttpRequest) -> User:
    """An auditor or administrator; for everybody else there is no such page."""
    if not isinstance(request.user, User) or not permissions.can_see(request.user):
        raise Http404
    return request.user


def _administrator(request: HttpRequest) -> User:
    if not isinstance(request.user, User) or not permissions.can_run(request.user):
        raise Http404
    return request.user


def _load(pk: int) -> Campaign:
    names = ("connection", "resource", "fallback", "run", "drafted_by", "launched_by", "closed_by")
    row = Campaign.objects.select_related(*names).filter(pk=pk).first()
    if row is None:
        raise Http404
    return row


def _blocked(row: Campaign, found: population.Population) -> str:
    """Why it cannot be launched now, or ""."""
    try:
        services.require_launchable(row, found)
    except NotAllowed as error:
        return services.blocked(row) or str(error)
    return services.blocked(row)


def _left_out(counts: dict[str, int]) -> list[tuple[int, str]]:
    return [(counts[name], words) for name, words in LEFT_OUT.items() if counts.get(name)]


def _reviewers(row: Campaign) -> Any:
    """Everybody who reviews it, with how far they are. `left` is what they have to decide or sign."""
    of_it = User.objects.filter(review_items__campaign=row)
    return of_it.annotate(
        total=Count("review_items"),
        decided=Count("review_items", filter=~Q(review_items__choice=Choice.UNDECIDED)),
        left=Count("review_items", filter=Q(review_items__sign_off=None)),
        last_at=Max("review_items__decided_at"),
    )


def _filtered(rows: Any, request: HttpRequest) -> Any:
    query = paging.searched(request.GET)
    if query:
        rows = rows.filter(Q(holder_name__icontains=query) | Q(holding_name__icontains=query))
    if request.GET.get("outcome") in Outcome.values:
        rows = rows.outcome(request.GET["outcome"])
    for name, values in (("privilege", Privilege.values), ("rule", ReviewItem.Rule.values)):
        if request.GET.get(name) in values:
            rows = rows.filter(**{name: request.GET[name]})
    if request.GET.get("reviewer"):
        rows = rows.filter(reviewer__in=picked(request.GET.getlist("reviewer")))
    return rows.unsigned() if request.GET.get("signed") == "no" else rows
