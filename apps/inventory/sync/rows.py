"""Records as rows: cleaned, bounded, and with a digest that says whether anything about them changed.

Whatever a record carries was written by somebody outside. Text loses what does not show, which could make a screen say
something else or two names look the same, and everything is cut to what its column holds. What goes into a column of
JSON is canonical JSON already: it is digested and copied into the database as that.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import Any

from django.db import models

from apps.connectors.aws.assessment import version
from apps.connectors.aws.privilege import NamedDocument, privilege_of
from apps.connectors.base import AccountRecord, CredentialRecord, DocumentRecord, EntitlementRecord, PrincipalRecord
from apps.inventory.models import Entitlement
from apps.inventory.models.access import Privilege
from apps.inventory.sync.environments import environment_of

Values = dict[str, Any]

# A condition on the clock, or a way of writing that could hide one (escapes within a text, or an encoded text).
_DATED = ("currenttime", "epochtime", "\\u", '"%')

UNPRINTABLE = frozenset({"Cc", "Cs"})
FORMAT = "Cf"  # direction marks, spaces without a width, soft hyphens, tags
# A joiner shapes what it stands between in these scripts (Arabic to Myanmar, Khmer, Mongolian) and in pictures. Anywhere
# else it only makes two names look the same.
_JOINED = "\u0600-\u109f\u1780-\u18af\u2600-\u27bf\ufe0f\U0001f300-\U0001faff"
_SHAPING = re.compile(f"(?<=[{_JOINED}])[\u200c\u200d](?=[{_JOINED}])")
RESERVED_PATHS = ("/aws-service-role/", "/aws-reserved/")
COMPUTED_LATER = frozenset({Entitlement.Kind.IDC_GROUP, Entitlement.Kind.IAM_GROUP})  # from what the group holds


def text(value: object, limit: int) -> str:
    """One line of at most `limit` characters, with nothing in it that does not print."""
    written = str(value or "")
    if not written.isprintable():
        shaping = {found.start() for found in _SHAPING.finditer(written)}
        written = "".join(
            " " if _is_unprintable(letter) and at not in shaping else letter for at, letter in enumerate(written)
        )
    line = " ".join(written.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def has_hidden(written: str) -> bool:
    """Whether `text` takes something out of it that does not show."""
    return not written.isprintable() and any(map(_is_unprintable, _SHAPING.sub("", written)))


def _is_unprintable(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category == FORMAT or category in UNPRINTABLE


def plain(value: Any) -> Any:
    """`value` as PostgreSQL's jsonb can store it: no NUL, no lone surrogate, nothing but JSON. What is so already, which is
    nearly all of it, is handed back as it is: that is seen from its JSON, much faster than by taking it apart."""
    if type(value) is str:
        return value if value.isascii() and "\0" not in value else _storable(value)
    return value if _as_it_is(value) is not None else _taken_apart(value)


def as_json(value: Any) -> str:
    """`plain(value)` as canonical JSON."""
    if not value and isinstance(value, dict):
        return "{}"
    return _as_it_is(value) or _encode(_taken_apart(value))


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def _as_it_is(value: Any) -> str | None:
    """Its JSON, where it can be stored without a change; None where it must be looked at more closely."""
    try:
        text = _encode(value)
    except (TypeError, ValueError):
        return None
    return None if "\\u0000" in text or "\\ud" in text else text


def _taken_apart(value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, Mapping):
        return {_taken_apart(str(key)): _taken_apart(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_taken_apart(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _storable(str(value))


def _storable(written: str) -> str:
    return written.replace("\0", "").encode("utf-8", "replace").decode()


def stored(document: Any) -> Any:
    """A policy document as it can be kept, whatever it is. One that cannot be kept becomes a text that is no policy."""
    try:
        return plain(document)
    except RecursionError:
        return "Nested too deeply to be kept."


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of a row's values in their order, which are plain but for instants and lengths of time, in hexadecimal."""
    return hashlib.sha256(_encode_row([*values.values()]).encode()).hexdigest()


_encode_row = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_taken_apart).encode


def number(mark: str) -> int:
    """A text as a number that stands for it. Sums of these say whether two sets are equal, in whatever order and in
    however many parts they come."""
    return int.from_bytes(hashlib.sha256(mark.encode()).digest())


def fits(model: type[models.Model], external_id: str) -> bool:
    """Whether this id can be stored whole. An id is never cut: two could become one."""
    if not 0 < len(external_id) <= _longest(model):
        return False
    return external_id.isprintable() or not any(map(_is_unprintable, external_id))


@cache
def _longest(model: type[models.Model]) -> int:
    return getattr(model._meta.get_field("external_id"), "max_length", None) or 0


def resource(record: AccountRecord) -> Values:
    """The provider's part of an account's row. Its owner and a confirmed environment are people's."""
    return {
        "name": text(record.name, 256) or record.external_id,
        "path": text(record.path, 500),
        "email": text(record.email, 254),
        "provider_state": text(record.state, 30),
        "is_management": record.is_management,
        "tags": as_json(record.tags),
        "derived": environment_of(record),
    }


