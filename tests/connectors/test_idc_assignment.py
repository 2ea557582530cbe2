"""A permission set for a time: the assignment, and the guard that ends it by AWS's own clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws import guard
from apps.connectors.aws import session as aws_session
from apps.connectors.aws.idc_assignment import IdcAssignment
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.connectors.base import Target, Ticket, Window
from apps.connectors.errors import Busy, Denied, Gone, Refused, Throttled, Unproven
from tests.connectors.conftest import CONFIG, HUB, RESTING, Org, Stubs
from tests.connectors.contract import END, SECOND, START, Bench, EndsTwiceContract, ProvisionerContract, settle
from tests.connectors.killing import KilledContract, deaths_of, dying
from tests.connectors.scheduler import Scheduler

EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
ALICE, BOB = "94482488-3041-7074-8c5b-1f2e3d4c5b6a", "94482488-3041-7074-8c5b-000000000b0b"
REQUEST = "11111111-2222-3333-4444-555555555555"


def target(
    user_id: str = ALICE, permission_set: str = "Admin", account_id: str = "111122223333", **facts: Any
) -> Target:
    arn = facts.pop("arn", f"arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-{permission_set.lower():0<16.16}")
    return Target(
        account_id=account_id,
        principal_kind="idc_user",
        principal_external_id=user_id,
        principal_name="alice",
        entitlement_kind="permission_set",
        entitlement_external_id=f"{arn}@{account_id}",
        entitlement_name=permission_set,
        entitlement_attributes={
            "instance_arn": "arn:aws:sso:::instance/ssoins-1234567890abcdef",
            "identity_store_id": "d-1234567890",
            "permission_set_arn": arn,
            "permission_set_name": permission_set,
            **facts,
        },
    )


def role_arn(permission_set: str, account_id: str = "111122223333") -> str:
    path = "aws-reserved/sso.amazonaws.com"
    return f"arn:aws:iam::{account_id}:role/{path}/AWSReservedSSO_{permission_set}_0123456789abcdef"


def is_denied(document: Any, user_id: str, permission_set: str, at: datetime) -> bool:
    """What AWS says to a session that is allowed everything else."""
    context = {"identitystore:UserId": user_id, "aws:PrincipalArn": role_arn(permission_set)}
    decision = evaluate([EVERYTHING, document], action="s3:GetObject", resource="*", context=context, now=at)
    return decision.outcome is Outcome.DENY


def real_target(org: Org, person: str, permission_set: str = "Admin") -> Target:
    return target(
        org.people[person],
        permission_set,
        org.account_id,
        arn=org.permission_sets[permission_set],
        instance_arn=org.instance_arn,
        identity_store_id=org.store_id,
    )


def crowd(base: Target, size: int = 40) -> Sequence[Window]:
    """People with an end each."""
    return [
        Window(replace(base, principal_external_id=f"94482488-3041-7074-8c5b-{number:012d}"), END + SECOND * number)
        for number in range(1, size + 1)
    ]


class TestIdcAssignment(ProvisionerContract, EndsTwiceContract, KilledContract):
    @pytest.fixture
    def bench(self, org: Org) -> Bench:
        org.add_guard()
        org.add_scheduling(HUB)
        alice, bob = real_target(org, "alice"), real_target(org, "bob")

        def can_use(who: Target, at: datetime) -> bool:
            user_id = who.principal_external_id
            return user_id in org.assignments("Admin") and not is_denied(org.guard(), user_id, "Admin", at)

        def copies(who: Target) -> int:
            return org.assignments("Admin").count(who.principal_external_id)

        return Bench(CONFIG, IdcAssignment(CONFIG), alice, bob, crowd(alice), can_use, copies)


# ---- the schedule


@pytest.fixture
def alice(org: Org) -> Target:
    """Alice in an account where everything is deployed."""
    org.add_guard()
    org.add_scheduling(HUB)
    return real_target(org, "alice")


def starts(org: Org) -> list[datetime]:
    """When AWS's scheduler begins to end each thing."""
    return [schedule["StartDate"] for _, schedule in Scheduler(org.aws, [HUB]).stored()]


