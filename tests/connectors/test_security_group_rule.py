"""A port that opens for one source for a time: one rule for everybody who needs it, and AWS's scheduler closes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws.ingress import rule_of
from apps.connectors.aws.security_group_rule import HELD_BY, SecurityGroupRule, holder
from apps.connectors.aws.session import Api, Hub, Session
from apps.connectors.base import Target, Window
from apps.connectors.errors import Gone, Refused, Unproven
from tests.connectors.conftest import CONFIG, HUB, Org
from tests.connectors.contract import END, SECOND, START, Bench, ProvisionerContract, opened
from tests.connectors.killing import KilledContract
from tests.connectors.scheduler import Scheduler, moments

REGION = "us-east-1"
GROUP = "sg-0123456789abcdef0"
HOUR = timedelta(hours=1)


def target(account_id: str, group_id: str, person: str = "alice-id", **facts: Any) -> Target:
    return Target(
        account_id=account_id,
        principal_kind="idc_user",
        principal_external_id=person,
        principal_name=person,
        entitlement_kind="network_rule",
        entitlement_external_id=f"gatehouse:opening:{account_id}:{facts.get('slug', 'db')}",
        entitlement_name="Reach the database",
        entitlement_attributes={
            "region": REGION,
            "group_id": group_id,
            "protocol": "tcp",
            "from_port": 5432,
            "to_port": 5432,
            "source": "10.1.0.0/24",
            **facts,
        },
    )


class Network:
    """Security groups in one account, seen by an independent observer."""

    def __init__(self, org: Org) -> None:
        self.org = org
        org.add_scheduling()
        self.ec2 = org.client_in(org.account_id, "ec2")
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.group_id: str = self.ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
        self.source_id: str = self.ec2.create_security_group(GroupName="app", Description="a", VpcId=vpc)["GroupId"]
        self.scheduler = Scheduler(org.aws, [org.account_id])

    def rules(self) -> list[dict[str, Any]]:
        filters = [{"Name": "group-id", "Values": [self.group_id]}]
        found = self.ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
        return [one for one in found if not one["IsEgress"]]

    def let_in(self, cidr: str = "10.1.0.0/24", port: int = 5432) -> None:
        """As an administrator of the account would."""
        permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]}
        self.ec2.authorize_security_group_ingress(GroupId=self.group_id, IpPermissions=[permission])

    def is_open(self, what: Target, at: datetime) -> bool:
        """Whether the rule is there for this holder, and AWS's scheduler has not taken it away by `at`."""
        if not self.names_on_rule(what):
            return False
        schedules = [schedule for _, schedule in self.scheduler.stored()]
        return not any(moments(schedule, at) for schedule in schedules)

    def names_on_rule(self, what: Target) -> int:
        name = f"{HELD_BY}{holder(what)}"
        return sum(tag["Key"] == name for rule in self.rules() for tag in rule["Tags"])


@pytest.fixture
def network(org: Org) -> Network:
    return Network(org)


@pytest.fixture
def alice(org: Org, network: Network) -> Target:
    return target(org.account_id, network.group_id, org.people["alice"])


@pytest.fixture
def bob(org: Org, network: Network) -> Target:
    return target(org.account_id, network.group_id, org.people["bob"])


@pytest.fixture
def provisioner() -> SecurityGroupRule:
    return SecurityGroupRule(CONFIG)


class TestSecurityGroupRule(ProvisionerContract, KilledContract):
    @pytest.fixture
    def bench(self, network: Network, alice: Target, bob: Target) -> Bench:
        many = [
            Window(replace(alice, principal_external_id=f"0000000{number:02d}", principal_name="x"), END)
            for number in range(41)
        ]
        return Bench(CONFIG, SecurityGroupRule(CONFIG), alice, bob, many, network.is_open, network.names_on_rule)

    def test_two_windows_do_not_disturb_each_other(self, bench: Bench) -> None:
        """One rule lets the source in for both, so it stays until the later end, and goes then."""
        later = END + HOUR
        opened(bench, Window(bench.alice, END), Window(bench.bob, later))
        assert bench.can_use(bench.bob, later - SECOND)
        assert not bench.can_use(bench.bob, later)
        assert not bench.can_use(bench.alice, later)
        bench.provisioner.enforce(bench.alice, [Window(bench.alice, END, is_open=False), Window(bench.bob, later)])
        assert not bench.can_use(bench.alice, START)
        assert bench.can_use(bench.bob, later - SECOND)


