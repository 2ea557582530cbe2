"""Home, the catalogue, and asking for one offer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from apps.access.forms import AskForm
from apps.access.models import AccessRequest, Offer
from apps.access.services import offers, requests
from apps.access.views.people import place_of, user_of
from apps.connectors import registry
from apps.core import paging
from apps.grants import services as grants
from apps.grants.models import LIVE, Grant, State
from apps.inventory import holdings
from apps.inventory.holdings import Light
from apps.inventory.models import Identity, Principal
from apps.inventory.models.access import Privilege
from apps.inventory.models.resources import Environment
from apps.inventory.views.common import freshness
from apps.rules import evaluation, questions
from apps.rules.approvers import approvers_for
from apps.users import stepup
from apps.users.models import User

STEP_UP_FOR = timedelta(minutes=15)
DRAFT = "access.draft"  # in the session: what was typed before a step-up


@dataclass(frozen=True)
class Row:
    """One offer as one person sees it: at which tier, for how long at most, by which rule."""

    offer: Offer
    best: evaluation.RuleOffer

    @property
    def cap(self) -> timedelta:
        return min(self.best.cap, self.offer.max_for)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """What I hold now, what waits for whom, what ended lately, what I often need."""
    user = user_of(request)
    identity = offers.identity_of(user)
    held = Grant.objects.of(user)
    current = held.unfinished().order_by("ends_at", "-pk")[:10]
    ended = held.exclude(state__in=LIVE | {State.REVOKING})[:3]
    # keys first: all that is printed of a grant takes PostgreSQL longer to plan than to do, so it is asked for once
    keys = [*current.values_list("pk", flat=True)], [*ended.values_list("pk", flat=True)]
    grants = Grant.objects.with_names().in_bulk([*keys[0], *keys[1]])
    waiting = [*AccessRequest.objects.undecided().filter(requester=user).values_list("pk", flat=True)[:10]]
    requests = AccessRequest.objects.with_names().prefetch_related("approvers__user").in_bulk(waiting)
    context = {
        "identity": identity,
        "current": [grants[pk] for pk in keys[0]],
        "waiting": [requests[pk] for pk in waiting],
        "ended": [grants[pk] for pk in keys[1]],
        "often": _often(user, identity),
        "always": _always_on(identity),
        "freshness": freshness([identity.connection] if identity else []),
        "to_decide": AccessRequest.objects.waiting_for(user).count(),
    }
    return render(request, "access/home.html", context)


def _often(user: User, identity: Identity | None) -> list[Row]:
    """What they asked for most in the last 30 days, if they may still ask."""
    if identity is None:
        return []
    since = timezone.now() - timedelta(days=30)
    asked = AccessRequest.objects.filter(requester=user, asked_at__gte=since, offer__withdrawn_at=None)
    running = Grant.objects.of(user).unfinished().values("entitlement")
    waiting = AccessRequest.objects.undecided().filter(requester=user).values("entitlement")
    asked = asked.exclude(entitlement__in=running).exclude(entitlement__in=waiting)
    top = [row["offer"] for row in asked.values("offer").annotate(times=Count("pk")).order_by("-times", "offer")[:4]]
    found = Offer.objects.open().for_person(identity).with_names().in_bulk(top)
    return _judged(identity, [found[pk] for pk in top if pk in found])


def _always_on(identity: Identity | None) -> list[Light]:
    """What they hold standing, each entitlement once."""
    if identity is None:
        return []
    found: dict[int, Light] = {}
    for path in holdings.light_paths_of(identity):
        if path.is_standing and not path.is_ours and not path.is_membership:
            found.setdefault(path.entitlement_id, path)
    return [*found.values()]


@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    """Everything I may ask for, with tier, cap and approver shown beforehand."""
    return render(request, _template(request), _catalogue(request))


def _catalogue(request: HttpRequest) -> dict[str, object]:
    identity = offers.identity_of(user_of(request))
    rows = Offer.objects.open().for_person(identity).with_names()
    query = paging.searched(request.GET)
    for word in query.split()[:5]:
        rows = rows.matching(word)
    environment, risk = request.GET.get("environment", ""), request.GET.get("risk", "")
    if environment in Environment.values:
        rows = rows.filter(entitlement__resource__environment=environment)
    if risk in Privilege.values:
        rows = rows.filter(entitlement__privilege=risk)
    page = paging.page(rows, request.GET, order=("entitlement__name", "pk"), size=50)
    return {
        "identity": identity,
        "page": page,
        "rows": _judged(identity, list(page)) if identity else [],
        "freshness": freshness([identity.connection] if identity else []),
        "is_filtered": bool(query or environment or risk),
        "environments": [choice for choice in Environment.choices if choice[0] != Environment.UNKNOWN],
        "risks": [choice for choice in Privilege.choices if choice[0] != Privilege.NONE],
    }


def _template(request: HttpRequest) -> str:
    is_part = request.htmx and request.htmx.target == "rows"  # type: ignore[attr-defined]
    return "access/catalogue.html#rows" if is_part else "access/catalogue.html"


def _judged(identity: Identity, rows: list[Offer]) -> list[Row]:
    """The offers that the rules open to this person at some tier, with the quickest way."""
    who = questions.identity_facts(identity)
    verdicts = evaluation.evaluate_many(questions.about(who, row.entitlement, has_ticket=True) for row in rows)
    return [Row(row, verdict.offers[0]) for row, verdict in zip(rows, verdicts, strict=True) if verdict.offers]


@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest, pk: int) -> HttpResponse:
    """The panel for one offer: what it allows, who approves by which rule, how it ends; and asking."""
    user = user_of(request)
    identity = offers.identity_of(user)
    row = get_object_or_404(Offer.objects.open().for_person(identity).with_names(), pk=pk)
    holders = offers.holders_for(user, row)
    if identity is None:
        raise Http404
    draft = request.session.pop(DRAFT, None) if request.method != "POST" else None
    initial = {"duration": 3600, **((draft or {}) if draft and draft.get("offer") == pk else {})}
    form = AskForm(request.POST or None, offer=row, holders=holders, initial=initial)
    if request.method == "POST" and form.is_valid():
        answer = _ask(request, row, identity, form)
        if answer is not None:
            return answer
    context = {"form": form, "offer": row, "holders": holders, **_beforehand(user, identity, row, holders)}
    status = 422 if form.errors else 200
    if request.htmx and request.htmx.target in ("panel", "ask"):  # type: ignore[attr-defined]
        return render(request, "access/catalogue.html#panel", context, status=status)
    return render(request, "access/catalogue.html", {**_catalogue(request), **context}, status=status)


def _ask(request: HttpRequest, row: Offer, identity: Identity, form: AskForm) -> HttpResponse | None:
    """Ask, or send them to the step-up first; None when the form has to say why not."""
    data = form.cleaned_data
    for_another = data["principal"].identity_id != identity.pk
    verdict = offers.judge(
        identity, row, duration=data["duration"], has_ticket=bool(data["ticket_ref"]), for_another=for_another
    )
    wants = next((need.fresh_for for need in verdict.requires if need.kind == "mfa"), None)
    if (
        wants
        and verdict.tier != "self"
        and not stepup.has_fresh(request, within=wants, privileged=row.entitlement.is_privileged)
    ):
        request.session[DRAFT] = {
            "offer": row.pk,
            "duration": int(data["duration"].total_seconds()),
            "principal": data["principal"].pk,
            "reason": data["reason"],
            "ticket_ref": data["ticket_ref"],
        }
        return stepup.ask(request, privileged=row.entitlement.is_privileged)
    try:
        with transaction.atomic():
            asked = requests.ask(
                row,
                principal=data["principal"],
                duration=data["duration"],
                reason=data["reason"],
                ticket_ref=data["ticket_ref"],
                by=user_of(request),
                place=place_of(request, within=wants or STEP_UP_FOR, privileged=row.entitlement.is_privileged),
            )
    except (offers.NotAllowed, grants.NotPossible) as refusal:
        form.add_error(None, str(refusal))
        return None
    target = redirect(asked.grant or asked)
    if request.htmx:  # type: ignore[attr-defined]
        return HttpResponse(status=204, headers={"HX-Redirect": target["Location"]})
    return target


@dataclass(frozen=True)
class Choice:
    """One duration somebody may pick, and what would come of it."""

    seconds: int
    span: timedelta
    ends_at: datetime
    verdict: evaluation.Verdict
    is_best_tier: bool

    @property
    def consequence(self) -> str:
        """Said under the duration when it differs from the quickest way."""
        if self.verdict.tier is None:
            return "Not offered"
        return {"self": "You confirm", "approval": "Needs approval"}.get(self.verdict.tier, "")


def _beforehand(user: User, identity: Identity, row: Offer, holders: list[Principal]) -> dict[str, object]:
    """What the rules would say for each duration, before anything is asked."""
    who = questions.identity_facts(identity)
    question = questions.about(who, row.entitlement, has_ticket=True)
    now = timezone.now()
    choices = [
        (span, offers.narrowed(verdict, row, span, has_ticket=True))
        for span, verdict in evaluation.what_if(question)
        if span <= row.max_for
    ]
    best = choices[0][1] if choices else evaluation.evaluate(question)
    approvers = approvers_for(user, identity, row.entitlement, best.approvers)
    kind = row.entitlement.connection.kind
    return {
        "choices": [
            Choice(int(span.total_seconds()), span, now + span, verdict, verdict.tier == best.tier)
            for span, verdict in choices
        ],
        "best": best,
        "cap": min(best.cap, row.max_for) if best.cap else None,
        "approvers": approvers if best.tier == "approval" else {},
        "needs_ticket": any(need.kind == "ticket" for need in best.requires),
        "promise": registry.promise(kind, row.provisioner),
        "held": grants.standing_path(holders[0], row.entitlement) if holders else "",
    }