def test_with_the_portal_dead_awss_scheduler_deletes_the_assignment(org: Org, alice: Target) -> None:
    provisioner = IdcAssignment(CONFIG)
    provisioner.enforce(alice, [Window(alice, END)])
    provisioner.open(alice)
    scheduler = Scheduler(org.aws, [HUB])
    scheduler.run(END - SECOND)
    assert org.assignments("Admin") == [org.people["alice"]]
    scheduler.run(END)
    assert org.assignments("Admin") == []


def test_killed_anywhere_nothing_is_open_that_the_scheduler_would_not_end(org: Org, alice: Target) -> None:
    def open_it() -> None:
        provisioner = IdcAssignment(CONFIG)
        provisioner.check(alice, [Window(alice, END)])
        provisioner.enforce(alice, [Window(alice, END)])
        provisioner.open(alice)

    for death in deaths_of(open_it):
        with dying(death):
            open_it()
        Scheduler(org.aws, [HUB]).run(END)
        assert org.assignments("Admin") == [], f"still there after dying {death}"


@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(hours=-1)], ids=["later", "earlier"])
def test_another_end_moves_the_schedule(org: Org, alice: Target, by: timedelta) -> None:
    provisioner = IdcAssignment(CONFIG)
    for end in (END, END + by):
        proof = provisioner.enforce(alice, [Window(alice, end)])
        assert starts(org) == [end]
        assert proof.facts["schedule"]["starts_at"] == guard.stamp(end)
        assert "AWS's scheduler calls" in proof.what and "Guard policy" in proof.what


def test_the_schedule_of_an_older_grant_does_not_end_a_newer_one(org: Org, alice: Target) -> None:
    provisioner, later = IdcAssignment(CONFIG), END + timedelta(hours=3)
    for end in (END, later):  # the first was closed, and its guard not yet cleared, when the second opened
        provisioner.enforce(alice, [Window(alice, end)])
        provisioner.open(alice)
    Scheduler(org.aws, [HUB]).run(later - SECOND)
    assert org.assignments("Admin") == [org.people["alice"]]


def test_enforcing_for_one_leaves_the_schedule_of_another(org: Org, alice: Target) -> None:
    bob, provisioner = real_target(org, "bob"), IdcAssignment(CONFIG)
    both = [Window(alice, END), Window(bob, END + SECOND)]
    for who in (alice, bob):
        provisioner.enforce(who, both)
    assert sorted(starts(org)) == [END, END + SECOND]
    provisioner.enforce(bob, both[:1])
    assert starts(org) == [END]


WRITTEN = ("GroupName", "Name", "ScheduleExpression", "FlexibleTimeWindow", "StartDate", "EndDate", "Target", "State")


@pytest.mark.parametrize("tampered", ["gone", "disabled", "later", "another call", "over too soon"])
def test_a_schedule_that_would_not_delete_the_assignment_shows_and_is_written_again(
    org: Org, alice: Target, tampered: str
) -> None:
    provisioner, window = IdcAssignment(CONFIG), Window(alice, END)
    provisioner.enforce(alice, [window])
    provisioner.open(alice)
    scheduler = Scheduler(org.aws, [HUB])
    ((_, found),) = scheduler.stored()
    kept = {name: found[name] for name in WRITTEN}
    changes: dict[str, dict[str, Any]] = {
        "disabled": {"State": "DISABLED"},
        "later": {"StartDate": END + SECOND},
        "another call": {"Target": {**kept["Target"], "Input": "{}"}},
        "over too soon": {"EndDate": END},
    }
    client = scheduler.client(HUB, "scheduler")
    if tampered == "gone":
        client.delete_schedule(GroupName="jit", Name=kept["Name"])
    else:
        client.update_schedule(**{**kept, **changes[tampered]})
    guarded = provisioner.examine(alice, [window])
    assert guarded.differences == () and guarded.stricter == (), "the guard is judged without the schedule"
    versions = org.iam(org.account_id).list_policy_versions
    before = versions(PolicyArn=guard.arn_in(provisioner._reader, org.account_id))["Versions"]
    assert provisioner.examine_second_end(window).weaker == (window,)
    provisioner.write_second_end(window)
    assert provisioner.examine_second_end(window).differences == ()
    assert versions(PolicyArn=guard.arn_in(provisioner._reader, org.account_id))["Versions"] == before
    scheduler.run(END)
    assert org.assignments("Admin") == []


