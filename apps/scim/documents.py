"""Rows as SCIM resources, and resources as rows. What a row cannot hold is refused in SCIM's own words, never cut: two
names could become one."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scim2_models import InvalidValueException, Meta, Resource

from apps.inventory.sync.rows import UNPRINTABLE
from apps.scim.models import ScimGroup, ScimMember, ScimUser
from apps.scim.protocol import GROUP, USER, EnterpriseUser, Groups, Users

LONGEST = 254
LONGEST_PAYLOAD = 60_000
MOST_EMAILS = 20
# Not kept: what this server says itself, what lives in tables of its own, and secrets.
NOT_KEPT = ("id", "meta", "groups", "members", "password")
# Refused: what turns round what follows it. What else does not show (a joiner, a soft hyphen) is kept as it was sent.
DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Values = dict[str, Any]


def key_of(value: str) -> str:
    """Text as SCIM compares it where letter case does not count: the same as scim2_models' own comparison."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", value).lower())


def user_values(resource: Any) -> Values:
    """The columns of a user's row; `active` is None where nothing is said of it. Raises SCIM's invalidValue."""
    job = resource[EnterpriseUser]
    emails = [entry.value for entry in resource.emails or [] if entry.value]
    if len(emails) > MOST_EMAILS:
        raise InvalidValueException(detail=f"A user has at most {MOST_EMAILS} e-mail addresses here")
    manager = job.manager.value if job and job.manager else ""
    return {
        "external_id": _line(resource.external_id, "externalId"),
        "user_name": (name := _line(resource.user_name, "userName", required=True)),
        "user_name_key": key_of(name),
        "display_name": (display := _line(resource.display_name, "displayName")),
        "display_name_key": key_of(display),
        "email_keys": sorted({key_of(_line(email, "emails.value")) for email in emails}),
        "active": resource.active,
        "title": _line(resource.title, "title", longest=200),
        "department": _line(job.department if job else "", "department", longest=200),
        "manager_key": _line(manager, "manager.value"),
        "payload": _payload(resource),
    }


def group_values(resource: Any) -> Values:
    """The columns of a group's row, without its members."""
    return {
        "external_id": _line(resource.external_id, "externalId"),
        "display_name": (name := _line(resource.display_name, "displayName", required=True)),
        "display_name_key": key_of(name),
        "payload": _payload(resource),
    }


def users(rows: Sequence[ScimUser], *, with_groups: bool = True) -> list[Resource[Any]]:
    """Users as SCIM shows them; the groups they are in are read in one query."""
    groups: dict[int, list[Values]] = {}
    if with_groups and rows:
        members = ScimMember.objects.filter(user__in=[row.pk for row in rows]).select_related("group")
        for member in members:
            key = str(member.group.key)
            shown = {"value": key, "$ref": f"Groups/{key}", "display": member.group.display_name, "type": "direct"}
            groups.setdefault(member.user_id or 0, []).append(shown)
    return [_resource(Users, USER, row, {"groups": groups[row.pk]} if row.pk in groups else {}) for row in rows]


def groups(rows: Sequence[ScimGroup], *, with_members: bool = True) -> list[Resource[Any]]:
    """Groups as SCIM shows them, with their members in one query."""
    members: dict[int, list[Values]] = {}
    if with_members and rows:
        found = ScimMember.objects.filter(group__in=[row.pk for row in rows])
        for group, display, user, user_name, nested, name in found.values_list(
            "group_id", "display", "user__key", "user__user_name", "nested__key", "nested__display_name"
        ).iterator(chunk_size=2_000):
            kind, key, own = (USER, user, user_name) if user else (GROUP, nested, name)
            shown = {"value": str(key), "$ref": f"{kind}s/{key}", "display": display or own, "type": kind}
            members.setdefault(group, []).append(shown)
    return [_resource(Groups, GROUP, row, {"members": members[row.pk]} if row.pk in members else {}) for row in rows]


def members_of(resource: Any) -> dict[str, str]:
    """The ids that a group names as members, and what it calls them; without a name their own is shown."""
    named = [member for member in resource.members or [] if member.value]
    return {member.value: _line(member.display, "members.display") for member in named}


def _resource(
    model: type[Resource[Any]], name: str, row: ScimUser | ScimGroup, more: Mapping[str, Any]
) -> Resource[Any]:
    resource = model.model_validate({**row.payload, **more, "id": str(row.key)})
    resource.meta = Meta(
        resource_type=name, created=row.created_at, last_modified=row.modified_at, version=f'W/"{row.version}"'
    )
    return resource


def _payload(resource: Resource[Any]) -> Values:
    dumped = resource.model_dump(mode="json")
    kept = {name: value for name, value in dumped.items() if name not in NOT_KEPT}
    text = json.dumps(kept, ensure_ascii=False)
    if len(text) > LONGEST_PAYLOAD:
        raise InvalidValueException(detail=f"It is longer than {LONGEST_PAYLOAD:,} characters")
    if any(_is_hidden(letter) and letter not in "\t\r\n" for said in _texts(kept) for letter in said):
        raise InvalidValueException(detail="It holds control characters")
    return kept


def _line(value: Any, name: str, *, longest: int = LONGEST, required: bool = False) -> str:
    said = str(value or "")
    if len(said) > longest:
        raise InvalidValueException(detail=f"{name} is longer than {longest} characters")
    if required and not said.strip():
        raise InvalidValueException(detail=f"{name} is empty")
    if any(map(_is_hidden, said)):
        raise InvalidValueException(detail=f"{name} holds control characters")
    return said


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _is_hidden(letter: str) -> bool:
    """It does not print, or turns what follows round."""
    return letter in DIRECTION or unicodedata.category(letter) in UNPRINTABLE
