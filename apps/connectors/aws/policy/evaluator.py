"""Decides one request against identity policies, to prove offline what the documents that Gatehouse writes will do.

It answers for documents only: the same request may be decided otherwise by a resource policy, a service control
policy or a session. What it does not know it refuses to decide (`CannotDecide`), because a proof that guesses proves
nothing.

Sources, all in the IAM user guide: "Policy evaluation logic" (an explicit Deny wins, nothing is allowed by default),
"IAM JSON policy elements: Condition operators", "Conditions with multiple context keys or values", "IAM policy
elements: Variables and tags". Where a context key is absent:

- an operator is false, a negated one (`StringNotEquals`) true, one with `IfExists` true; - `ForAllValues:` is true,
`ForAnyValue:` false, with `IfExists` too (the first two are the guide's words; the last is what AWS answers at
re:Post for ForAnyValue:StringEqualsIfExists); - a policy variable of that name has no value, and its statement does
not apply.

An empty list of values counts as absent. A key with several values and no set operator is compared value by value,
and one match is enough. Variables exist from Version 2012-10-17 on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from operator import eq, ge, gt, le, lt
from typing import Any

from apps.connectors.aws.policy.documents import Condition, Document, Statement, parse
from apps.connectors.aws.policy.matcher import LITERAL_QUESTION, LITERAL_STAR, matches
from apps.connectors.aws.policy.windows import instant

Test = Callable[[str, str], bool]  # (value in the request, value in the policy)

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class CannotDecide(ValueError):
    """The documents use something that this evaluator does not know, or a value that cannot be compared."""


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    IMPLICIT_DENY = "implicit_deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, and the first statement that makes it so (None for an implicit deny)."""

    outcome: Outcome
    statement: Statement | None = None


def evaluate(
    documents: Sequence[str | Mapping[str, Any] | Document],
    *,
    action: str,
    resource: str,
    context: Mapping[str, Any],
    now: datetime,
) -> Decision:
    """What these identity policies say, together, about one action on one resource at one instant.

    `context` maps condition keys (any letter case) to a value or a list of values: text, number, boolean or datetime.
    `now` fills aws:CurrentTime and aws:EpochTime. Raises MalformedPolicy, and CannotDecide rather than guess.
    """
    if now.tzinfo is None:
        raise CannotDecide("The instant needs a time zone.")
    values = {key.lower(): _texts(value) for key, value in context.items()}
    values |= {"aws:currenttime": [_text(now)], "aws:epochtime": [str(int(now.timestamp()))]}
    allowing = None
    for document in map(parse, documents):
        for statement in document.statements:
            if not _applies(statement, document.version, action, resource, values):
                continue
            if statement.effect == "Deny":
                return Decision(Outcome.DENY, statement)
            allowing = allowing or statement
    return Decision(Outcome.ALLOW, allowing) if allowing else Decision(Outcome.IMPLICIT_DENY)


class _Unresolved(Exception):
    """A policy variable without a value in this request."""


def _applies(statement: Statement, version: str, action: str, resource: str, values: Mapping[str, list[str]]) -> bool:
    if statement.has_principal:
        raise CannotDecide("A statement with a Principal belongs to a resource or a trust, not to an identity.")
    if not statement.is_about(action):
        return False
    has_variables = version == "2012-10-17"
    try:
        patterns = [_resolved(one, values, as_pattern=True) if has_variables else one for one in statement.resources]
        if any(matches(pattern, resource) for pattern in patterns) == statement.is_not_resource:
            return False
        return all(_holds(condition, values, has_variables) for condition in statement.conditions)
    except _Unresolved:
        return False


