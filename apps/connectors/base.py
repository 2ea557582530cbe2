"""The contract between Gatehouse and a governed system.

A connector reads a system in *scopes* (the directory, each account) and hands back plain records. A provisioner opens
and ends one kind of access there; a remover only ends standing access. All of them are idempotent by contract: doing
what is already so, or removing what is already gone, succeeds. `tests/connectors/contract.py` runs the same suite over
the in-memory fake and over AWS.

External ids are unique within a connection and made by the connector (an ARN, a user id, a composed key); nothing above
this package parses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable

Progress = Callable[[int, int, str], None]  # done, of, what is being read now


def unwatched(done: int, of: int, what: str) -> None:
    """Progress that nobody watches."""


# ---- what a scan hands back ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """One governed resource as the provider lists it (an AWS account)."""

    external_id: str
    name: str
    email: str = ""
    path: str = ""  # where it stands in the organization, "Workloads/Production"
    state: str = "active"
    tags: Mapping[str, str] = field(default_factory=dict)
    is_management: bool = False
    is_placed: bool = True  # False: nothing in the organization said where it stands, so `path` says nothing


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """One face somebody shows to the system. `kind`: idc_user, idc_group, iam_user, iam_group, iam_role, iam_root."""

    kind: str
    external_id: str
    name: str
    account_id: str = ""  # empty for the directory's own
    display_name: str = ""
    email: str = ""
    title: str = ""
    department: str = ""
    manager_external_id: str = ""  # the directory's own word for who this person reports to
    is_externally_owned: bool = False  # SCIM or AD owns it: changes here would be reverted
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)  # trust document, tags, path, boundary


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """One policy document as the provider stores it, with the name people know it by."""

    name: str
    document: Any  # str or dict, unparsed: a malformed one must survive until somebody is told


@dataclass(frozen=True, slots=True)
class EntitlementRecord:
    """Something that can be held. `kind`: permission_set, idc_group, iam_group, iam_policy, iam_inline_policy."""

    kind: str
    external_id: str
    name: str
    account_id: str = ""
    description: str = ""
    documents: tuple[DocumentRecord, ...] = ()
    boundary: DocumentRecord | None = None
    session_for: timedelta | None = None  # how long a session opened with it can outlive the assignment
    makes_external_id: str = ""  # the group principal that holding this (a membership) makes one part of
    attributes: Mapping[str, Any] = field(default_factory=dict)  # what the remover or provisioner needs to name it


@dataclass(frozen=True, slots=True)
class AssignmentRecord:
    """The provider's fact that a principal holds an entitlement now."""

    principal_external_id: str
    entitlement_external_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A long-lived secret of a principal, never the secret itself.

    `kind`: password, access_key, mfa, root_key, certificate.
    `external_id` names it among the same principal's secrets of its kind.
    """

    principal_external_id: str
    kind: str
    external_id: str
    is_active: bool = True
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ControlTotal:
    """How many of something we read, and how many an independent call of the provider says there are.

    `expected` is None where the provider gives no such count; then completeness rests on following every page.
    """

    name: str
    read: int
    expected: int | None = None

    @property
    def agrees(self) -> bool:
        return self.expected is None or self.expected == self.read


@dataclass(slots=True)
class Scan:
    """What one scope holds now, all of it or a part, and whether that is really all of it."""

    principals: list[PrincipalRecord] = field(default_factory=list)
    entitlements: list[EntitlementRecord] = field(default_factory=list)
    assignments: list[AssignmentRecord] = field(default_factory=list)
    credentials: list[CredentialRecord] = field(default_factory=list)
    totals: list[ControlTotal] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # sentences; any problem makes the scan incomplete
    notes: list[str] = field(default_factory=list)  # worth saying, does not make it incomplete
    calls: int = 0
    throttles: int = 0  # answers that we ask too much
    waited: float = 0.0  # seconds in our own queue, so that others (what ends access) could go first

    @property
    def is_complete(self) -> bool:
        """Every page was read without error, and every control total that exists agrees."""
        return not self.problems and all(total.agrees for total in self.totals)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one right is there in one place. `state`: ok, missing, unknown."""

    account_id: str
    name: str  # of the place, as people know it
    action: str  # "iam:GetRole"
    state: str = "ok"
    why: str = ""  # a sentence: who denies it
    next: str = ""  # a sentence: what to do
    statement: Mapping[str, Any] | None = None  # of a policy that would give it, to copy


