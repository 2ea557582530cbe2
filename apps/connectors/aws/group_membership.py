"""Puts a person into a group for a time, and has AWS's scheduler take them out again (aws.md §1.5).

Nothing in a membership can be dated, so the schedule is the end: it is written and read back before the member is added.
An IAM user is taken out by `iam:removeUserFromGroup` itself. A membership of Identity Center has an id that nobody knows
before it exists, so there the schedule calls the hub's function (`ender_function`), which looks it up and deletes it.
That end comes within a minute, not to the second, and cuts no session: so nothing privileged is opened like this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from apps.connectors.aws import removers, schedules
from apps.connectors.aws.holders import Holder, attribute, holder_of, unique_id
from apps.connectors.aws.schedules import Ending
from apps.connectors.aws.session import Api, session
from apps.connectors.base import Examination, Look, Promise, Proof, Target, Ticket, WayIn, Window
from apps.connectors.errors import ConnectorError, Gone, Refused

MOST_GROUPS = 10  # of an IAM user; the quota cannot be raised
LONGEST_SESSION = timedelta(hours=12)  # of any permission set that a group of the directory may bring


class _Membership(Protocol):
    """One kind of membership: a remover that can also add, and knows what AWS must call to end it."""

    def close(self, target: Target) -> Ticket: ...
    def look(self, target: Target) -> Look: ...
    def lock_key(self, target: Target) -> str: ...
    def check(self, target: Target) -> None: ...
    def require_ours(self, target: Target) -> None: ...
    def open(self, target: Target) -> Ticket: ...
    def ending(self, target: Target) -> Ending: ...


class GroupMembership:
    """A membership that AWS's scheduler ends. The schedule belongs to the pair of group and person, not to a grant."""

    promise = Promise(
        ends_by=(
            "AWS's scheduler takes the person out of the group within a minute of the end, and tries every quarter of an "
            "hour for a day, whether or not Gatehouse runs (unverified live)."
        ),
        ends_early_by="The schedule is brought forward, and the person is taken out of the group.",
        read_back_by="The schedule, and the membership.",
        survives=(
            "What the group gives lasts until the schedule has run. Sessions that were opened through a group of Identity "
            "Center run to their own end, up to 12 hours; an IAM user's rights from the group end with the membership."
        ),
        limits=(
            "Nothing privileged: there is no Deny that would end it to the second.",
            "An IAM user is in 10 groups at most.",
            "A group that SCIM or Active Directory owns is changed there.",
        ),
        failures=(
            "AWS's scheduler, its role or its function is not set up: refused before anything is written.",
            "The identity provider takes the group over later: it may put the member back, and the page says so.",
        ),
        holders=("idc_user", "iam_user"),
        opens=("idc_group", "iam_group"),
        may_be_privileged=False,
        denies=False,
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), "provisioner_role")
        self._kinds: dict[str, _Membership] = {"idc_group": _OfDirectory(config), "iam_group": _OfAccount(config)}

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        kind = self._kind(target)
        mine = self._window_of(target, windows)
        if mine and mine.holds_standing:
            raise Refused(
                f"{target.principal_name} is in {target.entitlement_name} for good; its end would take that away too."
            )
        schedules.require_deployed(self._reader, kind.ending(target).account_id)
        kind.require_ours(target)
        kind.check(target)

    def shared_key(self, target: Target) -> str:
        ending = self._kind(target).ending(target)
        return f"aws:schedule:{ending.account_id}:{ending.name}"

    def lock_key(self, target: Target) -> str:
        return self._kind(target).lock_key(target)

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        kind, mine = self._kind(target), self._window_of(target, windows)
        ending = kind.ending(target)
        if mine is None:
            return schedules.remove(self._reader, self._writer, ending)
        if mine.is_open:
            kind.require_ours(target)
            return schedules.write(self._reader, self._writer, ending, mine.not_after)
        return self._bring_forward(ending, mine)

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        return schedules.examine(self._reader, self._kind(target).ending(target), self._window_of(target, windows))

    def open(self, target: Target) -> Ticket:
        """Reads first: a second membership would be one too many to take away."""
        if self.look(target).is_present:
            return Ticket("done")
        return self._kind(target).open(target)

    def close(self, target: Target) -> Ticket:
        return self._kind(target).close(target)

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """AWS answers when it has done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        return self._kind(target).look(target)

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del target, documents  # it denies nothing
        return False

    def session_for(self, target: Target) -> timedelta:
        return LONGEST_SESSION if target.entitlement_kind == "idc_group" else timedelta(0)

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        where = "in the access portal" if target.entitlement_kind == "idc_group" else "with what you use already"
        return (WayIn("note", "As a member of the group", f"What {target.entitlement_name} gives is there {where}."),)

    def _bring_forward(self, ending: Ending, mine: Window) -> Proof:
        """AWS's scheduler shall end it now, too. The removal follows at once, so it does not wait for that."""
        now = datetime.now(UTC)
        try:
            return schedules.write(self._reader, self._writer, ending, min(mine.not_after, now))
        except ConnectorError as error:
            what = f"The schedule could not be brought forward; it ends it when it was to end. {error}"
            return Proof(what, now, {"schedule": ending.name})

    def _kind(self, target: Target) -> _Membership:
        kinds = {"idc_group": "idc_user", "iam_group": "iam_user"}
        if kinds.get(target.entitlement_kind) != target.principal_kind:
            raise Refused(
                "Only a person of Identity Center or an IAM user can be put into a group, each into their own."
            )
        return self._kinds[target.entitlement_kind]

    def _window_of(self, target: Target, windows: Sequence[Window]) -> Window | None:
        key = self.shared_key(target)
        strangers = [window for window in windows if self.shared_key(window.target) != key]
        if strangers:
            raise ValueError(f"windows of {len(strangers)} other memberships in the schedule of one")
        return windows[0] if windows else None


