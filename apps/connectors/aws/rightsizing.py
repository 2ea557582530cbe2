"""A smaller policy from what its holder really did: takes actions out of Allow statements and touches nothing else.

An action goes only when its use would have been seen. What a trail may not show (data events, permissions without a call
of their own) stays, unless AWS itself says that the whole service was not accessed. What AWS services did on the holder's
behalf stays too: AWS checks the holder's permissions for it, though it is no need of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.policy.documents import Document, MalformedPolicy, parse
from apps.connectors.aws.policy.matcher import has_wildcard
from apps.connectors.aws.policy.reach import effective
from apps.connectors.aws.unlogged import unlogged

# Characters without white space ("IAM and STS quotas"): of one managed policy, and of all inline policies of a holder.
MOST_OF_MANAGED = 6_144
MOST_OF_INLINE = {"user": 2_048, "role": 10_240}

# Never seen anywhere, and what breaks when it is missed breaks late.
NEVER_SEEN = ("iam:PassRole",)


@dataclass(frozen=True)
class Evidence:
    """What is known about a principal since `since`. Actions are named as in the catalogue.

    `accessed`: by service, when AWS says it was last accessed; None where that is longer ago than AWS keeps track. A
    service that is not in it was not reported on. `reported_at`: when AWS said so.
    """

    since: datetime
    used: frozenset[str] = frozenset()
    for_services: frozenset[str] = frozenset()  # done by AWS services on its behalf
    unmapped: frozenset[str] = frozenset()  # services with calls that fit no permission
    accessed: Mapping[str, datetime | None] = field(default_factory=dict)
    accessed_actions: frozenset[str] = frozenset()  # that AWS says were accessed since
    reported_at: datetime | None = None


@dataclass(frozen=True)
class Smaller:
    """A proposal for one document. `after` is None when nothing of it is needed; equal documents mean: nothing to take."""

    before: Mapping[str, Any]
    after: Mapping[str, Any] | None
    removed: tuple[str, ...] = ()  # actions that no statement of it allows any more
    unseen: tuple[str, ...] = ()  # actions that stay because nothing could show their use
    notes: tuple[str, ...] = ()

    @property
    def is_smaller(self) -> bool:
        return bool(self.removed)


def smaller(
    document: str | Mapping[str, Any] | Document, evidence: Evidence, *, inline_of: str = "user", beside: int = 0
) -> Smaller:
    """The document without what was not used. Raises MalformedPolicy for what cannot be read.

    `inline_of`: the kind of holder whose inline policy it is; empty for a managed one, "user" (the least room) where
    nobody knows. `beside`: the characters of that holder's other inline policies.
    """
    read = parse(document)
    keep, unseen = _needed(evidence)
    statements: list[Any] = []
    removed = stays = 0
    notes = []
    lasting = []  # statements whose actions are not gone, whatever else is taken away
    for statement in read.statements:
        name = f"Statement {statement.index + 1}"
        if statement.effect != "Allow":
            statements.append(statement.raw)
            continue
        if statement.is_not_action:
            notes.append(f"{name} allows everything but a list (NotAction). It stays as it is: rewrite it by hand.")
            statements.append(statement.raw)
            lasting.append(statement)
            continue
        allowed = catalogue().select(statement.actions)
        stays |= allowed & unseen(allowed) & ~keep
        kept = allowed & (keep | unseen(allowed))
        if kept == allowed:
            statements.append(statement.raw)
            continue
        removed |= allowed & ~kept
        actions = list(_written(_listed(statement.raw["Action"]), kept))
        if actions:
            statements.append({**statement.raw, "Action": actions})
    after = {**read.raw, "Statement": statements} if any(one["Effect"] == "Allow" for one in statements) else None
    removed &= ~effective([replace(read, statements=tuple(lasting))]).any
    if after and removed:
        notes += _too_long(size(after), inline_of, beside)
    if evidence.reported_at and any(_is_untouched(evidence, name, 0) for name in catalogue().services(removed)):
        notes.append(
            f"That whole services were not accessed is AWS's word of {evidence.reported_at:%d %B %Y}. It says nothing of "
            "the days since."
        )
    return Smaller(
        before=read.raw,
        after=after if removed else read.raw,
        removed=tuple(catalogue().actions(removed)),
        unseen=tuple(catalogue().actions(stays)),
        notes=tuple(notes),
    )


def size(document: Any) -> int:
    """The characters of a document that IAM counts, or a few more."""
    return len(json.dumps(document, separators=(",", ":")))


def _too_long(characters: int, inline_of: str, beside: int) -> Iterator[str]:
    """What to do where a proposal does not fit."""
    if not inline_of and characters > MOST_OF_MANAGED:
        yield "Written out like this it is longer than a managed policy may be. Split it by service."
    if inline_of and characters + beside > MOST_OF_INLINE[inline_of]:
        yield (
            f"Written out like this, the inline policies of this {inline_of} have {characters + beside:,} characters, and "
            f"{MOST_OF_INLINE[inline_of]:,} are the most. Make managed policies of them."
        )


def allowed_by(documents: Sequence[Any]) -> tuple[int, int]:
    """What policies allow at most, as a set of the catalogue, and how many of them could not be read."""
    read, broken = [], 0
    for document in documents:
        try:
            read.append(parse(document))
        except MalformedPolicy:
            broken += 1
    return effective(read).any, broken


def _needed(evidence: Evidence) -> tuple[int, Any]:
    """The actions that were used, and a function: which of some actions stay because nothing could show their use."""
    known = catalogue()
    keep = known.select(evidence.used | evidence.for_services | evidence.accessed_actions)

    def unseen(allowed: int) -> int:
        found = 0
        for service in known.services(allowed):
            mine = known.expand(f"{service}:*")
            if service in evidence.unmapped:
                found |= mine
            elif _is_untouched(evidence, service, keep & mine):
                found |= mine & known.select(NEVER_SEEN)
            else:
                found |= unlogged(service)
        return found & allowed

    return keep, unseen


def _is_untouched(evidence: Evidence, service: str, used: int) -> bool:
    """Whether AWS itself says that the service was not accessed at all since, and the trail agrees."""
    if used or service not in evidence.accessed:
        return False
    at = evidence.accessed[service]
    return at is None or at < evidence.since


def _written(patterns: Sequence[str], kept: int) -> Iterator[str]:
    """The actions of a statement, as it wrote them where all that a pattern stands for is kept."""
    known = catalogue()
    done = 0
    for pattern in patterns:
        stands_for = known.expand(pattern)
        if not stands_for:
            yield pattern  # the catalogue does not know it: nobody can say that it is not needed
            continue
        left = stands_for & kept & ~done
        done |= left
        if stands_for & kept == stands_for:
            yield pattern
        elif has_wildcard(pattern):
            for service in known.services(left):
                whole = known.expand(f"{service}:*")
                yield from (f"{service}:*",) if left & whole == whole else known.actions(left & whole)


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
