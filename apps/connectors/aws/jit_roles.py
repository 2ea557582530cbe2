"""The role that one grant stands for: its name, its words in AWS, what it opens, and whether IAM would take it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from apps.connectors.aws import jit_documents as jit
from apps.connectors.aws.guard import size, stamp
from apps.connectors.aws.iam_timeboxed_policy import accesses
from apps.connectors.aws.jit_documents import ACCESS, GUARD, PATH, REVOKED
from apps.connectors.base import Examination, Proof, Target, Window, whole_second
from apps.connectors.errors import Refused

SESSION_FOR = timedelta(hours=1)  # the shortest that IAM offers, and the longest that a chained session may last
INLINE_LIMIT = 10_240  # characters of all inline policies of a role, white space not counted
TRUST_LIMIT = 2_048
NAME_LIMIT = 64  # of path and name together, for the console's switch-role page

_REFERENCE = re.compile(r"[a-z0-9]{8,40}")
_USER_ID = re.compile(r"[A-Za-z0-9-]{1,47}")
_ENTRY = re.compile(r"[\w+=,.@-]{1,32}", re.ASCII)
_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The role that a grant's target stands for."""

    account_id: str
    name: str
    arn: str
    user_id: str
    reference: str
    boundary: str
    entry: str
    partition: str
    gives: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]

    @property
    def named(self) -> dict[str, str]:
        return {"RoleName": self.name}

    @property
    def spec(self) -> str:
        """What the role opens and for whom, without its dates, which move: SHA-256 in hexadecimal."""
        facts = [self.arn, self.user_id, self.boundary, self.entry, SESSION_FOR.total_seconds(), self.gives]
        return sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()

    def trust(self, not_after: datetime) -> dict[str, Any]:
        return jit.open_trust(self.partition, self.account_id, self.user_id, self.entry, not_after)

    def access(self, not_after: datetime) -> dict[str, Any]:
        return jit.access(self.gives, not_after)

    def tags(self, not_after: datetime) -> dict[str, str]:
        return {
            "jit:grant": self.reference,
            "jit:principal": self.user_id,
            "jit:not-after": stamp(not_after),
            "jit:spec": self.spec,
            jit.MANAGED_BY: "gatehouse",
        }


def wanted_role(target: Target, config: Mapping[str, Any], partition: str) -> Wanted:
    """Raises `Refused` for words that would mean something else inside a name or a policy."""
    entry = str(config["entry_permission_set"])
    for pattern, word, what in (
        (_REFERENCE, target.reference, "the name of a grant"),
        (_USER_ID, target.principal_external_id, "the id of a person in Identity Center"),
        (_ACCOUNT_ID, target.account_id, "an AWS account id"),
        (_ENTRY, entry, "the name of a permission set"),
    ):
        if not pattern.fullmatch(word):
            raise Refused(f"{word[:60]!r} is not {what}.")
    name = jit.role_name(target.reference)
    return Wanted(
        account_id=target.account_id,
        name=name,
        arn=f"arn:{partition}:iam::{target.account_id}:role{PATH}{name}",
        user_id=target.principal_external_id,
        reference=target.reference,
        boundary=f"arn:{partition}:iam::{target.account_id}:policy{config['boundary_policy']}",
        entry=entry,
        partition=partition,
        gives=tuple((one.actions, one.resources) for one in accesses(target)),
    )


def require_fits(wanted: Wanted, not_after: datetime) -> None:
    """Raise `Refused` before anything is written that IAM would not take."""
    policies = (jit.guard(not_after), jit.revoked(), wanted.access(not_after))
    for needed, limit, what in (
        (sum(map(size, policies)), INLINE_LIMIT, "The policies of the role"),
        (size(wanted.trust(not_after)), TRUST_LIMIT, "The trust of the role"),
        (len(PATH + wanted.name), NAME_LIMIT, "The name of the role"),
    ):
        if needed > limit:
            raise Refused(f"{what} would need {needed} of {limit} characters. Offer less at a time.")


@dataclass(frozen=True, slots=True)
class Shown:
    """The role as AWS shows it: who may assume it, its inline policies by name, and what is attached to it."""

    trust: Any
    inline: Mapping[str, Any]
    attached: tuple[str, ...] = ()


def compared(wanted: Wanted, shown: Shown, window: Window | None, why_not_ours: str, proof: Proof) -> Examination:
    """How the role differs from what its window says. Only dates may differ in who gets in and what they may do: the guard
    denies everything from its own date on, and that one counts."""
    end = jit.end_of(shown.inline.get(GUARD))
    is_denied = jit.same(shown.inline.get(REVOKED), jit.revoked())
    too_much = [*_too_much(wanted, shown), *([why_not_ours] if why_not_ours else [])]
    weaker: tuple[Window, ...] = ()
    stricter: tuple[Window, ...] = ()
    differences = [f"Role {wanted.name}: {sentence}." for sentence in too_much]
    if window is not None:
        not_after = whole_second(window.not_after)
        if not is_denied and (end is None or end > not_after):
            weaker = (window,)
            differences.append(f"Nothing denies role {wanted.name} everything from {stamp(not_after)} on.")
        elif window.is_open and (is_denied or end != not_after):
            stricter = (replace(window, is_open=not is_denied, not_after=end or window.not_after),)
            differences.append(f"Role {wanted.name} is denied everything earlier than was decided.")
    return Examination(proof, weaker, stricter, is_wider=bool(too_much), differences=tuple(differences))


def _too_much(wanted: Wanted, shown: Shown) -> Iterator[str]:
    """What somebody put on the role that the grant did not."""
    if not jit.is_closed(shown.trust) and not _differs_in_dates_only(shown.trust, wanted.trust):
        yield "its trust lets in somebody whom the grant does not name"
    access = shown.inline.get(ACCESS)
    if access is not None and not _differs_in_dates_only(access, wanted.access):
        yield "it may do something that the grant does not give"
    more = sorted({*shown.inline} - {GUARD, ACCESS, REVOKED}) + sorted(shown.attached)
    if more:
        yield f"it also has {', '.join(more)[:200]}"


def _differs_in_dates_only(document: Any, wanted: Callable[[datetime], Any]) -> bool:
    dates = set(_STAMP.findall(json.dumps(document, default=str)))
    return any(jit.same(document, wanted(date)) for date in filter(None, map(_instant, dates)))


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # the thirtieth of February
        return None
