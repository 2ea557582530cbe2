"""A guard or a dated policy that somebody changed outside Gatehouse is told from one that only denies more."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.connectors.aws import guard, jit_documents
from apps.connectors.aws.iam_jit_role import IamJitRole
from apps.connectors.aws.iam_timeboxed_policy import OUR_POLICY, IamTimeboxedPolicy
from apps.connectors.aws.idc_assignment import IdcAssignment
from apps.connectors.base import Examination, Examiner, Window
from apps.connectors.fake import FakeConnector
from apps.connectors.fake_provisioners import FakePolicyProvisioner, FakeProvisioner
from apps.connectors.fake_world import Line, World, forget, world
from tests.connectors.conftest import CONFIG, HUB, Org, Stubs, trust
from tests.connectors.contract import END, START
from tests.connectors.test_iam_jit_role import target as jit_target
from tests.connectors.test_iam_timeboxed_policy import ALLOW_ALL, INVOICES, gives
from tests.connectors.test_iam_timeboxed_policy import target as access
from tests.connectors.test_idc_assignment import ALICE, BOB, is_denied, target

LATER = END + timedelta(hours=1)
WINDOWS = [Window(target(ALICE), END), Window(target(BOB), LATER)]


def examined(stubs: Stubs, document: Any, windows: list[Window] = WINDOWS) -> Examination:
    """What the guard's examination says of a document in force."""
    stubs.answer(
        "iam",
        "list_policy_versions",
        {"Versions": [{"VersionId": "v1", "IsDefaultVersion": True}], "IsTruncated": False},
    )
    stubs.answer("iam", "get_policy_version", {"PolicyVersion": {"Document": json.dumps(document), "VersionId": "v1"}})
    provisioner = IdcAssignment(CONFIG)
    provisioner._reader = stubs.api
    return provisioner.examine(target(ALICE), windows)


def test_provisioners_with_a_shared_object_can_examine_it() -> None:
    assert isinstance(IdcAssignment(CONFIG), Examiner)
    assert isinstance(IamTimeboxedPolicy(CONFIG), Examiner)
    assert isinstance(FakeProvisioner({"world": "w"}), Examiner)
    assert not isinstance(FakeConnector({"world": "w"}), Examiner)


def test_a_guard_as_it_was_written_differs_in_nothing(stubs: Stubs) -> None:
    found = examined(stubs, guard.render(WINDOWS))
    assert found.is_enforced
    assert found.differences == ()
    assert found.proof.facts["digest"] == found.proof.facts["wanted"]


def test_a_line_that_is_gone_or_later_is_weaker_and_names_whose_it_is(stubs: Stubs) -> None:
    alone = examined(stubs, guard.render(WINDOWS[:1]))
    assert alone.weaker == (WINDOWS[1],)
    later = examined(stubs, guard.render([Window(target(ALICE), LATER), WINDOWS[1]]))
    assert later.weaker == (WINDOWS[0],)
    assert not later.is_enforced
    assert later.differences == ("It does not end Admin of alice in time.",)


def test_a_line_that_denies_earlier_or_a_stranger_is_stricter_and_can_be_kept(stubs: Stubs) -> None:
    earlier = Window(target(ALICE), START)
    stranger = Window(target("94482488-3041-7074-8c5b-0000000ca701", "Reader"), END)
    found = examined(stubs, guard.render([earlier, WINDOWS[1], stranger]))
    assert found.is_enforced
    assert len(found.stricter) == 2
    kept = guard.render([WINDOWS[1], *found.stricter])
    for who, name, at in ((ALICE, "Admin", START), (stranger.target.principal_external_id, "Reader", END)):
        assert is_denied(kept, who, name, at), who


def test_one_that_is_being_ended_must_be_denied_by_now(stubs: Stubs) -> None:
    ended = Window(target(ALICE), END, is_open=False)
    assert examined(stubs, guard.render([Window(target(ALICE), END)]), [ended]).weaker == (ended,)
    assert examined(stubs, guard.render([ended]), [ended]).is_enforced


@pytest.mark.parametrize("stop", [("*", "*"), (ALICE, "*"), ("*", "Admin")], ids=str)
def test_a_stop_in_force_differs_in_nothing_and_ends_what_it_reaches(stubs: Stubs, stop: tuple[str, str]) -> None:
    windows = [*WINDOWS, Window(target(*stop), START, is_open=False)]
    found = examined(stubs, guard.render(windows), windows)
    assert found.is_enforced
    assert found.differences == ()


