"""Compares the guard of an account with what it should say (aws.md §7, drift).

The guard only denies. So it is weaker where somebody whom it should end is not denied in time, stricter where it denies
more than it should, and wider where it allows anything at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from apps.connectors.aws import guard
from apps.connectors.aws.policy.documents import MalformedPolicy, Statement, canonical, digest, parse
from apps.connectors.aws.session import Api
from apps.connectors.base import Examination, Proof, Target, Window
from apps.connectors.errors import Gone, Refused

_PERSON = ("StringEquals", "identitystore:userid")  # without it a statement is about everybody
_ROLE_AND_DATE = (("ArnLike", "aws:principalarn"), ("DateGreaterThanEquals", "aws:currenttime"))
_SHAPE = {_PERSON, *_ROLE_AND_DATE}
_NAME = re.compile(r"AWSReservedSSO_(?:([\w+=,.@-]{1,32})_)?\*$", re.ASCII)  # no name: every permission set

Line = tuple[str, str]  # the pattern of the permission set's roles, and the person's id


@dataclass(slots=True)
class _Read:
    """What a guard says: from when on it denies whom, and what it says beside that."""

    ends: dict[Line, datetime] = field(default_factory=dict)
    other_denies: int = 0
    allows: int = 0
    problem: str = ""
    digest: str = ""


def examine_guard(reader: Api, target: Target, windows: Sequence[Window]) -> Examination:
    """The guard of the target's account against all `windows` of it. One that is missing or cannot be read ends nobody."""
    arn = guard.arn_in(reader, target.account_id)
    read = _read(reader, target.account_id, arn)
    wanted = {line: (window, end) for window in windows for line, end in _ends_of(_statement_of(reader, window))}
    weaker = tuple(window for line, (window, end) in wanted.items() if not _ends_by(read, line, end))
    stricter = tuple(
        _as_window(target, line, end, wanted.get(line))
        for line, end in sorted(read.ends.items())
        if line not in wanted or end < wanted[line][1]
    )
    proof = Proof(
        f"Guard policy {arn} was read: it ends {len(read.ends)} of {len(windows)}.",
        datetime.now(UTC),
        {"policy_arn": arn, "digest": read.digest, "wanted": digest(_whole(reader, windows))},
    )
    return Examination(
        proof=proof,
        weaker=weaker,
        stricter=stricter,
        is_wider=bool(read.allows),
        differences=tuple(_sentences(arn, read, weaker, stricter)),
    )


def _read(reader: Api, account_id: str, arn: str) -> _Read:
    try:
        default = next((one["VersionId"] for one in guard.versions(reader, account_id) if one["IsDefaultVersion"]), "")
        answer = reader.call(account_id, "iam", "get_policy_version", PolicyArn=arn, VersionId=default)
        document = parse(answer["PolicyVersion"]["Document"])
    except (Refused, Gone) as error:
        return _Read(problem=str(error))
    except MalformedPolicy as error:
        return _Read(problem=f"Guard policy {arn} cannot be read: {error}")
    read = _Read(digest=document.digest)
    anchor = canonical(guard.render([]))
    for statement in document.statements:
        if statement.effect != "Deny":
            read.allows += 1
        elif canonical({"Version": document.version, "Statement": [dict(statement.raw)]}) == anchor:
            continue
        elif not (ends := dict(_ends_of(statement))):
            read.other_denies += 1
        else:
            for line, end in ends.items():
                read.ends[line] = min(end, read.ends.get(line, end))
    return read


def _whole(reader: Api, windows: Sequence[Window]) -> Mapping[str, object]:
    return guard.render(windows, reader.session.hub().partition)


def _statement_of(reader: Api, window: Window) -> Statement:
    return parse(_whole(reader, [window])).statements[1]  # after the anchor


def _ends_of(statement: Statement) -> Iterator[tuple[Line, datetime]]:
    """Whom a statement denies everything, and from when on; nobody, when it is not of the shape that the guard has."""
    said = {(one.operator, one.key): one.values for one in statement.conditions}
    denies_all = (statement.actions, statement.resources) == (("*",), ("*",))
    if not denies_all or statement.is_not_action or statement.is_not_resource or {*said, _PERSON} != _SHAPE:
        return
    people = said.get(_PERSON, (guard.EVERYBODY,))
    roles, dates = (said[key] for key in _ROLE_AND_DATE)
    if len(dates) != 1 or (end := _instant(dates[0])) is None:
        return
    for role in roles:
        for person in people:
            yield (role, person), end


def _instant(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _ends_by(read: _Read, line: Line, wanted: datetime) -> bool:
    """Whether the guard denies it in time, by a statement about it or by a stop that reaches it."""
    role, person = line
    every_role = _NAME.sub("AWSReservedSSO_*", role)
    reaching = ((r, p) for r in (role, every_role) for p in (person, guard.EVERYBODY))
    return any(found <= wanted for found in map(read.ends.get, reaching) if found is not None)


def _as_window(target: Target, line: Line, end: datetime, known: tuple[Window, datetime] | None) -> Window:
    """A line of the guard as the window that `render` would write it for."""
    if known:
        return replace(known[0], not_after=end, is_open=True)
    pattern, person = line
    named = _NAME.search(pattern)
    name = (named[1] or guard.EVERYTHING) if named else ""
    stranger = replace(
        target,
        principal_external_id=person,
        principal_name=person,
        entitlement_external_id=f"{name}@{target.account_id}",
        entitlement_name=name,
        entitlement_attributes={"permission_set_name": name},
        reference="",
    )
    return Window(stranger, end)


def _sentences(arn: str, read: _Read, weaker: Sequence[Window], stricter: Sequence[Window]) -> Iterator[str]:
    if read.problem:
        yield read.problem
    if read.allows:
        yield f"Guard policy {arn} allows something. It may only deny."
    for window in weaker:
        yield f"It does not end {window.target.entitlement_name} of {window.target.principal_name} in time."
    for window in stricter:
        yield f"It denies {window.target.principal_name} {window.target.entitlement_name} earlier than was decided."
    if read.other_denies:
        yield f"Guard policy {arn} denies {read.other_denies} things that Gatehouse did not write."
