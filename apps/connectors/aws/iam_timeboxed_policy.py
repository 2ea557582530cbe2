"""Gives an existing IAM user or role some actions for a time, by a policy that ends itself (aws.md §1.4).

Everything that grants give one principal stands in one inline policy, `gatehouse-jit`, written whole from all its open
windows: a dated Allow, and a dated Deny of exactly the same actions and resources. The Deny makes the end hold even
where something else would allow the action; it is left out where that something is the principal's own standing right
(`Window.holds_standing`) or another grant of the same principal that lasts longer. Then the lapse of the Allow is the
end, and the proof says so.

A window that is being ended is simply no longer in the document: IAM judges every call by the policies of that moment,
so live sessions lose it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from apps.connectors.aws.guard import size, stamp
from apps.connectors.aws.holders import Holder, holder_of, inline_document, unique_id
from apps.connectors.aws.iam import OUR_POLICY
from apps.connectors.aws.policy.documents import MalformedPolicy, canonical, digest, parse
from apps.connectors.aws.policy.matcher import may_overlap
from apps.connectors.aws.session import Api, session
from apps.connectors.base import Examination, Look, Promise, Proof, Target, Ticket, WayIn, Window, whole_second
from apps.connectors.errors import Gone, Refused, Unproven

_DATE = re.compile(r'"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)"', re.ASCII)

LIMITS = {"user": 2048, "role": 10240}  # characters of all inline policies together, white space not counted
NOTES = {
    "user": "The user's access keys stay; what they may do ends.",
    "role": "Sessions of the role that are already open end with it.",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Some actions on some resources."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]

    def may_meet(self, other: Access) -> bool:
        """Whether some call could fall under both. May say yes too often, never too rarely."""
        return any(may_overlap(a.lower(), b.lower()) for a in self.actions for b in other.actions) and any(
            may_overlap(a, b) for a in self.resources for b in other.resources
        )


def accesses(target: Target) -> list[Access]:
    """What the entitlement gives. Raises `Refused` when its statements are not lists of actions and resources."""
    statements = target.entitlement_attributes.get("statements")
    found = [
        Access(_texts(one.get("actions")), _texts(one.get("resources")))
        for one in (statements if isinstance(statements, list) else ())
        if isinstance(one, Mapping)
    ]
    if not found or len(found) != len(statements or ()) or not all(one.actions and one.resources for one in found):
        raise Refused(f"{target.entitlement_name} does not say which actions it gives on which resources.")
    return found


def render(windows: Sequence[Window]) -> dict[str, Any]:
    """The document for all open windows of one principal."""
    still_open = sorted((w for w in windows if w.is_open), key=lambda w: w.target.entitlement_external_id)
    statements: list[dict[str, Any]] = []
    for window in still_open:
        leave_out = _leaves_deny_out(window, still_open)
        for index, access in enumerate(accesses(window.target)):
            key = f"{_key(window.target)}{index:02x}"
            statements.append(_statement(f"Allow{key}", access, "DateLessThan", window.not_after))
            if not leave_out:
                statements.append(_statement(f"Deny{key}", access, "DateGreaterThanEquals", window.not_after))
    return {"Version": "2012-10-17", "Statement": statements}


class IamTimeboxedPolicy:
    """The dated inline policy of one IAM user or role."""

    promise = Promise(
        ends_by=(
            "The dates inside the policy: AWS refuses these actions from that second on, whether or not Gatehouse runs "
            "(unverified live)."
        ),
        ends_early_by="Its statements are taken out of the principal's inline policy.",
        read_back_by="The principal's inline policy, compared with what was written.",
        survives="Nothing. IAM judges every call by the policies of that moment.",
        limits=(
            "All inline policies together: 2,048 characters for a user, 10,240 for a role.",
            "The Deny is left out where it would cut standing rights or a longer grant; then the lapse is the end.",
        ),
        failures=("The principal was deleted or made anew: refused, because it is somebody else now.",),
        holders=("iam_user", "iam_role"),
        opens=("dated_policy",),
        may_be_privileged=False,
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), "provisioner_role")

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        holder = self._holder(target)
        holder.require_ours_to_change(self._config)
        accesses(target)
        self._require_same(target, holder)
        self._require_room(holder, render(windows))

    def shared_key(self, target: Target) -> str:
        return f"aws:policy:{target.principal_external_id}"

    def lock_key(self, target: Target) -> str:
        return self.shared_key(target)

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        holder = self._holder(target)
        holder.require_ours_to_change(self._config)
        strangers = [w for w in windows if w.target.principal_external_id != target.principal_external_id]
        if strangers:
            raise ValueError(f"windows of other principals in the policy of {target.principal_external_id}")
        document = render(windows)
        self._require_same(target, holder)
        self._require_room(holder, document)
        if document["Statement"]:
            self._put(holder, document)
        else:
            self._delete(holder)
        return self._proof(holder, windows, document)

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        """What it gives, each grant's part by its own Sids, against what it should give. What it gives no longer, or not
        for so long, is stricter."""
        document = inline_document(self._reader, self._holder(target), OUR_POLICY)
        found, problem = _read(document)
        said = [(window, _as_said(window, windows, found)) for window in windows]
        weaker = tuple(window for window, told in said if problem or told is None or _lasts_longer(told, window))
        stricter = tuple(told for window, told in said if told and told != window and window not in weaker)
        keys = {_key(window.target) for window in windows}
        is_wider = any(sid[5:15] not in keys for sid, (effect, _) in found.items() if effect == "Allow")
        differences = [problem] if problem else []
        differences += [
            f"It does not end {w.target.entitlement_name} of {target.principal_name} in time." for w in weaker
        ]
        differences += [f"It no longer gives {w.target.entitlement_name} for so long." for w in stricter]
        if is_wider:
            differences.append(
                f"Policy {OUR_POLICY} of {target.principal_name} gives something that nobody was granted."
            )
        if found != _by_sid(render(windows)) and not differences:
            differences.append(f"Policy {OUR_POLICY} of {target.principal_name} is not what was written.")
        facts = {"policy_name": OUR_POLICY, "statements": len(found)}
        proof = Proof(f"Policy {OUR_POLICY} of {target.principal_name} was read.", datetime.now(UTC), facts)
        return Examination(proof, weaker, stricter, is_wider=is_wider, differences=tuple(differences))

    def open(self, target: Target) -> Ticket:
        """`enforce` opened it; this only says whether it is really there."""
        if not self.look(target).is_present:
            raise Unproven(f"{target.entitlement_name} is not in the policy of {target.principal_name} yet.")
        return Ticket("done")

    def close(self, target: Target) -> Ticket:
        """`enforce` without this window (or with it closed) removed it; this only says whether it is really gone."""
        if self.look(target).is_present:
            raise Unproven(f"{target.entitlement_name} is still in the policy of {target.principal_name}.")
        return Ticket("done")

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """IAM answers when it has done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        document = inline_document(self._reader, self._holder(target), OUR_POLICY)
        found = _found(document, f"Allow{_key(target)}")
        words = "allows" if found else "does not allow"
        return Look(
            bool(found),
            Proof(
                f"AWS shows that policy {OUR_POLICY} of {target.principal_name} {words} {target.entitlement_name}.",
                datetime.now(UTC),
                {"statements": [dict(one) for one in found]},
            ),
        )

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        mine = accesses(target)
        return any(_may_meet(document, mine) for document in documents)

    def session_for(self, target: Target) -> timedelta:
        del target  # IAM judges every call by the policies of that moment, also in sessions that are open
        return timedelta(0)

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        what = (
            f"Nothing to do: what already works as {target.principal_name} can do this now, with the same credentials."
        )
        return (WayIn("note", "Credentials you have", what),)

    def _holder(self, target: Target) -> Holder:
        holder = holder_of(target)
        if holder.word not in LIMITS:
            raise Refused("Only an IAM user or role can get a policy for a time.")
        return holder

    def _require_same(self, target: Target, holder: Holder) -> None:
        """A principal that was deleted and made again under the same name is somebody else."""
        known, found = target.principal_attributes.get("unique_id"), unique_id(self._reader, holder)
        if known and found != known:
            raise Gone(f"{target.principal_name} was deleted and made again since it was last read. Sync first.")

    def _require_room(self, holder: Holder, document: Any) -> None:
        names = self._reader.items(
            holder.account_id, "iam", f"list_{holder.word}_policies", "PolicyNames", **holder.named
        )
        stored = {name: size(inline_document(self._reader, holder, name) or {}) for name in names}
        before = stored.pop(OUR_POLICY, 0)
        needed = sum(stored.values()) + size(document)
        if needed > LIMITS[holder.word] and size(document) > before:  # ending something must always be possible
            raise Refused(
                f"The inline policies of {holder.name} would need {needed} of {LIMITS[holder.word]} characters. "
                "End another grant of it first, or make an inline policy a managed one."
            )

    def _put(self, holder: Holder, document: Any) -> None:
        self._writer.call(
            holder.account_id,
            "iam",
            f"put_{holder.word}_policy",
            **holder.named,
            PolicyName=OUR_POLICY,
            PolicyDocument=json.dumps(document, separators=(",", ":")),
        )
        read = inline_document(self._reader, holder, OUR_POLICY)
        if read is None or _comparable(read) != _comparable(document):
            raise Unproven(f"Policy {OUR_POLICY} of {holder.name} reads back differently from what was written.")

    def _delete(self, holder: Holder) -> None:
        if inline_document(self._reader, holder, OUR_POLICY) is None:
            return
        try:
            self._writer.call(
                holder.account_id, "iam", f"delete_{holder.word}_policy", **holder.named, PolicyName=OUR_POLICY
            )
        except Gone:
            return
        if inline_document(self._reader, holder, OUR_POLICY) is not None:
            raise Unproven(f"Policy {OUR_POLICY} of {holder.name} is still there after it was deleted.")

    def _proof(self, holder: Holder, windows: Sequence[Window], document: Any) -> Proof:
        still_open = [window for window in windows if window.is_open]
        undenied = sorted(w.target.entitlement_name for w in still_open if _leaves_deny_out(w, still_open))
        facts: dict[str, Any] = {
            "policy_name": OUR_POLICY,
            "size": size(document),
            "digest": digest(document) if document["Statement"] else "",
            "ends": sorted([w.target.entitlement_external_id, stamp(w.not_after), w.is_open] for w in windows),
            "note": NOTES[holder.word],
            "ends_by_lapse_only": undenied,  # no Deny: it would cut standing rights, or a grant that lasts longer
        }
        what = f"Policy {OUR_POLICY} of {holder.word} {holder.name} holds {len(still_open)} dated grants."
        if not still_open:
            what = f"{holder.word.title()} {holder.name} has no policy {OUR_POLICY}."
        return Proof(what, datetime.now(UTC), facts)


