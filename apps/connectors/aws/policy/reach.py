"""What policy documents allow, as sets of actions of the catalogue: an upper bound, whatever the conditions say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.escalation import HARMLESS_ON_ROLES_OF_GRANTS, HARMLESS_ON_SELF, On
from apps.connectors.aws.policy.documents import Document, Statement
from apps.connectors.aws.policy.matcher import covers, may_overlap

_ROLE_OF_GRANT = re.compile(r"arn:[\w-]+:iam::(\d{12}|\*):role/jit/jit-[\w*?-]*", re.ASCII)
_OWN_USER = re.compile(r":user/(?:[^?]*/)?\$\{aws:username\}$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reach:
    """Sets of actions, as in the catalogue: allowed on some resource, on some where that is not harmless (one's own user,
    the role of one grant), on all of a kind.

    `writes` are those of `any` that change something, `unknown` the patterns that fit nothing in the catalogue.
    """

    any: int = 0
    others: int = 0
    broad: int = 0
    writes: int = 0
    unknown: frozenset[str] = frozenset()

    def on(self, which: On) -> int:
        return {On.ANY: self.any, On.OTHERS: self.others, On.BROAD: self.broad}[which]


def effective(documents: Sequence[Document]) -> Reach:
    """What the documents allow together, less what they deny without condition on every resource."""
    allowed = _united([_allowed(document) for document in documents])
    denials = _denials(documents)
    if not denials:
        return allowed
    left = catalogue().everything & ~_denied_by(denials)
    return Reach(
        allowed.any & left,
        allowed.others & left,
        allowed.broad & left,
        allowed.writes & left,
        frozenset(pattern for pattern in allowed.unknown if not _is_denied(denials, pattern)),
    )


def denied(documents: Sequence[Document]) -> int:
    """The actions that these deny without condition on every resource, whoever else allows them."""
    return _denied_by(_denials(documents))


def within(documents: Sequence[Document], boundary: Document) -> Reach:
    """What the documents allow inside a permission boundary, which allows nothing by itself: only what both allow."""
    inner, outer = effective(documents), effective((boundary,))
    return Reach(
        inner.any & outer.any,
        inner.others & outer.others,
        inner.broad & outer.broad,
        inner.writes & outer.writes,
        frozenset(pattern for pattern in inner.unknown if _may_allow((boundary,), pattern))
        | frozenset(pattern for pattern in outer.unknown if _may_allow(documents, pattern)),
    )


def may_allow(statement: Statement, pattern: str) -> bool:
    """Whether an Allow statement could be about some of what a pattern unknown to the catalogue stands for."""
    if not _resources(statement)[0]:
        return False  # NotResource "*" leaves nothing that it could be about
    if statement.is_not_action:
        return not any(covers(one, pattern) for one in statement.actions)
    return any(may_overlap(one, pattern) for one in statement.actions)


def _united(reaches: Sequence[Reach]) -> Reach:
    any_, others, broad, writes = 0, 0, 0, 0
    unknown: frozenset[str] = frozenset()
    for one in reaches:
        any_ |= one.any
        others |= one.others
        broad |= one.broad
        writes |= one.writes
        unknown |= one.unknown
    return Reach(any_, others, broad, writes, unknown)


def _may_allow(documents: Sequence[Document], pattern: str) -> bool:
    if _is_denied(_denials(documents), pattern):
        return False
    return any(may_allow(statement, pattern) for _, statement in allowing(documents))


def _is_denied(denials: Sequence[Statement], pattern: str) -> bool:
    """Whether all that an unknown pattern stands for is denied for sure."""
    for denial in denials:
        if denial.is_not_action:
            if not any(may_overlap(one, pattern) for one in denial.actions):
                return True
        elif any(covers(one, pattern) for one in denial.actions):
            return True
    return False


def _denials(documents: Sequence[Document]) -> list[Statement]:
    return [statement for document in documents for statement in document.statements if _is_plain_denial(statement)]


def _denied_by(denials: Sequence[Statement]) -> int:
    found = 0
    for denial in denials:
        found |= _actions(denial.actions, denial.is_not_action)[0]
    return found


def _is_plain_denial(statement: Statement) -> bool:
    return (
        statement.effect == "Deny"
        and not statement.conditions
        and not statement.is_not_resource
        and any(resource.strip("*") == "" for resource in statement.resources)
    )


@lru_cache(maxsize=4096)
def _allowed(document: Document) -> Reach:
    """What the Allow statements of one document give, before any Deny."""
    return _united([reach_of(statement) for _, statement in allowing((document,))])


@lru_cache(maxsize=2048)
def reach_of(statement: Statement) -> Reach:
    """What one Allow statement gives."""
    known = catalogue()
    actions, unknown = _actions(statement.actions, statement.is_not_action)
    any_, others, broad = _resources(statement)
    writes = actions & any_ & known.writes
    if any(one.key == "s3express:sessionmode" and one.values == ("ReadOnly",) for one in statement.conditions):
        writes &= ~known.expand("s3express:CreateSession")  # one action for reading and writing; the mode tells which
    return Reach(actions & any_, actions & others, actions & broad, writes, unknown if any_ else frozenset())


@lru_cache(maxsize=4096)
def _actions(patterns: tuple[str, ...], is_not_action: bool) -> tuple[int, frozenset[str]]:
    """The actions that Action or NotAction names, and the patterns that the catalogue does not know."""
    known = catalogue()
    found, unknown = 0, []
    expand = known.expand
    for pattern in patterns:
        actions = expand(pattern)
        if actions:
            found |= actions
        else:
            unknown.append(pattern)
    return (known.everything & ~found, frozenset()) if is_not_action else (found, frozenset(unknown))


def _resources(statement: Statement) -> tuple[int, int, int]:
    """The actions that the resources of a statement leave possible: any, others, broad."""
    known = catalogue()
    if statement.is_not_resource:
        left = known.everything
        for resource in statement.resources:
            left &= ~known.excluded_by(resource)
        return left, left, left
    any_, others, broad = 0, 0, 0
    for resource in statement.resources:
        reachable, reachable_others, reachable_broad = _resource(resource)
        any_ |= reachable
        others |= reachable_others
        broad |= reachable_broad
    return any_, others, broad


@lru_cache(maxsize=8192)
def _resource(pattern: str) -> tuple[int, int, int]:
    known = catalogue()
    reachable = known.reachable_by(pattern)
    if _OWN_USER.search(pattern):
        return reachable, reachable & ~_harmless(HARMLESS_ON_SELF), 0
    if _ROLE_OF_GRANT.fullmatch(pattern):
        return reachable, reachable & ~_harmless(HARMLESS_ON_ROLES_OF_GRANTS), 0
    return reachable, reachable, reachable if known.is_broad(pattern) else 0


def allowing(documents: Sequence[Document]) -> Iterator[tuple[int, Statement]]:
    """The Allow statements, each with the number of its document."""
    for n, document in enumerate(documents):
        for statement in document.statements:
            if statement.effect == "Allow":
                yield n, statement


@lru_cache(maxsize=2)
def _harmless(actions: tuple[str, ...]) -> int:
    return catalogue().select(actions)
