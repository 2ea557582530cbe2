"""Who can become whom, by the documents alone: trusts, the rights to knock, boundaries, and dates that have passed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.connectors.aws.policy import knocks, steps, trusts
from apps.connectors.aws.policy.documents import parse
from apps.connectors.aws.policy.trusts import Caller, of_permission_set
from apps.connectors.aws.policy.windows import without_the_past
from apps.connectors.aws.privilege import NamedDocument, privilege_of

HERE, THERE = "111122223333", "444455556666"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SSO = f"arn:aws:iam::{HERE}:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Deploy_0123456789abcdef"


def role(name: str, account: str = HERE) -> str:
    return f"arn:aws:iam::{account}:role/{name}"


def user(name: str, account: str = HERE) -> str:
    return f"arn:aws:iam::{account}:user/{name}"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return allow(action, resource, **more) | {"Effect": "Deny"}


def trust(principal: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **more}


def root(account: str) -> dict[str, str]:
    return {"AWS": f"arn:aws:iam::{account}:root"}


def holder(*statements: dict[str, Any], caller: str = "", boundary: Any = None, account: str = HERE) -> steps.Holder:
    documents = [parse(policy(*statements))]
    bounds = None if boundary is None else knocks.knocks_of([parse(boundary)], NOW)
    return steps.Holder(
        Caller(caller or role("me", account), account),
        knocks.knocks_of(documents, NOW),
        bounds,
        runs=knocks.runs_of(documents, NOW),
    )


def target(*statements: dict[str, Any], account: str = HERE, **more: Any) -> steps.Target:
    document = policy(*statements)
    return steps.Target(role("goal", account), account, trusts.lines_of(document), trusts.services_of(document), **more)


def assumes(who: steps.Holder, *trusting: dict[str, Any], account: str = HERE) -> tuple[str, ...] | None:
    """The conditions under which the role can be assumed, or None."""
    found = steps.assume(who, target(*trusting, account=account), NOW)
    return found.conditions if found else None


KNOCKS = allow("sts:AssumeRole", role("goal"))
KNOCKS_THERE = allow("sts:AssumeRole", role("goal", THERE))


# Trusting and knocking


def test_a_role_that_trusts_the_account_needs_a_policy_too() -> None:
    assert assumes(holder(KNOCKS), trust(root(HERE))) == ()
    assert assumes(holder(KNOCKS), trust({"AWS": HERE})) == ()
    assert assumes(holder(), trust(root(HERE))) is None
    assert assumes(holder(allow("sts:AssumeRole", role("other"))), trust(root(HERE))) is None


def test_a_role_that_trusts_one_by_name_needs_no_policy_in_its_own_account() -> None:
    assert assumes(holder(), trust({"AWS": role("me")})) == ()
    assert assumes(holder(), trust({"AWS": role("you")})) is None


def test_across_accounts_both_sides_must_agree() -> None:
    assert assumes(holder(KNOCKS_THERE), trust(root(HERE)), account=THERE) == ()
    assert assumes(holder(KNOCKS_THERE), trust({"AWS": role("me")}), account=THERE) == ()
    assert assumes(holder(), trust({"AWS": role("me")}), account=THERE) is None
    assert assumes(holder(KNOCKS_THERE), trust(root(THERE)), account=THERE) is None


def test_anybody_is_let_in_by_a_star_and_by_all_but() -> None:
    assert assumes(holder(), trust("*")) == ()
    assert assumes(holder(), trust({"AWS": "*"}), account=THERE) is None
    assert assumes(holder(KNOCKS_THERE), trust({"AWS": "*"}), account=THERE) == ()
    but = {"Effect": "Allow", "Action": "sts:AssumeRole", "NotPrincipal": {"AWS": role("you")}}
    assert assumes(holder(), but) == ()
    assert assumes(holder(), but | {"NotPrincipal": {"AWS": role("me")}}) is None


def test_services_and_sign_ins_are_no_way_in_for_a_principal() -> None:
    assert assumes(holder(KNOCKS), trust({"Service": "ec2.amazonaws.com"})) is None
    federated = trust({"Federated": f"arn:aws:iam::{HERE}:saml-provider/x"}) | {"Action": "sts:AssumeRoleWithSAML"}
    assert assumes(holder(KNOCKS), federated) is None


def test_nobody_becomes_themselves() -> None:
    assert assumes(holder(KNOCKS, caller=role("goal")), trust(root(HERE))) is None


@pytest.mark.parametrize("action", ["STS:assumerole", "sts:Assume?ole", "sts:*", "*"])
def test_a_trust_may_spell_the_action_as_it_likes(action: str) -> None:
    assert assumes(holder(KNOCKS), trust(root(HERE)) | {"Action": action}) == ()


# Deny


def test_a_plain_deny_closes_the_way_on_either_side() -> None:
    assert assumes(holder(KNOCKS, deny("sts:*", role("goal"))), trust(root(HERE))) is None
    assert assumes(holder(deny("*")), trust({"AWS": role("me")})) is None
    assert assumes(holder(KNOCKS), trust(root(HERE)), trust({"AWS": role("me")}) | {"Effect": "Deny"}) is None
    assert assumes(holder(KNOCKS, deny("sts:*", role("other"))), trust(root(HERE))) == ()


def test_a_deny_under_a_condition_is_a_doubt() -> None:
    bounded = deny("sts:*", Condition={"Bool": {"aws:MultiFactorAuthPresent": "false"}})
    assert assumes(holder(KNOCKS, bounded), trust(root(HERE))) == ("unless denied with MFA",)


def test_a_deny_of_one_session_is_a_doubt() -> None:
    session = {"AWS": f"arn:aws:sts::{HERE}:assumed-role/me/mallory"}
    found = assumes(holder(KNOCKS), trust(root(HERE)), trust(session) | {"Effect": "Deny"})
    assert found == ("unless denied by name",)


# Conditions


def test_what_cannot_be_decided_is_said_and_not_taken_for_no() -> None:
    mfa = trust(root(HERE), Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    assert assumes(holder(KNOCKS), mfa) == ("with MFA",)
    unheard = trust(root(HERE), Condition={"Unheard:Of": {"aws:PrincipalTag/team": "x"}})
    assert assumes(holder(KNOCKS), unheard) == ("with aws:principaltag/team as listed",)
    knocks_with = allow("sts:AssumeRole", role("goal"), Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    assert assumes(holder(knocks_with), trust(root(HERE))) == ("from listed addresses",)


def test_the_surest_of_several_ways_is_told() -> None:
    mfa = trust(root(HERE), Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}})
    assert assumes(holder(KNOCKS), mfa, trust({"AWS": role("me")})) == ()


@pytest.mark.parametrize(
    ("said", "operator", "arn"),
    [
        ((), "ArnLike", role("me")),
        ((), "StringLike", "arn:aws:iam::*:role/m?"),
        ((), "ArnNotEquals", role("you")),
        (None, "ArnEquals", role("you")),
        (None, "StringNotLike", "arn:aws:iam::*:role/*"),
        (None, "StringNotLike", "arn:*:role/*"),
        ((), "ArnNotLike", "arn:*:role/*"),  # in ARNs a wildcard does not reach across colons
        (("as a listed principal",), "ArnLike", "arn:aws:iam::*:role/${aws:PrincipalTag/r}"),
    ],
)
def test_a_condition_on_the_callers_own_name_is_decided(said: Any, operator: str, arn: str) -> None:
    named = trust(root(HERE), Condition={operator: {"aws:PrincipalArn": arn}})
    assert assumes(holder(KNOCKS), named) == said


def test_a_window_that_is_over_lets_nobody_in_and_one_that_is_open_is_a_condition() -> None:
    def until(instant: datetime) -> dict[str, Any]:
        return trust(root(HERE), Condition={"DateLessThan": {"aws:CurrentTime": instant.isoformat()}})

    assert assumes(holder(KNOCKS), until(NOW - timedelta(hours=1))) is None
    assert assumes(holder(KNOCKS), until(NOW - timedelta(minutes=1))) == ("at certain times",)  # clocks differ
    assert assumes(holder(KNOCKS), until(NOW + timedelta(hours=1))) == ("at certain times",)


# Identity Center


def test_a_permission_set_acts_as_its_reserved_role() -> None:
    for arn in (SSO, ""):
        caller = of_permission_set("Deploy", HERE, arn)
        who = steps.Holder(caller, knocks.knocks_of([parse(policy(KNOCKS))], NOW))
        assert assumes(who, trust({"AWS": SSO})) == ()
        assert assumes(who, trust(root(HERE))) == ()
        assert assumes(who, trust({"AWS": SSO.replace("Deploy", "Read")})) is None
        like = {"ArnLike": {"aws:PrincipalArn": SSO.rpartition("_")[0] + "_*"}}
        assert assumes(who, trust(root(HERE), Condition=like)) == (() if arn else ("as a listed principal",))


def test_a_trust_is_found_by_every_name_that_it_could_mean() -> None:
    session = f"arn:aws:sts::{HERE}:assumed-role/me/alice"
    lines = trusts.lines_of(policy(trust({"AWS": [SSO, session, HERE, role("you"), "*"]})))
    keys = set(trusts.keys_of(lines))
    assert {SSO, f"session:{HERE}:me", HERE, role("you"), "*"} <= keys
    assert keys & set(trusts.names_for(of_permission_set("Deploy", HERE))) >= {f"sso:{HERE}:Deploy"}
    assert keys & set(trusts.names_for(Caller(role("me"), HERE))) >= {f"session:{HERE}:me"}


def test_a_session_that_is_named_is_one_of_several() -> None:
    session = trust({"AWS": f"arn:aws:sts::{HERE}:assumed-role/me/alice"})
    assert assumes(holder(), session) == ("under a listed session name",)
    assert assumes(holder(caller=user("me")), session) is None


# Boundaries


def test_a_boundary_limits_what_policies_allow() -> None:
    read_only = policy(allow("s3:Get*"))
    assert assumes(holder(KNOCKS, boundary=read_only), trust(root(HERE))) is None
    assert assumes(holder(KNOCKS, boundary=policy(allow("*"))), trust(root(HERE))) == ()
    assert assumes(holder(KNOCKS, boundary=policy(allow("*"), deny("sts:*"))), trust(root(HERE))) is None


def test_a_boundary_limits_a_role_that_is_named_but_not_a_user() -> None:
    read_only = policy(allow("s3:Get*"))
    assert assumes(holder(boundary=read_only), trust({"AWS": role("me")})) is None
    assert assumes(holder(caller=user("me"), boundary=read_only), trust({"AWS": user("me")})) == ()
    assert assumes(holder(caller=user("me"), boundary=policy(deny("*"))), trust({"AWS": user("me")})) is None


def test_a_session_that_is_named_is_not_limited_by_a_boundary() -> None:
    session = trust({"AWS": f"arn:aws:sts::{HERE}:assumed-role/me/alice"})
    found = assumes(holder(boundary=policy(allow("s3:Get*"))), session)
    assert found == ("under a listed session name",)
    assert assumes(holder(boundary=policy(deny("*"))), session) is None


def test_a_boundary_that_was_not_read_is_a_doubt() -> None:
    who = steps.Holder(Caller(role("me"), HERE), knocks.knocks_of([parse(policy(KNOCKS))], NOW), None, True)
    assert assumes(who, trust(root(HERE))) == (steps.UNREAD_BOUNDARY,)


# Patterns of resources


@pytest.mark.parametrize(
    ("said", "statement"),
    [
        ((), allow("sts:AssumeRole", "*")),
        ((), allow("STS:assumeRole", "arn:aws:iam::*:role/go?l")),
        ((), allow("sts:*", ["arn:aws:s3:::x", role("goal")])),
        ((), {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
        (None, {"Effect": "Allow", "NotAction": "sts:*", "Resource": "*"}),
        ((), {"Effect": "Allow", "Action": "sts:AssumeRole", "NotResource": role("other")}),
        (None, {"Effect": "Allow", "Action": "sts:AssumeRole", "NotResource": role("*")}),
        (("where a variable fits",), allow("sts:AssumeRole", "arn:aws:iam::*:role/${aws:PrincipalTag/role}")),
        (None, allow("sts:AssumeRole", role("Goal"))),  # ARNs keep their letter case
        (None, allow("sts:AssumeRole", "arn:aws:s3:::*")),
    ],
)
def test_the_resources_of_a_policy_are_patterns(said: Any, statement: dict[str, Any]) -> None:
    assert assumes(holder(statement), trust(root(HERE))) == said


def test_a_policy_that_lists_more_than_is_compared_counts_as_everything() -> None:
    many = [role(f"r{n}") for n in range(knocks.MOST_PATTERNS + 1)]
    assert assumes(holder(allow("sts:AssumeRole", many)), trust(root(HERE))) == (knocks.TOO_MANY,)
    assert assumes(holder(KNOCKS, deny("sts:AssumeRole", many)), trust(root(HERE))) == ()


def test_long_documents_are_read_line_by_line() -> None:
    statements = [allow("s3:GetObject", f"arn:aws:s3:::b{n}/*") for n in range(900)]
    found = knocks.knocks_of([parse(policy(*statements, KNOCKS))], NOW)
    assert [(one.document, one.index) for one in found] == [(0, 900)]


# Taking over


@pytest.mark.parametrize(
    ("way", "action"),
    [("keys", "iam:CreateAccessKey"), ("password", "iam:CreateLoginProfile"), ("reset", "iam:UpdateLoginProfile")],
)
def test_whoever_makes_a_secret_for_a_user_becomes_that_user(way: str, action: str) -> None:
    goal = steps.Target(user("admin"), HERE, is_user=True)
    assert [step.way for step in steps.take_over(holder(allow(action)), goal)] == [way]
    assert not list(steps.take_over(holder(allow(action, user("me"))), goal))
    assert not list(steps.take_over(holder(allow(action), deny(action)), goal))
    assert not list(steps.take_over(holder(allow(action), account=THERE), goal))


def test_whoever_changes_a_trust_lets_themselves_in() -> None:
    who = holder(allow("iam:UpdateAssumeRolePolicy", role("goal")))
    assert [step.way for step in steps.take_over(who, target())] == ["rewrite"]
    assert not list(steps.take_over(who, target(is_fixed=True)))


RUNS = [allow("iam:PassRole", role("goal")), allow(["lambda:CreateFunction", "lambda:InvokeFunction"])]
BY_LAMBDA = trust({"Service": ["lambda.amazonaws.com"]})


def test_whoever_passes_a_role_to_a_service_that_it_trusts_acts_as_it() -> None:
    [step] = steps.take_over(holder(*RUNS), target(BY_LAMBDA))
    assert (step.way, step.service) == ("pass", "lambda.amazonaws.com")
    assert not list(steps.take_over(holder(*RUNS), target(trust({"Service": "ec2.amazonaws.com"}))))
    assert not list(steps.take_over(holder(RUNS[0]), target(BY_LAMBDA)))
    assert not list(steps.take_over(holder(RUNS[0], allow("lambda:CreateFunction")), target(BY_LAMBDA)))
    assert not list(steps.take_over(holder(*RUNS, deny("lambda:InvokeFunction")), target(BY_LAMBDA)))
    assert not list(steps.take_over(holder(RUNS[1], allow("iam:PassRole", role("x"))), target(BY_LAMBDA)))


@pytest.mark.parametrize(
    ("statement", "denied"),
    [
        (deny("lambda:*"), True),
        (deny("lambda:CreateFunc*", ["x", "*"]), True),
        ({"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}, True),
        (deny("lambda:*", Condition={"Bool": {"aws:MultiFactorAuthPresent": "false"}}), False),
        (deny("lambda:*", "arn:aws:lambda:*:*:function:one"), False),
        (deny("s3:*"), False),
        (allow("lambda:*"), False),
    ],
)
def test_what_a_policy_plainly_denies_no_other_policy_lets_run(statement: dict[str, Any], denied: bool) -> None:
    assert ("lambda:CreateFunction" in knocks.denied_runs_of([parse(policy(statement))])) == denied


def test_a_boundary_limits_what_can_be_made_to_run() -> None:
    may = [parse(policy(allow(["lambda:CreateFunction", "lambda:InvokeFunction", "ec2:RunInstances"])))]
    for bounds, left in [
        ([allow("s3:*")], ()),
        ([allow("ec2:*")], ("ec2:RunInstances",)),
        ([allow("*"), deny("ec2:*")], ("lambda:CreateFunction", "lambda:InvokeFunction")),
    ]:
        assert knocks.runs_of(may, NOW, parse(policy(*bounds))) == left


def test_every_passing_path_of_the_catalogue_names_a_service() -> None:
    found = {service for run in knocks.runs() for service in run.services}
    assert {"ec2.amazonaws.com", "ecs-tasks.amazonaws.com", "lambda.amazonaws.com", "codebuild.amazonaws.com"} <= found
    assert all(service.endswith(".amazonaws.com") for service in found)


def test_lines_survive_a_database_column() -> None:
    for line in trusts.lines_of(policy(trust({"AWS": SSO}, Condition={"Bool": {"aws:x": "true"}}))):
        assert trusts.from_json(trusts.as_json(line)) == line
    for knock in holder(KNOCKS, deny("sts:*", Condition={"Bool": {"aws:x": "true"}})).knocks:
        assert knocks.from_json(knocks.as_json(knock)) == knock


# Dates that have passed, in the levels too


def dated(operator: str, *instants: datetime) -> dict[str, Any]:
    values = [instant.isoformat() for instant in instants]
    return allow("*", Condition={operator: {"aws:CurrentTime": values}})


def level(*statements: dict[str, Any], boundary: Any = None) -> str:
    bounds = None if boundary is None else NamedDocument("boundary", boundary)
    return privilege_of([NamedDocument("dated", policy(*statements))], boundary=bounds, now=NOW).level


PAST, LATER = NOW - timedelta(days=1), NOW + timedelta(days=1)


def test_what_a_policy_gave_until_a_day_that_has_passed_is_nothing_any_more() -> None:
    assert level(dated("DateLessThan", PAST)) == "none"
    assert level(dated("DateLessThanEquals", PAST, PAST)) == "none"
    assert level(dated("DateLessThan", LATER)) == "admin"
    assert level(dated("DateLessThan", PAST, LATER)) == "admin"  # any of the values may match
    assert level(dated("DateGreaterThan", LATER)) == "admin"  # it will be
    assert level(allow("*", Condition={"DateLessThan": {"aws:CurrentTime": "soon"}})) == "admin"
    assert level(allow("*", Condition={"DateLessThan": {"aws:CurrentTime": "9999-12-31T23:59:59Z"}})) == "admin"
    assert level(allow("*", Condition={"DateLessThan": {"aws:CurrentTime": "0001-01-01T00:00:00+14:00"}})) == "none"
    assert level(allow("*", Condition={"DateLessThan": {"aws:CurrentTime": "1700000000"}})) == "none"  # of 2023
    assert level(allow("*"), boundary=policy(dated("DateLessThan", PAST))) == "none"


def test_the_statement_behind_the_level_is_the_one_that_still_counts() -> None:
    found = privilege_of([NamedDocument("p", policy(dated("DateLessThan", PAST), allow("*", Sid="Now")))], now=NOW)
    assert found.statement is not None
    assert (found.statement.index, found.statement.sid) == (1, "Now")


def test_a_document_without_dates_stays_itself() -> None:
    document = parse(policy(allow("*")))
    assert without_the_past(document, NOW) is document