def _leaves_deny_out(window: Window, still_open: Iterable[Window]) -> bool:
    if window.holds_standing:
        return True
    mine = accesses(window.target)
    return any(
        whole_second(other.not_after) > whole_second(window.not_after)
        and any(one.may_meet(its) for one in mine for its in accesses(other.target))
        for other in still_open
        if other is not window
    )


def _may_meet(document: Any, mine: Iterable[Access]) -> bool:
    """Whether a policy allows something of `mine`. What cannot be read, or lists exceptions only, may."""
    try:
        allows = [one for one in parse(document).statements if one.effect == "Allow"]
    except MalformedPolicy:
        return True
    return any(
        one.is_not_action
        or one.is_not_resource
        or any(its.may_meet(Access(one.actions, one.resources)) for its in mine)
        for one in allows
    )


def _statement(sid: str, access: Access, operator: str, end: datetime) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow" if sid.startswith("Allow") else "Deny",
        "Action": list(access.actions),
        "Resource": list(access.resources),
        "Condition": {operator: {"aws:CurrentTime": stamp(end)}},
    }


def _key(target: Target) -> str:
    """Ten characters that name the entitlement inside a Sid, which takes letters and digits only."""
    return sha256(target.entitlement_external_id.encode()).hexdigest()[:10]


