"""Lets a person into a tier role of an account, by sessions that a broker mints while the grant lasts (aws.md §1.3, b3).

A tier role (`/jit/tier/JitReadOnly`) stands in the account all the time and can be assumed by the broker's role alone.
What opens and ends a grant is the role's inline policy `jit-guard`, written whole from all open grants of the role. It
can only deny: whoever does not carry the name of an open grant as the session tag `jit-grant`, and each of them from
its end on. So a broker that lies, or is stolen, gets nothing out of AWS that no grant gives, and a session that lives is
cut the moment its grant leaves the list. The session itself carries the same date (`minting.py`).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.connectors.aws.guard import size, stamp
from apps.connectors.aws.iam import TIER_PATH
from apps.connectors.aws.jit_documents import GUARD
from apps.connectors.aws.managed_policies import ManagedPolicies
from apps.connectors.aws.policy.documents import MalformedPolicy, Statement, canonical, digest, parse
from apps.connectors.aws.policy.evaluator import CannotDecide, Outcome, evaluate
from apps.connectors.aws.privilege import NamedDocument, privilege_of
from apps.connectors.aws.session import Api, session
from apps.connectors.base import Examination, Look, Promise, Proof, Target, Ticket, WayIn, Window, whole_second
from apps.connectors.errors import Gone, Refused, Unproven

TAG = "jit-grant"
TAG_KEY = f"aws:PrincipalTag/{TAG}"
LIMIT = 10_240  # characters of all inline policies of a role together, white space not counted
SESSION_SECONDS = 3600  # the shortest MaxSessionDuration that IAM takes, and what role chaining allows

_ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
_WITHOUT = ("StringNotEquals", TAG_KEY.lower())
_OF, _SINCE = ("StringEquals", TAG_KEY.lower()), ("DateGreaterThanEquals", "aws:currenttime")
_NEVER, _FOR_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_ROLE = re.compile(r"arn:[\w-]+:iam::(\d{12}):role/jit/tier/([\w+=,.@-]{1,64})", re.ASCII)
_REFERENCE = re.compile(r"[a-z2-7]{16}")
_NEEDED = frozenset({"sts:assumerole", "sts:setsourceidentity", "sts:tagsession"})


def render(windows: Sequence[Window]) -> dict[str, Any]:
    """The guard for all windows of one tier role. Whoever is not in it may do nothing; without open windows that is
    everybody. Grants with the same end share a statement. Raises `Refused` for a name that is not a grant's."""
    ends: dict[str, list[str]] = defaultdict(list)
    for window in windows:
        if window.is_open:
            ends[stamp(window.not_after)].append(_reference(window.target))
    everybody = sorted(name for names in ends.values() for name in names)
    others = {"Condition": {"StringNotEquals": {TAG_KEY: everybody}}} if everybody else {}
    statements = [{"Sid": "NoGrant", "Effect": "Deny", "Action": "*", "Resource": "*", **others}]
    statements += [_from(end, sorted(names)) for end, names in sorted(ends.items())]
    return {"Version": "2012-10-17", "Statement": statements}


def lets_through(document: Any, reference: str, now: datetime) -> bool:
    """Whether a session of this grant could do anything by what a guard says `now`. Only statements that deny everything
    count, whatever else somebody wrote into it; no guard, or one that cannot be read, denies nobody."""
    try:
        denies = [one.raw for one in parse(document).statements if _denies_everything(one)] if document else []
        asked = {"Version": "2012-10-17", "Statement": [_ALLOW_ALL, *denies]}
        answer = evaluate([asked], action="sts:GetCallerIdentity", resource="*", context={TAG_KEY: reference}, now=now)
    except (MalformedPolicy, CannotDecide):
        return True
    return answer.outcome is Outcome.ALLOW


def why_not_trusted(trust: Any, broker_arn: str) -> str:
    """Why a role with this trust may be assumed by somebody else than the broker, or not by it; "" when all is well."""
    try:
        statements = [one for one in parse(trust).statements if one.effect == "Allow"]
    except MalformedPolicy as error:
        return f"its trust cannot be read: {error}"
    actions = {action for one in statements for action in one.actions}
    if any(one.is_not_action for one in statements) or actions - _NEEDED:
        return "its trust allows more than assuming the role with a tag and a source identity"
    if any("NotPrincipal" in one.raw or _principals(one.raw.get("Principal")) != [broker_arn] for one in statements):
        return f"its trust names somebody else than {broker_arn}"
    if not actions >= _NEEDED:
        return f"its trust does not allow {', '.join(sorted(_NEEDED - actions))}"
    return ""