def test_a_schedule_that_cannot_be_read_is_not_said_to_be_gone(stubs: Stubs) -> None:
    stubs.refuse("scheduler", "get_schedule", "AccessDeniedException", 403)
    with pytest.raises(Denied):
        stubbed(stubs).examine_second_end(Window(target(), END))


def test_ending_needs_no_scheduler(org: Org) -> None:
    org.add_guard()
    alice = real_target(org, "alice")
    provisioner = IdcAssignment(CONFIG)
    provisioner.enforce(alice, [Window(alice, END, is_open=False)])
    assert is_denied(org.guard(), org.people["alice"], "Admin", START)
    provisioner.enforce(alice, [])


def test_an_emergency_stop_needs_no_scheduler(org: Org) -> None:
    org.add_guard()
    stop = target("*", "*", org.account_id)
    IdcAssignment(CONFIG).enforce(stop, [Window(stop, END, is_open=False)])
    assert is_denied(org.guard(), org.people["bob"], "Admin", START)
    IdcAssignment(CONFIG).enforce(stop, [])
    assert org.guard() == RESTING


def test_without_scheduler_nothing_is_opened(org: Org) -> None:
    org.add_guard()
    alice = real_target(org, "alice")
    for attempt in (IdcAssignment(CONFIG).check, IdcAssignment(CONFIG).enforce):
        with pytest.raises(Refused, match="schedule group"):
            attempt(alice, [Window(alice, END)])


# ---- the guard


YEAR = timedelta(days=365)
WHO = {"identitystore:UserId": ALICE, "aws:PrincipalArn": role_arn("Admin")}
MORE = {"aws:MultiFactorAuthPresent": "true", "aws:SourceIp": "203.0.113.9", "aws:PrincipalTag/team": "sre"}


@pytest.mark.parametrize("at", [END - SECOND, END, END + SECOND, END + YEAR], ids=["before", "at", "after", "year"])
@pytest.mark.parametrize("more", [{}, MORE], ids=["plain", "with more keys"])
@pytest.mark.parametrize("action", ["s3:GetObject", "iam:CreateUser", "sts:AssumeRole"])
def test_from_its_end_on_every_action_is_denied_whatever_else_allows_it(
    at: datetime, more: dict[str, str], action: str
) -> None:
    document = guard.render([Window(target(), END), Window(target(BOB), END + YEAR)])
    decision = evaluate([EVERYTHING, document], action=action, resource="*", context=WHO | more, now=at)
    assert decision.outcome is (Outcome.ALLOW if at < END else Outcome.DENY)


@pytest.mark.parametrize("missing", list(WHO))
def test_it_rests_on_keys_that_aws_must_send_and_a_stop_of_everybody_does_not_ask_for_the_person(missing: str) -> None:
    """What docs/security.md lists as unverified: a session without these keys would not be recognised."""
    context = {key: value for key, value in WHO.items() if key != missing}
    dated = guard.render([Window(target(), END)])
    stop = guard.render([Window(target("*", "*"), END, is_open=False)])
    asked = {"action": "s3:GetObject", "resource": "*", "context": context, "now": END + YEAR}
    assert evaluate([EVERYTHING, dated], **asked).outcome is Outcome.ALLOW
    denied = evaluate([EVERYTHING, stop], **asked).outcome is Outcome.DENY
    assert denied is (missing == "identitystore:UserId")


def test_without_windows_the_guard_denies_nobody() -> None:
    assert guard.render([]) == RESTING
    assert not is_denied(guard.render([]), ALICE, "Admin", START)


def test_the_guard_denies_one_person_with_one_permission_set_only() -> None:
    document = guard.render([Window(target(), END)])
    assert is_denied(document, ALICE, "Admin", END)
    assert not is_denied(document, BOB, "Admin", END)
    assert not is_denied(document, ALICE, "Reader", END)


def test_the_guard_reaches_roles_in_both_places_where_identity_center_puts_them() -> None:
    document = guard.render([Window(target(), END)])
    regional = role_arn("Admin").replace("sso.amazonaws.com/", "sso.amazonaws.com/eu-west-1/")
    context = {"identitystore:UserId": ALICE, "aws:PrincipalArn": regional}
    decision = evaluate([EVERYTHING, document], action="s3:GetObject", resource="*", context=context, now=END)
    assert decision.outcome is Outcome.DENY


