"""What an audit trail says somebody did: the one shape in which the rest of Gatehouse sees an event.

An adapter (`aws/trails.py`) makes these of the provider's files and keeps nothing else: request parameters hold secrets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol


class Outcome(StrEnum):
    """How a call ended. `FAILED` is an error of another kind than a refusal: it proves that the action was allowed."""

    DONE = "done"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """One call. Text is bounded and printable; what the trail does not say is empty."""

    event_id: str  # the provider's own; two files may hold the same event
    at: datetime
    account_id: str  # where it happened
    region: str
    service: str  # "iam", from eventSource
    name: str  # "CreateUser", as the trail says it
    action: str  # "iam:CreateUser", the permission it needed; empty where no such action is known
    outcome: Outcome
    is_data_event: bool
    actor_kind: str  # "IAMUser", "AssumedRole", "Root", "AWSService", "IdentityCenterUser", "AWSAccount", ...
    actor_arn: str  # with the session's name: arn:aws:sts::...:assumed-role/Name/session
    actor_id: str  # unique id; of a session "AROA...:session"
    actor_account_id: str
    issuer_arn: str  # the role behind a session
    issuer_id: str  # its unique id, AROA...
    session_name: str
    session_began_at: datetime | None
    source_identity: str
    access_key_id: str
    on_behalf_of: str  # the Identity Center user behind it, where AWS says so
    invoked_by: str  # an AWS service that acted for the actor: not the actor's own need
    source_address: str
    resources: tuple[str, ...] = ()  # ARNs
    made_access_key_id: str = ""  # AssumeRole: the key of the session that began
    tags: Mapping[str, str] = field(default_factory=dict)  # session tags that were passed along
    made_arn: str = ""  # CreateRole, CreateUser: what was made, and its unique id
    made_id: str = ""
    named: Mapping[str, str] = field(default_factory=dict)  # by a write about access: names and ids of its parameters

    @property
    def is_own(self) -> bool:
        """Whether the actor needed it, rather than an AWS service acting for them."""
        return not self.invoked_by


class Unreadable(Exception):
    """The rest of a file cannot be read. The text says why, in words for people; what came before it stands."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the files of one account's Region stand."""

    account_id: str
    region: str
    prefix: str


class Trail(Protocol):
    """The files of one configured audit trail. Every method but `day_of` may raise a `ConnectorError`."""

    @property
    def calls(self) -> int:
        """How many calls of the provider were made."""

    def shelves(self) -> list[Shelf]:
        """Every account and Region that there are files of."""

    def keys(self, shelf: Shelf, since: date) -> Iterator[str]:
        """The names of a shelf's files from a day on, the earlier days first."""

    def day_of(self, key: str) -> date | None:
        """The day that a file was delivered for; None for what is no file of the trail."""

    def read(self, key: str, skipped: Counter[str]) -> Iterator[TrailEvent]:
        """The events of one file; `skipped` counts the records that were left out, by reason. Raises `Unreadable`."""


@dataclass(frozen=True, slots=True)
class LastUse:
    """When a principal last used a service, or one action of it. `at` is None where that was not within what the system
    keeps. Attempts that were refused count too."""

    service: str  # "s3"
    action: str = ""  # "s3:ListBucket"; empty: the service as a whole
    at: datetime | None = None


class AccessReports(Protocol):
    """What a system itself says about when its principals last did what."""

    def of(self, account_id: str, arn: str) -> list[LastUse]:
        """All pages of one principal's report. May raise a `ConnectorError`, and takes some seconds."""