def test_a_stop_that_is_missing_is_weaker(stubs: Stubs) -> None:
    stop = Window(target("*", "*"), START, is_open=False)
    assert examined(stubs, guard.render(WINDOWS), [*WINDOWS, stop]).weaker == (stop,)


@pytest.mark.parametrize("stop", [("*", "*"), (ALICE, "*"), ("*", "Admin")], ids=str)
def test_a_stop_that_nobody_knows_of_is_stricter_and_can_be_kept(stubs: Stubs, stop: tuple[str, str]) -> None:
    found = examined(stubs, guard.render([*WINDOWS, Window(target(*stop), START, is_open=False)]))
    assert found.is_enforced
    assert is_denied(guard.render([*WINDOWS, *found.stricter]), ALICE, "Admin", START)


def test_a_guard_that_allows_something_is_wider(stubs: Stubs) -> None:
    document = guard.render(WINDOWS)
    document["Statement"].append({"Effect": "Allow", "Action": "*", "Resource": "*"})
    found = examined(stubs, document)
    assert found.is_wider
    assert not found.is_enforced


def test_a_deny_of_another_shape_ends_nobody_and_is_told(stubs: Stubs) -> None:
    document = guard.render(WINDOWS)
    document["Statement"][1]["Condition"]["Bool"] = {"aws:MultiFactorAuthPresent": "false"}
    found = examined(stubs, document)
    assert len(found.weaker) == 1
    assert "1 things that Gatehouse did not write" in found.differences[-1]


@pytest.mark.parametrize(
    ("name", "value"), [("Action", "s3:*"), ("Resource", "arn:aws:s3:::one"), ("NotAction", "*"), ("Effect", "Allow")]
)
def test_a_statement_that_denies_less_than_everything_ends_nobody(stubs: Stubs, name: str, value: str) -> None:
    document = guard.render(WINDOWS[:1])
    statement = document["Statement"][1]
    if name == "NotAction":
        del statement["Action"]
    statement[name] = value
    assert examined(stubs, document, WINDOWS[:1]).weaker == (WINDOWS[0],)


@pytest.mark.parametrize("document", ["{", "[]", json.dumps({"Version": "2012-10-17"})])
def test_a_guard_that_cannot_be_read_ends_nobody(stubs: Stubs, document: str) -> None:
    stubs.answer(
        "iam",
        "list_policy_versions",
        {"Versions": [{"VersionId": "v1", "IsDefaultVersion": True}], "IsTruncated": False},
    )
    stubs.answer("iam", "get_policy_version", {"PolicyVersion": {"Document": document, "VersionId": "v1"}})
    provisioner = IdcAssignment(CONFIG)
    provisioner._reader = stubs.api
    found = provisioner.examine(target(ALICE), WINDOWS)
    assert found.weaker == tuple(WINDOWS)
    assert "cannot be read" in found.differences[0]


def test_a_guard_that_is_not_there_ends_nobody(stubs: Stubs) -> None:
    stubs.refuse("iam", "list_policy_versions", "NoSuchEntity", 404)
    provisioner = IdcAssignment(CONFIG)
    provisioner._reader = stubs.api
    found = provisioner.examine(target(ALICE), WINDOWS)
    assert found.weaker == tuple(WINDOWS)
    assert "no guard policy" in found.differences[0]


PEOPLE = (ALICE, BOB)
HOURS = st.integers(-2, 4)


@given(wanted=st.dictionaries(st.sampled_from(PEOPLE), HOURS), found=st.dictionaries(st.sampled_from(PEOPLE), HOURS))
def test_weaker_is_exactly_whoever_could_still_use_it_at_their_end(
    wanted: dict[str, int], found: dict[str, int]
) -> None:
    """Judged by the evaluator, not by the comparison's own reading."""
    windows = [Window(target(who), END + timedelta(hours=hours)) for who, hours in wanted.items()]
    document = guard.render([Window(target(who), END + timedelta(hours=hours)) for who, hours in found.items()])
    late = {w.target.principal_external_id for w in _Pure(document).examine(target(ALICE), windows).weaker}
    assert late == {
        window.target.principal_external_id
        for window in windows
        if not is_denied(document, window.target.principal_external_id, "Admin", window.not_after)
    }


