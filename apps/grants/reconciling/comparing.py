"""One comparison of a connection, from its beginning to its findings."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.connectors.base import Proof
from apps.connectors.errors import ConnectorError
from apps.core.locks import Taken
from apps.grants import narrowing
from apps.grants.models import IN_AWS, Drift, Grant, Reconciliation
from apps.grants.models.drift import key_of
from apps.grants.models.homes import Home, name_here
from apps.inventory.models import Connection

logger = logging.getLogger(__name__)

JITTER = 0.2  # of the interval, so that connections do not all start at once
SOON = timedelta(minutes=1)  # between comparisons while nothing opens because of them
BEAT_EVERY = 25  # looks
MOST_PROBLEMS = 100


class CannotCompare(Exception):
    """Another comparison of this connection runs, or nothing may be read there now."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference that this comparison saw. `words` name it among its kind, the same in every comparison."""

    kind: Drift.Kind
    words: tuple[object, ...]
    what: str
    proof: Proof | None = None
    differences: tuple[str, ...] = ()
    is_critical: bool = False
    is_repairable: bool = False
    rows: dict[str, Any] = field(default_factory=dict)  # grant, principal, entitlement, assignment, shared_key

    @property
    def key(self) -> str:
        return key_of(self.kind, *self.words)

    @property
    def facts(self) -> dict[str, Any]:
        """What a `Drift` row says of it, as of now."""
        proof = self.proof
        read = {"what": proof.what, "read_at": proof.read_at.isoformat(), "facts": dict(proof.facts)} if proof else None
        return {
            "what": self.what[:500],
            "evidence": {"differences": list(self.differences), "proof": read},
            "is_critical": self.is_critical,
            "is_repairable": self.is_repairable,
            **self.rows,
        }


class Comparison:
    """What one run has seen so far."""

    def __init__(self, run: Reconciliation) -> None:
        self.run = run
        self.connection = run.connection
        self.now = timezone.now()
        self.findings: dict[str, Finding] = {}
        self.problems: list[str] = []
        self.looked_at = 0

    def find(self, finding: Finding) -> None:
        """The first of two that name the same difference stays."""
        self.findings.setdefault(finding.key, finding)

    def looked(self) -> None:
        """Something was read in AWS."""
        self.looked_at += 1
        if self.looked_at % BEAT_EVERY == 0:
            Reconciliation.objects.filter(pk=self.run.pk).update(beat_at=timezone.now(), looked_at=self.looked_at)

    @contextmanager
    def reading(self, what: object) -> Iterator[None]:
        """A read that fails makes the comparison incomplete, and keeps no other from being done."""
        try:
            yield
        except (ConnectorError, Taken) as error:
            logger.warning("Comparing %s: %s: %s", self.connection, what, error)
            self.problems.append(f"{what}: {error}"[:500])


def compare(connection_id: int) -> Reconciliation:
    """Read all that grants of this connection rest on, and keep how it differs.

    Only a complete comparison closes what it no longer sees. Raises `CannotCompare`.
    """
    from apps.grants.reconciling.holdings import compare_ended, compare_held
    from apps.grants.reconciling.objects import compare_objects
    from apps.grants.reconciling.second_ends import compare_second_ends
    from apps.grants.reconciling.strangers import compare_strangers

    comparison = Comparison(_begin(Connection.objects.get(pk=connection_id)))
    try:
        for step in (compare_objects, compare_second_ends, compare_held, compare_ended, compare_strangers):
            step(comparison)
    except Exception as error:
        comparison.problems.append(f"It broke off: {type(error).__name__}.")
        _keep(comparison)
        raise
    _keep(comparison)
    return comparison.run


def _begin(connection: Connection) -> Reconciliation:
    if connection.paused_at:
        raise CannotCompare(f"{connection} is paused.")
    here, now = name_here(), timezone.now()
    home = Home.objects.filter(name=here).first()
    with transaction.atomic():
        dead = list(connection.reconciliations.silent(now).select_for_update())
        for run in dead:  # its findings were never written, so it says nothing
            run.delete()
    known = connection.reconciliations.settled().filter(database=here)
    if home and home.doubted_at:
        known = known.filter(started_at__gte=home.doubted_at)
    try:
        with transaction.atomic():
            return Reconciliation.objects.create(
                connection=connection,
                database=here,
                started_at=now,
                next_at=now + _interval(),
                only_reports=not known.exists(),
                held_count=Grant.objects.filter(connection=connection, state__in=IN_AWS).count(),
            )
    except IntegrityError:
        raise CannotCompare(f"{connection} is being compared already.") from None


def _interval() -> timedelta:
    if narrowing.reason():
        return SOON
    every = timedelta(minutes=settings.RECONCILE_EVERY_MINUTES)
    return every * (1 + random.uniform(0, JITTER))  # noqa: S311  spreads load, guards nothing


@transaction.atomic
def _keep(comparison: Comparison) -> None:
    """Write down what was seen; close what a complete comparison no longer saw."""
    run, now = comparison.run, timezone.now()
    known = {
        row.key: row for row in Drift.objects.open().filter(connection=run.connection).select_for_update(of=("self",))
    }
    for key, finding in comparison.findings.items():
        _keep_one(run, known.get(key), finding, now)
    closed = 0
    if not comparison.problems:
        gone = [row.pk for key, row in known.items() if key not in comparison.findings]
        closed = Drift.objects.filter(pk__in=gone).update(closed_at=now, held_in=None)
    Reconciliation.objects.filter(pk=run.pk).update(
        finished_at=now,
        beat_at=now,
        looked_at=comparison.looked_at,
        found=len(comparison.findings),
        closed=closed,
        problems=comparison.problems[:MOST_PROBLEMS],
    )
    run.refresh_from_db()


def _keep_one(run: Reconciliation, row: Drift | None, finding: Finding, now: datetime) -> None:
    facts = {**finding.facts, "seen_at": now, "seen_in": run}
    if row is None:
        Drift.objects.create(connection=run.connection, kind=finding.kind, key=finding.key, first_seen_at=now, **facts)
    else:
        Drift.objects.filter(pk=row.pk).update(**facts)
