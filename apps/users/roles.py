"""The roles a person has in the portal, and where each comes from. Upper apps register the roles they derive (manager,
entitlement owner) in `AppConfig.ready`, so that the profile can show them and this app knows none of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from apps.users.models import User


@dataclass(frozen=True)
class HeldRole:
    """One role of one person. `source` says who gave it or what it follows from."""

    name: str
    source: str
    since: datetime | None = None


Source = Callable[[User], Iterable[HeldRole]]
_sources: list[Source] = []


def register(source: Source) -> None:
    """Add what derives roles from facts of an upper app."""
    if source not in _sources:
        _sources.append(source)


def held_by(user: User) -> list[HeldRole]:
    """Every role of a user: member, what was given, what is derived."""
    given = [
        HeldRole(role.get_role_display(), f"Given by {role.source}", role.given_at)
        for role in user.portal_roles.order_by("given_at")
    ]
    derived = [role for source in _sources for role in source(user)]
    return [HeldRole("Member", "Everybody who can sign in", user.joined_at), *given, *derived]
