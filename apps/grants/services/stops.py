"""Emergency stops: ending everything in a scope at once, and lifting that again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import registry
from apps.connectors.base import Target
from apps.core.privileges import SAY_IT_MAY_GO
from apps.core.refusals import NotPossible
from apps.grants import lifting, permissions, tasks
from apps.grants.models import EndReason, Grant, Scope, Stop, StopWrite
from apps.grants.models.stops import SUBJECTS
from apps.grants.services.grants import MOST_WORDS, end_many
from apps.grants.signatures import NotSigned
from apps.inventory import permissions as inventory
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Resource
from apps.users.models import User

MIN_REASON = 8  # characters: enough that "x" does not pass
PRESENT = frozenset({"passkey", "shell"})  # how somebody proves to be there; the shell is the machine room


@dataclass(frozen=True)
class Foreseen:
    """What a stop would do, and what it leaves, counted before anybody confirms it."""

    grants: int
    people: int
    accounts: int
    undenied: int  # grants whose end is no single write: they end when their removal is through
    standing: int  # held all the time in the same scope: a stop does not touch it
    survives: tuple[tuple[str, str], ...]  # (how it was opened, what lives on after the end)
    is_organization: bool  # an organization's stop policy is there to be attached


@transaction.atomic
def order(
    *,
    scope: Scope,
    reason: str,
    by: User,
    step_up: Mapping[str, Any],
    subject: Identity | Entitlement | Resource | None = None,
    attach_policy: bool = False,
) -> Stop:
    """Stop everything in the scope: every live grant there ends, nothing new is issued or opened there, and every guard
    in it denies it with one write, also what no row names. One event says how many grants and which. Its reason stays with
    administrators and auditors.

    `attach_policy` also asks for the organization's stop policy, which denies all just-in-time roles everywhere. Raises
    `NotPossible` for a missing reason or proof of presence. What a race let through is ended by the next sweep.
    """
    reason = reason.strip()[:MOST_WORDS]
    if len(reason) < MIN_REASON:
        raise NotPossible("Say in a few words why. Whoever finds this stop was not there.")
    if step_up.get("method") not in PRESENT:
        raise NotPossible("A stop takes a passkey. Confirm with it, then stop.")
    stop = imagine(scope=scope, subject=subject)
    if stop.subject is None and scope != Scope.ALL:
        raise NotPossible("Say whose access stops, or what.")
    stop.reason, stop.ordered_by, stop.step_up = reason, by, dict(step_up)
    live = Grant.objects.live().filter(stop.covers())
    references = sorted(live.values_list("reference", flat=True))
    stop.count, stop.digest = len(references), _digest(references)
    stop.save()
    writes = StopWrite.objects.bulk_create(_objects_of(stop, attach_policy=attach_policy))
    audit.record(
        "grants.stop.ordered",
        by=by,
        subject=stop,
        about=[stop.subject] if stop.subject else [],
        data={
            "scope": scope,
            "reason": reason,
            "count": stop.count,
            "digest": stop.digest,
            "objects": len(writes),
            "policy": attach_policy,
            "step_up": dict(step_up),
        },
    )
    _wake(writes)  # before the removals that end_many enqueues: one write denies what they then clean up
    # The note has no word of why: holders read it.
    end_many(live, reason=EndReason.EMERGENCY, by=by, note=stop.number, skip_locked=True)
    return stop


@transaction.atomic
def propose_lift(stop: Stop, *, by: User, reason: str, signed: Mapping[str, Any]) -> Stop:
    """The first of two administrators says that the stop may go, and signs that with a passkey. A proposal whose signature
    may no longer be used is made anew."""
    stop, reason = _locked(stop), reason.strip()[:MOST_WORDS]
    _require_outside(stop, by)
    if not stop.is_in_force:
        raise NotPossible(f"{stop.number} was lifted already.")
    if stop.is_lift_proposed:
        raise NotPossible(f"{stop.lift_proposed_by} proposed it already. Another administrator lifts it.")
    if len(reason) < MIN_REASON:
        raise NotPossible("Say in a few words why it may go.")
    key = _require_signature(stop, by, signed)
    stop.lift_proposed_at, stop.lift_proposed_by, stop.lift_reason = timezone.now(), by, reason
    stop.lift_proposal, stop.lift_asked_at, stop.lift_asked_by, stop.lift_consent = dict(signed), None, None, {}
    _save_word(stop)
    data = {"reason": reason, "authenticator": key}
    audit.record("grants.stop.lift_proposed", by=by, subject=stop, data=data)
    return stop


@transaction.atomic
def lift(stop: Stop, *, by: User, signed: Mapping[str, Any]) -> Stop:
    """The second, another one, signs it too. A worker looks at both signatures and lifts it then: new access can be asked
    for again. Nothing that ended comes back."""
    stop = _locked(stop)
    _require_outside(stop, by)
    if not stop.is_in_force:
        raise NotPossible(f"{stop.number} was lifted already.")
    if stop.is_lift_asked:
        raise NotPossible("Two administrators signed it already. A worker lifts it in a moment.")
    first = stop.lift_proposed_by
    if first is None or not stop.is_lift_proposed:
        raise NotPossible("Nobody has proposed it within a day. Propose it first, then another administrator lifts it.")
    if not permissions.are_two_people(first, by):
        raise NotPossible("You proposed it yourself. Another person lifts it.")
    key = _require_signature(stop, by, signed)
    stop.lift_asked_at, stop.lift_asked_by, stop.lift_consent = timezone.now(), by, dict(signed)
    _save_word(stop)
    data = {"proposed_by": str(stop.lift_proposed_by), "reason": stop.lift_reason, "authenticator": key}
    audit.record("grants.stop.lift_signed", by=by, subject=stop, data=data)
    transaction.on_commit(lambda: tasks.enqueue(tasks.lift_stop, stop.pk))
    return stop


def foresee(*, scope: Scope, subject: Identity | Entitlement | Resource | None = None) -> Foreseen:
    """What a stop of this scope would do now."""
    stop = imagine(scope=scope, subject=subject)
    live = Grant.objects.live().filter(stop.covers())
    guarded = [name for _, name in registry.GUARDED]
    return Foreseen(
        grants=live.count(),
        people=live.order_by().values("principal").distinct().count(),
        accounts=live.order_by().values("entitlement__resource").distinct().count(),
        undenied=live.exclude(provisioner__in=guarded).count(),
        standing=_standing_in(stop).count(),
        survives=survivals(live),
        is_organization=scope == Scope.ALL and _organizations().exists(),
    )


def imagine(*, scope: Scope, subject: Identity | Entitlement | Resource | None = None) -> Stop:
    """A stop of this scope that nobody ordered. A subject of another kind than the scope's is none."""
    stop = Stop(scope=scope)
    kinds: dict[str, type[models.Model]] = {"identity": Identity, "entitlement": Entitlement, "account": Resource}
    field = SUBJECTS.get(scope)
    if field and isinstance(subject, kinds[field]):
        setattr(stop, field, subject)
    return stop


