"""A reviewer's desk. Everything works as plain links and forms; htmx swaps the desk in place."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import trigger_client_event

from apps.core import paging
from apps.reviews import permissions
from apps.reviews.forms import DecisionForm, PassOnForm, picked, said_by
from apps.reviews.models import Campaign, Choice, ReviewItem, SignOff
from apps.reviews.models.items import ReviewItemQuerySet
from apps.reviews.services import items
from apps.reviews.services.items import NotAllowed
from apps.reviews.views import desk
from apps.users.models import User

KEPT = ("q", "show")  # of the queue's filters, on the way from one item to the next


@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """Everything I review or reviewed. With one thing waiting, straight to that."""
    user = user_of(request)
    counts = {
        "total": Count("items"),
        "decided": Count("items", filter=~Q(items__choice=Choice.UNDECIDED)),
        "signed": Count("items", filter=Q(items__sign_off__isnull=False)),
    }
    rows = Campaign.objects.launched().filter(items__reviewer=user).annotate(**counts)
    page = paging.page(rows, request.GET, order=("-pk",), size=25)
    waiting = [row for row in page if row.is_running and row.signed < row.total]
    if len(waiting) == 1 and "all" not in request.GET:
        return redirect("reviews:review", waiting[0].pk)
    return render(request, "reviews/mine.html", {"page": page, "waiting": len(waiting)})


@require_safe
def review(request: HttpRequest, campaign_id: int, pk: int | None = None) -> HttpResponse:
    """The desk: my queue, and one item of it. `?choice=` asks for the reason that choice needs."""
    campaign, rows = _load(request, campaign_id)
    queue = desk.filtered(rows, request.GET)
    item = _one(rows, pk) if pk else desk.first_of(queue)
    asking = request.GET.get("choice", "") if item and pk else ""
    return _render(request, campaign, rows, item, asking=asking if asking in (Choice.KEEP, Choice.REVOKE) else "")


@require_POST
def decide(request: HttpRequest, campaign_id: int, pk: int) -> HttpResponse:
    """Keep or revoke one item, then on to the next one that is not decided."""
    campaign, rows = _load(request, campaign_id)
    item = _one(rows, pk)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        raise Http404
    choice, reason = form.cleaned_data["choice"], form.cleaned_data["reason"]
    try:
        items.decide(item, choice=choice, reason=reason, by=user_of(request))
    except NotAllowed as error:
        return _render(request, campaign, rows, item, asking=choice, problem=str(error), reason=reason, status=422)
    following = desk.after(desk.filtered(rows, request.GET), pk)
    return _to(request, campaign, following or item)


@require_POST
def decide_many(request: HttpRequest, campaign_id: int) -> HttpResponse:
    """Keep or revoke what was picked in the queue, with one reason."""
    campaign, rows = _load(request, campaign_id)
    form = DecisionForm(request.POST)
    chosen = rows.filter(pk__in=picked(request.POST.getlist("item")))
    here = rows.filter(pk__in=picked(request.POST.getlist("here"))).first()
    if not form.is_valid():
        raise Http404
    choice, reason = form.cleaned_data["choice"], form.cleaned_data["reason"]
    try:
        decided = items.decide_many(chosen, campaign=campaign, choice=choice, reason=reason, by=user_of(request))
    except NotAllowed as error:
        return _refused(request, campaign, rows, here, str(error))
    messages.success(request, f"{'Kept' if choice == Choice.KEEP else 'Revoked'} {len(decided)}. Z takes it back.")
    following = desk.after(desk.filtered(rows, request.GET), decided[-1].pk)
    return _to(request, campaign, following or here or decided[-1])


@require_POST
def undo(request: HttpRequest, campaign_id: int) -> HttpResponse:
    """Take back the last thing I decided, and show it."""
    campaign, rows = _load(request, campaign_id)
    try:
        taken = items.undo(campaign=campaign, by=user_of(request))
    except NotAllowed as error:
        here = rows.filter(pk__in=picked(request.POST.getlist("here"))).first()
        return _refused(request, campaign, rows, here, str(error))
    return _to(request, campaign, taken[0])


@require_POST
def pass_on(request: HttpRequest, campaign_id: int) -> HttpResponse:
    """Give one item, or everything of mine that is not signed, to somebody else."""
    campaign, rows = _load(request, campaign_id)
    chosen = rows.filter(pk__in=picked(request.POST.getlist("item")))
    if request.POST.get("all"):
        chosen = rows.unsigned()
    form = PassOnForm(request.POST)
    here = chosen.order_by("pk").first()
    if not form.is_valid():
        return _refused(request, campaign, rows, here, f"It was not passed on. {said_by(form)}")
    user, to = user_of(request), form.cleaned_data["to"]
    try:
        count = items.reassign(chosen, campaign=campaign, to=to, by=user, reason=form.cleaned_data["reason"])
    except NotAllowed as error:
        return _refused(request, campaign, rows, here, str(error))
    messages.success(request, f"Passed {count} to {to}. They get a mail about it.")
    if not permissions.can_review(user, campaign):
        return redirect("reviews:mine")
    return redirect("reviews:review", campaign.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def sign(request: HttpRequest, campaign_id: int) -> HttpResponse:
    """Read once more what I put my name to, and put it there."""
    campaign, rows = _load(request, campaign_id)
    user = user_of(request)
    problem, status = "", 200
    if request.method == "POST":
        try:
            items.submit(campaign=campaign, by=user)
        except NotAllowed as error:
            problem, status = str(error), 409
        else:
            return redirect("reviews:sign", campaign.pk)
    unsigned = rows.unsigned()
    progress = desk.progress_of(unsigned)
    context = {
        "campaign": campaign,
        "progress": progress,
        "statement": items.statement_of(
            {"items": progress.total, "keep": progress.keep, "revoke": progress.revoke, "bulk": 0}
        ),
        "going": unsigned.filter(choice=Choice.REVOKE).order_by("pk")[:100],
        "privileged": unsigned.privileged().filter(choice=Choice.KEEP).order_by("pk")[:100],
        "signed": SignOff.objects.filter(campaign=campaign, reviewer=user),
        "problem": problem,
    }
    return render(request, "reviews/sign.html", context, status=status)


# ---- what they share


def user_of(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    return request.user


def _load(request: HttpRequest, campaign_id: int) -> tuple[Campaign, ReviewItemQuerySet]:
    """The campaign and my part of it; without one there is no such page."""
    user = user_of(request)
    campaign = Campaign.objects.launched().filter(pk=campaign_id).first()
    if campaign is None or not permissions.can_review(user, campaign):
        raise Http404
    return campaign, ReviewItem.objects.filter(campaign=campaign, reviewer=user)


def _one(rows: ReviewItemQuerySet, pk: int) -> ReviewItem:
    item = rows.filter(pk=pk).select_related("campaign", "grant", "assignment", "identity").first()
    if item is None:
        raise Http404
    return item


def _render(
    request: HttpRequest,
    campaign: Campaign,
    rows: ReviewItemQuerySet,
    item: ReviewItem | None,
    *,
    asking: str = "",
    problem: str = "",
    reason: str = "",
    status: int = 200,
) -> HttpResponse:
    progress = desk.progress_of(rows)
    context = {
        "campaign": campaign,
        "progress": progress,
        "desk": desk.Desk(campaign, user_of(request), desk.filtered(rows, request.GET), item, progress)
        if item
        else None,
        "asking": asking,
        "problem": problem,
        "reason": reason,
        "kept": _kept(request),
        "is_part": bool(getattr(request, "htmx", False)),
        "is_late": timezone.now() >= campaign.due_at,
    }
    name = "reviews/review.html"
    response = render(request, f"{name}#desk" if context["is_part"] else name, context, status=status)
    for message in messages.get_messages(request) if context["is_part"] else ():
        trigger_client_event(response, "toast", {"text": str(message), "kind": "ok"})
    return response


def _kept(request: HttpRequest) -> str:
    """The queue's filters as a query string to carry along, with its question mark."""
    found = {name: request.GET[name] for name in KEPT if request.GET.get(name)}
    return f"?{urlencode(found)}" if found else ""


def _to(request: HttpRequest, campaign: Campaign, item: ReviewItem) -> HttpResponse:
    return redirect(f"{reverse('reviews:item', args=[campaign.pk, item.pk])}{_kept(request)}")


def _refused(
    request: HttpRequest, campaign: Campaign, rows: ReviewItemQuerySet, item: ReviewItem | None, problem: str
) -> HttpResponse:
    here = _one(rows, item.pk) if item else desk.first_of(rows)
    return _render(request, campaign, rows, here, problem=problem, status=422)
