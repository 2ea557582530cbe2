"""What holds for every template: nothing inline that the CSP would stop, only icons and files that are there; and that
allauth's pages, which no view of ours renders, work without an unknown variable."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.template import engines
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from apps.core.templatetags.components import ICONS
from tests.factories.users import UserFactory

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.html"))
INLINE = re.compile(r"""\sstyle=|\son[a-z]+=["']|javascript:|<style|<script(?![^>]*(\ssrc=|application/json))""")
NAMED_ICON = re.compile(r"""\{% (?:icon|state "\w+"|note "\w+" "[^"]*"|step \S+) "([^"]+)" """)
STATIC_FILE = re.compile(r"""\{% static ['"]([^'"]+)['"]""")


def name(path: Path) -> str:
    return str(path.relative_to(settings.BASE_DIR / "templates"))


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_a_template_compiles_and_holds_nothing_inline(path: Path) -> None:
    source = path.read_text()
    engines["django"].from_string(source)
    assert not INLINE.search(source)


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_a_template_names_only_icons_that_are_built(path: Path) -> None:
    assert set(NAMED_ICON.findall(path.read_text())) <= ICONS


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_a_template_names_only_files_that_are_served(path: Path) -> None:
    assert [file for file in STATIC_FILE.findall(path.read_text()) if not finders.find(file)] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=name)
def test_a_region_is_not_named_like_the_section_around_it(path: Path) -> None:
    source = path.read_text()
    sections = set(re.findall(r'<section[^>]* aria-labelledby="([^"]+)"', source))
    titles = set(re.findall(r"<h2[^>]*>([^<]+)</h2>", source))
    regions = re.findall(r'role="region"[^>]* (aria-label(?:ledby)?)="([^"]+)"', source)
    assert [text for how, text in regions if text in (titles if how == "aria-label" else sections)] == []


@pytest.mark.parametrize("status", ["400", "403", "403_csrf", "404", "429", "500"])
def test_an_error_page_needs_no_request_and_says_what_to_do(status: str) -> None:
    html = render_to_string(f"{status}.html")
    assert 'href="/"' in html
    assert "<h1>" in html


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url",
    [
        "/accounts/login/",
        "/accounts/login/?next=/rules/",
        "/accounts/signup/",
        "/accounts/inactive/",
        "/accounts/password/reset/",
        "/accounts/password/reset/done/",
        "/accounts/password/reset/key/1-no/",
        "/accounts/password/reset/key/done/",
        "/accounts/confirm-email/",
        "/accounts/confirm-email/no/",
        "/accounts/3rdparty/login/cancelled/",
    ],
)
def test_strangers_get_our_pages(client: Client, url: str) -> None:
    response = client.get(url)
    assert response.status_code == 200
    assert "gh-bare" in response.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["mfa_index", "mfa_list_webauthn", "usersessions_list", "account_logout"])
def test_people_get_our_pages(client: Client, name: str) -> None:
    client.force_login(UserFactory())
    response = client.get(reverse(name))
    assert response.status_code == 200
    assert "css/gatehouse.css" in response.content.decode()


@pytest.mark.django_db
def test_nobody_is_led_to_change_their_address(client: Client) -> None:
    client.force_login(UserFactory())
    for page in ("mfa_index", "usersessions_list"):
        assert "/accounts/email/" not in client.get(reverse(page)).content.decode()
