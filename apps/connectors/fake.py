"""A governed system in memory that keeps the contract of `base.py`, and breaks its promises exactly as it is told to.

It is test equipment, and the contract's plainest spelling: here it is read, and access is taken away; how it is opened for
a time stands in `fake_provisioners.py`. `config` is `{"world": "a name"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apps.connectors.base import (
    AccountRecord,
    AssignmentRecord,
    Checkup,
    ControlTotal,
    DocumentRecord,
    EntitlementRecord,
    Finding,
    Look,
    Progress,
    Proof,
    Scan,
    Target,
    Ticket,
    unwatched,
)
from apps.connectors.changes import Change, Received
from apps.connectors.errors import Gone, Refused, Unproven
from apps.connectors.fake_world import Fault, Pair, World, world

OUR_POLICY = "gatehouse-jit"


def pair_of(target: Target) -> Pair:
    return target.principal_external_id, target.entitlement_external_id


def _sort(scan: Scan) -> None:
    """Two reads of one state are equal."""
    scan.principals.sort(key=lambda record: record.external_id)
    scan.entitlements.sort(key=lambda record: record.external_id)
    scan.assignments.sort(key=lambda record: (record.principal_external_id, record.entitlement_external_id))


def _account_for(scan: Scan, scope: str, world: World) -> None:
    """Tie it to control totals, and say what was scripted."""
    scan.problems.extend(world.scan_problems[scope])
    scan.totals.append(ControlTotal("principals", len(scan.principals), len(scan.principals)))
    scan.calls += 1


class FakeConnector:
    """Reads a world as `AwsConnector` reads an organization."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.world = world(config["world"])

    def check(self) -> str:
        call, fault = self.world.begin("check")
        self.world.end(call, fault)
        return f"Reading the fake system {self.world.name}."

    def checkup(self, progress: Progress) -> Checkup:
        call, fault = self.world.begin("checkup")
        progress(0, 1, "the fake system")
        self.world.end(call, fault)
        with self.world.lock:
            found, accounts = list(self.world.findings), len(self.world.accounts)
        return Checkup(found or [Finding("", self.world.name, "fake:Read")], accounts, accounts)

    def accounts(self, progress: Progress = unwatched) -> list[AccountRecord]:
        call, fault = self.world.begin("accounts")
        progress(0, 1, "all of them")
        with self.world.lock:
            found = sorted(self.world.accounts.values(), key=lambda record: record.external_id)
        self.world.end(call, fault)
        return found

    def scan_directory(self, accounts: Sequence[AccountRecord], progress: Progress) -> list[Scan]:
        """In parts: people, groups and memberships first, then what is held in each account."""
        call, fault = self.world.begin("scan_directory")
        progress(0, 1, "the directory")
        with self.world.lock:
            entitlements = self.world.entitlements.values()
            people = Scan(
                principals=[p for p in self.world.principals.values() if p.kind in ("idc_user", "idc_group")],
                entitlements=[e for e in entitlements if e.kind == "idc_group"],
            )
            parts = [people]
            for account in accounts:
                here = [e for e in entitlements if e.kind == "permission_set" and e.account_id == account.external_id]
                parts.append(Scan(entitlements=here))
            for part in parts:
                self._add_assignments(part)
                _sort(part)
            _account_for(people, "directory", self.world)
        self.world.end(call, fault)
        progress(1, 1, "the directory")
        return parts

    def scan_account(self, account: AccountRecord, progress: Progress) -> Scan:
        call, fault = self.world.begin("scan_account", account=account.external_id)
        progress(0, 1, account.name)
        with self.world.lock:
            here = [p for p in self.world.principals.values() if p.account_id == account.external_id]
            scan = Scan(
                principals=here,
                entitlements=[
                    e
                    for e in self.world.entitlements.values()
                    if e.kind.startswith("iam_") and e.account_id == account.external_id
                ],
                credentials=[
                    c
                    for c in self.world.credentials
                    if c.principal_external_id in {principal.external_id for principal in here}
                ],
            )
            self._add_assignments(scan)
            self._add_our_policies(scan)
            _sort(scan)
            _account_for(scan, account.external_id, self.world)
        self.world.end(call, fault)
        progress(1, 1, account.name)
        return scan

    def read_holders(self, kind: str, external_id: str, attributes: Mapping[str, Any]) -> list[AssignmentRecord]:
        del kind, attributes  # here the id says it all
        call, fault = self.world.begin("read_holders", entitlement=external_id)
        self.world.end(call, fault)
        with self.world.lock:
            if external_id not in self.world.entitlements:
                raise Gone(f"{external_id} does not exist.")
            return [
                AssignmentRecord(principal, entitlement, dict(facts))
                for (principal, entitlement), facts in self.world.assignments.items()
                if entitlement == external_id
            ]

    def _add_assignments(self, scan: Scan) -> None:
        entitlements = {record.external_id for record in scan.entitlements}
        scan.assignments.extend(
            AssignmentRecord(principal, entitlement, dict(facts))
            for (principal, entitlement), facts in self.world.assignments.items()
            if entitlement in entitlements
        )

    def _add_our_policies(self, scan: Scan) -> None:
        """The dated documents that grants wrote, which a scan sees as inline policies like any other."""
        for principal in list(scan.principals):
            lines = self.world.policies.get(principal.external_id)
            if not lines:
                continue
            external_id = f"{principal.external_id}#inline/{OUR_POLICY}"
            scan.entitlements.append(
                EntitlementRecord(
                    kind="iam_inline_policy",
                    external_id=external_id,
                    name=OUR_POLICY,
                    account_id=principal.account_id,
                    documents=(DocumentRecord(OUR_POLICY, {"Version": "2012-10-17", "Statement": []}),),
                    attributes={"is_ours": True},
                )
            )
            scan.assignments.append(AssignmentRecord(principal.external_id, external_id, {"is_ours": True}))


