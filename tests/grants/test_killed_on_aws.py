"""Grants over real provisioners in an AWS of the test's own, killed at each of their calls: what AWS holds then is bounded
by AWS itself, and a restart takes the grant to where it should be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from apps.connectors.base import Target
from apps.grants import periodic, provisioning, reconciling, services
from apps.grants.models import Drift, EndReason, Extension, Grant, Reconciliation, State
from apps.grants.services import drift as deciding
from apps.inventory.models import Connection
from apps.users.models import User
from tests.connectors import test_iam_jit_role as jit
from tests.connectors import test_idc_assignment as idc
from tests.connectors.conftest import (  # noqa: F401  fixtures
    CONFIG,
    HUB,
    Org,
    _credentials,
    org,
)
from tests.connectors.killing import Death, deaths_of, dying
from tests.connectors.scheduler import Scheduler
from tests.factories.inventory import ConnectionFactory, EntitlementFactory, PrincipalFactory, ResourceFactory
from tests.factories.users import UserFactory
from tests.grants.system import YES, make_due

HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
READS = ("list", "get", "describe")


@dataclass
class Case:
    """One provisioner: what is asked for, and how an independent observer sees whether it can be used."""

    provisioner: str
    target: Target
    can_use: Callable[[Target, datetime], bool]


def permission_set(org: Org) -> Case:  # noqa: F811
    org.add_guard()
    org.add_scheduling(HUB)

    def can_use(who: Target, at: datetime) -> bool:
        user_id = who.principal_external_id
        return user_id in org.assignments("Admin") and not idc.is_denied(org.guard(), user_id, "Admin", at)

    return Case("idc_assignment", idc.real_target(org, "alice"), can_use)


def role_for_one_grant(org: Org) -> Case:  # noqa: F811
    org.iam().create_policy(PolicyName="JitBoundary", Path="/jit/", PolicyDocument=json.dumps(jit.BOUNDARY))
    return Case(
        "iam_jit_role",
        jit.target(org.account_id, user_id=org.people["alice"]),
        lambda who, at: jit.can_use(org, who, at),
    )


@pytest.fixture(params=[permission_set, role_for_one_grant], ids=lambda case: case.__name__)
def case(request: pytest.FixtureRequest, org: Org, monkeypatch: pytest.MonkeyPatch) -> Case:  # noqa: F811
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    monkeypatch.setattr("apps.grants.warrants.ask_rules_again", lambda *_: None)
    made: Case = request.param(org)
    return made


@dataclass
class Desk:
    """The rows that say in the inventory what there is in AWS, and the workers."""

    case: Case
    connection: Connection
    by: User
    principal: Any
    entitlement: Any

    def issue(self) -> Grant:
        return services.issue(
            identity=self.principal.identity,
            principal=self.principal,
            entitlement=self.entitlement,
            provisioner=self.case.provisioner,
            duration=HOUR,
            reason="Looking into INC-1.",
            by=self.by,
            authority=YES,
        )

    def can_use(self, grant: Grant, at: datetime) -> bool:
        return self.case.can_use(replace(self.case.target, reference=grant.reference), at)

    def run_clock(self) -> None:
        """What the clock and its workers do, as if every postponed attempt were due."""
        for _ in range(4):
            make_due()
            periodic.run_all(*periodic.DECISIONS)
            now = timezone.now()
            for grant in Grant.objects.unfinished().exclude(state=State.ACTIVE):
                (provisioning.deprovision if grant.state == State.REVOKING else provisioning.provision)(grant.pk)
            for extension in Extension.objects.unsettled():
                provisioning.extend(extension.pk)
            for grant in Grant.objects.unnarrowed(now):
                provisioning.narrow(grant.pk)


@pytest.fixture
def desk(case: Case, db: None) -> Desk:
    target = case.target
    options = {name: value for name, value in CONFIG.items() if name not in ("region", "external_id")}
    connection = ConnectionFactory(writable=True, kind=Connection.Kind.AWS, options=options)
    account = ResourceFactory(connection=connection, external_id=target.account_id)
    user = UserFactory(name="Alice")
    principal = PrincipalFactory(
        connection=connection,
        kind=target.principal_kind,
        external_id=target.principal_external_id,
        name=target.principal_name,
        identity__user=user,
    )
    entitlement = EntitlementFactory(
        connection=connection,
        resource=account,
        kind=target.entitlement_kind,
        external_id=target.entitlement_external_id,
        name=target.entitlement_name,
        attributes=dict(target.entitlement_attributes),
        privilege="write",
    )
    return Desk(case, connection, user, principal, entitlement)


def state_of(grant: Grant) -> str:
    return str(Grant.objects.get(pk=grant.pk).state)


def every_death(story: Callable[[], Any]) -> list[Death]:
    """After each call that changes something, with its answer heard and lost; and before the first. Reads leave nothing
    behind, and before a call is after the one before."""
    changes = [death for death in deaths_of(story) if not death.call.partition(":")[2].startswith(READS)]
    return [death for death in changes if death.mode != "before" or death.nth == changes[0].nth]


def end(grant: Grant) -> None:
    services.end(Grant.objects.get(pk=grant.pk), by=grant.requested_by, reason=EndReason.DONE)


def test_killed_while_opening(desk: Desk) -> None:
    first = desk.issue()
    deaths = every_death(lambda: provisioning.provision(first.pk))
    assert state_of(first) == State.ACTIVE
    end(first)
    desk.run_clock()
    assert len(deaths) >= 5
    for death in deaths:
        grant = desk.issue()
        began = timezone.now()
        with dying(death):
            provisioning.provision(grant.pk)
        bound = began + Grant.ALLOWANCE + HOUR + timedelta(seconds=1)
        assert not desk.can_use(grant, bound), f"unbounded after dying {death}"
        assert not desk.can_use(grant, bound + YEAR), f"unbounded after dying {death}"
        desk.run_clock()
        grant.refresh_from_db()
        assert grant.state == State.ACTIVE, f"{death}: {grant.problem}"
        assert desk.can_use(grant, grant.ends_at - timedelta(seconds=1))
        assert not desk.can_use(grant, grant.ends_at), f"unbounded after dying {death}"
        end(grant)
        desk.run_clock()
        assert state_of(grant) == State.REVOKED, f"{death}"
        assert not desk.can_use(grant, timezone.now())


def test_killed_while_ending(desk: Desk) -> None:
    def opened() -> Grant:
        grant = desk.issue()
        provisioning.provision(grant.pk)
        assert state_of(grant) == State.ACTIVE
        end(grant)
        return grant

    first = opened()
    deaths = every_death(lambda: provisioning.deprovision(first.pk))
    assert state_of(first) == State.REVOKED
    assert len(deaths) >= 5
    for death in deaths:
        grant = opened()
        with dying(death):
            provisioning.deprovision(grant.pk)
        assert not desk.can_use(grant, Grant.objects.get(pk=grant.pk).not_after), f"unbounded after dying {death}"
        desk.run_clock()
        grant.refresh_from_db()
        assert grant.state == State.REVOKED, f"{death}: {grant.problem}"
        assert not desk.can_use(grant, timezone.now()), f"usable after dying {death}"
        assert grant.proofs and grant.changes, f"no receipt after dying {death}"


def test_killed_while_extending(desk: Desk) -> None:
    grant = desk.issue()
    provisioning.provision(grant.pk)

    def longer() -> Extension:
        fresh = Grant.objects.get(pk=grant.pk)
        return services.extend(fresh, longer=timedelta(minutes=5), by=grant.requested_by, authority=YES)

    first = longer()
    deaths = every_death(lambda: provisioning.extend(first.pk))
    for death in deaths:
        before = Grant.objects.get(pk=grant.pk).ends_at
        extension = longer()
        with dying(death):
            provisioning.extend(extension.pk)
        assert desk.can_use(grant, before - timedelta(seconds=1)), f"cut short by dying {death}"
        assert not desk.can_use(grant, before + timedelta(minutes=5)), f"unbounded after dying {death}"
        desk.run_clock()
        grant.refresh_from_db()
        extension.refresh_from_db()
        assert extension.applied_at, f"{death}: {extension.problem}"
        assert grant.ends_at == before + timedelta(minutes=5)
        assert desk.can_use(grant, grant.ends_at - timedelta(seconds=1)), f"not extended after dying {death}"
        assert not desk.can_use(grant, grant.ends_at)


@pytest.mark.parametrize("case", [permission_set], indirect=True, ids=["permission_set"])
def test_killed_while_a_schedule_that_somebody_deleted_is_written_again(desk: Desk, org: Org) -> None:  # noqa: F811
    grant = desk.issue()
    provisioning.provision(grant.pk)
    long_ago = timezone.now() - timedelta(minutes=5)
    Grant.objects.filter(pk=grant.pk).update(active_at=long_ago, narrowed_at=long_ago)
    grant.refresh_from_db()
    scheduler = Scheduler(org.aws, [HUB])
    ((_, written),) = scheduler.stored()

    def compare() -> Drift | None:
        run = deciding.decide(reconciling.compare(desk.connection.pk))
        assert run.state == Reconciliation.State.SETTLED, run.problems
        return Drift.objects.open().filter(kind=Drift.Kind.UNSCHEDULED).first()

    def deleted() -> Drift:
        scheduler.client(HUB, "scheduler").delete_schedule(GroupName="jit", Name=written["Name"])
        found = compare()
        assert found and found.decided_at and found.grant == grant
        return found

    assert compare() is None  # the first one only reports
    found = deleted()
    deaths = every_death(lambda: reconciling.repair(found.pk))
    assert {death.call for death in deaths} == {"scheduler:update_schedule", "scheduler:create_schedule"}
    for death in (deaths[0], *(death for death in deaths if death.call.endswith("create_schedule"))):
        drift = deleted()
        with dying(death):
            reconciling.repair(drift.pk)
        if compare():  # it was not written, or nobody heard of it
            Drift.objects.update(next_try_at=long_ago)
            reconciling.repair(drift.pk)
        ((_, again),) = scheduler.stored()
        assert again["StartDate"] == written["StartDate"] == grant.ends_at.replace(microsecond=0), f"{death}"
        assert desk.can_use(grant, timezone.now()), f"taken away by dying {death}"
    assert compare() is None
    scheduler.run(grant.ends_at)
    assert org.assignments("Admin") == []


def test_with_everything_of_ours_dead_it_ends_to_the_second(desk: Desk) -> None:
    grant = desk.issue()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    second = timedelta(seconds=1)
    usable = [desk.can_use(grant, grant.ends_at + after) for after in (-second, 0 * second, second, YEAR)]
    assert usable == [True, False, False, False]


@pytest.fixture(autouse=True)
def _whole_seconds() -> Iterator[None]:
    """The clock runs, so that every grant has times of its own."""
    with time_machine.travel(timezone.now().replace(microsecond=0), tick=True):
        yield
