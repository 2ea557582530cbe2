"""A small organization in the test's AWS, built through an independent client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from botocore.stub import Stubber

from apps.connectors.aws import managed_policies
from apps.connectors.aws import session as aws_session
from apps.connectors.aws.session import Api, Hub, Role
from apps.connectors.base import AccountRecord, Progress, Scan
from tests.plugins.aws import Aws

CONFIG = {
    "region": "us-east-1",
    "reader_role": "portal/PortalReader",
    "provisioner_role": "portal/PortalProvisioner",
    "remover_role": "portal/PortalRemover",
    "external_id": "an-external-id",
    "ender_role": "portal/PortalEnder",
    "broker_role": "portal/PortalBroker",
    "guard_policy": "/jit/jit-guard",
    "boundary_policy": "/jit/JitBoundary",
    "schedule_group": "jit",
    "schedule_role": "portal/PortalScheduler",
    "ender_function": "portal-ender",
    "entry_permission_set": "JitBase",
    "stop_policy": "GatehouseStop",
    "source_identity": "portal-gatehouse",
}
HUB = "123456789012"
READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
RESTING = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "Anchor",
            "Effect": "Deny",
            "Action": "*",
            "Resource": "*",
            "Condition": {"DateLessThan": {"aws:CurrentTime": "2000-01-01T00:00:00Z"}},
        }
    ],
}


def trust(account_id: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account_id}:root"},
        "Action": "sts:AssumeRole",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def quiet(done: int, of: int, what: str) -> None:
    """Progress nobody watches."""


QUIET: Progress = quiet


def whole(parts: Iterable[Scan]) -> Scan:
    """The parts of a scan as one."""
    scan = Scan()
    for part in parts:
        for name in ("principals", "entitlements", "assignments", "credentials", "totals", "problems", "notes"):
            getattr(scan, name).extend(getattr(part, name))
        scan.calls += part.calls
    return scan


@dataclass
class Org:
    """Clients of an independent observer, and the ids of what was built."""

    aws: Aws
    account_id: str  # production
    instance_arn: str
    store_id: str
    people: dict[str, str] = field(default_factory=dict)
    permission_sets: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self.aws.client(service)
        return self._clients[service]

    def iam(self, account_id: str = "") -> Any:
        """IAM inside an account, as an administrator there."""
        return self.client_in(account_id or self.account_id, "iam")

    def client_in(self, account_id: str, service: str) -> Any:
        """A service inside an account, as an administrator there."""
        name = f"{service} {account_id}"
        if name not in self._clients:
            self._clients[name] = self._assumed(account_id, service)
        return self._clients[name]

    def _assumed(self, account_id: str, service: str) -> Any:
        keys = self.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{account_id}:role/Observer", RoleSessionName="observer"
        )["Credentials"]
        return self.aws.client(
            service,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )

    def account(self, account_id: str = "", name: str = "production") -> AccountRecord:
        return AccountRecord(account_id or self.account_id, name)

    def add_person(self, name: str) -> str:
        made = self.client("identitystore").create_user(
            IdentityStoreId=self.store_id,
            UserName=name,
            DisplayName=name.title(),
            Name={"GivenName": name.title(), "FamilyName": "Example"},
            Emails=[{"Value": f"{name}@example.com", "Primary": True}],
            Title="Engineer",
        )
        self.people[name] = made["UserId"]
        return self.people[name]

    def add_group(self, name: str, *members: str) -> str:
        store = self.client("identitystore")
        self.groups[name] = store.create_group(IdentityStoreId=self.store_id, DisplayName=name)["GroupId"]
        for member in members:
            store.create_group_membership(
                IdentityStoreId=self.store_id, GroupId=self.groups[name], MemberId={"UserId": self.people[member]}
            )
        return self.groups[name]

    def add_permission_set(self, name: str, *, session: str = "PT1H", has_guard: bool = True) -> str:
        sso = self.client("sso-admin")
        made = sso.create_permission_set(InstanceArn=self.instance_arn, Name=name, SessionDuration=session)
        arn: str = made["PermissionSet"]["PermissionSetArn"]
        if has_guard:
            sso.attach_customer_managed_policy_reference_to_permission_set(
                InstanceArn=self.instance_arn,
                PermissionSetArn=arn,
                CustomerManagedPolicyReference={"Name": "jit-guard", "Path": "/jit/"},
            )
        self.permission_sets[name] = arn
        return arn

    def assign(self, permission_set: str, principal_id: str, kind: str = "USER", account_id: str = "") -> None:
        self.client("sso-admin").create_account_assignment(
            InstanceArn=self.instance_arn,
            TargetId=account_id or self.account_id,
            TargetType="AWS_ACCOUNT",
            PermissionSetArn=self.permission_sets[permission_set],
            PrincipalType=kind,
            PrincipalId=principal_id,
        )

    def assignments(self, permission_set: str, account_id: str = "") -> list[str]:
        """The principals that AWS says hold it, doubles included."""
        found = self.client("sso-admin").list_account_assignments(
            InstanceArn=self.instance_arn,
            AccountId=account_id or self.account_id,
            PermissionSetArn=self.permission_sets[permission_set],
        )
        return [assignment["PrincipalId"] for assignment in found["AccountAssignments"]]

    def add_guard(self, account_id: str = "") -> str:
        made = self.iam(account_id).create_policy(
            PolicyName="jit-guard", Path="/jit/", PolicyDocument=json.dumps(RESTING)
        )
        arn: str = made["Policy"]["Arn"]
        return arn

    def add_scheduling(self, account_id: str = "") -> None:
        """What our stack deploys for AWS's scheduler: a group for our schedules, and the role it ends things as."""
        account_id = account_id or self.account_id
        self.client_in(account_id, "scheduler").create_schedule_group(Name="jit")
        self.iam(account_id).create_role(RoleName="PortalScheduler", Path="/portal/", AssumeRolePolicyDocument="{}")

    def guard(self, account_id: str = "") -> dict[str, Any]:
        """The guard's document that is in force."""
        iam = self.iam(account_id)
        arn = f"arn:aws:iam::{account_id or self.account_id}:policy/jit/jit-guard"
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document: dict[str, Any] = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return document


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "false")  # each account would cost seconds
    aws_session.forget_sessions()
    managed_policies.forget()
    yield
    aws_session.forget_sessions()


