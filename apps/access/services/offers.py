"""The catalogue: what is on offer, for whom somebody may ask, and what the rules would say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from apps.access.models import Offer
from apps.audit import services as audit
from apps.connectors import registry
from apps.connectors.base import Promise
from apps.core import words
from apps.inventory.models import Entitlement, Identity, Principal
from apps.inventory.models.holders import answered_by
from apps.rules import evaluation, questions
from apps.users.models import User


class NotAllowed(Exception):
    """This cannot be asked, confirmed or decided by this person like this. The text says why and what to do."""


@dataclass(frozen=True)
class Way:
    """A provisioner for this kind of entitlement, what it promises, and why it may not open this one (empty: it may)."""

    name: str
    promise: Promise
    why_not: str

    @property
    def title(self) -> str:
        return registry.TITLES.get(self.name, self.name)


def ways_to_open(entitlement: Entitlement) -> list[Way]:
    """Everything that could open and end this entitlement."""
    kind = entitlement.connection.kind
    found = [(name, registry.promise(kind, name)) for name in registry.provisioners_for(kind, entitlement.kind)]
    return [Way(name, promise, _why_not(entitlement, promise)) for name, promise in found]


def _why_not(entitlement: Entitlement, promise: Promise) -> str:
    if entitlement.is_privileged and not promise.may_be_privileged:
        return f"{entitlement} is privileged, and this has no ender strong enough for that."
    if entitlement.group and entitlement.group.is_externally_owned:
        return f"The identity provider manages who is in {entitlement}. Members are added and removed there."
    return ""


@transaction.atomic
def offer(entitlement: Entitlement, *, provisioner: str, max_for: timedelta, by: User) -> Offer:
    """Put an entitlement into the catalogue. Refuses what could not be ended safely, and Gatehouse's own objects."""
    if entitlement.is_ours:
        raise NotAllowed("This is Gatehouse's own object in AWS and is never on offer.")
    kind = entitlement.connection.kind
    if (kind, provisioner) not in registry.PROVISIONERS:
        raise NotAllowed(f"No provisioner is called {provisioner}.")
    promise = registry.promise(kind, provisioner)
    why_not = _why_not(entitlement, promise)
    if why_not:
        raise NotAllowed(why_not)
    if entitlement.kind not in promise.opens:
        title = registry.TITLES.get(provisioner, provisioner)
        raise NotAllowed(f"{title} cannot open this kind of entitlement. Choose another one.")
    Entitlement.objects.select_for_update().get(pk=entitlement.pk)  # one decision about an offer at a time
    if entitlement.offers.filter(withdrawn_at=None).exists():
        raise NotAllowed(f"{entitlement} is on offer already. Withdraw that offer first.")
    row = Offer.objects.create(entitlement=entitlement, provisioner=provisioner, max_for=max_for, offered_by=by)
    data = {"provisioner": provisioner, "max_minutes": int(max_for.total_seconds() // 60)}
    audit.record("access.offer.made", by=by, subject=row, about=[entitlement], data=data)
    return row


@transaction.atomic
def withdraw_offer(row: Offer, *, by: User) -> None:
    """Take an entitlement out of the catalogue. Grants that run keep running to their end."""
    if Offer.objects.filter(pk=row.pk, withdrawn_at=None).update(withdrawn_at=timezone.now()):
        audit.record("access.offer.withdrawn", by=by, subject=row, about=[row.entitlement])


def holders_for(user: User, row: Offer) -> list[Principal]:
    """For whom this user may ask: their own face that fits the offer, then machine identities they answer for. A login
    that only a rule says is theirs is not among them until an administrator confirms it."""
    identity = identity_of(user)
    if identity is None:
        return []
    fitting = Principal.objects.present().filter(
        Q(resource=None) | Q(resource=row.entitlement.resource_id),  # the directory's own, or of the same account
        connection=row.entitlement.connection,
        kind__in=registry.promise(row.entitlement.connection.kind, row.provisioner).holders,
        is_reserved=False,
        identity__ended_at=None,
    )
    fitting = fitting.select_related("identity").order_by("name")
    own = fitting.filter(identity=identity).exclude(pk__in=Principal.objects.matched_by_rule().values("pk"))
    return [*own, *fitting.filter(answered_by(identity, "identity__")).exclude(identity=identity)]


def identity_of(user: User) -> Identity | None:
    """The person in the inventory this user was linked to, if they still work here."""
    return Identity.objects.present().filter(user=user).select_related("connection", "manager__user").first()


def judge(
    identity: Identity, row: Offer, *, duration: timedelta | None, has_ticket: bool, for_another: bool = False
) -> evaluation.Verdict:
    """The rules' answer for this person and this offer."""
    who = questions.identity_facts(identity)
    verdict = evaluation.evaluate(questions.about(who, row.entitlement, asked_for=duration, has_ticket=has_ticket))
    return narrowed(verdict, row, duration, has_ticket=has_ticket, for_another=for_another)


def narrowed(
    verdict: evaluation.Verdict, row: Offer, duration: timedelta | None, *, has_ticket: bool, for_another: bool = False
) -> evaluation.Verdict:
    """The verdict within what the offer itself allows, and, when a machine is to hold it, never without approval."""
    if duration is not None and duration > row.max_for:
        return _refused(verdict, f"This is offered for {words.duration(row.max_for)} at a time. Ask for less.")
    if for_another and verdict.tier in ("auto", "self"):
        fitting = (option for option in verdict.offers if _fits(option, duration, has_ticket))
        best = next(fitting, None)
        if best is None:
            return _refused(verdict, "For a machine identity somebody must approve, and no rule lets anybody do that.")
        return replace(
            verdict,
            tier=best.tier,
            cap=best.cap,
            rule_id=best.rule_id,
            says=best.says,
            approvers=best.approvers,
            requires=best.requires,
            notes=(*verdict.notes, "A machine identity is to hold it, so somebody must approve."),
        )
    return verdict


def _fits(option: evaluation.RuleOffer, duration: timedelta | None, has_ticket: bool) -> bool:
    is_long_enough = duration is None or duration <= option.cap
    return option.tier == "approval" and is_long_enough and (has_ticket or not option.needs_ticket)


def _refused(verdict: evaluation.Verdict, why_not: str) -> evaluation.Verdict:
    return evaluation.Verdict(ruleset_digest=verdict.ruleset_digest, offers=verdict.offers, why_not=why_not)
