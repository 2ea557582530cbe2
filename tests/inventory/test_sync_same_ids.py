"""One id in two accounts: what is there already is never taken over, nor given what the other one holds."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.connectors import fake
from apps.connectors.base import (
    AssignmentRecord,
    CredentialRecord,
    DocumentRecord,
    EntitlementRecord,
    PrincipalRecord,
    Scan,
)
from apps.inventory.models import Assignment, Credential, Entitlement, Identity, Principal
from tests.inventory.conftest import ADMIN, PROD, READ, SANDBOX

pytestmark = pytest.mark.django_db


@pytest.fixture
def twins(world, read, monkeypatch):
    """The user `twin` and the policy `same` in prod, and from then on in the sandbox too, where they are others."""
    account = fake.FakeConnector.scan_account

    def scan(self, asked, progress):
        found: Scan = account(self, asked, progress)
        if asked.external_id not in sources:
            return found
        name = "prod" if asked.external_id == PROD else "sandbox"
        document = DocumentRecord("p", READ if name == "prod" else ADMIN)
        facts = {"account_id": asked.external_id}
        found.principals += [
            PrincipalRecord("iam_user", "twin", f"twin of {name}", **facts),
            PrincipalRecord("iam_role", f"role of {name}", "role", **facts),
        ]
        found.entitlements += [
            EntitlementRecord("iam_policy", "same", f"same of {name}", documents=(document,), **facts),
            EntitlementRecord("iam_policy", f"own of {name}", "own", **facts),
        ]
        found.credentials.append(CredentialRecord("twin", "access_key", f"AKIA {name}"))
        found.assignments += [
            AssignmentRecord("twin", f"own of {name}"),
            AssignmentRecord(f"role of {name}", "same"),
            AssignmentRecord("twin", "same"),
            AssignmentRecord(f"role of {name}", f"own of {name}"),
        ]
        return found

    sources = {PROD}
    monkeypatch.setattr(fake.FakeConnector, "scan_account", scan)
    assert read().state == "complete"
    sources.add(SANDBOX)
    return sources


def test_what_another_account_has_is_not_taken_from_it(twins, read):
    for first in (True, False):
        run = read()
        said = run.scopes.get(resource__external_id=SANDBOX)
        assert (run.state, said.state) == ("incomplete", "incomplete")
        assert said.problems == [
            f"1 {what} have the id of something in another account. Neither they nor what they hold is shown here."
            for what in ("principals", "entitlements")
        ]
        assert run.scopes.get(resource__external_id=PROD).state == "complete"
        assert bool(run.changes) is first
    twin, same = Principal.objects.get(external_id="twin"), Entitlement.objects.get(external_id="same")
    assert (twin.resource.external_id, twin.name) == (PROD, "twin of prod")
    assert (same.resource.external_id, same.name, same.privilege) == (PROD, "same of prod", "read")
    assert Identity.objects.get(external_id="twin").name == "twin of prod"
    assert [*Credential.objects.filter(principal=twin).values_list("external_id", flat=True)] == ["AKIA prod"]
    rows = Assignment.objects.filter(principal__external_id__in=("twin", "role of prod", "role of sandbox"))
    assert not rows.exclude(period__upper_inf=True).exists()
    assert {*rows.values_list("principal__external_id", "entitlement__external_id")} == {
        ("twin", "own of prod"),
        ("twin", "same"),
        ("role of prod", "same"),
        ("role of prod", "own of prod"),
        ("role of sandbox", "own of sandbox"),
    }


def test_what_the_other_account_has_no_more_may_be_here(twins, read):
    twins.remove(PROD)
    Principal.objects.filter(external_id="twin").update(ended_at=timezone.now())
    Entitlement.objects.filter(external_id="same").update(ended_at=timezone.now())
    assert read().scopes.get(resource__external_id=SANDBOX).state == "complete"
    assert Principal.objects.get(external_id="twin").resource.external_id == SANDBOX


def test_an_id_that_cannot_be_stored_is_not_somebody_elses(world, read, monkeypatch):
    directory = fake.FakeConnector.scan_directory

    def named_badly(self, accounts, progress):
        parts = list(directory(self, accounts, progress))
        parts[-1].assignments.append(AssignmentRecord("alice\0", f"Read@{SANDBOX}"))
        return parts

    monkeypatch.setattr(fake.FakeConnector, "scan_directory", named_badly)
    run = read()
    assert not Assignment.objects.filter(entitlement__external_id=f"Read@{SANDBOX}").exists()
    (note,) = run.scopes.get(resource=None).notes
    assert note.startswith("1 assignments name somebody or something that is not listed")
