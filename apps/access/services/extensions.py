"""Asking to hold longer what is already held for a time: the same rules, asked about the whole time."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.access.models import AccessRequest, Offer, State
from apps.access.services import requests
from apps.access.services.offers import NotAllowed, identity_of, judge
from apps.audit import services as audit
from apps.grants import services as grants
from apps.grants.models import Grant
from apps.inventory.models import Identity
from apps.rules import evaluation
from apps.users.models import User

CHOICES = tuple(timedelta(minutes=minutes) for minutes in (30, 60, 120, 240))


def offer_of(grant: Grant) -> Offer | None:
    """What it could be asked for anew by, and so be extended by."""
    return Offer.objects.open().filter(entitlement=grant.entitlement_id, provisioner=grant.provisioner).first()


def what_if(grant: Grant, offer: Offer, *, by: User) -> list[tuple[timedelta, evaluation.Verdict]]:
    """For each length somebody may pick, what the rules say of the whole time then."""
    asker, so_far = _asker(by), grants.whole_time(grant, timedelta())
    has_ticket = bool(grant.ticket_ref)
    return [(longer, _judge(grant, offer, so_far + longer, asker=asker, has_ticket=has_ticket)) for longer in CHOICES]


@transaction.atomic
def ask_longer(
    grant: Grant, *, longer: timedelta, reason: str, by: User, place: requests.Place, ticket_ref: str = ""
) -> AccessRequest:
    """Ask that an active grant lasts `longer`. The rules are asked about the whole time from its beginning, so that an
    extension never gets around a cap, and the tier is that of the whole time.

    Raises `NotAllowed` (or the grant's `NotPossible`) with the reason, and writes nothing then.
    """
    offer, reason = offer_of(grant), reason.strip()
    if grant.requested_by_id != by.pk:
        raise NotAllowed("Only whoever asked for it can ask to have it longer.")
    if offer is None or not grants.can_extend(grant):
        raise NotAllowed("This cannot be extended. When it has ended, ask for it again.")
    if AccessRequest.objects.undecided().filter(extends=grant).exists():
        raise NotAllowed("You asked for that already, and nobody decided yet.")
    if len(reason) < requests.MIN_REASON:
        raise NotAllowed("Say in a few words why you need it longer. Whoever checks this later was not there.")
    ticket_ref = ticket_ref.strip() or grant.ticket_ref
    whole = grants.whole_time(grant, longer)
    verdict = _judge(grant, offer, whole, asker=_asker(by), has_ticket=bool(ticket_ref))
    if verdict.tier is None:
        raise NotAllowed(verdict.why_not)
    requests.require_step_up(verdict, grant.entitlement, place)
    now = timezone.now()
    request = AccessRequest(
        requester=by,
        identity=grant.identity,
        principal=grant.principal,
        offer=offer,
        entitlement=grant.entitlement,
        extends=grant,
        duration=longer,
        reason=reason,
        ticket_ref=ticket_ref,
        tier=verdict.tier,
        verdict=verdict.as_record(),
        state={"self": State.CONFIRMING, "approval": State.WAITING}.get(verdict.tier, State.ALLOWED),
        lapses_at=min(now + AccessRequest.LAPSES_AFTER, grant.ends_at or now),
        asked_from={"device": place.device, "session": place.session},
    )
    if verdict.tier == "auto":
        request.decided_at = now
        requests.carry_out(request, by=by)
    request.save()
    if verdict.tier == "approval":
        requests.name_approvers(request, verdict.approvers)
    audit.record(
        "access.access_request.asked_longer",
        by=by,
        subject=request,
        about=requests.about(request),
        data={
            "tier": verdict.tier,
            "verdict": verdict.as_record(),
            "seconds": int(longer.total_seconds()),
            "reason": reason,
            "ticket": ticket_ref,
        },
    )
    return request


def _asker(by: User) -> Identity:
    identity = identity_of(by)
    if identity is None:
        raise NotAllowed("You are not linked to anybody in the inventory. Ask an administrator to link you.")
    return identity


def _judge(grant: Grant, offer: Offer, whole: timedelta, *, asker: Identity, has_ticket: bool) -> evaluation.Verdict:
    return judge(asker, offer, duration=whole, has_ticket=has_ticket, for_another=grant.identity_id != asker.pk)
