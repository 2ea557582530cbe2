"""The warrant check: the last question before anything is written in a governed system.

A row in the grants table is not authority: whoever can write rows could invent one. The provisioner asks whether the
warrant says exactly this grant, whether the rule set really gives it (asked again, now), and whether a second person
said yes where one is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from apps.connectors import registry
from apps.grants import signatures
from apps.grants.models import Authorization, Extension, Grant, State, Warrant
from apps.inventory import permissions as inventory
from apps.inventory.models import Identity, Principal
from apps.inventory.services import policies
from apps.rules import approvers, evaluation, questions
from apps.rules.loading import TIERS
from apps.users.models import User


class InvalidWarrant(Exception):
    """Nothing may be written for this grant. The text says why; it is an alarm, not a passing fault."""


def spec_of(grant: Grant) -> dict[str, Any]:
    """Exactly what may be provisioned, in a form that hashes the same everywhere."""
    return {
        "connection": grant.connection_id,
        "identity": grant.identity_id,
        "principal": grant.principal.external_id,
        "entitlement": grant.entitlement.external_id,
        "provisioner": grant.provisioner,
        "seconds": int((grant.duration or timedelta()).total_seconds()),
        "reason": grant.reason,
        "ticket": grant.ticket_ref,
        "requester": str(grant.requested_by_id),
    }


def spec_of_extension(grant: Grant, longer: timedelta) -> dict[str, Any]:
    """Exactly what an extension of `grant` by `longer` allows. `seconds` is the whole time from its beginning, so that the
    cap of a rule holds for all of it together."""
    return {**spec_of(grant), "extends": grant.reference, "seconds": whole_seconds(grant, longer)}


def whole_seconds(grant: Grant, longer: timedelta) -> int:
    """For how long it would be held altogether, with `longer` and every extension before."""
    before = sum((one.duration for one in grant.extensions.exclude(applied_at=None)), timedelta())
    return int(((grant.duration or timedelta()) + before + longer).total_seconds())


def provisioner_of(grant: Grant) -> str:
    """What opens and ends it by its warrant, which no process can change; by its row where no warrant names one."""
    warrant = getattr(grant, "warrant", None)
    named = str(warrant.spec.get("provisioner")) if warrant and isinstance(warrant.spec, dict) else ""
    return named if (grant.connection.kind, named) in registry.PROVISIONERS else grant.provisioner


def digest(spec: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of `spec`."""
    return hashlib.sha256(signatures.canonical(spec)).hexdigest()


def check(grant: Grant) -> None:
    """Raise `InvalidWarrant` unless the grant's warrant covers exactly this grant and carries the yes that it needs."""
    try:
        warrant = grant.warrant
    except Warrant.DoesNotExist:
        raise InvalidWarrant("There is no warrant for this grant.") from None
    _check(grant, warrant, spec_of(grant), at=_used_at(grant.claimed_at))


def check_extension(extension: Extension) -> None:
    """Raise `InvalidWarrant` unless its grant has a good warrant, and the extension, which nobody applied yet, one that
    covers exactly this."""
    check(extension.grant)
    spec = spec_of_extension(extension.grant, extension.duration)
    _check(extension.grant, extension, spec, at=timezone.now())


def _used_at(acted_at: datetime | None) -> datetime:
    """The instant at which a signature must have been good: when a worker first acted on it, which rows keep in whole
    seconds; now, before that."""
    return acted_at + timedelta(seconds=1) if acted_at else timezone.now()


def _check(grant: Grant, warrant: Authorization, spec: Mapping[str, Any], *, at: datetime) -> None:
    try:
        _require_exact(grant, warrant, spec)
        _require_yes(grant, warrant, spec, at)
    except signatures.NotSigned as error:
        raise InvalidWarrant(str(error)) from error
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InvalidWarrant("The warrant of this grant cannot be read.") from error


def _require_exact(grant: Grant, warrant: Authorization, spec: Mapping[str, Any]) -> None:
    if not warrant.digest == digest(warrant.spec) == digest(spec):
        raise InvalidWarrant("The warrant was made for something else than this grant says.")
    if warrant.requester != spec["requester"]:
        raise InvalidWarrant("The warrant was made for somebody else's request.")
    if grant.principal.identity_id != grant.identity_id:
        raise InvalidWarrant("What is to be given belongs to somebody else by now. Ask again.")
    if spec["seconds"] > int(warrant.verdict.get("cap_seconds") or 0):
        raise InvalidWarrant("The rule that allowed this does not allow it for so long.")


def _require_yes(grant: Grant, warrant: Authorization, spec: Mapping[str, Any], at: datetime) -> None:
    tier, is_privileged = warrant.verdict.get("tier"), grant.entitlement.is_privileged
    if tier not in TIERS or (is_privileged and tier != "approval"):
        raise InvalidWarrant("Privileged access needs another person's approval.")
    if tier != "approval":
        return
    others = _approvals_of_others(grant, warrant)
    if not others:
        raise InvalidWarrant("Nobody but the requester approved this.")
    if is_privileged:
        signatures.require(warrant, spec, others, at=at)


