"""The rows of a pack. Each part is a file of its own, in an order that never changes, read from the database in chunks.

A row is plain JSON: the same state of a campaign gives the same rows, byte for byte, whoever asks and whenever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import CharField, Q, TextField, Value
from django.db.models.functions import Cast, Concat

from apps.audit.models import AuditEvent, ref
from apps.core import sheets
from apps.evidence import selection
from apps.reviews import tie_out
from apps.reviews.models import Campaign, Choice, Decision, Outcome, ReviewItem, SignOff

CHUNK = 2000
Row = dict[str, Any]

# The facts of an item that were frozen at launch and are worth a column. `frozen` has all of them.
FACTS = (
    "holder",
    "holder_kind",
    "title",
    "department",
    "email",
    "manager",
    "owner",
    "login",
    "login_kind",
    "login_id",
    "entitlement",
    "entitlement_kind",
    "entitlement_id",
    "account",
    "account_id",
    "environment",
    "privilege",
    "privilege_reason",
    "can_escalate",
    "is_sensitive_read",
    "brings_total",
    "since",
    "last_used_at",
)


@dataclass(frozen=True)
class Part:
    """One file of the pack, as CSV and as JSON. `columns` are those of the CSV; a JSON row may hold more."""

    name: str
    about: str
    columns: tuple[str, ...]
    rows: Callable[[Campaign], Iterator[Row]]


PARTS: list[Part] = []


def part(
    about: str, columns: str
) -> Callable[[Callable[[Campaign], Iterator[Row]]], Callable[[Campaign], Iterator[Row]]]:
    """Make a file of the function's rows, called like the function."""

    def register(rows: Callable[[Campaign], Iterator[Row]]) -> Callable[[Campaign], Iterator[Row]]:
        PARTS.append(Part(rows.__name__, about, tuple(columns.split()), rows))
        return rows

    return register


@part(
    "the review itself: scope, dates, who launched and closed it",
    "campaign_id name state scope scope_in_words instructions drafted_by drafted_at launched_by launched_at "
    "due_at fallback sync_run_id population population_sha256 left_out closed_by closed_at close_note",
)
def campaign(row: Campaign) -> Iterator[Row]:
    yield {
        "campaign_id": row.pk,
        "name": row.name,
        "state": row.state,
        "scope": row.scope,
        "scope_in_words": row.scope_words,
        "instructions": row.instructions,
        "drafted_by": str(row.drafted_by or "Gatehouse"),
        "drafted_at": _at(row.drafted_at),
        "launched_by": str(row.launched_by or "Gatehouse"),
        "launched_at": _at(row.launched_at),
        "due_at": _at(row.due_at),
        "fallback": str(row.fallback),
        "sync_run_id": row.run_id,
        "population": row.population,
        "population_sha256": row.digest,
        "left_out": row.left_out,
        "closed_by": str(row.closed_by) if row.closed_by else None,
        "closed_at": _at(row.closed_at),
        "close_note": row.close_note,
    }


@part(
    "everything that was to be reviewed, as it stood at launch; the JSON also holds every frozen fact",
    "item_id assignment_id kind holder holder_kind title department email manager owner login login_kind "
    "login_id entitlement entitlement_kind entitlement_id account account_id environment privilege "
    "privilege_reason can_escalate is_sensitive_read brings_total since last_used_at",
)
def population(row: Campaign) -> Iterator[Row]:
    items = ReviewItem.objects.filter(campaign=row).order_by("pk")
    for item in items.only("pk", "assignment_id", "kind", "frozen").iterator(chunk_size=CHUNK):
        facts = {name: item.frozen.get(name) for name in FACTS}
        yield {
            "item_id": item.pk,
            "assignment_id": item.assignment_id,
            "kind": item.kind,
            **facts,
            "frozen": item.frozen,
        }


