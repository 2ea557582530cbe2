"""A grant's timeline: its audit events in words. Every line is an event of the log; nothing is made up for the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from apps.audit.models import AuditEvent, ref
from apps.core import words
from apps.grants.models import EndReason, Grant


@dataclass(frozen=True)
class Step:
    """One line. `kind`: ok (AWS confirmed it), now (a person signed it), idle, risk."""

    at: datetime
    icon: str
    title: str
    kind: str = "idle"
    text: str = ""
    facts: tuple[str, ...] = field(default=())


_ASKED = {"access.access_request.asked", "access.access_request.asked_longer"}


def of(grant: Grant) -> list[Step]:
    """The whole story in the order in which it was recorded, in one query. What was recorded in one transaction happened
    at one moment: there the asking comes first."""
    events = sorted(
        AuditEvent.objects.about(ref(grant)),
        key=lambda event: (event.xid, event.event not in _ASKED, event.pk),
    )
    return [_STEPS.get(event.event, _plain)(event) for event in events]


def _proof(event: AuditEvent) -> str:
    return str(event.data.get("proof", {}).get("what", ""))


def _asked(event: AuditEvent) -> Step:
    data = event.data
    facts = [f"for {words.duration(timedelta(seconds=data.get('seconds', 0)))}"]
    if data.get("ticket"):
        facts.append(f"ticket {data['ticket']}")
    verdict = data.get("verdict", {})
    facts.append(f"rule {verdict.get('rule_id', 'unknown')}: {verdict.get('says', '')}")
    return Step(
        event.at, "plus", f"Requested by {event.actor_name}", "idle", f"“{data.get('reason', '')}”", tuple(facts)
    )


def _issued(event: AuditEvent) -> Step:
    verdict = event.data.get("verdict", {})
    text = {
        "auto": "The rules give this at once.",
        "self": "The rules give this on the requester's own confirmation.",
        "approval": "The rules give this with somebody else's yes.",
    }.get(verdict.get("tier"), "")
    return Step(event.at, "gavel", "Allowed", "idle", text, (f"rule set {_short(verdict)}",))


def _short(verdict: dict[str, Any]) -> str:
    return str(verdict.get("ruleset_digest", "unknown"))[:12]


def _confirmed(event: AuditEvent) -> Step:
    how = {"passkey": "with a passkey", "other_device": "from another device"}.get(event.data.get("how", ""), "")
    return Step(event.at, "fingerprint", f"Confirmed by {event.actor_name} {how}".strip(), "now")


def _approved(event: AuditEvent) -> Step:
    method = {"passkey": "with a passkey", "totp": "with a code"}.get(
        event.data.get("step_up", {}).get("method", ""), ""
    )
    title = f"Approved by {event.actor_name} {method}".strip()
    return Step(event.at, "fingerprint", title, "now", event.data.get("reason", ""))


def _claimed(event: AuditEvent) -> Step:
    return Step(event.at, "cloud", "A worker took it on")


def _end_written(event: AuditEvent) -> Step:
    return Step(event.at, "clock", "End written before the start", "ok", _proof(event), ("read back from AWS",))


def _active(event: AuditEvent) -> Step:
    return Step(event.at, "circle-check", "Active", "ok", _proof(event), ("read back from AWS",))


def _revoking(event: AuditEvent) -> Step:
    reason = str(EndReason(event.data["reason"]).label) if event.data.get("reason") else "It could not be opened"
    return Step(
        event.at, "hourglass", "Ending", "idle", f"{reason}. {event.data.get('note', '')}".strip(), (event.actor_name,)
    )


def _denied(event: AuditEvent) -> Step:
    return Step(event.at, "lock", "Denied in AWS", "ok", _proof(event), ("cuts sessions that still live",))


def _revoked(event: AuditEvent) -> Step:
    last = [{}, *event.data.get("proofs", [])][-1]
    if last.get("facts", {}).get("other"):
        return Step(event.at, "receipt", "Ended", "idle", str(last.get("what", "")))
    return Step(event.at, "receipt", "Removed and checked", "ok", str(last.get("what", "")), ("read back from AWS",))


def _minted(event: AuditEvent) -> Step:
    kind = {"cli": "for the command line", "console": "for the console"}.get(str(event.data.get("kind")), "")
    facts = (f"access key {event.data.get('access_key_id', 'unknown')}",)
    return Step(
        event.at, "key", f"Session {kind}".strip(), "now", f"Given to {event.actor_name}, and kept nowhere.", facts
    )


def _not_minted(event: AuditEvent) -> Step:
    return Step(event.at, "alert-triangle", "No session was given", "risk", str(event.data.get("problem", "")))


def _came_back(event: AuditEvent) -> Step:
    return Step(
        event.at, "alert-triangle", "There again, and being removed again", "risk", _proof(event), ("still denied",)
    )


def _ended_by_ender(event: AuditEvent) -> Step:
    text = f"{_proof(event)} It was past its end, and no worker had ended it."
    return Step(event.at, "shield-lock", "Taken away by the ender", "ok", text, ("read back from AWS",))


def _failed(event: AuditEvent) -> Step:
    return Step(event.at, "alert-triangle", "It could not be opened", "risk", str(event.data.get("problem", "")))


def _cancelled(event: AuditEvent) -> Step:
    return Step(event.at, "x", "Cancelled before it began", "idle", event.data.get("note", ""), (event.actor_name,))


def _removal(event: AuditEvent) -> Step:
    by_us = "Gatehouse removes it." if event.data.get("by_us") else "Its owner must remove it by hand."
    return Step(
        event.at, "user-x", f"{event.actor_name} decided to remove it", "now", f"“{event.data.get('note', '')}” {by_us}"
    )


def _asked_longer(event: AuditEvent) -> Step:
    longer = words.duration(timedelta(seconds=event.data.get("seconds", 0)))
    return Step(
        event.at, "plus", f"{event.actor_name} asked for {longer} more", "idle", f"“{event.data.get('reason', '')}”"
    )


def _extension_allowed(event: AuditEvent) -> Step:
    whole = words.duration(timedelta(seconds=event.data.get("spec", {}).get("seconds", 0)))
    return Step(
        event.at,
        "gavel",
        "More time allowed",
        "idle",
        f"{whole} altogether.",
        (f"rule set {_short(event.data.get('verdict', {}))}",),
    )


def _extended(event: AuditEvent) -> Step:
    to = datetime.fromisoformat(event.data["to"])
    return Step(
        event.at, "clock-plus", f"Extended to {to:%H:%M} UTC", "now", "AWS ends it at the old time until it confirms."
    )


def _end_moved(event: AuditEvent) -> Step:
    return Step(event.at, "clock", "Later end written into AWS", "ok", _proof(event), ("read back from AWS",))


def _not_extended(event: AuditEvent) -> Step:
    return Step(event.at, "alert-triangle", "Not extended", "risk", str(event.data.get("problem", "")))


def _plain(event: AuditEvent) -> Step:
    return Step(
        event.at,
        "circle-dot",
        event.event.rsplit(".", 1)[-1].replace("_", " ").capitalize(),
        "idle",
        "",
        (event.actor_name,),
    )


_STEPS: dict[str, Callable[[AuditEvent], Step]] = {
    "access.access_request.asked": _asked,
    "access.access_request.confirmed": _confirmed,
    "access.access_request.approved": _approved,
    "grants.grant.issued": _issued,
    "grants.grant.claimed": _claimed,
    "grants.grant.end_written": _end_written,
    "grants.grant.active": _active,
    "access.access_request.asked_longer": _asked_longer,
    "grants.grant.extension_decided": _extension_allowed,
    "grants.grant.extended": _extended,
    "grants.grant.end_moved": _end_moved,
    "grants.grant.extension_refused": _not_extended,
    "grants.grant.revoking": _revoking,
    "grants.grant.removal_decided": _removal,
    "grants.grant.denied": _denied,
    "grants.grant.revoked": _revoked,
    "grants.grant.credentials_minted": _minted,
    "grants.grant.credentials_refused": _not_minted,
    "grants.grant.came_back": _came_back,
    "grants.grant.ended_by_ender": _ended_by_ender,
    "grants.grant.failed": _failed,
    "grants.grant.warrant_refused": _failed,
    "grants.grant.cancelled": _cancelled,
}


__all__ = ["Step", "of"]
