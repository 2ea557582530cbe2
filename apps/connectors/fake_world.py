"""The system behind the fake connector: what is held there, what denies it, and the faults it was told to have.

A world lives in this process only, is found by its name (`config["world"]`) and is deterministic: nothing happens in it
by chance or by time. A change that was made "pending" moves on by one step whenever anybody asks about its target.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.connectors.base import (
    AccountRecord,
    CredentialRecord,
    DocumentRecord,
    EntitlementRecord,
    Finding,
    PrincipalRecord,
    Target,
)
from apps.connectors.changes import Change
from apps.connectors.errors import Busy, ConnectorError, Gone, Throttled, Unreachable

Pair = tuple[str, str]  # principal external id, entitlement external id
ANY = "*"  # in a guard: anybody, or anything

# ---- faults -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """What one call of an operation does instead of simply working. Used up by that call; later calls work again."""

    error: ConnectorError | None = None  # raised to the caller
    happens: bool = True  # whether the change is made in the system
    polls: int = 0  # how many questions are answered "pending" first
    reason: str = ""  # fails after those polls, with these words
    is_stale: bool = False  # reads what was there before the last change


def fine() -> Fault:
    """Works. Put between two faults to let one call through."""
    return Fault()


def throttled() -> Fault:
    """Told to slow down; nothing happens."""
    return Fault(error=Throttled("The fake system asks us to slow down."), happens=False)


def busy() -> Fault:
    """Another change to the same object is under way; nothing happens."""
    return Fault(error=Busy("Another change to this assignment is under way."), happens=False)


def lost_request() -> Fault:
    """The request never arrived: no answer, nothing happened."""
    return Fault(error=Unreachable("No answer from the fake system."), happens=False)


def lost_response() -> Fault:
    """The system did it and the answer was lost."""
    return Fault(error=Unreachable("No answer from the fake system."))


def raises(error: ConnectorError) -> Fault:
    """Answers with `error`; nothing happens."""
    return Fault(error=error, happens=False)


def pending(polls: int) -> Fault:
    """Accepted; done after `polls` questions (a status, a look, another attempt)."""
    return Fault(polls=polls)


def fails_late(reason: str, polls: int = 1) -> Fault:
    """Accepted; after `polls` questions it has failed and nothing happened."""
    return Fault(happens=False, polls=polls, reason=reason)


def lies(polls: int = 0) -> Fault:
    """Says it is done (at once, or after `polls` questions), but it did not happen."""
    return Fault(happens=False, polls=polls)


def stale() -> Fault:
    """For `look` (and the read-back of `enforce`): answers with what was there before the last change."""
    return Fault(is_stale=True)


# ---- state --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One pair in a shared object (a guard or a policy document)."""

    not_after: datetime
    is_open: bool
    holds_standing: bool

    @property
    def ends(self) -> datetime:
        """From when on it denies: at once, where it is being ended."""
        return self.not_after if self.is_open else datetime.min.replace(tzinfo=UTC)

    def denies(self, at: datetime) -> bool:
        return not self.is_open or at >= self.not_after


@dataclass(frozen=True, slots=True)
class Call:
    """One call somebody made, in order. `target` is empty for reads of whole scopes."""

    operation: str
    target: Target | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    """A change that was accepted and is not settled yet, or how it ended."""

    operation: str  # open, close
    pair: Pair
    polls: int
    happens: bool
    reason: str
    state: str = "pending"


Hook = Callable[[str, Call], None]  # "before" or "after", and the call; may raise (a kill) or wait (an interleaving)


