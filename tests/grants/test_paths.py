"""What a grant's end leaves standing, in the account and through roles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.grants import paths, provisioning, services
from apps.grants.models import EndReason, Grant
from apps.inventory import paths as ways_in
from apps.inventory import tracing
from apps.inventory.models import Entitlement
from tests.factories import inventory as make
from tests.grants.system import System
from tests.inventory.company import allow, policy, trust

pytestmark = pytest.mark.django_db


def said(grant: Grant) -> list[str]:
    left = paths.others(grant)
    assert left is not None
    return left.lines


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
    assert said(grant) == ["Deploy, held directly → deployer"]


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
    assert said(grant) == ["Read, through Engineers"]


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
    assert "deployer" not in said(grant)
    system.holds(user, other)
    assert "deployer" in said(grant)


def test_a_receipt_stays_short(leads_on: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "MOST_SAID", 1)
    left = paths.others(leads_on.active())
    assert left is not None
    assert replace(left, paths=left.paths * 3).lines[1:] == ["and 2 more"]


def test_a_receipt_says_that_not_every_way_was_followed(leads_on: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_in, "MOST_ROLES", 0)
    assert said(leads_on.active()) == ["not every way was followed, so more can be left"]


@pytest.fixture
def joined(system: System) -> Grant:
    """Alice is a member of Engineers for a time, who have Read in production and in tools. She holds Read in production
    herself, and something in an account that the group does not lead to."""
    tools = make.ResourceFactory(connection=system.connection, name="tools")
    group = make.PrincipalFactory(connection=system.connection, group=True, name="Engineers")
    system.world.add_group(group.external_id)
    membership = make.EntitlementFactory(
        connection=system.connection, membership=True, group=group, external_id=f"membership:{group.external_id}"
    )
    for held in (system.read, make.EntitlementFactory(connection=system.connection, resource=tools, name="Read")):
        system.holds(membership.group, held)
    system.holds(system.alice, system.read)
    system.holds(system.alice, make.EntitlementFactory(connection=system.connection, name="Elsewhere"))
    system.holds(system.alice, membership)
    return Grant(
        connection=system.connection, identity=system.alice.identity, principal=system.alice, entitlement=membership
    )


def test_what_a_membership_leaves_is_looked_for_in_all_accounts_of_its_group(joined: Grant) -> None:
    assert said(joined) == ["Read, held directly in production"]


def test_another_group_with_the_same_access_remains(joined: Grant, system: System) -> None:
    other = make.EntitlementFactory(connection=system.connection, membership=True, group__name="Operators")
    system.holds(other.group, Entitlement.objects.get(resource__name="tools"))
    system.holds(system.alice, other)
    assert said(joined) == ["Read, held directly in production", "Read, through Operators in tools"]


def test_roles_of_a_groups_accounts_are_among_what_remains(joined: Grant, leads_on: System) -> None:
    assert "Deploy, held directly → deployer in production" in said(joined)


def test_a_membership_costs_the_same_queries_whatever_its_group_holds(joined: Grant, system: System) -> None:
    def queries() -> int:
        with CaptureQueriesContext(database) as captured:
            said(joined)
        return len(captured)

    queries()  # of the grant itself
    few = queries()
    for n in range(10):
        account = make.ResourceFactory(connection=system.connection, name=f"more {n}")
        held = make.EntitlementFactory(connection=system.connection, resource=account)
        system.holds(joined.entitlement.group, held)
        system.holds(system.alice, held)
    assert queries() == few
    assert len(said(joined)) == 11


def test_the_receipt_of_a_membership_lists_them(joined: Grant, system: System, client: Client) -> None:
    system.alice.assignments.get(entitlement=joined.entitlement).delete()
    system.world.assignments.pop((system.alice.external_id, joined.entitlement.external_id))
    grant = system.active(what=joined.entitlement, provisioner="group_membership")
    alice = system.alice.identity.user
    client.force_login(alice)

    def page() -> str:
        return client.get(grant.get_absolute_url()).content.decode()

    assert "Read, held directly in production" in page()
    services.end(grant, by=alice, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    grant.refresh_from_db()
    assert grant.paths_left is not None
    assert grant.paths_left["paths"] == ["Read, held directly in production"]
    assert "Other ways into accounts of this group when it ended" in page()


def test_what_a_membership_leaves_is_shown_only_to_those_who_may_see_what_the_holder_has(
    joined: Grant, system: System, client: Client
) -> None:
    grant = system.active(what=system.permission_set("Logs", "read"), who=system.bob)
    owner = system.person("olga").identity
    Entitlement.objects.filter(pk=joined.entitlement.pk).update(owner=owner)
    Grant.objects.filter(pk=grant.pk).update(
        entitlement=joined.entitlement, identity=joined.identity, principal=joined.principal
    )
    for user, shows in {system.alice.identity.user: True, owner.user: False}.items():
        client.force_login(user)
        page = client.get(grant.get_absolute_url()).content.decode()
        assert ("Paths that remain" in page) == ("Other paths there" in page) == shows, user


def test_the_receipt_says_what_is_left_only_to_those_who_may_see_what_the_holder_has(
    joined: Grant, system: System, client: Client
) -> None:
    system.alice.assignments.get(entitlement=joined.entitlement).delete()
    system.world.assignments.pop((system.alice.external_id, joined.entitlement.external_id))
    grant = system.active(what=joined.entitlement, provisioner="group_membership")
    services.end(grant, by=system.alice.identity.user, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    owner = system.person("olga").identity
    Entitlement.objects.filter(pk=grant.entitlement.pk).update(owner=owner)
    for user, shows in {system.alice.identity.user: True, owner.user: False}.items():
        client.force_login(user)
        page = client.get(grant.get_absolute_url()).content.decode()
        assert "Receipt" in page
        assert ("Other ways into accounts of this group" in page) == ("Read, held directly in" in page) == shows, user
