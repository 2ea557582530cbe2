"""Opens a port of a security group to one source for a time, and has AWS's scheduler close it.

EC2 keeps one rule for one permission, whoever it was opened for. So everybody whose grant needs it stands on the rule
itself, as a tag; it ends when the last of them ends, and its schedule, in the same account and Region, says when that is.
The schedule is written and read back before the rule. A rule that was there before us is never touched.

A rule lets a source in, not a person: who comes through it is for what stands behind it to find out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from apps.connectors.aws import schedules
from apps.connectors.aws.guard import stamp
from apps.connectors.aws.ingress import Rule, rule_of
from apps.connectors.aws.schedules import Ending
from apps.connectors.aws.session import Api, Role, session
from apps.connectors.base import Examination, Look, Promise, Proof, Target, Ticket, WayIn, Window
from apps.connectors.errors import Gone, Refused, Unproven

CALL = "ec2:revokeSecurityGroupIngress"
MANAGED_BY, OURS = "jit:managed-by", "gatehouse"
HELD_BY = "jit:held-by:"
MOST_HOLDERS = 40  # of the 50 tags that EC2 allows; the others are ours and the account's own
RULES_PER_GROUP = 60  # AWS's quota where nobody raised it


@dataclass(frozen=True, slots=True)
class Found:
    """The rule as EC2 shows it now, and who it is open for."""

    rule_id: str
    is_ours: bool
    holders: frozenset[str]


class SecurityGroupRule:
    """One ingress rule, shared by all grants that need it."""

    promise = Promise(
        ends_by=(
            "A schedule of AWS's own in the same account and Region: it takes the rule away within a minute of the end, "
            "and tries again every quarter of an hour for a day, whether or not Gatehouse runs (unverified live)."
        ),
        ends_early_by="The rule is taken away.",
        read_back_by="The rules of the security group, and the schedule.",
        survives="Connections that are open when the rule goes: AWS lets them run until they close or fall idle.",
        limits=(
            "A security group holds 60 rules of one direction unless AWS raised it.",
            "One rule can be open for 40 people at a time.",
            "A source is a network of /16 (IPv6: /48) or narrower, or a security group of the same account.",
        ),
        failures=(
            "The same rule stands there already, and not from Gatehouse: refused, and never taken away.",
            "The account has no schedule group or role for our schedules: refused before anything is written.",
            "The rule was taken away outside Gatehouse: it is shown as gone.",
        ),
        holders=("idc_user",),
        opens=("network_rule",),
        may_be_privileged=False,
        denies=False,
    )

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def check(self, target: Target, windows: Sequence[Window]) -> None:
        if target.principal_kind != "idc_user":
            raise Refused("Only a person of Identity Center can ask for a network opening.")
        rule = self._rule(target)
        _require_few(windows)
        schedules.require_deployed(self._reader(rule), rule.account_id)
        groups = [one for one in (rule.group_id, rule.source) if one.startswith("sg-")]
        self._reader(rule).call(rule.account_id, "ec2", "describe_security_groups", GroupIds=groups)
        shown = self._shown(rule)
        found = _find(rule, shown)
        if found is None:
            self._require_place(rule, shown)
        else:
            _require_ours(rule, found)

    def shared_key(self, target: Target) -> str:
        return self._rule(target).key

    def lock_key(self, target: Target) -> str:
        return self.shared_key(target)

    def enforce(self, target: Target, windows: Sequence[Window]) -> Proof:
        """Schedule the end of the last open window; the rule stays for nobody else. Without one, rule and schedule go."""
        rule = self._rule(target)
        strangers = [window.target for window in windows if self._rule(window.target) != rule]
        if strangers:
            raise ValueError(f"windows of other rules than {rule}")
        _require_few(windows)
        still_open = {holder(window.target): window.not_after for window in windows if window.is_open}
        if not still_open:
            self._keep(rule, ())
            ended = schedules.remove(self._reader(rule), self._writer(rule), _ending(rule))
            return Proof(f"{rule} is closed. {ended.what}", datetime.now(UTC), _facts(rule) | dict(ended.facts))
        scheduled = schedules.write(self._reader(rule), self._writer(rule), _ending(rule), max(still_open.values()))
        self._keep(rule, still_open)
        ends = {name: stamp(at) for name, at in sorted(still_open.items())}
        what = f"{rule} is open for {len(still_open)} at most. {scheduled.what}"
        return Proof(what, datetime.now(UTC), _facts(rule) | {"ends": ends} | dict(scheduled.facts))

    def open(self, target: Target) -> Ticket:
        """Reads first: a rule that is there for somebody else gets another name on it."""
        rule, mine = self._rule(target), holder(target)
        found = self._found(rule)
        if found is None:
            self._authorize(rule, mine, target)
        else:
            _require_ours(rule, found)
            if mine not in found.holders:
                self._join(rule, found, mine, target)
        found = self._found(rule)
        if found is None or mine not in found.holders:
            raise Unproven(f"AWS does not show {rule} for {target.principal_name} yet.")
        return Ticket("done")

    def close(self, target: Target) -> Ticket:
        """Take this holder's name off the rule, and the rule away when it was the last."""
        rule = self._rule(target)
        found = self._found(rule)
        if found and found.is_ours:
            self._keep(rule, found.holders - {holder(target)})
        return Ticket("done")

    def status(self, target: Target, ticket: Ticket) -> Ticket:
        """EC2 answers when it has done it, so there is nothing to wait for."""
        del target
        return ticket

    def look(self, target: Target) -> Look:
        rule = self._rule(target)
        shown = self._shown(rule)
        found = _find(rule, shown)
        is_present = bool(found and found.is_ours and holder(target) in found.holders)
        schedule = schedules.read(self._reader(rule), _ending(rule)) if is_present else None
        start = schedule.get("StartDate") if schedule else None
        facts = _facts(rule) | {
            "rule_id": found.rule_id if found else "",
            "open_for": len(found.holders) if found else 0,
            "is_scheduled": schedule is not None,
            "ends": stamp(start) if start else "",
            "same_let_in_by": sorted(
                one["SecurityGroupRuleId"] for one in shown if rule.is_within(one) and not rule.is_the_same_as(one)
            ),
        }
        words = "is open" if is_present else "is not open"
        what = f"AWS shows that {rule} {words} for {target.principal_name}."
        if found and not is_present:
            what += (
                " It is open for others." if found.is_ours else " The same rule stands there, and not from Gatehouse."
            )
        return Look(is_present, Proof(what, datetime.now(UTC), facts))

    def examine(self, target: Target, windows: Sequence[Window]) -> Examination:
        """The schedule against the last open window, and who stands on the rule. A rule that is not there gives nothing."""
        rule = self._rule(target)
        found, ending = self._found(rule), _ending(rule)
        still_open = {holder(window.target): window for window in windows if window.is_open}
        schedule = schedules.read(self._reader(rule), ending)
        facts = _facts(rule) | {"rule_id": found.rule_id if found else "", "is_scheduled": schedule is not None}
        proof = Proof(f"{rule} was read, with its schedule.", datetime.now(UTC), facts)
        if found is None or not found.is_ours:
            return Examination(proof)
        strangers = found.holders - still_open.keys()
        wrong: tuple[str, ...] = ()
        if still_open:
            end = max(window.not_after for window in still_open.values())
            wrong = schedules.weaknesses(self._reader(rule), ending, end, schedule)
        more = (f"{rule} is open for somebody whom no grant lets in.",) if strangers or not found.holders else ()
        weaker = tuple(still_open.values()) if wrong else ()
        return Examination(proof, weaker, is_wider=bool(more), differences=(*wrong, *more))

    def would_cut(self, target: Target, documents: Sequence[Any]) -> bool:
        del target, documents  # a rule denies nothing
        return False

    def session_for(self, target: Target) -> timedelta:
        """A connection that is open is bounded by nothing that we could name; `promise.survives` says so."""
        del target
        return timedelta(0)

    def ways_in(self, target: Target) -> tuple[WayIn, ...]:
        rule = self._rule(target)
        what = f"Connect with {rule.ports} from {rule.source} to what stands behind {rule.group_id} in {rule.region}."
        return (WayIn("note", "Where it is open", what),)

    # ---- what is there

    def _rule(self, target: Target) -> Rule:
        return rule_of(target.account_id, target.entitlement_attributes, self._config)

    def _reader(self, rule: Rule) -> Api:
        return self._api(rule, "reader_role")

    def _writer(self, rule: Rule) -> Api:
        return self._api(rule, "provisioner_role")

    def _api(self, rule: Rule, role: Role) -> Api:
        """In the rule's own Region, which need not be the connection's."""
        return Api(session({**self._config, "region": rule.region}), role)

    def _shown(self, rule: Rule) -> list[dict[str, Any]]:
        filters = [{"Name": "group-id", "Values": [rule.group_id]}]
        reader = self._reader(rule)
        return list(
            reader.items(rule.account_id, "ec2", "describe_security_group_rules", "SecurityGroupRules", Filters=filters)
        )

    def _found(self, rule: Rule) -> Found | None:
        return _find(rule, self._shown(rule))

    def _require_place(self, rule: Rule, shown: Sequence[Mapping[str, Any]]) -> None:
        most = int(self._config.get("rules_per_group", RULES_PER_GROUP))
        there = sum(not one.get("IsEgress") for one in shown)
        if there >= most:
            raise Refused(
                f"Security group {rule.group_id} has {there} of {most} rules. Take one out, or have AWS raise the quota "
                "and set rules_per_group for the connection."
            )

    # ---- writing

    def _keep(self, rule: Rule, holders: Iterable[str]) -> None:
        """The rule stays for these of its holders and nobody else; for none of them it goes. Never adds anybody."""
        found = self._found(rule)
        if found is None or not found.is_ours:
            return
        others = found.holders - set(holders)
        if others == found.holders:
            self._revoke(rule)
        elif others:
            tags = [{"Key": f"{HELD_BY}{name}"} for name in sorted(others)]
            self._writer(rule).call(rule.account_id, "ec2", "delete_tags", Resources=[found.rule_id], Tags=tags)
            left = self._found(rule)
            if left and left.holders & others:
                raise Unproven(f"AWS still shows {rule} for somebody whose time is over.")

    def _authorize(self, rule: Rule, mine: str, target: Target) -> None:
        """Who it is for stands on it from the first instant on."""
        tags = {MANAGED_BY: OURS, f"{HELD_BY}{mine}": _plain(target.principal_external_id)}
        self._writer(rule).call(
            rule.account_id,
            "ec2",
            "authorize_security_group_ingress",
            GroupId=rule.group_id,
            IpPermissions=[rule.permission()],
            TagSpecifications=[
                {
                    "ResourceType": "security-group-rule",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
        )

    def _join(self, rule: Rule, found: Found, mine: str, target: Target) -> None:
        tags = [{"Key": f"{HELD_BY}{mine}", "Value": _plain(target.principal_external_id)}]
        try:
            self._writer(rule).call(rule.account_id, "ec2", "create_tags", Resources=[found.rule_id], Tags=tags)
        except Gone as error:  # it ended for everybody else just now
            raise Unproven(f"{rule} was taken away meanwhile. It is opened anew.") from error

    def _revoke(self, rule: Rule) -> None:
        with suppress(Gone):  # what AWS shows now decides
            self._writer(rule).call(
                rule.account_id,
                "ec2",
                "revoke_security_group_ingress",
                GroupId=rule.group_id,
                IpPermissions=[rule.permission()],
            )
        if self._found(rule) is not None:
            raise Unproven(f"{rule} is still there after it was taken away.")


def holder(target: Target) -> str:
    """Who the rule is open for, and for which entitlement, as a word for a tag's key."""
    pair = f"{target.principal_external_id}|{target.entitlement_external_id}"
    return sha256(pair.encode()).hexdigest()[:24]


def _find(rule: Rule, shown: Iterable[Mapping[str, Any]]) -> Found | None:
    one = next((one for one in shown if rule.is_the_same_as(one)), None)
    if one is None:
        return None
    tags = {tag["Key"]: tag.get("Value") for tag in one.get("Tags") or ()}
    holders = frozenset(key.removeprefix(HELD_BY) for key in tags if key.startswith(HELD_BY))
    return Found(one["SecurityGroupRuleId"], tags.get(MANAGED_BY) == OURS, holders)


def _require_ours(rule: Rule, found: Found) -> None:
    if not found.is_ours:
        raise Refused(
            f"{rule} is open already, and not by Gatehouse ({found.rule_id}). There is nothing to ask for: it stays open "
            "until somebody takes it away in AWS."
        )


def _require_few(windows: Sequence[Window]) -> None:
    if len({holder(window.target) for window in windows if window.is_open}) > MOST_HOLDERS:
        raise Refused(f"This is open for {MOST_HOLDERS} people already. Wait until one of their grants has ended.")


def _ending(rule: Rule) -> Ending:
    return Ending(
        rule.account_id,
        schedules.name_of("ingress", rule.key),
        CALL,
        {"GroupId": rule.group_id, "IpPermissions": [rule.permission()]},
    )


def _facts(rule: Rule) -> dict[str, Any]:
    return {"account": rule.account_id, "region": rule.region, "group_id": rule.group_id, "rule": str(rule)}


def _plain(text: str) -> str:
    """A tag's value: what EC2 allows there, of what it could be."""
    return "".join(letter for letter in text if letter.isascii() and (letter.isalnum() or letter in "-_.:/=+@"))[:256]
