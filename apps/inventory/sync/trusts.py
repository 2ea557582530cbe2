"""What the conditions of a trust statement limit it to.

Only what surely limits counts. `StringNotEquals`, `Null` and numbers say what is not; `…IfExists` and `ForAllValues:` are
also true for a request that carries no such key (IAM user guide, "Condition operators" and "Multivalued context keys").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_network

from apps.connectors.aws.policy.documents import Condition, Statement

LIMITING = frozenset({"stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike"})
SOURCES = ("aws:sourcearn", "aws:sourceaccount", "aws:sourceorgid", "aws:sourceorgpaths")
ANCHORS = ("aws:sourcearn",)
CERTIFICATES = ("aws:principaltag/x509",)
SPIFFE_ID = "aws:principaltag/x509san/uri"
NAMESPACE = "aws:requesttag/kubernetes-namespace"
SERVICE_ACCOUNT = "aws:requesttag/kubernetes-service-account"
EXTERNAL_ID = "sts:externalid"

Limit = Sequence[str]  # one of these values must match

# What AWS fills in for the account that the role is in: as good as its own id.
OWN = frozenset({"${aws:ResourceAccount}", "${aws:ResourceOrgID}"})
WIDEST_NETWORK = {4: 8, 6: 16}  # bits of the prefix; what is wider holds strangers whoever it belongs to
_OPEN = re.compile(r"[*?]|\$\{")  # a policy variable can be what the caller makes it


def _is_fixed(value: str) -> bool:
    return value in OWN or (bool(value) and not _OPEN.search(value))


def _is_in_an_organization(path: str) -> bool:
    """`o-a/r-b/ou-c/*`: the organization is fixed, whatever its units are."""
    return _is_fixed(path.partition("/")[0])


def _is_in_an_account(arn: str) -> bool:
    """Everything up to the account is fixed: a `*` before it could reach over what it seems to stand for."""
    parts = arn.split(":", 5)
    return len(parts) == 6 and bool(parts[4]) and not _OPEN.search(":".join(parts[:5]))


def _is_of_a_principal(user_id: str) -> bool:
    """`AROAEXAMPLE:*`: every session of one role."""
    return _is_fixed(user_id.partition(":")[0])


def _is_a_network(value: str) -> bool:
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return False
    return network.prefixlen >= WIDEST_NETWORK[network.version]


# What keeps strangers out of a role that trusts `*`: the key → the operators that count, and which values of it are narrow.
# Not here is what the caller chooses or can have too (MFA, TLS, tags, names of users and sessions, addresses inside a VPC),
# and the external id, which AWS does not treat as a secret. Source: IAM user guide, "Global condition context keys".
TEXTS, ARNS = {"stringequals", "stringequalsignorecase", "stringlike"}, {"arnequals", "arnlike"}
KEEPING_OUT: dict[str, tuple[set[str], Callable[[str], bool]]] = {
    **dict.fromkeys(("aws:principalorgid", "aws:principalaccount"), (TEXTS, _is_fixed)),
    **dict.fromkeys(("aws:sourceaccount", "aws:sourceorgid", "aws:vpceaccount", "aws:vpceorgid"), (TEXTS, _is_fixed)),
    **dict.fromkeys(("aws:sourcevpc", "aws:sourcevpce"), (TEXTS, _is_fixed)),
    **dict.fromkeys(
        ("aws:principalorgpaths", "aws:sourceorgpaths", "aws:vpceorgpaths"), (TEXTS, _is_in_an_organization)
    ),
    **dict.fromkeys(("aws:principalarn", "aws:sourcearn", "aws:sourcevpcarn"), (TEXTS | ARNS, _is_in_an_account)),
    "aws:userid": (TEXTS, _is_of_a_principal),
    "aws:sourceip": ({"ipaddress"}, _is_a_network),
}
NAMING_ACCOUNTS = ("aws:principalaccount", "aws:principalarn")
NEGATED = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
    "notipaddress": "ipaddress",
}
WAYS_IN = ("sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity")


def keeping_strangers_out(statement: Statement, denials: Iterable[Statement] = ()) -> list[Limit]:
    """What surely limits who may come in to an organization, an account, a principal or a network: conditions of the
    statement, and denials, which forbid everybody else what it allows. Of each, the accounts and principals it names; a
    denial that also spares others names them only where nothing else does."""
    asked = [action for action in WAYS_IN if statement.is_about(action)]
    narrow = [one for one in statement.conditions if _is_narrow(one, one.operator.lower().removeprefix("foranyvalue:"))]
    denied = [one for one in denials if _denies_strangers(one) and all(map(one.is_about, asked))]
    limits = [_named_by([one]) for one in narrow] + [_spared_by(one) for one in denied if _spares_only_named(one)]
    beside = [_spared_by(one) for one in denied if not _spares_only_named(one)]
    return limits + ([[] for _ in beside] if any(limits) else beside)


def _named_by(conditions: Iterable[Condition]) -> Limit:
    return [value for one in conditions if one.key in NAMING_ACCOUNTS for value in one.values]


def _spared_by(denial: Statement) -> Limit:
    return _spared(denial.raw["NotPrincipal"]) if "NotPrincipal" in denial.raw else _named_by(denial.conditions)


def _spares_only_named(denial: Statement) -> bool:
    return all(one.key in NAMING_ACCOUNTS for one in _asked_of(denial))


def _asked_of(denial: Statement) -> list[Condition]:
    """Its conditions, but for the one that spares AWS's own services."""
    return [one for one in denial.conditions if (one.key, one.values) != ("aws:principalisawsservice", ("false",))]


def _denies_strangers(denial: Statement) -> bool:
    """Whether all that it asks is true for everybody but those whom it, or narrow conditions, name."""
    if denial.effect == "Deny" and "NotPrincipal" in denial.raw:
        spared = _spared(denial.raw["NotPrincipal"])
        return not denial.conditions and bool(spared) and not any(map(has_wildcard, spared))
    named = denial.raw.get("Principal")
    listed = named.get("AWS") if isinstance(named, Mapping) else named
    left = _asked_of(denial)
    is_about_all = listed == "*" or (isinstance(listed, list) and "*" in listed)
    return denial.effect == "Deny" and is_about_all and bool(left) and all(map(_is_narrow_negated, left))


def _spared(principals: object) -> Limit:
    """Accounts, users, roles and services one by one; none where others are spared too: whoever signs in elsewhere may be
    anybody."""
    if not isinstance(principals, Mapping) or not {*principals} <= {"AWS", "Service"}:
        return []
    return [str(name) for value in principals.values() for name in (value if isinstance(value, list) else [value])]


def _is_narrow_negated(condition: Condition) -> bool:
    """`ForAnyValue:` is false for a request without the key, which then is not denied; the others are true for it."""
    operator = condition.operator.lower().removeprefix("forallvalues:").removesuffix("ifexists")
    return operator in NEGATED and _is_narrow(condition, NEGATED[operator])


def _is_narrow(condition: Condition, operator: str) -> bool:
    operators, is_narrow = KEEPING_OUT.get(condition.key, (set(), bool))
    return operator in operators and bool(condition.values) and all(map(is_narrow, condition.values))


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


def is_any_source(value: str) -> bool:
    """Whether it names neither an account nor a resource: `*`, or an ARN that ends in nothing else."""
    parts = value.split(":", 5)
    return not "".join(parts[4:] if len(parts) == 6 else parts).strip("*")


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
