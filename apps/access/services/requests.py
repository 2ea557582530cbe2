"""Asking and deciding. A yes becomes a grant below, in the same transaction; from there on AWS's answers tell the story."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.access import permissions
from apps.access.models import AccessRequest, Approval, Approver, Offer, State
from apps.access.services import signing
from apps.access.services.offers import NotAllowed, holders_for, identity_of, judge
from apps.audit import services as audit
from apps.core import words
from apps.core.lifecycle import Conflict, move
from apps.grants import services as grants
from apps.grants.models import Grant
from apps.inventory.models import Entitlement, Principal
from apps.rules import evaluation
from apps.rules.approvers import approvers_for, have_stood
from apps.users.models import User

MIN_REASON = 8  # characters: enough that "x" does not pass


@dataclass(frozen=True)
class Place:
    """Where somebody acts from (users.devices): which device and since when we know it, which session, and the fresh
    step-up given in that session, if any."""

    device: str = ""
    session: str = ""
    known_since: datetime | None = None
    step_up: Mapping[str, Any] = field(default_factory=dict)  # {method: passkey | totp, authenticator, at}

    def is_elsewhere(self, request: AccessRequest) -> bool:
        """Another device and another session than the request was made from, and a device known before it was made: a
        second browser opened on a stolen laptop proves nothing."""
        asked = request.asked_from
        if not (self.device and self.session and asked.get("device") and asked.get("session") and self.known_since):
            return False
        is_other = self.device != asked["device"] and self.session != asked["session"]
        return is_other and self.known_since <= request.asked_at

    def stepped_up_since(self, at: datetime) -> bool:
        """Whether the step-up was given at that instant or later."""
        return bool(self.step_up) and datetime.fromisoformat(self.step_up["at"]) >= at


@transaction.atomic
def ask(
    row: Offer, *, principal: Principal, duration: timedelta, reason: str, by: User, place: Place, ticket_ref: str = ""
) -> AccessRequest:
    """Ask for an offer. The rules give the tier: auto becomes a grant at once, self waits for the requester's confirmation
    from elsewhere, approval waits for somebody else.

    Raises `NotAllowed` (or the grant's `NotPossible`) with the reason, and writes nothing then.
    """
    reason, ticket_ref = reason.strip(), ticket_ref.strip()
    identity = identity_of(by)
    if identity is None:
        raise NotAllowed("You are not linked to anybody in the inventory. Ask an administrator to link you.")
    _require_on_offer(row)
    if principal not in holders_for(by, row):
        raise NotAllowed("You can ask for yourself, or for a machine identity that you own.")
    if len(reason) < MIN_REASON:
        raise NotAllowed("Say in a few words why you need it. Whoever checks this later was not there.")
    for_another = principal.identity_id != identity.pk
    verdict = judge(identity, row, duration=duration, has_ticket=bool(ticket_ref), for_another=for_another)
    if verdict.tier is None:
        raise NotAllowed(verdict.why_not)
    require_step_up(verdict, row.entitlement, place)
    why_stopped = grants.why_stopped(
        identity=principal.identity, principal=principal, entitlement=row.entitlement, requester=by
    )
    why_not = why_stopped or grants.standing_path(principal, row.entitlement)
    if why_not:
        raise NotAllowed(why_not)
    now = timezone.now()
    request = AccessRequest(
        requester=by,
        identity=principal.identity or identity,
        principal=principal,
        offer=row,
        entitlement=row.entitlement,
        duration=duration,
        reason=reason,
        ticket_ref=ticket_ref,
        tier=verdict.tier,
        verdict=verdict.as_record(),
        state={"self": State.CONFIRMING, "approval": State.WAITING}.get(verdict.tier, State.ALLOWED),
        lapses_at=now + AccessRequest.LAPSES_AFTER,
        asked_from={"device": place.device, "session": place.session},
    )
    if verdict.tier == "auto":
        request.grant = carry_out(request, by=by)
        request.decided_at = now
    request.save()
    if verdict.tier == "approval":
        name_approvers(request, verdict.approvers)
    audit.record(
        "access.access_request.asked",
        by=by,
        subject=request,
        about=about(request),
        data={
            "tier": verdict.tier,
            "verdict": verdict.as_record(),
            "seconds": int(duration.total_seconds()),
            "reason": request.reason,
            "ticket": request.ticket_ref,
            "approvers": [str(approver.user) for approver in request.approvers.select_related("user")],
        },
    )
    return request


def _require_on_offer(row: Offer) -> None:
    if not Offer.objects.open().filter(pk=row.pk).exists():
        raise NotAllowed("This can no longer be asked for. Look for another way in the catalogue.")


def require_step_up(verdict: evaluation.Verdict, entitlement: Entitlement, place: Place) -> None:
    """Where the rule asks for it. In the self tier the confirmation is the step-up."""
    needs = any(requirement.kind == "mfa" for requirement in verdict.requires)
    if not needs or verdict.tier == "self":
        return
    if not place.step_up or (entitlement.is_privileged and place.step_up.get("method") != "passkey"):
        how = "with a passkey" if entitlement.is_privileged else "that it is you"
        raise NotAllowed(f"Rule {verdict.rule_id} asks for a fresh step-up. Confirm {how}, then ask again.")


def name_approvers(request: AccessRequest, words: Iterable[str]) -> None:
    """Write down who may decide. With nobody left by the rule's own words, administrators may, and the row says so."""
    found = approvers_for(request.requester, request.identity, request.entitlement, words)
    if not found:
        raise NotAllowed("Nobody else could approve this now. Ask an administrator to name an owner for it.")
    Approver.objects.bulk_create(
        Approver(request=request, user=user, requester=request.requester, why=why) for user, why in found.items()
    )


# ---- deciding -----------------------------------------------------------------------------------------------------


@transaction.atomic
def confirm(request: AccessRequest, *, by: User, place: Place) -> AccessRequest:
    """The requester confirms a self-tier request, out of band: with a user-verified passkey, or from another device's
    session with a step-up there, either given after it was asked. Holding the mailbox or the asking browser is not
    enough, nor is having stepped up for something else before."""
    if not permissions.can_confirm(by, request):
        raise NotAllowed("Only whoever asked can confirm this.")
    _require_undecided(request)
    with_passkey = place.step_up.get("method") == "passkey"
    if not place.stepped_up_since(request.asked_at) or not (with_passkey or place.is_elsewhere(request)):
        raise NotAllowed("Confirm with a passkey, or open this page on another device where you are signed in.")
    _still_allowed(request)
    request.confirmed_by = "passkey" if with_passkey else "other_device"
    grant = carry_out(request, by=by)
    return move(
        request,
        State.ALLOWED,
        by=by,
        event="access.access_request.confirmed",
        about=about(request, grant),
        data={"how": request.confirmed_by, "step_up": dict(place.step_up)},
        grant=grant,
        decided_at=timezone.now(),
        confirmed_by=request.confirmed_by,
    )


@transaction.atomic
def approve(
    request: AccessRequest,
    *,
    by: User,
    place: Place,
    reason: str = "",
    credential: Mapping[str, Any] | None = None,
) -> AccessRequest:
    """An approver other than the requester says yes; the grant comes into being in the same transaction.

    Privileged access takes `credential`: a browser's answer to `signing.options`, a passkey's signature over exactly this
    request. Everything else takes a fresh step-up. Of two approvers the first decides; the other gets `Conflict`.
    """
    _require_decider(request, by)
    signed: dict[str, Any] = {}
    step_up = dict(place.step_up)
    if request.entitlement.is_privileged:
        signed, step_up = signing.sign(request, by, credential)
    if not step_up:
        raise NotAllowed("Confirm that it is you, then approve.")
    verdict = _still_allowed(request)
    if verdict.tier == "approval":
        _require_still_approver(request, by, verdict)
    approval = Approval.objects.create(
        request=request,
        user=by,
        requester=request.requester,
        choice=Approval.Choice.APPROVE,
        reason=reason.strip(),
        step_up=step_up,
    )
    grant = carry_out(request, by=by, approvals=[_said_yes(approval, signed)])
    return move(
        request,
        State.ALLOWED,
        by=by,
        event="access.access_request.approved",
        about=about(request, grant),
        data={"reason": approval.reason, "step_up": step_up},
        grant=grant,
        decided_at=approval.decided_at,
    )


@transaction.atomic
def deny(request: AccessRequest, *, by: User, reason: str) -> AccessRequest:
    """An approver says no, and why. Taking less than asked needs no step-up."""
    if not permissions.can_decide(by, request):
        raise NotAllowed("You are not one of those who can decide this request.")
    _require_undecided(request)
    if len(reason.strip()) < MIN_REASON:
        raise NotAllowed("Say in a few words why not, so that they know what to do instead.")
    approval = Approval.objects.create(
        request=request, user=by, requester=request.requester, choice=Approval.Choice.DENY, reason=reason.strip()
    )
    return move(
        request,
        State.DENIED,
        by=by,
        event="access.access_request.denied",
        about=about(request),
        data={"reason": approval.reason},
        decided_at=approval.decided_at,
    )


@transaction.atomic
def withdraw(request: AccessRequest, *, by: User) -> AccessRequest:
    """The requester needs it no longer."""
    if not permissions.can_withdraw(by, request):
        raise NotAllowed("Only whoever asked can withdraw this.")
    _require_undecided(request)
    return move(
        request,
        State.WITHDRAWN,
        by=by,
        event="access.access_request.withdrawn",
        about=about(request),
        decided_at=timezone.now(),
    )


def lapse(request: AccessRequest) -> AccessRequest:
    """Nobody decided in time."""
    return move(
        request,
        State.LAPSED,
        by=audit.CLOCK,
        event="access.access_request.lapsed",
        about=about(request),
        decided_at=timezone.now(),
    )


def _require_decider(request: AccessRequest, by: User) -> None:
    if not permissions.can_decide(by, request):
        raise NotAllowed("You are not one of those who can decide this request.")
    _require_undecided(request)


def _require_still_approver(request: AccessRequest, by: User, verdict: evaluation.Verdict) -> None:
    """Managers and owners change, and so do rules, while a request waits."""
    question = (request.requester, request.identity, request.entitlement, verdict.approvers)
    if by not in approvers_for(*question):
        raise NotAllowed(
            "Whoever may approve this has changed since it was asked, and you no longer may. Deny it, or ask "
            "for it to be asked again."
        )
    if request.entitlement.is_privileged and by not in have_stood(*question, at=timezone.now()):
        raise NotAllowed(
            f"You came to own or manage this less than {words.duration(settings.STEP_UP_WAITING_TIME)} ago, which is too "
            "soon to open privileged access. Leave it to another approver, or wait."
        )


def _require_undecided(request: AccessRequest) -> None:
    """Somebody decided before this page was even opened: told the same way as when they decide in between."""
    if not request.is_undecided:
        raise Conflict(request, request.get_state_display())


def _still_allowed(request: AccessRequest) -> evaluation.Verdict:
    """The rules are asked again when the yes comes: people leave, machines change hands, offers are withdrawn and rules
    change while a request waits."""
    asker = identity_of(request.requester)
    is_theirs = request.principal in holders_for(request.requester, request.offer)
    if asker is None or not is_theirs or request.lapses_at <= timezone.now():
        raise NotAllowed("This request is no longer good. Ask again.")
    _require_on_offer(request.offer)
    verdict = judge(
        asker,
        request.offer,
        duration=grants.whole_time(request.extends, request.duration) if request.extends else request.duration,
        has_ticket=bool(request.ticket_ref),
        for_another=request.identity_id != asker.pk,
    )
    order = ("auto", "self", "approval")
    if verdict.tier is None or order.index(verdict.tier) > order.index(request.tier):
        raise NotAllowed(verdict.why_not or "The rules ask for more than this by now. Ask again.")
    return verdict


def carry_out(request: AccessRequest, *, by: User, approvals: Iterable[Mapping[str, Any]] = ()) -> Grant | None:
    """The yes becomes a grant, or a later end of the one that it is about; then there is no new one."""
    authority = grants.Authority(request.verdict, tuple(approvals))
    if request.extends:
        rows = [request] if request.pk else []
        grants.extend(request.extends, longer=request.duration, by=by, authority=authority, about=rows)
        return None
    return grants.issue(
        identity=request.identity,
        principal=request.principal,
        entitlement=request.entitlement,
        provisioner=request.offer.provisioner,
        duration=request.duration,
        reason=request.reason,
        ticket_ref=request.ticket_ref,
        by=by,
        requester=request.requester,
        authority=authority,
        about=[request] if request.pk else [],
    )


def _said_yes(approval: Approval, signed: Mapping[str, Any]) -> dict[str, Any]:
    """The approval as a warrant keeps it."""
    return {
        "user": str(approval.user_id),
        "name": str(approval.user),
        "at": approval.decided_at.isoformat(),
        "step_up": approval.step_up,
        **({"signed": dict(signed)} if signed else {}),
    }


def about(request: AccessRequest, grant: Grant | None = None) -> list[Any]:
    rows = (request.identity, request.entitlement, grant or request.grant or request.extends)
    return [row for row in rows if row is not None]
