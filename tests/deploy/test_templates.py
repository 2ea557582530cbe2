"""The templates are valid, name things as the portal does, and fit AWS's limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from moto.iam import models

from apps.connectors.aws import changes, guard, jit_documents, sts_broker
from apps.connectors.aws.policy.documents import canonical, parse
from apps.connectors.aws.privilege import NamedDocument, privilege_of
from apps.inventory.models import Connection
from tests.deploy.templates import (
    FOLDER,
    GIVEN,
    HUB,
    MANAGEMENT,
    MEMBER,
    REGION,
    Stack,
    documents,
    length,
    policies,
    read,
    roles,
    stacks,
)

NAMES = sorted(path.name for path in FOLDER.glob("*.yaml"))
ACCOUNTS = [HUB, MEMBER]


def test_cfn_lint_finds_nothing() -> None:
    paths = [str(FOLDER / name) for name in NAMES]
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *paths], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_every_template_says_what_it_is_for_and_where(name: str) -> None:
    assert len(read(name)["Description"]) > 80
    assert len((FOLDER / name).read_bytes()) <= 51_200, "CloudFormation takes no longer text without a bucket"


def test_the_roles_and_policies_are_called_as_the_portal_calls_them() -> None:
    config = Connection(name="aws").config
    for key in ("reader_role", "provisioner_role", "remover_role", "ender_role", "schedule_role"):
        assert all(config[key] in roles(account_id) for account_id in ACCOUNTS), key
    assert config["broker_role"] in roles(HUB)
    assert config["feed_role"] in roles(HUB)
    for key in ("guard_policy", "boundary_policy"):
        assert f"arn:aws:iam::{MEMBER}:policy{config[key]}" in policies(MEMBER)
    (group,) = Stack("region.yaml", MEMBER).of_kind("AWS::Scheduler::ScheduleGroup").values()
    assert group["Name"] == config["schedule_group"]
    (function,) = Stack("hub.yaml", HUB).of_kind("AWS::Lambda::Function").values()
    assert function["FunctionName"] == config["ender_function"]
    (entry,) = Stack("hub.yaml", HUB).of_kind("AWS::SSO::PermissionSet").values()
    assert entry["Name"] == config["entry_permission_set"]
    policies_of_the_organization = Stack("organization.yaml", MANAGEMENT).of_kind("AWS::Organizations::Policy").values()
    assert config["stop_policy"] in {one["Name"] for one in policies_of_the_organization}
    if config.get("schedule_dlq"):
        (queue,) = Stack("region.yaml", MEMBER).of_kind("AWS::SQS::Queue").values()
        assert queue["QueueName"] == config["schedule_dlq"]


def test_the_guard_begins_at_rest() -> None:
    assert canonical(policies(MEMBER)[f"arn:aws:iam::{MEMBER}:policy/jit/jit-guard"]) == canonical(guard.render([]))


def test_the_guards_resource_never_changes() -> None:
    """An update of this resource would put the resting document over the live one, and open what it denies."""
    about = read("member.yaml")["Resources"]["JitGuard"]
    assert about == {
        "Type": "AWS::IAM::ManagedPolicy",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "ManagedPolicyName": "jit-guard",
            "Path": "/jit/",
            "Description": "Gatehouse: ends what was granted through Identity Center. Gatehouse writes it, nobody else",
            "PolicyDocument": guard.render([]),
        },
    }


@pytest.mark.parametrize("name", ["JitBoundary", "JitGuard", "JitDenyAll"])
def test_what_denies_outlives_its_stack(name: str) -> None:
    about = read("member.yaml")["Resources"][name]
    assert (about["DeletionPolicy"], about["UpdateReplacePolicy"]) == ("Retain", "Retain")


@pytest.mark.parametrize("account_id", ACCOUNTS)
def test_every_policy_can_be_read_and_fits(account_id: str) -> None:
    for arn, document in policies(account_id).items():
        parse(document)
        assert length(document) <= 6144, arn
    for name, about in roles(account_id).items():
        parse(about["AssumeRolePolicyDocument"])
        assert length(about["AssumeRolePolicyDocument"]) <= 2048, name
        assert sum(length(one["PolicyDocument"]) for one in about.get("Policies", ())) <= 10_240, name
        assert len(about["Path"] + about["RoleName"]) <= 64


@pytest.mark.parametrize("account_id", ACCOUNTS)
def test_no_role_of_the_portal_has_an_action_with_a_wildcard_that_it_is_allowed(account_id: str) -> None:
    for name in roles(account_id):
        if name.startswith("portal/"):
            allowed = _allowed(documents(name, account_id))
            assert not [action for action in allowed if "*" in action], name


@pytest.mark.parametrize("account_id", ACCOUNTS)
def test_nothing_of_ours_is_from_another_organization_or_without_its_own_name(account_id: str) -> None:
    for stack in stacks(account_id):
        for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
            for name, about in stack.of_kind(kind).items():
                assert about["Path"] in ("/portal/", "/jit/", "/jit/tier/"), name
                assert about["Description"].startswith("Gatehouse: "), name


# ---- who may become what

CHAIN = {
    "portal/PortalReader": ["PortalHub", "PortalEnderHub"],
    "portal/PortalProvisioner": ["PortalHub"],
    "portal/PortalRemover": ["PortalHub"],
    "portal/PortalEnder": ["PortalHub", "PortalEnderHub"],
    "portal/PortalFeed": ["PortalHub"],
}
IN_HUB_ONLY = {"portal/PortalFeed"}


@pytest.mark.parametrize("name", CHAIN)
@pytest.mark.parametrize("account_id", ACCOUNTS)
def test_a_portal_role_lets_in_only_who_it_is_for_and_only_as_the_portal_asks(name: str, account_id: str) -> None:
    if name in IN_HUB_ONLY and account_id != HUB:
        assert name not in roles(account_id)
        return
    (statement,) = roles(account_id)[name]["AssumeRolePolicyDocument"]["Statement"]
    named = statement["Principal"]["AWS"]
    assert (named if isinstance(named, list) else [named]) == [
        f"arn:aws:iam::{HUB}:role/portal/{hub}" for hub in CHAIN[name]
    ]
    assert sorted(statement["Action"]) == ["sts:AssumeRole", "sts:SetSourceIdentity"]
    assert statement["Condition"] == {
        "StringEquals": {"aws:PrincipalOrgID": GIVEN["OrgId"], "sts:ExternalId": GIVEN["ExternalId"]},
        "StringLike": {"sts:SourceIdentity": "portal-*"},
    }


def test_the_portals_source_identity_is_one_that_the_roles_take() -> None:
    assert Connection(name="aws").config["source_identity"].startswith("portal-")


@pytest.mark.parametrize("process", ["PortalHub", "PortalEnderHub", "PortalBrokerHub"])
def test_a_process_can_become_exactly_the_roles_that_let_it_in(process: str) -> None:
    (document,) = documents(f"portal/{process}", HUB)
    (statement,) = document["Statement"]
    named = statement["Resource"]
    reached = {one.rpartition(":role/")[2] for one in (named if isinstance(named, list) else [named])}
    lets_in = {name for name, about in roles(HUB).items() if process in _principals(about)}
    assert reached == lets_in
    assert _allowed([document]) <= {"sts:AssumeRole", "sts:SetSourceIdentity"}


@pytest.mark.parametrize("process", ["PortalHub", "PortalEnderHub", "PortalBrokerHub"])
def test_only_the_hubs_own_compute_runs_as_a_process(process: str) -> None:
    (statement,) = roles(HUB)[f"portal/{process}"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert statement["Condition"] == {"StringEqualsIfExists": {"aws:SourceAccount": HUB}}


def test_tier_roles_pass_what_the_broker_asks_of_them() -> None:
    tiers = {name: about for name, about in roles(MEMBER).items() if name.startswith("jit/tier/")}
    assert tiers
    for about in tiers.values():
        trust = about["AssumeRolePolicyDocument"]
        assert sts_broker.why_not_trusted(trust, f"arn:aws:iam::{HUB}:role/portal/PortalBroker") == ""
        assert trust["Statement"][0]["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": GIVEN["OrgId"]}}
        assert about["MaxSessionDuration"] == sts_broker.SESSION_SECONDS
        assert (
            about["PermissionsBoundary"]
            == f"arn:aws:iam::{MEMBER}:policy{Connection(name='aws').config['boundary_policy']}"
        )
        assert about["Policies"] == [{"PolicyName": sts_broker.GUARD, "PolicyDocument": sts_broker.render([])}], "shut"


@pytest.mark.parametrize("name", ["jit/tier/JitReadOnly", "jit/tier/JitPowerUser"])
def test_tier_roles_are_not_too_powerful_to_be_opened(name: str) -> None:
    """Inside the boundary they cannot undo their own guard, so the broker's provisioner takes them."""
    (attached,) = roles(MEMBER)[name]["ManagedPolicyArns"]
    document = json.loads(models.aws_managed_policies_data)[attached.rpartition("/")[2]]["Document"]
    boundary = NamedDocument("boundary", policies(MEMBER)[f"arn:aws:iam::{MEMBER}:policy/jit/JitBoundary"])
    assert privilege_of([NamedDocument(attached, document)], boundary=boundary).level not in ("admin", "unknown")