def principal(record: PrincipalRecord, resource_id: int | None) -> Values:
    """A principal's row, without whose face it is."""
    facts = record.attributes
    return {
        "kind": record.kind,
        "resource_id": resource_id,
        "name": text(record.name, 256) or text(record.external_id, 256),
        "is_externally_owned": record.is_externally_owned,
        "is_reserved": is_reserved(record),
        "created_at": record.created_at,
        # Gatehouse's own roles are used by this very reading: that would change with every sync and says nothing.
        "last_used_at": None if facts.get("is_portal") else record.last_used_at,
        "attributes": as_json(facts),
    }


def is_reserved(record: PrincipalRecord) -> bool:
    """Whether AWS made it for itself. The role of one grant is nobody's machine identity either: it is the grant's work,
    and ends with it."""
    facts = record.attributes
    said = facts.get("is_reserved") or facts.get("is_service_linked") or facts.get("is_ours")
    return bool(said) or str(facts.get("path") or "").startswith(RESERVED_PATHS)


def entitlement(record: EntitlementRecord, resource_id: int | None, group_id: int | None) -> Values:
    """An entitlement as its model takes it, with its computed privilege. Its owner is people's."""
    values = facts(record, resource_id, group_id)
    read = {name: json.loads(values[name]) for name in ("documents", "attributes")}
    return values | read | privilege(record)


def facts(record: EntitlementRecord, resource_id: int | None, group_id: int | None) -> Values:
    """An entitlement's row without its privilege, which takes long and follows from the rest."""
    content = _content(record)
    return {
        "kind": record.kind,
        "resource_id": resource_id,
        "group_id": group_id,
        "name": text(record.name, 256) or text(record.external_id, 256),
        "description": text(record.description, 1000),
        "documents": content.documents,
        "session_for": record.session_for,
        "attributes": as_json({**record.attributes, **content.boundary} if content.boundary else record.attributes),
        "is_ours": bool(record.attributes.get("is_ours")),
    }


def mark_of(record: EntitlementRecord, values: Values) -> str:
    """The digest of an entitlement's `facts`. It covers what is assessed and by which version of the assessment, so that
    an entitlement whose digest is known need not be assessed again, in this run or any later one. What speaks of dates is
    assessed every time, since its answer changes by itself."""
    content = _content(record)
    assessed = {"by": version(), **(privilege(record) if content.is_dated else {})}
    return digest({**values, "documents": content.mark, "assessed": assessed})


@dataclass(frozen=True)
class _Content:
    """What an entitlement consists of, as it is kept. `is_dated`: it may speak of dates; said in case of doubt."""

    read: tuple[Sequence[DocumentRecord], DocumentRecord | None]  # the documents and the boundary as they came
    documents: str
    boundary: Values
    mark: str
    is_dated: bool

    @cached_property
    def privilege(self) -> Values:
        return _assess(*self.read)


MOST_CONTENTS = 512
_contents: dict[int, _Content] = {}


def _content(record: EntitlementRecord) -> _Content:
    """The same documents stand in a thousand accounts, as the same objects: they are made plain, digested and assessed
    once."""
    key = id(record.documents) ^ id(record.boundary)
    found = _contents.get(key)
    if found and found.read[0] is record.documents and found.read[1] is record.boundary:
        return found
    documents = [{"name": text(d.name, 256), "document": stored(d.document)} for d in record.documents]
    boundary: Values = {}
    if record.boundary is not None:
        boundary = {"boundary": {"name": text(record.boundary.name, 256), "document": stored(record.boundary.document)}}
    kept = as_json(documents)
    whole = kept + as_json(boundary)
    mark = hashlib.sha256(whole.encode()).hexdigest()
    lowered = whole.lower()
    is_dated = any(word in lowered for word in _DATED)
    content = _Content((record.documents, record.boundary), kept, boundary, mark, is_dated)
    if len(_contents) >= MOST_CONTENTS:
        _contents.clear()
    _contents[key] = content
    return content


def privilege(record: EntitlementRecord) -> Values:
    """What the documents amount to, with the sentence and the statement. A membership's is what its group holds, which
    is computed once that is written."""
    if record.kind in COMPUTED_LATER:
        return dict(UNKNOWN)
    content = _content(record)
    return dict(_assess(*content.read) if content.is_dated else content.privilege)


def _assess(documents: Sequence[DocumentRecord], boundary: DocumentRecord | None) -> Values:
    found = privilege_of(
        [NamedDocument(document.name, document.document) for document in documents],
        boundary=NamedDocument(boundary.name, boundary.document) if boundary else None,
    )
    return {
        "privilege": Privilege(found.level),
        "privilege_reason": text(found.reason, 500),
        "privilege_statement": plain(found.statement.statement) if found.statement else None,
        "can_escalate": found.can_escalate,
        "is_sensitive_read": found.sensitive_read,
    }


def assessed(record: EntitlementRecord) -> Values:
    """`privilege` as a row, with the statement as JSON."""
    found = privilege(record)
    statement = found["privilege_statement"]
    return {**found, "privilege_statement": None if statement is None else as_json(statement)}


UNKNOWN = {
    "privilege": Privilege.UNKNOWN,
    "privilege_reason": "",
    "privilege_statement": None,
    "can_escalate": False,
    "is_sensitive_read": False,
}


def credential(record: CredentialRecord) -> Values:
    """A credential's row, without its principal."""
    return {
        "is_active": record.is_active,
        "created_at": record.created_at,
        "last_used_at": record.last_used_at,
        "attributes": as_json(record.attributes),
    }