def test_a_permission_set_whose_name_goes_on_is_denied_rather_than_missed() -> None:
    assert is_denied(guard.render([Window(target(), END)]), ALICE, "Admin_Break", END)


def test_one_person_can_have_two_ends_for_two_permission_sets() -> None:
    document = guard.render([Window(target(), END), Window(target(permission_set="Reader"), END + SECOND)])
    assert is_denied(document, ALICE, "Admin", END)
    assert not is_denied(document, ALICE, "Reader", END)
    assert is_denied(document, ALICE, "Reader", END + SECOND)


def test_people_with_the_same_end_share_a_statement() -> None:
    document = guard.render([Window(target(ALICE), END), Window(target(BOB), END)])
    assert len(document["Statement"]) == 2
    assert document["Statement"][1]["Condition"]["StringEquals"]["identitystore:UserId"] == sorted([ALICE, BOB])


def test_an_end_at_once_depends_on_no_clock() -> None:
    document = guard.render([Window(target(), END, is_open=False)])
    assert is_denied(document, ALICE, "Admin", START - timedelta(days=10_000))


def test_the_same_windows_in_another_order_are_the_same_document() -> None:
    windows = [Window(target(ALICE), END), Window(target(BOB), END), Window(target(BOB, "Reader"), START)]
    assert guard.render(windows) == guard.render(windows[::-1])


@pytest.mark.parametrize("name", ["**", "A?min", "Admin*", "", "a" * 33, "Ad min", "${aws:username}", "Ädmin"])
def test_a_name_that_would_mean_something_else_in_a_policy_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        guard.render([Window(target(permission_set=name), END)])


@pytest.mark.parametrize("user_id", ["**", "", "${identitystore:UserId}", "a" * 48, "a\n"])
def test_an_id_that_is_no_persons_is_refused(user_id: str) -> None:
    with pytest.raises(Refused):
        guard.render([Window(target(user_id), END)])


def test_the_guard_keeps_room_to_end_everybody_it_holds() -> None:
    windows: list[Window] = []
    for window in crowd(target()):
        try:
            guard.require_room([*windows, window])
        except Refused:
            break
        windows.append(window)
    assert 14 <= len(windows) <= 18
    for number in range(len(windows) + 1):
        closed = [replace(window, is_open=index >= number) for index, window in enumerate(windows)]
        assert guard.size(guard.render(closed)) <= guard.LIMIT


def test_size_is_counted_as_iam_does() -> None:
    assert guard.size({"a": "b c"}) == len('{"a":"bc"}')


EVERY = "*"


def test_people_who_are_ended_at_once_share_a_statement_where_that_says_the_same() -> None:
    sets = ("Admin", "Reader", "Deploy")
    windows = [Window(target(user_id, name), END, is_open=False) for user_id in (ALICE, BOB) for name in sets]
    document = guard.render(windows)
    assert len(document["Statement"]) == 2
    assert all(is_denied(document, user_id, name, START) for user_id in (ALICE, BOB) for name in sets)
    assert not is_denied(document, ALICE, "Other", START)


def test_people_with_different_permission_sets_are_not_crossed() -> None:
    windows = [
        Window(target(*one), END, is_open=False) for one in ((ALICE, "Admin"), (ALICE, "Reader"), (BOB, "Admin"))
    ]
    assert not is_denied(guard.render(windows), BOB, "Reader", END)


def test_a_stop_for_everybody_denies_everybody_everything_that_the_guard_reaches() -> None:
    document = guard.render([Window(target(EVERY, EVERY), END, is_open=False), Window(target(), END)])
    assert is_denied(document, ALICE, "Admin", START)
    assert is_denied(document, "somebody-else", "Other", START)
    assert len(document["Statement"]) == 2  # what it covers needs no statement of its own


def test_a_stop_for_everybody_asks_for_no_persons_id() -> None:
    document = guard.render([Window(target(EVERY, EVERY), END, is_open=False)])
    context = {"aws:PrincipalArn": role_arn("Admin")}
    decision = evaluate([EVERYTHING, document], action="s3:GetObject", resource="*", context=context, now=START)
    assert decision.outcome is Outcome.DENY


