"""Somebody writes what PostgreSQL takes and Python has no word for into a row, with the web process's role. Whatever else
is to end ends, and what is to be kept is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.grants import ledger, periodic, provisioning, services
from apps.grants.models import EndReason, Grant, Scope, State
from apps.grants.provisioning.ender import Ender
from apps.grants.services import stops
from apps.insights import measures
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.security.conftest import Acting

pytestmark = pytest.mark.django_db
PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}

NEVER_ENDED = "UPDATE grants_grant SET state='revoking', end_reason='done', revoking_at='-infinity' WHERE id={poisoned}"
NEVER_BEGUN = """
INSERT INTO grants_grant (connection_id, identity_id, principal_id, entitlement_id, origin, provisioner, remover,
    reference, made_as, state, end_reason, end_note, reason, ticket_ref, duration, created_at, shared_key, attempt,
    next_try_at, ticket, problem, problem_count, receipt, deny_left_out, requested_by_id)
SELECT connection_id, identity_id, principal_id, entitlement_id, origin, provisioner, remover, 'aaaa', '', 'pending', '',
    '', 'x', '', '100000000 years', now(), '', 0, now(), '{{}}', '', 0, '[]', false, requested_by_id
FROM grants_grant WHERE id={victim}
"""
STOPPED = """
INSERT INTO grants_stop (scope, identity_id, reason, ordered_at, ordered_by_id, step_up, count, digest, lift_reason,
    lift_proposal, lift_consent, lift_problem)
SELECT 'person', identity_id, 'x', ORDERED, requested_by_id, '{{"n": NUMBER}}', 0, '', '', '{{}}', '{{}}', ''
FROM grants_grant WHERE id={poisoned}
"""
SIGNED_IN = (
    "UPDATE users_user SET last_login='infinity' WHERE id=(SELECT requested_by_id FROM grants_grant WHERE id={victim})"
)
POISONS = {
    "an end in the infinite past": NEVER_ENDED,
    "a hundred million years": NEVER_BEGUN,
    "a stop in the infinite future": STOPPED.replace("ORDERED", "'infinity'").replace("NUMBER", "1"),
    "a number of five thousand digits": STOPPED.replace("ORDERED", "now()").replace("NUMBER", "1" * 5000),
    "a sign-in in the infinite future": SIGNED_IN,
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize(
    "act",
    ["ends early", "is stopped", "is in the ledger", "ends on time", "ends by the ender", "is measured"],
)
def test_another_grant(acting: Acting, system: System, tmp_path: Path, poison: str, act: str) -> None:
    victim, poisoned = system.active(), system.active(who=system.bob)
    with acting("web"), connection.cursor() as sql:
        sql.execute(poison.format(victim=victim.pk, poisoned=poisoned.pk))
    DEEDS[act](victim, tmp_path, acting)


def ends_early(victim: Grant, _path: Path, acting: Acting) -> None:
    with acting("web"):
        services.end(victim, by=victim.requested_by, reason=EndReason.DONE)
    with acting("worker"):
        provisioning.deny(victim.shared_key)
        provisioning.deprovision(victim.pk)
    victim.refresh_from_db()
    assert (victim.state, victim.problem) == (State.REVOKED, "")
    assert victim.denied_at


def is_stopped(victim: Grant, _path: Path, acting: Acting) -> None:
    with acting("web"):
        stop = stops.order(scope=Scope.ALL, reason="An incident.", by=UserFactory(administrator=True), step_up=PASSKEY)
    [write] = stop.writes.filter(shared_key=victim.shared_key)
    with acting("worker"):
        provisioning.write_stop(write.pk)
    write.refresh_from_db()
    assert write.read_at


def is_kept(victim: Grant, path: Path, acting: Acting) -> None:
    with acting("worker"):
        ledger.write(path / "ledger", timezone.now())
    assert victim.reference in [entry.reference for entry in ledger.read(path / "ledger").entries]


def ends_on_time(victim: Grant, _path: Path, acting: Acting) -> None:
    Grant.objects.filter(pk=victim.pk).update(ends_at=timezone.now())
    with acting("worker"):
        periodic.expire()
    victim.refresh_from_db()
    assert victim.state == State.REVOKING


def ends_by_the_ender(victim: Grant, _path: Path, acting: Acting) -> None:
    Grant.objects.filter(pk=victim.pk).update(ends_at=timezone.now() - 2 * Grant.OVERRUN)
    with acting("ender"):
        report = Ender().round()
    assert report.source == "database"
    assert victim.number in report.ended


def is_measured(victim: Grant, _path: Path, acting: Acting) -> None:
    Grant.objects.exclude(pk=victim.pk).update(denied_at=timezone.now())
    for name in measures.STRETCHES:
        measures.spread(name, victim.created_at)
    assert measures.standing(timezone.now())


DEEDS: dict[str, Callable[[Grant, Path, Acting], None]] = {
    "ends early": ends_early,
    "is stopped": is_stopped,
    "is in the ledger": is_kept,
    "ends on time": ends_on_time,
    "ends by the ender": ends_by_the_ender,
    "is measured": is_measured,
}


def test_what_follows_the_log_reads_an_event_of_the_infinite_future(acting: Acting) -> None:
    with acting("web"), connection.cursor() as sql:
        sql.execute(
            "INSERT INTO audit_auditevent"
            " (event, at, actor_kind, actor_id, actor_name, subject, subject_name, refs, data, origin)"
            " VALUES ('x', 'infinity', 'worker', '', 'x', 'x', '', '{}', '{}', '{}')"
        )
    with acting("worker"), transaction.atomic():
        assert [event.event for event in AuditEvent.objects.all()] == ["x"]
