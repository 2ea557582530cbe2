"""The live suite against moto: what it builds can be built, and nothing of it stays. moto proves none of its claims."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha1
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.live.sandbox import signed_in
from tests.plugins.aws import Aws

PROJECT = Path(__file__).resolve().parents[2]
SUITE = ["-c", "tests/live/pytest.ini", "--rootdir=.", "--confcutdir=tests/live", "tests/live"]
ENFORCES = "moto enforces nothing: built and taken down, not proved"
SIGNS_IN = "moto signs nobody in: built and taken down, not proved"

# What moto can answer itself.
PASSES = {"test_how_long_an_assignment_takes"}
# What stops where somebody would have to sign in. All others stop where AWS would have to enforce something.
PERSONAL = {
    "test_a_guard_takes_effect_without_provisioning_the_permission_set_again",
    "test_a_guard_for_somebody_else_leaves_the_person_alone",
    "test_a_trust_can_ask_for_the_person",
    "test_the_role_of_a_permission_set_goes_with_its_last_assignment_and_its_sessions_with_it",
}


def run(folder: Path, environment: dict[str, str], *arguments: str) -> dict[str, str]:
    """Run the live suite in a process of its own: by test, "passed", or why it was skipped or failed."""
    report = folder / "report.xml"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LIVE_", "GATEHOUSE_LIVE"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *SUITE, "-q", f"--junitxml={report}", *arguments],
        env=clean | environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert report.exists(), done.stdout + done.stderr
    return {str(case.get("name")): _outcome(case) for case in ET.parse(report).iter("testcase")}


def _outcome(case: Any) -> str:
    for word in ("error", "failure", "skipped"):
        found = case.find(word)
        if found is not None:
            return str(found.get("message") if word == "skipped" else f"{word}: {found.text}")
    return "passed"


@pytest.fixture
def sandbox(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An organization with an account, a person and a group, as the live suite's variables name them."""
    organizations = aws.client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    account_id = organizations.create_account(AccountName="sandbox", Email="sandbox@example.com")
    store_id = aws.client("sso-admin").list_instances()["Instances"][0]["IdentityStoreId"]
    store = aws.client("identitystore")
    user_id = store.create_user(
        IdentityStoreId=store_id, UserName="alice", DisplayName="Alice", Name={"GivenName": "A", "FamilyName": "E"}
    )["UserId"]
    group_id = store.create_group(IdentityStoreId=store_id, DisplayName="from-scim")["GroupId"]
    return {
        "GATEHOUSE_LIVE": "moto",
        "AWS_ENDPOINT_URL": aws.url,
        "LIVE_ACCOUNT": account_id["CreateAccountStatus"]["AccountId"],
        "LIVE_USER_ID": user_id,
        "LIVE_SCIM_GROUP_ID": group_id,
    }


def test_everything_that_the_live_suite_builds_can_be_built_and_nothing_stays(
    aws: Aws, sandbox: dict[str, str], tmp_path: Path
) -> None:
    outcomes = run(tmp_path, sandbox)
    assert len(outcomes) >= 20
    wanted = {name: "passed" if name in PASSES else SIGNS_IN if name in PERSONAL else ENFORCES for name in outcomes}
    assert outcomes == wanted
    assert _left(aws, sandbox["LIVE_ACCOUNT"]) == []


def _left(aws: Aws, account_id: str) -> list[str]:
    """What a live test would have left behind, in the hub and in the sandbox."""
    role = f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole"
    given = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="observer")["Credentials"]
    keys = {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
    found: list[Any] = []
    for more in ({}, keys):
        iam, scheduler = aws.client("iam", **more), aws.client("scheduler", **more)
        found += [one for one in iam.list_roles()["Roles"] if one["Path"] == "/gatehouse-live/"]
        found += iam.list_policies(Scope="Local")["Policies"]
        found += iam.list_users()["Users"] + iam.list_groups()["Groups"]
        found += [one for one in scheduler.list_schedule_groups()["ScheduleGroups"] if one["Name"] != "default"]
        found += scheduler.list_schedules()["Schedules"]
    instance = aws.client("sso-admin").list_instances()["Instances"][0]
    found += aws.client("sso-admin").list_permission_sets(InstanceArn=instance["InstanceArn"])["PermissionSets"]
    listed = aws.client("identitystore").list_groups(IdentityStoreId=instance["IdentityStoreId"])["Groups"]
    found += [one for one in listed if one["DisplayName"] != "from-scim"]
    ec2 = aws.client("ec2", **keys)
    found += [one for one in ec2.describe_security_groups()["SecurityGroups"] if one["GroupName"] != "default"]
    return [json.dumps(one, default=str) for one in found]


def test_the_test_person_is_whoever_the_command_line_signed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the AWS command line keeps the token of a session, and under which name."""
    home = tmp_path / ".aws"
    (home / "sso" / "cache").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    start = "https://example.awsapps.com/start"
    (home / "config").write_text(f"[sso-session me]\nsso_start_url = {start}\nsso_region = eu-west-1\n")
    with pytest.raises(pytest.skip.Exception, match="aws sso login --sso-session me first"):
        signed_in("me")
    token = {"accessToken": "a-token", "expiresAt": "2031-03-05T09:00:00Z"}
    (home / "sso" / "cache" / f"{sha1(b'me').hexdigest()}.json").write_text(json.dumps(token))
    assert signed_in("me") == ("eu-west-1", "a-token")
    with pytest.raises(pytest.skip.Exception, match="not set or unknown"):
        signed_in("somebody")


def test_without_a_sandbox_every_live_test_says_what_it_lacks(tmp_path: Path) -> None:
    outcomes = run(tmp_path, {"GATEHOUSE_LIVE": "1"})
    assert len(outcomes) >= 20
    assert all("LIVE_ACCOUNT is not set" in outcome for outcome in outcomes.values())


def test_ordinary_runs_collect_no_live_test() -> None:
    ignored = (PROJECT / "tests/live/conftest.py").read_text()
    assert 'if os.environ.get("GATEHOUSE_LIVE")' in ignored
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *SUITE],
        env={name: value for name, value in os.environ.items() if name != "GATEHOUSE_LIVE"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "no tests collected" in done.stdout, done.stdout


def test_the_page_names_every_live_test_and_no_other() -> None:
    page = (PROJECT / "docs" / "live.md").read_text()
    tests = {
        line.removeprefix("def ").partition("(")[0]
        for path in (PROJECT / "tests" / "live").glob("test_*.py")
        for line in path.read_text().splitlines()
        if line.startswith("def test_")
    }
    named = {word.strip("`") for word in page.split() if word.startswith("`test_")}
    assert named == tests