def test_whoever_comes_from_the_entry_permission_set_gets_into_roles_of_grants_only() -> None:
    (entry,) = Stack("hub.yaml", HUB).of_kind("AWS::SSO::PermissionSet").values()
    (statement,) = entry["InlinePolicy"]["Statement"]
    assert entry["SessionDuration"] == "PT1H"
    assert statement["Resource"] == f"arn:aws:iam::*:role{jit_documents.PATH}{jit_documents.role_name('*')}"


def test_only_aws_scheduler_becomes_the_schedulers_role_and_only_for_our_group() -> None:
    (statement,) = roles(MEMBER)["portal/PortalScheduler"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert statement["Condition"] == {
        "StringEquals": {"aws:SourceAccount": MEMBER},
        "ArnLike": {"aws:SourceArn": f"arn:aws:scheduler:*:{MEMBER}:schedule-group/jit"},
    }


def test_the_web_process_has_no_role() -> None:
    named = json.dumps([*roles(HUB), *roles(MEMBER)]).lower()
    assert "web" not in named
    said = read("hub.yaml")["Outputs"]["WorkerRole"]["Description"]
    assert "web process gets no role" in said


def _principals(about: Any) -> list[str]:
    found = [one["Principal"].get("AWS", []) for one in about["AssumeRolePolicyDocument"]["Statement"]]
    listed = [arn for one in found for arn in (one if isinstance(one, list) else [one])]
    return [arn.rpartition("/")[2] for arn in listed]


def _allowed(found: list[Any]) -> set[str]:
    listed = [one["Action"] for document in found for one in document["Statement"] if one["Effect"] == "Allow"]
    return {action for one in listed for action in ([one] if isinstance(one, str) else one)}


# ---- the change feed


def test_the_feed_forwards_exactly_what_it_can_be_told() -> None:
    rules = Stack("changes.yaml", MEMBER).of_kind("AWS::Events::Rule").values()
    forwarded = {
        about["EventPattern"]["source"][0]: about["EventPattern"]["detail"].get("eventName") for about in rules
    }
    assert forwarded.pop(changes.IAM) is None, "every write of IAM"
    assert {source: set(names) for source, names in forwarded.items()} == {
        source: set(names) for source, names in changes.MEANINGS.items()
    }
    (into_queue,) = Stack("feed.yaml", HUB).of_kind("AWS::Events::Rule").values()
    assert set(into_queue["EventPattern"]["source"]) == {changes.IAM, *changes.MEANINGS}


def test_only_the_rule_writes_into_the_queue_and_only_forwarders_of_the_organization_feed_the_bus() -> None:
    feed = Stack("feed.yaml", HUB)
    (policy,) = feed.of_kind("AWS::SQS::QueuePolicy").values()
    allow, deny = policy["PolicyDocument"]["Statement"]
    assert allow["Principal"] == {"Service": "events.amazonaws.com"}
    assert allow["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:events:{REGION}:{HUB}:rule/gatehouse-changes/gatehouse-changes"}
    }
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": False}})
    (bus,) = feed.of_kind("AWS::Events::EventBusPolicy").values()
    assert bus["Statement"]["Action"] == "events:PutEvents"
    assert bus["Statement"]["Condition"] == {
        "StringEquals": {"aws:PrincipalOrgID": GIVEN["OrgId"]},
        "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/portal/PortalForwarder-*"},
    }


def test_the_queue_is_encrypted_and_gives_up_on_what_cannot_be_taken() -> None:
    queues = {about["QueueName"]: about for about in Stack("feed.yaml", HUB).of_kind("AWS::SQS::Queue").values()}
    assert all(about["SqsManagedSseEnabled"] is True for about in queues.values())
    assert queues["gatehouse-changes"]["RedrivePolicy"]["maxReceiveCount"] <= 5


def test_a_forwarder_sends_to_the_hubs_bus_and_nowhere_else() -> None:
    (document,) = documents(f"portal/PortalForwarder-{REGION}", MEMBER)
    (statement,) = document["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("events:PutEvents", GIVEN["BusArn"])