class World:
    """One fake system. Tests fill it, script its faults, and ask it what is really usable."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.RLock()
        self.accounts: dict[str, AccountRecord] = {}
        self.principals: dict[str, PrincipalRecord] = {}
        self.entitlements: dict[str, EntitlementRecord] = {}
        self.credentials: list[CredentialRecord] = []
        self.assignments: dict[Pair, dict[str, Any]] = {}
        self.guards: dict[str, dict[Pair, Line]] = defaultdict(dict)  # account → what is denied from when
        self.policies: dict[str, dict[Pair, Line]] = defaultdict(dict)  # principal → its dated policy document
        self.schedules: dict[str, dict[Pair, Line]] = defaultdict(dict)  # membership → when the system ends it
        # The same for an assignment. `can_use` never asks it: what the guard should deny may not hide behind it.
        self.second_ends: dict[str, dict[Pair, Line]] = defaultdict(dict)
        self.unguarded_accounts: set[str] = set()  # accounts where nobody installed the guard
        self.is_stopped = False  # somebody threw the one switch that stops everybody
        self.guard_capacity = 27
        self.policy_capacity = 6
        self.session_for = timedelta(hours=1)
        self.findings: list[Finding] = []  # of a checkup; none: all is well
        self.messages: dict[str, Change | str] = {}  # receipt → what the change feed tells, until it is done
        self.scan_problems: dict[str, list[str]] = defaultdict(list)  # "directory" or an account id → sentences
        self.calls: list[Call] = []
        self.hook: Hook | None = None
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.requests: dict[str, Request] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._before: dict[Any, Any] = {}  # what each pair or shared object was before its last change

    # ---- filling it

    def add_account(self, external_id: str, name: str = "", **fields: Any) -> AccountRecord:
        """An account; its name is the id unless given."""
        record = AccountRecord(external_id=external_id, name=name or external_id, **fields)
        self.accounts[external_id] = record
        return record

    def add_user(self, external_id: str, name: str = "", **fields: Any) -> PrincipalRecord:
        """A person of the directory."""
        return self.add_principal("idc_user", external_id, name, **fields)

    def add_principal(self, kind: str, external_id: str, name: str = "", **fields: Any) -> PrincipalRecord:
        """Any face: iam_user, iam_role, idc_group…"""
        record = PrincipalRecord(kind=kind, external_id=external_id, name=name or external_id, **fields)
        self.principals[external_id] = record
        return record

    def add_group(self, external_id: str, members: Iterable[str] = (), **fields: Any) -> EntitlementRecord:
        """A group of the directory: the principal, the membership that can be held, and who holds it."""
        group = self.add_principal("idc_group", external_id, **fields)
        membership = self.add_entitlement(
            "idc_group", f"membership:{external_id}", group.name, makes_external_id=external_id
        )
        for member in members:
            self.assign(member, membership.external_id)
        return membership

    def add_permission_set(self, name: str, account_id: str, document: Any = None, **fields: Any) -> EntitlementRecord:
        """One permission set in one account, whether or not anybody holds it."""
        documents = () if document is None else (DocumentRecord(name, document),)
        return self.add_entitlement(
            "permission_set",
            f"{name}@{account_id}",
            name,
            account_id=account_id,
            documents=documents,
            session_for=self.session_for,
            **fields,
        )

    def add_entitlement(self, kind: str, external_id: str, name: str = "", **fields: Any) -> EntitlementRecord:
        """Anything else that can be held."""
        record = EntitlementRecord(kind=kind, external_id=external_id, name=name or external_id, **fields)
        self.entitlements[external_id] = record
        return record

    def assign(self, principal_id: str, entitlement_id: str, **attributes: Any) -> None:
        """Somebody holds it now, given outside Gatehouse."""
        with self.lock:
            self._remember((principal_id, entitlement_id))
            self.assignments[principal_id, entitlement_id] = attributes

    def unassign(self, principal_id: str, entitlement_id: str) -> None:
        """Taken away outside Gatehouse."""
        with self.lock:
            self._remember((principal_id, entitlement_id))
            self.assignments.pop((principal_id, entitlement_id), None)

    def delete_principal(self, external_id: str) -> None:
        """The principal is deleted in the system, with everything it held."""
        with self.lock:
            self.principals.pop(external_id, None)
            self.policies.pop(external_id, None)
            self.assignments = {pair: facts for pair, facts in self.assignments.items() if pair[0] != external_id}

    def target(self, principal_id: str, entitlement_id: str) -> Target:
        """The pair in the words that provisioners and removers take."""
        principal, entitlement = self.principals[principal_id], self.entitlements[entitlement_id]
        return Target(
            account_id=entitlement.account_id or principal.account_id,
            principal_kind=principal.kind,
            principal_external_id=principal.external_id,
            principal_name=principal.name,
            entitlement_kind=entitlement.kind,
            entitlement_external_id=entitlement.external_id,
            entitlement_name=entitlement.name,
            entitlement_attributes=dict(entitlement.attributes),
            principal_attributes=dict(principal.attributes),
            assignment_attributes=dict(self.assignments.get((principal_id, entitlement_id), {})),
        )

    # ---- asking it (tests only)

    def can_use(self, principal_id: str, entitlement_id: str, at: datetime) -> bool:
        """Whether the access really works at that instant: held directly, by a group or by a dated policy, not denied.

        A Deny wins over everything, as in AWS.
        """
        with self.lock:
            pair = (principal_id, entitlement_id)
            line = self.policies.get(principal_id, {}).get(pair)
            if line and line.denies(at) and not line.holds_standing:
                return False
            account_id = self.entitlements[entitlement_id].account_id
            said = self.guards.get(account_id, {})
            named = (said.get((who, what)) for who in (principal_id, ANY) for what in (entitlement_id, ANY))
            if self.is_stopped or any(guard and guard.denies(at) for guard in named):
                return False
            dated = line is not None and not line.denies(at)
            return dated or any(self._is_held((face, entitlement_id), at) for face in self._faces(principal_id, at))

    def script(self, operation: str, *faults: Fault) -> None:
        """The next calls of `operation` meet these faults, one each, in order.

        Operations: check, accounts, scan_directory, scan_account, enforce, examine, open, close, status, look,
        attach.
        """
        with self.lock:
            self.faults[operation].extend(faults)

    def calls_of(self, *operations: str) -> list[Call]:
        """The calls made so far of these operations, or all, in order."""
        with self.lock:
            return [call for call in self.calls if not operations or call.operation in operations]

    # ---- serving the fake connector

    def begin(self, operation: str, target: Target | None = None, **detail: Any) -> tuple[Call, Fault]:
        """Record a call and take its fault. The hook runs outside the lock, so that a test may wait in it."""
        call = Call(operation, target, detail)
        with self.lock:
            self.calls.append(call)
            fault = self.faults[operation].popleft() if self.faults[operation] else Fault()
        if self.hook:
            self.hook("before", call)
        return call, fault

    def end(self, call: Call, fault: Fault) -> None:
        """After the change: the hook, then the error the caller is to see."""
        if self.hook:
            self.hook("after", call)
        if fault.error:
            raise fault.error

    def submit(self, operation: str, pair: Pair, fault: Fault) -> tuple[str, Request]:
        """Accept a change; it happens now, or when it has been asked about often enough."""
        with self.lock:
            if any(request.state == "pending" for request in self.about(pair)):
                raise Busy("Another change to this assignment is under way.")
            reference = f"{operation}:{len(self.requests) + 1}"
            request = Request(operation, pair, fault.polls, fault.happens, fault.reason)
            self.requests[reference] = request
            if request.polls == 0:
                self._settle(request)
            return reference, request

    def advance(self, pair: Pair) -> None:
        """One question was asked about this pair: what is pending moves one step."""
        with self.lock:
            for request in self.about(pair):
                if request.state == "pending" and request.polls == 0:
                    self._settle(request)
                elif request.state == "pending":
                    request.polls -= 1

    def about(self, pair: Pair) -> list[Request]:
        """Every change of this pair that was ever accepted."""
        return [request for request in self.requests.values() if request.pair == pair]

    def is_assigned(self, pair: Pair, fault: Fault) -> bool:
        """Whether the pair is assigned, or was before the last change when the read is stale."""
        with self.lock:
            return bool(self._before.get(pair, False)) if fault.is_stale else pair in self.assignments

    def write_lines(self, kind: str, key: str, lines: Mapping[Pair, Line], fault: Fault) -> dict[Pair, Line]:
        """Write a guard, a policy document or a schedule whole, and read it back."""
        with self.lock:
            store = self._store(kind)
            before = dict(store[key])
            if fault.happens:
                self._before[kind, key] = before
                store[key] = dict(lines)
            return before if fault.is_stale else dict(store[key])

    def read_lines(self, kind: str, key: str, fault: Fault) -> dict[Pair, Line]:
        """A guard, a policy document or a schedule as it is, or as it was before the last change when the read is stale."""
        with self.lock:
            store = self._store(kind)
            return dict(self._before.get((kind, key), {}) if fault.is_stale else store[key])

    def require_principal(self, external_id: str) -> PrincipalRecord:
        """The principal, or `Gone`."""
        record = self.principals.get(external_id)
        if record is None:
            raise Gone(f"{external_id} does not exist any more.")
        return record

    def _store(self, kind: str) -> dict[str, dict[Pair, Line]]:
        stores = {"guard": self.guards, "policy": self.policies, "schedule": self.schedules}
        return {**stores, "second end": self.second_ends}[kind]

    def _is_held(self, pair: Pair, at: datetime) -> bool:
        """Assigned, and not taken away by a schedule by then."""
        scheduled = self.schedules.get("|".join(pair), {}).get(pair)
        return pair in self.assignments and not (scheduled and scheduled.denies(at))

    def _faces(self, principal_id: str, at: datetime) -> set[str]:
        made = {record.external_id: record.makes_external_id for record in self.entitlements.values()}
        mine = (pair for pair in self.assignments if pair[0] == principal_id and self._is_held(pair, at))
        return {principal_id} | ({made.get(entitlement, "") for _, entitlement in mine} - {""})

    def _remember(self, pair: Pair) -> None:
        self._before[pair] = pair in self.assignments

    def _settle(self, request: Request) -> None:
        request.state = "failed" if request.reason else "done"
        if not request.happens:
            return
        self._remember(request.pair)
        if request.operation == "open":
            self.assignments.setdefault(request.pair, {})
        else:
            self.assignments.pop(request.pair, None)


_worlds: dict[str, World] = {}
_worlds_lock = threading.Lock()


def world(name: str) -> World:
    """The world of that name, made empty on first use."""
    with _worlds_lock:
        return _worlds.setdefault(name, World(name))


def forget(name: str) -> None:
    """The next `world(name)` is empty again."""
    with _worlds_lock:
        _worlds.pop(name, None)
