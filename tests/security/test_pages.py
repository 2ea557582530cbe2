"""The web process can do its work with its own database role: every page opens for whoever may see it."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.people import ROLES, People
from tests.security.conftest import Acting
from tests.test_routes import TABLE, sign_in

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_page_opens_with_the_rights_of_the_web_process(acting: Acting, role: str) -> None:
    people = People()
    with acting("web"):
        client = sign_in(people.users[role])
        for name, route in TABLE.items():
            if route.get and role in route.get:
                status = client.get(reverse(name, kwargs=route.args(people))).status_code
                assert status in (200, 302), f"GET {name} as {role}: {status}"


def test_strangers_reach_the_pages_for_signing_in(acting: Acting) -> None:
    with acting("web"):
        assert Client().get("/accounts/login/").status_code == 200
        assert Client().post("/accounts/login/", {"login": "a@example.com", "password": "x"}).status_code == 200
        assert Client().post("/accounts/password/reset/", {"email": "a@example.com"}).status_code == 302