def test_a_stop_reaches_no_role_outside_identity_center() -> None:
    document = guard.render([Window(target(EVERY, EVERY), END, is_open=False)])
    context = {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/portal/PortalProvisioner"}
    decision = evaluate([EVERYTHING, document], action="s3:GetObject", resource="*", context=context, now=START)
    assert decision.outcome is Outcome.ALLOW


def test_a_stop_for_one_person_leaves_the_others() -> None:
    document = guard.render([Window(target(ALICE, EVERY), END, is_open=False), Window(target(BOB), END)])
    assert is_denied(document, ALICE, "Admin", START)
    assert is_denied(document, ALICE, "Other", START)
    assert not is_denied(document, BOB, "Admin", START)
    assert is_denied(document, BOB, "Admin", END)


def test_a_stop_for_one_permission_set_leaves_the_others() -> None:
    document = guard.render([Window(target(EVERY, "Admin"), END, is_open=False), Window(target(BOB, "Reader"), END)])
    assert is_denied(document, ALICE, "Admin", START)
    assert is_denied(document, BOB, "Admin", START)
    assert not is_denied(document, BOB, "Reader", START)
    assert is_denied(document, BOB, "Reader", END)


def test_a_stop_is_no_access_that_could_be_opened(stubs: Stubs) -> None:
    for stop in (target(EVERY), target(permission_set=EVERY)):
        with pytest.raises(Refused, match="stop"):
            stubbed(stubs).check(stop, [Window(stop, END)])


FULL_IDS = "9" * 47


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov"])
def test_a_full_guard_still_takes_every_stop(partition: str) -> None:
    windows: list[Window] = []
    for window in crowd(target(permission_set="x" * 32)):
        try:
            guard.require_room([*windows, window], partition)
        except Refused:
            break
        windows.append(window)
    assert len(windows) >= 12
    stops = [target(EVERY, EVERY), target(FULL_IDS, EVERY), target(EVERY, "y" * 32)]
    for stop in stops:
        more = [*windows, Window(stop, END, is_open=False)]
        assert guard.size(guard.render(more, partition)) <= guard.LIMIT
    together = [*windows, *(Window(stop, END, is_open=False) for stop in stops[1:])]
    assert guard.size(guard.render(together, partition)) <= guard.LIMIT


windows_of_anybody = st.lists(
    st.builds(
        Window,
        st.builds(target, st.sampled_from([ALICE, BOB, EVERY]), st.sampled_from(["Admin", "Reader", "Deploy", EVERY])),
        st.datetimes(START.replace(tzinfo=None), END.replace(tzinfo=None)).map(
            lambda at: at.replace(tzinfo=END.tzinfo)
        ),
        st.booleans(),
    ),
    max_size=8,
    unique_by=lambda window: (window.target.principal_external_id, window.target.entitlement_external_id),
)


def end_for(windows: Sequence[Window], user_id: str, permission_set: str) -> datetime | None:
    """When one person's sessions with one permission set end, by the windows alone: the earliest that is about them."""
    ends = [
        (guard.LONG_AGO if not window.is_open else window.not_after).replace(microsecond=0)
        for window in windows
        if window.target.principal_external_id in (user_id, EVERY)
        and window.target.entitlement_name in (permission_set, EVERY)
    ]
    return min(ends, default=None)


@settings(max_examples=100, deadline=None)
@given(windows_of_anybody, st.timedeltas(timedelta(0), timedelta(days=3650)))
def test_from_its_end_on_every_window_is_denied_for_ever_and_nobody_before(
    windows: list[Window], later: timedelta
) -> None:
    document = guard.render(windows)
    for user_id in (ALICE, BOB, "somebody-else"):
        for permission_set in ("Admin", "Reader", "Deploy", "Other"):
            end = end_for(windows, user_id, permission_set)
            if end is None:
                assert not is_denied(document, user_id, permission_set, END + later)
            else:
                assert is_denied(document, user_id, permission_set, end + later)
                assert not is_denied(document, user_id, permission_set, end - SECOND) or end == guard.LONG_AGO
    assert all(statement["Effect"] == "Deny" for statement in document["Statement"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["Admin", "Reader", "x" * 32]), st.integers(0, 3)), max_size=40
    ),
    st.sets(st.integers(0, 40)),
    st.sampled_from([(EVERY, EVERY), (FULL_IDS, EVERY), (EVERY, "y" * 32)]),
)
def test_whatever_fits_can_be_ended_in_any_order_and_stopped(
    wanted: list[tuple[int, str, int]], ended: set[int], stop: tuple[str, str]
) -> None:
    windows: dict[tuple[int, str], Window] = {}
    for person, name, hours in wanted:
        window = Window(target(f"{person:047d}", name), END + timedelta(hours=hours))
        try:
            guard.require_room([*windows.values(), window])
        except Refused:
            continue
        windows[person, name] = window
    closed = [replace(window, is_open=index not in ended) for index, window in enumerate(windows.values())]
    stopped = [*closed, Window(target(*stop), END, is_open=False)]
    assert guard.size(guard.render(stopped)) <= guard.LIMIT


