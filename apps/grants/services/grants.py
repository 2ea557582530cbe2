"""Issue a grant, end it, take standing access away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import registry
from apps.connectors.base import WayIn
from apps.core.lifecycle import Conflict, can_move, move, move_many
from apps.core.refusals import NotPossible
from apps.grants import narrowing, signatures, tasks, warrants
from apps.grants.models import LIVE, EndReason, Grant, State, Stop, Warrant
from apps.grants.windows import provisioner_of, target_of
from apps.inventory.models import Assignment, Entitlement, Identity, Principal

MOST_WORDS = 1000  # characters of a reason or note


@dataclass(frozen=True)
class Authority:
    """What a grant rests on: the rule set's verdict and who approved, as `Warrant` keeps them."""

    verdict: Mapping[str, Any]
    approvals: tuple[Mapping[str, Any], ...] = ()

    def over(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """What an `Authorization` keeps of it, for exactly `spec`."""
        return {
            "spec": spec,
            "digest": warrants.digest(spec),
            "signed_digest": signatures.digest_of(spec, self.approvals),
            "requester": spec["requester"],
            "approvals": list(self.approvals),
            "verdict": dict(self.verdict),
        }


@transaction.atomic
def issue(
    *,
    identity: Identity,
    principal: Principal,
    entitlement: Entitlement,
    provisioner: str,
    duration: timedelta,
    reason: str,
    by: Any,
    authority: Authority,
    requester: Any = None,
    ticket_ref: str = "",
    about: Iterable[models.Model] = (),
) -> Grant:
    """Decide that `principal` shall hold `entitlement` for `duration`, counted from when AWS shows it. `by` decides it,
    the `requester` (the same, unless said) asked for it.

    Refuses (`NotPossible`) what the connection may not write, what is gone, what could not be ended safely, what a stop
    in force covers, and what the person already holds. The row and its warrant commit before anybody calls AWS.
    """
    Principal.objects.select_for_update(of=("self",)).get(pk=principal.pk)  # one decision about a holder at a time
    _require_grantable(principal, entitlement, provisioner)
    asked_by = requester or by
    require_here(identity, asked_by)
    why_not = why_stopped(identity=identity, principal=principal, entitlement=entitlement, requester=asked_by)
    why_not = why_not or standing_path(principal, entitlement)
    if why_not:
        raise NotPossible(why_not)
    grant = Grant.objects.create(
        connection=entitlement.connection,
        identity=identity,
        principal=principal,
        entitlement=entitlement,
        origin=Grant.Origin.REQUEST,
        provisioner=provisioner,
        duration=duration,
        reason=reason,
        ticket_ref=ticket_ref,
        requested_by=asked_by,
    )
    spec = warrants.spec_of(grant)
    Warrant.objects.create(grant=grant, **authority.over(spec))
    try:
        warrants.check(grant)
    except warrants.InvalidWarrant as error:
        raise NotPossible(str(error)) from error
    audit.record(
        "grants.grant.issued",
        by=by,
        subject=grant,
        about=[identity, principal, entitlement, *about],
        data={"spec": spec, "verdict": dict(authority.verdict), "approvals": list(authority.approvals)},
    )
    transaction.on_commit(lambda: tasks.enqueue(tasks.provision, grant.pk))
    return grant


@transaction.atomic
def end(grant: Grant, *, by: Any, reason: EndReason, note: str = "") -> Grant:
    """Decide that a live grant ends now. Before AWS was asked it is cancelled; afterwards it is taken back there.

    Ending what is already ending or ended changes nothing and says so by returning the row as it is. Raises `Conflict`
    when the grant moved on meanwhile.
    """
    grant = Grant.objects.with_names().get(pk=grant.pk)
    if grant.state not in LIVE:
        return grant
    note = note[:MOST_WORDS]
    fields: dict[str, Any] = {"end_reason": reason, "end_note": note, "ended_by": by if hasattr(by, "pk") else None}
    about = _about(grant)
    data = {"reason": reason, "note": note}
    if can_move(grant, State.CANCELLED):
        return move(grant, State.CANCELLED, by=by, event="grants.grant.cancelled", about=about, data=data, **fields)
    now = timezone.now()
    move(
        grant,
        State.REVOKING,
        by=by,
        event="grants.grant.revoking",
        about=about,
        data=data,
        **fields,
        **_fresh_try(now),
    )
    transaction.on_commit(lambda: tasks.enqueue(tasks.deprovision, grant.pk))
    return grant


def end_many(
    grants: models.QuerySet[Grant], *, reason: EndReason, by: Any, note: str = "", skip_locked: bool = False
) -> list[Grant]:
    """End every live grant of the set, with one event each: what AWS was not asked for is cancelled, the rest is taken
    back there and returned. For the clock and emergencies, which come again for what another session holds at the moment
    (`skip_locked`): whoever holds one row must not keep all others open."""
    some = list(grants.values_list("pk", flat=True))
    if not some:  # at almost every tick of the clock
        return []
    rows = grants.filter(pk__in=some).select_related(*Grant.NAMES)
    note = note[:MOST_WORDS]
    common: dict[str, Any] = {
        "by": by,
        "about": _about,
        "data": {"reason": reason, "note": note},
        "end_reason": reason,
        "end_note": note,
        "skip_locked": skip_locked,
    }
    with transaction.atomic():
        move_many(
            rows, State.CANCELLED, event="grants.grant.cancelled", **common
        )  # first: one may be claimed meanwhile
        now = timezone.now()
        ended = move_many(rows, State.REVOKING, event="grants.grant.revoking", **common, **_fresh_try(now))
        for shared_key in sorted({grant.shared_key for grant in ended} - {""}):  # one write for all of them, first
            transaction.on_commit(lambda key=shared_key: tasks.enqueue(tasks.deny, key))  # type: ignore[misc]
        for grant in ended:
            transaction.on_commit(lambda pk=grant.pk: tasks.enqueue(tasks.deprovision, pk))  # type: ignore[misc]
    return ended


@transaction.atomic
def remove_standing(
    assignment: Assignment,
    *,
    by: Any,
    reason: str,
    end_reason: EndReason = EndReason.REVIEW,
    due_at: datetime | None = None,
    about: Iterable[models.Model] = (),
) -> Grant:
    """Decide that standing access goes: a `found` grant comes into being and is ended at once, on the one path that ends
    everything. What cannot be removed by us becomes the task of an owner, open until a complete sync shows it gone.

    Asking twice returns the removal that is under way.
    """
    assignment = (
        Assignment.objects.select_for_update(of=("self",))
        .select_related(
            "connection",
            "principal__identity",
            "entitlement__resource__owner",
            "entitlement__owner",
            "entitlement__group__owner",
        )
        .get(pk=assignment.pk)
    )
    under_way = Grant.objects.filter(assignment=assignment, origin=Grant.Origin.FOUND, state=State.REVOKING).first()
    if under_way:
        return under_way
    if not assignment.is_open:
        raise NotPossible("A complete sync no longer shows this. There is nothing left to remove.")
    by_us = can_remove(assignment)
    if by_us and not assignment.connection.is_writable:
        raise NotPossible(
            f"Gatehouse may only look at {assignment.connection}. An administrator can let it write, then try again."
        )
    now = timezone.now()
    grant = Grant.objects.create(
        connection=assignment.connection,
        identity=assignment.principal.identity,
        principal=assignment.principal,
        entitlement=assignment.entitlement,
        assignment=assignment,
        origin=Grant.Origin.FOUND,
        remover=assignment.entitlement.kind if by_us else Grant.BY_OWNER,
        state=State.ACTIVE,
        active_at=assignment.period.lower or now,
        reason=reason,
        requested_by=by if hasattr(by, "pk") else None,
        task_owner=None if by_us else owner_of(assignment),
        due_at=due_at,
    )
    move(
        grant,
        State.REVOKING,
        by=by,
        event="grants.grant.removal_decided",
        about=[assignment, assignment.entitlement, assignment.principal.identity or assignment.principal, *about],
        data={"reason": end_reason, "note": reason, "by_us": by_us},
        end_reason=end_reason,
        end_note=reason[:1000],
        ended_by=by if hasattr(by, "pk") else None,
        **_fresh_try(now),
    )
    if by_us:
        transaction.on_commit(lambda: tasks.enqueue(tasks.deprovision, grant.pk))
    return grant


def settle_task(grant: Grant) -> None:
    """A complete scan shows that an owner did their task. Records what the inventory knows; decides nothing. A grant that
    moved on meanwhile is left alone."""
    read_at = (grant.assignment.period.upper if grant.assignment else None) or timezone.now()
    what = f"A complete read of AWS no longer shows {grant.entitlement}."
    proof: dict[str, Any] = {"what": what, "read_at": read_at.isoformat(), "facts": {}}
    with contextlib.suppress(Conflict):
        move(
            grant,
            State.REVOKED,
            by=audit.CLOCK,
            event="grants.grant.revoked",
            about=_about(grant),
            data={"proofs": [proof], "reason": grant.end_reason},
            revoked_at=timezone.now(),
            receipt=[proof],
        )


def how_it_ends(grant: Grant) -> str:
    """What ends it if every part of Gatehouse is dead, and what lives on; for a removal, who carries it out."""
    if grant.is_owner_task:
        return "Its owner removes it by hand. It stays open until a complete read of AWS shows it gone."
    if grant.origin == Grant.Origin.FOUND:
        return "Gatehouse removes it and reads AWS back."
    promise = registry.promise(grant.connection.kind, grant.provisioner)
    return f"{promise.ends_by} What lives on: {promise.survives}"


def ways_in(grant: Grant) -> tuple[WayIn, ...]:
    """How its holder uses what is open: links and texts to copy, without any secret. Nothing before it is open."""
    if grant.state != State.ACTIVE or grant.origin == Grant.Origin.FOUND:
        return ()
    return provisioner_of(grant).ways_in(target_of(grant))


def can_remove(assignment: Assignment) -> bool:
    """Whether Gatehouse itself can take this assignment away."""
    entitlement, principal = assignment.entitlement, assignment.principal
    if entitlement.group_id and entitlement.group and entitlement.group.is_externally_owned:
        return False
    return not principal.is_reserved and registry.has_remover(assignment.connection.kind, entitlement.kind)


def owner_of(assignment: Assignment) -> Identity | None:
    """Who must remove by hand what we cannot: the entitlement's owner, its group's, or the account's, whoever of them is
    here. With nobody, administrators are told."""
    entitlement = assignment.entitlement
    group_owner = entitlement.group.owner if entitlement.group else None
    named = (entitlement.owner, group_owner, entitlement.resource.owner if entitlement.resource else None)
    return next((owner for owner in named if owner and owner.ended_at is None), None)


def standing_path(principal: Principal, entitlement: Entitlement) -> str:
    """Why the holder needs no grant: a sentence naming how they already hold this, or "" when they do not.

    Counts every open assignment that no unfinished grant put there, held directly or through a group. One that is being
    removed counts until it is gone.
    """
    holders = Q(principal=principal)
    groups = Entitlement.objects.filter(
        assignments__principal=principal, assignments__period__upper_inf=True, group__isnull=False
    ).values("group")
    found = (
        Assignment.objects.open()
        .filter(holders | Q(principal__in=groups), entitlement=entitlement)
        .exclude(
            models.Exists(
                Grant.objects.unfinished()
                .filter(principal=models.OuterRef("principal"), entitlement=models.OuterRef("entitlement"))
                .exclude(origin=Grant.Origin.FOUND)
            )
        )
        .select_related("principal")
        .first()
    )
    if found is None:
        return ""
    how = "directly" if found.principal_id == principal.pk else f"through {found.principal.name}"
    return f"{entitlement} is already held {how}, all the time. There is nothing to ask for."


def why_stopped(*, identity: Identity | None, principal: Principal, entitlement: Entitlement, requester: Any) -> str:
    """The sentence that refuses a new grant in the scope of a stop in force, or "" when there is none."""
    wanted = Grant(identity=identity, principal=principal, entitlement=entitlement, requested_by=requester)
    stop = Stop.objects.in_force().against(wanted).first()
    return stop.refusal if stop else ""


def require_here(identity: Identity | None, asked_by: Any) -> None:
    """Raise unless who is to hold it and who asked are here, and hold their rows until the decision is made: whoever ends
    either meanwhile waits, and then finds what there is to end."""
    people = Q(pk__in=[identity.pk] if identity else []) | Q(user__in=[asked_by.pk] if hasattr(asked_by, "pk") else [])
    rows = Identity.objects.filter(people).select_for_update(no_key=True, of=("self",)).order_by("pk")
    for name, ended_at in list(rows.values_list("name", "ended_at")):
        if ended_at is not None:
            raise NotPossible(f"{name} has left. Nobody who left is given anything.")


def _require_grantable(principal: Principal, entitlement: Entitlement, provisioner: str) -> None:
    connection = entitlement.connection
    if why_narrow := narrowing.reason():
        raise NotPossible(why_narrow)
    if not connection.is_writable:
        raise NotPossible(
            f"Gatehouse may only look at {connection}. An administrator can let it write, then try again."
        )
    if principal.ended_at or entitlement.ended_at or (entitlement.resource and entitlement.resource.ended_at):
        gone = principal.name if principal.ended_at else str(entitlement)
        raise NotPossible(f"{gone} is no longer there in AWS. Look for another way in the catalogue.")
    if (connection.kind, provisioner) not in registry.PROVISIONERS:
        raise NotPossible(f"No provisioner is called {provisioner}. Ask an administrator to correct the offer.")
    strong = registry.promise(connection.kind, provisioner).may_be_privileged
    if entitlement.is_privileged and not strong:
        raise NotPossible(f"{entitlement} is privileged and cannot be ended safely this way. Ask for a narrower one.")


def _about(grant: Grant) -> list[models.Model]:
    return [grant.identity or grant.principal, grant.entitlement]


def _fresh_try(now: datetime) -> dict[str, Any]:
    """What every ending starts with, whatever happened before."""
    return {"revoking_at": now, "next_try_at": now, "problem": "", "problem_count": 0}
