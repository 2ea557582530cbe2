"""Whose logins IAM users are: the queue, one question, and the answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Case, Count, Prefetch, Q, QuerySet, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.core import paging
from apps.inventory import permissions, services
from apps.inventory.forms import LoginForm
from apps.inventory.models import Assignment, Correlation, Credential, Principal
from apps.inventory.models.access import PRIVILEGED
from apps.inventory.services.logins import MOST_AT_ONCE
from apps.inventory.sync.correlation import RULES, Rule
from apps.inventory.views.common import connections_of, freshness, manager_only, part, refused, try_to, user_of, who

SHOWS = {"": "waiting", "later": "put_off", "decided": "decided"}
OWN = "rule", "decision", "decided_at", "until", "note"
SAID = {
    "person": "{principal} is a login of {whose}.",
    "machine": "{principal} is a machine.",
    "later": "{principal} comes back in 30 days.",
    "unlink": "{principal} is nobody's login.",
}


@dataclass(frozen=True)
class Asked:
    """A rule, and for how many of those that wait it proposes somebody."""

    rule: Rule
    count: int


@require_safe
def logins(request: HttpRequest) -> HttpResponse:
    """The questions that wait, those put off, or those answered."""
    _require_overseer(request)
    return render(request, part(request, "inventory/logins.html", "rows"), _list(request))


@require_safe
def login(request: HttpRequest, pk: int) -> HttpResponse:
    """One IAM user beside the list: what is known about it, and the answers."""
    user = _require_overseer(request)
    principal = _load(pk)
    panel = {"panel": _panel(principal), "can_decide": permissions.can_manage(user)}
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "inventory/logins.html#login", panel)
    return render(request, "inventory/logins.html", _list(request) | panel)


@require_POST
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    """An administrator answers; the next question follows."""
    by, principal = manager_only(request), _load(pk)
    form = LoginForm(request.POST, principal=principal)
    if not form.is_valid():
        return refused(request, form, reverse("inventory:login", args=[pk]))
    choice, reason = form.cleaned_data["choice"], form.cleaned_data["reason"]
    whose: Any = form.cleaned_data.get("whose")
    if choice == "proposed":
        choice, whose = "person", getattr(getattr(principal, "correlation", None), "proposed", None)
    if choice == "person" and whose is None:
        messages.error(request, "The rules propose nobody any more. Name the person.")
        return redirect("inventory:login", pk)
    answers: dict[str, Any] = {
        "person": lambda: services.say_whose(principal, whose, by=by, reason=reason),
        "machine": lambda: services.say_machine(principal, by=by, reason=reason),
        "later": lambda: services.put_off(principal, by=by, reason=reason),
        "unlink": lambda: services.unlink_login(principal, by=by, reason=reason),
    }
    if not try_to(request, answers[choice], SAID[choice].format(principal=principal, whose=whose)):
        return redirect("inventory:login", pk)
    following = _following(pk)
    return redirect("inventory:login", following) if following else redirect("inventory:logins")


@require_POST
def accept(request: HttpRequest) -> HttpResponse:
    """An administrator links all that one rule proposes."""
    by = manager_only(request)
    count = services.accept_proposals(request.POST.get("rule", "")[:20], by=by)
    messages.success(request, f"{count} login{'' if count == 1 else 's'} linked.")
    return redirect("inventory:logins")


def _require_overseer(request: HttpRequest) -> Any:
    user = user_of(request)
    if not permissions.can_see_everything(user):
        raise Http404
    return user


def _load(pk: int) -> Principal:
    users = Principal.objects.present().filter(kind=Principal.Kind.IAM_USER, is_reserved=False)
    whose = "identity__owner", "identity__successor", "correlation__proposed", "correlation__person"
    found = users.select_related("connection", "resource", *whose, "correlation__decided_by")
    return get_object_or_404(found, pk=pk)


def _list(request: HttpRequest) -> dict[str, Any]:
    show = request.GET.get("show", "")
    show = show if show in SHOWS else ""
    found: QuerySet[Correlation] = getattr(Correlation.objects, SHOWS[show])()
    query = paging.searched(request.GET)
    if query:
        found = found.filter(principal__name__icontains=query)
    if request.GET.get("rule"):
        found = found.filter(rule=request.GET["rule"][:20])
    held = Credential.objects.filter(ended_at=None, is_active=True).order_by("kind", "pk").only("principal", "kind")
    principal = "principal__name", "principal__resource__name", "principal__resource__external_id"
    shown = (
        found.select_related("principal__resource", "proposed", "person", "decided_by")
        .only(*OWN, *principal, *who("proposed", "person"), "decided_by__name")
        .prefetch_related(Prefetch("principal__credentials", held, to_attr="held"))
    )
    counts, proposing = _counts()
    return {
        "page": paging.page(shown, request.GET, order=("pk",)),
        "show": show,
        "waiting": counts["waiting"],
        "later": counts["put_off"],
        "decided": counts["decided"],
        "rules": [Asked(rule, proposing[rule.key]) for rule in RULES],
        "rule_choices": [(rule.key, rule.name) for rule in RULES],
        "most_at_once": MOST_AT_ONCE,
        "can_decide": permissions.can_manage(user_of(request)),
        "query": query,
        "freshness": freshness(connections_of(user_of(request))),
    }


def _counts() -> tuple[Counter[str], Counter[str]]:
    """How many wait, are put off and are decided; and of those that wait, for how many each rule proposes somebody. One
    query."""
    which = Case(
        When(Q(decision=Correlation.Choice.LATER, until__gt=timezone.now()), then=Value("put_off")),
        When(Q(decision__in=(Correlation.Choice.PERSON, Correlation.Choice.MACHINE)), then=Value("decided")),
        default=Value("waiting"),
    )
    found = Correlation.objects.present().order_by().annotate(which=which, names=Q(proposed__isnull=False))
    counts, proposing = Counter[str](), Counter[str]()
    for name, rule, names, count in found.values_list("which", "rule", "names").annotate(count=Count("pk")):
        counts[name] += count
        proposing[rule] += count if names and name == "waiting" else 0
    return counts, proposing


def _panel(principal: Principal) -> dict[str, Any]:
    question = getattr(principal, "correlation", None) or Correlation(principal=principal)
    held = Assignment.objects.open().filter(principal=principal)
    return {
        "principal": principal,
        "question": question,
        "is_linked": question.decision == Correlation.Choice.PERSON,
        "rule": next((rule for rule in RULES if rule.key == question.rule), None),
        "credentials": list(Credential.objects.filter(principal=principal, ended_at=None).order_by("kind", "pk")),
        "tags": sorted(_tags(principal).items())[:20],
        "held": held.count(),
        "privileged": held.filter(entitlement__privilege__in=PRIVILEGED).count(),
        "form": LoginForm(principal=principal),
        "following": _following(principal.pk),
    }


def _tags(principal: Principal) -> dict[str, str]:
    tags = principal.attributes.get("tags")
    return {str(key)[:128]: str(value)[:256] for key, value in tags.items()} if isinstance(tags, dict) else {}


def _following(pk: int) -> int | None:
    """The next question that waits, after this one or else from the start."""
    here = Correlation.objects.filter(principal=pk).values_list("pk", flat=True).first() or 0
    waiting = Correlation.objects.waiting().exclude(principal=pk).order_by("pk")
    keys = waiting.values_list("principal", flat=True)
    return keys.filter(pk__gt=here).first() or keys.first()