def test_a_missing_guard_is_refused_and_named(org: Org) -> None:
    alice = real_target(org, "alice")
    for attempt in (IdcAssignment(CONFIG).check, IdcAssignment(CONFIG).enforce):
        with pytest.raises(Refused, match="jit-guard"):
            attempt(alice, [Window(alice, END)])


def versions(*numbers: int, default: int) -> dict[str, Any]:
    return {"Versions": [{"VersionId": f"v{number}", "IsDefaultVersion": number == default} for number in numbers]}


def made(number: int) -> dict[str, Any]:
    return {"PolicyVersion": {"VersionId": f"v{number}"}}


def test_the_oldest_versions_that_are_not_in_force_make_room(stubs: Stubs) -> None:
    arn = "arn:aws:iam::111122223333:policy/jit/jit-guard"
    stubs.answer("iam", "list_policy_versions", versions(12, 9, 10, 8, 11, default=9))
    for number in (8, 10):
        stubs.answer("iam", "delete_policy_version", {}, {"PolicyArn": arn, "VersionId": f"v{number}"})
    stubs.answer("iam", "create_policy_version", made(13))
    stubs.answer("iam", "list_policy_versions", versions(9, 11, 12, 13, default=13))
    stubs.answer("iam", "get_policy_version", {"PolicyVersion": {"Document": str(RESTING).replace("'", '"')}})
    proof = guard.write(stubs.api, stubs.api, "111122223333", [])
    assert proof.facts["version_id"] == "v13"


@pytest.mark.parametrize(
    ("default", "document"),
    [(1, None), (2, EVERYTHING), (2, "not a policy")],
    ids=["an old version is in force", "another document", "unreadable"],
)
def test_a_guard_that_reads_back_differently_is_unproven(stubs: Stubs, default: int, document: Any) -> None:
    stubs.answer("iam", "list_policy_versions", versions(1, default=1))
    stubs.answer("iam", "create_policy_version", made(2))
    stubs.answer("iam", "list_policy_versions", versions(1, 2, default=default))
    if document is not None:
        stubs.answer("iam", "get_policy_version", {"PolicyVersion": {"Document": str(document).replace("'", '"')}})
    with pytest.raises(Unproven):
        guard.write(stubs.api, stubs.api, "111122223333", [])


def test_a_guard_of_another_account_is_never_mixed_in(stubs: Stubs) -> None:
    with pytest.raises(ValueError, match="other accounts"):
        stubbed(stubs).enforce(target(), [Window(target(account_id="999999999999"), END)])


# ---- what is refused


def test_a_permission_set_without_guard_is_refused(org: Org) -> None:
    org.add_guard()
    org.add_permission_set("Reader", has_guard=False)
    alice = real_target(org, "alice", "Reader")
    with pytest.raises(Refused, match="does not reference the guard"):
        IdcAssignment(CONFIG).check(alice, [Window(alice, END)])


def test_long_sessions_are_refused(org: Org) -> None:
    org.add_guard()
    org.add_permission_set("Reader", session="PT4H")
    alice = real_target(org, "alice", "Reader")
    provisioner = IdcAssignment(CONFIG)
    with pytest.raises(Refused, match="1 hour"):
        provisioner.check(alice, [Window(alice, END)])
    assert provisioner.session_for(alice) == timedelta(hours=4)


