"""What an identity really does, a smaller policy for it, and how far the audit trail was read."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Q, Sum
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from apps.core import paging, words
from apps.inventory import baselines, extensions, permissions
from apps.inventory.models import Actor, Connection, Identity, TrailDay
from apps.inventory.views.common import part, user_of

MOST_ACTIONS = 200
MOST_SERVICES = 60
MOST_ACCOUNTS = 100
MOST_RUNS = 10
MOST_STRANGERS = 10
SHOWN_DAYS = 30

ONLY = [("denied", "Denied"), ("services", "By AWS services"), ("data", "Data events"), ("unmapped", "Unmapped")]


@require_safe
def usage(request: HttpRequest, pk: int) -> HttpResponse:
    """What one identity did: how often, from where, what was denied, and what it may do but does not."""
    identity = _load(request, pk)
    covered = baselines.coverage(identity)
    since = timezone.now().date() - timedelta(days=settings.USAGE_PROPOSAL_DAYS)
    rows = baselines.usage(identity, since)
    only = request.GET.get("only", "")
    actions = list(baselines.by_action(rows, paging.searched(request.GET), only)[: MOST_ACTIONS + 1])
    names = [row["action"] for row in actions]
    networks, regions = (baselines.sources(rows, column, names) for column in ("networks", "regions"))
    for row in actions:
        row["networks"], row["regions"] = networks.get(row["action"], []), regions.get(row["action"], [])
    context: dict[str, Any] = {
        "identity": identity,
        "row": identity,
        "tabs": extensions.tabs_of(request, identity),
        "coverage": covered,
        "since": since,
        "days": settings.USAGE_PROPOSAL_DAYS,
        "actions": actions[:MOST_ACTIONS],
        "has_more": len(actions) > MOST_ACTIONS,
        "is_narrowed": bool(paging.searched(request.GET) or only),
        "only": ONLY,
    }
    if not request.htmx:  # type: ignore[attr-defined]
        known = baselines.evidence(identity, since)
        totals = rows.aggregate(**{name: Sum(name, default=0) for name in ("done", "denied", "failed", "by_services")})
        against = baselines.against(identity, known)
        context |= {
            "against": against,
            "unused": against.unused[:MOST_SERVICES],
            "totals": totals,
            "report": baselines.report(identity),
        }
    return render(request, part(request, "inventory/usage.html", "rows"), context)


@dataclass(frozen=True)
class Line:
    """One line of a text diff."""

    kind: str  # "add", "del", "same" or "gap"
    mark: str
    text: str


@require_safe
def proposal(request: HttpRequest, pk: int) -> HttpResponse:
    """Smaller policies for one identity, as differences of text."""
    identity = _load(request, pk)
    found = baselines.propose(identity)
    context = {
        "identity": identity,
        "row": identity,
        "tabs": extensions.tabs_of(request, identity),
        "found": found,
        "coverage": found.coverage,
        "diffs": [(one, list(_diff(one)) if one.smaller and one.smaller.is_smaller else []) for one in found.proposals],
        "days": settings.USAGE_PROPOSAL_DAYS,
    }
    return render(request, "inventory/usage_proposal.html", context)


@require_safe
def proposal_json(request: HttpRequest, pk: int) -> HttpResponse:
    """The same as a file."""
    identity = _load(request, pk)
    found = baselines.propose(identity)
    if not found.coverage.is_enough:
        raise Http404
    body = {
        "identity": identity.external_id,
        "window": {"from": found.coverage.since.isoformat(), "to": str(found.coverage.last)},
        "policies": [
            {
                "name": one.name,
                "policy": one.entitlement.external_id,
                "proposed": one.smaller.after,
                "removed": one.smaller.removed,
                "kept_unseen": one.smaller.unseen,
                "notes": one.notes,
            }
            for one in found.proposals
            if one.smaller
        ],
    }
    answer = JsonResponse(body, json_dumps_params={"indent": 2})
    answer["Content-Disposition"] = f'attachment; filename="smaller-policies-{identity.pk}.json"'
    return answer


@require_safe
def trail(request: HttpRequest, name: str) -> HttpResponse:
    """How far the audit trail of a connection was read, and what was left out."""
    if not permissions.can_view_connections(user_of(request)):
        raise Http404
    connection = get_object_or_404(Connection, name=name)
    since = timezone.now().date() - timedelta(days=SHOWN_DAYS)
    days = TrailDay.objects.filter(connection=connection, day__gte=since)
    settled = timezone.now().date() - baselines.SETTLES
    accounts = (
        days.values("account_id")
        .annotate(
            files_read=Sum("files"),
            events_read=Sum("events"),
            regions=Count("region", distinct=True),
            first=Min("day"),
            last=Max("day", filter=Q(whole_at__isnull=False)),
            gaps=Count("day", distinct=True, filter=Q(whole_at=None, day__lt=settled)),
        )
        .order_by("-gaps", "account_id")
    )
    names = dict(connection.resources.values_list("external_id", "name"))
    shown = [
        {**row, "name": names.get(row["account_id"], ""), "number": words.account_id(row["account_id"])}
        for row in accounts[:MOST_ACCOUNTS]
    ]
    unread = connection.resources.present().exclude(external_id__in=days.values("account_id"))
    unread_count = unread.count()
    strangers = Actor.objects.filter(connection=connection, principal=None)
    stranger_count = strangers.count()
    context = {
        "connection": connection,
        "bucket": connection.options.get("trail_bucket", ""),
        "runs": list(connection.trail_runs.all()[:MOST_RUNS]),
        "accounts": shown,
        "unread": list(unread.order_by("name", "pk")[:MOST_ACCOUNTS]),
        "unread_count": unread_count,
        "unread_more": max(0, unread_count - MOST_ACCOUNTS),
        "strangers": list(strangers.order_by("arn", "pk")[:MOST_STRANGERS]),
        "stranger_count": stranger_count,
        "strangers_more": max(0, stranger_count - MOST_STRANGERS),
        "shown_days": SHOWN_DAYS,
    }
    return render(request, "inventory/usage_trail.html", context)


def _diff(one: baselines.Proposal) -> Iterator[Line]:
    assert one.smaller
    before, after = (_text(document) for document in (one.smaller.before, one.smaller.after))
    for text in list(difflib.unified_diff(before, after, n=3, lineterm=""))[2:]:
        kind = {"+": "add", "-": "del", "@": "gap"}.get(text[:1], "same")
        yield Line(kind, text[:1] if kind in ("add", "del") else "", "…" if kind == "gap" else text[1:])


def _text(document: Any) -> list[str]:
    return json.dumps(document, indent=2, ensure_ascii=False).splitlines() if document is not None else []


def _load(request: HttpRequest, pk: int) -> Identity:
    visible = permissions.visible_identities(user_of(request))
    identity = get_object_or_404(visible.select_related("connection"), pk=pk)
    if not baselines.has_usage(identity):
        raise Http404
    return identity
