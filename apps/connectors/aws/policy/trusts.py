"""Whom a role's trust policy lets in, as lines that can be looked up by name and decided for one caller.

Deciding is offline and says what it cannot know: a caller that a condition may or may not let in comes back as "may",
with the condition in words, never as no. Only what a trust surely refuses is refused.

Sources, IAM user guide: "AWS JSON policy elements: Principal" (an account id and its root ARN mean the same; a role
session's ARN names one session), "Policy evaluation for requests within a single account" (a trust that names a
principal of its own account needs no identity policy beside it; one that names the account does), "Cross-account policy
evaluation logic" (from another account both must allow).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from apps.connectors.aws.policy.documents import Condition, Document, Statement, parse
from apps.connectors.aws.policy.evaluator import OPERATORS
from apps.connectors.aws.policy.matcher import covers, matches, may_overlap
from apps.connectors.aws.policy.windows import is_over

ANYBODY = "*"
MOST_LINES, MOST_NAMES = 100, 500  # a trust can have 4,096 characters; more than this is no trust of AWS

_ACCOUNT = re.compile(r"(?:arn:[\w-]+:iam::)?(\d{12})(?::root)?", re.ASCII)
_SESSION = re.compile(r"arn:([\w-]+):sts::(\d{12}):assumed-role/([\w+=,.@-]+)/(.+)", re.ASCII)
_SSO_ROLE = re.compile(
    r"arn:[\w-]+:iam::(\d{12}):role/aws-reserved/sso\.amazonaws\.com/(?:[\w-]+/)?AWSReservedSSO_([\w+=,.@-]+)_[0-9a-f]+",
    re.ASCII,
)
_DECIDABLE = frozenset({"aws:principalarn", "aws:principalaccount", "aws:principaltype"})
_COMPARE = {
    name.lower(): how
    for name, how in OPERATORS.items()
    if name.startswith(("String", "Arn")) and not name.endswith("IgnoreCase")
}
# What a condition asks for, in the words of a sentence that begins "may, ".
_WORDS = {
    "sts:externalid": "with an external id",
    "aws:multifactorauthpresent": "with MFA",
    "aws:multifactorauthage": "with recent MFA",
    "aws:sourceip": "from listed addresses",
    "aws:vpcsourceip": "from listed addresses",
    "aws:sourcevpc": "from a listed network",
    "aws:sourcevpce": "from a listed network",
    "aws:principalorgid": "from a listed organization",
    "aws:principalorgpaths": "from a listed part of an organization",
    "aws:currenttime": "at certain times",
    "aws:userid": "as a listed session",
    "aws:username": "under a listed user name",
    "sts:rolesessionname": "under a listed session name",
    "sts:sourceidentity": "with a listed source identity",
    "aws:principalarn": "as a listed principal",
}


class Caller(NamedTuple):
    """Who wants in. `arn` may be a pattern where the exact one is not known (`…/AWSReservedSSO_Deploy_*`), and
    `permission_set` is then how trusts that name it are found."""

    arn: str
    account_id: str
    permission_set: str = ""

    @property
    def session_name(self) -> str:
        """The last part of a role's ARN, by which its sessions are named."""
        return self.arn.rpartition("/")[2]

    @property
    def kind(self) -> str:
        return "User" if ":user/" in self.arn else "AssumedRole"


