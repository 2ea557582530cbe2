"""An account that no unit of the organization lists, because it moved while the units were read: it stays where it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apps.connectors import fake
from apps.inventory.models import Assignment, Resource
from tests.inventory.conftest import PROD, READ, SANDBOX

SECURITY = "777700001111"


@pytest.fixture
def unplaced(world, monkeypatch):
    """The organization lists all accounts, and none of its units lists these."""
    ids = set()
    listed = fake.FakeConnector.accounts

    def accounts(self, *args):
        return [
            replace(one, path="", is_placed=False) if one.external_id in ids else one for one in listed(self, *args)
        ]

    monkeypatch.setattr(fake.FakeConnector, "accounts", accounts)
    return ids


def place(external_id):
    found = Resource.objects.get(external_id=external_id)
    return found.path, found.environment


def test_an_account_that_no_unit_lists_stays_where_it_was_and_is_said(read, world, unplaced):
    world.add_account(SECURITY, "audit", path="Security")
    read()
    unplaced.add(SECURITY)
    world.add_account(SECURITY, "audit trail", path="Security")
    run = read()
    assert place(SECURITY) == ("Security", "security")
    assert Resource.objects.get(external_id=SECURITY).name == "audit trail"
    assert run.state == "incomplete"
    (problem,) = run.scopes.get(resource=None).problems
    assert problem.startswith("No unit of the organization lists audit trail. Where each stood before is kept.")
    unplaced.clear()
    world.add_account(SECURITY, "audit trail", path="")
    assert read().state == "complete"
    assert place(SECURITY) == ("", "unknown")


def test_what_a_person_said_of_its_environment_stands(read, unplaced):
    read()
    Resource.objects.filter(external_id=SANDBOX).update(environment="production", environment_source="person")
    unplaced.add(SANDBOX)
    read()
    assert place(SANDBOX) == ("Sandbox", "production")


def test_nothing_ends_and_everything_else_is_read(read, world, unplaced):
    read()
    unplaced.update((PROD, SANDBOX))
    world.unassign("bob", f"Read@{PROD}")
    world.add_permission_set("Audit", PROD, READ)
    world.assign("alice", f"Audit@{PROD}")
    run = read()
    assert Assignment.objects.open().filter(principal__external_id="bob").exists()
    assert Assignment.objects.open().filter(entitlement__external_id=f"Audit@{PROD}").exists()
    assert run.scopes.filter(resource__isnull=False, state="complete").count() == 2


def test_a_new_account_that_no_unit_lists_counts_as_unknown(read, world, unplaced):
    world.add_account(SECURITY, "audit", path="Sandbox")
    unplaced.add(SECURITY)
    read()
    assert place(SECURITY) == ("", "unknown")
