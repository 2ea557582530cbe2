"""The organization's stop policy: attached once, by the ender, read back, and never taken off by us."""

from __future__ import annotations

import json

import pytest

from apps.connectors import registry
from apps.connectors.aws.stops import ServiceControlPolicy
from apps.connectors.errors import Denied, Refused, Unproven
from tests.connectors.conftest import CONFIG, HUB, Org, Stubs

DENY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
ROOTS = {"Roots": [{"Id": "r-abcd", "Arn": "arn:aws:organizations::1:root/o-1/r-abcd", "Name": "Root"}]}
LISTED = {"Policies": [{"Id": "p-12345678", "Name": "GatehouseStop", "Type": "SERVICE_CONTROL_POLICY"}]}


@pytest.fixture
def policy_id(org: Org) -> str:
    organizations = org.client("organizations")
    root = organizations.list_roots()["Roots"][0]["Id"]
    organizations.enable_policy_type(RootId=root, PolicyType="SERVICE_CONTROL_POLICY")
    made = organizations.create_policy(
        Content=json.dumps(DENY), Description="", Name="GatehouseStop", Type="SERVICE_CONTROL_POLICY"
    )
    name: str = made["Policy"]["PolicySummary"]["Id"]
    return name


def attached(org: Org, policy_id: str) -> list[str]:
    found = org.client("organizations").list_targets_for_policy(PolicyId=policy_id)["Targets"]
    return [target["TargetId"] for target in found]


def test_it_is_attached_to_the_root_and_read_back(org: Org, policy_id: str) -> None:
    switch = registry.stop_policy("aws", CONFIG)
    assert not switch.look().is_present
    proof = switch.attach()
    assert attached(org, policy_id) == [org.client("organizations").list_roots()["Roots"][0]["Id"]]
    assert switch.look().is_present
    assert "management account" in proof.what
    assert HUB in proof.what


def test_attaching_twice_attaches_once(org: Org, policy_id: str) -> None:
    ServiceControlPolicy(CONFIG).attach()
    ServiceControlPolicy(CONFIG).attach()
    assert len(attached(org, policy_id)) == 1


def test_where_it_was_never_deployed_it_says_so(org: Org) -> None:
    with pytest.raises(Refused, match="Deploy it"):
        ServiceControlPolicy(CONFIG).attach()


def stubbed(stubs: Stubs) -> ServiceControlPolicy:
    switch = ServiceControlPolicy(CONFIG)
    switch._reader = switch._writer = stubs.api
    stubs.answer("organizations", "list_policies", LISTED)
    stubs.answer("organizations", "list_roots", ROOTS)
    stubs.answer("organizations", "list_targets_for_policy", {"Targets": []})
    return switch


def test_an_attachment_that_does_not_show_is_unproven(stubs: Stubs) -> None:
    switch = stubbed(stubs)
    stubs.answer("organizations", "attach_policy", {}, {"PolicyId": "p-12345678", "TargetId": "r-abcd"})
    stubs.answer("organizations", "list_targets_for_policy", {"Targets": []})
    with pytest.raises(Unproven):
        switch.attach()


def test_somebody_who_was_faster_is_fine(stubs: Stubs) -> None:
    switch = stubbed(stubs)
    stubs.refuse("organizations", "attach_policy", "DuplicatePolicyAttachmentException")
    stubs.answer("organizations", "list_targets_for_policy", {"Targets": [{"TargetId": "r-abcd"}]})
    stubs.answer(
        "organizations", "describe_organization", {"Organization": {"Id": "o-1", "MasterAccountId": "210987654321"}}
    )
    assert "210987654321" in switch.attach().what


def test_a_right_that_is_missing_is_said(stubs: Stubs) -> None:
    switch = stubbed(stubs)
    stubs.refuse("organizations", "attach_policy", "AccessDeniedException")
    with pytest.raises(Denied):
        switch.attach()


def test_it_attaches_as_the_ender_and_can_detach_nothing() -> None:
    switch = ServiceControlPolicy(CONFIG)
    assert (switch._writer.role, switch._reader.role) == ("ender_role", "reader_role")
    assert {name for name in dir(switch) if not name.startswith("_")} == {"attach", "look"}