def survivals(grants: models.QuerySet[Grant]) -> tuple[tuple[str, str], ...]:
    """How these grants were opened, and what of each lives on after its end."""
    how = grants.exclude(provisioner="").values_list("connection__kind", "provisioner").distinct()
    return tuple(
        (registry.TITLES.get(name, name), registry.promise(kind, name).survives)
        for kind, name in how.order_by("provisioner")
        if (kind, name) in registry.PROVISIONERS
    )


def _objects_of(stop: Stop, *, attach_policy: bool) -> list[StopWrite]:
    """Every object in AWS that has to say the stop: first what live grants in the scope share, then the guards in which
    only the stop itself has something to say, then the organization's policy."""
    found: dict[tuple[int, str], StopWrite] = {}
    unfinished = Grant.objects.unfinished().filter(stop.covers()).exclude(shared_key="")
    for grant in [*_one_each(unfinished), *_one_each(_guards_in(stop))]:
        account = grant.entitlement.resource or grant.principal.resource
        row = StopWrite(
            stop=stop,
            connection=grant.connection,
            account=account,
            provisioner=grant.provisioner,
            shared_key=grant.shared_key,
        )
        found.setdefault((grant.connection_id, grant.shared_key), row)
    rows = [*found.values(), *_untouched_guard(stop, found)]
    if attach_policy and stop.scope == Scope.ALL:
        rows += [StopWrite(stop=stop, connection=connection) for connection in _organizations()]
    return rows


