"""What a shared object must say: who may, until when, and whose access was ended; read in a few statements."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.test.utils import CaptureQueriesContext

from apps.connectors.base import Target, Window
from apps.connectors.fake_provisioners import FakeProvisioner
from apps.grants import services, warrants
from apps.grants.models import EndReason, Grant, Scope, State, Stop
from apps.grants.services import stops
from apps.grants.windows import _reaches, is_held_standing, is_open, target_for, target_of, window_for, windows_of
from apps.inventory.models import Assignment, Connection, Entitlement, Principal, Resource
from tests.factories.inventory import AssignmentFactory, EntitlementFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.system import ACCOUNT, START, System
from tests.grants.test_stops import PASSKEY


def test_the_number_of_queries_does_not_grow_with_the_people_in_it(system: System) -> None:
    first = system.active()

    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            windows_of(first.shared_key)
        return len(seen)

    few = queries()
    for number in range(4):
        who = system.person(f"p{number}")
        system.active(who)
        system.holds(who, system.admin)
    assert len(windows_of(first.shared_key)) == 5
    assert queries() == few


def test_each_window_knows_what_its_own_holder_has_all_the_time(system: System) -> None:
    mine, other = system.active(system.alice), system.active(system.bob)
    Assignment.objects.filter(principal=system.alice).update(is_standing=True)
    windows = {window.target.principal_name: window.holds_standing for window in windows_of(mine.shared_key)}
    assert windows == {"alice": True, "bob": False}
    assert is_held_standing(mine)
    assert not is_held_standing(other)


def test_a_deny_is_weighed_against_all_that_its_holder_has_and_gatehouse_did_not_make(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = system.active()
    for is_ours in (True, False):
        policy = EntitlementFactory(
            connection=system.connection,
            resource=system.account,
            kind="iam_policy",
            is_ours=is_ours,
            documents=[{"name": "p", "document": {"Id": f"ours: {is_ours}"}}],
        )
        AssignmentFactory(connection=system.connection, principal=system.alice, entitlement=policy)
    weighed: list[tuple[Target, list[Any]]] = []

    def would_cut(provisioner: FakeProvisioner, target: Target, documents: list[Any]) -> bool:
        weighed.append((target, documents))
        return True

    monkeypatch.setattr(FakeProvisioner, "would_cut", would_cut)
    assert only_window(grant).holds_standing
    assert weighed == [(target_of(grant), [{"Id": "ours: False"}])]


# ---- what one window says, without a database


def target(**fields: Any) -> Target:
    names = {"principal_external_id": "alice", "entitlement_external_id": "Read", "reference": "", **fields}
    return Target(
        account_id=ACCOUNT,
        principal_kind="idc_user",
        principal_name="alice",
        entitlement_kind="permission_set",
        entitlement_name="Read",
        **names,
    )


@pytest.mark.parametrize(
    "different", [{"principal_external_id": "bob"}, {"entitlement_external_id": "Admin"}, {"reference": "g-2"}]
)
def test_a_window_is_about_one_holder_one_access_and_one_object(different: dict[str, str]) -> None:
    mine, other = Window(target(), START), Window(target(**different), START)
    assert window_for(target(), [other, mine]) is mine
    assert window_for(target(), [other]) is None


def test_a_target_names_all_that_aws_needs_to_know() -> None:
    account = Resource(external_id=ACCOUNT)
    alice = Principal(kind="iam_user", external_id="u-1", name="alice", attributes={"path": "/"})
    read = Entitlement(kind="permission_set", external_id="ps-1", name="Read", resource=account, attributes={"a": 1})
    expected = Target(
        account_id=ACCOUNT,
        principal_kind="iam_user",
        principal_external_id="u-1",
        principal_name="alice",
        entitlement_kind="permission_set",
        entitlement_external_id="ps-1",
        entitlement_name="Read",
        entitlement_attributes={"a": 1},
        principal_attributes={"path": "/"},
    )
    assert target_for(alice, read) == expected
    found = Grant(
        connection=Connection(kind="fake"),
        principal=alice,
        entitlement=read,
        assignment=Assignment(attributes={"b": 2}),
        reference="g-1",
        made_as="AROA1",
    )
    assert target_of(found) == replace(expected, assignment_attributes={"b": 2}, made_as="AROA1")
    found.assignment = None
    assert target_of(found).assignment_attributes == {}


def test_what_has_an_object_of_its_own_is_named_by_its_own_name() -> None:
    grant = Grant(
        connection=Connection(kind="aws"),
        principal=Principal(external_id="u-1"),
        entitlement=Entitlement(external_id="role"),
        provisioner="iam_jit_role",
        reference="g-1",
    )
    assert target_of(grant).reference == "g-1"


def test_what_lies_in_no_account_is_in_its_holders_or_in_none() -> None:
    group, anywhere = Entitlement(), Principal()
    assert target_for(Principal(resource=Resource(external_id="222233334444")), group).account_id == "222233334444"
    assert target_for(anywhere, group).account_id == ""


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("has_warrant", [True, False])
def test_only_a_live_grant_with_a_good_warrant_is_open(
    state: State, has_warrant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(grant: Grant) -> None:
        if not has_warrant:
            raise warrants.InvalidWarrant

    monkeypatch.setattr(warrants, "check", check)
    assert is_open(Grant(state=state)) is (has_warrant and state in (State.PROVISIONING, State.ACTIVE))


@pytest.mark.parametrize(
    ("who", "what", "reaches"),
    [("*", "*", True), ("alice", "*", True), ("*", "Read", True), ("bob", "*", False), ("*", "Admin", False)],
)
def test_a_forgotten_stop_reaches_a_pair_by_the_name_that_a_guard_has_for_its_permission_set(
    who: str, what: str, reaches: bool
) -> None:
    """A guard in AWS says no more of a permission set than its name."""
    named = {"permission_set_name": what}
    line = target(principal_external_id=who, entitlement_external_id=f"{what}@{ACCOUNT}", entitlement_attributes=named)
    read = target(entitlement_external_id="ps-1", entitlement_attributes={"permission_set_name": "Read"})
    assert _reaches(line, read) is reaches


def test_what_has_no_permission_set_is_not_reached_by_what_names_none() -> None:
    line = target(principal_external_id="*", entitlement_external_id="group")
    assert not _reaches(line, target(entitlement_external_id="another group"))


# ---- one window for all grants of the same access


HOUR = timedelta(hours=1)


def only_window(grant: Grant) -> Window:
    [window] = windows_of(grant.shared_key)
    return window


def test_several_grants_of_one_access_last_as_long_as_the_longest(system: System) -> None:
    grants = [system.active(duration=hours * HOUR) for hours in (1, 3, 2)]
    window = only_window(grants[0])
    assert (window.is_open, window.not_after, window.lapses_at) == (True, START + 3 * HOUR, START + 3 * HOUR)
    services.end(grants[1], by=grants[1].requested_by, reason=EndReason.DONE)
    window = only_window(grants[0])
    assert (window.is_open, window.not_after) == (True, START + 2 * HOUR)
    assert window.lapses_at == START + 3 * HOUR  # what was dated with it may still live


def test_the_earlier_of_its_two_ends_counts(system: System) -> None:
    grant = system.active(duration=2 * HOUR)
    Grant.objects.filter(pk=grant.pk).update(ends_at=START + HOUR)
    assert only_window(grant).not_after == START + HOUR
    Grant.objects.filter(pk=grant.pk).update(ends_at=None)
    assert only_window(grant).not_after == START + 2 * HOUR


@pytest.mark.parametrize("standing", [True, False])
def test_what_is_ended_is_denied_from_when_it_was_ended(system: System, clock: Any, standing: bool) -> None:
    grant = system.active()
    Assignment.objects.filter(principal=system.alice).update(is_standing=standing)
    clock.shift(timedelta(minutes=10, microseconds=5))
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    clock.shift(timedelta(minutes=10))
    window = only_window(grant)
    assert (window.is_open, window.not_after) == (False, START + timedelta(minutes=10))
    assert window.holds_standing is False  # what a Deny would cut is asked before anything opens
    assert window.lapses_at == START + HOUR


def test_who_holds_it_through_a_group_holds_it_all_the_time(system: System) -> None:
    grant = system.active()
    group = PrincipalFactory(connection=system.connection, group=True)
    membership = EntitlementFactory(connection=system.connection, kind="idc_group", group=group)
    hold = {"connection": system.connection, "is_standing": True, "period": DateTimeTZRange(START - HOUR, None)}
    Assignment.objects.create(principal=group, entitlement=system.read, **hold)
    assert not is_held_standing(grant)
    joined = Assignment.objects.create(principal=system.alice, entitlement=membership, **hold)
    assert is_held_standing(grant)
    assert only_window(grant).holds_standing
    assert not is_held_standing(system.active(system.bob))
    Assignment.objects.filter(pk=joined.pk).update(period=DateTimeTZRange(START - HOUR, START))
    assert not is_held_standing(grant)


def test_the_one_that_is_to_open_is_counted_in_and_the_one_that_leaves_is_not(system: System) -> None:
    first = system.active()
    opening = system.issue(system.bob)
    Grant.objects.filter(pk=opening.pk).update(
        state=State.PROVISIONING, not_after=START + HOUR, shared_key=first.shared_key, claimed_at=START
    )
    opening.refresh_from_db()

    def people(**fields: Grant) -> list[str]:
        return [window.target.principal_name for window in windows_of(first.shared_key, **fields)]

    assert people() == ["alice"]
    assert people(opening=opening) == ["alice", "bob"]
    assert people(opening=opening, without=first) == ["bob"]


def test_grants_with_an_object_of_their_own_are_never_taken_together(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = system.active(), system.active(duration=2 * HOUR)
    monkeypatch.setattr(Grant, "is_alone_in_aws", True)
    ends = {window.target.reference: window.not_after for window in windows_of(short.shared_key)}
    assert ends == {short.reference: START + HOUR, long.reference: START + 2 * HOUR}


def test_a_stop_is_said_as_a_deny_since_it_was_ordered(system: System, clock: Any) -> None:
    erin = UserFactory(name="Erin", administrator=True)
    stop = stops.order(scope=Scope.ACCOUNT, subject=system.account, reason="It was stolen.", by=erin, step_up=PASSKEY)
    clock.shift(HOUR)
    [said] = windows_of(stop.writes.get().shared_key)
    assert (said.is_open, said.not_after, said.target.principal_external_id) == (False, START, "*")


def test_a_stop_bites_before_the_rows_of_what_it_ends_say_so(system: System) -> None:
    """They may be held by somebody, or have been issued while it was ordered."""
    hers, his = system.active(), system.active(system.bob)
    Stop.objects.create(scope="person", identity=system.alice.identity, reason="Why.", ordered_by=UserFactory())
    windows = {window.target.principal_name: window for window in windows_of(hers.shared_key)}
    assert not windows["alice"].is_open
    assert windows["alice"].not_after < START + timedelta(minutes=1)
    assert windows["bob"].is_open
    assert his.state == State.ACTIVE