@part(
    "who reviews each item and why they, now and at launch",
    "item_id reviewer_id reviewer reviewer_email rule why first_reviewer first_why subject_user_id",
)
def assignments(row: Campaign) -> Iterator[Row]:
    items = ReviewItem.objects.filter(campaign=row).select_related("reviewer").order_by("pk")
    for item in items.iterator(chunk_size=CHUNK):
        yield {
            "item_id": item.pk,
            "reviewer_id": item.reviewer_id,
            "reviewer": str(item.reviewer),
            "reviewer_email": item.reviewer.email,
            "rule": item.rule,
            "why": item.reviewer_rule,
            "first_reviewer": item.frozen.get("reviewer"),
            "first_why": item.frozen.get("reviewer_rule"),
            "subject_user_id": item.subject_user_id,
        }


@part(
    "the answer about each item that stands",
    "item_id choice reason decided_by_id decided_by decided_at is_bulk batch sign_off_id",
)
def decisions(row: Campaign) -> Iterator[Row]:
    items = ReviewItem.objects.filter(campaign=row).select_related("decided_by").order_by("pk")
    for item in items.defer("frozen").iterator(chunk_size=CHUNK):
        yield {
            "item_id": item.pk,
            "choice": item.choice,
            "reason": item.reason,
            "decided_by_id": item.decided_by_id,
            "decided_by": str(item.decided_by) if item.decided_by else None,
            "decided_at": _at(item.decided_at),
            "is_bulk": item.is_bulk,
            "batch": str(item.batch) if item.batch else None,
            "sign_off_id": item.sign_off_id,
        }


@part(
    "every answer that was given, in order, also those taken back",
    "decision_id item_id was choice reason by_id by at is_bulk batch",
)
def history(row: Campaign) -> Iterator[Row]:
    given = Decision.objects.filter(item__campaign=row).select_related("by").order_by("pk")
    for decision in given.iterator(chunk_size=CHUNK):
        yield {
            "decision_id": decision.pk,
            "item_id": decision.item_id,
            "was": decision.was,
            "choice": decision.choice,
            "reason": decision.reason,
            "by_id": decision.by_id,
            "by": str(decision.by or "Gatehouse"),
            "at": _at(decision.at),
            "is_bulk": decision.is_bulk,
            "batch": str(decision.batch),
        }


@part(
    "what reviewers put their names to",
    "sign_off_id reviewer_id reviewer number statement items keep revoke bulk decisions_sha256 signed_at",
)
def sign_offs(row: Campaign) -> Iterator[Row]:
    for sign_off in SignOff.objects.filter(campaign=row).select_related("reviewer").order_by("pk"):
        yield {
            "sign_off_id": sign_off.pk,
            "reviewer_id": sign_off.reviewer_id,
            "reviewer": str(sign_off.reviewer),
            "number": sign_off.number,
            "statement": sign_off.statement,
            **{name: sign_off.counts.get(name) for name in ("items", "keep", "revoke", "bulk")},
            "decisions_sha256": sign_off.digest,
            "signed_at": _at(sign_off.signed_at),
        }


@part(
    "what became of each revocation, with what AWS showed",
    "item_id outcome grant_id removed_by task_owner due_at signed_at begun_at gone_at hours_from_sign_off "
    "sessions_could_live_until proofs problem",
)
def remediation(row: Campaign) -> Iterator[Row]:
    items = ReviewItem.objects.filter(campaign=row, choice=Choice.REVOKE).order_by("pk")
    linked = items.select_related("grant__task_owner", "assignment", "sign_off").defer("frozen")
    for item in linked.iterator(chunk_size=CHUNK):
        grant, gone_at = item.grant, None
        if item.outcome == Outcome.REMOVED:
            gone_at = grant.revoked_at if grant else item.assignment.period.upper
        signed_at = item.sign_off.signed_at if item.sign_off else None
        yield {
            "item_id": item.pk,
            "outcome": str(item.outcome),
            "grant_id": item.grant_id,
            "removed_by": grant.remover if grant else None,
            "task_owner": str(grant.task_owner) if grant and grant.task_owner else None,
            "due_at": _at(grant.due_at) if grant else None,
            "signed_at": _at(signed_at),
            "begun_at": _at(grant.revoking_at) if grant else None,
            "gone_at": _at(gone_at),
            "hours_from_sign_off": _hours(signed_at, gone_at),
            "sessions_could_live_until": _at(grant.sessions_until) if grant else None,
            "proofs": _proofs(item),
            "problem": (grant.problem if grant else item.problem) or None,
        }