@dataclass(frozen=True, slots=True)
class Line:
    """One statement of a trust about assuming the role. `names`: ARNs, account ids, services, "*"; with `is_not`, everybody
    but them. `index` counts the statements of the document from 0."""

    index: int
    effect: str
    names: tuple[str, ...]
    is_not: bool
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One way in. `is_named`: the trust names the caller itself, not only its account. `conditions`: what must be so that
    cannot be decided here, in words; empty means that the trust surely lets the caller in."""

    index: int
    is_named: bool
    conditions: tuple[str, ...] = ()
    is_anybody: bool = False
    is_session: bool = False


def of_permission_set(name: str, account_id: str, role_arn: str = "") -> Caller:
    """Whoever holds a permission set acts as a role that Identity Center made. Its ARN is a pattern until it was read."""
    pattern = f"arn:*:iam::{account_id}:role/aws-reserved/sso.amazonaws.com/*AWSReservedSSO_{name}_*"
    return Caller(role_arn or pattern, account_id, name)


def lines_of(trust: str | Mapping[str, Any] | Document) -> tuple[Line, ...]:
    """The lines about sts:AssumeRole. Raises MalformedPolicy. Other ways in (SAML, web identity) are for outsiders."""
    statements = parse(trust).statements
    return tuple(filter(None, map(_line, statements)))[:MOST_LINES]


def services_of(trust: str | Mapping[str, Any] | Document) -> tuple[str, ...]:
    """The AWS services that a trust lets act as the role, such as `ec2.amazonaws.com`. Raises MalformedPolicy."""
    found: list[str] = []
    for statement in parse(trust).statements:
        principal = statement.raw.get("Principal")
        if statement.effect == "Allow" and isinstance(principal, Mapping):
            found += _listed(principal.get("Service"))
    return tuple(dict.fromkeys(found))[:MOST_NAMES]


def keys_of(lines: Iterable[Line], services: Iterable[str] = ()) -> list[str]:
    """What an index needs to find the role again by who may come in: ARNs, accounts, services and "*"."""
    found: dict[str, None] = dict.fromkeys(services)
    for line in lines:
        if line.effect == "Allow":
            found |= dict.fromkeys([ANYBODY] if line.is_not else [key for name in line.names for key in _keys(name)])
    return list(found)[:MOST_NAMES]


def names_for(caller: Caller) -> list[str]:
    """The keys under which a trust could let this caller in, without the one of its account."""
    own = [caller.arn, ANYBODY, f"session:{caller.account_id}:{caller.session_name}"]
    return [*own, set_key(caller.permission_set, caller.account_id)] if caller.permission_set else own


def set_key(name: str, account_id: str) -> str:
    """The key under which a trust names whoever holds a permission set, whatever the rest of its role's ARN is."""
    return f"sso:{account_id}:{name}"


def entries(lines: Sequence[Line], caller: Caller, now: datetime) -> list[Entry]:
    """Every way in for this caller, those that are sure first."""
    doubts: list[str] = []
    for line in lines:
        how = _is_about(line, caller) if line.effect == "Deny" else ""
        held = _undecided(line.conditions, caller, now) if how else None
        if held is None:
            continue
        is_unsure = how == "session" or (how == "named" and "*" in caller.arn)
        if not held and not is_unsure:
            return []
        doubts += [f"unless denied {words}" for words in held or ("by name",)]
    found = []
    for line in lines:
        how = _is_about(line, caller) if line.effect == "Allow" else ""
        held = _undecided(line.conditions, caller, now) if how else None
        if how and held is not None:
            session = ("under a listed session name",) if how == "session" else ()
            conditions = tuple(dict.fromkeys((*held, *session, *doubts)))
            is_named = how in ("named", "session", "anybody")
            found.append(Entry(line.index, is_named, conditions, how == "anybody", how == "session"))
    return sorted(found, key=lambda entry: (len(entry.conditions), not entry.is_named, entry.index))


def as_json(line: Line) -> dict[str, Any]:
    """For a database column; `from_json` reads it back."""
    conditions = [[one.operator, one.key, list(one.values)] for one in line.conditions]
    return {"n": line.index, "e": line.effect, "names": list(line.names), "not": line.is_not, "if": conditions}


def from_json(stored: Mapping[str, Any]) -> Line:
    conditions = tuple(Condition(operator, key, tuple(values)) for operator, key, values in stored["if"])
    return Line(stored["n"], stored["e"], tuple(stored["names"]), stored["not"], conditions)


