"""What a stop denies in a guard is compared with AWS as long as it is in force, also where no grant is left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.connectors import registry
from apps.grants import provisioning, services
from apps.grants.models import Drift, EndReason, Grant, Scope, Stop, StopWrite
from apps.grants.reconciling.objects import _place_of
from apps.grants.services import stops
from apps.inventory.models import Connection, Entitlement, Principal, Resource
from tests.factories.users import UserFactory
from tests.grants.system import ACCOUNT, System, make_due
from tests.grants.test_drift import carry_out, compare, compared  # noqa: F401
from tests.grants.test_drift_pages import sign_in
from tests.grants.test_stops import PASSKEY

MINUTES = timedelta(minutes=2)
HOURS = timedelta(hours=2)
EVERYBODY = ("*", "*")


@pytest.fixture
def stopped(compared: System, clock: Any) -> Stop:  # noqa: F811
    """An account whose last grant was stopped two hours ago, and is taken out of the guard since."""
    compared.active()
    erin = UserFactory(administrator=True)
    stop = stops.order(scope=Scope.ACCOUNT, subject=compared.account, reason="It was stolen.", by=erin, step_up=PASSKEY)
    provisioning.write_stop(stop.writes.get().pk)
    compared.run_clock()
    clock.shift(HOURS)
    make_due()
    compared.run_clock()
    assert not Grant.objects.filter(cleared_at=None).exists()
    return stop


def look(system: System, clock: Any) -> None:
    clock.shift(MINUTES)
    compare(system)
    carry_out(system)


def test_a_stop_that_was_taken_out_of_a_guard_is_found_and_written_again(
    compared: System,  # noqa: F811
    stopped: Stop,
    clock: Any,
) -> None:
    compared.world.guards[ACCOUNT].clear()
    look(compared, clock)
    drift = Drift.objects.get()
    assert (drift.is_critical, drift.grant, drift.shared_key) == (True, None, stopped.writes.get().shared_key)
    assert drift.what == "What ends grants there was weakened: Identity Center assignment in production."
    assert EVERYBODY in compared.world.guards[ACCOUNT]
    page = sign_in(UserFactory(administrator=True)).get(f"/drift/{drift.pk}/")
    assert page.status_code == 200


def test_a_guard_that_says_the_stop_is_read_once_and_is_no_difference(
    compared: System,  # noqa: F811
    stopped: Stop,
    clock: Any,
) -> None:
    other = UserFactory(administrator=True)
    stops.order(scope=Scope.ALL, reason="All of it.", by=other, step_up=PASSKEY)
    for row in StopWrite.objects.filter(read_at=None):
        provisioning.write_stop(row.pk)
    compared.world.calls.clear()
    look(compared, clock)
    assert len(compared.world.calls_of("examine")) == 1
    assert not Drift.objects.exists()


def test_a_stop_that_is_on_its_way_is_no_difference(compared: System, clock: Any) -> None:  # noqa: F811
    compared.active()
    clock.shift(MINUTES)
    erin = UserFactory(administrator=True)
    stops.order(scope=Scope.ACCOUNT, subject=compared.account, reason="It was stolen.", by=erin, step_up=PASSKEY)
    compare(compared)
    assert not Drift.objects.exists()


def test_a_lifted_stop_is_not_missed(compared: System, stopped: Stop, clock: Any) -> None:  # noqa: F811
    erin, frank = UserFactory(), UserFactory()
    Stop.objects.update(lifted_at=timezone.now(), lifted_by=erin, lift_proposed_by=frank)
    StopWrite.objects.update(next_try_at=timezone.now())
    provisioning.write_stop(stopped.writes.get().pk)
    compared.world.calls.clear()
    look(compared, clock)
    assert not compared.world.calls_of("examine")
    assert EVERYBODY not in compared.world.guards[ACCOUNT]


@pytest.mark.parametrize("what", ["a grant", "a stop"])
def test_a_comparison_looks_at_the_objects_of_its_own_connection(compared: System, clock: Any, what: str) -> None:  # noqa: F811
    other = System()
    if what == "a grant":
        other.active()
    else:
        erin = UserFactory(administrator=True)
        stops.order(scope=Scope.ACCOUNT, subject=other.account, reason="It was stolen.", by=erin, step_up=PASSKEY)
        StopWrite.objects.update(read_at=timezone.now())
    clock.shift(MINUTES)
    other.world.guards.clear()
    compare(compared)
    assert not Drift.objects.exists()
    compare(other)
    assert Drift.objects.exists()


def test_the_end_of_a_grant_that_somebody_takes_out_of_a_guard_is_missed_as_long_as_a_session_can_live(
    compared: System,  # noqa: F811
    clock: Any,
) -> None:
    grant = compared.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    compared.run_clock()
    clock.shift(MINUTES)
    compared.world.guards[ACCOUNT].clear()
    compare(compared)
    assert Drift.objects.get().is_critical
    carry_out(compared)
    assert ("alice", compared.read.external_id) in compared.world.guards[ACCOUNT]


@pytest.mark.parametrize("account", ["production", ""])
@pytest.mark.parametrize(("provisioner", "title"), [("iam_timeboxed_policy", None), ("one of before", "one of before")])
def test_a_difference_says_where_it_is(account: str, provisioner: str, title: str | None) -> None:
    """Also of what lies in no account, and of what an older version wrote."""
    resource = Resource(name=account) if account else None
    grant = Grant(
        connection=Connection(name="Example"),
        entitlement=Entitlement(resource=resource),
        principal=Principal(),
        provisioner=provisioner,
    )
    assert _place_of(grant) == f"{title or registry.TITLES[provisioner]} in {account or 'Example'}"
