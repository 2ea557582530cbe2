"""A sandbox account of a real organization: clients in it, what a test builds there, and waiting with an end."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.exceptions import ClientError, SSOTokenLoadError
from botocore.utils import JSONFileCache, SSOTokenLoader

PATH = "/gatehouse-live/"
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
DEAD = {*DENIED, "InvalidClientTokenId", "ExpiredToken", "UnrecognizedClientException", "AuthFailure"}
GONE = {"NoSuchEntity", "ResourceNotFoundException", "InvalidGroup.NotFound", "InvalidPermission.NotFound"}

Found = TypeVar("Found")

measurements: list[tuple[str, float]] = []


@dataclass
class Sandbox:
    """`hub` is the account of the credentials (delegated administrator of Identity Center), `account_id` the sandbox."""

    account_id: str
    region: str
    admin_role: str
    user_id: str = ""
    sso_session: str = ""
    enforces: bool = True  # False with moto: nothing is ever denied and no schedule ever fires
    name: str = field(default_factory=lambda: f"ghlive{secrets.token_hex(5)}")
    _undo: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def from_environment(cls) -> Sandbox:
        account_id = os.environ.get("LIVE_ACCOUNT", "")
        if not os.environ.get("GATEHOUSE_LIVE"):
            pytest.skip("only `make test-live` runs this")
        if not account_id:
            pytest.skip("LIVE_ACCOUNT is not set: no sandbox account (docs/live.md)")
        try:
            boto3.client("sts").get_caller_identity()
        except Exception as error:
            pytest.skip(f"AWS does not take the credentials of the environment: {error}")
        role = os.environ.get("LIVE_ADMIN_ROLE", "OrganizationAccountAccessRole")
        return cls(
            account_id=account_id,
            region=os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION", "us-east-1"),
            admin_role=f"arn:aws:iam::{account_id}:role/{role}",
            user_id=os.environ.get("LIVE_USER_ID", ""),
            sso_session=os.environ.get("LIVE_SSO_SESSION", ""),
            enforces=os.environ["GATEHOUSE_LIVE"] != "moto",
        )

    # ---- clients

    def hub(self, service: str) -> Any:
        return boto3.client(service, region_name=self.region)  # type: ignore[call-overload]

    def there(self, service: str) -> Any:
        """As an administrator of the sandbox."""
        return self.as_keys(service, self.assume(self.admin_role))

    def as_keys(self, service: str, keys: Mapping[str, str]) -> Any:
        return boto3.client(service, region_name=self.region, **keys)  # type: ignore[call-overload]

    def assume(self, role_arn: str, keys: Mapping[str, str] | None = None, **more: Any) -> dict[str, str]:
        sts = self.as_keys("sts", keys or {})
        made = sts.assume_role(RoleArn=role_arn, RoleSessionName=self.name, **more)["Credentials"]
        return _keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    def person(self, permission_set: str) -> dict[str, str]:
        """A session of the signed-in test person in the sandbox, through Identity Center."""
        if not self.enforces:
            pytest.skip("moto signs nobody in: built and taken down, not proved")
        region, token = signed_in(self.sso_session)
        portal = boto3.client("sso", region_name=region)

        def ask() -> Any:
            try:
                return portal.get_role_credentials(
                    roleName=permission_set, accountId=self.account_id, accessToken=token
                )["roleCredentials"]
            except ClientError as error:
                if code(error) in {"ForbiddenException", "ResourceNotFoundException"}:
                    return None
                if code(error) == "UnauthorizedException":
                    pytest.skip(f"Sign in again with aws sso login --sso-session {self.sso_session}")
                raise

        found = until(ask, within=180, what=f"the test person can use {permission_set}")
        return _keys(found["accessKeyId"], found["secretAccessKey"], found["sessionToken"])

    @property
    def hub_id(self) -> str:
        return str(self.hub("sts").get_caller_identity()["Account"])

    def instance(self) -> tuple[str, str]:
        """ARN of the Identity Center instance, and its identity store."""
        found = self.hub("sso-admin").list_instances()["Instances"]
        if not found:
            pytest.skip(f"No Identity Center in {self.region} for these credentials")
        return found[0]["InstanceArn"], found[0]["IdentityStoreId"]

    def require_person(self) -> str:
        if not self.user_id:
            pytest.skip("LIVE_USER_ID is not set: no test person of Identity Center")
        return self.user_id

    def require_enforcement(self) -> None:
        """Call this where AWS has to do something by itself."""
        if not self.enforces:
            pytest.skip("moto enforces nothing: built and taken down, not proved")

    # ---- building

    def later(self, undo: Callable[..., Any], **words: Any) -> None:
        """Have it undone at the end. Gone already is fine; anything else that fails is told, after the rest was undone."""

        def run() -> None:
            try:
                undo(**words)
            except ClientError as error:
                if code(error) not in GONE:
                    raise

        self._undo.callback(run)

    def close(self) -> None:
        self._undo.close()

    def role(self, trust: Any, policies: Mapping[str, Any], *, suffix: str = "", in_hub: bool = False) -> str:
        """A role with inline policies; its ARN."""
        iam = self.hub("iam") if in_hub else self.there("iam")
        name = f"{self.name}{suffix}"
        made = iam.create_role(
            RoleName=name, Path=PATH, AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=3600
        )
        self.later(iam.delete_role, RoleName=name)
        for policy, document in policies.items():
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
            self.later(iam.delete_role_policy, RoleName=name, PolicyName=policy)
        return str(made["Role"]["Arn"])

    def own_role(self, policies: Mapping[str, Any], *, suffix: str = "") -> str:
        """A role of the sandbox that its administrator assumes."""
        return self.role(trust_of(self.admin_role), policies, suffix=suffix)

    def policy(self, document: Any) -> str:
        """A customer-managed policy in the sandbox; its ARN."""
        iam = self.there("iam")
        made = iam.create_policy(PolicyName=self.name, Path=PATH, PolicyDocument=json.dumps(document))["Policy"]

        def delete() -> bool:
            try:
                iam.delete_policy(PolicyArn=made["Arn"])
            except ClientError as error:  # Identity Center takes its role away a little later than the assignment
                if code(error) == "DeleteConflict":
                    return False
                raise
            return True

        self.later(lambda: until(delete, within=180, what="the policy is used by nobody"))

        def drop_versions() -> None:
            for version in iam.list_policy_versions(PolicyArn=made["Arn"])["Versions"]:
                if not version["IsDefaultVersion"]:
                    iam.delete_policy_version(PolicyArn=made["Arn"], VersionId=version["VersionId"])

        self.later(drop_versions)
        return str(made["Arn"])

    def permission_set(self, inline: Any, *, guard: str = "") -> str:
        """A permission set of one hour; its ARN. `guard`: the name of a customer-managed policy under `PATH`."""
        sso, (instance, _) = self.hub("sso-admin"), self.instance()
        made = sso.create_permission_set(InstanceArn=instance, Name=self.name, SessionDuration="PT1H")
        words = {"InstanceArn": instance, "PermissionSetArn": made["PermissionSet"]["PermissionSetArn"]}
        self.later(sso.delete_permission_set, **words)
        sso.put_inline_policy_to_permission_set(**words, InlinePolicy=json.dumps(inline))
        if guard:
            sso.attach_customer_managed_policy_reference_to_permission_set(
                **words, CustomerManagedPolicyReference={"Name": guard, "Path": PATH}
            )
        return words["PermissionSetArn"]

    def assignment(self, permission_set: str) -> dict[str, str]:
        """The permission set for the test person in the sandbox, opened; what names it."""
        sso, (instance, _) = self.hub("sso-admin"), self.instance()
        words = {
            "InstanceArn": instance,
            "TargetId": self.account_id,
            "TargetType": "AWS_ACCOUNT",
            "PermissionSetArn": permission_set,
            "PrincipalType": "USER",
            "PrincipalId": self.require_person(),
        }
        request = sso.create_account_assignment(**words)["AccountAssignmentCreationStatus"]["RequestId"]
        self.later(self.unassign, words=words)
        until(
            lambda: _ended(
                sso.describe_account_assignment_creation_status(
                    InstanceArn=instance, AccountAssignmentCreationRequestId=request
                )["AccountAssignmentCreationStatus"]
            ),
            within=180,
            what="the assignment is made",
        )
        return words

    def unassign(self, words: Mapping[str, str]) -> None:
        """Delete the assignment and wait until it is gone; nothing to do where it is gone already."""
        sso = self.hub("sso-admin")
        if not self.is_assigned(words):
            return
        sso.delete_account_assignment(**words)
        until(lambda: not self.is_assigned(words), within=180, what="the assignment is gone")

    def is_assigned(self, words: Mapping[str, str]) -> bool:
        found = self.hub("sso-admin").list_account_assignments(
            InstanceArn=words["InstanceArn"], AccountId=words["TargetId"], PermissionSetArn=words["PermissionSetArn"]
        )["AccountAssignments"]
        return words["PrincipalId"] in {one["PrincipalId"] for one in found}


def signed_in(name: str) -> tuple[str, str]:
    """The Region and the token that `aws sso login --sso-session NAME` left behind."""
    config = boto3.Session()._session.full_config.get("sso_sessions", {}).get(name)
    if not config:
        pytest.skip("LIVE_SSO_SESSION is not set or unknown: nobody is signed in (aws sso login --sso-session NAME)")
    cache = JSONFileCache(str(Path("~/.aws/sso/cache").expanduser()))
    try:
        return config["sso_region"], SSOTokenLoader(cache)(config["sso_start_url"], session_name=name)["accessToken"]
    except SSOTokenLoadError as error:
        pytest.skip(f"Sign in with aws sso login --sso-session {name} first: {error}")


# ---- documents


def document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def deny(**condition: Any) -> dict[str, Any]:
    """A Deny of everything, under a condition."""
    return {"Effect": "Deny", "Action": "*", "Resource": "*", **({"Condition": condition} if condition else {})}


def trust_of(arn: str, *, actions: tuple[str, ...] = ("sts:AssumeRole",), **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": list(actions)}
    return document({**statement, **({"Condition": condition} if condition else {})})


# ---- waiting


def until(ask: Callable[[], Found], *, within: float, what: str, every: float = 1.0) -> Found:
    """Ask until the answer is true, and give it back. Fails after `within` seconds."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        found = ask()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {within:.0f} s: {what}")


def measure(name: str, ask: Callable[[], Any], *, within: float) -> float:
    """How long it took until the answer was true, in seconds; reported at the end of the run."""
    start = time.monotonic()
    until(ask, within=within, what=name, every=0.5)
    measurements.append((name, time.monotonic() - start))
    return measurements[-1][1]


def is_allowed(client: Any, dead: frozenset[str] | set[str] = frozenset(DENIED)) -> bool:
    """Whether a session may read the account's summary, which every test allows. (GetCallerIdentity is never denied.)"""
    try:
        client.get_account_summary()
    except ClientError as error:
        if code(error) in dead:
            return False
        raise
    return True


def code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def now() -> datetime:
    return datetime.now(UTC)


def _keys(key: str, secret: str, token: str) -> dict[str, str]:
    return {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token}


def _ended(status: Mapping[str, Any]) -> bool:
    assert status["Status"] != "FAILED", status.get("FailureReason")
    return status["Status"] == "SUCCEEDED"