@dataclass(frozen=True, slots=True)
class Checkup:
    """What trying every right found. `sampled` of `accounts` were tried."""

    findings: list[Finding]
    sampled: int
    accounts: int


class Connector(Protocol):
    """Reads one configured system. Every method may raise a `ConnectorError`."""

    def check(self) -> str:
        """Say who we are there, in a sentence. Raises with what is missing when we cannot read."""

    def checkup(self, progress: Progress) -> Checkup:
        """Try every right that reading needs, in every place or in a sample of many. Changes nothing."""

    def accounts(self, progress: Progress = unwatched) -> list[AccountRecord]:
        """Every resource of the system, all pages."""

    def scan_directory(self, accounts: Sequence[AccountRecord], progress: Progress) -> Iterable[Scan]:
        """People, groups, memberships, permission sets and their assignments in `accounts`.

        It is too large to be held at once, so it comes in parts of some thousand records, read as they are asked for. A
        group comes no later than its membership does; the whole is complete when every part is. `calls` of the last
        part counts them all.
        """

    def scan_account(self, account: AccountRecord, progress: Progress) -> Scan:
        """The identities, policies and credentials inside one account."""

    def read_holders(self, kind: str, external_id: str, attributes: Mapping[str, Any]) -> list[AssignmentRecord]:
        """Everybody who holds one entitlement of the directory now, all pages. Its `attributes` are those it was read
        with. Raises `Gone` when it does not exist any more."""


# ---- opening and ending access ------------------------------------------------------------------------------------