def _found(document: Any, sid: str) -> list[Mapping[str, Any]]:
    """The statements of a document whose Sid begins so. One that cannot be read is treated as giving it."""
    if document is None:
        return []
    try:
        return [one.raw for one in parse(document).statements if one.sid.startswith(sid)]
    except MalformedPolicy:
        return [{"Sid": "unreadable"}]


def _by_sid(document: Any) -> dict[str, tuple[str, str]]:
    """Sid (its place where it has none) → effect, and the statement as a text that is equal for equal ones."""
    if not document["Statement"]:
        return {}
    whole = parse(document)
    return {
        one.sid or str(one.index): (one.effect, canonical({"Version": whole.version, "Statement": [dict(one.raw)]}))
        for one in whole.statements
    }


def _read(document: Any) -> tuple[dict[str, tuple[str, str]], str]:
    if document is None:
        return {}, ""
    try:
        return _by_sid(parse(document).raw), ""
    except MalformedPolicy as error:
        return {}, f"Policy {OUR_POLICY} cannot be read: {error}"


def _as_said(window: Window, windows: Sequence[Window], found: Mapping[str, Any]) -> Window | None:
    """The window that the policy says, read from its own statements; None when they are not what any window is written
    as: then nothing is known to end it."""
    mine = _about(window, found)
    allows = [text for sid, (_, text) in mine.items() if sid.startswith("Allow")]
    if not allows:
        return replace(window, is_open=False) if window.is_open else window
    dates = {date for text in allows for date in _DATE.findall(text)}
    if len(dates) != 1:
        return None
    try:
        told = replace(window, is_open=True, not_after=datetime.fromisoformat(dates.pop()))
    except ValueError:  # the thirtieth of February
        return None
    wanted = _by_sid(render([told if one is window else one for one in windows]))
    return told if mine == _about(window, wanted) else None


def _about(window: Window, said: Mapping[str, Any]) -> dict[str, Any]:
    """The statements of one window, by Sid."""
    key = _key(window.target)
    return {sid: one for sid, one in said.items() if sid.startswith((f"Allow{key}", f"Deny{key}"))}


def _lasts_longer(told: Window, window: Window) -> bool:
    return told.is_open and (not window.is_open or told.not_after > whole_second(window.not_after))


def _comparable(document: Any) -> tuple[str, list[str]]:
    try:
        return canonical(document), sorted(statement.sid for statement in parse(document).statements)
    except MalformedPolicy as error:
        raise Unproven(f"Policy {OUR_POLICY} cannot be read back: {error}") from error


def _texts(value: Any) -> tuple[str, ...]:
    return (
        tuple(sorted(value)) if isinstance(value, list) and all(isinstance(one, str) and one for one in value) else ()
    )
