"""The templates against what the code really sends: every call of a provisioner, ender or remover is first decided by
our evaluator over the documents of the role that makes it, with the resources and the context that AWS would see.

What `test_least_privilege.py` says of actions this says of names, paths, tags and conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.connectors import registry
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.connectors.aws.session import Api
from apps.connectors.base import Target, Window
from tests.connectors import test_enders, test_iam_timeboxed_policy, test_removers
from tests.connectors.conftest import CONFIG, HUB, Org, _credentials, org, trust
from tests.connectors.contract import END, RemoverBench, settle
from tests.connectors.test_removers import holders
from tests.deploy.calls import action_of
from tests.deploy.templates import REGION as DEPLOYED_IN
from tests.deploy.templates import documents

__all__ = ["_credentials", "holders", "org"]

REGION = CONFIG["region"]
Context = Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """What AWS would decide: one action on one resource."""

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


class Authority:
    """Decides calls by the templates, as they would be deployed in this organization."""

    def __init__(self, org: Org) -> None:
        self.org = org
        self.asked = 0
        self._documents: dict[tuple[str, str], list[Any]] = {}

    def require(self, role: str, account_id: str, service: str, operation: str, params: Mapping[str, Any]) -> None:
        name = CONFIG[role]
        for ask in self.asks(account_id, service, operation, params):
            self.asked += 1
            outcome = evaluate(
                self._of(name, account_id),
                action=ask.action,
                resource=ask.resource,
                context=ask.context,
                now=datetime.now(UTC),
            ).outcome
            assert outcome is Outcome.ALLOW, f"{name} in {account_id}: {outcome} for {ask}"

    def _of(self, name: str, account_id: str) -> list[Any]:
        key = (name, account_id)
        if key not in self._documents:
            groups = (f"arn:aws:identitystore:::group/{one}" for one in self.org.groups.values())
            values = {
                "HubAccountId": HUB,
                "InstanceArn": self.org.instance_arn,
                "IdentityStoreId": self.org.store_id,
                "JitPermissionSetArns": ",".join(self.org.permission_sets.values()),
                "JitGroupArns": ",".join(groups) or "arn:aws:identitystore:::group/none",
                "JitIamGroups": f"arn:aws:iam::{account_id}:group/*",
            }
            self._documents[key] = documents(name, account_id, values)
        return self._documents[key]

    def asks(self, account_id: str, service: str, operation: str, params: Mapping[str, Any]) -> Iterator[Ask]:
        action = action_of(service, operation)
        about: Callable[[str, str, Mapping[str, Any]], Iterator[Ask]] = {
            "iam": self._iam,
            "sso-admin": self._sso,
            "identitystore": self._identity_store,
            "scheduler": self._scheduler,
            "ec2": self._ec2,
        }.get(service, lambda *_: iter(()))
        asks = list(about(account_id, action, params))
        if service == "lambda":
            asks = [Ask(action, f"arn:aws:lambda:{DEPLOYED_IN}:{account_id}:function:{params['FunctionName']}")]
        yield from asks or [Ask(action)]

    def _iam(self, account_id: str, action: str, params: Mapping[str, Any]) -> Iterator[Ask]:
        keys = [tag["Key"] for tag in params.get("Tags", ())]
        if action == "iam:CreateRole":
            arn = f"arn:aws:iam::{account_id}:role{params['Path']}{params['RoleName']}"
            yield Ask(action, arn, {"iam:PermissionsBoundary": params["PermissionsBoundary"], "aws:TagKeys": keys})
            yield Ask("iam:TagRole", arn, {"aws:TagKeys": keys})
            return
        for word in ("Group", "Role", "User"):  # of a membership the group is asked about
            if f"{word}Name" in params:
                held = self._held(account_id, word, params[f"{word}Name"])
                boundary = (held.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
                context = {"aws:TagKeys": keys} if keys else {}
                context |= {"iam:PermissionsBoundary": boundary} if boundary else {}
                context |= {"iam:PolicyARN": params["PolicyArn"]} if "PolicyArn" in params else {}
                yield Ask(action, held["Arn"], context)
                return
        if "PolicyArn" in params:
            yield Ask(action, params["PolicyArn"])

    def _held(self, account_id: str, word: str, name: str) -> dict[str, Any]:
        """The user, role or group as AWS knows it, with its path and boundary; without both where there is none."""
        iam = self.org.iam(account_id)
        try:
            held: dict[str, Any] = getattr(iam, f"get_{word.lower()}")(**{f"{word}Name": name})[word]
        except iam.exceptions.NoSuchEntityException:
            return {"Arn": f"arn:aws:iam::{account_id}:{word.lower()}/{name}"}
        return held

    def _sso(self, account_id: str, action: str, params: Mapping[str, Any]) -> Iterator[Ask]:
        target = params.get("TargetId") or params.get("AccountId")
        named = [
            params.get("InstanceArn"),
            params.get("PermissionSetArn"),
            target and f"arn:aws:sso:::account/{target}",
        ]
        yield from (Ask(action, arn) for arn in named if arn)

    def _identity_store(self, account_id: str, action: str, params: Mapping[str, Any]) -> Iterator[Ask]:
        named = dict(params) | dict(params.get("MemberId", {}))
        if "MembershipId" in params:
            shown = self.org.client("identitystore").describe_group_membership(
                IdentityStoreId=params["IdentityStoreId"], MembershipId=params["MembershipId"]
            )
            named |= {"GroupId": shown["GroupId"], "UserId": shown["MemberId"]["UserId"]}
        yield Ask(action, f"arn:aws:identitystore::{account_id}:identitystore/{params['IdentityStoreId']}")
        for word, kind in (("GroupId", "group"), ("UserId", "user"), ("MembershipId", "membership")):
            if word in named:
                yield Ask(action, f"arn:aws:identitystore:::{kind}/{named[word]}")

    def _scheduler(self, account_id: str, action: str, params: Mapping[str, Any]) -> Iterator[Ask]:
        where = f"arn:aws:scheduler:{REGION}:{account_id}"
        if action == "scheduler:GetScheduleGroup":
            yield Ask(action, f"{where}:schedule-group/{params['Name']}")
            return
        yield Ask(action, f"{where}:schedule/{params['GroupName']}/{params['Name']}")
        if "Target" in params:
            context = {"iam:PassedToService": "scheduler.amazonaws.com"}
            yield Ask("iam:PassRole", params["Target"]["RoleArn"], context)

    def _ec2(self, account_id: str, action: str, params: Mapping[str, Any]) -> Iterator[Ask]:
        where = f"arn:aws:ec2:{REGION}:{account_id}"
        keys = [tag["Key"] for one in params.get("TagSpecifications", ()) for tag in one["Tags"]]
        keys += [tag["Key"] for tag in params.get("Tags", ())]
        if action.startswith("ec2:Describe"):
            return
        if "GroupId" in params:
            ec2 = self.org.client_in(account_id, "ec2")
            shown = ec2.describe_security_groups(GroupIds=[params["GroupId"]])["SecurityGroups"][0]
            tags = {f"aws:ResourceTag/{tag['Key']}": tag["Value"] for tag in shown.get("Tags", ())}
            yield Ask(action, f"{where}:security-group/{params['GroupId']}", tags)
        rules = params.get("Resources", ["*"] if keys else [])
        for rule in rules:
            yield Ask(action, f"{where}:security-group-rule/{rule}", {"aws:TagKeys": keys})
        if "TagSpecifications" in params:
            yield Ask("ec2:CreateTags", f"{where}:security-group-rule/*", {"aws:TagKeys": keys})


@pytest.fixture
def authority(org: Org, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """From now on every call is decided before it is made."""
    made, call = Authority(org), Api.call

    def decided(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        made.require(self.role, account_id, service, operation, params)
        return call(self, account_id, service, operation, **params)

    monkeypatch.setattr(Api, "call", decided)
    return made


def mark(org: Org) -> None:
    """What owners do so that something of theirs may be opened (deploy/aws/README.md, step 8)."""
    ec2 = org.client_in(org.account_id, "ec2")
    groups = [one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]]
    ec2.create_tags(Resources=groups, Tags=[{"Key": "jit:ports", "Value": "allowed"}])


def life(name: str, target: Target) -> None:
    """Everything that is ever asked of a provisioner about one grant."""
    provisioner, later = registry.provisioner("aws", name, CONFIG), END + timedelta(hours=1)
    provisioner.check(target, [Window(target, END)])
    provisioner.enforce(target, [Window(target, END)])
    assert settle(provisioner, target, provisioner.open(target)).state == "done"
    assert provisioner.look(target).is_present
    provisioner.enforce(target, [Window(target, later)])
    provisioner.enforce(target, [Window(target, END, is_open=False)])
    assert settle(provisioner, target, provisioner.close(target)).state == "done"
    provisioner.enforce(target, [])
    assert not provisioner.look(target).is_present


@pytest.mark.parametrize("case", test_enders.CASES, ids=[case.__name__ for case in test_enders.CASES])
def test_the_provisioners_role_may_do_all_that_a_grant_needs(
    org: Org, case: Callable[[Org], test_enders.Case], request: pytest.FixtureRequest
) -> None:
    made = case(org)
    mark(org)
    authority: Authority = request.getfixturevalue("authority")
    life(made.provisioner, made.target)
    assert authority.asked > 8


def test_the_provisioners_role_may_write_dated_policies_inside_a_boundary(
    org: Org, request: pytest.FixtureRequest
) -> None:
    org.iam().create_role(RoleName="batch", AssumeRolePolicyDocument=trust(HUB))
    boundary = f"arn:aws:iam::{org.account_id}:policy/jit/JitBoundary"
    target = test_iam_timeboxed_policy.target("orders", account_id=org.account_id)
    request.getfixturevalue("authority")
    with pytest.raises(AssertionError, match="PutRolePolicy"):
        life("iam_timeboxed_policy", target)
    org.iam().put_role_permissions_boundary(RoleName="batch", PermissionsBoundary=boundary)
    life("iam_timeboxed_policy", target)


@pytest.mark.parametrize("case", test_enders.CASES, ids=[case.__name__ for case in test_enders.CASES])
def test_the_enders_role_may_do_all_that_it_needs(
    org: Org, case: Callable[[Org], test_enders.Case], request: pytest.FixtureRequest
) -> None:
    made = test_enders.opened(case(org))
    authority: Authority = request.getfixturevalue("authority")
    ender = registry.ender("aws", made.provisioner, CONFIG)
    assert ender is not None
    assert settle(ender, made.target, ender.close(made.target)).state == "done"
    assert not made.is_usable()
    assert authority.asked > 1


def test_a_port_that_nobody_marked_is_not_opened(org: Org, request: pytest.FixtureRequest) -> None:
    made = test_enders.opening(org)
    request.getfixturevalue("authority")
    with pytest.raises(AssertionError, match="AuthorizeSecurityGroupIngress"):
        life(made.provisioner, made.target)


class Removing:
    """What a remover does, with every call decided. A class takes its bench from the remover's own tests."""

    def test_the_removers_role_may_do_all_that_it_needs(self, bench: RemoverBench, authority: Authority) -> None:
        assert settle(bench.remover, bench.alice, bench.remover.close(bench.alice)).state == "done"
        assert not bench.remover.look(bench.alice).is_present
        assert bench.copies(bench.bob) == 1
        assert authority.asked > 1


class TestAccountAssignment(Removing):
    bench = test_removers.TestAccountAssignment.bench


class TestGroupMembership(Removing):
    bench = test_removers.TestGroupMembership.bench


class TestIamGroupMembership(Removing):
    bench = test_removers.TestIamGroupMembership.bench


class TestAttachedPolicy(Removing):
    bench = test_removers.TestAttachedPolicy.bench


class TestInlinePolicy(Removing):
    bench = test_removers.TestInlinePolicy.bench
