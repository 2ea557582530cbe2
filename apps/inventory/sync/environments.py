"""Which environment an account belongs to, from where it stands in the organization. Never from a tag: whoever may
tag an account must not be able to make production look like a sandbox."""

from __future__ import annotations

import re

from django.conf import settings

from apps.connectors.base import AccountRecord
from apps.inventory.models.resources import Environment

# Words in the name of an organizational unit. Compared without case, spaces and punctuation, whole or word by word.
WORDS: dict[str, Environment] = {
    "production": Environment.PRODUCTION,
    "prod": Environment.PRODUCTION,
    "prd": Environment.PRODUCTION,
    "live": Environment.PRODUCTION,
    "nonproduction": Environment.STAGING,
    "nonprod": Environment.STAGING,
    "preproduction": Environment.STAGING,
    "preprod": Environment.STAGING,
    "staging": Environment.STAGING,
    "stage": Environment.STAGING,
    "uat": Environment.STAGING,
    "test": Environment.STAGING,
    "qa": Environment.STAGING,
    "development": Environment.DEVELOPMENT,
    "dev": Environment.DEVELOPMENT,
    "sandbox": Environment.SANDBOX,
    "sandboxes": Environment.SANDBOX,
    "playground": Environment.SANDBOX,
    "security": Environment.SECURITY,
    "audit": Environment.SECURITY,
    "logging": Environment.SECURITY,
    "management": Environment.MANAGEMENT,
}
STRICTEST_FIRST = (
    Environment.MANAGEMENT,
    Environment.SECURITY,
    Environment.PRODUCTION,
    Environment.STAGING,
    Environment.DEVELOPMENT,
    Environment.SANDBOX,
)


def environment_of(account: AccountRecord) -> Environment:
    """The innermost unit whose name says something decides; one that says two things means the stricter. `unknown`,
    which every rule treats like production, when no unit says anything."""
    if account.is_management:
        return Environment.MANAGEMENT
    for unit in reversed(account.path.split("/")):
        said = _said_by(unit)
        if said:
            return min(said, key=STRICTEST_FIRST.index)
    return Environment.UNKNOWN


def _said_by(unit: str) -> set[Environment]:
    table = WORDS | {_whole(word): Environment(value) for word, value in settings.OU_ENVIRONMENTS.items()}
    whole = table.get(_whole(unit))
    if whole:
        return {whole}
    return {table[word] for word in re.split(r"[^a-z0-9]+", unit.lower()) if word in table}


def _whole(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
