"""A whole organization in a real AWS API, read with the AWS connector."""

from __future__ import annotations

import boto3
import pytest

from apps.audit import services as audit
from apps.demo.company.harbourline import HARBOURLINE
from apps.demo.seed_aws import seed
from apps.inventory import sync
from apps.inventory.models import Assignment, Connection, Credential, Entitlement, Identity, Resource


@pytest.fixture
def organization(db, aws):
    seed(aws.url, HARBOURLINE.trimmed(people=13, roles_per_account=3))
    return Connection.objects.create(name="acme", region="eu-west-1")


def test_an_organization_is_read_and_only_what_changes_is_written_again(organization, aws):
    run = sync.run(organization.pk, by=audit.WORKER)
    assert (run.state, run.problem) == ("complete", "")
    assert all(scan.state == "complete" for scan in run.scopes.all())
    assert Resource.objects.count() == 6
    assert set(Resource.objects.values_list("environment", flat=True)) >= {
        "production",
        "staging",
        "sandbox",
        "security",
    }
    assert Resource.objects.exclude(owner=None).exists()
    people = Identity.objects.human()
    assert people.count() == 13 and people.filter(email__contains="@harbourline.example").count() == 13
    assert Identity.objects.machine().exclude(classification="").exists()
    assert Entitlement.objects.filter(kind="permission_set", privilege="admin").exists()
    assert Entitlement.objects.filter(kind="idc_group").exclude(privilege="unknown").exists()
    assert Assignment.objects.open().filter(entitlement__kind="idc_group").exists()
    assert Credential.objects.filter(kind="access_key").exists()
    assert not Entitlement.objects.filter(is_ours=True, assignments__is_standing=True).exists()

    member = Assignment.objects.open().filter(entitlement__kind="idc_group").first()
    assert member
    directory = boto3.client("identitystore", endpoint_url=aws.url, region_name=organization.region)
    directory.delete_group_membership(
        IdentityStoreId=member.entitlement.attributes["identity_store_id"],
        MembershipId=member.attributes["membership_id"],
    )
    again = sync.run(organization.pk, by=audit.WORKER)
    member.refresh_from_db()
    assert (again.state, again.changes) == ("complete", {"assignment": {"ended": 1}})  # and nothing else is written
    assert not member.is_open
