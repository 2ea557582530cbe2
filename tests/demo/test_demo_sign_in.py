"""One click signs anybody in: in demo mode only, on this machine only, and never unrecorded."""

from __future__ import annotations

import pytest
from allauth.usersessions.models import UserSession
from django.conf import settings as configured
from django.template import engines
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, reverse
from pytest_django import Settings

from apps.audit.models import AuditEvent
from apps.demo import cast, context
from apps.demo.company.people import CAST
from apps.users import stepup
from apps.users.models import User
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return UserFactory(name="Alice Moreau", email=CAST["alice"])


@pytest.fixture
def demo_mode(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEMO = True
    settings.ROOT_URLCONF = "tests.demo.urls"
    engine = engines["django"].engine  # type: ignore[attr-defined]
    monkeypatch.setattr(engine, "template_context_processors", (*engine.template_context_processors, context.demo))


def sign_in(client: Client, user: User, **extra: str) -> int:
    return client.post("/demo/sign-in/", {"email": user.email}, **extra).status_code


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_without_demo_mode_there_is_no_such_page(client: Client, alice: User) -> None:
    assert sign_in(client, alice) == 404
    with pytest.raises(NoReverseMatch):
        reverse("demo:sign_in")
    page = client.get("/accounts/login/").content.decode()
    assert "/demo/" not in page
    assert "made up" not in page


def test_the_view_itself_asks_for_demo_mode(client: Client, alice: User, demo_mode: None, settings: Settings) -> None:
    """Were its address left in by mistake, it would still let nobody in."""
    settings.DEMO = False
    assert sign_in(client, alice) == 404
    assert not is_signed_in(client)


def test_one_click_signs_in_and_is_recorded(client: Client, alice: User, demo_mode: None) -> None:
    assert sign_in(client, alice) == 302
    assert client.session["_auth_user_id"] == str(alice.pk)
    [event] = AuditEvent.objects.filter(event="users.user.signed_in")
    assert (event.actor_name, event.data["method"]) == ("Alice Moreau", "demo")
    assert configured.DEVICE_COOKIE_NAME in client.cookies
    assert UserSession.objects.get().user == alice, "the session is listed among one's own, and can be ended there"


@pytest.mark.parametrize(
    "address", ["192.168.1.7", "8.8.8.8", "::ffff:8.8.8.8", "2001:db8::1", "", "localhost.evil.example"]
)
def test_another_machine_is_not_let_in(client: Client, alice: User, demo_mode: None, address: str) -> None:
    assert sign_in(client, alice, REMOTE_ADDR=address) == 404
    assert not is_signed_in(client)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "Via"])
def test_nobody_comes_in_through_a_proxy_on_this_machine(
    client: Client, alice: User, demo_mode: None, header: str
) -> None:
    """A tunnel to the internet runs here too, and its visitors then come from 127.0.0.1."""
    assert sign_in(client, alice, headers={header: "127.0.0.1"}) == 404  # type: ignore[arg-type]
    assert not is_signed_in(client)


def test_another_site_cannot_sign_a_browser_in(alice: User, demo_mode: None) -> None:
    client = Client(enforce_csrf_checks=True)
    assert sign_in(client, alice) == 403
    assert client.get("/demo/sign-in/", {"email": alice.email}).status_code == 405
    assert not is_signed_in(client)


def test_who_is_kept_out_stays_out(client: Client, alice: User, demo_mode: None) -> None:
    User.objects.update(is_active=False)
    assert sign_in(client, alice) == 404


def test_it_leads_back_to_a_page_of_ours_only(client: Client, alice: User, demo_mode: None) -> None:
    for wanted, led in [("/rules/", "/rules/"), ("https://evil.example/", "/"), ("//evil.example", "/")]:
        answer = client.post("/demo/sign-in/", {"email": alice.email, "next": wanted})
        assert answer["Location"] == led


def test_whoever_becomes_somebody_else_has_not_stepped_up(client: Client, alice: User, demo_mode: None) -> None:
    bob = UserFactory(name="Bob", email=CAST["bob"])
    for second in (bob, alice):  # another person, and the same one again
        sign_in(client, alice)
        session = client.session
        session[stepup.PROOFS] = {"totp": {"method": "totp"}}
        session.save()
        sign_in(client, second)
        assert client.session["_auth_user_id"] == str(second.pk)
        assert stepup.PROOFS not in client.session


def test_the_sign_in_page_shows_the_cast_and_everybody_else(client: Client, alice: User, demo_mode: None) -> None:
    UserFactory(name="Yara Costa", email="yara.costa@harbourline.example")
    page = client.get("/accounts/login/?next=/rules/").content.decode()
    assert [name for name in CAST.values() if f'value="{name}"' not in page] == []
    assert '<option value="yara.costa@harbourline.example">Yara Costa</option>' in page
    assert 'name="next" value="/rules/"' in page
    assert "made up" in page


def test_one_becomes_somebody_else_from_inside_a_session(client: Client, alice: User, demo_mode: None) -> None:
    sign_in(client, alice)
    page = client.get("/demo/people/").content.decode()
    assert CAST["bob"] in page
    assert client.get("/demo/people/", REMOTE_ADDR="192.168.1.7").status_code == 404


def test_where_a_code_is_asked_for_the_banner_says_how_to_get_it(client: Client, alice: User, demo_mode: None) -> None:
    sign_in(client, alice)
    assert f"demo_code {alice.email}" in client.get("/settings/step-up/").content.decode()
    assert "demo_code" not in client.get("/rules/").content.decode()


def test_pages_that_show_nobody_ask_nothing_about_people(
    rf: RequestFactory, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert context.demo(rf.get("/"))["demo_company"] == "Harbourline"


def test_everybody_in_the_cast_says_what_they_show() -> None:
    assert set(cast.SHOWS) == set(CAST)
    assert all(part.shows and part.title for part in cast.parts())