def in_words(conditions: Iterable[Condition]) -> tuple[str, ...]:
    """What conditions ask for, one phrase each: "with MFA", "with aws:PrincipalTag/team as listed"."""
    return tuple(dict.fromkeys(_WORDS.get(one.key) or f"with {one.key[:80]} as listed" for one in conditions))


def _line(statement: Statement) -> Line | None:
    if not statement.is_about("sts:AssumeRole"):
        return None
    is_not = "NotPrincipal" in statement.raw
    named = statement.raw.get("NotPrincipal" if is_not else "Principal")
    names = [ANYBODY] if named == ANYBODY else _listed(named.get("AWS")) if isinstance(named, Mapping) else []
    if not names and not is_not:
        return None
    return Line(statement.index, statement.effect, tuple(names[:MOST_NAMES]), is_not, statement.conditions)


def _keys(name: str) -> list[str]:
    if session := _SESSION.fullmatch(name):
        return [f"session:{session[2]}:{session[3]}"]
    if sso := _SSO_ROLE.fullmatch(name):
        return [name, set_key(sso[2], sso[1])]
    account = _ACCOUNT.fullmatch(name)
    return [account[1] if account else name]


def _is_about(line: Line, caller: Caller) -> str:
    """How the line names the caller: "named", "session", "account", "anybody"; empty when it does not."""
    hows = [how for how in (_names(name, caller) for name in line.names) if how]
    if line.is_not:  # whether naming an account also means those in it is left open: whoever may be in, is in
        spared = {"named"} if line.effect == "Allow" else {"named", "account", "anybody"}
        return "" if spared & {*hows} else "anybody"
    return min(hows, key=("named", "session", "account", "anybody").index, default="")


def _names(name: str, caller: Caller) -> str:
    if name == ANYBODY:
        return "anybody"
    account, session_of, role = _shape(name)
    if role:
        is_it = session_of == caller.account_id and matches(caller.session_name, role)
        return "session" if is_it and caller.kind == "AssumedRole" else ""
    if account:
        return "account" if account == caller.account_id else ""
    return "named" if name == caller.arn or ("*" in caller.arn and matches(caller.arn, name)) else ""


@lru_cache(maxsize=8192)
def _shape(name: str) -> tuple[str, str, str]:
    """(account) of the name of a whole account, or (account, role) of one session; all empty for other names."""
    if account := _ACCOUNT.fullmatch(name):
        return account[1], "", ""
    session = _SESSION.fullmatch(name)
    return ("", session[2], session[3]) if session else ("", "", "")


def _undecided(conditions: Sequence[Condition], caller: Caller, now: datetime) -> tuple[str, ...] | None:
    """What cannot be decided, in words; None when a condition is surely not met."""
    if not conditions:
        return ()
    open_ones = []
    for condition in conditions:
        answer = _holds(condition, caller)
        if answer is False or is_over(condition, now):
            return None
        if answer is None:
            open_ones.append(condition)
    return in_words(open_ones)


def _holds(condition: Condition, caller: Caller) -> bool | None:
    """True or false where the caller's name alone decides, else None."""
    if condition.key not in _DECIDABLE or condition.operator.lower() not in _COMPARE:
        return None
    compare, is_negated = _COMPARE[condition.operator.lower()]
    given = {"aws:principalarn": caller.arn, "aws:principalaccount": caller.account_id}.get(condition.key, caller.kind)
    if any("${" in value for value in condition.values):
        return None
    if "*" in given:  # a pattern of the caller: sure only where all or nothing of it fits
        if any(covers(value, given) for value in condition.values):
            return not is_negated
        return None if any(may_overlap(value, given) for value in condition.values) else is_negated
    return any(compare(given, value) for value in condition.values) != is_negated


def _listed(value: Any) -> list[str]:
    if isinstance(value, list):
        return [one for one in value if isinstance(one, str)]
    return [value] if isinstance(value, str) else []