def whole_second(at: datetime) -> datetime:
    """The instant in UTC as providers can store it: rounded *down*, so that access never lasts longer than agreed."""
    return at.astimezone(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Target:
    """One (principal, entitlement) pair in the provider's own words; what a grant is about."""

    account_id: str
    principal_kind: str
    principal_external_id: str
    principal_name: str
    entitlement_kind: str
    entitlement_external_id: str
    entitlement_name: str
    entitlement_attributes: Mapping[str, Any] = field(default_factory=dict)
    principal_attributes: Mapping[str, Any] = field(default_factory=dict)
    assignment_attributes: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""  # the grant's own name in the provider, where each grant has an object or sessions of its own
    made_as: str = ""  # what the provider called the object it made for this grant; one made again has another id


@dataclass(frozen=True, slots=True)
class Window:
    """A target that shall be usable until `not_after` (exclusive, UTC, whole seconds), by the union of live grants.

    `is_open` is False for one that is being ended: its date lies in the past and its access must be denied at once.
    `holds_standing` says that the principal also holds some of this by standing right, which a Deny would cut.
    `lapses_at` is the latest end that was ever written for it: from then on what was dated with it (a session) is over
    by itself. None when that is not known.
    """

    target: Target
    not_after: datetime
    is_open: bool = True
    holds_standing: bool = False
    lapses_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.not_after.tzinfo is None:
            raise ValueError("not_after must say its time zone")


@dataclass(frozen=True, slots=True)
class Proof:
    """What was called and what was read back, for the timeline and the receipt. Never contains a secret."""

    what: str  # a sentence: "Guard policy jit-guard in 1111-2222-3333 denies alice from 18:00:00Z"
    read_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    made_as: str = ""  # of an object that was made for one grant alone: see `Target.made_as`


@dataclass(frozen=True, slots=True)
class Ticket:
    """A change the provider accepted. `state`: pending, done, failed. Acceptance is no outcome: poll, then look."""

    state: str
    reference: str = ""
    reason: str = ""  # the provider's words when it failed


@dataclass(frozen=True, slots=True)
class Look:
    """A fresh read of one target: is the access there now?"""

    is_present: bool
    proof: Proof


@dataclass(frozen=True, slots=True)
class WayIn:
    """One way for the holder to use what is open. `kind`: console, cli, or note (nothing to do). Never holds a secret."""

    kind: str
    label: str
    url_or_text: str  # an https address for `console`, text to copy for `cli`, a sentence for `note`


class Remover(Protocol):
    """Ends one kind of access and reads it back. Can never open any."""

    def close(self, target: Target) -> Ticket:
        """Ask the provider to remove it. Gone already is `done`."""

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """Where a pending change stands now."""

    def look(self, target: Target) -> Look:
        """Read it back."""

    def lock_key(self, target: Target) -> str:
        """The one object in the provider that `close` (and `open`) changes; nobody else may change it meanwhile."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What one provisioner promises, in sentences for people: shown where its access is offered and held, and in docs.

    What rests on something that was not yet tried in a live account says "unverified live".
    """

    ends_by: str  # what ends it if every part of the portal is dead
    ends_early_by: str  # how it is ended before its time
    read_back_by: str  # what is read to know that it opened, and that it is gone
    survives: str  # what lives on after the end (sessions, open connections), or that nothing does
    limits: tuple[str, ...]  # of the provider, checked before anything is written
    failures: tuple[str, ...]  # what goes wrong in practice, and what then happens
    holders: tuple[str, ...]  # kinds of principal it can open something for
    opens: tuple[str, ...]  # kinds of entitlement it can open
    may_be_privileged: bool  # whether its ender is strong enough for privileged entitlements
    is_per_grant: bool = False  # every grant has an object or sessions of its own, so overlapping ones share nothing
    denies: bool = True  # `enforce` alone cuts what is being ended; if not, it lasts until it is removed


class Provisioner(Remover, Protocol):
    """Opens one kind of access for a time, and ends it in the provider even when the portal is dead."""

    promise: Promise

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        """Raise `Refused` when this cannot be provisioned safely (a limit, a missing guard). Reads, never writes.

        `windows` are all that `enforce` would then be given, this target's own among them.
        """

    def shared_key(self, target: Target) -> str:
        """The object that several grants share (a guard policy, a policy document): `enforce` writes it whole."""

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        """Write the shared object whole, from all `windows` of `shared_key(target)`, and read it back.

        Called before `open` with the end, again to narrow it, and first of all when access is to end. Raises `Unproven`
        when the read-back differs. With no windows the object returns to its harmless resting shape.
        """

    def open(self, target: Target) -> Ticket:
        """Open access. Present already is `done`. Only called after `enforce` was read back."""

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        """Whether a Deny on what `target` gives could take away something that `documents` (policies the principal
        holds all the time) allow. Says yes when in doubt: a Deny too many is an outage."""

    def session_for(self, target: Target) -> timedelta:
        """How long a session opened at the last moment could outlive the end, if no enforced Deny cut it."""

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        """How the holder uses it. Calls nobody: the web process, which holds no credentials, asks this."""


class StopPolicy(Protocol):
    """One switch that stops everybody in a whole system at once. It was put there before it is needed."""

    def attach(self) -> Proof:
        """Put it in force, and read back that it is. In force already is fine."""

    def look(self) -> Look:
        """Whether it is in force anywhere now."""


# ---- comparing what is there with what was written ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Examination:
    """How a shared object, read now, differs from what `enforce` would write for the same windows.

    What only denies more is a difference too, but takes nothing from the end of anything.
    """

    proof: Proof
    weaker: tuple[Window, ...] = ()  # the windows that it would not end as they say
    stricter: tuple[Window, ...] = ()  # what it denies beyond them; written with these too, it takes no Deny back
    is_wider: bool = False  # it gives something that no window accounts for
    differences: tuple[str, ...] = ()  # all of it in sentences; empty when it says exactly what it should

    @property
    def is_enforced(self) -> bool:
        """Every window ends as it says, and nothing else is given."""
        return not self.weaker and not self.is_wider


@runtime_checkable
class Examiner(Protocol):
    """A provisioner whose shared object can be compared with what it should say. Not every provisioner is one: where
    there is no shared object, `look` says all there is."""

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        """Read the shared object of `target` as the reader, and compare it with what `enforce` writes for `windows`."""


@runtime_checkable
class EndsTwice(Protocol):
    """A provisioner that has the provider take its access away at the end, beside what the shared object denies then.

    `enforce` writes that second end too, for its own target alone. It belongs to one pair, so here it is read and written
    without the shared object: neither waits for the other, and no Deny depends on it.
    """

    def examine_second_end(self, window: Window) -> Examination:
        """Read the second end of an open window as the reader, and compare it with what `enforce` writes. One that comes
        earlier only narrows, and is no difference."""

    def write_second_end(self, window: Window) -> Proof:
        """Write the second end of an open window, and read it back. Raises `Unproven` when the read-back differs."""