class _Pure(IdcAssignment):
    """Reads one document and no AWS."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self._reader = self  # type: ignore[assignment]

    class session:  # noqa: N801
        config = CONFIG

        @staticmethod
        def hub() -> Any:
            return type("Hub", (), {"partition": "aws"})()

    def items(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return [{"VersionId": "v1", "IsDefaultVersion": True}]

    def call(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"PolicyVersion": {"Document": self.document}}


# ---- the dated policy


@pytest.fixture
def dated(org: Org) -> IamTimeboxedPolicy:
    org.iam().create_role(RoleName="batch", AssumeRolePolicyDocument=trust(HUB))
    return IamTimeboxedPolicy(CONFIG)


def put(org: Org, document: Any) -> None:
    org.iam().put_role_policy(RoleName="batch", PolicyName=OUR_POLICY, PolicyDocument=json.dumps(document))


def stored(org: Org) -> dict[str, Any]:
    document: dict[str, Any] = org.iam().get_role_policy(RoleName="batch", PolicyName=OUR_POLICY)["PolicyDocument"]
    return deepcopy(document)


def test_a_dated_policy_is_compared_grant_by_grant(org: Org, dated: IamTimeboxedPolicy) -> None:
    orders = Window(access("orders", account_id=org.account_id), END)
    invoices = Window(access("invoices", account_id=org.account_id, statements=[gives(INVOICES)]), END)
    dated.enforce(orders.target, [orders, invoices])
    assert dated.examine(orders.target, [orders, invoices]).differences == ()

    ended = replace(invoices, is_open=False)
    assert dated.examine(orders.target, [orders, ended]).weaker == (ended,)

    document = stored(org)
    for statement in document["Statement"]:
        if statement["Sid"].startswith("Allow"):
            statement["Condition"] = {"DateLessThan": {"aws:CurrentTime": "2099-01-01T00:00:00Z"}}
    put(org, document)
    assert dated.examine(orders.target, [orders, invoices]).weaker == (orders, invoices)


def test_a_dated_policy_without_its_deny_is_weaker(org: Org, dated: IamTimeboxedPolicy) -> None:
    orders = Window(access("orders", account_id=org.account_id), END)
    dated.enforce(orders.target, [orders])
    document = stored(org)
    document["Statement"] = [one for one in document["Statement"] if one["Effect"] == "Allow"]
    put(org, document)
    assert dated.examine(orders.target, [orders]).weaker == (orders,)


def test_what_a_dated_policy_gives_beyond_its_grants_is_wider(org: Org, dated: IamTimeboxedPolicy) -> None:
    orders = Window(access("orders", account_id=org.account_id), END)
    dated.enforce(orders.target, [orders])
    document = stored(org)
    document["Statement"].append({"Sid": "Mallory", **ALLOW_ALL["Statement"][0]})
    put(org, document)
    found = dated.examine(orders.target, [orders])
    assert found.is_wider
    assert found.weaker == ()


def test_a_dated_policy_that_is_gone_gives_nothing_and_is_not_weaker(org: Org, dated: IamTimeboxedPolicy) -> None:
    orders = Window(access("orders", account_id=org.account_id), END)
    found = dated.examine(orders.target, [orders])
    assert found.is_enforced
    assert [one.is_open for one in found.stricter] == [False]
    assert found.differences == ("It no longer gives orders for so long.",)


def test_a_dated_policy_that_ends_earlier_is_stricter_and_can_be_kept(org: Org, dated: IamTimeboxedPolicy) -> None:
    orders = Window(access("orders", account_id=org.account_id), END)
    dated.enforce(orders.target, [orders])
    found = dated.examine(orders.target, [replace(orders, not_after=LATER)])
    assert found.is_enforced
    assert [one.not_after for one in found.stricter] == [END]


# ---- the fake says the same


@pytest.fixture
def system() -> World:
    forget("examined")
    made = world("examined")
    made.add_account("111122223333")
    for name in ("alice", "bob"):
        made.add_user(name)
    made.add_permission_set("Admin", "111122223333")
    made.add_principal("iam_role", "batch", account_id="111122223333")
    made.add_entitlement("dated_policy", "orders", account_id="111122223333")
    return made


def test_the_fake_guard_is_compared_like_the_real_one(system: World) -> None:
    provisioner = FakeProvisioner({"world": "examined"})
    alice, bob = (Window(system.target(name, "Admin@111122223333"), END) for name in ("alice", "bob"))
    provisioner.enforce(alice.target, [alice, bob])
    assert provisioner.examine(alice.target, [alice, bob]).differences == ()
    assert provisioner.examine(alice.target, [alice]).stricter[0].target.principal_external_id == "bob"
    ended = replace(alice, is_open=False)
    assert provisioner.examine(alice.target, [ended, bob]).weaker == (ended,)
    system.unguarded_accounts.add("111122223333")
    assert provisioner.examine(alice.target, [alice, bob]).weaker == (alice, bob)


def test_the_fake_policy_is_compared_like_the_real_one(system: World) -> None:
    provisioner = FakePolicyProvisioner({"world": "examined"})
    window = Window(system.target("batch", "orders"), END)
    provisioner.enforce(window.target, [window])
    assert provisioner.examine(window.target, [window]).is_enforced
    assert provisioner.examine(window.target, [replace(window, is_open=False)]).weaker
    system.policies["batch"]["batch", "other"] = Line(LATER, is_open=True, holds_standing=False)
    assert provisioner.examine(window.target, [window]).is_wider


# ---- the role of one grant


@pytest.fixture
def role(org: Org) -> tuple[IamJitRole, Window]:
    """Alice's role, open until the end."""
    boundary = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    org.iam().create_policy(PolicyName="JitBoundary", Path="/jit/", PolicyDocument=json.dumps(boundary))
    provisioner = IamJitRole(CONFIG)
    window = Window(jit_target(org.account_id, user_id=org.people["alice"]), END)
    provisioner.enforce(window.target, [window])
    provisioner.open(window.target)
    return provisioner, window


