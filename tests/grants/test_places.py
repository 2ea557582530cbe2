"""Which place of the navigation is the current one on pages about grants."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from apps.users.models import User
from tests.factories.users import UserFactory
from tests.grants.system import System

pytestmark = pytest.mark.django_db


def lit(user: User, name: str, pk: int) -> list[str]:
    client = Client()
    client.force_login(user)
    page = client.get(reverse(name, args=[pk])).content.decode()
    sidebar = page[page.index('aria-label="Main"') : page.index("</nav>", page.index('aria-label="Main"'))]
    links = re.findall(r'<a [^>]*aria-current="page"[^>]*>(.*?)</a>', sidebar)
    return [re.sub(r"<svg.*?</svg>|<b>.*?</b>", "", link) for link in links]


def test_only_ones_own_grant_is_among_my_grants(system: System) -> None:
    grant, erin = system.active(), UserFactory(name="Erin", administrator=True)
    alice = grant.identity.user  # type: ignore[union-attr]
    for page in ("grants:detail", "grants:used_for"):
        assert lit(alice, page, grant.pk) == ["My grants"]
        assert lit(erin, page, grant.pk) == ["Grants"]


@pytest.mark.parametrize("tab", ["grants:of_identity", "reviews:of_identity"])
def test_a_tab_of_somebody_is_among_the_identities(system: System, tab: str) -> None:
    erin = UserFactory(name="Erin", administrator=True)
    assert lit(erin, tab, system.alice.identity_id) == ["Identities"]