def _one_each(grants: models.QuerySet[Grant]) -> Iterable[Grant]:
    """One grant for each shared object of the set."""
    first = grants.order_by("connection_id", "shared_key", "pk").distinct("connection_id", "shared_key")
    return Grant.objects.filter(pk__in=first.values("pk")).with_names().select_related("principal__resource")


def _guards_in(stop: Stop) -> models.QuerySet[Grant]:
    """Grants through whose guards the stop reaches what no row names: any that ever were there. A guard can name only
    people of Identity Center (`StopWrite.targets`), so of anybody else it would say nothing."""
    guarded = Grant.objects.exclude(shared_key="").filter(provisioner__in=[name for _, name in registry.GUARDED])
    if stop.identity:
        people = stop.identity.principals.filter(kind="idc_user")
        return guarded.filter(connection__in=people.values("connection"))
    if stop.entitlement:
        return guarded.filter(entitlement=stop.entitlement)
    if stop.account:
        return guarded.filter(entitlement__resource=stop.account)
    return guarded


def _untouched_guard(stop: Stop, found: Mapping[tuple[int, str], StopWrite]) -> list[StopWrite]:
    """The guard of a stopped account in which nothing was ever opened."""
    account = stop.account
    if stop.entitlement and stop.entitlement.kind == Entitlement.Kind.PERMISSION_SET:
        account = stop.entitlement.resource
    if account is None:
        return []
    connection, rows = account.connection, []
    for kind, name in sorted(registry.GUARDED):
        if kind != connection.kind:
            continue
        key = registry.provisioner(kind, name, connection.config).shared_key(_anywhere_in(account))
        if (connection.pk, key) not in found:
            rows.append(StopWrite(stop=stop, connection=connection, account=account, provisioner=name, shared_key=key))
    return rows


def _anywhere_in(account: Resource) -> Target:
    return Target(account.external_id, "idc_user", "", "", "permission_set", "", "")


def _organizations() -> models.QuerySet[Connection]:
    return Connection.objects.writable().filter(kind__in=registry.STOP_POLICIES)


def _standing_in(stop: Stop) -> models.QuerySet[Assignment]:
    held = Assignment.objects.standing()
    if stop.identity:
        return held.filter(principal__identity=stop.identity)
    if stop.entitlement:
        return held.filter(entitlement=stop.entitlement)
    return held.filter(entitlement__resource=stop.account) if stop.account else held


def _require_signature(stop: Stop, by: User, signed: Mapping[str, Any]) -> int:
    """What a worker asks too, told at once to whoever can do something about it."""
    if not signed:
        raise NotPossible(
            "Lifting a stop is signed with a passkey, in a browser with JavaScript. Add one in your settings, or leave "
            "it to other administrators."
        )
    try:
        return lifting.require(stop, by, signed, at=timezone.now())
    except NotSigned as error:
        raise NotPossible(str(error)) from error


def _save_word(stop: Stop) -> None:
    """Only what the web process may write of a stop."""
    stop.save(update_fields=SAY_IT_MAY_GO)


def _require_outside(stop: Stop, by: User) -> None:
    if permissions.is_about(by, stop):
        raise NotPossible("This stop is about you. Two other administrators lift it.")
    if inventory.identity_of(by) is None:
        raise NotPossible(
            "Two administrators who are known people lift a stop. Have your user linked to your identity first."
        )


def _locked(stop: Stop) -> Stop:
    rows = Stop.objects.select_for_update(of=("self",)).with_names()
    return rows.get(pk=stop.pk)


def _digest(references: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(references).encode()).hexdigest()


def _wake(writes: Iterable[StopWrite]) -> None:
    for row in writes:
        transaction.on_commit(lambda pk=row.pk: tasks.enqueue(tasks.write_stop, pk))  # type: ignore[misc]
