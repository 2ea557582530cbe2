"""The guard: a policy in every account that can only deny, and ends what grants opened there (aws.md §1.2).

Permission sets that may be granted for a time reference the customer-managed policy `/jit/jit-guard`. Its document is
written whole from all windows of the account, never edited: IAM has no compare-and-swap. One statement denies everything
to the people of one permission set from one second on, by AWS's own clock. Its statements cannot widen anything.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from apps.connectors.aws.policy.documents import MalformedPolicy, canonical, digest
from apps.connectors.aws.session import Api
from apps.connectors.base import Proof, Target, Window, whole_second
from apps.connectors.errors import Gone, Refused, Unproven

LIMIT = 6144  # characters of a managed policy; IAM does not count white space
KEPT_VERSIONS = 3  # of the five that IAM allows: a retried write must not find the shelf full
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # before any grant: a Deny from here on denies now, whatever a clock says

EVERYBODY = EVERYTHING = "*"  # the principal's external id, or the permission set's name, of an emergency stop

Line = tuple[str, str]  # the name of a permission set, the id of a person
Group = tuple[list[str], list[str]]  # permission sets and people, each of whom the statement denies each of them
STOPS: tuple[Line, ...] = (
    (EVERYTHING, EVERYBODY),
    (EVERYTHING, "x" * 47),
    ("x" * 32, EVERYBODY),
)  # the longest of each

_USER_ID = re.compile(r"[A-Za-z0-9-]{1,47}")
_PERMISSION_SET = re.compile(r"[\w+=,.@-]{1,32}", re.ASCII)


def stamp(at: datetime) -> str:
    """An instant as policies spell it: UTC, rounded down to the second."""
    return whole_second(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def size(document: Any) -> int:
    """The characters that IAM counts."""
    return sum(not letter.isspace() for letter in json.dumps(document))


def render(windows: Sequence[Window], partition: str = "aws") -> dict[str, Any]:
    """The guard's document for all windows of one account. Without windows it is the resting shape, which denies nobody.

    People with the same permission set and the same end share a statement. The end of a window that is being ended is
    `LONG_AGO`. A target of `EVERYBODY` or `EVERYTHING` is an emergency stop; what it denies already needs no statement of
    its own. Raises `Refused` for names that would mean something else inside a policy.
    """
    ends = _ends(windows)
    closed = {line for line, end in ends.items() if end == stamp(LONG_AGO)}
    still_open = {line: end for line, end in ends.items() if line not in closed}
    plain, crossed = _by_permission_set(closed), _by_people(closed)
    shorter = min(plain, crossed, key=lambda groups: size(_document(partition, {stamp(LONG_AGO): groups})))
    return _document(partition, {**_open_groups(still_open), stamp(LONG_AGO): shorter})


def require_room(windows: Sequence[Window], partition: str = "aws") -> None:
    """Raise `Refused` when the guard could not hold these windows, still end each of them early, and then take one
    emergency stop of every shape.

    An early end moves a person into another statement, so every permission set keeps room for one more. Statements that
    permission sets share are counted as if they did not: with the next early end they may have to part.
    """
    ends = _ends(windows)
    document = _document(partition, _open_groups(ends))
    names = sorted({name for name, _ in ends})
    spare = sum(size(_statement(partition, [name], stamp(LONG_AGO), [])) + 1 for name in names)
    stops = sum(size(_statement(partition, [name], stamp(LONG_AGO), [person])) + 1 for name, person in STOPS)
    _require_fits(size(document) + spare + stops)


def is_stop(target: Target) -> bool:
    """Whether this is no access at all but an emergency stop: everybody, or everything that the guard reaches."""
    return EVERYBODY in (target.principal_external_id, target.entitlement_attributes.get("permission_set_name"))


def _ends(windows: Sequence[Window]) -> dict[Line, str]:
    """From when on whom what is denied, without what an emergency stop denies as early anyway."""
    ends: dict[Line, str] = {}
    for window in windows:
        line = (_permission_set(window.target), _user_id(window.target))
        end = stamp(window.not_after if window.is_open else LONG_AGO)
        ends[line] = min(end, ends.get(line, end))
    stops = {line: end for line, end in ends.items() if EVERYBODY in line}
    return {
        line: end
        for line, end in ends.items()
        if not any(its_end <= end and _covers(stop, line) for stop, its_end in stops.items())
    }


def _covers(stop: Line, line: Line) -> bool:
    """Whether a stop reaches all that another line reaches."""
    return stop != line and all(wide in (narrow, EVERYBODY) for wide, narrow in zip(stop, line, strict=True))


def _open_groups(ends: Mapping[Line, str]) -> dict[str, list[Group]]:
    lines: dict[str, set[Line]] = defaultdict(set)
    for line, end in ends.items():
        lines[end].add(line)
    return {end: _by_permission_set(found) for end, found in lines.items()}


def _by_permission_set(lines: Iterable[Line]) -> list[Group]:
    """One group for each permission set."""
    people: dict[str, list[str]] = defaultdict(list)
    for name, person in sorted(lines):
        people[name].append(person)
    return [([name], found) for name, found in people.items()]


def _by_people(lines: Iterable[Line]) -> list[Group]:
    """One group for all people who have exactly the same permission sets: shorter where people have several."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, person in sorted(lines):
        names[person].append(name)
    people: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for person, found in names.items():
        people[tuple(found)].append(person)
    return [(list(found), sorted(those)) for found, those in sorted(people.items())]


def _document(partition: str, groups: Mapping[str, Sequence[Group]]) -> dict[str, Any]:
    found = sorted((names, end, people) for end, those in groups.items() for names, people in those)
    statements = [_statement(partition, names, end, people) for names, end, people in found]
    return {"Version": "2012-10-17", "Statement": [_anchor(), *statements]}


