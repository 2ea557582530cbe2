"""Seeding is read back with clients of its own; what is checked is what AWS then says, not what the seeder thinks."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from apps.demo.company.harbourline import HARBOURLINE
from apps.demo.company.policies import GUARD
from apps.demo.seed_aws import CannotSeed, Summary, seed

Server = tuple[subprocess.Popen[str], str]
SMALL = HARBOURLINE.trimmed(people=13, roles_per_account=3)


@pytest.fixture
def server() -> Iterator[Server]:
    """The demo's own server. Not the fixture `aws`: after a whole company moto takes long to forget, so this one is
    thrown away instead."""
    command = [sys.executable, "-m", "apps.demo.aws_server", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def client(url: str, service: str, **credentials: str) -> Any:
    return boto3.client(service, endpoint_url=url, region_name=HARBOURLINE.region, **credentials)  # type: ignore[call-overload]


def inside(url: str, account: str, role: str) -> dict[str, str]:
    """Credentials in another account, as a portal would get them."""
    arn = f"arn:aws:iam::{account}:role/{role}"
    given = client(url, "sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    return {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_a_seeded_company_reads_back_as_it_was_written_and_is_not_seeded_again(server: Server) -> None:
    url, lines = server[1], []
    summary = seed(url, SMALL, say=lines.append)
    with pytest.raises(CannotSeed, match="already has an organization"):
        seed(url, SMALL)
    assert len(lines) >= len(SMALL.accounts)
    assert json.loads(summary.to_json())["counts"]["people"] == 13
    check_organization(url, summary)
    assert client(url, "lambda").get_function(FunctionName="portal-ender")
    check_iam(url, summary)
    check_identity_center(url, summary)


def check_organization(url: str, summary: Summary) -> None:
    organizations = client(url, "organizations")
    found = {account["Id"]: account["Name"] for account in organizations.list_accounts()["Accounts"]}
    assert set(found) == set(summary.accounts.values())
    assert found[summary.accounts["production"]] == "harbourline-production"
    for account in SMALL.accounts:
        identifier = summary.accounts[account.key]
        tags = {tag["Key"]: tag["Value"] for tag in organizations.list_tags_for_resource(ResourceId=identifier)["Tags"]}
        assert (tags["environment"], tags["owner"]) == (account.environment, account.owner)
        parent = organizations.list_parents(ChildId=identifier)["Parents"][0]
        if account.ou:
            unit = organizations.describe_organizational_unit(OrganizationalUnitId=parent["Id"])["OrganizationalUnit"]
            assert unit["Name"] == account.ou[-1]
        else:
            assert parent["Type"] == "ROOT"


def check_iam(url: str, summary: Summary) -> None:
    for account in SMALL.accounts:
        credentials = inside(url, summary.accounts[account.key], "portal/PortalReader")
        iam = client(url, "iam", **credentials)
        details = iam.get_account_authorization_details(Filter=["User", "Role", "Group", "LocalManagedPolicy"])
        roles = {role["RoleName"]: role for role in details["RoleDetailList"]}
        expected = {role.name for role in (*SMALL.portal_roles, *SMALL.roles) if role.account == account.key}
        assert expected <= set(roles) | {role.name for role in SMALL.roles if role.service_linked}
        assert "<" not in json.dumps([role["AssumeRolePolicyDocument"] for role in roles.values()])
        users = {user["UserName"] for user in details["UserDetailList"]}
        assert users == {user.name for user in SMALL.iam_users if user.account == account.key}
        for user in (user for user in SMALL.iam_users if user.account == account.key):
            states = [key["Status"] for key in iam.list_access_keys(UserName=user.name)["AccessKeyMetadata"]]
            assert (len(states), states.count("Inactive")) == (user.keys, user.inactive_keys)
            assert bool(iam.list_mfa_devices(UserName=user.name)["MFADevices"]) == user.has_mfa
        guard = f"arn:aws:iam::{summary.accounts[account.key]}:policy/jit/jit-guard"
        assert iam.get_policy_version(PolicyArn=guard, VersionId="v1")["PolicyVersion"]["Document"] == GUARD
        groups = client(url, "scheduler", **credentials).list_schedule_groups()["ScheduleGroups"]
        assert "jit" in {group["Name"] for group in groups}


def check_identity_center(url: str, summary: Summary) -> None:
    store, sso = client(url, "identitystore"), client(url, "sso-admin")
    users = store.list_users(IdentityStoreId=summary.identity_store_id)["Users"]
    assert {user["UserName"]: user["UserId"] for user in users} == summary.users
    for group in SMALL.groups:
        found = store.list_group_memberships(
            IdentityStoreId=summary.identity_store_id, GroupId=summary.groups[group.name]
        )["GroupMemberships"]
        assert sorted(one["MemberId"]["UserId"] for one in found) == sorted(summary.users[e] for e in group.members)
    instance = {"InstanceArn": summary.instance_arn}
    for one in SMALL.permission_sets:
        target = {**instance, "PermissionSetArn": summary.permission_sets[one.name]}
        assert sso.describe_permission_set(**target)["PermissionSet"]["SessionDuration"] == one.session
        references = sso.list_customer_managed_policy_references_in_permission_set(**target)
        guarded = [{"Name": "jit-guard", "Path": "/jit/"}] if one.is_jit else []
        assert references["CustomerManagedPolicyReferences"] == guarded
        with pytest.raises(sso.exceptions.ResourceNotFoundException):
            sso.get_permissions_boundary_for_permission_set(**target)
    provisioned = sso.list_permission_sets_provisioned_to_account(**instance, AccountId=summary.accounts["production"])
    assert set(provisioned["PermissionSets"]) == set(summary.permission_sets.values())
    check_assignments(sso, summary)


def check_assignments(sso: Any, summary: Summary) -> None:
    found = []
    for account in summary.accounts.values():
        for arn in summary.permission_sets.values():
            answer = sso.list_account_assignments(
                InstanceArn=summary.instance_arn, AccountId=account, PermissionSetArn=arn
            )
            found += [(account, arn, row["PrincipalId"]) for row in answer["AccountAssignments"]]
    holders = {**summary.users, **summary.groups}
    expected = [
        (
            summary.accounts[row.account],
            summary.permission_sets[row.permission_set],
            holders[row.person or row.group or ""],
        )
        for row in SMALL.assignments
    ]
    assert sorted(found) == sorted(expected)


def test_where_nothing_answers_the_message_says_what_to_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(CannotSeed, match="Start the demo's AWS first"):
        seed(f"http://127.0.0.1:{port}", SMALL)


def test_the_demos_server_answers_under_its_own_name_and_leaves_when_told(
    server: Server,
) -> None:
    process, url = server
    organizations = client(url, "organizations")
    organizations.create_organization()
    assert [account["Name"] for account in organizations.list_accounts()["Accounts"]] == ["harbourline-management"]
    assert client(url, "iam").get_policy(PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert process.communicate() == ("", ""), "requests are not logged"


def test_a_taken_port_is_said_plainly(server: Server) -> None:
    port = server[1].rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, "-m", "apps.demo.aws_server", "--port", port], capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert second.stderr == (
        f"The demo's AWS cannot listen on 127.0.0.1:{port}: Address already in use. Choose another port.\n"
    )
