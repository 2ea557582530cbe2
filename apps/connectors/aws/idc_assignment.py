"""Opens a permission set for a person in an account, and ends it twice in AWS: the account's guard denies it to the second,
live sessions included, and AWS's scheduler deletes the assignment (aws.md §1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from apps.connectors.aws import guard, identity_center, organizations, schedules, ways_in
from apps.connectors.aws.examining import examine_guard
from apps.connectors.aws.holders import attribute
from apps.connectors.aws.removers import AccountAssignment, ticket_of
from apps.connectors.base import Examination, Promise, Proof, Target, Ticket, WayIn, Window
from apps.connectors.errors import Refused

DELETE = "ssoadmin:deleteAccountAssignment"
LONGEST_SESSION = timedelta(hours=1)


class IdcAssignment(AccountAssignment):
    """An account assignment that the guard policy of the account denies from its end on, and a schedule deletes.

    Deleting the assignment ends no live session; the guard does, and must stay until the last session could have ended.
    The schedule belongs to the assignment, not to a grant. It is written while somebody shall hold it, left alone while
    it is being ended (it can only narrow, and the end must not wait for it), and goes when the last window is cleared.
    """

    role = "provisioner_role"
    promise = Promise(
        ends_by=(
            "A dated Deny in the account's guard policy: from that second on AWS refuses every call, in live sessions "
            "too, whether or not Gatehouse runs. From then on AWS's scheduler also deletes the assignment, every quarter "
            "of an hour for a day (both unverified live)."
        ),
        ends_early_by="The Deny's date moves into the past, then the assignment is deleted.",
        read_back_by="The guard's default version, the schedule, and the account's assignments of the permission set.",
        survives="Nothing. Live sessions are denied everything until the last of them could have ended.",
        limits=(
            "A guard policy holds 6,144 characters: about 15 people with ends of their own in one account, with room kept "
            "free for emergency stops.",
            "The permission set references the guard and its sessions last an hour at most.",
            "A delegated administrator cannot assign anything into the management account.",
        ),
        failures=(
            "Identity Center works on another change of the same assignment: tried again until it is through.",
            "The account has no guard policy, or AWS's scheduler is not set up: refused before anything is written.",
            "Identity Center takes the change and then fails it: its reason is shown, and nothing was opened.",
        ),
        holders=("idc_user",),
        opens=("permission_set",),
        may_be_privileged=True,
    )

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        if target.principal_kind != "idc_user":
            raise Refused("Only a person of Identity Center can get a permission set for a time.")
        if guard.is_stop(target):
            raise Refused("This is an emergency stop, not access that could be opened.")
        mine = _window_of(target, windows)
        if mine and mine.holds_standing:
            raise Refused(
                f"{target.principal_name} already holds {target.entitlement_name} here for good; its end would take "
                "that away too."
            )
        self._require_reachable(target)
        self._require_guarded(target)
        guard.require_room(windows, self._reader.session.hub().partition)
        guard.versions(self._reader, target.account_id)
        schedules.require_deployed(self._reader, self._reader.hub_id)
        self._reader.call(
            self._reader.hub_id,
            "identitystore",
            "describe_user",
            IdentityStoreId=attribute(target, "identity_store_id"),
            UserId=target.principal_external_id,
        )

    def shared_key(self, target: Target) -> str:
        return f"aws:guard:{target.account_id}:{self._config['guard_policy']}"

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        strangers = [w.target.account_id for w in windows if w.target.account_id != target.account_id]
        if strangers:
            raise ValueError(f"windows of other accounts in the guard of {target.account_id}: {strangers[:3]}")
        denied = guard.write(self._reader, self._writer, target.account_id, windows)
        scheduled = self._schedule(target, windows)
        if scheduled is None:
            return denied
        facts = {**denied.facts, "schedule": dict(scheduled.facts)}
        return Proof(f"{denied.what} {scheduled.what}", scheduled.read_at, facts)

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        return examine_guard(self._reader, target, windows)

    def examine_second_end(self, window: Window) -> Examination:
        return schedules.examine(self._reader, self._ending(window.target), window)

    def write_second_end(self, window: Window) -> Proof:
        return schedules.write(self._reader, self._writer, self._ending(window.target), window.not_after)

    def open(self, target: Target) -> Ticket:
        """Reads first: Identity Center has no request token, so a second create would be a second request."""
        if self._is_present(target):
            return Ticket("done")
        answer = self._writer.call(self._writer.hub_id, "sso-admin", "create_account_assignment", **self._facts(target))
        return ticket_of("create", answer["AccountAssignmentCreationStatus"])

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del (
            target,
            documents,
        )  # the guard only bites in this permission set's role, refused to those who hold it standing
        return False

    def session_for(self, target: Target) -> timedelta:
        return identity_center.parse_duration(self._described(target).get("SessionDuration"))

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        return ways_in.to_permission_set(
            self._config, target.account_id, str(target.entitlement_attributes.get("permission_set_name", ""))
        )

    def _schedule(self, target: Target, windows: Sequence[Window]) -> Proof | None:
        """Keep the schedule of this assignment as its window says; None where it is left as it is."""
        mine = _window_of(target, windows)
        if guard.is_stop(target) or (mine and not mine.is_open):
            return None
        if mine is None:
            return schedules.remove(self._reader, self._writer, self._ending(target))
        return self.write_second_end(mine)

    def _ending(self, target: Target) -> schedules.Ending:
        names = self._facts(target)
        return schedules.Ending(self._reader.hub_id, schedules.name_of("assignment", *names.values()), DELETE, names)

    def _require_reachable(self, target: Target) -> None:
        """A delegated administrator cannot assign anything into the management account."""
        management_id = organizations.management_account_id(self._reader)
        if target.account_id == management_id != self._reader.hub_id:
            raise Refused("Identity Center lets nobody but the management account itself assign access to it.")

    def _require_guarded(self, target: Target) -> None:
        described = self._described(target)
        if described["Name"] != attribute(target, "permission_set_name"):
            raise Refused(f"Permission set {target.entitlement_name} is called {described['Name']} now. Sync first.")
        if identity_center.parse_duration(described.get("SessionDuration")) > LONGEST_SESSION:
            raise Refused(
                f"Sessions of permission set {target.entitlement_name} last longer than an hour. Set its session "
                "duration to 1 hour."
            )
        references = self._reader.items(
            self._reader.hub_id,
            "sso-admin",
            "list_customer_managed_policy_references_in_permission_set",
            "CustomerManagedPolicyReferences",
            **self._set_names(target),
        )
        if self._config["guard_policy"] not in {identity_center.policy_path(one) for one in references}:
            raise Refused(
                f"Permission set {target.entitlement_name} does not reference the guard policy "
                f"{self._config['guard_policy']}. Attach it first."
            )

    def _described(self, target: Target) -> dict[str, str]:
        answer = self._reader.call(
            self._reader.hub_id, "sso-admin", "describe_permission_set", **self._set_names(target)
        )
        described: dict[str, str] = answer["PermissionSet"]
        return described

    def _set_names(self, target: Target) -> dict[str, str]:
        return {
            "InstanceArn": attribute(target, "instance_arn"),
            "PermissionSetArn": attribute(target, "permission_set_arn"),
        }


def _window_of(target: Target, windows: Sequence[Window]) -> Window | None:
    pair = (target.principal_external_id, target.entitlement_external_id)
    named = (w for w in windows if (w.target.principal_external_id, w.target.entitlement_external_id) == pair)
    return next(named, None)
