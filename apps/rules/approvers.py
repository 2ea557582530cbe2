"""Who may say yes, by the words that rules use for it. Asked twice: by whoever takes the yes, and again by the worker that
opens the access, from the rows alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from apps.inventory import permissions as inventory
from apps.inventory import succession
from apps.inventory.models import Entitlement, Identity, Responsibility
from apps.users.models import PortalRole, User

ADMINISTRATOR = "administrator"  # as rules name them; they also stand in where nobody else can be reached


@dataclass(frozen=True)
class Named:
    """Somebody whom a rule's word names here, and by what they are that."""

    user: User | None
    why: str
    kind: Responsibility.Kind
    about: int = 0

    def has_stood(self, at: datetime) -> bool:
        """Whether workers had seen it for the waiting time."""
        seen = Responsibility.objects.counting(at).filter(user=self.user, kind=self.kind, about=self.about)
        return seen.exists()


def approvers_for(requester: User, holder: Identity, entitlement: Entitlement, words: Iterable[str]) -> dict[User, str]:
    """Who may say yes, and why they: by the words of the deciding rule, never the requester nor the holder."""
    found: dict[User, str] = {}
    for one in _reachable(requester, holder, entitlement, words):
        if one.user:
            found.setdefault(one.user, one.why)
    return found


def have_stood(
    requester: User, holder: Identity, entitlement: Entitlement, words: Iterable[str], *, at: datetime
) -> frozenset[User]:
    """Those of them who had been that for the waiting time, as workers saw it: for privileged access, where a word that
    somebody said in the portal just now is not enough."""
    found = _reachable(requester, holder, entitlement, words)
    return frozenset(one.user for one in found if one.user and one.has_stood(at))


def _reachable(requester: User, holder: Identity, entitlement: Entitlement, words: Iterable[str]) -> list[Named]:
    named = list(words)
    found = _independent(requester, holder, [one for word in named for one in _named(word, holder, entitlement)])
    if not found and ADMINISTRATOR not in named:
        why = f"administrator, since no {' or '.join(named)} can be reached here"
        found = _independent(requester, holder, [replace(one, why=why) for one in _administrators()])
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


def _independent(requester: User, holder: Identity, named: Iterable[Named]) -> list[Named]:
    return [one for one in named if one.user and is_independent(one.user, requester, holder)]


def _named(word: str, holder: Identity, entitlement: Entitlement) -> list[Named]:
    if word == "manager":
        return _manager(holder)
    if word == "owner":
        return _owners(entitlement)
    return _administrators()


def _manager(holder: Identity) -> list[Named]:
    led = holder if holder.manager or holder.owner is None else holder.owner
    boss, why = succession.acting_for(led.manager), f"manager of {holder.name}"
    if boss and boss.pk != led.manager_id:
        why = f"{why} in place of {led.manager}, who left"
    return [Named(boss.user, why, Responsibility.Kind.MANAGER, led.pk)] if boss else []


def _owners(entitlement: Entitlement) -> list[Named]:
    kind, account = Responsibility.Kind, entitlement.resource
    owned = [(entitlement.owner, f"owner of {entitlement.name}", kind.ENTITLEMENT, entitlement.pk)]
    if account:
        owned.append((account.owner, f"owner of {account.name}", kind.ACCOUNT, account.pk))
    return [Named(owner.user, why, what, pk) for owner, why, what, pk in owned if owner and owner.ended_at is None]


def _administrators() -> list[Named]:
    users = User.objects.filter(is_active=True, portal_roles__role=PortalRole.Role.ADMINISTRATOR)
    return [Named(user, "administrator", Responsibility.Kind.ADMINISTRATOR) for user in users]
