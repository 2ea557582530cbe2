"""Lists of those found by a name."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse

from apps.inventory.models import Identity
from apps.inventory.views import identities
from tests.factories import inventory as make
from tests.factories.users import UserFactory


@pytest.mark.django_db
@pytest.mark.parametrize("most", [0, 5000], ids=["many", "few"])
def test_those_found_are_told_by_name_from_page_to_page(monkeypatch, most):
    monkeypatch.setattr(identities, "MOST_SORTED", most)
    org = make.ConnectionFactory()
    names = [f"Priya {number:02}" for number in range(60)]
    people = [make.IdentityFactory.build(connection=org, name=name) for name in (*reversed(names), "Olga")]
    Identity.objects.bulk_create(people)
    client, url = Client(), reverse("inventory:identities")
    client.force_login(UserFactory(auditor=True))

    def told(query: str) -> tuple[list[str], dict[str, str]]:
        page = client.get(f"{url}?{query}").content.decode()
        links = {rel: unescape(link) for link, rel in re.findall(r'href="\?([^"]*)" rel="(next|prev)"', page)}
        return re.findall(r">(Priya \d+|Olga)<", page), links

    first, links = told("q=priya")
    assert first == names[:50]
    second, links = told(links["next"])
    assert second == names[50:]
    assert told(links["prev"])[0] == first