@pytest.fixture
def _managed_policies(_credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of AWS's own policies exist in this test."""
    from moto.iam import models

    few = {name: aws_policies()[name] for name in ("AdministratorAccess", "ReadOnlyAccess")}
    monkeypatch.setattr(models, "aws_managed_policies_data", json.dumps(few))
    monkeypatch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")


@cache
def aws_policies() -> dict[str, Any]:
    """AWS's own policies by name, as the test's AWS knows them."""
    from moto.iam import models

    policies: dict[str, Any] = json.loads(models.aws_managed_policies_data)
    return policies


@pytest.fixture
def org(aws: Aws) -> Org:
    """The management account (which is ours) and production, with Alice and Bob and a guarded permission set."""
    organizations = aws.client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    made = organizations.create_account(AccountName="production", Email="production@example.com")
    instance = aws.client("sso-admin").list_instances()["Instances"][0]
    org = Org(aws, made["CreateAccountStatus"]["AccountId"], instance["InstanceArn"], instance["IdentityStoreId"])
    org.add_person("alice")
    org.add_person("bob")
    org.add_permission_set("Admin")
    return org


class StubbedSession:
    """A session whose clients answer only what a test wrote down, for what the test's AWS cannot do."""

    def __init__(self, clients: dict[str, Any]) -> None:
        self.config = CONFIG
        self._clients = clients

    def hub(self) -> Hub:
        return Hub(HUB, f"arn:aws:iam::{HUB}:user/gatehouse")

    def client(self, account_id: str, service: str, role: Role) -> Any:
        return self._clients[service]

    def drop(self, account_id: str, role: Role) -> None:
        pass


@dataclass
class Stubs:
    """Stubbers by service, and an Api over their clients."""

    stubbers: dict[str, Stubber]
    api: Api

    def answer(self, service: str, operation: str, answer: dict[str, Any], asked: dict[str, Any] | None = None) -> None:
        self.stubbers[service].add_response(operation, answer, asked)

    def refuse(self, service: str, operation: str, code: str, status: int = 400) -> None:
        self.stubbers[service].add_client_error(operation, code, "so AWS says", status)


@pytest.fixture
def stubs() -> Iterator[Stubs]:
    import boto3

    names = ("iam", "sso-admin", "identitystore", "organizations", "sts", "scheduler", "lambda")
    clients = {name: boto3.client(name, region_name="us-east-1") for name in names}  # type: ignore[call-overload]
    stubbers = {name: Stubber(client) for name, client in clients.items()}
    for stubber in stubbers.values():
        stubber.activate()
    session: Any = StubbedSession(clients)
    yield Stubs(stubbers, Api(session, "reader_role"))
    for stubber in stubbers.values():
        stubber.assert_no_pending_responses()