class _OfDirectory(removers.GroupMembership):
    """Of a person, in a group of Identity Center."""

    role = "provisioner_role"

    def check(self, target: Target) -> None:
        names, hub = self._facts(target), self._reader.hub_id
        store = {"IdentityStoreId": names["IdentityStoreId"]}
        self._reader.call(hub, "identitystore", "describe_user", **store, UserId=names["UserId"])
        function = self._config["ender_function"]
        try:
            self._reader.call(hub, "lambda", "get_function", FunctionName=function)
        except Gone as error:
            raise Refused(
                f"Account {hub} has no function {function}, which ends memberships. Deploy deploy/aws there first."
            ) from error

    def require_ours(self, target: Target) -> None:
        if target.entitlement_attributes.get("is_externally_owned") or self._is_externally_owned(target):
            raise Refused(
                f"Group {target.entitlement_name} is managed by the identity provider, which would undo this. Ask for it "
                "there."
            )

    def open(self, target: Target) -> Ticket:
        names = self._facts(target)
        self._writer.call(
            self._writer.hub_id,
            "identitystore",
            "create_group_membership",
            IdentityStoreId=names["IdentityStoreId"],
            GroupId=names["GroupId"],
            MemberId={"UserId": names["UserId"]},
        )
        return Ticket("done")

    def ending(self, target: Target) -> Ending:
        names, hub = self._facts(target), self._reader.session.hub()
        function = f"arn:{hub.partition}:lambda:{self._config['region']}:{hub.account_id}:function"
        return Ending(
            hub.account_id,
            schedules.name_of("membership", *names.values()),
            f"{function}:{self._config['ender_function']}",
            {"end": "idc_membership", **names},
        )

    def _require_removable(self, target: Target) -> None:
        """What Gatehouse opened it also takes away, whoever owns the group since."""


class _OfAccount(removers.IamGroupMembership):
    """Of an IAM user, in an IAM group of their account."""

    role = "provisioner_role"

    def check(self, target: Target) -> None:
        holder = holder_of(target)
        known, found = target.principal_attributes.get("unique_id"), unique_id(self._reader, holder)
        if known and found != known:
            raise Gone(f"{target.principal_name} was deleted and made again since it was last read. Sync first.")
        groups = self._items(holder, "list_groups_for_user", "Groups", **holder.named)
        names = {group["GroupName"] for group in groups}
        if len(names) >= MOST_GROUPS and attribute(target, "group_name") not in names:
            raise Refused(f"{target.principal_name} is in {len(names)} groups, and IAM allows no more.")

    def require_ours(self, target: Target) -> None:
        """A group that was deleted and made again elsewhere is another one."""
        holder = holder_of(target)
        group = self._read(holder, "get_group", GroupName=attribute(target, "group_name"))["Group"]
        if group["Arn"] != attribute(target, "group_arn"):
            raise Refused(f"Group {target.entitlement_name} was made anew since it was last read. Sync first.")

    def open(self, target: Target) -> Ticket:
        holder = holder_of(target)
        self._write(holder, "add_user_to_group", **holder.named, GroupName=attribute(target, "group_name"))
        return Ticket("done")

    def ending(self, target: Target) -> Ending:
        holder = holder_of(target)
        names = {**holder.named, "GroupName": attribute(target, "group_name")}
        name = schedules.name_of("membership", *self._facts(target).values())
        return Ending(holder.account_id, name, "iam:removeUserFromGroup", names)

    def _documents(self, holder: Holder, target: Target) -> Iterable[Any]:
        """None that would keep the member in: a Deny of the group came with the membership, and goes with it."""
        del holder, target
        return ()
