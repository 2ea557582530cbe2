"""Pages for auditors: the audit log, exports, evidence packs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from functools import wraps
from typing import Any

from django.db.models import Prefetch
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.audit.models import AuditEvent
from apps.core import paging
from apps.core.refusals import NotPossible
from apps.evidence import permissions, selection, services
from apps.evidence.forms import FilterForm, PeriodForm
from apps.evidence.models import EvidencePack, Export
from apps.evidence.wording import AREAS, Line
from apps.reviews.models import Campaign
from apps.users.models import User

View = Callable[..., HttpResponseBase]


def for_auditors(view: View) -> View:
    """For everybody else there is no such page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not permissions.can_see_evidence(_user(request)):
            raise Http404
        return view(request, *args, **kwargs)

    return guarded


@require_safe
@for_auditors
def index(request: HttpRequest) -> HttpResponse:
    """What can be handed out, and what was."""
    today = timezone.now().astimezone(UTC).date()
    quarter = today.replace(month=today.month - (today.month - 1) % 3, day=1)
    return _index(request, PeriodForm(initial={"start": quarter, "end": today}))


def _index(request: HttpRequest, form: PeriodForm, status: int = 200) -> HttpResponse:
    latest = EvidencePack.objects.select_related("made_by").order_by("-pk")[:3]
    campaigns = Campaign.objects.launched().select_related("connection", "resource")
    context = {
        "form": form,
        "page": paging.page(
            campaigns.prefetch_related(Prefetch("evidence_packs", latest, to_attr="packs")),
            request.GET,
            order=("-pk",),
            size=20,
        ),
        "exports": Export.objects.select_related("made_by")[:10],
    }
    return render(request, "evidence/index.html", context, status=status)


@require_safe
@for_auditors
def audit_log(request: HttpRequest) -> HttpResponse:
    """Every event, latest first, by period, area, actor, subject or text."""
    form = FilterForm(request.GET)
    events = selection.chosen(form.cleaned_data) if form.is_valid() else AuditEvent.objects.none()
    page = paging.page(events, request.GET, order=("-pk",))
    context = {
        "form": form,
        "page": page,
        "lines": [Line(event) for event in page],
        "areas": AREAS,
        "actor": _actor(form),
        "ref": form.cleaned_data.get("ref", ""),
    }
    return render(request, "evidence/audit.html#rows" if request.htmx else "evidence/audit.html", context)  # type: ignore[attr-defined]


@require_POST
@for_auditors
def export_audit(request: HttpRequest) -> HttpResponseBase:
    """The audit events of whole days as CSV."""
    form = PeriodForm(request.POST)
    if not form.is_valid():
        return _index(request, form, status=422)
    start, end = form.period
    export, handout = services.export_audit(start=start, end=end, by=_user(request))
    response = FileResponse(
        handout.file, as_attachment=True, filename=handout.name, content_type="text/csv; charset=utf-8"
    )
    response["X-Content-SHA256"] = export.digest
    return response


@require_POST
@for_auditors
def make_pack(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The evidence of one campaign as a zip."""
    try:
        row, handout = services.make_pack(pk, by=_user(request))
    except NotPossible:
        raise Http404 from None
    response = FileResponse(handout.file, as_attachment=True, filename=handout.name, content_type="application/zip")
    response["X-Content-SHA256"] = row.digest
    return response


def _actor(form: FilterForm) -> str:
    """The name that goes with the actor filter, as the log knows it."""
    actor = form.cleaned_data.get("actor", "")
    if not actor:
        return ""
    latest = AuditEvent.objects.filter(actor_id=actor).order_by("-pk").values_list("actor_name", flat=True).first()
    return latest or actor


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    return request.user
