"""An inline policy belongs to one user or role, and its name alone does not say to which."""

import pytest
from django.urls import reverse

from tests.factories.users import UserFactory
from tests.inventory.company import EVERYTHING, Company

pytestmark = pytest.mark.django_db


@pytest.fixture
def pages():
    """An account, the user zed in it, and the pages that name zed's inline policy."""
    company = Company()
    zed = company.user("zed@example.com", account=company.tools)
    policy = company.policy("emergency", EVERYTHING, account=company.tools, kind="iam_inline_policy")
    policy.attributes = {"policy_name": "emergency", "holder_arn": zed.external_id}
    policy.save()
    company.holds(zed, policy)
    alice = company.person("alice").identity
    alice.user = UserFactory(name="alice")
    alice.save()
    urls = [reverse("inventory:entitlements"), policy.get_absolute_url(), company.tools.get_absolute_url()]
    return alice, company.tools, urls


def seen(client, user, urls):
    client.force_login(user)
    bodies = [client.get(url).content.decode() for url in urls]
    assert all("emergency" in body for body in bodies)
    return ["zed@example.com" in body for body in bodies]


def test_an_engineer_looks_up_a_policy_without_reading_whose_it_is(client, pages):
    alice, _, urls = pages
    assert seen(client, alice.user, urls) == [False, False, False]


def test_the_owner_of_the_account_reads_whose_it_is(client, pages):
    alice, account, urls = pages
    account.owner = alice
    account.save()
    assert seen(client, alice.user, urls) == [False, True, True]


def test_who_sees_everything_reads_whose_it_is(client, pages):
    *_, urls = pages
    assert seen(client, UserFactory(auditor=True), urls) == [True, True, True]
