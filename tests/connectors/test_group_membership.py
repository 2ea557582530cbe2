"""A membership for a time: AWS's scheduler is written first, and takes the member out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.connectors import registry
from apps.connectors.aws import schedules
from apps.connectors.aws.group_membership import GroupMembership
from apps.connectors.base import Examiner, Target, Window
from apps.connectors.errors import Gone, Refused, Throttled, Unproven
from tests.connectors.conftest import CONFIG, HUB, READ, Org, Stubs
from tests.connectors.contract import END, SECOND, Bench, ProvisionerContract
from tests.connectors.killing import KilledContract, deaths_of, dying
from tests.connectors.scheduler import Scheduler, membership_ender, moments

DENY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}
FUNCTION = "portal-ender"
ARN = "arn:aws:identitystore:::{}/94482488-3041-7074-8c5b-1f2e3d4c5b6a"


@dataclass
class World:
    """A group of one kind, two people who are not in it, and what looks on."""

    org: Org
    alice: Target
    bob: Target
    refused: Target  # of a group that is not ours to change: the contract's "more than fits"
    members: Callable[[], list[str]]

    @property
    def account_id(self) -> str:
        return HUB if self.alice.entitlement_kind == "idc_group" else self.org.account_id

    def scheduler(self) -> Scheduler:
        return Scheduler(self.org.aws, [self.account_id], {FUNCTION: membership_ender(self.org.client)})

    def starts(self) -> list[datetime]:
        return [schedule["StartDate"] for _, schedule in self.scheduler().stored()]

    def is_ended_by(self, who: Target, at: datetime) -> bool:
        """Whether AWS alone would have taken this member out by then."""
        name = GroupMembership(CONFIG)._kind(who).ending(who).name
        scheduler = self.org.client_in(self.account_id, "scheduler")
        try:
            return bool(moments(scheduler.get_schedule(GroupName="jit", Name=name), at))
        except scheduler.exceptions.ResourceNotFoundException:
            return False

    def bench(self) -> Bench:
        def can_use(who: Target, at: datetime) -> bool:
            return who.principal_external_id in self.members() and not self.is_ended_by(who, at)

        return Bench(
            CONFIG,
            GroupMembership(CONFIG),
            self.alice,
            self.bob,
            [Window(self.refused, END)],
            can_use,
            lambda who: self.members().count(who.principal_external_id),
            is_shared=False,
        )


def in_directory(org: Org) -> World:
    org.add_scheduling(HUB)
    add_function(org)
    group_id, _ = org.add_group("operators"), org.add_group("from-the-directory")

    def target(person: str, name: str = "operators", **facts: Any) -> Target:
        return Target(
            account_id="",
            principal_kind="idc_user",
            principal_external_id=org.people[person],
            principal_name=person,
            entitlement_kind="idc_group",
            entitlement_external_id=f"membership:{name}",
            entitlement_name=name,
            entitlement_attributes={"identity_store_id": org.store_id, "group_id": org.groups[name], **facts},
        )

    def members() -> list[str]:
        found = org.client("identitystore").list_group_memberships(IdentityStoreId=org.store_id, GroupId=group_id)
        return [membership["MemberId"]["UserId"] for membership in found["GroupMemberships"]]

    refused = target("alice", "from-the-directory", is_externally_owned=True)
    return World(org, target("alice"), target("bob"), refused, members)


def in_account(org: Org) -> World:
    org.add_scheduling()
    iam = org.iam()
    groups = {name: iam.create_group(GroupName=name)["Group"] for name in ("operators", "elsewhere")}
    users = {name: iam.create_user(UserName=name, Path="/team/")["User"] for name in ("alice", "bob")}

    def target(person: str, name: str = "operators", **facts: Any) -> Target:
        return Target(
            account_id=org.account_id,
            principal_kind="iam_user",
            principal_external_id=users[person]["Arn"],
            principal_name=person,
            entitlement_kind="iam_group",
            entitlement_external_id=f"membership:{groups[name]['Arn']}",
            entitlement_name=name,
            entitlement_attributes={"group_name": name, "group_arn": groups[name]["Arn"], **facts},
            principal_attributes={"unique_id": users[person]["UserId"]},
        )

    def members() -> list[str]:
        return [user["Arn"] for user in iam.get_group(GroupName="operators")["Users"]]

    another = target("alice", "elsewhere", group_arn=f"arn:aws:iam::{org.account_id}:group/moved/elsewhere")
    return World(org, target("alice"), target("bob"), another, members)


def add_function(org: Org) -> None:
    role = org.client("iam").create_role(RoleName="PortalEnderFunction", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    org.client("lambda").create_function(
        FunctionName=FUNCTION, Runtime="python3.13", Role=role, Handler="index.handler", Code={"ZipFile": b"x"}
    )


KINDS = {"idc_group": in_directory, "iam_group": in_account}


@pytest.fixture(params=list(KINDS))
def world(org: Org, request: pytest.FixtureRequest) -> World:
    return KINDS[request.param](org)


class TestGroupMembership(ProvisionerContract, KilledContract):
    @pytest.fixture
    def bench(self, world: World) -> Bench:
        return world.bench()


def test_it_is_never_privileged_and_says_what_survives() -> None:
    promise = registry.promise("aws", "group_membership")
    assert not promise.may_be_privileged
    assert not promise.denies
    assert "12 hours" in promise.survives
    for kind in KINDS:
        assert "group_membership" in registry.provisioners_for("aws", kind)


# ---- a dead portal


def test_with_the_portal_dead_awss_scheduler_takes_the_member_out(world: World) -> None:
    provisioner = GroupMembership(CONFIG)
    for who, end in ((world.alice, END), (world.bob, END + timedelta(hours=1))):
        provisioner.enforce(who, [Window(who, end)])
        provisioner.open(who)
    scheduler = world.scheduler()
    scheduler.run(END - SECOND)
    assert len(world.members()) == 2
    scheduler.run(END)
    assert world.members() == [world.bob.principal_external_id]
    scheduler.run(END + timedelta(hours=1))
    assert world.members() == []


def test_killed_anywhere_nobody_is_a_member_whom_the_scheduler_would_not_take_out(world: World) -> None:
    def open_it() -> None:
        provisioner = GroupMembership(CONFIG)
        provisioner.check(world.alice, [Window(world.alice, END)])
        provisioner.enforce(world.alice, [Window(world.alice, END)])
        provisioner.open(world.alice)

    for death in deaths_of(open_it):
        with dying(death):
            open_it()
        world.scheduler().run(END)
        assert world.members() == [], f"still a member after dying {death}"


def test_the_schedule_of_an_older_grant_does_not_end_a_newer_one(world: World) -> None:
    provisioner, later = GroupMembership(CONFIG), END + timedelta(hours=3)
    for end in (END, later):
        provisioner.enforce(world.alice, [Window(world.alice, end)])
        provisioner.open(world.alice)
    assert world.starts() == [later]
    world.scheduler().run(later - SECOND)
    assert world.members() == [world.alice.principal_external_id]


def test_the_schedule_names_one_member_of_one_group(world: World) -> None:
    GroupMembership(CONFIG).enforce(world.alice, [Window(world.alice, END)])
    ((account_id, schedule),) = world.scheduler().stored()
    given, arn = json.loads(schedule["Target"]["Input"]), schedule["Target"]["Arn"]
    assert account_id == world.account_id
    if world.alice.entitlement_kind == "iam_group":
        assert arn == "arn:aws:scheduler:::aws-sdk:iam:removeUserFromGroup"
        assert given == {"UserName": "alice", "GroupName": "operators"}
    else:
        assert arn == f"arn:aws:lambda:us-east-1:{HUB}:function:{FUNCTION}"
        facts = world.alice.entitlement_attributes
        assert given == {
            "end": "idc_membership",
            "IdentityStoreId": facts["identity_store_id"],
            "GroupId": facts["group_id"],
            "UserId": world.alice.principal_external_id,
        }


# ---- ending it early, and clearing it away


def test_ending_brings_the_schedule_forward_and_clearing_takes_it_away(world: World) -> None:
    provisioner = GroupMembership(CONFIG)
    provisioner.enforce(world.alice, [Window(world.alice, END)])
    provisioner.open(world.alice)
    provisioner.enforce(world.alice, [Window(world.alice, END, is_open=False)])
    world.scheduler().run(datetime.now(UTC) + SECOND)
    assert world.members() == []
    provisioner.enforce(world.alice, [])
    assert world.scheduler().stored() == []


def test_the_removal_does_not_wait_for_a_scheduler_that_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    provisioner = GroupMembership(CONFIG)
    provisioner.enforce(world.alice, [Window(world.alice, END)])
    provisioner.open(world.alice)

    def fail(*_: Any) -> Any:
        raise Throttled("AWS is busy.")

    monkeypatch.setattr(schedules, "write", fail)
    proof = provisioner.enforce(world.alice, [Window(world.alice, END, is_open=False)])
    assert "could not be brought forward" in proof.what
    provisioner.close(world.alice)
    assert world.members() == []


@pytest.mark.parametrize("error", [Throttled("busy"), Unproven("differs")], ids=["busy", "unproven"])
def test_nothing_opens_on_a_schedule_that_was_not_read_back(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(schedules, "write", fail)
    with pytest.raises(type(error)):
        GroupMembership(CONFIG).enforce(world.alice, [Window(world.alice, END)])


def test_windows_of_another_membership_are_a_programming_error(world: World) -> None:
    with pytest.raises(ValueError, match="other memberships"):
        GroupMembership(CONFIG).enforce(world.alice, [Window(world.bob, END)])


def test_each_pair_has_a_schedule_of_its_own(world: World) -> None:
    provisioner = GroupMembership(CONFIG)
    assert provisioner.shared_key(world.alice) != provisioner.shared_key(world.bob)
    assert provisioner.lock_key(world.alice) != provisioner.lock_key(world.bob)


# ---- drift


def test_a_schedule_as_it_was_written_differs_in_nothing(world: World) -> None:
    provisioner = GroupMembership(CONFIG)
    windows = [Window(world.alice, END)]
    provisioner.enforce(world.alice, windows)
    found = provisioner.examine(world.alice, windows)
    assert found.is_enforced
    assert found.differences == ()


@pytest.mark.parametrize("tampered", ["gone", "disabled", "later", "another call", "over too soon"])
def test_a_schedule_that_would_not_end_it_is_weaker_and_written_again(world: World, tampered: str) -> None:
    provisioner, windows = GroupMembership(CONFIG), [Window(world.alice, END)]
    provisioner.enforce(world.alice, windows)
    client = world.org.client_in(world.account_id, "scheduler")
    ((_, found),) = world.scheduler().stored()
    words = ("GroupName", "Name", "ScheduleExpression", "FlexibleTimeWindow", "StartDate", "EndDate", "Target", "State")
    kept = {name: found[name] for name in words}
    changes: dict[str, dict[str, Any]] = {
        "disabled": {"State": "DISABLED"},
        "later": {"StartDate": END + SECOND},
        "another call": {"Target": {**kept["Target"], "Input": "{}"}},
        "over too soon": {"EndDate": END},
    }
    if tampered == "gone":
        client.delete_schedule(GroupName="jit", Name=kept["Name"])
    else:
        client.update_schedule(**{**kept, **changes[tampered]})
    examined = provisioner.examine(world.alice, windows)
    assert examined.weaker == tuple(windows)
    assert examined.differences
    provisioner.enforce(world.alice, windows)
    assert provisioner.examine(world.alice, windows).is_enforced


def test_what_is_being_ended_needs_no_schedule(world: World) -> None:
    provisioner = GroupMembership(CONFIG)
    assert isinstance(provisioner, Examiner)
    for windows in ([], [Window(world.alice, END, is_open=False)]):
        assert provisioner.examine(world.alice, windows).is_enforced


# ---- what is refused


def test_standing_membership_is_never_granted_on_top(world: World) -> None:
    with pytest.raises(Refused, match="for good"):
        GroupMembership(CONFIG).check(world.alice, [Window(world.alice, END, holds_standing=True)])


@pytest.mark.parametrize("kind", ["iam_role", "idc_group"])
def test_only_people_and_users_get_it(world: World, kind: str) -> None:
    other = replace(world.alice, principal_kind=kind)
    with pytest.raises(Refused, match="Only a person"):
        GroupMembership(CONFIG).check(other, [])


def test_without_scheduler_nothing_is_opened(world: World) -> None:
    world.org.client_in(world.account_id, "scheduler").delete_schedule_group(Name="jit")
    for attempt in (GroupMembership(CONFIG).check, GroupMembership(CONFIG).enforce):
        with pytest.raises(Refused, match="schedule group"):
            attempt(world.alice, [Window(world.alice, END)])


def test_without_the_function_nothing_of_the_directory_is_opened(org: Org) -> None:
    world = in_directory(org)
    org.client("lambda").delete_function(FunctionName=FUNCTION)
    with pytest.raises(Refused, match="no function portal-ender"):
        GroupMembership(CONFIG).check(world.alice, [Window(world.alice, END)])


@pytest.mark.parametrize("attempt", ["check", "enforce"])
def test_a_group_that_scim_owns_by_now_is_refused(stubs: Stubs, org: Org, attempt: str) -> None:
    world = in_directory(org)
    provisioner = GroupMembership(CONFIG)
    provisioner._kinds["idc_group"]._reader = stubs.api  # type: ignore[attr-defined]
    owned = {"GroupId": "g", "IdentityStoreId": "d-1234567890", "ExternalIds": [{"Issuer": "scim", "Id": "1"}]}
    stubs.answer("identitystore", "describe_group", {**owned, "GroupArn": ARN.format("group"), "Revision": "1"})
    with pytest.raises(Refused, match="identity provider"):
        getattr(provisioner, attempt)(world.alice, [Window(world.alice, END)])
    assert world.members() == []


def test_what_was_opened_is_taken_away_also_when_scim_took_the_group_over(stubs: Stubs, org: Org) -> None:
    kind: Any = GroupMembership(CONFIG)._kinds["idc_group"]
    kind._reader = kind._writer = stubs.api
    world = in_directory(org)
    found = {"MembershipId": "m-1", "IdentityStoreId": "d-1234567890", "MembershipArn": ARN.format("membership")}
    stubs.answer("identitystore", "get_group_membership_id", found)
    stubs.answer("identitystore", "delete_group_membership", {})
    assert kind.close(world.alice).state == "done"


def test_a_user_in_ten_groups_is_refused(org: Org) -> None:
    world = in_account(org)
    for number in range(10):
        org.iam().create_group(GroupName=f"g{number}")
        org.iam().add_user_to_group(GroupName=f"g{number}", UserName="alice")
    with pytest.raises(Refused, match="10 groups"):
        GroupMembership(CONFIG).check(world.alice, [Window(world.alice, END)])


def test_a_user_who_was_made_anew_is_somebody_else(org: Org) -> None:
    world = in_account(org)
    somebody = replace(world.alice, principal_attributes={"unique_id": "AIDAOTHER"})
    with pytest.raises(Gone, match="made again"):
        GroupMembership(CONFIG).check(somebody, [Window(somebody, END)])


def test_a_group_that_was_made_anew_elsewhere_is_another_one(org: Org) -> None:
    world = in_account(org)
    with pytest.raises(Refused, match="made anew"):
        GroupMembership(CONFIG).check(world.refused, [Window(world.refused, END)])


def test_a_membership_ends_also_when_the_group_denies_something(org: Org) -> None:
    world, provisioner = in_account(org), GroupMembership(CONFIG)
    for name, document in (("allow", READ), ("deny", DENY)):
        org.iam().put_group_policy(GroupName="operators", PolicyName=name, PolicyDocument=json.dumps(document))
    provisioner.enforce(world.alice, [Window(world.alice, END)])
    provisioner.open(world.alice)
    assert provisioner.close(world.alice).state == "done"
    assert world.members() == []


def test_sessions_that_a_group_brought_may_outlive_it(world: World) -> None:
    kind = world.alice.entitlement_kind
    assert GroupMembership(CONFIG).session_for(world.alice) == timedelta(hours=12 if kind == "idc_group" else 0)
    assert not GroupMembership(CONFIG).would_cut(world.alice, [READ])
    (way,) = GroupMembership(CONFIG).ways_in(world.alice)
    assert way.kind == "note"
