"""The page about the portal's own speed, and the same for programs."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.connectors import budget
from apps.connectors.aws import clock
from apps.connectors.leases import PURPOSES
from apps.grants.models import Grant
from apps.insights import measures
from apps.insights import metrics as exposition
from apps.insights.permissions import can_see_insights

PERIODS = (7, 30, 90)  # days
PURPOSE_TITLES = {"revoke": "Ending access", "grant": "Opening access", "sync": "Reading"}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """How fast access begins, and how surely it ends."""
    if not can_see_insights(request.user):  # type: ignore[arg-type]
        raise Http404
    asked = request.GET.get("days", "")
    days = int(asked) if asked in map(str, PERIODS) else PERIODS[0]
    now = timezone.now()
    since = now - timedelta(days=days)
    rows = measures.standing(now)
    skew = max(budget.here().skews(), key=abs, default=None)
    context = {
        "days": days,
        "periods": PERIODS,
        "stretches": [
            ("From yes to access", "AWS shows it open.", measures.spread("approval_to_access", since)),
            ("From the end to denied", "AWS denies it.", measures.spread("end_to_denied", since)),
            ("From the end to gone", "AWS no longer shows it.", measures.spread("end_to_gone", since)),
        ],
        "standing": rows,
        "live": sum(row.live for row in rows),
        "waiting": sum(row.to_open + row.to_end for row in rows),
        "unproven": sum(row.unproven for row in rows),
        "oldest": measures.age(measures.oldest(row.oldest_ending_at for row in rows), now),
        "missed": measures.age(measures.oldest(row.oldest_end_missed_at for row in rows), now),
        "slo": Grant.REVOKE_SLO,
        "asked": _asked_of_aws(),
        "purposes": [PURPOSE_TITLES[purpose] for purpose in PURPOSES],
        "skew": skew,
        "clock_is_off": skew is not None and abs(skew) > clock.MOST.total_seconds(),
    }
    return render(request, "insights/index.html", context)


def _asked_of_aws() -> list[tuple[str, list[int], int]]:
    """Each service: how often it was asked, by purpose, and how often it refused."""
    counts = budget.here().counts()
    services = sorted({service for service, _ in (*counts.calls, *counts.throttles)})
    return [
        (
            service,
            [counts.calls.get((service, purpose), 0) for purpose in PURPOSES],
            sum(counts.throttles.get((service, purpose), 0) for purpose in PURPOSES),
        )
        for service in services
    ]


@login_not_required
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus, which shows METRICS_TOKEN as a bearer. For everybody else there is no such page."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = settings.METRICS_TOKEN
    if not expected or scheme.lower() != "bearer" or not constant_time_compare(token.strip(), expected):
        raise Http404
    return HttpResponse(exposition.exposition(), content_type=exposition.CONTENT_TYPE)
