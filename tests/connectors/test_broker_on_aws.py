"""A grant of a tier role from its opening to its end, in an AWS that answers, with the broker between."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.grants import provisioning, services
from apps.grants.broker.minting import NotGiven, hand_out
from apps.grants.models import EndReason, Grant, State
from apps.inventory import sync
from apps.inventory.models import Assignment, Entitlement
from apps.inventory.sync import seen
from tests.connectors.conftest import QUIET, Org
from tests.connectors.test_sts_broker import make_role
from tests.factories.inventory import EntitlementFactory
from tests.grants.system import System
from tests.grants.test_broker import asking


@pytest.fixture
def production(org: Org, db: None) -> System:
    """Alice, and a tier role in production that a scan found."""
    make_role(org)
    system = System()
    system.connection.kind = "aws"
    system.connection.options = {}
    system.connection.external_id = ""
    system.connection.save()
    system.account.external_id = org.account_id
    system.account.save()
    return system


def tier_role(system: System, org: Org) -> Entitlement:
    scan = AwsConnector(system.connection.config).scan_account(org.account(), QUIET)
    [found] = [record for record in scan.entitlements if record.kind == "tier_role"]
    return EntitlementFactory(
        connection=system.connection,
        resource=system.account,
        kind="tier_role",
        external_id=found.external_id,
        name=found.name,
        attributes=dict(found.attributes),
        privilege="read",
    )


def arn_of(org: Org, given: dict[str, str]) -> str:
    keys = {
        "aws_access_key_id": given["access_key_id"],
        "aws_secret_access_key": given["secret_access_key"],
        "aws_session_token": given["session_token"],
    }
    return str(org.aws.client("sts", **keys).get_caller_identity()["Arn"])


def denies(org: Org, grant: Grant, at: datetime) -> bool:
    document = org.iam().get_role_policy(RoleName="JitReadOnly", PolicyName="jit-guard")["PolicyDocument"]
    allow_all = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    context = {"aws:PrincipalTag/jit-grant": grant.reference}
    answer = evaluate([allow_all, document], action="s3:GetObject", resource="*", context=context, now=at)
    return answer.outcome is Outcome.DENY


def test_from_the_request_to_a_session_that_works_and_is_denied_when_its_grant_ends(
    org: Org, production: System
) -> None:
    system = production
    grant = system.active(what=tier_role(system, org), provisioner="sts_broker")
    assert grant.ends_at is not None
    assert arn_of(org, hand_out(asking(grant))).endswith(f"-{grant.reference}")
    now = timezone.now()
    assert not denies(org, grant, now)
    assert not denies(org, grant, grant.ends_at - timedelta(seconds=1))
    assert denies(org, grant, grant.ends_at)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKED, grant.problem
    assert denies(org, grant, now)
    assert grant.denied_at is not None and grant.sessions_until is None
    with pytest.raises(NotGiven):
        hand_out(asking(grant))


def test_two_grants_of_one_role_end_each_by_itself(org: Org, production: System) -> None:
    system = production
    role = tier_role(system, org)
    first = system.active(what=role, provisioner="sts_broker")
    second = system.active(what=role, provisioner="sts_broker", duration=timedelta(hours=2))
    services.end(first, by=first.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(first.pk)
    now = timezone.now()
    assert denies(org, first, now) and not denies(org, second, now)
    hand_out(asking(second))
    provisioning.clear(first.pk)
    assert denies(org, first, now) and not denies(org, second, now)


def test_a_sync_knows_the_role_and_does_not_end_what_no_scan_can_see(org: Org, production: System) -> None:
    """AWS says nowhere who may have sessions of a role, so that a scan shows no such assignment proves nothing."""
    system = production
    system.alice.external_id = system.alice.identity.external_id = org.people["alice"]  # type: ignore[union-attr]
    system.alice.save()
    system.alice.identity.save()  # type: ignore[union-attr]
    run = sync.run(system.connection.pk, by=audit.WORKER)
    assert run.state == "complete", run.problem
    role = Entitlement.objects.get(kind="tier_role")
    assert (role.name, role.privilege, role.is_ours) == ("JitReadOnly", "read", False)
    seen.note(system.alice, role, is_present=True, at=timezone.now())  # as a worker does when it read a grant back
    again = sync.run(system.connection.pk, by=audit.WORKER)
    assert again.state == "complete", again.problem
    assert Assignment.objects.open().filter(entitlement=role).exists()
