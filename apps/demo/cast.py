"""Who of the demo's people is worth being, and why; and how to find any of them."""

from __future__ import annotations

import base64
import hmac
import unicodedata
from dataclasses import dataclass

from django.conf import settings
from django.db.models import QuerySet

from apps.demo.company.harbourline import HARBOURLINE
from apps.demo.company.people import CAST
from apps.users.models import User

# key in CAST → what being this person shows
SHOWS = {
    "alice": "Asks for access and gets it for an hour",
    "bob": "Owns production, approves, leads payments",
    "carol": "Manages the platform team and reviews what it holds",
    "dan": "Audits: reads everything, exports evidence, changes nothing",
    "erin": "Administers: connections, offers, campaigns",
    "farid": "Administers too: the second of two people, and security's owner",
    "mallory": "A contractor: may see and ask for very little",
}


@dataclass(frozen=True)
class Part:
    """One of the people on the sign-in page."""

    email: str
    name: str
    title: str
    shows: str


def parts() -> list[Part]:
    people = ((HARBOURLINE.person(CAST[key]), shows) for key, shows in SHOWS.items())
    return [Part(person.email, person.name, person.title, shows) for person, shows in people]


def everybody() -> QuerySet[User]:
    """Who can be signed in as with one click."""
    return User.objects.filter(is_active=True).order_by("name")


def totp_secret(email: str) -> str:
    """The secret in this person's authenticator app, in base32: the same for as long as SECRET_KEY is."""
    digest = hmac.digest(settings.SECRET_KEY.encode(), f"demo.totp:{email.lower()}".encode(), "sha256")
    return base64.b32encode(digest[:20]).decode()


class NotFound(Exception):
    """Nobody, or more than one person, is called that. `candidates` are those it could mean."""

    def __init__(self, wanted: str, candidates: list[User]) -> None:
        self.candidates = candidates
        names = "\n".join(f"  {user.name} <{user.email}>" for user in candidates)
        several = f"{len(candidates)} people match {wanted!r}. Say which:"
        super().__init__(f"{several}\n{names}" if candidates else f"Nobody in the demo matches {wanted!r}.")


def find(wanted: str) -> User:
    """The one person whose e-mail or name this is, or whose name contains it; case and accents do not matter."""
    needle = _plain(wanted)
    people = list(everybody())
    exact = [
        user for user in people if needle in (_plain(user.email), _plain(user.name), _plain(user.email).split("@")[0])
    ]
    first = [user for user in people if _plain(user.name).split(" ")[0] == needle]
    within = [user for user in people if needle and (needle in _plain(user.name) or needle in _plain(user.email))]
    found = exact or first or within
    if len(found) != 1:
        raise NotFound(wanted, found)
    return found[0]


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.strip().lower())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
