"""The CloudFormation templates with their functions carried out, as AWS would see them in one account."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "aws"
HUB, MEMBER, MANAGEMENT, REGION = "111111111111", "222222222222", "333333333333", "eu-west-1"
PERMISSION_SET = "arn:aws:sso:::permissionSet/ssoins-1111111111111111/ps-5555555555555555"
GROUP = "arn:aws:identitystore:::group/11111111-2222-3333-4444-555555555555"
GIVEN = {
    "OrgId": "o-aaaaaaaaaa",
    "ExternalId": "an-external-id-of-a-connection",
    "HubAccountId": HUB,
    "InstanceArn": "arn:aws:sso:::instance/ssoins-1111111111111111",
    "IdentityStoreId": "d-1111111111",
    "JitPermissionSetArns": PERMISSION_SET,
    "JitGroupArns": GROUP,
    "StopPolicyArn": "arn:aws:organizations::333333333333:policy/o-aaaaaaaaaa/service_control_policy/p-11111111",
    "RootArn": "arn:aws:organizations::333333333333:root/o-aaaaaaaaaa/r-aaaa",
    "RootId": "r-aaaa",
    "ProtectTargets": "r-aaaa",
    "JitPermissionSetNames": "DatabaseAdmin,PowerUser",
    "BusArn": f"arn:aws:events:{REGION}:{HUB}:event-bus/gatehouse-changes",
    "TrailAccountId": MEMBER,
    "TrailBucketArn": "arn:aws:s3:::company-trail",
    "TrailKeyArn": "arn:aws:kms:eu-west-1:222222222222:key/11111111-2222-3333-4444-555555555555",
    "BreakGlassArns": "arn:aws:iam::444444444444:role/BreakGlass",
}
_PLACE = re.compile(r"\$\{([^!}][^}]*)\}")


class _Loader(yaml.SafeLoader):
    """Knows the short forms of CloudFormation's functions."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        value = value.split(".", 1) if name == "Fn::GetAtt" else value
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


_Loader.add_multi_constructor("!", _function)


@cache
def read(name: str) -> Mapping[str, Any]:
    """A template as it is written."""
    found: Mapping[str, Any] = yaml.load((FOLDER / name).read_text(), _Loader)
    return found


NOTHING = object()