def test_a_permission_set_that_has_another_name_now_is_refused(org: Org) -> None:
    org.add_guard()
    alice = real_target(org, "alice")
    renamed = replace(alice, entitlement_attributes={**alice.entitlement_attributes, "permission_set_name": "Old"})
    with pytest.raises(Refused, match="Sync first"):
        IdcAssignment(CONFIG).check(renamed, [Window(renamed, END)])


def test_standing_access_is_never_granted_on_top(stubs: Stubs) -> None:
    with pytest.raises(Refused, match="for good"):
        stubbed(stubs).check(target(), [Window(target(), END, holds_standing=True)])


def test_only_people_get_it(stubs: Stubs) -> None:
    group = replace(target(), principal_kind="idc_group")
    with pytest.raises(Refused, match="person"):
        stubbed(stubs).check(group, [Window(group, END)])


def test_a_delegated_administrator_is_not_sent_into_the_management_account(stubs: Stubs) -> None:
    stubs.answer("organizations", "describe_organization", {"Organization": {"MasterAccountId": "999999999999"}})
    management = target(account_id="999999999999")
    with pytest.raises(Refused, match="management account"):
        stubbed(stubs).check(management, [Window(management, END)])


def test_a_person_who_was_deleted_is_gone(org: Org) -> None:
    org.add_guard()
    org.add_scheduling(HUB)
    alice = real_target(org, "alice")
    org.client("identitystore").delete_user(IdentityStoreId=org.store_id, UserId=org.people["alice"])
    with pytest.raises(Gone):
        IdcAssignment(CONFIG).check(alice, [Window(alice, END)])


def test_a_target_without_what_names_it_is_refused(stubs: Stubs) -> None:
    with pytest.raises(Refused, match="Sync"):
        stubbed(stubs).open(replace(target(), entitlement_attributes={}))


# ---- what the test's AWS cannot do


def stubbed(stubs: Stubs) -> IdcAssignment:
    provisioner = IdcAssignment(CONFIG)
    provisioner._reader = provisioner._writer = stubs.api
    return provisioner


def status(state: str, **fields: str) -> dict[str, Any]:
    return {"Status": state, "RequestId": REQUEST, **fields}


def held(stubs: Stubs, *user_ids: str) -> None:
    found = [{"PrincipalType": "USER", "PrincipalId": user_id} for user_id in user_ids]
    stubs.answer("sso-admin", "list_account_assignments", {"AccountAssignments": found})


def test_opening_takes_its_time_and_is_asked_about(stubs: Stubs) -> None:
    provisioner = stubbed(stubs)
    held(stubs)
    stubs.answer("sso-admin", "create_account_assignment", {"AccountAssignmentCreationStatus": status("IN_PROGRESS")})
    ticket = provisioner.open(target())
    assert ticket == Ticket("pending", f"create:{REQUEST}")
    for state in ("IN_PROGRESS", "SUCCEEDED"):
        stubs.answer(
            "sso-admin",
            "describe_account_assignment_creation_status",
            {"AccountAssignmentCreationStatus": status(state)},
        )
    assert settle(provisioner, target(), ticket).state == "done"


def test_a_late_failure_keeps_awss_words(stubs: Stubs) -> None:
    stubs.answer(
        "sso-admin",
        "describe_account_assignment_creation_status",
        {"AccountAssignmentCreationStatus": status("FAILED", FailureReason="The policy is too large. " * 50)},
    )
    ticket = stubbed(stubs).status(target(), Ticket("pending", f"create:{REQUEST}"))
    assert ticket.state == "failed"
    assert ticket.reason.startswith("The policy is too large.")
    assert len(ticket.reason) <= 300


def test_closing_takes_its_time_and_is_asked_about(stubs: Stubs) -> None:
    provisioner = stubbed(stubs)
    held(stubs, ALICE, BOB)
    stubs.answer("sso-admin", "delete_account_assignment", {"AccountAssignmentDeletionStatus": status("IN_PROGRESS")})
    ticket = provisioner.close(target())
    stubs.answer(
        "sso-admin",
        "describe_account_assignment_deletion_status",
        {"AccountAssignmentDeletionStatus": status("SUCCEEDED")},
    )
    assert settle(provisioner, target(), ticket).state == "done"


