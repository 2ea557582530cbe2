"""What the conditions of a trust statement limit it to.

Only what surely limits counts. `StringNotEquals`, `Null` and numbers say what is not; `…IfExists` and `ForAllValues:` are
also true for a request that carries no such key (IAM user guide, "Condition operators" and "Multivalued context keys").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apps.connectors.aws.policy.documents import Statement

LIMITING = frozenset({"stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike"})
SOURCES = ("aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid", "aws:sourceorgpaths")
ANCHORS = ("aws:sourcearn",)
CERTIFICATES = ("aws:principaltag/x509",)
SPIFFE_ID = "aws:principaltag/x509san/uri"
NAMESPACE = "aws:requesttag/kubernetes-namespace"
SERVICE_ACCOUNT = "aws:requesttag/kubernetes-service-account"
EXTERNAL_ID = "sts:externalid"

Limit = Sequence[str]  # one of these values must match


def limits(statement: Statement, is_meant: Callable[[str], bool]) -> list[Limit]:
    """The lists of values that the keys which are meant must match, each of them. Keys come in lower case."""
    return [one.values for one in statement.conditions if one.values and _limits(one.operator) and is_meant(one.key)]


def _limits(operator: str) -> bool:
    return operator.lower().removeprefix("foranyvalue:") in LIMITING


def of_key(statement: Statement, *keys: str) -> list[Limit]:
    return limits(statement, lambda key: key in keys)


def ending(statement: Statement, suffix: str) -> list[Limit]:
    return limits(statement, lambda key: key.endswith(suffix))


def beginning(statement: Statement, prefix: str) -> list[Limit]:
    return limits(statement, lambda key: key.startswith(prefix))


def narrowest(found: Sequence[Limit], is_wide: Callable[[str], bool]) -> tuple[Limit, bool]:
    """The values of the narrowest limit, and whether even that one lets more in than it should: of several conditions on
    one key all must hold, so the narrowest counts; of several values in one any may match, so the widest does."""
    for values in found:
        if not any(is_wide(value) for value in values):
            return values, False
    return (found[0], True) if found else ((), True)


def has_wildcard(value: str) -> bool:
    return "*" in value or "?" in value


def is_wide_repository(subject: str) -> bool:
    """Whether a GitHub subject lets more than one repository in: `repo:org/*`, or one whose name only begins so. Any
    branch or environment of one repository (`repo:org/name:*`) is still that repository."""
    if not subject.startswith("repo:"):
        return has_wildcard(subject)
    repository, colon, _ = subject.removeprefix("repo:").partition(":")
    return has_wildcard(repository) or not colon


def lets_in(statement: Statement) -> bool:
    """Whether the statement lets anybody assume the role at all; tagging a session or naming its source does not."""
    return statement.effect == "Allow" and (
        statement.is_not_action
        or any(action.startswith("sts:assumerole") or has_wildcard(action) for action in statement.actions)
    )
