"""Who holds what, by which path, and how fresh that is."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.inventory import holdings, lines
from apps.inventory.models import Assignment, Connection, Identity, Resource, ScopeScan
from tests.factories import inventory as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def org():
    return make.ConnectionFactory()


def member_of(principal, membership):
    return make.AssignmentFactory(connection=principal.connection, principal=principal, entitlement=membership)


def close(assignment):
    assignment.period = type(assignment.period)(assignment.period.lower, timezone.now())
    assignment.save()


def test_a_path_is_direct_or_comes_through_a_membership(org):
    alice = make.PrincipalFactory(connection=org)
    direct = make.AssignmentFactory(connection=org, principal=alice)
    membership = member_of(alice, make.EntitlementFactory(connection=org, membership=True))
    brought = make.AssignmentFactory(connection=org, principal=membership.entitlement.group)
    gone = make.AssignmentFactory(connection=org, principal=membership.entitlement.group)
    close(gone)

    paths = {(path.assignment, path.via) for path in Assignment.objects.paths_of(alice.identity)}

    assert paths == {(direct, None), (membership, None), (brought, membership)}


def test_light_paths_are_the_same_paths_in_one_query(org, django_assert_num_queries):
    alice = make.PrincipalFactory(connection=org)
    direct = make.AssignmentFactory(connection=org, principal=alice, is_standing=True)
    membership = member_of(alice, make.EntitlementFactory(connection=org, membership=True))
    brought = make.AssignmentFactory(connection=org, principal=membership.entitlement.group, is_standing=True)
    close(make.AssignmentFactory(connection=org, principal=alice))
    make.AssignmentFactory(connection=org)

    with django_assert_num_queries(1):
        lights = holdings.light_paths_of(alice.identity)
    assert {(light.pk, light.via_id) for light in lights} == {
        (direct.pk, None),
        (membership.pk, None),
        (brought.pk, membership.pk),
    }
    paths = Assignment.objects.paths_of(alice.identity)
    assert {(path.assignment.pk, path.via and path.via.pk) for path in paths} == {
        (light.pk, light.via_id) for light in lights
    }
    assert [light.pk for light in lights if light.is_membership] == [membership.pk]
    assert {light.pk for light in lights if light.is_standing} == {direct.pk}, "the membership does not stand"
    assert {light.account_name for light in lights} >= {direct.entitlement.resource.name}


def test_what_is_printed_of_light_paths_is_asked_for_at_once(org, django_assert_num_queries):
    alice = make.PrincipalFactory(connection=org)
    first, then = (DateTimeTZRange(timezone.now() - timedelta(days=days)) for days in (9, 2))
    membership = member_of(alice, make.EntitlementFactory(connection=org, membership=True))
    group = membership.entitlement.group
    brought = make.AssignmentFactory(connection=org, principal=group, period=first, entitlement__is_sensitive_read=True)
    Assignment.objects.filter(pk=membership.pk).update(period=then)
    member, through = holdings.light_paths_of(alice.identity)
    with django_assert_num_queries(1):
        shown = lines.details([through, member])
    assert [(one.light.pk, one.since, one.is_sensitive_read, one.via_entitlement_id) for one in shown] == [
        (brought.pk, then.lower, True, membership.entitlement_id),  # a path is as old as its younger half
        (membership.pk, then.lower, False, None),
    ]
    close(membership)
    membership.delete()
    assert lines.details([through, member]) == [], "what went away meanwhile is left out"


def test_losing_the_membership_ends_the_path(org):
    alice = make.PrincipalFactory(connection=org)
    membership = member_of(alice, make.EntitlementFactory(connection=org, membership=True))
    make.AssignmentFactory(connection=org, principal=membership.entitlement.group)
    close(membership)
    assert Assignment.objects.paths_of(alice.identity) == []


def test_paths_take_the_same_queries_however_much_is_held(org):
    def queries(count):
        alice = make.PrincipalFactory(connection=org)
        for _ in range(count):
            membership = member_of(alice, make.EntitlementFactory(connection=org, membership=True))
            make.AssignmentFactory(connection=org, principal=membership.entitlement.group)
        with CaptureQueriesContext(
            connection,
        ) as captured:
            paths = Assignment.objects.paths_of(alice.identity)
            for path in paths:
                str(path.assignment), str(path.removable), path.is_membership
        assert len(paths) == 2 * count
        return len(captured)

    assert queries(1) == queries(20) == 7


def test_holders_are_direct_ones_and_members_of_holding_groups(org):
    entitlement = make.EntitlementFactory(connection=org)
    direct = make.AssignmentFactory(connection=org, entitlement=entitlement)
    membership = make.EntitlementFactory(connection=org, membership=True)
    make.AssignmentFactory(connection=org, principal=membership.group, entitlement=entitlement)
    member = member_of(make.PrincipalFactory(connection=org), membership)
    stranger = make.AssignmentFactory(connection=org)
    left = member_of(make.PrincipalFactory(connection=org), membership)
    close(left)

    assert set(Assignment.objects.holders_of(entitlement)) == {direct, member}
    assert stranger not in Assignment.objects.holders_of(entitlement)


def test_the_holders_of_a_group_membership_are_its_members(org):
    membership = make.EntitlementFactory(connection=org, membership=True)
    member = member_of(make.PrincipalFactory(connection=org), membership)
    assert list(Assignment.objects.holders_of(membership)) == [member]


def test_peers_share_the_department_or_else_the_manager(org):
    alice, same = make.IdentityFactory.create_batch(2, connection=org, department="Payments")
    make.IdentityFactory(connection=org, department="Data")
    make.IdentityFactory(connection=org, department="Payments", ended_at=timezone.now())
    make.IdentityFactory(department="Payments")
    assert list(Identity.objects.peers_of(alice)) == [same]

    carol = make.IdentityFactory(connection=org)
    one, other = make.IdentityFactory.create_batch(2, connection=org, department="", manager=carol)
    assert list(Identity.objects.peers_of(one)) == [other]
    assert not Identity.objects.peers_of(make.IdentityFactory(connection=org, department="")).exists()


def test_a_machine_whose_owner_left_is_unowned(org):
    owner = make.IdentityFactory(connection=org)
    owned = make.IdentityFactory(connection=org, machine=True, owner=owner)
    nobodys = make.IdentityFactory(connection=org, machine=True)
    assert list(Identity.objects.unowned()) == [nobodys]
    owner.ended_at = timezone.now()
    owner.save()
    assert set(Identity.objects.unowned()) == {owned, nobodys}


def test_an_inventory_is_as_of_the_last_complete_run(org):
    assert org.as_of is None
    now = timezone.now()
    complete = make.SyncRunFactory(connection=org, started_at=now - timedelta(hours=2))
    incomplete = make.SyncRunFactory(connection=org, state="incomplete", started_at=now)
    org = Connection.objects.get(pk=org.pk)
    assert org.as_of == complete.started_at
    assert org.latest_run == incomplete


def test_an_account_is_as_of_its_own_last_complete_reading(org):
    account = make.ResourceFactory(connection=org)
    assert account.read_at is None
    now = timezone.now()
    for age, state in ((3, ScopeScan.State.COMPLETE), (2, ScopeScan.State.COMPLETE), (1, ScopeScan.State.FAILED)):
        make.ScopeScanFactory(run__connection=org, resource=account, state=state, started_at=now - timedelta(hours=age))
    assert Resource.objects.get().read_at == now - timedelta(hours=2)
    assert Resource.objects.with_read_at().get().read_at == now - timedelta(hours=2)
