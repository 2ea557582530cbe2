"""The evaluator, and with it the proof that the dated documents Gatehouse writes end access on time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apps.connectors.aws.policy.documents import parse
from apps.connectors.aws.policy.evaluator import CannotDecide, Decision, Outcome, evaluate

NOW = datetime(2026, 11, 22, 17, 30, tzinfo=UTC)
BUCKET = "arn:aws:s3:::reports/2026.csv"
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def policy(*statements: dict[str, Any], version: str = "2012-10-17") -> dict[str, Any]:
    return {"Version": version, "Statement": list(statements)}


def statement(effect: str = "Allow", action: Any = "*", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def decide(
    *documents: Any,
    action: str = "s3:GetObject",
    resource: str = BUCKET,
    now: datetime = NOW,
    **context: Any,
) -> Decision:
    return evaluate(documents, action=action, resource=resource, context=context.get("context", {}), now=now)


def holds(condition: dict[str, Any], context: dict[str, Any], now: datetime = NOW, version: str = "2012-10-17") -> bool:
    """Whether a Condition block holds in a request."""
    found = decide(policy(statement(Condition=condition), version=version), context=context, now=now)
    return found.outcome is Outcome.ALLOW


# Deciding


def test_nothing_is_allowed_by_default() -> None:
    assert decide() == Decision(Outcome.IMPLICIT_DENY, None)
    assert decide(policy()) == Decision(Outcome.IMPLICIT_DENY, None)


def test_the_statement_that_decides_is_named() -> None:
    document = parse(policy(statement(action="sqs:*"), statement(Sid="Reports")))
    assert decide(document) == Decision(Outcome.ALLOW, document.statements[1])


def test_a_deny_wins_over_every_allow_wherever_it_stands() -> None:
    deny = statement("Deny", "s3:Get*", Sid="No")
    for documents in ([policy(deny, statement())], [policy(statement(), deny)], [ALLOW_ALL, policy(deny)]):
        found = decide(*documents)
        assert found.outcome is Outcome.DENY
        assert found.statement is not None
        assert found.statement.sid == "No"


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        (statement(action="S3:getobject"), True),
        (statement(action="s3:GetObjec?"), True),
        (statement(action=["sqs:*", "s3:*"]), True),
        (statement(action="s3:Put*"), False),
        ({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, True),
        ({"Effect": "Allow", "NotAction": ["iam:*", "S3:GET*"], "Resource": "*"}, False),
        (statement(resource="arn:aws:s3:::reports/*"), True),
        (statement(resource="arn:aws:s3:::Reports/*"), False),
        (statement(resource=["arn:aws:s3:::other", "arn:aws:s3:::reports/2026.cs?"]), True),
        ({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::secret/*"}, True),
        ({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::reports/*"}, False),
    ],
)
def test_actions_ignore_letter_case_and_resources_do_not(written: dict[str, Any], allowed: bool) -> None:
    assert decide(policy(written)).outcome is (Outcome.ALLOW if allowed else Outcome.IMPLICIT_DENY)


# Conditions


@pytest.mark.parametrize(
    ("operator", "wanted", "given_value", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringEqualsIgnoreCase", "a", "A", True),
        ("StringNotEqualsIgnoreCase", "a", "A", False),
        ("StringLike", "a*c?", "abbbcd", True),
        ("StringLike", "A*", "abc", False),
        ("StringNotLike", "a*", "abc", False),
        ("StringNotLike", "a*", "b", True),
        ("ArnLike", "arn:aws:iam::*:role/a*", "arn:aws:iam::1:role/ab", True),
        ("ArnEquals", "arn:aws:iam::*:role/a*", "arn:aws:iam::1:role/ab", True),
        ("ArnLike", "arn:aws:s:*:1:finance/*", "arn:aws:s:us-east-2:9:store/abc:1:finance/x", False),
        ("StringLike", "arn:aws:s:*:1:finance/*", "arn:aws:s:us-east-2:9:store/abc:1:finance/x", True),
        ("ArnNotLike", "arn:aws:iam::*:role/a*", "arn:aws:iam::1:role/b", True),
        ("ArnNotEquals", "arn:aws:iam::*:role/a*", "arn:aws:iam::1:role/ab", False),
        ("ArnLike", "arn:aws:iam::*:role/a*", "no arn", False),
        ("Bool", "true", True, True),
        ("Bool", True, "TRUE", True),
        ("Bool", "true", False, False),
        ("NumericEquals", "10", 10, True),
        ("NumericNotEquals", "10", 10.5, True),
        ("NumericLessThan", "10", 9, True),
        ("NumericLessThan", "10", 10, False),
        ("NumericLessThanEquals", 10, "10.0", True),
        ("NumericGreaterThan", "9", "10", True),
        ("NumericGreaterThanEquals", "11", 10, False),
        ("DateEquals", "2026-11-22T18:00:00Z", datetime(2026, 11, 22, 18, tzinfo=UTC), True),
        ("DateNotEquals", "2026-11-22T18:00:00Z", "2026-11-22T18:00:01Z", True),
        ("DateLessThan", "2026-11-22", "2026-11-21T23:59:59Z", True),
        ("DateLessThanEquals", "2026-11-22T18:00:00+01:00", "2026-11-22T17:00:00Z", True),
        ("DateGreaterThan", "1700000000", "1700000001", True),
        ("DateGreaterThanEquals", "2026-11-22T18:00:00Z", "2026-11-22T17:59:59Z", False),
    ],
)
def test_each_operator_compares_as_aws_says(operator: str, wanted: Any, given_value: Any, expected: bool) -> None:
    assert holds({operator: {"aws:Key": wanted}}, {"AWS:key": given_value}) is expected
    assert holds({f"{operator}IfExists": {"aws:Key": wanted}}, {"AWS:key": given_value}) is expected


@pytest.mark.parametrize(
    ("operator", "wanted", "expected"),
    [
        ("StringEquals", "a", False),
        ("StringLike", "*", False),
        ("ArnLike", "*", False),
        ("Bool", "false", False),
        ("NumericLessThan", "10", False),
        ("DateLessThan", "2030-01-01T00:00:00Z", False),
        ("StringNotEquals", "a", True),
        ("StringNotLike", "*", True),
        ("ArnNotLike", "*", True),
        ("NumericNotEquals", "10", True),
        ("StringEqualsIfExists", "a", True),
        ("BoolIfExists", "true", True),
        ("DateLessThanIfExists", "2000-01-01", True),
        ("StringNotEqualsIfExists", "a", True),
        ("ForAllValues:StringEquals", "a", True),
        ("ForAllValues:StringNotEquals", "a", True),
        ("ForAnyValue:StringEquals", "a", False),
        ("ForAnyValue:StringNotEquals", "a", False),
        ("ForAnyValue:StringEqualsIfExists", "a", False),
        ("Null", "true", True),
        ("Null", "false", False),
    ],
)
def test_each_operator_treats_an_absent_key_as_aws_says(operator: str, wanted: str, expected: bool) -> None:
    assert holds({operator: {"aws:Key": wanted}}, {}) is expected
    assert holds({operator: {"aws:Key": wanted}}, {"aws:Key": []}) is expected


@pytest.mark.parametrize(
    ("operator", "given_values", "expected"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "x"], False),
        ("ForAllValues:StringNotEquals", ["x", "y"], True),
        ("ForAllValues:StringNotEquals", ["x", "a"], False),
        ("ForAnyValue:StringEquals", ["x", "a"], True),
        ("ForAnyValue:StringEquals", ["x", "y"], False),
        ("ForAnyValue:StringNotEquals", ["a", "x"], True),
        ("ForAnyValue:StringNotEquals", ["a", "b"], False),
        ("StringEquals", ["x", "a"], True),
        ("StringNotEquals", ["x", "a"], False),
    ],
)
def test_keys_with_several_values(operator: str, given_values: list[str], expected: bool) -> None:
    assert holds({operator: {"aws:TagKeys": ["a", "b"]}}, {"aws:TagKeys": given_values}) is expected


def test_the_presence_of_a_key_is_what_null_asks_for() -> None:
    assert holds({"Null": {"aws:TokenIssueTime": "false"}}, {"aws:TokenIssueTime": NOW})
    assert not holds({"Null": {"aws:TokenIssueTime": True}}, {"aws:TokenIssueTime": NOW})


def test_all_lines_of_a_condition_must_hold() -> None:
    condition = {"StringEquals": {"aws:a": "1", "aws:b": "2"}, "Bool": {"aws:c": "true"}}
    context = {"aws:a": "1", "aws:b": "2", "aws:c": True}
    assert holds(condition, context)
    for key in context:
        assert not holds(condition, context | {key: "false"})


def test_the_clock_is_the_one_that_is_passed() -> None:
    condition = {
        "DateLessThan": {"aws:CurrentTime": "2026-11-22T18:00:00Z"},
        "NumericLessThan": {"aws:EpochTime": 1795370400},
    }
    end = datetime(2026, 11, 22, 18, tzinfo=UTC)
    assert end.timestamp() == 1795370400
    assert holds(condition, {}, now=end - timedelta(seconds=1))
    assert not holds(condition, {}, now=end)
    assert not holds(condition, {"aws:CurrentTime": "1999-01-01"}, now=end)


# Variables


def test_a_variable_takes_its_value_from_the_request() -> None:
    home = policy(statement(resource="arn:aws:s3:::home/${aws:username}/*"))
    assert (
        decide(home, resource="arn:aws:s3:::home/alice/x", context={"AWS:UserName": "alice"}).outcome is Outcome.ALLOW
    )
    assert (
        decide(home, resource="arn:aws:s3:::home/bob/x", context={"aws:username": "alice"}).outcome is not Outcome.ALLOW
    )


def test_a_value_brings_no_wildcards_with_it() -> None:
    home = policy(statement(resource="arn:aws:s3:::home/${aws:username}/*"))
    assert decide(home, resource="arn:aws:s3:::home/bob/x", context={"aws:username": "*"}).outcome is not Outcome.ALLOW
    assert (
        decide(home, resource="arn:aws:s3:::home/bob/x", context={"aws:username": "bo?"}).outcome is not Outcome.ALLOW
    )
    assert holds({"StringLike": {"aws:a": "x${*}y${?}${$}"}}, {"aws:a": "x*y?$"})
    assert not holds({"StringLike": {"aws:a": "x${*}y${?}${$}"}}, {"aws:a": "xzyz$"})


def test_a_statement_with_a_variable_without_value_does_not_apply() -> None:
    assert decide(policy(statement(resource="${aws:username}*"))).outcome is Outcome.IMPLICIT_DENY
    denied = policy(statement(), statement("Deny", Condition={"StringNotEquals": {"aws:a": "${aws:b}"}}))
    assert decide(denied, context={"aws:a": "1"}).outcome is Outcome.ALLOW
    assert decide(denied, context={"aws:a": "1", "aws:b": "2"}).outcome is Outcome.DENY


def test_a_variable_may_bring_a_default() -> None:
    condition = {"StringEquals": {"aws:a": "${aws:PrincipalTag/team, 'everyone'}"}}
    assert holds(condition, {"aws:a": "everyone"})
    assert holds(condition, {"aws:a": "ops", "aws:PrincipalTag/team": "ops"})


def test_before_2012_a_variable_is_plain_text() -> None:
    condition = {"StringEquals": {"aws:a": "${aws:b}"}}
    assert holds(condition, {"aws:a": "${aws:b}"}, version="2008-10-17")
    assert not holds(condition, {"aws:a": "1", "aws:b": "1"}, version="2008-10-17")


# What it refuses to decide


@pytest.mark.parametrize(
    "written",
    [
        statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
        statement(Condition={"ForSomeValues:StringEquals": {"aws:a": "1"}}),
        statement(Condition={"DateLessThan": {"aws:CurrentTime": "tomorrow"}}),
        statement(Condition={"NumericLessThan": {"aws:EpochTime": "NaN"}}),
        statement(Condition={"Null": {"aws:a": "maybe"}}),
        statement(Principal="*"),
    ],
)
def test_it_does_not_guess(written: dict[str, Any]) -> None:
    with pytest.raises(CannotDecide):
        decide(policy(written), context={"aws:SourceIp": "10.0.0.1", "aws:a": "1"})


def test_an_instant_without_zone_is_refused() -> None:
    with pytest.raises(CannotDecide, match="time zone"):
        decide(ALLOW_ALL, now=datetime(2026, 11, 22))


# The documents that end access (reference: dated Deny and dated Allow, by aws:CurrentTime)

PERSON = "90677c608a-7afcdc23-22e4-4fb8-9617-10ad2e5c8b0a"
ROLE = (
    "arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_JitAdmin_0123456789abcdef"
)


def stamp(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def guard(end: datetime, *, narrowed: bool = True, person: str = PERSON) -> dict[str, Any]:
    """What a permission set refers to: Deny everything to one person from the end on, in its roles."""
    narrow = {
        "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/aws-reserved/sso.amazonaws.com*/AWSReservedSSO_JitAdmin_*"}
    }
    return policy(
        statement("Deny", Sid="Anchor", Condition={"DateLessThan": {"aws:CurrentTime": "2000-01-01T00:00:00Z"}}),
        statement(
            "Deny",
            Condition={
                "StringEquals": {"identitystore:UserId": [person]},
                "DateGreaterThanEquals": {"aws:CurrentTime": stamp(end)},
                **(narrow if narrowed else {}),
            },
        ),
    )


def window(end: datetime, action: Any = "*", resource: Any = "*") -> dict[str, Any]:
    """What a grant writes on an IAM user or role: a dated Allow, and a dated Deny of the same."""
    return policy(
        statement("Allow", action, resource, Condition={"DateLessThan": {"aws:CurrentTime": stamp(end)}}),
        statement("Deny", action, resource, Condition={"DateGreaterThanEquals": {"aws:CurrentTime": stamp(end)}}),
    )


def session(end: datetime) -> dict[str, Any]:
    """What a brokered session is bounded by: Allow everything, Deny everything from the end on."""
    return policy(
        statement(),
        statement("Deny", Condition={"DateGreaterThanEquals": {"aws:CurrentTime": stamp(end)}}, Sid="JitNotAfter"),
    )


# Roles of Identity Center always bring these two; the rest comes and goes with the kind of credentials.
SSO_KEYS = {"identitystore:UserId": PERSON, "aws:PrincipalArn": ROLE}
optional_keys = st.fixed_dictionaries(
    {},
    optional={
        "aws:TokenIssueTime": st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
        "aws:MultiFactorAuthPresent": st.booleans(),
        "aws:SourceIp": st.ip_addresses().map(str),
        "aws:PrincipalTag/team": st.text(max_size=5),
        "aws:username": st.text(min_size=1, max_size=5),
        "aws:userid": st.text(max_size=5),
        "aws:CurrentTime": st.just("2000-01-01T00:00:00Z"),
    },
)
ends = st.datetimes(datetime(2024, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=0)
)
after = st.timedeltas(timedelta(0), timedelta(days=3650))
before = st.timedeltas(timedelta(seconds=1), timedelta(days=3650))
requests = st.sampled_from(
    [
        ("iam:CreateUser", "arn:aws:iam::1:user/x"),
        ("s3:GetObject", BUCKET),
        ("sts:GetCallerIdentity", "*"),
        ("new:Thing", "arn:new"),
    ]
)
shapes = st.sampled_from([guard, lambda end: guard(end, narrowed=False), window, session])


@settings(deadline=None)
@given(shapes, ends, after, optional_keys, requests)
def test_from_the_end_on_nothing_is_allowed_whatever_else_is(
    shape: Any, end: datetime, later: timedelta, optional: dict[str, Any], request: tuple[str, str]
) -> None:
    action, resource = request
    context = SSO_KEYS | optional
    for documents in ([shape(end)], [shape(end), ALLOW_ALL], [ALLOW_ALL, shape(end)]):
        found = evaluate(documents, action=action, resource=resource, context=context, now=end + later)
        assert found.outcome is Outcome.DENY


@settings(deadline=None)
@given(shapes, ends, before, optional_keys, requests)
def test_until_the_end_the_dated_deny_takes_nothing_away(
    shape: Any, end: datetime, earlier: timedelta, optional: dict[str, Any], request: tuple[str, str]
) -> None:
    assume(end - earlier > datetime(2001, 1, 1, tzinfo=UTC))
    action, resource = request
    context = SSO_KEYS | optional
    found = evaluate([shape(end), ALLOW_ALL], action=action, resource=resource, context=context, now=end - earlier)
    assert found.outcome is Outcome.ALLOW


@settings(deadline=None)
@given(ends, after)
def test_a_scoped_window_ends_its_own_actions_and_leaves_the_others(end: datetime, later: timedelta) -> None:
    documents = [window(end, ["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::reports/*"), ALLOW_ALL]
    assert decide(*documents, now=end + later).outcome is Outcome.DENY
    assert (
        decide(*documents, action="s3:ListBucket", resource="arn:aws:s3:::reports", now=end + later).outcome
        is Outcome.ALLOW
    )


@settings(deadline=None)
@given(ends, after)
def test_a_dated_allow_alone_ends_too_but_only_by_not_allowing(end: datetime, later: timedelta) -> None:
    allow_only = policy(statement(Condition={"DateLessThan": {"aws:CurrentTime": stamp(end)}}))
    assert decide(allow_only, now=end + later).outcome is Outcome.IMPLICIT_DENY
    assert decide(allow_only, ALLOW_ALL, now=end + later).outcome is Outcome.ALLOW


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"aws:PrincipalArn": ROLE},
        {"identitystore:UserId": "somebody-else", "aws:PrincipalArn": ROLE},
        {"identitystore:UserId": PERSON},
        {"identitystore:UserId": PERSON, "aws:PrincipalArn": ROLE.replace("JitAdmin", "ReadOnly")},
    ],
)
def test_the_guard_touches_only_its_person_in_its_permission_set(context: dict[str, str]) -> None:
    assert decide(guard(NOW), ALLOW_ALL, context=context, now=NOW).outcome is Outcome.ALLOW


def test_the_guard_fits_roles_with_and_without_a_region_in_their_path() -> None:
    for role in (ROLE, ROLE.replace("/eu-west-1", "")):
        assert decide(guard(NOW), ALLOW_ALL, context=SSO_KEYS | {"aws:PrincipalArn": role}).outcome is Outcome.DENY
