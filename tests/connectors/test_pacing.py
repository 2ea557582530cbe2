"""Every request to AWS keeps to the budget, also botocore's own retries; and nothing is opened by a clock that is wrong."""

from __future__ import annotations

import email.utils
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from apps.connectors import budget
from apps.connectors.aws import clock, pacing
from apps.connectors.aws import session as aws_session
from apps.connectors.aws.idc_assignment import IdcAssignment
from apps.connectors.budget import Budget
from apps.connectors.errors import Refused, Throttled, Unproven, Unreachable
from apps.connectors.leases import Local
from tests.connectors.conftest import CONFIG, HUB, Org

ACCOUNT = "111122223333"
THROTTLED = b'{"__type":"ThrottlingException","message":"Rate exceeded"}'


class Time:
    """Seconds that pass only when somebody sleeps."""

    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    passing = Time()
    monkeypatch.setattr("time.sleep", passing.sleep)
    return passing


@pytest.fixture
def mine(time: Time) -> Iterator[Budget]:
    """A limited budget of this process, whose seconds are counted."""
    before = budget.here()
    limited = Budget(own=Local(1, lambda: time.now))
    budget.use(limited)
    clock.forget()
    yield limited
    budget.use(before)
    clock.forget()


class Raw:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> list[bytes]:
        return [self._content]


def client_of(service: str, *answers: tuple[int, bytes, dict[str, str]]) -> Any:
    """A client whose network gives these answers, paced as ours are."""
    left = list(answers)
    made: Any = boto3.client(  # type: ignore[call-overload]
        service, region_name="us-east-1", config=Config(retries={"mode": "standard", "total_max_attempts": 4})
    )
    pacing.attach(made, ACCOUNT, service)

    def answer(request: Any, **_: Any) -> AWSResponse:
        status, body, headers = left.pop(0)
        kind = {"content-type": "application/x-amz-json-1.1"}
        return AWSResponse(request.url, status, {**kind, **headers}, Raw(body))  # type: ignore[arg-type]

    made.meta.events.register("before-send", answer)
    return made


def describe(client: Any) -> None:
    client.list_instances()


def test_each_attempt_is_counted_and_waits(mine: Budget) -> None:
    client = client_of("sso-admin", (400, THROTTLED, {}), (400, THROTTLED, {}), (200, b"{}", {}))
    describe(client)
    assert mine.counts().calls["sso-admin", "sync"] == 3
    assert mine.counts().throttles["sso-admin", "sync"] == 2


def test_everybody_waits_as_long_as_aws_says(mine: Budget, time: Time) -> None:
    client = client_of("sso-admin", (400, THROTTLED, {"retry-after": "7"}), (200, b"{}", {}))
    with budget.purpose("revoke"):
        describe(client)
    assert 7 <= time.now < 8


def test_a_wait_that_is_no_number_counts_as_none_given(mine: Budget, time: Time) -> None:
    describe(client_of("sso-admin", (400, THROTTLED, {"retry-after": "later"}), (200, b"{}", {})))
    assert time.now >= pacing.PAUSE


def test_a_budget_that_is_spent_reaches_the_caller_in_our_words(mine: Budget) -> None:
    mine.pause(pacing.RATES["sso-admin"], ACCOUNT, 60, "sync")
    with budget.purpose("grant"), pytest.raises(Throttled, match="what ends access goes first"):
        describe(client_of("sso-admin"))


def test_what_ends_access_goes_first_whoever_asks(mine: Budget) -> None:
    body = b'{"AccountAssignmentDeletionStatus": {"Status": "SUCCEEDED", "RequestId": "r"}}'
    client = client_of("sso-admin", (200, body, {}))
    client.delete_account_assignment(
        InstanceArn="arn:aws:sso:::instance/ssoins-1234567890abcdef",
        TargetId=ACCOUNT,
        TargetType="AWS_ACCOUNT",
        PermissionSetArn="arn:aws:sso:::permissionSet/ssoins-1234567890abcdef/ps-1234567890abcdef",
        PrincipalType="USER",
        PrincipalId="u",
    )
    assert dict(mine.counts().calls) == {("sso-admin", "revoke"): 1}


def test_operations_in_our_tables_exist() -> None:
    sso, store = (boto3.client(name, region_name="us-east-1") for name in ("sso-admin", "identitystore"))  # type: ignore[call-overload]
    known = {*sso.meta.method_to_api_mapping.items(), *store.meta.method_to_api_mapping.items()}
    assert {method for method, _ in known} >= pacing.STARTS | pacing.ASKS
    assert {api for _, api in known} >= pacing.FIRST


# Room for what AWS works on


def status(state: str, number: str = "r-1") -> dict[str, Any]:
    return {"AccountAssignmentCreationStatus": {"Status": state, "RequestId": number}, "ResponseMetadata": {}}


def start(number: int, operation: str = "create_account_assignment", state: str = "IN_PROGRESS") -> None:
    with pacing.room(ACCOUNT, "sso-admin", operation) as answered:
        answered(status(state, f"r-{number}"))


def test_openings_that_aws_works_on_leave_room_for_removals(mine: Budget, time: Time) -> None:
    with budget.purpose("grant"):
        for number in range(7):
            start(number)
        with pytest.raises(Throttled):
            start(8)
    begun = time.now
    for number in range(10, 13):
        start(number, "delete_account_assignment")  # whatever the caller's purpose
    assert time.now == begun