def _approvals_of_others(grant: Grant, warrant: Authorization) -> list[dict[str, Any]]:
    own = {warrant.requester, str(grant.identity.user_id if grant.identity else None)}
    return [approval for approval in warrant.approvals if approval["user"] not in own]


def ask_rules_again(grant: Grant, extension: Extension | None = None) -> None:
    """Raise `InvalidWarrant` unless the rules in force still give this (as long as it is with the extension) with no more
    than the warrant says was given.

    What a row says the verdict was is not proof, nor who it says may approve: whoever can write rows writes those too.
    Who may approve may change while it is held; what a worker found good when it opened it stays good.
    """
    _require_fitting(grant)
    warrant: Authorization = extension or grant.warrant
    if warrant.verdict.get("tier") == "approval":
        if extension is not None or grant.state != State.ACTIVE:
            _require_approver(grant, warrant, at=_used_at(None if extension else grant.claimed_at))
        return
    if grant.identity is None:
        raise InvalidWarrant("Only a person can be given this without approval.")
    _verdict_for(grant.identity, grant, warrant)


def _require_fitting(grant: Grant) -> None:
    """Raise unless this holder can be given this in this way at all. Services ask before they write the row; here it is
    asked of the row."""
    entitlement, principal = grant.entitlement, grant.principal
    if not policies.is_what_it_says(entitlement):
        raise InvalidWarrant("This allows something else than what is written about it.")
    if (grant.connection.kind, grant.provisioner) not in registry.PROVISIONERS:
        raise InvalidWarrant("Nothing opens access in the way that this grant names.")
    promise = registry.promise(grant.connection.kind, grant.provisioner)
    if entitlement.kind not in promise.opens or principal.kind not in promise.holders:
        raise InvalidWarrant("This cannot be opened in this way for this holder.")
    if entitlement.is_privileged and not promise.may_be_privileged:
        raise InvalidWarrant("This is privileged and cannot be ended safely in this way.")
    places = {grant.connection_id, entitlement.connection_id, principal.connection_id}
    if len(places) > 1 or principal.resource_id not in (None, entitlement.resource_id):
        raise InvalidWarrant("Holder and access are not of one place.")
    if entitlement.is_ours or principal.is_reserved or entitlement.ended_at or principal.ended_at:
        raise InvalidWarrant("This is not there to be given, or its holder is not.")
    if Principal.objects.matched_by_rule().filter(pk=principal.pk).exists():
        raise InvalidWarrant("Only a rule says whose login this is. An administrator confirms it first.")


def _verdict_for(who: Identity, grant: Grant, warrant: Authorization) -> evaluation.Verdict:
    """The rules' answer now; refused when they take more than was given."""
    asked_for = timedelta(seconds=warrant.spec["seconds"])
    facts, has_ticket = questions.identity_facts(who), bool(grant.ticket_ref)
    verdict = evaluation.evaluate(questions.about(facts, grant.entitlement, asked_for=asked_for, has_ticket=has_ticket))
    if verdict.tier is None or TIERS.index(verdict.tier) > TIERS.index(warrant.verdict["tier"]):
        raise InvalidWarrant(verdict.why_not or "By the rules in force this takes more than was given. Ask again.")
    return verdict


def _require_approver(grant: Grant, warrant: Authorization, *, at: datetime) -> None:
    """Raise unless who asked may ask for this, and one of those who said yes may say it, by the rules and the rows of now.
    For privileged access that is whose passkey signed, and nobody else."""
    asker = inventory.identity_of(grant.requested_by) if grant.requested_by else None
    if asker is None or grant.identity is None or grant.requested_by is None:
        raise InvalidWarrant("Nobody who works here asked for this.")
    is_own = grant.identity.pk == asker.pk
    if not is_own and grant.identity.answerer != asker:
        raise InvalidWarrant(
            "Who asked for this may ask for themselves, or for a machine identity that they answer for."
        )
    verdict = _verdict_for(asker, grant, warrant)
    if verdict.tier != "approval" and is_own and not grant.entitlement.is_privileged:
        return  # by now it takes nobody's yes
    words = _words_of(verdict, timedelta(seconds=warrant.spec["seconds"]), has_ticket=bool(grant.ticket_ref))
    question = (grant.requested_by, grant.identity, grant.entitlement, words)
    others = _approvals_of_others(grant, warrant)
    if not words:
        said_yes, may = set(), frozenset[User]()
    elif grant.entitlement.is_privileged:
        said_yes = {signatures.require(warrant, warrant.spec, others, at=at)}
        may = approvers.have_stood(*question, at=at)
    else:
        said_yes = {one["user"] for one in others}
        may = frozenset(approvers.approvers_for(*question))
    if not said_yes & {str(user.pk) for user in may}:
        raise InvalidWarrant("Nobody who approved this may approve it by the rules in force. Ask again.")


def _words_of(verdict: evaluation.Verdict, asked_for: timedelta, *, has_ticket: bool) -> tuple[str, ...]:
    """Who the rules let approve this, also where a weaker tier would do for somebody else's own access."""
    fitting = (one for one in verdict.offers if one.tier == "approval" and one.cap >= asked_for)
    return next((one.approvers for one in fitting if has_ticket or not one.needs_ticket), ())