# ---- AWS's scheduler is the end


def test_the_end_is_scheduled_and_read_back_before_anything_opens(
    network: Network, alice: Target, provisioner: SecurityGroupRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], Api.call

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        calls.append(operation)
        return real(self, account_id, service, operation, **params)

    monkeypatch.setattr(Api, "call", call)
    provisioner.enforce(alice, [Window(alice, END)])
    assert network.rules() == []
    provisioner.open(alice)
    assert calls.index("get_schedule") < calls.index("authorize_security_group_ingress")


def test_with_everything_of_ours_dead_the_scheduler_closes_it(
    network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    network.let_in("10.9.0.0/24")
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    assert network.scheduler.run(END - SECOND) == 0
    assert len(network.rules()) == 2
    network.scheduler.run(END)
    (left,) = network.rules()
    assert left["CidrIpv4"] == "10.9.0.0/24", "what was there before us stays"
    assert not network.scheduler.failures
    assert not provisioner.look(alice).is_present
    ((_, schedule),) = network.scheduler.stored()
    assert schedule["ActionAfterCompletion"] == "DELETE"


@pytest.mark.parametrize("kind", ["cidr", "ipv6", "group", "range", "udp"])
def test_every_kind_of_rule_is_opened_found_again_and_closed_by_the_scheduler(
    network: Network, alice: Target, provisioner: SecurityGroupRule, kind: str
) -> None:
    facts = {
        "cidr": {},
        "ipv6": {"source": "2001:db8:5::/64"},
        "group": {"source": network.source_id},
        "range": {"from_port": 8000, "to_port": 8010},
        "udp": {"protocol": "udp", "from_port": 53, "to_port": 53},
    }[kind]
    one = replace(alice, entitlement_attributes={**alice.entitlement_attributes, **facts})
    provisioner.check(one, [Window(one, END)])
    for _ in range(2):
        provisioner.enforce(one, [Window(one, END)])
        provisioner.open(one)
    assert len(network.rules()) == 1
    assert provisioner.look(one).is_present
    network.scheduler.run(END)
    assert network.rules() == []
    assert not network.scheduler.failures


def test_another_region_than_the_directorys_has_its_own_schedule(org: Org, network: Network, alice: Target) -> None:
    keys = org.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{org.account_id}:role/Observer", RoleSessionName="observer"
    )["Credentials"]
    there = {
        "region_name": "eu-central-1",
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }
    ec2, scheduler = org.aws.client("ec2", **there), org.aws.client("scheduler", **there)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    group_id = ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
    one = target(org.account_id, group_id, org.people["alice"], region="eu-central-1")
    provisioner = SecurityGroupRule(CONFIG)
    with pytest.raises(Refused, match="schedule group"):
        provisioner.check(one, [Window(one, END)])
    scheduler.create_schedule_group(Name="jit")
    provisioner.check(one, [Window(one, END)])
    provisioner.enforce(one, [Window(one, END)])
    provisioner.open(one)
    assert provisioner.look(one).is_present
    (schedule,) = scheduler.list_schedules()["Schedules"]
    assert schedule["GroupName"] == "jit"
    assert network.scheduler.stored() == [], "nothing in the connection's own Region"


