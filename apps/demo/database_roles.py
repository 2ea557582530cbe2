"""The demo's processes under the database roles that they have in production, so that running it shows them to suffice."""

from __future__ import annotations

import secrets
from urllib.parse import quote

from django.conf import settings
from django.db import DatabaseError

from apps.core import database_roles
from apps.core.privileges import ROLES


def separate() -> str:
    """Make the roles, with a password of this run, and give each its privileges. Returns the password; "" where the user of
    DATABASE_URL may not make roles, and every process then stays that user."""
    password = secrets.token_urlsafe(24)
    try:
        database_roles.create(password)
    except DatabaseError:
        return ""
    database_roles.apply()
    return password


def environ(process: str, password: str) -> dict[str, str]:
    """The variables by which a process signs in as its own role."""
    if not password:
        return {}
    database = settings.DATABASES["default"]
    port = f":{database['PORT']}" if database.get("PORT") else ""
    host = f"{quote(str(database['HOST']), safe='')}{port}"
    return {
        "DATABASE_URL": f"postgres://{ROLES[process]}@{host}/{database['NAME']}",
        "DATABASE_PASSWORD": password,
    }