@pytest.mark.parametrize(
    ("verb", "user_ids", "state"),
    [
        ("create", [ALICE], "done"),
        ("create", [], "failed"),
        ("delete", [], "done"),
        ("delete", [ALICE], "failed"),
    ],
)
def test_a_request_that_aws_forgot_is_judged_by_what_is_there(
    stubs: Stubs, verb: str, user_ids: list[str], state: str
) -> None:
    noun = {"create": "creation", "delete": "deletion"}[verb]
    stubs.refuse("sso-admin", f"describe_account_assignment_{noun}_status", "ResourceNotFoundException")
    held(stubs, *user_ids)
    assert stubbed(stubs).status(target(), Ticket("pending", f"{verb}:{REQUEST}")).state == state


@pytest.mark.parametrize(("code", "error"), [("ConflictException", Busy), ("ThrottlingException", Throttled)])
@pytest.mark.parametrize("verb", ["open", "close"])
def test_a_change_that_has_to_wait_says_so(stubs: Stubs, verb: str, code: str, error: type[Exception]) -> None:
    operation = {"open": "create", "close": "delete"}[verb]
    held(stubs, *([ALICE] if verb == "close" else []))
    stubs.refuse("sso-admin", f"{operation}_account_assignment", code)
    with pytest.raises(error):
        getattr(stubbed(stubs), verb)(target())


def test_an_assignment_on_the_second_page_is_seen(stubs: Stubs) -> None:
    stubs.answer("sso-admin", "list_account_assignments", {"AccountAssignments": [], "NextToken": "more"})
    held(stubs, BOB, ALICE)
    assert stubbed(stubs).look(target()).is_present


def test_a_group_of_the_same_id_is_not_the_person(stubs: Stubs) -> None:
    found = [{"PrincipalType": "GROUP", "PrincipalId": ALICE}]
    stubs.answer("sso-admin", "list_account_assignments", {"AccountAssignments": found})
    assert not stubbed(stubs).look(target()).is_present


def test_a_deleted_permission_set_is_held_by_nobody(stubs: Stubs) -> None:
    stubs.refuse("sso-admin", "list_account_assignments", "ResourceNotFoundException")
    assert not stubbed(stubs).look(target()).is_present


def test_throttling_is_ridden_out_by_the_client(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(botocore.endpoint.time, "sleep", waits.append)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    alice, answers = real_target(org, "alice"), ["throttled", "throttled"]

    def throttle(request: Any, **_: Any) -> AWSResponse | None:
        if not answers:
            return None
        answers.pop()
        raw = Raw(b'{"__type":"ThrottlingException","message":"Rate exceeded"}')
        return AWSResponse(request.url, 400, {"content-type": "application/x-amz-json-1.1"}, raw)

    client = aws_session.session(CONFIG).client(HUB, "sso-admin", "provisioner_role")
    client.meta.events.register("before-send.sso-admin.CreateAccountAssignment", throttle)
    assert IdcAssignment(CONFIG).open(alice).state == "done"
    assert len(waits) == 2
    assert org.assignments("Admin") == [org.people["alice"]]


class Raw:
    """What botocore reads an answer's body from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> list[bytes]:
        return [self._content]


def test_a_double_assignment_is_not_reported_as_gone(org: Org) -> None:
    for _ in range(2):
        org.assign("Admin", org.people["alice"])
    provisioner, alice = IdcAssignment(CONFIG), real_target(org, "alice")
    provisioner.close(alice)
    assert provisioner.look(alice).is_present
    provisioner.close(alice)
    assert not provisioner.look(alice).is_present


def test_the_lock_names_the_assignment_and_nothing_else(stubs: Stubs) -> None:
    provisioner = stubbed(stubs)
    keys = {
        provisioner.lock_key(one)
        for one in (target(), target(BOB), target(permission_set="Reader"), target(account_id="999999999999"))
    }
    assert len(keys) == 4
    assert provisioner.shared_key(target()) == provisioner.shared_key(target(BOB, "Reader"))
    assert provisioner.shared_key(target()) != provisioner.shared_key(target(account_id="999999999999"))