@part(
    "what is left open: not decided, not signed, not proven gone",
    "item_id what holder holding reviewer note",
)
def exceptions(row: Campaign) -> Iterator[Row]:
    """What the campaign leaves open: not decided, not signed, decided to go and not proven gone."""
    items = ReviewItem.objects.filter(campaign=row).select_related("grant", "assignment", "reviewer").order_by("pk")
    some = items.filter(Q(sign_off=None) | Q(choice=Choice.REVOKE)).defer("frozen")
    for item in some.iterator(chunk_size=CHUNK):
        what = _left_open(item)
        if what:
            yield {
                "item_id": item.pk,
                "what": what,
                "holder": item.holder_name,
                "holding": item.holding_name,
                "reviewer": str(item.reviewer),
                "note": row.close_note or None,
            }


@part(
    "the equations, at the close and in this pack",
    "when name total parts off_by",
)
def sums(row: Campaign) -> Iterator[Row]:
    """The equations as they stood at the close, and as they stand in this pack."""
    for each in row.tie_out.get("equations", []):
        yield {"when": "at the close", **each}
    for now in [*tie_out.equations(row, tie_out.counts_of(row)), *tie_out.closing_equations(row)]:
        parts = dict(now.parts)
        yield {"when": "in this pack", "name": now.name, "total": now.total, "parts": parts, "off_by": now.off_by}


@part(
    "what the population was read from, with control totals",
    "run_id connection run_state run_started_at run_finished_at scope account_id state started_at finished_at "
    "control_totals calls problems notes",
)
def sync_runs(row: Campaign) -> Iterator[Row]:
    """What the population was read from: each scope of the run, how much was read and how much there should have been."""
    run = row.run
    if run is None:
        return
    for scan in run.scopes.select_related("resource").order_by("pk"):
        yield {
            "run_id": run.pk,
            "connection": row.connection.name,
            "run_state": run.state,
            "run_started_at": _at(run.started_at),
            "run_finished_at": _at(run.finished_at),
            "scope": str(scan.resource) if scan.resource else "Directory",
            "account_id": scan.resource.external_id if scan.resource else None,
            "state": scan.state,
            "started_at": _at(scan.started_at),
            "finished_at": _at(scan.finished_at),
            "control_totals": scan.totals,
            "calls": scan.calls,
            "problems": scan.problems,
            "notes": scan.notes,
        }


@part(
    "the audit events of the review and of its removals",
    "id at event actor_kind actor_id actor_name subject subject_name refs data origin xid",
)
def events(row: Campaign) -> Iterator[Row]:
    """The audit events of the campaign and of every grant that came of it, but not of packs like this one."""
    grants = ReviewItem.objects.filter(campaign=row, grant__isnull=False)
    name = Concat(Value("grants.grant:"), Cast("grant_id", TextField()), output_field=TextField())
    refs = grants.annotate(ref=Cast(name, CharField(max_length=120))).values("ref")
    about = Q(refs__overlap=[ref(row)]) | Q(refs__overlap=ArraySubquery(refs))
    found = AuditEvent.objects.filter(about).exclude(event__startswith="evidence.").order_by("pk")
    for event in selection.records(found):
        yield {**event, "at": _at(event["at"])}


def _left_open(item: ReviewItem) -> str:
    if item.choice == Choice.UNDECIDED:
        return "not decided"
    if item.sign_off_id is None:
        return "not signed"
    gone = item.choice != Choice.REVOKE or item.outcome == Outcome.REMOVED
    return "" if gone else f"not gone: {Outcome(item.outcome).label.lower()}"


def _proofs(item: ReviewItem) -> list[Any]:
    if item.outcome != Outcome.REMOVED:
        return []
    if item.grant:
        return list(item.grant.receipt)
    read_at = _at(item.assignment.period.upper)
    return [{"what": "A complete read of AWS no longer showed it.", "read_at": read_at, "facts": {}}]


def _hours(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds() / 3600, 2) if start and end else None


def _at(instant: datetime | None) -> str | None:
    return sheets.instant(instant) if instant else None
