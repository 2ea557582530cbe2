"""What becomes of requests when somebody leaves: theirs, those they approved, and those that wait for them."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils import timezone

from apps.access.models import AccessRequest, Approval, Approver, State
from apps.audit import services as audit
from apps.core.lifecycle import move_many
from apps.grants import services as grants
from apps.grants.leaving import Gone
from apps.grants.models import EndReason, Grant
from apps.grants.models import State as GrantState
from apps.rules.approvers import approvers_for

UNOPENED = (GrantState.PENDING, GrantState.PROVISIONING)


def end_requests(gone: Gone, by: Any) -> dict[str, int]:
    """Everything undecided that they asked for, or that was asked for them, is withdrawn: there is nobody to give it to.
    Its approvers are told by the event."""
    theirs = Q(identity=gone.identity) | (Q(requester=gone.user) if gone.user else Q(pk__in=[]))
    ended = move_many(
        AccessRequest.objects.undecided().filter(theirs).with_names(),
        State.WITHDRAWN,
        by=by,
        event="access.access_request.requester_left",
        about=lambda request: [request.identity, request.entitlement],
        data={"reason": "left"},
        decided_at=timezone.now(),
    )
    return {"requests": len(ended)}


def refuse_unopened(gone: Gone, by: Any) -> dict[str, int]:
    """A yes counts when access opens, not before: what they alone approved and AWS does not show yet ends, and whoever
    asked is told to ask again. It does not go back to waiting: what was signed for was signed by them."""
    if gone.user is None:
        return {}
    approved = Approval.objects.filter(user=gone.user, choice=Approval.Choice.APPROVE)
    unopened = Grant.objects.filter(access_request__approvals__in=approved, state__in=UNOPENED)
    unopened = Grant.objects.filter(pk__in=unopened.values("pk"))
    count = unopened.count()
    note = f"{gone.user} approved it and left before it opened. Ask again."
    grants.end_many(unopened, reason=EndReason.UNAPPROVED, by=by, note=note)
    return {"approvals": count}


def ask_others(gone: Gone, by: Any) -> dict[str, int]:
    """What waited for their yes waits for whoever may say it now: the rule's words, asked again; in the end administrators.
    A request that nobody can decide lapses."""
    if gone.user is None:
        return {}
    waiting = AccessRequest.objects.filter(state=State.WAITING, approvers__user=gone.user).with_names()
    count = 0
    for request in waiting.select_for_update(of=("self",)).order_by("pk"):
        named = set(request.approvers.values_list("user_id", flat=True))
        words = request.verdict.get("approvers") or ()
        found = approvers_for(request.requester, request.identity, request.entitlement, words)
        new = {user: why for user, why in found.items() if user.pk not in named}
        Approver.objects.bulk_create(
            Approver(request=request, user=user, requester=request.requester, why=why[:200])
            for user, why in new.items()
        )
        audit.record(
            "access.access_request.approver_left",
            by=by,
            subject=request,
            about=[gone.identity, request.identity, request.entitlement],
            data={
                "left": str(gone.user),
                "asked": [user.pk for user in new],
                "can_decide": [str(user) for user in found],
            },
        )
        count += 1
    return {"requests to decide": count}