class FakeRemover:
    """Takes standing access of any kind away."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.world = world(config["world"])

    def close(self, target: Target) -> Ticket:
        call, fault = self.world.begin("close", target)
        holder = self.world.principals.get(target.entitlement_external_id.removeprefix("membership:"))
        if target.entitlement_kind == "idc_group" and holder and holder.is_externally_owned:
            raise Refused(f"{target.entitlement_name} is managed by the identity provider. Remove the member there.")
        return self._change("close", target, call, fault)

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        call, fault = self.world.begin("status", target, reference=ticket.reference)
        self.world.advance(pair_of(target))
        request = self.world.requests.get(ticket.reference)
        self.world.end(call, fault)
        if request is None:
            return ticket
        return Ticket(request.state, ticket.reference, request.reason if request.state == "failed" else "")

    def look(self, target: Target) -> Look:
        call, fault = self.world.begin("look", target)
        self.world.advance(pair_of(target))
        is_present = self.world.is_assigned(pair_of(target), fault)
        self.world.end(call, fault)
        words = "holds" if is_present else "does not hold"
        what = f"{target.principal_name} {words} {target.entitlement_name}"
        return Look(is_present, Proof(what, self.world.now(), {"is_present": is_present}))

    def lock_key(self, target: Target) -> str:
        return f"fake:{self.world.name}:{'|'.join(pair_of(target))}"

    def _change(self, operation: str, target: Target, call: Any, fault: Fault) -> Ticket:
        if fault.error and not fault.happens:
            raise fault.error
        pair = pair_of(target)
        self.world.advance(pair)
        wanted = operation == "open"
        with self.world.lock:
            if self.world.is_assigned(pair, Fault()) == wanted and not self._is_moving(pair):
                reference, state, reason = "", "done", ""
            else:
                reference, request = self.world.submit(operation, pair, fault)
                state, reason = request.state, request.reason if request.state == "failed" else ""
        self.world.end(call, fault)
        return Ticket(state, reference, reason)

    def _is_moving(self, pair: Pair) -> bool:
        return any(request.state == "pending" for request in self.world.about(pair))


class FakeStopPolicy:
    """Like the organization's stop policy: one switch that stops everybody."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.world = world(config["world"])

    def attach(self) -> Proof:
        call, fault = self.world.begin("attach")
        self.world.is_stopped = self.world.is_stopped or fault.happens
        self.world.end(call, fault)
        look = self.look()
        if not look.is_present:
            raise Unproven(look.proof.what)
        return look.proof

    def look(self) -> Look:
        words = "stopped" if self.world.is_stopped else "not stopped"
        return Look(self.world.is_stopped, Proof(f"The fake system is {words}", self.world.now()))


class FakeChangeFeed:
    """Tells what a test put into the world's `messages`: changes, or sentences about what nobody understands. What is not
    done comes again."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.world = world(config["world"])

    def receive(self) -> Received:
        call, fault = self.world.begin("receive")
        self.world.end(call, fault)
        with self.world.lock:
            some = list(self.world.messages.items())[:10]
        changes = [message for _, message in some if isinstance(message, Change)]
        malformed = [message for _, message in some if isinstance(message, str)]
        return Received(changes, malformed, [receipt for receipt, _ in some])

    def done(self, receipts: Sequence[str]) -> None:
        with self.world.lock:
            for receipt in receipts:
                self.world.messages.pop(receipt, None)
