"""What a grant's end leaves standing, in the account and through roles."""

from __future__ import annotations

import pytest

from apps.grants import paths, provisioning, services
from apps.grants.models import EndReason
from apps.inventory import tracing
from tests.factories import inventory as make
from tests.grants.system import System
from tests.inventory.company import allow, policy, trust

pytestmark = pytest.mark.django_db


@pytest.fixture
def leads_on(system: System) -> System:
    """Alice holds Deploy in tools, which may become deployer in production, and Read in production may become it too."""
    tools = make.ResourceFactory(connection=system.connection, name="tools")
    arn = f"arn:aws:iam::{system.account.external_id}:role/deployer"
    knocks = [{"name": "knocks", "document": policy(allow("sts:AssumeRole", arn))}]
    deploy = make.EntitlementFactory(
        connection=system.connection, resource=tools, name="Deploy", documents=knocks, digest="1"
    )
    system.holds(system.alice, deploy)
    system.read.documents = knocks
    system.read.save()
    accounts = [f"arn:aws:iam::{one.external_id}:root" for one in (tools, system.account)]
    make.PrincipalFactory(
        connection=system.connection,
        iam_role=True,
        resource=system.account,
        external_id=arn,
        name="deployer",
        attributes={"trust": policy(trust({"AWS": accounts}))},
    )
    tracing.trace(system.connection)
    return system


def test_chains_of_roles_are_among_what_remains_but_not_those_that_the_grant_began(leads_on: System) -> None:
    grant = leads_on.active()
    assert paths.in_words(paths.others(grant) or []) == ["Deploy, held directly → deployer"]


def test_the_receipt_lists_them(leads_on: System) -> None:
    grant = leads_on.active()
    services.end(grant, by=leads_on.alice.identity.user, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.paths_left is not None
    assert grant.paths_left["paths"] == ["Deploy, held directly → deployer"]


def test_the_same_entitlement_through_a_group_remains(system: System) -> None:
    grant = system.active()
    group = make.PrincipalFactory(connection=system.connection, group=True, name="Engineers")
    membership = make.EntitlementFactory(
        connection=system.connection, membership=True, group=group, name="Engineers", resource=None
    )
    system.holds(system.alice, membership)
    system.holds(group, system.read)
    assert paths.in_words(paths.others(grant) or []) == ["Read, through Engineers"]


def test_what_a_user_becomes_by_the_policy_that_was_granted_ends_with_it(system: System) -> None:
    account, connection = system.account, system.connection
    arn = f"arn:aws:iam::{account.external_id}:role/deployer"
    lets_in = policy(trust({"AWS": f"arn:aws:iam::{account.external_id}:root"}))
    make.PrincipalFactory(
        connection=connection,
        iam_role=True,
        resource=account,
        external_id=arn,
        name="deployer",
        attributes={"trust": lets_in},
    )
    user = make.PrincipalFactory(
        connection=connection, iam_user=True, resource=account, name="alice-cli", identity=system.alice.identity
    )
    granted, other = (
        make.EntitlementFactory(
            connection=connection,
            resource=account,
            kind="iam_policy",
            name=name,
            documents=[{"name": name, "document": policy(allow("sts:AssumeRole", arn))}],
            digest=name,
        )
        for name in ("granted", "other")
    )
    system.holds(user, granted)
    grant = system.active()
    grant.principal, grant.entitlement = user, granted
    tracing.trace(connection)
    assert "deployer" not in paths.in_words(paths.others(grant) or [])
    system.holds(user, other)
    assert "deployer" in paths.in_words(paths.others(grant) or [])


def test_a_receipt_stays_short(leads_on: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "MOST_SAID", 1)
    rows = paths.others(leads_on.active()) or []
    assert paths.in_words([*rows, *rows, *rows])[1:] == ["and 2 more"]
