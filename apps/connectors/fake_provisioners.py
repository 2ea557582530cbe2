"""How the fake system opens access for a time: what the provisioners of `aws/` do in AWS, these do in a `World`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from apps.connectors.base import (
    Examination,
    Look,
    Promise,
    Proof,
    Target,
    Ticket,
    WayIn,
    Window,
    whole_second,
)
from apps.connectors.errors import Gone, Refused, Unproven
from apps.connectors.fake import FakeRemover, pair_of
from apps.connectors.fake_world import Fault, Line, Pair, world


class FakeProvisioner(FakeRemover):
    """Like `idc_assignment`: an assignment, ended by a dated Deny in a guard that all grants of an account share, and once
    more by a schedule of its own."""

    promise = Promise(
        ends_by="A dated Deny in the fake system's guard ends it, then its scheduler, whether or not Gatehouse runs.",
        ends_early_by="The Deny's date moves into the past, then the assignment is deleted.",
        read_back_by="The guard, and the assignments.",
        survives="Nothing.",
        limits=("A guard holds as many lines as the test says.",),
        failures=("Whatever the test says.",),
        holders=("idc_user",),
        opens=("permission_set",),
        may_be_privileged=True,
    )

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        call, fault = self.world.begin("check", target)
        self.world.end(call, fault)
        if target.principal_kind != "idc_user":
            raise Refused("Only a person of the directory can get this for a time.")
        if target.account_id in self.world.unguarded_accounts:
            raise Refused(f"Account {target.account_id} has no guard policy. Install it first.")
        if any(pair_of(window.target) == pair_of(target) and window.holds_standing for window in windows):
            raise Refused(f"{target.principal_name} already holds {target.entitlement_name} for good.")
        self.world.require_principal(target.principal_external_id)
        if target.entitlement_external_id not in self.world.entitlements:
            raise Gone(f"{target.entitlement_name} does not exist any more.")
        self._require_room(windows)

    def shared_key(self, target: Target) -> str:
        return f"fake:{self.world.name}:guard:{target.account_id}"

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        call, fault = self.world.begin("enforce", target, windows=tuple(windows))
        if fault.error and not fault.happens:
            raise fault.error
        if target.account_id in self.world.unguarded_accounts:
            raise Refused(f"Account {target.account_id} has no guard policy. Install it first.")
        self._require_room(windows)
        lines = _lines(windows)
        read = self.world.write_lines("guard", target.account_id, lines, fault)
        self._keep_second_end(target, windows, fault)
        self.world.end(call, fault)
        if read != lines:
            raise Unproven(f"The guard of account {target.account_id} is not what was written.")
        return Proof(
            f"The guard of account {target.account_id} holds {len(lines)} lines", self.world.now(), _facts(lines)
        )

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        call, fault = self.world.begin("examine", target, windows=tuple(windows))
        found = self.world.read_lines("guard", target.account_id, fault)
        self.world.end(call, fault)
        if target.account_id in self.world.unguarded_accounts:
            found = {}
        wanted = {
            pair_of(window.target): (window, line) for window, line in zip(windows, _lines_in(windows), strict=True)
        }
        weaker = tuple(
            window for pair, (window, line) in wanted.items() if pair not in found or found[pair].ends > line.ends
        )
        stricter = tuple(
            _as_window(target, pair, line)
            for pair, line in sorted(found.items(), key=lambda item: item[0])
            if pair not in wanted or line.ends < wanted[pair][1].ends
        )
        return Examination(self._proof_of(target, found), weaker, stricter, differences=_differences(weaker, stricter))

    def examine_second_end(self, window: Window) -> Examination:
        call, fault = self.world.begin("examine_second_end", window.target)
        pair = pair_of(window.target)
        found = self.world.read_lines("second end", "|".join(pair), fault).get(pair)
        self.world.end(call, fault)
        is_late = found is None or found.ends > max(whole_second(window.not_after), self.world.now())
        weaker = (window,) if is_late else ()
        proof = Proof(f"The schedule for {window.target.principal_name} was read", self.world.now())
        return Examination(proof, weaker, differences=_differences(weaker, ()))

    def write_second_end(self, window: Window) -> Proof:
        call, fault = self.world.begin("write_second_end", window.target)
        if fault.error and not fault.happens:
            raise fault.error
        lines = _lines([window])
        read = self.world.write_lines("second end", "|".join(pair_of(window.target)), lines, fault)
        self.world.end(call, fault)
        if read != lines:
            raise Unproven(f"The schedule for {window.target.principal_name} is not what was written.")
        return Proof(f"The scheduler ends it for {window.target.principal_name}", self.world.now(), _facts(lines))

    def open(self, target: Target) -> Ticket:
        call, fault = self.world.begin("open", target)
        if not (fault.error and not fault.happens):
            self.world.require_principal(target.principal_external_id)
        return self._change("open", target, call, fault)

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del target, documents  # the guard only bites in roles of permission sets that nobody holds standing
        return False

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        del target  # nobody works in it
        return ()

    def session_for(self, target: Target) -> timedelta:
        entitlement = self.world.entitlements.get(target.entitlement_external_id)
        return (entitlement and entitlement.session_for) or self.world.session_for

    def _proof_of(self, target: Target, found: Mapping[Pair, Line]) -> Proof:
        what = f"The guard of account {target.account_id} was read: {len(found)} lines"
        return Proof(what, self.world.now(), _facts(found))

    def _keep_second_end(self, target: Target, windows: Sequence[Window], fault: Fault) -> None:
        """Of this target alone. While it is being ended it is left as it is."""
        mine = [window for window in windows if pair_of(window.target) == pair_of(target)]
        if all(window.is_open for window in mine):
            self.world.write_lines("second end", "|".join(pair_of(target)), _lines(mine), fault)

    def _require_room(self, windows: Sequence[Window]) -> None:
        if len(windows) > self.world.guard_capacity:
            raise Refused("The guard of this account is full. End another grant in it first.")


class FakeMembershipProvisioner(FakeRemover):
    """Like `group_membership`: a schedule for each pair, that takes the member out when its time has come."""

    promise = Promise(
        ends_by="The fake system's scheduler ends it, whether or not Gatehouse runs.",
        ends_early_by="The schedule is brought forward, then the member is taken out.",
        read_back_by="The schedule, and the membership.",
        survives="Sessions that the group brought run to their own end.",
        limits=("Nothing privileged.",),
        failures=("Whatever the test says.",),
        holders=("idc_user", "iam_user"),
        opens=("idc_group", "iam_group"),
        may_be_privileged=False,
        denies=False,
    )

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        call, fault = self.world.begin("check", target)
        self.world.end(call, fault)
        if any(window.holds_standing for window in windows):
            raise Refused(f"{target.principal_name} is in {target.entitlement_name} for good.")
        self.world.require_principal(target.principal_external_id)
        self._require_ours(target)

    def shared_key(self, target: Target) -> str:
        return f"fake:{self.world.name}:schedule:{'|'.join(pair_of(target))}"

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        call, fault = self.world.begin("enforce", target, windows=tuple(windows))
        if fault.error and not fault.happens:
            raise fault.error
        if any(window.is_open for window in windows):
            self._require_ours(target)
        lines = _lines(windows)
        read = self.world.write_lines("schedule", "|".join(pair_of(target)), lines, fault)
        self.world.end(call, fault)
        if read != lines:
            raise Unproven(f"The schedule for {target.principal_name} is not what was written.")
        return Proof(f"The scheduler ends {len(lines)} memberships", self.world.now(), _facts(lines))

    def open(self, target: Target) -> Ticket:
        call, fault = self.world.begin("open", target)
        return self._change("open", target, call, fault)

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del target, documents  # it denies nothing
        return False

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        del target  # nobody works in it
        return ()

    def session_for(self, target: Target) -> timedelta:
        del target
        return self.world.session_for

    def _require_ours(self, target: Target) -> None:
        group = self.world.principals.get(target.entitlement_external_id.removeprefix("membership:"))
        if group is None or group.is_externally_owned:
            raise Refused(f"{target.entitlement_name} is managed by the identity provider. Ask for it there.")


class FakePolicyProvisioner:
    """Like `iam_timeboxed_policy`: one dated document for each principal, in which `enforce` opens and ends access."""

    promise = Promise(
        ends_by="The dates inside the policy end it, whether or not Gatehouse runs.",
        ends_early_by="Its lines are taken out of the policy.",
        read_back_by="The policy.",
        survives="Nothing.",
        limits=("A policy holds as many lines as the test says.",),
        failures=("Whatever the test says.",),
        holders=("iam_user", "iam_role"),
        opens=("dated_policy",),
        may_be_privileged=False,
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.world = world(config["world"])

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        call, fault = self.world.begin("check", target)
        self.world.end(call, fault)
        if target.principal_kind not in ("iam_user", "iam_role"):
            raise Refused("Only an IAM user or role can get this for a time.")
        self.world.require_principal(target.principal_external_id)
        self._require_room(windows)

    def shared_key(self, target: Target) -> str:
        return f"fake:{self.world.name}:policy:{target.principal_external_id}"

    def lock_key(self, target: Target) -> str:
        return self.shared_key(target)

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        call, fault = self.world.begin("enforce", target, windows=tuple(windows))
        if fault.error and not fault.happens:
            raise fault.error
        self.world.require_principal(target.principal_external_id)
        self._require_room(windows)
        lines = _lines(window for window in windows if window.is_open)
        read = self.world.write_lines("policy", target.principal_external_id, lines, fault)
        self.world.end(call, fault)
        if read != lines:
            raise Unproven(f"The policy of {target.principal_name} is not what was written.")
        return Proof(f"The policy of {target.principal_name} holds {len(lines)} lines", self.world.now(), _facts(lines))

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        call, fault = self.world.begin("examine", target, windows=tuple(windows))
        found = self.world.read_lines("policy", target.principal_external_id, fault)
        self.world.end(call, fault)
        wanted = _lines(window for window in windows if window.is_open)
        weaker = tuple(
            window
            for window in windows
            if (line := found.get(pair_of(window.target)))
            and (pair_of(window.target) not in wanted or line.ends > wanted[pair_of(window.target)].ends)
        )
        stricter = tuple(
            replace(window, is_open=False) if line is None else replace(window, not_after=line.not_after)
            for window in windows
            if window.is_open
            and ((line := found.get(pair_of(window.target))) is None or line.ends < whole_second(window.not_after))
        )
        is_wider = bool(found.keys() - {pair_of(window.target) for window in windows})
        given = ("It gives something that nobody was granted.",) if is_wider else ()
        proof = Proof(f"The policy of {target.principal_name} was read", self.world.now(), _facts(found))
        differences = _differences(weaker, stricter) + given
        return Examination(proof, weaker, stricter, is_wider=is_wider, differences=differences)

    def open(self, target: Target) -> Ticket:
        call, fault = self.world.begin("open", target)
        is_there = self._is_there(target, fault)
        self.world.end(call, fault)
        if not is_there:
            raise Unproven(f"{target.entitlement_name} is not in the policy of {target.principal_name}.")
        return Ticket("done")

    def close(self, target: Target) -> Ticket:
        call, fault = self.world.begin("close", target)
        is_there = self._is_there(target, fault)
        self.world.end(call, fault)
        if is_there:
            raise Unproven(f"{target.entitlement_name} is still in the policy of {target.principal_name}.")
        return Ticket("done")

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        call, fault = self.world.begin("status", target, reference=ticket.reference)
        self.world.end(call, fault)
        return ticket

    def look(self, target: Target) -> Look:
        call, fault = self.world.begin("look", target)
        is_present = self._is_there(target, fault)
        self.world.end(call, fault)
        words = "allows" if is_present else "does not allow"
        what = f"The policy of {target.principal_name} {words} {target.entitlement_name}"
        return Look(is_present, Proof(what, self.world.now(), {"is_present": is_present}))

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del target
        return bool(documents)

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        del target  # nobody works in it
        return ()

    def session_for(self, target: Target) -> timedelta:
        del target  # its sessions read the policy at every call, so none outlives it
        return timedelta(0)

    def _is_there(self, target: Target, fault: Fault) -> bool:
        return pair_of(target) in self.world.read_lines("policy", target.principal_external_id, fault)

    def _require_room(self, windows: Sequence[Window]) -> None:
        if sum(window.is_open for window in windows) > self.world.policy_capacity:
            raise Refused("The policy of this principal is full. End another grant of it first.")


def _lines(windows: Any) -> dict[Pair, Line]:
    windows = list(windows)
    return {pair_of(window.target): line for window, line in zip(windows, _lines_in(windows), strict=True)}


def _lines_in(windows: Sequence[Window]) -> list[Line]:
    return [Line(whole_second(window.not_after), window.is_open, window.holds_standing) for window in windows]


def _as_window(target: Target, pair: Pair, line: Line) -> Window:
    principal, entitlement = pair
    stranger = replace(
        target,
        principal_external_id=principal,
        principal_name=principal,
        entitlement_external_id=entitlement,
        entitlement_name=entitlement,
    )
    return Window(stranger, line.not_after, line.is_open)


def _differences(weaker: Sequence[Window], stricter: Sequence[Window]) -> tuple[str, ...]:
    late = [f"It does not end {w.target.entitlement_name} of {w.target.principal_name} in time." for w in weaker]
    early = [
        f"It denies {w.target.principal_name} {w.target.entitlement_name} earlier than was decided." for w in stricter
    ]
    return (*late, *early)


def _facts(lines: Mapping[Pair, Line]) -> dict[str, Any]:
    return {"lines": [[*pair, line.not_after.isoformat()] for pair, line in sorted(lines.items())]}
