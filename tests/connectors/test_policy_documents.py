"""Reading policy documents: what is accepted, what is refused with which sentence, and which documents are the same."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws.policy.documents import MAX_CHARS, MalformedPolicy, canonical, digest, parse
from apps.connectors.aws.policy.matcher import covers, matches, may_overlap


def allow(action: Any = "s3:GetObject", resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def policy(*statements: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


# What is accepted


@pytest.mark.parametrize(
    "written",
    [
        policy(allow()),
        {"Version": "2012-10-17", "Statement": allow()},
        json.dumps(policy(allow())),
        quote(json.dumps(policy(allow()))),
        quote(json.dumps(policy(allow()), indent=2)),
        "\n  " + json.dumps(policy(allow()), indent=4) + "\n",
    ],
)
def test_one_document_is_read_from_every_form_in_which_aws_hands_it_out(written: Any) -> None:
    (statement,) = parse(written).statements
    assert (statement.effect, statement.actions, statement.resources) == ("Allow", ("s3:getobject",), ("*",))


def test_a_percent_sign_inside_a_document_is_not_taken_for_encoding() -> None:
    (statement,) = parse(json.dumps(policy(allow(resource="arn:aws:s3:::b/a%2Fb")))).statements
    assert statement.resources == ("arn:aws:s3:::b/a%2Fb",)


def test_exceptions_conditions_and_unknown_keys_are_kept() -> None:
    document = parse(
        policy(
            {
                "Sid": "AllBut",
                "Effect": "Allow",
                "NotAction": ["IAM:*"],
                "NotResource": "arn:aws:s3:::a",
                "Condition": {
                    "Bool": {"aws:MultiFactorAuthPresent": True},
                    "NumericLessThan": {"s3:max-keys": [10, "20"]},
                },
                "Comment": "new in some later version",
            }
        )
    )
    (statement,) = document.statements
    assert statement.sid == "AllBut"
    assert (statement.is_not_action, statement.is_not_resource) == (True, True)
    assert [(one.operator, one.key, one.values) for one in statement.conditions] == [
        ("Bool", "aws:multifactorauthpresent", ("true",)),
        ("NumericLessThan", "s3:max-keys", ("10", "20")),
    ]
    assert statement.raw["Comment"] == "new in some later version"


def test_a_trust_policy_needs_no_resource() -> None:
    trust = policy({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"})
    assert parse(trust).statements[0].resources == ("*",)


def test_a_policy_without_statements_is_a_policy() -> None:
    assert parse(policy()).statements == ()


def test_the_same_text_gives_the_same_document() -> None:
    assert parse(json.dumps(policy(allow()))) is parse(json.dumps(policy(allow())))


def test_changing_the_source_later_does_not_change_what_was_read() -> None:
    source = policy(allow())
    document = parse(source)
    source["Statement"][0]["Effect"] = "Deny"
    assert document.statements[0].raw["Effect"] == "Allow"


# What is refused


def loop() -> dict[str, Any]:
    round_: dict[str, Any] = {}
    round_["Statement"] = round_
    return round_


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("", "The document is empty."),
        ("  \n", "The document is empty."),
        ("{", "The document is not JSON: line 1, column 2."),
        ("[]", "The document must be a JSON object, not a list."),
        ('"text"', "The document must be a JSON object, not text."),
        ("null", "The document must be a JSON object, not null."),
        (None, "The document must be a JSON object, not null."),
        (7, "The document must be a JSON object, not a number."),
        ({}, "The document has no Statement."),
        ({"Statement": "Allow"}, "Statement must be an object or a list of objects, not text."),
        ({"Version": 2012, "Statement": []}, "Version must be text, not a number."),
        (policy("Allow"), "Statement 1 must be an object, not text."),
        (policy(allow(), {"Action": "*", "Resource": "*"}), "Statement 2 has no Effect."),
        (policy(allow() | {"Effect": "allow"}), 'Statement 1: Effect must be Allow or Deny, not "allow".'),
        (policy(allow() | {"Effect": ["Allow"]}), 'Statement 1: Effect must be Allow or Deny, not "a list".'),
        (policy({"Effect": "Allow", "Resource": "*"}), "Statement 1 has neither Action nor NotAction."),
        (policy(allow(NotAction="s3:*")), "Statement 1 has both Action and NotAction."),
        (policy({"Effect": "Allow", "Action": "*"}), "Statement 1 has neither Resource nor NotResource."),
        (policy(allow(action=5)), "Statement 1: Action must be text or a list of texts, not a number."),
        (policy(allow(action=["s3:*", None])), "Statement 1: Action must be text or a list of texts, not null."),
        (policy(allow(action="")), "Statement 1: Action holds an empty text."),
        (policy(allow(Condition=[])), "Statement 1: Condition must be an object, not a list."),
        (policy(allow(Condition={"Bool": "x"})), 'Statement 1: "Bool" in Condition must be an object, not text.'),
        (
            policy(allow(Condition={"Bool": {"aws:x": {}}})),
            'Statement 1: "aws:x" in Condition must be text or a list of texts, not an object.',
        ),
        ('{"Statement": [], "Statement": []}', 'The key "Statement" is there twice in one object.'),
        ('{"Statement": NaN}', "The document holds NaN, which is not JSON."),
        (policy(allow(Sid="a\0b")), '"a\\u0000b" holds a character that no policy may hold.'),
        (policy(allow(Comment=["\ud800"])), '"\\ud800" holds a character that no policy may hold.'),
        ({"Statement": object()}, "The document holds a value that JSON cannot express."),
        (loop(), "The document refers to itself, is nested too deeply or holds a bad number."),
        ("[" * 200_000, "The document is nested too deeply or holds a number that is too long."),
        ('{"Statement": ' + "9" * 5_000 + "}", "The document is nested too deeply or holds a number that is too long."),
        (" " * (MAX_CHARS + 1), "The document is longer than 262,144 characters."),
        (policy(*[allow()] * 1_001), "The document has more than 1,000 statements."),
        (policy(allow(action=["s3:*"] * 20_001)), "The document names more than 20,000 actions and resources."),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_what_is_no_policy_is_refused_with_a_sentence_that_says_what_and_where(written: Any, sentence: str) -> None:
    with pytest.raises(MalformedPolicy) as refused:
        parse(written)
    assert str(refused.value) == sentence


def refusal(written: Any) -> str:
    """The sentence with which a document is refused, "" when it is read."""
    try:
        document = parse(written)
    except MalformedPolicy as refused:
        return str(refused)
    assert len(document.digest) == 64
    return ""


@settings(deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=50).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    assert refusal(text) == "" or refusal(text).endswith(".")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["Effect", "Action", "NotAction", "Resource", "NotResource", "Condition", "Principal", "Sid", "x"]
)
values = json_values | st.sampled_from(["Allow", "Deny", "*", "s3:*"])


@settings(deadline=None)
@given(st.lists(st.dictionaries(keys, values, max_size=6), max_size=3))
def test_any_statement_is_either_read_or_refused(statements: list[dict[str, Any]]) -> None:
    written = policy(*statements)
    assert refusal(written) == "" or refusal(written).endswith(".")


# Which documents are the same


def test_order_form_and_sid_do_not_change_the_digest() -> None:
    first = policy(
        allow(["s3:GetObject", "s3:PutObject"], "*", Sid="One", Condition={"StringEquals": {"aws:x": ["a", "b"]}}),
        allow("sqs:*", ["arn:aws:sqs:::b", "arn:aws:sqs:::a"]),
    )
    second = {
        "Statement": [
            allow(["sqs:*"], ["arn:aws:sqs:::a", "arn:aws:sqs:::b", "arn:aws:sqs:::a"], Sid="Other"),
            allow(["s3:PutObject", "s3:GetObject"], ["*"], Condition={"StringEquals": {"aws:x": ["b", "a"]}}),
        ],
        "Version": "2012-10-17",
    }
    assert canonical(first) == canonical(json.dumps(second))
    assert digest(first) == digest(second)


def test_a_boolean_in_a_condition_equals_its_text() -> None:
    assert digest(policy(allow(Condition={"Bool": {"aws:x": True}}))) == digest(
        policy(allow(Condition={"Bool": {"aws:x": ["true"]}}))
    )


@pytest.mark.parametrize(
    "other",
    [
        policy(allow("s3:PutObject")),
        policy(allow(resource="arn:aws:s3:::a")),
        policy(allow() | {"Effect": "Deny"}),
        policy(allow(Condition={"Bool": {"aws:x": "true"}})),
        policy({"Effect": "Allow", "NotAction": "s3:GetObject", "Resource": "*"}),
        policy(allow(), allow("s3:PutObject")),
        policy(),
        policy(allow()) | {"Version": "2008-10-17"},
        policy(allow(Principal="*")),
    ],
)
def test_whatever_changes_the_meaning_changes_the_digest(other: Any) -> None:
    assert digest(policy(allow())) != digest(other)


# Patterns

names = st.text(alphabet="abAB:/-*?", max_size=12)


@settings(deadline=None)
@given(names)
def test_a_pattern_fits_itself(pattern: str) -> None:
    assert matches(pattern, pattern)


@pytest.mark.parametrize(
    ("listed", "action", "is_listed"),
    [
        ("iam:PassRole", "IAM:passrole", True),
        ("IAM:Pass*", "iam:PassRole", True),
        ("iam:PassRole", "iam:PassRoles", False),
        ("iam:?assRole", "iam:PassRole", True),
    ],
)
def test_letter_case_of_actions_never_matters(listed: str, action: str, is_listed: bool) -> None:
    named, excepted = parse(policy(allow(listed), {"Effect": "Allow", "NotAction": listed, "Resource": "*"})).statements
    assert (named.is_about(action), excepted.is_about(action)) == (is_listed, not is_listed)


def _fits(pattern: str, text: str) -> bool:
    """The definition, as slow as it is plain."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_fits(pattern[1:], text[n:]) for n in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _fits(pattern[1:], text[1:])


@settings(deadline=None)
@given(names, st.text(alphabet="abAB:/-", max_size=12))
def test_patterns_mean_what_their_definition_says(pattern: str, text: str) -> None:
    assert matches(pattern, text) == _fits(pattern, text)


@settings(deadline=None)
@given(names, names, st.text(alphabet="abAB:/-", max_size=8))
def test_covering_and_overlapping_err_on_their_safe_side(pattern: str, other: str, text: str) -> None:
    if covers(pattern, other) and matches(other, text):
        assert matches(pattern, text)
    if matches(pattern, text) and matches(other, text):
        assert may_overlap(pattern, other)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches("a*" * 500 + "b", "a" * 5_000)
