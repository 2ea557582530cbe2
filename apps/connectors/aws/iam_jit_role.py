"""Makes a role for one grant, which one person may assume until a date and which then may do nothing (aws.md §1.3, b2).

The role is closed when it is made. Then come its guard (a Deny of everything from the end on), what it may do, and last
the trust that lets the person in; each is written in AWS's words, dated, and read back before the next. So it is closed or
bounded by AWS's own clock after every single call. It ends the other way round: denied and closed first, its guard taken
away last, and then the role itself.

The person comes from their session of the connection's `entry_permission_set`, so no secret passes through Gatehouse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.connectors.aws import identity_center, ways_in
from apps.connectors.aws import jit_documents as jit
from apps.connectors.aws.guard import stamp
from apps.connectors.aws.jit_documents import ACCESS, GUARD, PATH, REVOKED
from apps.connectors.aws.jit_roles import SESSION_FOR, Shown, Wanted, compared, require_fits, wanted_role
from apps.connectors.aws.managed_policies import default_document
from apps.connectors.aws.policy.documents import digest
from apps.connectors.aws.privilege import NamedDocument, privilege_of
from apps.connectors.aws.session import Api, session
from apps.connectors.base import Examination, Look, Promise, Proof, Target, Ticket, WayIn, Window
from apps.connectors.errors import Busy, Gone, Refused, Unproven

PLACES_LEFT = 10  # of the account's roles that stay free for everybody else


class IamJitRole:
    """A role of its own for every grant, held by a person of Identity Center."""

    promise = Promise(
        ends_by=(
            "The role's guard: from that second on AWS refuses every call of its sessions and lets nobody assume it, "
            "whether or not Gatehouse runs (unverified live)."
        ),
        ends_early_by="A Deny of everything is put on the role and its trust is closed, then the role is deleted.",
        read_back_by="The role with its trust, tags, boundary and id, and each of its policies; then that it is gone.",
        survives=(
            "Sessions of the role are denied everything until it is deleted, and a deleted role's sessions may do nothing "
            "(unverified live). Sessions of other roles that were assumed from it, and whatever was started or created "
            "with it, live on by their own rules."
        ),
        limits=(
            "An account holds 1,000 roles unless AWS raised it; ten places stay free.",
            "Its inline policies hold 10,240 characters, its trust 2,048.",
            "It can do no more than the account's boundary policy lets it.",
            "The person needs the entry permission set in the same account, and assumes the role again every hour.",
        ),
        failures=(
            "A role of that name that this grant did not make: refused, and nothing is adopted.",
            "The account has no boundary policy: refused before anything is written.",
            "AWS does not show the role yet, seconds after making it: tried again, closed until then.",
            "The person has no session of the entry permission set: the role is there, and they cannot reach it.",
        ),
        holders=("idc_user",),
        opens=("dated_policy",),
        may_be_privileged=True,
        is_per_grant=True,
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), "provisioner_role")

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        if target.principal_kind != "idc_user":
            raise Refused("Only a person of Identity Center can get a role for one grant.")
        wanted = self._wanted(target)
        for window in windows:
            require_fits(wanted, window.not_after)
        self._require_bounded(wanted, target)
        role = self._read(wanted)
        if role is None:
            self._require_place(wanted)
        else:
            self._require_ours(wanted, role, target)
        store_id = identity_center.find_instance(self._reader).store_id
        hub_id = self._reader.hub_id
        self._reader.call(
            hub_id, "identitystore", "describe_user", IdentityStoreId=store_id, UserId=target.principal_external_id
        )

    def shared_key(self, target: Target) -> str:
        return f"aws:role:{target.account_id}:{jit.role_name(target.reference)}"

    def lock_key(self, target: Target) -> str:
        return self.shared_key(target)

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        """Write the role's end; make the role, closed, where it is not there yet. Without windows nothing stays."""
        strangers = [window.target.reference for window in windows if window.target.reference != target.reference]
        if strangers or len(windows) > 1:
            raise ValueError(f"other windows than its own for the role of {target.reference}: {strangers[:3]}")
        wanted = self._wanted(target)
        if not windows:
            self.close(target)
            return Proof(f"Account {wanted.account_id} has no role {wanted.name}.", datetime.now(UTC), _facts(wanted))
        if not windows[0].is_open:
            return self._deny(wanted)
        return self._bound(wanted, target, windows[0].not_after)

    def open(self, target: Target) -> Ticket:
        """What the role may do, then the trust that lets the person in; both end when the guard that is there says."""
        wanted = self._wanted(target)
        role = self._read(wanted)
        if role is None:
            raise Unproven(f"AWS does not show role {wanted.name} in account {wanted.account_id} yet.")
        self._require_ours(wanted, role, target)
        not_after = jit.end_of(self._inline(wanted, GUARD))
        if not_after is None:
            raise Unproven(f"Role {wanted.name} has no guard that says when it ends. Nothing was opened.")
        with self._settling(wanted):
            self._put(wanted, ACCESS, wanted.access(not_after))
            self._set_trust(wanted, wanted.trust(not_after))
        return Ticket("done")

    def close(self, target: Target) -> Ticket:
        """Denied and closed first, the guard last; then the role goes, and AWS must show no role of that name."""
        wanted = self._wanted(target)
        if self._read_at_home(wanted) is None:
            return Ticket("done")
        try:
            self._deny(wanted)
            self._strip(wanted)
            self._writer.call(wanted.account_id, "iam", "delete_role", **wanted.named)
        except Gone:
            pass  # somebody else took the last of it away; what AWS shows now decides
        if self._read_at_home(wanted) is not None:
            raise Unproven(f"Role {wanted.name} is still there after it was deleted.")
        return Ticket("done")

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """IAM answers when it has done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        """Whether somebody can get into the role now."""
        wanted = self._wanted(target)
        role = self._read_at_home(wanted)
        now = datetime.now(UTC)
        if role is None:
            what = f"AWS shows that account {wanted.account_id} has no role {wanted.name}."
            return Look(False, Proof(what, now, _facts(wanted)))
        is_open = not jit.is_closed(role.get("AssumeRolePolicyDocument"))
        guard = self._inline(wanted, GUARD)
        end = jit.end_of(guard)
        words = "lets somebody in" if is_open else "lets nobody in"
        until = f"is denied everything from {stamp(end)} on" if end else "has no guard of ours"
        facts = _facts(wanted, role) | {
            "not_after": stamp(end) if end else "",
            "guard": digest(guard) if guard and end else "",
            "is_ours": self._why_not_ours(wanted, role, target) == "",
        }
        return Look(is_open, Proof(f"AWS shows that role {wanted.name} {words} and {until}.", now, facts))

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        """Its guard against its window, and whether it is still the role that the grant made: nobody else gets in, and it
        may do nothing more. A role that is not there gives nothing."""
        wanted, now = self._wanted(target), datetime.now(UTC)
        role = self._read_at_home(wanted)
        if role is None:
            return Examination(Proof(f"Account {wanted.account_id} has no role {wanted.name}.", now, _facts(wanted)))
        found = Shown(
            trust=role.get("AssumeRolePolicyDocument"),
            inline={
                name: self._inline(wanted, name) for name in self._listed(wanted, "list_role_policies", "PolicyNames")
            },
            attached=tuple(
                one["PolicyName"] for one in self._listed(wanted, "list_attached_role_policies", "AttachedPolicies")
            ),
        )
        proof = Proof(f"Role {wanted.name} in account {wanted.account_id} was read.", now, _facts(wanted, role))
        why_not_ours = self._why_not_ours(wanted, role, target)
        return compared(wanted, found, windows[0] if windows else None, why_not_ours, proof)

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del target, documents  # its Deny stands on a role that nobody had before
        return False

    def session_for(self, target: Target) -> timedelta:
        """Denied everything from the end on all the same; an hour is how long one could be kept alive."""
        del target
        return SESSION_FOR

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        name = jit.role_name(target.reference)
        return ways_in.to_role(self._config, target.account_id, f"{PATH}{name}".lstrip("/"), name)

    # ---- the role as it is wanted

    def _wanted(self, target: Target) -> Wanted:
        return wanted_role(target, self._config, self._reader.session.hub().partition)

    def _require_bounded(self, wanted: Wanted, target: Target) -> None:
        """The boundary is there, and leaves something of every action: a role that may do nothing helps nobody."""
        try:
            document = default_document(self._reader, wanted.account_id, wanted.boundary)[1]
        except Gone as error:
            raise Refused(
                f"Account {wanted.account_id} has no boundary policy {wanted.boundary}. Deploy deploy/aws there first."
            ) from error
        boundary = NamedDocument("the boundary", document)
        statements = ((action, resources) for actions, resources in wanted.gives for action in actions)
        for action, resources in statements:
            one = {"Effect": "Allow", "Action": action, "Resource": list(resources)}
            given = NamedDocument(target.entitlement_name, {"Version": "2012-10-17", "Statement": [one]})
            if privilege_of([given], boundary=boundary).level == "none":
                raise Refused(
                    f"The boundary policy of account {wanted.account_id} forbids {action[:80]} to every role of a grant. "
                    f"Take it out of {target.entitlement_name}."
                )

    def _require_place(self, wanted: Wanted) -> None:
        counts = self._reader.call(wanted.account_id, "iam", "get_account_summary")["SummaryMap"]
        roles, quota = counts.get("Roles"), counts.get("RolesQuota")
        if roles is None or quota is None or roles + PLACES_LEFT >= quota:
            raise Refused(
                f"Account {wanted.account_id} has {roles} of {quota} roles. Wait until other grants there have ended, or "
                "ask AWS for more roles."
            )

    # ---- what is there

    def _read(self, wanted: Wanted) -> dict[str, Any] | None:
        """The role of that name, wherever it is, as AWS shows it now."""
        try:
            role: dict[str, Any] = self._reader.call(wanted.account_id, "iam", "get_role", **wanted.named)["Role"]
        except Gone:
            return None
        return role

    def _read_at_home(self, wanted: Wanted) -> dict[str, Any] | None:
        """The role under our path. Role names are unique without their path, and one elsewhere was never ours."""
        role = self._read(wanted)
        return role if role and role.get("Path") == PATH else None

    def _inline(self, wanted: Wanted, name: str) -> Any | None:
        try:
            answer = self._reader.call(wanted.account_id, "iam", "get_role_policy", **wanted.named, PolicyName=name)
        except Gone:
            return None
        return answer["PolicyDocument"]

    def _listed(self, wanted: Wanted, operation: str, key: str) -> list[Any]:
        return list(self._reader.items(wanted.account_id, "iam", operation, key, **wanted.named))

    def _require_ours(self, wanted: Wanted, role: Mapping[str, Any], target: Target) -> None:
        """Raise `Refused` for a role that this grant did not make, or that somebody put more on."""
        why_not = self._why_not_ours(wanted, role, target)
        if not why_not:
            more = {*self._listed(wanted, "list_role_policies", "PolicyNames")} - {GUARD, ACCESS}
            attached = [
                one["PolicyName"] for one in self._listed(wanted, "list_attached_role_policies", "AttachedPolicies")
            ]
            if REVOKED in more:
                raise Refused(f"Role {wanted.name} was ended already and is never opened again. Ask anew.")
            why_not = f"it also has {', '.join(sorted([*more, *attached]))[:200]}" if more or attached else ""
        if why_not:
            raise Refused(
                f"Role {wanted.name} in account {wanted.account_id} is not as this grant made it: {why_not}. Find out who "
                "made it, and ask anew."
            )

    def _why_not_ours(self, wanted: Wanted, role: Mapping[str, Any], target: Target) -> str:
        tags = {tag["Key"]: tag["Value"] for tag in role.get("Tags") or ()}
        known_id = target.made_as or role["RoleId"]
        boundary = (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
        checks = (
            (role.get("Path") == PATH, f"it stands under {str(role.get('Path'))[:60]}"),
            (role["RoleId"] == known_id, f"it was deleted and made again as {role['RoleId']}"),
            (tags.get("jit:grant") == wanted.reference, "its tags name another grant"),
            (tags.get("jit:spec") == wanted.spec, "its tags say that it opens something else"),
            (boundary == wanted.boundary, "it has another boundary"),
            (role.get("MaxSessionDuration", 3600) == SESSION_FOR.total_seconds(), "its sessions last longer"),
        )
        return next((words for holds, words in checks if not holds), "")

    # ---- writing

    def _bound(self, wanted: Wanted, target: Target, not_after: datetime) -> Proof:
        """The guard says `not_after`; then the same for what the role may do and its trust, where they are open."""
        require_fits(wanted, not_after)
        role = self._read(wanted)
        if role is None:
            if target.made_as:
                raise Gone(f"Role {wanted.name} was deleted outside Gatehouse. It is not made again.")
            role = self._create(wanted, not_after)
        self._require_ours(wanted, role, target)
        with self._settling(wanted):
            self._put(wanted, GUARD, jit.guard(not_after))
            trust: Any = role["AssumeRolePolicyDocument"]
            if not jit.is_closed(trust):
                self._put(wanted, ACCESS, wanted.access(not_after))
                trust = wanted.trust(not_after)
                self._set_trust(wanted, trust)
            tags = {tag["Key"]: tag["Value"] for tag in role.get("Tags") or ()}
            if tags != wanted.tags(not_after):
                made = [{"Key": key, "Value": value} for key, value in wanted.tags(not_after).items()]
                self._writer.call(wanted.account_id, "iam", "tag_role", **wanted.named, Tags=made)
        facts = _facts(wanted, role) | {
            "not_after": stamp(not_after),
            "guard": digest(jit.guard(not_after)),
            "trust": digest(trust),
            "access": digest(wanted.access(not_after)),
            "spec": wanted.spec,
        }
        what = f"Role {wanted.name} in account {wanted.account_id} is denied everything from {stamp(not_after)} on."
        return Proof(what, datetime.now(UTC), facts, made_as=role["RoleId"])

    def _create(self, wanted: Wanted, not_after: datetime) -> dict[str, Any]:
        """Make the role: closed, bounded and tagged in one call. One that is there already is read, and judged."""
        try:
            self._writer.call(
                wanted.account_id,
                "iam",
                "create_role",
                **wanted.named,
                Path=PATH,
                AssumeRolePolicyDocument=_json(jit.closed_trust()),
                Description=f"Made by Gatehouse for grant {wanted.reference}. It ends by itself.",
                MaxSessionDuration=int(SESSION_FOR.total_seconds()),
                PermissionsBoundary=wanted.boundary,
                Tags=[{"Key": key, "Value": value} for key, value in wanted.tags(not_after).items()],
            )
        except Busy:  # AWS calls a name that is taken a conflict
            if self._read(wanted) is None:
                raise
        role = self._read(wanted)
        if role is None:
            raise Unproven(f"AWS does not show role {wanted.name} in account {wanted.account_id} yet.")
        return role

    def _deny(self, wanted: Wanted) -> Proof:
        """Everything is denied at once and nobody gets in any more. A role that is not there needs neither."""
        role = self._read_at_home(wanted)
        if role is None:
            what = f"Account {wanted.account_id} has no role {wanted.name}, so there is nothing to deny."
            return Proof(what, datetime.now(UTC), _facts(wanted))
        self._put(wanted, REVOKED, jit.revoked())
        self._set_trust(wanted, jit.closed_trust())
        what = f"Role {wanted.name} in account {wanted.account_id} is denied everything, and lets nobody in."
        facts = _facts(wanted, role) | {"revoked": digest(jit.revoked())}
        return Proof(what, datetime.now(UTC), facts)

    def _strip(self, wanted: Wanted) -> None:
        """Take everything off the role, whoever put it there; what denies goes last."""
        for policy in self._listed(wanted, "list_attached_role_policies", "AttachedPolicies"):
            self._remove(wanted, "detach_role_policy", PolicyArn=policy["PolicyArn"])
        found = self._listed(wanted, "list_role_policies", "PolicyNames")
        last = [GUARD, REVOKED]
        for name in (*(one for one in found if one not in last), *last):
            self._remove(wanted, "delete_role_policy", PolicyName=name)

    def _remove(self, wanted: Wanted, operation: str, **named: str) -> None:
        try:
            self._writer.call(wanted.account_id, "iam", operation, **wanted.named, **named)
        except Gone:
            return

    def _put(self, wanted: Wanted, name: str, document: dict[str, Any]) -> None:
        self._writer.call(
            wanted.account_id,
            "iam",
            "put_role_policy",
            **wanted.named,
            PolicyName=name,
            PolicyDocument=_json(document),
        )
        if not jit.same(self._inline(wanted, name), document):
            raise Unproven(f"Policy {name} of role {wanted.name} reads back differently from what was written.")

    def _set_trust(self, wanted: Wanted, trust: dict[str, Any]) -> None:
        self._writer.call(
            wanted.account_id, "iam", "update_assume_role_policy", **wanted.named, PolicyDocument=_json(trust)
        )
        role = self._read(wanted)
        if role is None or not jit.same(role.get("AssumeRolePolicyDocument"), trust):
            raise Unproven(f"The trust of role {wanted.name} reads back differently from what was written.")

    @contextmanager
    def _settling(self, wanted: Wanted) -> Iterator[None]:
        """IAM can say for a while that a role it has just made does not exist."""
        try:
            yield
        except Gone as error:
            raise Unproven(f"AWS lost sight of role {wanted.name} while it was written. It is tried again.") from error


def _facts(wanted: Wanted, role: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"role_arn": wanted.arn, "role_id": role["RoleId"] if role else ""}


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))