def _require_fits(needed: int) -> None:
    if needed > LIMIT:
        raise Refused(
            f"The guard policy of this account is full ({needed} of {LIMIT} characters). "
            "Wait until other grants in this account have ended, or end one."
        )


def arn_in(api: Api, account_id: str) -> str:
    """Where the guard of an account is."""
    return f"arn:{api.session.hub().partition}:iam::{account_id}:policy{api.session.config['guard_policy']}"


def versions(api: Api, account_id: str) -> list[dict[str, Any]]:
    """The guard's versions, oldest first. Raises `Refused` where nobody installed it."""
    arn = arn_in(api, account_id)
    try:
        found = list(api.items(account_id, "iam", "list_policy_versions", "Versions", PolicyArn=arn))
    except Gone as error:
        raise Refused(f"Account {account_id} has no guard policy {arn}. Install it there first.") from error
    return sorted(found, key=lambda version: int(version["VersionId"].removeprefix("v")))


def write(reader: Api, writer: Api, account_id: str, windows: Sequence[Window]) -> Proof:
    """Write the guard from all windows of the account, and read back that it is in force.

    Always writes, also when nothing seems to have changed: a stale read could show an older document that happens to be
    equal, and a Deny that was skipped for it would be missing. Raises `Refused` before anything is written, `Unproven`
    when what is in force afterwards is not what was written.
    """
    document = render(windows, reader.session.hub().partition)
    _require_fits(size(document))
    arn = arn_in(reader, account_id)
    _make_room(writer, account_id, arn, versions(reader, account_id))
    made = writer.call(
        account_id,
        "iam",
        "create_policy_version",
        PolicyArn=arn,
        PolicyDocument=json.dumps(document, separators=(",", ":")),
        SetAsDefault=True,
    )
    version_id = made["PolicyVersion"]["VersionId"]
    _require_in_force(reader, account_id, arn, version_id, document)
    return Proof(
        f"Guard policy {arn} ({version_id}) is in force with ends for {_whom(windows)}.",
        datetime.now(UTC),
        {
            "policy_arn": arn,
            "version_id": version_id,
            "digest": digest(document),
            "size": size(document),
            "ends": sorted(
                [_user_id(window.target), _permission_set(window.target), stamp(window.not_after), window.is_open]
                for window in windows
            ),
        },
    )


def _whom(windows: Sequence[Window]) -> str:
    people = {_user_id(window.target) for window in windows}
    if EVERYBODY in people:
        return "everybody"
    return f"{len(people)} {'person' if len(people) == 1 else 'people'}"


def _make_room(writer: Api, account_id: str, arn: str, found: Sequence[dict[str, Any]]) -> None:
    spare = [version["VersionId"] for version in found if not version["IsDefaultVersion"]]
    for version_id in spare[: max(0, len(found) - KEPT_VERSIONS)]:
        try:
            writer.call(account_id, "iam", "delete_policy_version", PolicyArn=arn, VersionId=version_id)
        except Gone:
            continue


def _require_in_force(reader: Api, account_id: str, arn: str, version_id: str, document: Any) -> None:
    default = next((v["VersionId"] for v in versions(reader, account_id) if v["IsDefaultVersion"]), "")
    if default != version_id:
        raise Unproven(f"Guard policy {arn} shows version {default or 'none'} in force, not {version_id}.")
    try:
        answer = reader.call(account_id, "iam", "get_policy_version", PolicyArn=arn, VersionId=version_id)
        is_equal = canonical(answer["PolicyVersion"]["Document"]) == canonical(document)
    except (Gone, MalformedPolicy) as error:
        raise Unproven(f"Guard policy {arn} ({version_id}) cannot be read back: {error}") from error
    if not is_equal:
        raise Unproven(f"Guard policy {arn} ({version_id}) reads back differently from what was written.")


def _anchor() -> dict[str, Any]:
    """Denies nobody: it keeps the document valid when there is nothing to end."""
    return {
        "Sid": "Anchor",
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"DateLessThan": {"aws:CurrentTime": stamp(LONG_AGO)}},
    }


def _statement(partition: str, permission_sets: Sequence[str], end: str, user_ids: Sequence[str]) -> dict[str, Any]:
    """`identitystore:UserId` names a person for good; a statement about everybody does not ask for it. The role's suffix is
    not known before AWS makes it, so the pattern also fits a permission set whose name goes on after an underscore; that
    can only deny more.
    """
    path = f"arn:{partition}:iam::*:role/aws-reserved/sso.amazonaws.com*/AWSReservedSSO_"
    roles = [path + ("*" if name == EVERYTHING else f"{name}_*") for name in permission_sets]
    whom = {} if EVERYBODY in user_ids else {"StringEquals": {"identitystore:UserId": list(user_ids)}}
    return {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {
            **whom,
            "ArnLike": {"aws:PrincipalArn": roles[0] if len(roles) == 1 else roles},
            "DateGreaterThanEquals": {"aws:CurrentTime": end},
        },
    }


def _user_id(target: Target) -> str:
    if target.principal_external_id != EVERYBODY and not _USER_ID.fullmatch(target.principal_external_id):
        raise Refused(f"{target.principal_external_id[:60]!r} is not the id of a person in Identity Center.")
    return target.principal_external_id


def _permission_set(target: Target) -> str:
    name = str(target.entitlement_attributes.get("permission_set_name", ""))
    if name != EVERYTHING and not _PERMISSION_SET.fullmatch(name):
        raise Refused(f"{name[:60]!r} is not the name of a permission set. Sync the directory first.")
    return name
