"""What base.html needs on every page. Lazy: an htmx part that draws no navigation costs no query."""

from dataclasses import dataclass
from functools import cached_property

from django.http import HttpRequest
from django.urls import reverse

from apps.core import badges, navigation, words

PHONE_PLACES = 5  # as many as 390 px hold at 44 px and more each


@dataclass(frozen=True)
class Link:
    """A place as one person sees it on one page."""

    place: navigation.Place
    url: str
    count: int
    current: bool


class Shell:
    """Navigation and the signed-in person, worked out when a template first asks."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def signed_in(self) -> bool:
        user = getattr(self._request, "user", None)
        return bool(user and user.is_authenticated)

    @cached_property
    def links(self) -> list[Link]:
        if not self.signed_in:
            return []
        visible = [place for place in navigation.places() if place.visible(self._request)]
        counts = badges.count(visible, self._request.user.pk)
        urls = {place: reverse(place.url_name) for place in counts}
        current = self._nearest(list(urls.values()))
        return [Link(place, urls[place], count, urls[place] == current) for place, count in counts.items()]

    def _nearest(self, urls: list[str]) -> str:
        """The place this page belongs to: what it says itself; else the longest url that its path starts with, where /
        only matches itself."""
        if said := navigation.said_place(self._request):
            return reverse(said)
        path = self._request.path
        return max((url for url in urls if path == url or (url != "/" and path.startswith(url))), key=len, default="")

    @cached_property
    def groups(self) -> list[tuple[str, list[Link]]]:
        grouped = [(name, [link for link in self.links if link.place.group == name]) for name in navigation.SIDEBAR]
        return [(name, links) for name, links in grouped if links]

    @cached_property
    def bar(self) -> list[Link]:
        return [link for link in self.links if link.place.group == navigation.BAR]

    @cached_property
    def me(self) -> list[Link]:
        return [link for link in self.links if link.place.group == navigation.ME]

    @cached_property
    def phone(self) -> list[Link]:
        return [link for link in self.links if link.place.phone][:PHONE_PLACES]

    @cached_property
    def person(self) -> str:
        return words.name_of(self._request.user) if self.signed_in else ""

    @cached_property
    def single_keys(self) -> bool:
        """Whether keys without Ctrl do anything: each person decides (WCAG 2.1.4)."""
        return bool(getattr(self._request.user, "single_keys", True))


def shell(request: HttpRequest) -> dict[str, Shell]:
    return {"shell": Shell(request)}