class StsBroker:
    """Sessions in one tier role of one account."""

    promise = Promise(
        ends_by=(
            "Two dates that AWS reads at every call, whether or not Gatehouse runs: one in the session, and one in the "
            "role's own guard, which also denies every session that belongs to no open grant (unverified live)."
        ),
        ends_early_by="The grant leaves the role's guard, which denies its sessions from then on.",
        read_back_by="The role, its trust and boundary, and its guard, compared with what was written.",
        survives=(
            "Nothing of the session. Where the boundary lets it assume further roles or make credentials, those live on."
        ),
        limits=(
            "A role's inline policies together: 10,240 characters, about 40 grants with different ends.",
            "A session lasts an hour at most; while the grant lasts, another one can be had.",
            "Roles with admin privilege are refused, read anew before each opening: their sessions could undo the guard.",
        ),
        failures=(
            "Somebody changed the role's trust or boundary: refused until it is put right.",
            "AWS takes some seconds to spread a change: a session used at once may be denied. Try it again.",
        ),
        holders=("idc_user",),
        opens=("tier_role",),
        may_be_privileged=True,
        is_per_grant=True,
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), "provisioner_role")

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        if target.principal_kind not in self.promise.holders:
            raise Refused("Only a person of Identity Center can be let into a tier role.")
        _reference(target)
        name = _role_name(target)
        role = self._role(target)
        self._require_sound(target, role)
        inline = self._inline(target, name)
        self._require_not_admin(target, role, inline)
        _require_room(name, sum(size(one) for key, one in inline.items() if key != GUARD), render(windows))

    def shared_key(self, target: Target) -> str:
        return f"aws:tier:{target.entitlement_external_id}"

    def lock_key(self, target: Target) -> str:
        return self.shared_key(target)

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        if any(one.target.entitlement_external_id != target.entitlement_external_id for one in windows):
            raise ValueError(f"windows of other roles in the guard of {target.entitlement_external_id}")
        name, document = _role_name(target), render(windows)
        inline = self._inline(target, name)
        before = size(inline.pop(GUARD, None) or {})
        if size(document) > before:  # ending something must always be possible
            _require_room(name, sum(map(size, inline.values())), document)
        self._writer.call(
            target.account_id,
            "iam",
            "put_role_policy",
            RoleName=name,
            PolicyName=GUARD,
            PolicyDocument=json.dumps(document, separators=(",", ":")),
        )
        if _comparable(self._guard(target)) != _comparable(document):
            raise Unproven(f"The guard of role {name} reads back differently from what was written.")
        still_open = sorted([_reference(w.target), stamp(w.not_after)] for w in windows if w.is_open)
        through = f"{len(still_open)} through, each until its end" if still_open else "nobody through"
        return Proof(
            f"The guard of role {name} lets {through}.",
            datetime.now(UTC),
            {
                "role": name,
                "policy_name": GUARD,
                "size": size(document),
                "digest": digest(document),
                "ends": still_open,
            },
        )

    def open(self, target: Target) -> Ticket:
        """`enforce` opened it; this says whether it is really there, in a role that nobody changed meanwhile."""
        self._require_sound(target, self._role(target))
        if not self.look(target).is_present:
            raise Unproven(f"The guard of {target.entitlement_name} does not let the grant through yet.")
        return Ticket("done")

    def close(self, target: Target) -> Ticket:
        """`enforce` without this window ended it; this says whether its sessions are really denied."""
        if self.look(target).is_present:
            raise Unproven(f"The guard of {target.entitlement_name} still lets the grant through.")
        return Ticket("done")

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """IAM answers when it has done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        """Present is what the guard, as AWS shows it, would let a session of this grant do now. So a guard that somebody
        took away shows every grant as present, ended ones too, until `enforce` has written it again."""
        name, now = _role_name(target), datetime.now(UTC)
        try:
            self._role(target)
        except Gone:
            return Look(False, Proof(f"AWS shows no role {name}.", now, {"role": name}))
        document = self._guard(target)
        is_present = lets_through(document, _reference(target), now)
        words = "lets the grant through" if is_present else "denies every session of the grant"
        what = f"AWS shows that the guard of role {name} {words}."
        if document is None:
            what = f"AWS shows no guard at role {name}: nothing denies its sessions."
        return Look(is_present, Proof(what, now, {"role": name, "digest": _digest(document)}))

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        document, now = self._guard(target), datetime.now(UTC)
        said = _said_by(document)
        known = {_reference(window.target): window for window in windows}
        weaker = tuple(one for name, one in known.items() if said.lasts(name) > (_end_of(one) if one.is_open else now))
        stricter = tuple(
            replace(one, not_after=min(said.lasts(name), one.not_after), is_open=name in said.listed)
            for name, one in known.items()
            if one.is_open and said.lasts(name) < _end_of(one)
        )
        strangers = sorted(name for name in said.listed - known.keys() if said.lasts(name) > now)
        proof = Proof(
            f"The guard of role {_role_name(target)} was read: it lists {len(said.listed)}, {len(windows)} are known.",
            now,
            {"role": _role_name(target), "digest": _digest(document), "wanted": digest(render(windows))},
        )
        is_wider = said.allows or said.is_open or bool(strangers)
        sentences = (
            (said.is_open, "It lets everybody through who can have a session."),
            (said.allows, "It allows something. It may only deny."),
            (bool(strangers), f"It lets {len(strangers)} through whom nobody granted anything."),
            (bool(weaker), f"It ends {len(weaker)} too late."),
            (bool(stricter), f"It denies {len(stricter)} that shall still run."),
        )
        differences = tuple(sentence for is_so, sentence in sentences if is_so)
        return Examination(proof, weaker, stricter, is_wider=is_wider, differences=differences)

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del target, documents  # the guard bites in sessions of the tier role only, which nobody holds standing
        return False

    def session_for(self, target: Target) -> timedelta:
        del target  # every session carries the date of its end
        return timedelta(0)

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        text = "Each time you ask, a session is made for you. It lasts an hour, or until your access ends."
        return (WayIn("note", f"Sessions in {target.entitlement_name}", text),)

    def _role(self, target: Target) -> Mapping[str, Any]:
        found = self._reader.call(target.account_id, "iam", "get_role", RoleName=_role_name(target))["Role"]
        return dict(found)

    def _require_sound(self, target: Target, role: Mapping[str, Any]) -> None:
        """The role is the one that was read, and only the broker gets in, within the boundary, for an hour at most."""
        config, hub = self._config, self._reader.session.hub()
        broker = self._reader.session.role_arn(hub.account_id, "broker_role")
        boundary = f"arn:{hub.partition}:iam::{target.account_id}:policy{config['boundary_policy']}"
        known = target.entitlement_attributes.get("unique_id")
        wrong = why_not_trusted(role.get("AssumeRolePolicyDocument"), broker)
        if role["Path"] != TIER_PATH or role["Arn"] != target.entitlement_external_id.removeprefix("tier:"):
            wrong = f"it does not stand under {TIER_PATH}"
        elif known and role["RoleId"] != known:
            wrong = "it was deleted and made again since it was last read"
        elif (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn") != boundary:
            wrong = f"its boundary is not {boundary}"
        elif role.get("MaxSessionDuration", SESSION_SECONDS) != SESSION_SECONDS:
            wrong = "its sessions may last longer than an hour"
        if wrong:
            raise Refused(f"Role {role['RoleName']} cannot be used: {wrong}. Put it right, then sync.")

    def _require_not_admin(self, target: Target, role: Mapping[str, Any], inline: Mapping[str, Any]) -> None:
        """One who may change everything may change the guard. Judged by what the role holds now, not at the last sync."""
        managed, name = ManagedPolicies(self._reader), role["RoleName"]
        attached = self._reader.items(
            target.account_id, "iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name
        )
        found = [managed.document(target.account_id, policy["PolicyArn"]) for policy in attached]
        boundary = managed.document(target.account_id, role["PermissionsBoundary"]["PermissionsBoundaryArn"])
        privilege = privilege_of(
            [
                *(NamedDocument(key, one) for key, one in inline.items() if key != GUARD),
                *(NamedDocument(one.name, one.document) for one in found),
            ],
            boundary=NamedDocument(boundary.name, boundary.document),
        )
        if privilege.level in ("admin", "unknown"):
            raise Refused(
                f"Role {name} is too powerful to be opened this way. {privilege.reason} Use a role per grant."
            )

    def _inline(self, target: Target, name: str) -> dict[str, Any]:
        names = self._reader.items(target.account_id, "iam", "list_role_policies", "PolicyNames", RoleName=name)
        return {one: self._document(target, name, one) for one in names}

    def _guard(self, target: Target) -> Any | None:
        try:
            return self._document(target, _role_name(target), GUARD)
        except Gone:
            return None

    def _document(self, target: Target, name: str, policy_name: str) -> Any:
        answer = self._reader.call(target.account_id, "iam", "get_role_policy", RoleName=name, PolicyName=policy_name)
        return answer["PolicyDocument"]


@dataclass(frozen=True, slots=True)
class _Said:
    """What a guard says. `is_open`: nothing in it denies those without a grant."""

    listed: frozenset[str]
    ends: Mapping[str, datetime]
    is_open: bool
    allows: bool

    def lasts(self, name: str) -> datetime:
        """Until when it lets this grant through."""
        if name not in self.listed and not self.is_open:
            return _NEVER
        return self.ends.get(name, _FOR_EVER)


def _said_by(document: Any) -> _Said:
    try:
        statements = parse(document).statements if document else ()
    except MalformedPolicy:
        statements = ()
    lists: list[frozenset[str]] = []
    ends: dict[str, datetime] = {}
    for one in filter(_denies_everything, statements):
        said = {(condition.operator, condition.key): condition.values for condition in one.conditions}
        if not said:
            lists.append(frozenset())
        elif said.keys() == {_WITHOUT}:
            lists.append(frozenset(said[_WITHOUT]))
        elif said.keys() == {_OF, _SINCE} and len(said[_SINCE]) == 1 and _STAMP.fullmatch(said[_SINCE][0]):
            end = datetime.fromisoformat(said[_SINCE][0])
            ends.update({name: min(end, ends.get(name, end)) for name in said[_OF]})
    listed = frozenset.intersection(*lists) if lists else frozenset()
    return _Said(listed, ends, is_open=not lists, allows=any(one.effect == "Allow" for one in statements))


def _end_of(window: Window) -> datetime:
    return whole_second(window.not_after)


def _from(end: str, names: list[str]) -> dict[str, Any]:
    return {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"StringEquals": {TAG_KEY: names}, "DateGreaterThanEquals": {"aws:CurrentTime": end}},
    }


def _require_room(name: str, others: int, document: Any) -> None:
    needed = others + size(document)
    if needed > LIMIT:
        raise Refused(
            f"The inline policies of role {name} would need {needed:,} of {LIMIT:,} characters. "
            "Wait until other grants of this role have ended, or end one."
        )


def _role_name(target: Target) -> str:
    found = _ROLE.fullmatch(target.entitlement_external_id.removeprefix("tier:"))
    if not found or found[1] != target.account_id:
        raise Refused(f"{target.entitlement_name} is not a tier role of account {target.account_id}. Sync first.")
    return found[2]


def _reference(target: Target) -> str:
    if not _REFERENCE.fullmatch(target.reference):
        raise Refused(f"{target.reference[:40]!r} is not the name of a grant.")
    return target.reference


def _principals(principal: Any) -> list[str]:
    """Whom a trust statement names, when those are AWS principals alone; an empty list never equals a broker."""
    if not isinstance(principal, Mapping) or set(principal) != {"AWS"}:
        return []
    found = principal["AWS"]
    return [found] if isinstance(found, str) else [str(one) for one in found]


def _comparable(document: Any) -> str:
    if document is None:
        raise Unproven("The guard is not there after it was written.")
    try:
        return canonical(document)
    except MalformedPolicy as error:
        raise Unproven(f"The guard cannot be read back: {error}") from error


def _digest(document: Any) -> str:
    try:
        return digest(document) if document else ""
    except MalformedPolicy:
        return "unreadable"


def _denies_everything(one: Statement) -> bool:
    is_whole = (one.actions, one.resources) == (("*",), ("*",)) and not (one.is_not_action or one.is_not_resource)
    return one.effect == "Deny" and is_whole
