"""What a scan of an AWS organization finds, and what it says when it could not find everything."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.connectors.aws import credentials, iam, identity_center, organizations
from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.reading import Reading
from apps.connectors.base import AccountRecord, EntitlementRecord, PrincipalRecord, Scan
from apps.connectors.errors import ConnectorError, Denied, Gone, Unproven
from apps.inventory.models import Principal
from apps.inventory.models.access import STATIC
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.oddities import Oddities
from tests.connectors.conftest import CONFIG, HUB, QUIET, READ, Org, Stubs, trust, whole

ACCOUNT = AccountRecord("111122223333", "production")
UNIQUE = "94482488-3041-7074-8c5b-1f2e3d4c5b6a"
WHEN = datetime(2031, 1, 1, tzinfo=UTC)
ADMIN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def principals(scan: Scan, kind: str) -> dict[str, PrincipalRecord]:
    return {record.name: record for record in scan.principals if record.kind == kind}


def entitlements(scan: Scan, kind: str) -> dict[str, EntitlementRecord]:
    return {record.name: record for record in scan.entitlements if record.kind == kind}


def held(scan: Scan) -> set[tuple[str, str]]:
    return {(record.principal_external_id, record.entitlement_external_id) for record in scan.assignments}


# ---- accounts


def test_accounts_know_where_they_stand_and_their_tags(org: Org) -> None:
    client = org.client("organizations")
    root = client.list_roots()["Roots"][0]["Id"]
    workloads = client.create_organizational_unit(ParentId=root, Name="Workloads")["OrganizationalUnit"]["Id"]
    unit = client.create_organizational_unit(ParentId=workloads, Name="Pay/Roll")["OrganizationalUnit"]["Id"]
    client.move_account(AccountId=org.account_id, SourceParentId=root, DestinationParentId=unit)
    client.tag_resource(ResourceId=org.account_id, Tags=[{"Key": "owner", "Value": "bob"}])
    accounts = {account.external_id: account for account in AwsConnector(CONFIG).accounts()}
    assert set(accounts) == {HUB, org.account_id}
    production = accounts[org.account_id]
    assert production.name == "production"
    assert production.email == "production@example.com"
    assert production.path == "Workloads/Pay%2FRoll"
    assert production.state == "active"
    assert production.tags == {"owner": "bob"}
    assert not production.is_management
    assert accounts[HUB].is_management
    assert accounts[HUB].path == ""


def test_accounts_on_every_page_are_found_also_after_an_empty_page(stubs: Stubs) -> None:
    stubs.answer(
        "organizations", "list_accounts", {"Accounts": [{"Id": "2" * 12, "State": "SUSPENDED"}], "NextToken": "a"}
    )
    stubs.answer("organizations", "list_accounts", {"Accounts": [], "NextToken": "b"}, {"NextToken": "a"})
    stubs.answer(
        "organizations", "list_accounts", {"Accounts": [{"Id": "1" * 12, "Status": "ACTIVE"}]}, {"NextToken": "b"}
    )
    stubs.answer("organizations", "describe_organization", {"Organization": {"MasterAccountId": "1" * 12}})
    stubs.answer("organizations", "list_roots", {"Roots": []})
    for _ in range(2):
        stubs.answer("organizations", "list_tags_for_resource", {"Tags": []})
    assert [(a.external_id, a.state) for a in organizations.list_accounts(stubs.api)] == [
        ("1" * 12, "active"),
        ("2" * 12, "suspended"),
    ]


def test_pages_that_repeat_are_not_read_for_ever(stubs: Stubs) -> None:
    for _ in range(2):
        stubs.answer("organizations", "list_accounts", {"Accounts": [], "NextToken": "again"})
    with pytest.raises(Unproven, match="repeats"):
        organizations.list_accounts(stubs.api)


def test_an_account_without_organization_stands_alone(stubs: Stubs) -> None:
    stubs.refuse("organizations", "list_accounts", "AWSOrganizationsNotInUseException")
    assert organizations.list_accounts(stubs.api) == [AccountRecord(HUB, HUB, is_management=True)]


def test_the_check_says_who_we_are_there(org: Org) -> None:
    sentence = AwsConnector(CONFIG).check()
    assert HUB in sentence
    assert "us-east-1" in sentence


# ---- the directory


def directory(org: Org) -> Scan:
    connector = AwsConnector(CONFIG)
    return whole(connector.scan_directory(connector.accounts(), QUIET))


def test_people_groups_and_memberships_are_found(org: Org) -> None:
    group_id = org.add_group("admins", "alice", "bob")
    scan = directory(org)
    alice = principals(scan, "idc_user")["alice"]
    assert alice.external_id == org.people["alice"]
    assert (alice.display_name, alice.email, alice.title) == ("Alice", "alice@example.com", "Engineer")
    assert not alice.is_externally_owned
    assert principals(scan, "idc_group")["admins"].external_id == group_id
    membership = entitlements(scan, "idc_group")["admins"]
    assert membership.makes_external_id == group_id
    assert {(org.people[name], membership.external_id) for name in ("alice", "bob")} <= held(scan)
    assert scan.is_complete
    assert scan.calls > 5


def test_every_permission_set_can_be_held_in_every_account_also_where_nobody_does(org: Org) -> None:
    org.add_permission_set("Reader", session="PT8H", has_guard=False)
    org.assign("Admin", org.people["alice"])
    scan = directory(org)
    pairs = {(record.name, record.account_id) for record in scan.entitlements if record.kind == "permission_set"}
    assert pairs == {(name, account) for name in ("Admin", "Reader") for account in (HUB, org.account_id)}
    reader, admin = entitlements(scan, "permission_set")["Reader"], entitlements(scan, "permission_set")["Admin"]
    assert (reader.session_for, admin.session_for) == (timedelta(hours=8), timedelta(hours=1))
    assert (reader.attributes["has_guard"], admin.attributes["has_guard"]) == (False, True)
    assert held(scan) == {(org.people["alice"], f"{org.permission_sets['Admin']}@{org.account_id}")}


def test_an_assignment_that_aws_lists_twice_is_one_fact(org: Org) -> None:
    for _ in range(2):
        org.assign("Admin", org.people["alice"])
    assert len(directory(org).assignments) == 1


@pytest.mark.usefixtures("_managed_policies")
def test_permission_sets_bring_all_their_documents(org: Org) -> None:
    sso, arn = org.client("sso-admin"), org.add_permission_set("Builder")
    names = {"InstanceArn": org.instance_arn, "PermissionSetArn": arn}
    sso.put_inline_policy_to_permission_set(**names, InlinePolicy=json.dumps(READ))
    sso.attach_managed_policy_to_permission_set(**names, ManagedPolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    sso.attach_customer_managed_policy_reference_to_permission_set(
        **names, CustomerManagedPolicyReference={"Name": "builder", "Path": "/team/"}
    )
    org.iam().create_policy(PolicyName="builder", Path="/team/", PolicyDocument=json.dumps(ADMIN))
    scan = directory(org)
    by_account = {r.account_id: r for r in scan.entitlements if r.name == "Builder"}
    assert [d.name for d in by_account[org.account_id].documents] == ["inline policy", "ReadOnlyAccess", "builder"]
    assert by_account[org.account_id].documents[2].document == ADMIN
    assert [d.name for d in by_account[HUB].documents] == ["inline policy", "ReadOnlyAccess"]
    assert by_account[HUB].attributes["missing_policies"] == ["/team/builder"]


def test_two_scans_of_one_state_are_equal(org: Org) -> None:
    org.add_group("admins", "bob", "alice")
    org.assign("Admin", org.groups["admins"], "GROUP")
    assert directory(org) == directory(org)
    for name in ("zeta", "alpha"):
        org.iam().create_user(UserName=name)
        org.iam().put_user_policy(UserName=name, PolicyName="extra", PolicyDocument=json.dumps(READ))
        org.iam().create_access_key(UserName=name)
    account_scan(org)  # the first one becomes the role there, which costs a call
    assert account_scan(org) == account_scan(org)


def test_a_large_instance_is_asked_only_for_provisioned_pairs(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_center, "SMALL", 1)
    org.assign("Admin", org.people["alice"])
    assert held(directory(org)) == set()
    org.client("sso-admin").provision_permission_set(
        InstanceArn=org.instance_arn,
        PermissionSetArn=org.permission_sets["Admin"],
        TargetType="AWS_ACCOUNT",
        TargetId=org.account_id,
    )
    assert held(directory(org)) == {(org.people["alice"], f"{org.permission_sets['Admin']}@{org.account_id}")}


def test_managers_and_scim_ownership_come_from_the_directory(stubs: Stubs) -> None:
    user = {
        "IdentityStoreId": "d-1",
        "UserId": "u-1",
        "UserArn": f"arn:aws:identitystore:::user/{UNIQUE}",
        "Revision": "1",
        "UserName": "alice\x00\n" + "x" * 500,
        "ExternalIds": [{"Issuer": "https://example.com", "Id": "42"}],
        "Extensions": {"aws:identitystore:enterprise": {"department": "Ops", "manager": {"value": "u-2"}}},
    }
    stubs.answer("identitystore", "list_users", {"Users": [user]})
    read = Reading(stubs.api, QUIET, parts=1)
    list(identity_center._read_people(stubs.api, identity_center.Instance("arn", "d-1"), read))
    (alice,) = read.scan.principals
    assert (alice.manager_external_id, alice.department, alice.is_externally_owned) == ("u-2", "Ops", True)
    odd = Oddities()
    odd.kept([alice], Principal, ["idc_user"])
    assert [*odd.names_cleaned.values(), *odd.names_cut.values()] == [1, 1]
    name = as_rows.principal(alice, None)["name"]
    assert name.startswith("alice xxx")
    assert len(name) == 256


def test_a_part_that_fails_makes_the_scan_incomplete_and_the_rest_is_kept(stubs: Stubs) -> None:
    stubs.answer("sso-admin", "list_instances", {"Instances": [{"InstanceArn": "a" * 10, "IdentityStoreId": "d-1"}]})
    stubs.answer("identitystore", "list_users", {"Users": []})
    stubs.answer("identitystore", "list_groups", {"Groups": [_group("g-1")]})
    stubs.refuse("identitystore", "list_group_memberships", "ThrottlingException")
    stubs.answer("sso-admin", "list_permission_sets", {"PermissionSets": []})
    scan = whole(identity_center.scan_directory(stubs.api, "/jit/jit-guard", [ACCOUNT], QUIET))
    assert [record.name for record in scan.principals] == ["admins"]
    assert not scan.is_complete
    assert len(scan.problems) == 2
    assert "groups and their members" in scan.problems[0]


def test_nothing_at_all_is_an_error_not_an_empty_directory(stubs: Stubs) -> None:
    stubs.answer("sso-admin", "list_instances", {"Instances": []})
    with pytest.raises(Gone, match="us-east-1"):
        whole(identity_center.scan_directory(stubs.api, "/jit/jit-guard", [ACCOUNT], QUIET))


def _group(group_id: str) -> dict[str, Any]:
    return {
        "IdentityStoreId": "d-1",
        "GroupId": group_id,
        "GroupArn": f"arn:aws:identitystore:::group/{UNIQUE}",
        "Revision": "1",
        "DisplayName": "admins",
    }


@pytest.mark.parametrize(
    ("text", "length"),
    [(None, 60), ("PT1H", 60), ("PT12H", 720), ("PT90M", 90), ("P1DT30M", 1470)],
)
def test_session_durations_are_iso_8601(text: str | None, length: int) -> None:
    assert identity_center.parse_duration(text) == timedelta(minutes=length)


def test_a_session_duration_that_is_none_is_an_error() -> None:
    with pytest.raises(ConnectorError, match="none"):
        identity_center.parse_duration("soon")


# ---- one account


def account_scan(org: Org) -> Scan:
    return AwsConnector(CONFIG).scan_account(org.account(), QUIET)


@pytest.mark.usefixtures("_managed_policies")
def test_users_groups_roles_and_their_policies_are_found(org: Org) -> None:
    client = org.iam()
    client.create_user(UserName="deploy", Path="/ci/", Tags=[{"Key": "owner", "Value": "bob"}])
    client.create_group(GroupName="operators")
    client.add_user_to_group(GroupName="operators", UserName="deploy")
    client.create_role(RoleName="batch", AssumeRolePolicyDocument=trust(HUB), MaxSessionDuration=7200, Path="/work/")
    local = client.create_policy(PolicyName="orders", PolicyDocument=json.dumps(READ))["Policy"]["Arn"]
    client.attach_role_policy(RoleName="batch", PolicyArn=local)
    client.attach_group_policy(GroupName="operators", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    client.put_user_policy(UserName="deploy", PolicyName="extra", PolicyDocument=json.dumps(READ))
    scan = account_scan(org)
    arn = f"arn:aws:iam::{org.account_id}"
    user, role = principals(scan, "iam_user")["deploy"], principals(scan, "iam_role")["batch"]
    assert user.external_id == f"{arn}:user/ci/deploy"
    assert user.attributes["tags"] == {"owner": "bob"}
    assert role.attributes["trust"] == json.loads(trust(HUB))
    assert role.attributes["max_session"] == 7200
    assert entitlements(scan, "iam_group")["operators"].makes_external_id == f"{arn}:group/operators"
    assert entitlements(scan, "iam_policy")["orders"].documents[0].document == READ
    assert entitlements(scan, "iam_policy")["AdministratorAccess"].documents[0].document == ADMIN
    assert held(scan) == {
        (f"{arn}:user/ci/deploy", f"membership:{arn}:group/operators"),
        (f"{arn}:user/ci/deploy", f"{arn}:user/ci/deploy#inline/extra"),
        (f"{arn}:group/operators", f"arn:aws:iam::aws:policy/AdministratorAccess@{org.account_id}"),
        (f"{arn}:role/work/batch", f"{local}@{org.account_id}"),
    }
    assert scan.is_complete, scan.problems
    assert {total.name: total.expected for total in scan.totals} == {"Users": 1, "Groups": 1, "Roles": 2, "Policies": 1}


def test_a_local_policy_that_nobody_has_can_still_be_held(org: Org) -> None:
    org.iam().create_policy(PolicyName="orders", PolicyDocument=json.dumps(READ))
    assert "orders" in entitlements(account_scan(org), "iam_policy")


def test_only_the_default_version_counts(org: Org) -> None:
    client = org.iam()
    arn = client.create_policy(PolicyName="orders", PolicyDocument=json.dumps(ADMIN))["Policy"]["Arn"]
    client.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(READ), SetAsDefault=True)
    assert entitlements(account_scan(org), "iam_policy")["orders"].documents[0].document == READ


def test_secrets_are_known_without_being_read(org: Org) -> None:
    client = org.iam()
    client.create_user(UserName="deploy")
    client.create_login_profile(UserName="deploy", Password="a-long-password-9A")
    key = client.create_access_key(UserName="deploy")["AccessKey"]
    client.create_user(UserName="nobody")
    scan = account_scan(org)
    arn = f"arn:aws:iam::{org.account_id}:user/deploy"
    found = {(c.principal_external_id, c.kind, c.external_id, c.is_active) for c in scan.credentials}
    assert found == {(arn, "password", "password", True), (arn, "access_key", key["AccessKeyId"], True)}
    assert key["SecretAccessKey"] not in repr(scan)


def test_the_portals_and_identity_centers_own_roles_are_marked(org: Org) -> None:
    client = org.iam()
    client.create_role(RoleName="PortalReader", Path="/portal/", AssumeRolePolicyDocument=trust(HUB))
    reserved = "AWSReservedSSO_Admin_0123456789abcdef"
    client.create_role(RoleName=reserved, Path="/aws-reserved/sso.amazonaws.com/", AssumeRolePolicyDocument=trust(HUB))
    client.put_role_policy(RoleName=reserved, PolicyName="AwsSSOInlinePolicy", PolicyDocument=json.dumps(READ))
    scan = account_scan(org)
    roles = principals(scan, "iam_role")
    assert roles["PortalReader"].attributes["is_portal"]
    assert roles[reserved].attributes["is_reserved"]
    assert not roles[reserved].attributes["is_portal"]
    assert [a.attributes for a in scan.assignments] == [{"is_reserved": True}]


def dated(operator: str = "DateLessThan", until: Any = None, **more: Any) -> dict[str, Any]:
    """What a grant for an hour writes, unless told otherwise."""
    until = until or f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    statement = {"Sid": "Allow0123456789ab", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    statement |= {"Condition": {operator: {"aws:CurrentTime": until}}, **more}
    return {
        "Version": "2012-10-17",
        "Statement": [{key: value for key, value in statement.items() if value is not None}],
    }


FORGED = {
    "undated": ADMIN,
    "always": dated("DateGreaterThan", "2000-01-01T00:00:00Z"),
    "far": dated("DateLessThan", "9999-01-01T00:00:00Z"),
    "next week": dated("DateLessThan", f"{datetime.now(UTC) + timedelta(days=7):%Y-%m-%dT%H:%M:%SZ}"),
    "either": dated("DateLessThan", ["2020-01-01T00:00:00Z", "9999-01-01T00:00:00Z"]),
    "not then": dated("DateNotEquals", "2000-01-01T00:00:00Z"),
    "if exists": dated("DateLessThanIfExists"),
    "for all": dated("ForAllValues:DateLessThan"),
    "no date": dated("DateLessThan", "soon"),
    "issued": dated(Condition={"DateLessThan": {"aws:TokenIssueTime": "2020-01-01T00:00:00Z"}}),
    "unnamed": dated(Sid=None),
    "misnamed": dated(Sid="Deny0123456789ab"),
    "all but": dated(Action=None, NotAction="s3:GetObject"),
    "everywhere but": dated(Resource=None, NotResource="arn:aws:s3:::none"),
    "and more": {"Version": "2012-10-17", "Statement": [*dated()["Statement"], *ADMIN["Statement"]]},
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_policy_that_lasts_longer_than_a_grant_is_not_ours(forgery: str) -> None:
    assert not iam.is_dated(FORGED[forgery], datetime.now(UTC))


def test_what_grants_wrote_is_ours_by_shape_not_by_name(org: Org) -> None:
    client = org.iam()
    org.add_guard()
    forged = client.create_policy(PolicyName="forged", Path="/jit/", PolicyDocument=json.dumps(ADMIN))["Policy"]["Arn"]
    client.create_role(RoleName="batch", AssumeRolePolicyDocument=trust(HUB))
    client.attach_role_policy(RoleName="batch", PolicyArn=forged)
    client.put_role_policy(RoleName="batch", PolicyName="gatehouse-jit", PolicyDocument=json.dumps(dated()))
    forgeries = {  # who → the policy's name and what it says
        "mallory": ("gatehouse-jit", FORGED["undated"]),
        "always": ("gatehouse-jit", FORGED["always"]),
        "far": ("gatehouse-jit", FORGED["far"]),
        "longer-name": ("gatehouse-jit-2", dated()),
        "other-case": ("Gatehouse-JIT", dated()),
    }
    for who, (name, document) in forgeries.items():
        client.create_role(RoleName=who, AssumeRolePolicyDocument=trust(HUB))
        client.put_role_policy(RoleName=who, PolicyName=name, PolicyDocument=json.dumps(document))
    scan = account_scan(org)
    policies = entitlements(scan, "iam_policy")
    assert policies["jit-guard"].attributes["is_ours"]
    assert "is_ours" not in policies["forged"].attributes
    ours = {a.principal_external_id.rpartition("/")[2] for a in scan.assignments if a.attributes.get("is_ours")}
    assert ours == {"batch"}
    assert all([note for note in scan.notes if f"/{who} " in note and "Look at it" in note] for who in forgeries)


def test_details_on_every_page_are_read(stubs: Stubs) -> None:
    stubs.answer(
        "iam", "get_account_authorization_details", {"UserDetailList": [_user("a")], "IsTruncated": True, "Marker": "2"}
    )
    stubs.answer(
        "iam",
        "get_account_authorization_details",
        {"UserDetailList": [_user("b")], "IsTruncated": False},
        {"Filter": iam.KINDS, "MaxItems": 1000, "Marker": "2"},
    )
    details = iam.Details()
    iam._read_details(stubs.api, ACCOUNT.external_id, details)
    assert [user["UserName"] for user in details.users] == ["a", "b"]


@pytest.mark.parametrize("marker", [{"Marker": "2"}, {}])
def test_a_marker_that_repeats_or_is_missing_is_not_the_end(stubs: Stubs, marker: dict[str, str]) -> None:
    for _ in range(2 if marker else 1):
        stubs.answer("iam", "get_account_authorization_details", {"IsTruncated": True, **marker})
    with pytest.raises(Unproven):
        iam._read_details(stubs.api, ACCOUNT.external_id, iam.Details())


def _user(name: str, **fields: Any) -> dict[str, Any]:
    arn = f"arn:aws:iam::111122223333:user/{name}"
    return {"UserName": name, "UserId": "AIDAEXAMPLEEXAMPLE", "Arn": arn, "Path": "/", "CreateDate": WHEN, **fields}


HEADER = (
    "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,"
    "mfa_active,access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,access_key_1_last_used_region,"
    "access_key_1_last_used_service,access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date\n"
)
ROOT_LINE = (
    "<root_account>,arn:aws:iam::111122223333:root,2020-01-01T00:00:00+00:00,not_supported,2030-12-01T00:00:00+00:00,"
    "not_supported,not_supported,true,true,2021-01-01T00:00:00+00:00,N/A,N/A,N/A,false,N/A,N/A\n"
)


def answer_account(
    stubs: Stubs,
    *users: dict[str, Any],
    says: int | None = None,
    report: str = HEADER,
    made_at: datetime | None = None,
    keys_of: int | None = None,
) -> None:
    """What AWS says of an account with these users; `keys_of` so many of them it is asked for keys."""
    stubs.answer("iam", "get_account_authorization_details", {"UserDetailList": list(users)})
    stubs.answer("iam", "generate_credential_report", {"State": "STARTED"})
    stubs.answer("iam", "list_roles", {"Roles": []})
    stubs.answer("iam", "generate_credential_report", {"State": "COMPLETE"})
    made = {"GeneratedTime": made_at} if made_at else {}
    stubs.answer("iam", "get_credential_report", {"Content": report.encode(), **made})
    for _ in users[:keys_of]:
        stubs.answer("iam", "list_access_keys", {"AccessKeyMetadata": []})
    summary = {"Users": len(users) if says is None else says, "Groups": 0, "Roles": 0, "Policies": 0}
    stubs.answer("iam", "get_account_summary", {"SummaryMap": summary})


def test_a_control_total_that_disagrees_makes_the_scan_incomplete(stubs: Stubs) -> None:
    answer_account(stubs, _user("a"), says=2)
    scan = iam.scan_account(stubs.api, [], ACCOUNT, QUIET)
    assert not scan.problems
    assert not scan.is_complete


def test_a_row_that_is_shown_twice_does_not_stand_for_one_that_is_missing(stubs: Stubs) -> None:
    answer_account(stubs, _user("a"), _user("a"), says=2)
    assert not iam.scan_account(stubs.api, [], ACCOUNT, QUIET).is_complete


def test_the_roots_secrets_belong_to_a_principal_of_its_own(stubs: Stubs) -> None:
    answer_account(stubs, report=HEADER + ROOT_LINE)
    scan = iam.scan_account(stubs.api, [], ACCOUNT, QUIET)
    (root,) = scan.principals
    assert (root.kind, root.external_id) == ("iam_root", "arn:aws:iam::111122223333:root")
    assert root.last_used_at == datetime(2030, 12, 1, tzinfo=UTC)
    assert {(c.kind, c.is_active) for c in scan.credentials} == {("password", True), ("mfa", True), ("root_key", True)}


def test_signing_certificates_are_credentials() -> None:
    arn = "arn:aws:iam::111122223333:user/a"
    made = "2021-01-01T00:00:00+00:00"
    cells = {
        "cert_1_active": "true",
        "cert_1_last_rotated": made,
        "cert_2_active": "false",
        "cert_2_last_rotated": "N/A",
    }
    report = credentials.Report(rows={arn: credentials.Row(arn, {"user": "a", **cells})})
    (found,) = credentials.records_of(report, [arn])
    assert (found.kind, found.is_active, found.created_at) == ("certificate", True, datetime.fromisoformat(made))
    assert found.kind in STATIC


def test_waiting_for_the_report_has_an_end(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(credentials.time, "sleep", waits.append)
    for _ in range(credentials.MOST_POLLS):
        stubs.answer("iam", "generate_credential_report", {"State": "INPROGRESS"})
    with pytest.raises(ConnectorError, match="credential report"):
        credentials.read_report(stubs.api, ACCOUNT.external_id)
    assert len(waits) == credentials.MOST_POLLS


def test_an_account_that_lets_nobody_in_raises(stubs: Stubs) -> None:
    stubs.refuse("iam", "get_account_authorization_details", "AccessDenied", 403)
    with pytest.raises(Denied):
        iam.scan_account(stubs.api, [], ACCOUNT, QUIET)


def test_a_membership_in_a_group_that_was_not_listed_is_a_problem(stubs: Stubs) -> None:
    answer_account(stubs, _user("a", GroupList=["made-meanwhile"]))
    scan = iam.scan_account(stubs.api, [], ACCOUNT, QUIET)
    assert [problem for problem in scan.problems if "made-meanwhile" in problem]


def test_a_malformed_document_survives_until_somebody_is_told(stubs: Stubs) -> None:
    answer_account(stubs, _user("a", UserPolicyList=[{"PolicyName": "broken", "PolicyDocument": "not json"}]))
    scan = iam.scan_account(stubs.api, [], ACCOUNT, QUIET)
    assert entitlements(scan, "iam_inline_policy")["broken"].documents[0].document == "not json"
    assert scan.is_complete