def test_without_a_schedule_group_nothing_is_written(
    org: Org, network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    org.client_in(org.account_id, "scheduler").delete_schedule_group(Name="jit")
    for attempt in (provisioner.check, provisioner.enforce):
        with pytest.raises(Refused, match="schedule group"):
            attempt(alice, [Window(alice, END)])
    assert network.rules() == []


def test_a_schedule_that_reads_back_differently_opens_nothing(
    network: Network, alice: Target, provisioner: SecurityGroupRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Api.call

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        answer = real(self, account_id, service, operation, **params)
        return {**answer, "State": "DISABLED"} if operation == "get_schedule" else answer

    monkeypatch.setattr(Api, "call", call)
    with pytest.raises(Unproven):
        provisioner.enforce(alice, [Window(alice, END)])
    assert network.rules() == []


# ---- one rule for everybody who needs it


def test_the_last_one_out_closes_it(
    network: Network, alice: Target, bob: Target, provisioner: SecurityGroupRule
) -> None:
    both = [Window(alice, END), Window(bob, END + HOUR)]
    provisioner.enforce(alice, both)
    provisioner.open(alice)
    provisioner.open(bob)
    assert len(network.rules()) == 1, "EC2 takes no second one"
    provisioner.close(alice)
    assert not provisioner.look(alice).is_present
    assert "open for others" in provisioner.look(alice).proof.what
    assert provisioner.look(bob).is_present
    provisioner.close(bob)
    assert network.rules() == []


def test_the_same_rule_under_two_names_is_one_rule(
    org: Org, network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    other = replace(alice, entitlement_external_id="gatehouse:opening:other")
    assert provisioner.lock_key(alice) == provisioner.lock_key(other)
    provisioner.enforce(alice, [Window(alice, END), Window(other, END)])
    provisioner.open(alice)
    provisioner.open(other)
    provisioner.close(other)
    assert provisioner.look(alice).is_present
    assert not provisioner.look(other).is_present


def test_a_rule_whose_only_holder_ends_makes_room_for_the_next(
    network: Network, alice: Target, bob: Target, provisioner: SecurityGroupRule
) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    provisioner.enforce(bob, [Window(alice, START, is_open=False), Window(bob, END)])
    assert network.rules() == [], "nobody stands on it who may"
    provisioner.open(bob)
    assert network.is_open(bob, END - SECOND)
    assert not network.names_on_rule(alice)


def test_a_name_that_no_grant_accounts_for_is_taken_off(
    network: Network, alice: Target, bob: Target, provisioner: SecurityGroupRule
) -> None:
    provisioner.enforce(alice, [Window(alice, END), Window(bob, END)])
    provisioner.open(alice)
    provisioner.open(bob)
    provisioner.enforce(alice, [Window(alice, END)])
    assert provisioner.look(alice).is_present
    assert not provisioner.look(bob).is_present


def test_a_rule_that_went_while_somebody_joined_is_opened_anew(
    network: Network, alice: Target, bob: Target, provisioner: SecurityGroupRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner.enforce(alice, [Window(alice, END), Window(bob, END)])
    provisioner.open(alice)
    real = Api.call

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        if operation == "create_tags":
            raise Gone("ec2:CreateTags found nothing of that name.")
        return real(self, account_id, service, operation, **params)

    monkeypatch.setattr(Api, "call", call)
    with pytest.raises(Unproven):
        provisioner.open(bob)
    monkeypatch.setattr(Api, "call", real)
    provisioner.open(bob)
    assert provisioner.look(bob).is_present


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.sampled_from(["open", "end"])), min_size=1, max_size=6
    )
)
def test_whatever_overlaps_the_rule_is_there_exactly_while_somebody_holds_it(
    steps: list[tuple[str, int, str]],
) -> None:
    """Over a group of their own, kept in memory: the calls are those of EC2 and the scheduler."""
    world = Double()
    provisioner = SecurityGroupRule(CONFIG)
    people = {name: target("111122223333", GROUP, name) for name in "abc"}
    held: dict[str, datetime] = {}
    with world.answering():
        for name, hours, verb in steps:
            if verb == "open":
                held[name] = max(START + hours * HOUR, held.get(name, START))
                windows = [Window(people[one], end) for one, end in held.items()]
                provisioner.enforce(people[name], windows)
                provisioner.open(people[name])
            else:
                ended = held.pop(name, START)
                windows = [Window(people[one], end) for one, end in held.items()]
                provisioner.enforce(people[name], [Window(people[name], ended, is_open=False), *windows])
                provisioner.close(people[name])
            assert {one for one in people if provisioner.look(people[one]).is_present} == set(held)
            assert bool(world.rules) is bool(held)
            if held:
                assert world.schedule["StartDate"] == max(held.values())
            else:
                assert not world.schedule


class Double:
    """EC2 and the scheduler for one security group, as far as the provisioner asks them."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.schedule: dict[str, Any] = {}

    @contextmanager
    def answering(self) -> Iterator[None]:
        def call(_: Api, __: str, ___: str, operation: str, **params: Any) -> dict[str, Any]:
            answer: dict[str, Any] = getattr(self, operation)(**params)
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Api, "call", call)
            patch.setattr(Session, "hub", lambda _: Hub(HUB, f"arn:aws:iam::{HUB}:user/gatehouse"))
            yield

    def describe_security_group_rules(self, **_: Any) -> dict[str, Any]:
        return {"SecurityGroupRules": [dict(rule) for rule in self.rules]}

    def authorize_security_group_ingress(self, **asked: Any) -> dict[str, Any]:
        assert not self.rules, "EC2 refuses a second one"
        (permission,), (spec,) = asked["IpPermissions"], asked["TagSpecifications"]
        self.rules.append(
            {
                "SecurityGroupRuleId": "sgr-1",
                "IsEgress": False,
                "IpProtocol": permission["IpProtocol"],
                "FromPort": permission["FromPort"],
                "ToPort": permission["ToPort"],
                "CidrIpv4": permission["IpRanges"][0]["CidrIp"],
                "Tags": list(spec["Tags"]),
            }
        )
        return {}

    def revoke_security_group_ingress(self, **_: Any) -> dict[str, Any]:
        self.rules.clear()
        return {}

    def create_tags(self, **asked: Any) -> dict[str, Any]:
        self.rules[0]["Tags"] += asked["Tags"]
        return {}

    def delete_tags(self, **asked: Any) -> dict[str, Any]:
        gone = {tag["Key"] for tag in asked["Tags"]}
        self.rules[0]["Tags"] = [tag for tag in self.rules[0]["Tags"] if tag["Key"] not in gone]
        return {}

    def update_schedule(self, **asked: Any) -> dict[str, Any]:
        self.schedule = asked
        return {}

    def get_schedule(self, **_: Any) -> dict[str, Any]:
        if not self.schedule:
            raise Gone("scheduler:GetSchedule found nothing of that name.")
        return self.schedule

    def delete_schedule(self, **_: Any) -> dict[str, Any]:
        self.schedule = {}
        return {}


# ---- what is not ours


def test_what_stands_there_already_is_refused_and_never_taken_away(
    network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    network.let_in()
    for attempt in (lambda: provisioner.check(alice, [Window(alice, END)]), lambda: provisioner.open(alice)):
        with pytest.raises(Refused, match="not by Gatehouse"):
            attempt()
    assert not provisioner.look(alice).is_present
    assert "not from Gatehouse" in provisioner.look(alice).proof.what
    provisioner.enforce(alice, [Window(alice, START, is_open=False)])
    provisioner.close(alice)
    provisioner.enforce(alice, [])
    assert len(network.rules()) == 1


def test_the_receipt_names_what_still_lets_the_same_in(
    network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    network.let_in("10.0.0.0/8")
    network.let_in("10.2.0.0/16")
    network.let_in("10.1.0.0/24", port=443)
    (wide,) = [rule["SecurityGroupRuleId"] for rule in network.rules() if rule["CidrIpv4"] == "10.0.0.0/8"]
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    provisioner.close(alice)
    assert provisioner.look(alice).proof.facts["same_let_in_by"] == [wide]


def test_a_rule_that_was_taken_away_outside_is_not_there(
    network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    network.ec2.revoke_security_group_ingress(
        GroupId=network.group_id, SecurityGroupRuleIds=[network.rules()[0]["SecurityGroupRuleId"]]
    )
    assert not provisioner.look(alice).is_present
    provisioner.enforce(alice, [Window(alice, END)])
    assert network.rules() == [], "what was taken away is not opened again by an end that moves"
    assert provisioner.close(alice).state == "done"


def test_a_schedule_that_was_lost_or_moved_shows(
    network: Network, alice: Target, bob: Target, provisioner: SecurityGroupRule
) -> None:
    windows = [Window(alice, END), Window(bob, END + HOUR)]
    assert provisioner.examine(alice, windows).differences == (), "nothing is open yet"
    provisioner.enforce(alice, windows)
    provisioner.open(alice)
    assert provisioner.look(alice).proof.facts["is_scheduled"] is True
    assert provisioner.examine(alice, windows).differences == ()
    late = provisioner.examine(alice, windows[:1])
    assert late.weaker == (windows[0],)
    assert "too late" in " ".join(late.differences)
    (account_id, schedule) = network.scheduler.stored()[0]
    network.org.client_in(account_id, "scheduler").delete_schedule(GroupName="jit", Name=schedule["Name"])
    assert provisioner.look(alice).proof.facts["is_scheduled"] is False
    assert provisioner.examine(alice, windows).weaker == tuple(windows)
    provisioner.enforce(alice, windows)
    assert provisioner.examine(alice, windows).is_enforced


def test_a_rule_that_is_open_for_somebody_without_a_grant_is_wider(
    network: Network, alice: Target, bob: Target, provisioner: SecurityGroupRule
) -> None:
    both = [Window(alice, END), Window(bob, END)]
    provisioner.enforce(alice, both)
    provisioner.open(alice)
    provisioner.open(bob)
    assert provisioner.examine(alice, both).is_enforced
    assert provisioner.examine(alice, both[:1]).is_wider
    assert provisioner.examine(alice, [replace(both[0], is_open=False), replace(both[1], is_open=False)]).is_wider
    provisioner.enforce(alice, [replace(both[0], is_open=False), both[1]])
    assert provisioner.examine(alice, [replace(both[0], is_open=False), both[1]]).differences == ()


# ---- limits and hostile words


def test_a_full_group_is_refused_before_anything_is_written(
    network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    for number in range(3):
        network.let_in(f"10.{number + 10}.0.0/24")
    with pytest.raises(Refused, match="3 of 3 rules"):
        SecurityGroupRule({**CONFIG, "rules_per_group": 3}).check(alice, [Window(alice, END)])
    provisioner.check(alice, [Window(alice, END)])


def test_a_group_that_is_not_there_is_said_to_be_gone(
    org: Org, network: Network, alice: Target, provisioner: SecurityGroupRule
) -> None:
    for facts in ({"group_id": "sg-00000000000000000"}, {"source": "sg-00000000000000000"}):
        one = replace(alice, entitlement_attributes={**alice.entitlement_attributes, **facts})
        with pytest.raises(Gone):
            provisioner.check(one, [Window(one, END)])


@pytest.mark.parametrize("kind", ["iam_user", "iam_role", "idc_group"])
def test_only_a_person_can_ask_for_one(alice: Target, provisioner: SecurityGroupRule, kind: str) -> None:
    with pytest.raises(Refused, match="person"):
        provisioner.check(replace(alice, principal_kind=kind), [Window(alice, END)])


WRONG = [
    {"region": ""},
    {"region": "eu-central-1; rm"},
    {"region": "evil.example.com#"},
    {"group_id": "sg-xyz"},
    {"group_id": ["sg-0123456789abcdef0"]},
    {"group_id": "sg-0123456789abcdef0\n"},
    {"protocol": "-1"},
    {"protocol": "icmp"},
    {"protocol": "TCP"},
    {"from_port": 0},
    {"from_port": -1, "to_port": -1},
    {"from_port": True},
    {"from_port": "22"},
    {"from_port": 22.0},
    {"from_port": 443, "to_port": 80},
    {"to_port": 65536},
    {"to_port": None},
    {"source": ""},
    {"source": "0.0.0.0/0"},
    {"source": "::/0"},
    {"source": "0.0.0.0/1"},
    {"source": "10.0.0.0/8"},
    {"source": "2001:db8::/32"},
    {"source": "10.1.0.1/24"},
    {"source": "10.1.0.0/33"},
    {"source": "10.1.0/24"},
    {"source": "10.1.0.0/24,0.0.0.0/0"},
    {"source": "pl-0123456789abcdef0"},
    {"source": "<script>alert(1)</script>"},
    {"source": None},
    {"source": GROUP},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: json.dumps(wrong)[:50])
def test_what_is_no_rule_or_lets_too_many_in_never_reaches_aws(
    wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Api, "call", None)
    one = target("111122223333", GROUP)
    one = replace(one, entitlement_attributes={**one.entitlement_attributes, **wrong})
    provisioner = SecurityGroupRule(CONFIG)
    for attempt in (
        lambda: provisioner.check(one, [Window(one, END)]),
        lambda: provisioner.enforce(one, [Window(one, END)]),
        lambda: provisioner.open(one),
        lambda: provisioner.shared_key(one),
        lambda: provisioner.ways_in(one),
    ):
        with pytest.raises(Refused):
            attempt()


def test_how_wide_a_source_may_be_is_the_connections_to_say_but_never_everybody() -> None:
    facts = dict(target("111122223333", GROUP, source="10.0.0.0/8").entitlement_attributes)
    assert rule_of("111122223333", facts, {"widest_ipv4": 8}).source == "10.0.0.0/8"
    for everybody in ("0.0.0.0/0", "::/0"):
        with pytest.raises(Refused, match="too many"):
            rule_of("111122223333", {**facts, "source": everybody}, {"widest_ipv4": 0, "widest_ipv6": 0})
    with pytest.raises(Refused, match="/24 or narrower"):
        rule_of("111122223333", {**facts, "source": "10.1.0.0/23"}, {"widest_ipv4": 24})


@given(st.ip_addresses(), st.integers(0, 128))
def test_a_source_that_is_taken_is_a_network_as_aws_spells_it(address: Any, length: int) -> None:
    length = min(length, address.max_prefixlen)
    network = ip_network(f"{address}/{length}", strict=False)
    facts = target("111122223333", GROUP, source=str(network)).entitlement_attributes
    try:
        rule = rule_of("111122223333", facts, {})
    except Refused:
        assert length < {4: 16, 6: 48}[network.version]
        return
    assert length >= {4: 16, 6: 48}[network.version]
    shown = {"IsEgress": False, "IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}
    key = {4: "CidrIpv4", 6: "CidrIpv6"}[network.version]
    assert rule.is_the_same_as({**shown, key: str(network)})
    assert rule.is_within({**shown, key: str(network)})
    assert rule.is_within({**shown, key: {4: "0.0.0.0/0", 6: "::/0"}[network.version]})
    assert not rule.is_the_same_as({**shown, key: str(network), "IsEgress": True})
    assert not rule.is_the_same_as({**shown, "IpProtocol": "udp", key: str(network)})


def test_windows_of_another_rule_are_a_programming_error(alice: Target, provisioner: SecurityGroupRule) -> None:
    other = replace(alice, entitlement_attributes={**alice.entitlement_attributes, "to_port": 5433})
    with pytest.raises(ValueError, match="other rules"):
        provisioner.enforce(alice, [Window(alice, END), Window(other, END)])


def test_a_removal_that_aws_does_not_show_is_unproven(
    network: Network, alice: Target, provisioner: SecurityGroupRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    real = Api.call

    def call(self: Api, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        return {} if operation.startswith("revoke_") else real(self, account_id, service, operation, **params)

    monkeypatch.setattr(Api, "call", call)
    for attempt in (
        lambda: provisioner.close(alice),
        lambda: provisioner.enforce(alice, [Window(alice, START, is_open=False)]),
    ):
        with pytest.raises(Unproven):
            attempt()


def test_it_says_plainly_what_it_is(alice: Target, provisioner: SecurityGroupRule) -> None:
    promise = SecurityGroupRule.promise
    assert not promise.may_be_privileged and not promise.denies
    assert "Connections that are open" in promise.survives
    (way,) = provisioner.ways_in(alice)
    assert (way.kind, "tcp 5432 from 10.1.0.0/24" in way.url_or_text) == ("note", True)