def _holds(condition: Condition, values: Mapping[str, list[str]], has_variables: bool) -> bool:
    """One line of a Condition block: its values are alternatives, and none of them may match when it is negated."""
    quantifier, _, name = condition.operator.rpartition(":")
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    given = values.get(condition.key, [])
    if name == "Null":
        return any(_boolean(one) == (not given) for one in condition.values)
    if name not in OPERATORS or quantifier not in ("", "ForAnyValue", "ForAllValues"):
        raise CannotDecide(f"The condition operator {condition.operator[:60]} is not known here.")
    test, is_negated = OPERATORS[name]
    if not given:
        return _absent(quantifier, is_negated=is_negated, if_exists=if_exists)
    wanted = condition.values
    if has_variables and name.startswith(("String", "Arn")):
        wanted = tuple(_resolved(one, values, as_pattern=test in _PATTERNS) for one in wanted)
    found = [any(test(one, want) for want in wanted) != is_negated for one in given]
    if quantifier == "ForAllValues" or (is_negated and not quantifier):
        return all(found)
    return any(found)


def _absent(quantifier: str, *, is_negated: bool, if_exists: bool) -> bool:
    if quantifier:
        return quantifier == "ForAllValues"
    return is_negated or if_exists


def _resolved(text: str, values: Mapping[str, list[str]], *, as_pattern: bool) -> str:
    """The text with its variables filled in. A star or question mark that comes from a value is no wildcard."""

    def fill(found: re.Match[str]) -> str:
        inner = found.group(1)
        if inner in ("*", "?", "$"):
            value = inner
        else:
            key, comma, default = inner.partition(",")
            given = values.get(key.strip().lower(), [])
            if len(given) != 1 and not comma:
                raise _Unresolved
            value = given[0] if len(given) == 1 else default.strip().strip("'")
        return value.replace("*", LITERAL_STAR).replace("?", LITERAL_QUESTION) if as_pattern else value

    return _VARIABLE.sub(fill, text)


# Comparing


def _like(given: str, wanted: str) -> bool:
    return matches(wanted, given)


def _arn_like(given: str, wanted: str) -> bool:
    """Each of the six parts of an ARN by itself: a wildcard does not reach across a colon before the last part."""
    parts, patterns = given.split(":", 5), wanted.split(":", 5)
    return len(parts) == len(patterns) == 6 and all(map(_like, parts, patterns))


def _ignoring_case(given: str, wanted: str) -> bool:
    return given.lower() == wanted.lower()


def _same_boolean(given: str, wanted: str) -> bool:
    return _boolean(given) == _boolean(wanted)


def _numbers(compare: Callable[[Any, Any], bool]) -> Test:
    return lambda given, wanted: compare(_number(given), _number(wanted))


def _dates(compare: Callable[[Any, Any], bool]) -> Test:
    return lambda given, wanted: compare(_instant(given), _instant(wanted))


_PATTERNS = (_like, _arn_like)

# How each operator compares, and whether it is a negated one.
OPERATORS: dict[str, tuple[Test, bool]] = {
    "StringEquals": (eq, False),
    "StringNotEquals": (eq, True),
    "StringEqualsIgnoreCase": (_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_ignoring_case, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnLike": (_arn_like, False),
    "ArnNotLike": (_arn_like, True),
    "Bool": (_same_boolean, False),
    **{
        f"{kind}{name}": (comparing(compare), is_negated)
        for kind, comparing in (("Numeric", _numbers), ("Date", _dates))
        for name, compare, is_negated in (
            ("Equals", eq, False),
            ("NotEquals", eq, True),
            ("LessThan", lt, False),
            ("LessThanEquals", le, False),
            ("GreaterThan", gt, False),
            ("GreaterThanEquals", ge, False),
        )
    },
}


def _texts(value: Any) -> list[str]:
    return [_text(one) for one in value] if isinstance(value, list | tuple | set | frozenset) else [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise CannotDecide(f"{text[:60]!r} is neither true nor false.")
    return text.lower() == "true"


def _number(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation as error:
        raise CannotDecide(f"{text[:60]!r} is not a number.") from error
    if not found.is_finite():
        raise CannotDecide(f"{text[:60]!r} is not a number.")
    return found


def _instant(text: str) -> datetime:
    found = instant(text)
    if found is None:
        raise CannotDecide(f"{text[:60]!r} is not a date.")
    return found
