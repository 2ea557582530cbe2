"""What administrators do about identity providers, and that a passkey stands before what can hurt."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from apps.inventory.services import hr_files
from apps.scim.models import ScimUser, Source, Token
from apps.scim.services import sources
from apps.users import stepup
from tests.factories.inventory import ConnectionFactory, IdentityFactory
from tests.scim.conftest import Provider

pytestmark = pytest.mark.django_db
WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


@pytest.fixture
def at(erin: Any) -> Client:
    client = Client()
    client.force_login(erin)
    return client


@pytest.fixture
def _stepped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepup, "has_fresh", lambda request, *, within, privileged: privileged)


def url(name: str, *args: Any) -> str:
    return reverse(f"scim:{name}", args=args)


def test_adding_making_linking_and_unlinking_take_a_passkey_and_revoking_does_not(okta: Provider, at: Client) -> None:
    source = okta.source
    okta.add("alice")
    user, token = ScimUser.objects.get(), Token.objects.get()
    new = {"name": "Entra", "connection": source.connection_id}
    for where, data in (
        (url("sources"), new),
        (url("make_token", source.pk), {"expires": "90"}),
        (url("link", source.pk, user.pk), {"person": "x@example.com"}),
        (url("unlink", source.pk, user.pk), {}),
    ):
        answer = at.post(where, data)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/settings/step-up")
        assert "passkey=1" in answer["Location"]
    assert (Source.objects.count(), Token.objects.count()) == (1, 1)
    at.post(url("revoke_token", source.pk, token.pk))
    token.refresh_from_db()
    assert token.state == "revoked"


@pytest.mark.usefixtures("_stepped_up")
def test_a_token_is_shown_once_and_works(at: Client) -> None:
    at.post(url("sources"), {"name": "Okta", "connection": ConnectionFactory().pk})
    source = Source.objects.get()
    answer = at.post(url("make_token", source.pk), {"expires": "90"})
    assert answer["Cache-Control"] == "no-store"
    [secret] = re.findall(r"data-secret>(gatehouse-scim_\w+_[\w-]+)<", answer.content.decode())
    assert secret not in at.get(url("source", source.pk)).content.decode()
    assert Provider(source, secret).get("/Users").status_code == 200
    assert Token.objects.get().expires_at


@pytest.mark.usefixtures("_stepped_up")
def test_an_administrator_says_who_somebody_is_and_takes_it_back(okta: Provider, at: Client) -> None:
    okta.add("<b>alice</b>")
    alice = IdentityFactory(connection=okta.source.connection)
    user = ScimUser.objects.get()
    page = at.get(url("source", okta.source.pk)).content.decode()
    assert "&lt;b&gt;alice" in page
    at.post(url("link", okta.source.pk, user.pk), {"person": "nobody@example.com"})
    assert ScimUser.objects.get().identity is None
    at.post(url("link", okta.source.pk, user.pk), {"person": alice.email})
    assert ScimUser.objects.get().identity == alice
    assert alice.name in at.get(f"{url('source', okta.source.pk)}?show=linked&q=%3CB%3E").content.decode()
    at.post(url("unlink", okta.source.pk, user.pk))
    assert ScimUser.objects.get().identity is None


@pytest.mark.usefixtures("_stepped_up")
def test_another_sources_user_and_token_are_not_found(okta: Provider, at: Client, erin: Any) -> None:
    okta.add("alice")
    other = sources.add_source(name="Other", connection=ConnectionFactory(), subject_is_external_id=False, by=erin)
    assert at.post(url("link", other.pk, ScimUser.objects.get().pk)).status_code == 404
    assert at.post(url("revoke_token", other.pk, Token.objects.get().pk)).status_code == 404


@pytest.mark.browser
@pytest.mark.usefixtures("_stepped_up")
@pytest.mark.django_db(transaction=True)
def test_the_pages_are_accessible_and_fit(page: Page, live_server: LiveServer, okta: Provider, erin: Any) -> None:
    for name in ("ada", "grace", "edsger", "barbara"):
        okta.add(f"{name}@example.com", displayName=name.title(), externalId=f"00u8f3k{name}")
    org = okta.source.connection
    people = [IdentityFactory(connection=org, name=f"Person {n}", email=f"p{n}@example.com") for n in range(12)]
    lines = "\n".join(f"{person.email},Treasury,2026-01-31" for person in people[:6])
    hr_files.look_at(
        org, [f"email,department,last day\nnew@example.com,,\n{lines}".encode()], name="people-november.csv", by=erin
    )
    client = Client()
    client.force_login(erin)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
    detail = live_server.url + url("source", okta.source.pk)
    walk = {
        "sources": live_server.url + url("sources"),
        "source": detail,
        "token": detail,
        "hr": live_server.url + reverse("inventory:hr_file", args=[org.name]),
    }
    for width, scheme in ((1440, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        for name, where in walk.items():
            page.goto(where)
            if name == "token" and page.get_by_role("button", name="Make a token").count():
                page.get_by_role("button", name="Make a token").click()
            found = Axe().run(page, options=WCAG)
            assert found.violations_count == 0, f"{where}\n{found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), where
