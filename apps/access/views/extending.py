"""Asking to hold a grant longer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from apps.access.forms import ExtendForm
from apps.access.models import AccessRequest
from apps.access.services import extensions, offers
from apps.access.views.people import place_of, user_of
from apps.grants import services as grants
from apps.grants.models import Grant
from apps.rules import evaluation
from apps.users import stepup

STEP_UP_FOR = timedelta(minutes=15)
WHAT_COMES = {"auto": "At once", "self": "You confirm", "approval": "Needs approval"}


@dataclass(frozen=True)
class Longer:
    """One length somebody may pick, and what would come of it."""

    seconds: int
    span: timedelta
    ends_at: datetime
    verdict: evaluation.Verdict

    @property
    def consequence(self) -> str:
        return WHAT_COMES.get(self.verdict.tier or "", "Not offered")


@require_http_methods(["GET", "HEAD", "POST"])
def extend(request: HttpRequest, pk: int) -> HttpResponse:
    """How much longer, why, and what the rules say of each choice; and asking."""
    user = user_of(request)
    grant = get_object_or_404(Grant.objects.with_names().filter(requested_by=user), pk=pk)
    offer = extensions.offer_of(grant)
    if offer is None or not grants.can_extend(grant) or grant.ends_at is None:
        return redirect(grant)
    try:
        verdicts = extensions.what_if(grant, offer, by=user)
    except offers.NotAllowed:
        raise Http404 from None
    choices = [Longer(int(span.total_seconds()), span, grant.ends_at + span, verdict) for span, verdict in verdicts]
    form = ExtendForm(request.POST or None, spans=[choice.span for choice in choices], initial={"reason": grant.reason})
    if request.method == "POST" and form.is_valid():
        verdict = dict(verdicts)[form.cleaned_data["longer"]]
        answer = _ask(request, grant, verdict, form)
        if answer is not None:
            return answer
    waiting = AccessRequest.objects.undecided().filter(extends=grant).first()
    best = next((choice for choice in choices if choice.verdict.tier), None)
    context = {"grant": grant, "form": form, "choices": choices, "best": best, "waiting": waiting}
    return render(request, "access/extend.html", context, status=422 if form.errors else 200)


def _ask(request: HttpRequest, grant: Grant, verdict: evaluation.Verdict, form: ExtendForm) -> HttpResponse | None:
    """Ask, or send them to the step-up first; None when the form has to say why not."""
    is_privileged = grant.entitlement.is_privileged
    wants = next((need.fresh_for for need in verdict.requires if need.kind == "mfa"), None)
    if wants and verdict.tier != "self" and not stepup.has_fresh(request, within=wants, privileged=is_privileged):
        return stepup.ask(request, privileged=is_privileged)
    try:
        with transaction.atomic():
            asked = extensions.ask_longer(
                grant,
                longer=form.cleaned_data["longer"],
                reason=form.cleaned_data["reason"],
                by=user_of(request),
                place=place_of(request, within=wants or STEP_UP_FOR, privileged=is_privileged),
            )
    except (offers.NotAllowed, grants.NotPossible) as refusal:
        form.add_error(None, str(refusal))
        return None
    return redirect(asked if asked.is_undecided else grant)
