"""The warrant check: the last question before anything is written in a governed system.

A row in the grants table is not authority: whoever can write rows could invent one. The provisioner asks whether the
warrant says exactly this grant, whether the rule set really gives it (asked again, now), and whether a second person
said yes where one is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from apps.grants.models import Authorization, Extension, Grant, Warrant
from apps.rules import evaluation, questions
from apps.rules.loading import TIERS


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


def digest(spec: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of `spec`."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check(grant: Grant) -> None:
    """Raise `InvalidWarrant` unless the grant's warrant covers exactly this grant and carries the yes that it needs."""
    try:
        warrant = grant.warrant
    except Warrant.DoesNotExist:
        raise InvalidWarrant("There is no warrant for this grant.") from None
    _check(grant, warrant, spec_of(grant))


def check_extension(extension: Extension) -> None:
    """Raise `InvalidWarrant` unless its grant has a good warrant, and the extension one that covers exactly this."""
    check(extension.grant)
    _check(extension.grant, extension, spec_of_extension(extension.grant, extension.duration))


def _check(grant: Grant, warrant: Authorization, spec: Mapping[str, Any]) -> None:
    try:
        _require_exact(grant, warrant, spec)
        _require_yes(grant, warrant)
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


def _require_yes(grant: Grant, warrant: Authorization) -> None:
    tier, is_privileged = warrant.verdict.get("tier"), grant.entitlement.is_privileged
    if tier not in TIERS or (is_privileged and tier != "approval"):
        raise InvalidWarrant("Privileged access needs another person's approval.")
    if tier != "approval":
        return
    own = {warrant.requester, str(grant.identity.user_id if grant.identity else None)}
    others = [approval for approval in warrant.approvals if approval["user"] not in own]
    if not others:
        raise InvalidWarrant("Nobody but the requester approved this.")
    if is_privileged and not any(one.get("step_up", {}).get("method") == "passkey" for one in others):
        raise InvalidWarrant("Privileged access is approved with a passkey, and this was not.")


def ask_rules_again(grant: Grant, extension: Extension | None = None) -> None:
    """Raise `InvalidWarrant` unless the rules in force still give this (as long as it is with the extension) with no more
    than the warrant says was given.

    What a row says the verdict was is not proof: whoever can write rows writes verdicts too. Where somebody approved,
    the approval is the authority and `check` looks at it.
    """
    warrant: Authorization = extension or grant.warrant
    given = warrant.verdict.get("tier")
    if given == "approval":
        return
    if grant.identity is None:
        raise InvalidWarrant("Only a person can be given this without approval.")
    verdict = evaluation.evaluate(
        questions.about(
            questions.identity_facts(grant.identity),
            grant.entitlement,
            asked_for=timedelta(seconds=warrant.spec["seconds"]),
            has_ticket=bool(grant.ticket_ref),
        )
    )
    if verdict.tier is None or TIERS.index(verdict.tier) > TIERS.index(given):
        raise InvalidWarrant(verdict.why_not or "By the rules in force this takes more than was given. Ask again.")
