"""The places of the portal. Apps register theirs in AppConfig.ready, so that core knows none of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

# sidebar groups, in order; the first has no heading
MAIN, REVIEW, GOVERN, LOOK_UP, ADMIN = "", "Review", "Govern", "Look up", "Admin"
SIDEBAR = (MAIN, REVIEW, GOVERN, LOOK_UP, ADMIN)
BAR = "bar"  # an icon in the top bar, like the inbox
ME = "me"  # a line in the signed-in person's menu
GROUPS = (*SIDEBAR, BAR, ME)

Question = Callable[[], QuerySet[Any]]


def anyone(_request: HttpRequest) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Place:
    """One page people go to. `visible` is asked once a page, only where the navigation is drawn; it only decides what is
    shown, never what is allowed. `order` sorts inside the group.

    `waiting` are the rows whose number stands beside the place, and a place with `only_with` is shown to those who have
    such rows. Both are written once a process, with `badges.USER` and `badges.NOW` for who asks and when."""

    label: str
    icon: str
    url_name: str
    group: str = MAIN
    order: int = 100
    visible: Callable[[HttpRequest], bool] = anyone
    waiting: Question | None = None
    only_with: Question | None = None
    phone: bool = False  # in the bottom bar of a phone, which holds four
    short: str = ""  # the label there
    key: str = ""  # the key that goes there from everywhere
    search: bool = False  # Go to offers "Search <label> for …" with ?q=


_places: dict[str, Place] = {}
_SAID = "gatehouse.place"  # in a request's META


def belongs_to(request: HttpRequest, url_name: str) -> None:
    """Says to which place this page belongs, where its address says another: somebody else's grant is not one of mine."""
    request.META[_SAID] = url_name


def said_place(request: HttpRequest) -> str:
    """The url_name that `belongs_to` was given; empty where the address says it."""
    return str(request.META.get(_SAID, ""))


def register(*places: Place) -> None:
    """Adds places; one with the same url_name replaces the earlier one."""
    for place in places:
        if place.group not in GROUPS:
            raise ValueError(f"{place.label}: there is no navigation group {place.group!r}")
        _places[place.url_name] = place


def places() -> list[Place]:
    """All places in the order in which they are shown."""
    return sorted(_places.values(), key=lambda place: (GROUPS.index(place.group), place.order, place.label))
