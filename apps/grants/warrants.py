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

from apps.grants.models import Grant, Warrant
from apps.rules import evaluation, questions


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


def digest(spec: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of `spec`."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def check(grant: Grant) -> None:
    """Raise `InvalidWarrant` unless the grant's warrant covers exactly this grant and would be given again."""
    try:
        warrant = grant.warrant
    except Warrant.DoesNotExist:
        raise InvalidWarrant("There is no warrant for this grant.") from None
    if not warrant.digest == digest(warrant.spec) == digest(spec_of(grant)):
        raise InvalidWarrant("The warrant was made for something else than this grant says.")
    verdict = warrant.verdict
    if spec_of(grant)["seconds"] > int(verdict.get("cap_seconds") or 0):
        raise InvalidWarrant("The rule that allowed this does not allow it for so long.")
    if verdict.get("tier") == "approval":
        if not any(approval["user"] != warrant.requester for approval in warrant.approvals):
            raise InvalidWarrant("Nobody but the requester approved this.")
    elif verdict.get("tier") not in ("auto", "self") or grant.entitlement.is_privileged:
        raise InvalidWarrant("Privileged access needs another person's approval.")


def ask_rules_again(grant: Grant) -> None:
    """Raise `InvalidWarrant` unless the rules in force still give this without another person, where none said yes.

    What a row says the verdict was is not proof: whoever can write rows writes verdicts too. Where somebody approved,
    the approval is the authority and `check` looks at it.
    """
    if grant.warrant.verdict.get("tier") == "approval":
        return
    if grant.identity is None:
        raise InvalidWarrant("Only a person can be given this without approval.")
    verdict = evaluation.evaluate(
        questions.about(
            questions.identity_facts(grant.identity),
            grant.entitlement,
            asked_for=grant.duration,
            has_ticket=bool(grant.ticket_ref),
        )
    )
    if verdict.tier not in ("auto", "self"):
        raise InvalidWarrant(verdict.why_not or "By the rules in force somebody must approve this. Ask again.")
