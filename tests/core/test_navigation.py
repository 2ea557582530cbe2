import pytest
from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template import engines
from django.test import RequestFactory

from apps.core import navigation
from apps.core.context import shell
from apps.core.navigation import Place
from apps.users.models import User


@pytest.fixture(autouse=True)
def _no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(navigation, "_places", {})


def visit(path: str = "/", user: User | AnonymousUser | None = None) -> HttpRequest:
    request = RequestFactory().get(path)
    request.user = user or User(email="alice@example.com", name="Alice <b>")
    return request


def draw(request: HttpRequest) -> str:
    return engines["django"].from_string('{% extends "base.html" %}').render({}, request)


def test_places_stand_in_groups_and_in_their_order() -> None:
    navigation.register(
        Place(label="Audit", icon="history", url_name="account_login", group=navigation.GOVERN),
        Place(label="Grants", icon="key", url_name="mfa_index", order=30),
        Place(label="Home", icon="home", url_name="account_logout", order=10),
    )
    groups = shell(visit())["shell"].groups
    assert [(name, [link.place.label for link in links]) for name, links in groups] == [
        ("", ["Home", "Grants"]),
        ("Govern", ["Audit"]),
    ]


def test_a_place_in_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match="Elsewhere"):
        navigation.register(Place(label="Lost", icon="x", url_name="mfa_index", group="Elsewhere"))


def test_what_one_may_not_see_is_not_shown_nor_counted() -> None:
    def count() -> QuerySet[User]:
        raise AssertionError("counted")

    hidden = Place(label="Audit", icon="history", url_name="mfa_index", visible=lambda _: False, waiting=count)
    navigation.register(hidden)
    assert shell(visit())["shell"].groups == []


def test_nothing_is_asked_until_the_navigation_is_drawn() -> None:
    def ask(_request: HttpRequest) -> bool:
        raise AssertionError("asked")

    navigation.register(Place(label="Audit", icon="history", url_name="mfa_index", visible=ask))
    part = engines["django"].from_string("<p>a part for htmx</p>").render({}, visit())
    assert part == "<p>a part for htmx</p>"


@pytest.mark.parametrize(
    ("path", "current"),
    [
        ("/accounts/2fa/", "Passkeys"),
        ("/accounts/2fa/totp/activate/", "App"),
        ("/accounts/2fa/webauthn/", "Passkeys"),
        ("/elsewhere/", ""),
    ],
)
def test_the_nearest_place_is_marked(path: str, current: str) -> None:
    navigation.register(
        Place(label="Passkeys", icon="fingerprint", url_name="mfa_index"),
        Place(label="App", icon="lock", url_name="mfa_activate_totp"),
    )
    links = shell(visit(path))["shell"].links
    assert [link.place.label for link in links if link.current] == ([current] if current else [])


@pytest.mark.parametrize(("said", "current"), [("mfa_activate_totp", ["App"]), ("usersessions_list", [])])
def test_a_page_can_say_where_it_belongs(said: str, current: list[str]) -> None:
    navigation.register(
        Place(label="Passkeys", icon="fingerprint", url_name="mfa_index"),
        Place(label="App", icon="lock", url_name="mfa_activate_totp"),
        Place(label="Sessions", icon="lock", url_name="usersessions_list", visible=lambda _: False),
    )
    request = visit("/accounts/2fa/")
    navigation.belongs_to(request, said)
    assert [link.place.label for link in shell(request)["shell"].links if link.current] == current


def test_a_phone_shows_five_places() -> None:
    names = [
        "mfa_index",
        "account_login",
        "account_logout",
        "usersessions_list",
        "mfa_activate_totp",
        "mfa_add_webauthn",
    ]
    navigation.register(*(Place(label=name, icon="home", url_name=name, phone=True) for name in names))
    assert len(shell(visit())["shell"].phone) == 5


def test_strangers_are_shown_no_places() -> None:
    navigation.register(Place(label="Passkeys", icon="fingerprint", url_name="mfa_index"))
    html = draw(visit(user=AnonymousUser()))
    assert "Passkeys" not in html
    assert "Sign out" not in html


@pytest.mark.django_db
def test_the_frame_names_the_person_escaped_and_counts_in_words() -> None:
    for name in ("bob", "carol", "dan"):
        User.objects.create(email=f"{name}@example.com")
    navigation.register(
        Place(label="Inbox", icon="bell", url_name="mfa_index", group=navigation.BAR, waiting=User.objects.all),
        Place(label="Settings", icon="settings", url_name="usersessions_list", group=navigation.ME),
    )
    html = draw(visit())
    assert "Alice &lt;b&gt;" in html
    assert "Alice <b>" not in html
    assert 'aria-label="Inbox, 3 unread"' in html
    assert 'method="post" action="/accounts/logout/"' in html


def test_single_keys_are_off_for_who_turned_them_off() -> None:
    assert 'data-keys="off"' not in draw(visit())
    assert 'data-keys="off"' in draw(visit(user=User(email="alice@example.com", name="Alice", single_keys=False)))