@dataclass
class Stack:
    """One template in one account. `values` are its parameters where they differ from `GIVEN`."""

    name: str
    account_id: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def resources(self) -> dict[str, Any]:
        """The resources that exist here, carried out."""
        return {
            name: self.done(one)
            for name, one in read(self.name)["Resources"].items()
            if "Condition" not in one or self._holds(one["Condition"])
        }

    def of_kind(self, kind: str) -> dict[str, Any]:
        """The properties of the resources of a type, by their logical names."""
        return {name: one["Properties"] for name, one in self.resources.items() if one["Type"] == kind}

    def done(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for value in map(self.done, node) if value is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (name, value), *_ = node.items()
            if name == "Ref":
                return self._ref(value)
            if name.startswith("Fn::"):
                return self._function(name, value)
        return {key: value for key, one in node.items() if (value := self.done(one)) is not NOTHING}

    def _function(self, name: str, value: Any) -> Any:
        if name == "Fn::Sub":
            text, own = (value, {}) if isinstance(value, str) else value
            return _PLACE.sub(
                lambda found: str(self.done(own[found[1]]) if found[1] in own else self._ref(found[1])), text
            )
        if name == "Fn::GetAtt":
            return self._arn(value[0])
        if name == "Fn::Join":
            return value[0].join(self.done(value[1]))
        if name == "Fn::Split":
            return self.done(value[1]).split(value[0])
        if name == "Fn::If":
            return self.done(value[1] if self._holds(value[0]) else value[2])
        if name == "Fn::Equals":
            first, second = self.done(value)
            return first == second
        raise AssertionError(f"{name} is not known here")

    def _holds(self, condition: str) -> bool:
        return bool(self.done(read(self.name)["Conditions"][condition]))

    def _ref(self, name: str) -> Any:
        pseudo = {
            "AWS::AccountId": self.account_id,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::NoValue": NOTHING,
        }
        if name in pseudo:
            return pseudo[name]
        parameters = read(self.name).get("Parameters", {})
        if name in parameters:
            value = str(self.values.get(name, GIVEN.get(name, parameters[name].get("Default"))))
            return value.split(",") if parameters[name]["Type"] == "CommaDelimitedList" else value
        if name.endswith(".Arn"):
            return self._arn(name.removesuffix(".Arn"))
        one = read(self.name)["Resources"][name]
        return self._arn(name) if one["Type"] == "AWS::IAM::ManagedPolicy" else self._named(one)

    def _named(self, one: Mapping[str, Any]) -> str:
        words = ("RoleName", "FunctionName", "LogGroupName", "QueueName", "Name")
        return next(str(self.done(one["Properties"][word])) for word in words if word in one["Properties"])

    def _arn(self, name: str) -> str:
        one = read(self.name)["Resources"][name]
        about = one["Properties"]
        if one["Type"] == "AWS::IAM::Role":
            return f"arn:aws:iam::{self.account_id}:role{about['Path']}{about['RoleName']}"
        if one["Type"] == "AWS::IAM::ManagedPolicy":
            return f"arn:aws:iam::{self.account_id}:policy{about['Path']}{about['ManagedPolicyName']}"
        if one["Type"] == "AWS::Organizations::Policy":
            return f"arn:aws:organizations::{self.account_id}:policy/{GIVEN['OrgId']}/service_control_policy/p-11111111"
        kinds = {
            "AWS::Lambda::Function": "lambda:{}:{}:function:{}",
            "AWS::Logs::LogGroup": "logs:{}:{}:log-group:{}:*",
            "AWS::SQS::Queue": "sqs:{}:{}:{}",
            "AWS::Events::EventBus": "events:{}:{}:event-bus/{}",
            "AWS::Events::Rule": "events:{}:{}:rule/gatehouse-changes/{}",
        }
        return f"arn:aws:{kinds[one['Type']].format(REGION, self.account_id, self._named(one))}"


# ---- what a role may do


def stacks(account_id: str, values: Mapping[str, str] | None = None) -> list[Stack]:
    """What is deployed in an account. `values` are parameters where they differ from `GIVEN`."""
    values = values or {}
    hub = ("hub.yaml", "feed.yaml") if account_id == values.get("HubAccountId", HUB) else ()
    return [Stack(name, account_id, values) for name in (*hub, "member.yaml", "region.yaml", "changes.yaml")]


def roles(account_id: str, values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The properties of every role of ours in an account, by "portal/PortalReader"."""
    return {
        f"{one['Path']}{one['RoleName']}".lstrip("/"): one
        for stack in stacks(account_id, values)
        for one in stack.of_kind("AWS::IAM::Role").values()
    }


def policies(account_id: str, values: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The documents of every managed policy of ours in an account, by ARN."""
    return {
        f"arn:aws:iam::{account_id}:policy{one['Path']}{one['ManagedPolicyName']}": one["PolicyDocument"]
        for stack in stacks(account_id, values)
        for one in stack.of_kind("AWS::IAM::ManagedPolicy").values()
    }


def documents(role: str, account_id: str, values: Mapping[str, str] | None = None) -> list[Any]:
    """The policies of one of our roles in an account. AWS's own stay out."""
    about = roles(account_id, values)[role]
    inline = [one["PolicyDocument"] for one in about.get("Policies", ())]
    attached = [one for one in about.get("ManagedPolicyArns", ()) if ":iam::aws:" not in one]
    return inline + [policies(account_id, values)[arn] for arn in attached]


def length(document: Any) -> int:
    """Characters without white space, as IAM counts policies."""
    return sum(not letter.isspace() for letter in json.dumps(document, separators=(",", ":")))
