"""The factories that other apps' tests build on make rows that belong together."""

import pytest

from tests.factories import inventory as make
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db


def test_an_assignment_shares_one_connection_with_all_it_names():
    row = make.AssignmentFactory()
    assert row.is_open
    assert {
        row.connection_id,
        row.principal.connection_id,
        row.principal.identity.connection_id,
        row.entitlement.connection_id,
        row.entitlement.resource.connection_id,
    } == {row.connection_id}


def test_a_membership_names_its_group_and_belongs_to_no_account():
    membership = make.EntitlementFactory(membership=True)
    assert membership.group.is_group and membership.name == membership.group.name and membership.resource is None


@pytest.mark.parametrize("trait", ["iam_user", "iam_role"])
def test_machines_have_an_account(trait):
    principal = make.PrincipalFactory(**{trait: True})
    assert principal.kind == trait and principal.resource.connection == principal.connection
    assert not principal.identity.is_human


def test_roles_are_given_by_trait():
    assert UserFactory(administrator=True).is_administrator and not UserFactory().is_administrator
    assert UserFactory(auditor=True).is_auditor


def test_a_writable_connection_was_let_write_by_two():
    row = make.ConnectionFactory(writable=True)
    assert row.is_writable and row.write_approved_by != row.write_proposed_by


def test_the_rest_can_be_made():
    assert make.CredentialFactory().principal.kind == "iam_user"
    assert make.ScopeScanFactory().run.state == "complete"
    assert make.PrincipalFactory(iam_group=True).identity is None