def test_room_is_free_again_when_aws_says_that_it_is_through(mine: Budget, time: Time) -> None:
    with budget.purpose("grant"):
        for number in range(7):
            start(number)
        with pacing.room(ACCOUNT, "sso-admin", "describe_account_assignment_creation_status") as answered:
            answered(status("IN_PROGRESS", "r-3"))
        with pytest.raises(Throttled):
            start(8)
        with pacing.room(ACCOUNT, "sso-admin", "describe_account_assignment_creation_status") as answered:
            answered(status("FAILED", "r-3"))
        begun = time.now
        start(8)
    assert time.now == begun


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_what_was_through_at_once_takes_no_room(mine: Budget, time: Time, state: str) -> None:
    with budget.purpose("grant"):
        for number in range(20):
            start(number, state=state)
    assert time.now == 0


def test_what_aws_refused_takes_no_room_and_what_got_no_answer_does(mine: Budget, time: Time) -> None:
    def fail(error: Exception) -> None:
        with pytest.raises(type(error)), pacing.room(ACCOUNT, "sso-admin", "create_account_assignment"):
            raise error

    with budget.purpose("grant"):
        for _ in range(20):
            fail(Refused("no"))
        for _ in range(7):
            fail(Unreachable("silence"))
        assert time.now == 0
        with pytest.raises(Throttled):
            start(1)


def test_a_reading_makes_two_requests_at_a_time_in_one_account(mine: Budget, time: Time) -> None:
    first, second = (pacing.room(ACCOUNT, "iam", "list_roles") for _ in range(2))
    with first, second:
        with pacing.room("999999999999", "iam", "list_roles"):
            assert time.now == 0
        with budget.purpose("revoke"), pacing.room(ACCOUNT, "iam", "create_policy_version"):
            assert time.now == 0
        with pytest.raises(Throttled), pacing.room(ACCOUNT, "iam", "list_roles"):
            pass
    begun = time.now
    with pacing.room(ACCOUNT, "iam", "list_roles"):
        assert time.now == begun


def test_our_calls_keep_to_it(org: Org, mine: Budget) -> None:
    """The whole way: an assignment is opened and ended, and every request was counted under its purpose."""
    from tests.connectors.test_idc_assignment import real_target

    alice = real_target(org, "alice")
    provisioner = IdcAssignment(CONFIG)
    with budget.purpose("grant"):
        provisioner.open(alice)
    with budget.purpose("revoke"):
        provisioner.close(alice)
    calls = mine.counts().calls
    assert calls["sso-admin", "grant"] >= 2
    assert calls["sso-admin", "revoke"] >= 2


# AWS's clock


def date(off: float) -> str:
    return email.utils.format_datetime(datetime.now(UTC) - timedelta(seconds=off), usegmt=True)


def test_the_clock_is_compared_at_every_answer(mine: Budget) -> None:
    describe(client_of("sso-admin", (200, b"{}", {"date": date(40)})))
    skew = clock.skew()
    assert skew
    assert abs(skew.total_seconds() - 40) < 5
    assert len(mine.skews()) == 1


@pytest.mark.parametrize("nonsense", ["", "yesterday", "Mon, 99 Foo 2026"])
def test_what_is_not_a_date_says_nothing(mine: Budget, nonsense: str) -> None:
    clock.note(nonsense)
    assert clock.skew() is None
    clock.require_right()


@pytest.mark.parametrize(("off", "words"), [(45, "ahead of"), (-45, "behind")])
def test_nothing_is_opened_by_a_clock_that_is_wrong(org: Org, mine: Budget, off: float, words: str) -> None:
    from tests.connectors.test_idc_assignment import real_target

    alice = real_target(org, "alice")
    provisioner = IdcAssignment(CONFIG)
    writer = aws_session.Api(aws_session.session(CONFIG), "provisioner_role")
    writer.session.client(HUB, "sso-admin", "provisioner_role")  # its first answer comes from AWS itself
    clock.note(date(off))
    with budget.purpose("grant"), pytest.raises(Unproven, match=words):
        writer.call(HUB, "sso-admin", "create_account_assignment")
    assert org.assignments("Admin") == []
    clock.note(date(off))
    with budget.purpose("revoke"):
        assert provisioner.close(alice).state == "done"


def test_a_clock_that_was_set_right_opens_again(mine: Budget) -> None:
    clock.note(date(45))
    with pytest.raises(Unproven):
        clock.require_right()
    clock.note(date(29))
    clock.require_right()


def test_credentials_are_not_minted_by_a_clock_that_is_wrong(mine: Budget) -> None:
    clock.note(date(45))
    broker = aws_session.Api(aws_session.session({**CONFIG, "broker_role": "portal/Broker"}), "broker_role")
    assert broker._opens
    assert not aws_session.Api(aws_session.session(CONFIG), "reader_role")._opens


def test_what_one_reading_costs_is_counted_with_the_throttles_that_a_retry_made_good(mine: Budget, time: Time) -> None:
    client = client_of("sso-admin", (400, THROTTLED, {"retry-after": "2"}), (200, b'{"Instances":[]}', {}))
    with budget.counting() as spent, budget.counting() as other:
        pass
    with budget.counting(spent):
        client.list_instances()
    assert (spent.throttles, other.throttles) == (1, 0)
    assert spent.waited >= 1


def test_an_api_counts_where_it_was_made_whichever_thread_calls(org: Org) -> None:
    with budget.counting() as spent:
        api = aws_session.Api(aws_session.session(CONFIG), "reader_role")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(api.call, HUB, "iam", "get_account_summary").result()
    assert (spent.calls, api.calls) == (3, 3)  # who we are, becoming the role, and the call
