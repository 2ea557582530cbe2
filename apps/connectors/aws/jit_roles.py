"""The role that one grant stands for: its name, its words in AWS, what it opens, and whether IAM would take it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from apps.connectors.aws import jit_documents as jit
from apps.connectors.aws.guard import size, stamp
from apps.connectors.aws.iam_timeboxed_policy import accesses
from apps.connectors.aws.jit_documents import PATH
from apps.connectors.base import Target
from apps.connectors.errors import Refused

SESSION_FOR = timedelta(hours=1)  # the shortest that IAM offers, and the longest that a chained session may last
INLINE_LIMIT = 10_240  # characters of all inline policies of a role, white space not counted
TRUST_LIMIT = 2_048
NAME_LIMIT = 64  # of path and name together, for the console's switch-role page

_REFERENCE = re.compile(r"[a-z0-9]{8,40}")
_USER_ID = re.compile(r"[A-Za-z0-9-]{1,47}")
_ENTRY = re.compile(r"[\w+=,.@-]{1,32}", re.ASCII)
_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)


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