def test_the_role_of_a_grant_differs_in_nothing_until_somebody_changes_it(
    org: Org, role: tuple[IamJitRole, Window]
) -> None:
    provisioner, window = role
    assert provisioner.examine(window.target, [window]).differences == ()
    provisioner.enforce(window.target, [replace(window, is_open=False)])
    assert provisioner.examine(window.target, [replace(window, is_open=False)]).is_enforced
    assert [one.is_open for one in provisioner.examine(window.target, [window]).stricter] == [False]
    provisioner.close(window.target)
    assert provisioner.examine(window.target, [window]).differences == ()


def _guard_gone(iam: Any, name: str) -> None:
    iam.delete_role_policy(RoleName=name, PolicyName="jit-guard")


def _guard_later(iam: Any, name: str) -> None:
    document = json.dumps(jit_documents.guard(LATER))
    iam.put_role_policy(RoleName=name, PolicyName="jit-guard", PolicyDocument=document)


def _trust_wider(iam: Any, name: str) -> None:
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=trust(HUB))


def _more_inline(iam: Any, name: str) -> None:
    iam.put_role_policy(RoleName=name, PolicyName="more", PolicyDocument=json.dumps(ALLOW_ALL))


def _more_access(iam: Any, name: str) -> None:
    iam.put_role_policy(RoleName=name, PolicyName="jit-access", PolicyDocument=json.dumps(ALLOW_ALL))


def _other_boundary(iam: Any, name: str) -> None:
    iam.delete_role_permissions_boundary(RoleName=name)


@pytest.mark.parametrize(
    ("change", "is_weaker", "is_wider"),
    [
        (_guard_gone, True, False),
        (_guard_later, True, False),
        (_trust_wider, False, True),
        (_more_inline, False, True),
        (_more_access, False, True),
        (_other_boundary, False, True),
    ],
)
def test_a_role_that_somebody_changed_is_weaker_or_wider(
    org: Org, role: tuple[IamJitRole, Window], change: Callable[[Any, str], None], is_weaker: bool, is_wider: bool
) -> None:
    provisioner, window = role
    change(org.iam(), f"jit-{window.target.reference}")
    found = provisioner.examine(window.target, [window])
    assert (bool(found.weaker), found.is_wider) == (is_weaker, is_wider)
    assert not found.is_enforced and found.differences


def test_a_role_that_is_to_be_denied_and_is_not_is_weaker(role: tuple[IamJitRole, Window]) -> None:
    provisioner, window = role
    ended = replace(window, is_open=False, not_after=START)
    assert provisioner.examine(window.target, [ended]).weaker == (ended,)
