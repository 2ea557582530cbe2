"""Who may say yes, by the words that rules use for it. Asked twice: by whoever takes the yes, and again by the worker that
opens the access, from the rows alone."""

from __future__ import annotations

from collections.abc import Iterable

from apps.inventory import permissions as inventory
from apps.inventory.models import Entitlement, Identity
from apps.users.models import PortalRole, User

ADMINISTRATOR = "administrator"  # as rules name them; they also stand in where nobody else can be reached


def approvers_for(requester: User, holder: Identity, entitlement: Entitlement, words: Iterable[str]) -> dict[User, str]:
    """Who may say yes, and why they: by the words of the deciding rule, never the requester nor the holder."""
    named = list(words)
    found = _independent(requester, holder, [pair for word in named for pair in _named(word, holder, entitlement)])
    if not found and ADMINISTRATOR not in named:
        why = f"administrator, since no {' or '.join(named)} can be reached here"
        found = _independent(requester, holder, [(user, why) for user, _ in _administrators()])
    return found


def is_independent(user: User, requester: User, holder: Identity) -> bool:
    """Whether the user is known to be somebody else than who asks and who is to hold it, whichever login they use: linked
    to a person who works here, and not one with the same address. An address is no proof of who somebody is, but enough
    to keep them from deciding; of somebody who is linked to nobody we do not know who they are."""
    me, asker = inventory.identity_of(user), inventory.identity_of(requester)
    if me is None or user.pk in (requester.pk, holder.user_id):
        return False
    theirs = {requester.email, holder.email, asker.email if asker else ""}
    return not {address.lower() for address in (user.email, me.email) if address} & {a.lower() for a in theirs}


def _independent(requester: User, holder: Identity, named: Iterable[tuple[User | None, str]]) -> dict[User, str]:
    found: dict[User, str] = {}
    for user, why in named:
        if user and is_independent(user, requester, holder):
            found.setdefault(user, why)
    return found


def _named(word: str, holder: Identity, entitlement: Entitlement) -> Iterable[tuple[User | None, str]]:
    if word == "manager":
        return _manager(holder)
    if word == "owner":
        return _owners(entitlement)
    return _administrators()


def _manager(holder: Identity) -> list[tuple[User | None, str]]:
    boss = holder.manager or (holder.owner.manager if holder.owner else None)
    return [(boss.user, f"manager of {holder.name}")] if boss else []


def _owners(entitlement: Entitlement) -> list[tuple[User | None, str]]:
    account = entitlement.resource
    named = [(entitlement.owner, f"owner of {entitlement.name}")]
    if account:
        named.append((account.owner, f"owner of {account.name}"))
    return [(owner.user, why) for owner, why in named if owner and owner.ended_at is None]


def _administrators() -> list[tuple[User, str]]:
    users = User.objects.filter(is_active=True, portal_roles__role=PortalRole.Role.ADMINISTRATOR)
    return [(user, "administrator") for user in users]
