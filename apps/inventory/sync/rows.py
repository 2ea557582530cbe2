"""Records as rows: cleaned, bounded, and with a digest that says whether anything about them changed.

Whatever a record carries was written by somebody outside. Text loses control and direction characters, which could
make a screen say something else, and everything is cut to what its column holds.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models

from apps.connectors.aws.privilege import NamedDocument, privilege_of
from apps.connectors.base import AccountRecord, CredentialRecord, EntitlementRecord, PrincipalRecord
from apps.inventory.models import Entitlement
from apps.inventory.models.access import Privilege
from apps.inventory.sync.environments import environment_of

Values = dict[str, Any]

UNPRINTABLE = frozenset({"Cc", "Cs"})
DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
RESERVED_PATHS = ("/aws-service-role/", "/aws-reserved/")
COMPUTED_LATER = frozenset({Entitlement.Kind.IDC_GROUP, Entitlement.Kind.IAM_GROUP})  # from what the group holds


def text(value: object, limit: int) -> str:
    """One line of at most `limit` characters, with nothing in it that does not print."""
    printable = "".join(" " if _is_unprintable(letter) else letter for letter in str(value or ""))
    line = " ".join(printable.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _is_unprintable(letter: str) -> bool:
    return letter in DIRECTION or unicodedata.category(letter) in UNPRINTABLE


def plain(value: Any) -> Any:
    """`value` as PostgreSQL's jsonb can store it: no NUL, no lone surrogate, nothing but JSON."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if value is None or isinstance(value, bool | int | float) else plain(str(value))


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of the values as canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(plain(values), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fits(model: type[models.Model], external_id: str) -> bool:
    """Whether this id can be stored whole. An id is never cut: two could become one."""
    longest = getattr(model._meta.get_field("external_id"), "max_length", None) or 0
    return 0 < len(external_id) <= longest and not any(map(_is_unprintable, external_id))


def resource(record: AccountRecord) -> Values:
    """The provider's part of an account's row. Its owner and a confirmed environment are people's."""
    return {
        "name": text(record.name, 256) or record.external_id,
        "path": text(record.path, 500),
        "email": text(record.email, 254),
        "provider_state": text(record.state, 30),
        "is_management": record.is_management,
        "tags": plain(record.tags),
        "derived": environment_of(record),
    }


def principal(record: PrincipalRecord, resource_id: int | None) -> Values:
    """A principal's row, without whose face it is."""
    facts = record.attributes
    path = str(facts.get("path") or "")
    return {
        "kind": record.kind,
        "resource_id": resource_id,
        "name": text(record.name, 256) or text(record.external_id, 256),
        "is_externally_owned": record.is_externally_owned,
        # The role of one grant is nobody's machine identity either: it is the grant's work, and ends with it.
        "is_reserved": bool(
            facts.get("is_reserved")
            or facts.get("is_service_linked")
            or facts.get("is_ours")
            or path.startswith(RESERVED_PATHS)
        ),
        "created_at": record.created_at,
        # Gatehouse's own roles are used by this very reading: that would change with every sync and says nothing.
        "last_used_at": None if facts.get("is_portal") else record.last_used_at,
        "attributes": plain(facts),
    }


def entitlement(record: EntitlementRecord, resource_id: int | None, group_id: int | None) -> Values:
    """An entitlement's row with its computed privilege. Its owner is people's."""
    return {
        "kind": record.kind,
        "resource_id": resource_id,
        "group_id": group_id,
        "name": text(record.name, 256) or text(record.external_id, 256),
        "description": text(record.description, 1000),
        "documents": [{"name": text(d.name, 256), "document": plain(d.document)} for d in record.documents],
        "session_for": record.session_for,
        "attributes": plain(record.attributes) | _boundary(record),
        "is_ours": bool(record.attributes.get("is_ours")),
        **privilege(record),
    }


def _boundary(record: EntitlementRecord) -> Values:
    if record.boundary is None:
        return {}
    return {"boundary": {"name": text(record.boundary.name, 256), "document": plain(record.boundary.document)}}


def privilege(record: EntitlementRecord) -> Values:
    """What the documents amount to, with the sentence and the statement. A membership's is what its group holds, which
    is computed once that is written."""
    if record.kind in COMPUTED_LATER:
        return dict(UNKNOWN)
    found = privilege_of(
        [NamedDocument(document.name, document.document) for document in record.documents],
        boundary=NamedDocument(record.boundary.name, record.boundary.document) if record.boundary else None,
    )
    return {
        "privilege": Privilege(found.level),
        "privilege_reason": text(found.reason, 500),
        "privilege_statement": plain(found.statement.statement) if found.statement else None,
        "can_escalate": found.can_escalate,
        "is_sensitive_read": found.sensitive_read,
    }


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
        "attributes": plain(record.attributes),
    }
