"""The page of somebody's ways into an account: what it shows, to whom, and what remains when one goes."""

from __future__ import annotations

import html
import json
import re

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.inventory import lines, paths, tracing
from apps.inventory.models import Entitlement, Identity, Principal
from apps.inventory.views import paths as views
from apps.inventory.views import ways
from tests.factories.users import UserFactory
from tests.inventory.company import EVERYTHING, Company, allow, trust

pytestmark = pytest.mark.django_db


@pytest.fixture
def company() -> Company:
    return Company()


@pytest.fixture
def alice(company) -> Identity:
    """Gets into prod as Reader, and from tools as deployer and from there as auditor."""
    alice = company.person("alice")
    engineers = company.group("Engineers", alice)
    company.holds(
        engineers.group, company.permission_set("Deploy", allow("sts:AssumeRole", "*"), account=company.tools)
    )
    company.holds(alice, company.permission_set("Reader", allow("s3:GetObject")))
    company.role("deployer", trust(company.root(company.tools)), may=[allow("iam:CreatePolicyVersion")])
    company.role("auditor", trust({"AWS": company.arn("deployer")}), may=[allow("ec2:Describe*")])
    tracing.trace(company.connection)
    return company.identity(alice)


@pytest.fixture
def erin(db) -> Client:
    client = Client()
    client.force_login(UserFactory(name="Erin", administrator=True))
    return client


def address(identity: Identity, account: object = None, without: str = "") -> str:
    url = reverse("inventory:paths", args=[identity.pk])
    return f"{url}?account={account.pk}&without={without}" if account else url


def test_every_way_is_a_line_with_its_reasons(company, alice, erin):
    page = erin.get(address(alice, company.prod)).content.decode()
    assert "How alice gets into" in page
    for said in ("Engineers", "Deploy in tools", "deployer in prod", "auditor in prod", "Reader"):
        assert said in page
    assert "deployer trusts the account" in page
    assert "and a policy lets Deploy assume it" in page
    assert 'aria-label="3 ways into prod: ' in page


def test_a_way_says_which_statement_gives_it_its_privilege(company, alice, erin):
    deployer = Principal.objects.get(name="deployer")
    company.holds(deployer, company.policy("hands", allow(["iam:PassRole", "s3:Get*"], Sid="Hands")))
    tracing.trace(company.connection)
    found = paths.find(alice, company.prod).paths
    causes = dict(zip((path.name for path in found), lines.causes(found), strict=True))
    assert {name: (cause.policy, json.loads(cause.statement)["Action"]) for name, cause in causes.items() if cause} == {
        "deployer": ("deployer-policy", "iam:CreatePolicyVersion"),  # of its two, weighed together
        "auditor": ("auditor-policy", "ec2:Describe*"),  # of its one
        "Reader": ("", "s3:GetObject"),
    }
    page = erin.get(address(alice, company.prod)).content.decode()
    assert "Because of this statement of deployer-policy</summary>" in page
    assert page.count("Because of this statement of ") == 2
    assert "&quot;Action&quot;: &quot;iam:CreatePolicyVersion&quot;" in page


def test_a_statement_that_is_not_what_the_reason_rests_on_is_not_shown(company, alice):
    Entitlement.objects.filter(name="auditor-policy").update(privilege_reason="Something else by now.")
    found = paths.find(alice, company.prod).paths
    assert dict(zip((path.name for path in found), lines.causes(found), strict=True))["auditor"] is None


def test_the_accounts_somebody_gets_into_come_first(company, alice, erin):
    page = erin.get(address(alice)).content.decode()
    assert f"?account={company.prod.pk}" in page
    assert f"?account={company.tools.pk}" in page


@pytest.mark.parametrize("page", ["1", "999", "x", "-1"])
def test_what_one_page_leaves_out_the_next_one_shows(company, alice, erin, monkeypatch, page):
    monkeypatch.setattr(views, "MOST_SHOWN", 2)
    first = erin.get(address(alice, company.prod)).content.decode()
    assert 'rel="prev"' not in first
    [following] = re.findall(r'href="\?([^"]*)" rel="next"', first)
    assert "auditor in prod" not in first.partition('id="list"')[2]
    second = erin.get(f"{address(alice)}?{html.unescape(following)}").content.decode().partition('id="list"')[2]
    assert "auditor in prod" in second
    assert 'rel="next"' not in second
    assert "deployer in prod" in erin.get(f"{address(alice, company.prod)}&page={page}").content.decode()


def test_accounts_are_paged_too(company, alice, erin, monkeypatch):
    monkeypatch.setattr(views, "MOST_SHOWN", 1)
    shown = [erin.get(f"{address(alice)}?page={n}").content.decode().partition('id="reached"')[2] for n in range(2)]
    assert [[name for name in ("tools", "prod") if f">{name}</a>" in page] for page in shown] == [["tools"], ["prod"]]


def test_what_remains_without_one_way_is_said(company, alice, erin):
    found = paths.find(alice, company.prod)
    chain = next(path for path in found.paths if path.name == "deployer")
    whole = erin.get(f"{address(alice, company.prod)}&page=0").content.decode()
    links = re.findall(r'href="([^"]*)" hx-get="([^"]*)"', whole)
    [link] = {html.unescape(one) for pair in links for one in pair if chain.key in one}
    assert link == f"?account={company.prod.pk}&page=0&without={chain.key}"
    page = erin.get(f"{address(alice)}{link}").content.decode()
    assert "1 way in remains" in page
    assert "Without deployer letting Deploy in, alice still gets into prod." in page
    assert "The most that remains is Reader: Can read in s3." in page
    assert page.count("Goes") == 2  # the chain, and the one that goes on from it
    assert "What remains" in page


def test_nothing_remains_where_there_was_one_way(company, alice, erin):
    found = paths.find(alice, company.tools)
    page = erin.get(address(alice, company.tools, found.paths[0].key)).content.decode()
    assert "Nothing remains" in page
    assert "Without the membership of Engineers, alice no longer gets into tools." in page


def test_an_answer_to_htmx_is_a_part_of_the_page(company, alice, erin):
    part = erin.get(address(alice, company.prod), headers={"HX-Request": "true"}).content.decode()
    assert "deployer in prod" in part
    assert "<html" not in part


def test_a_key_that_names_no_path_changes_nothing(company, alice, erin):
    page = erin.get(address(alice, company.prod, "nonsense<>")).content.decode()
    assert "The ways as a picture" in page
    assert "What remains</h2>" not in page


def test_who_may_not_see_the_person_or_the_account_finds_nothing(company, alice, erin):
    stranger = Client()
    stranger.force_login(UserFactory(name="Mallory"))
    assert stranger.get(address(alice, company.prod)).status_code == 404
    elsewhere = Company()
    assert erin.get(address(alice, elsewhere.prod)).status_code == 404
    assert erin.get(f"{address(alice)}?account=x").status_code == 404


def test_a_person_sees_their_own_ways_and_picks_nobody_else(company, alice):
    user = UserFactory(name="Alice")
    alice.user = user
    alice.save()
    client = Client()
    client.force_login(user)
    assert client.get(address(alice, company.prod)).status_code == 200
    company.person("bob")
    page = client.get(reverse("inventory:account_paths", args=[company.prod.pk])).content.decode()
    assert "alice" in page
    assert "bob" not in page


def test_what_makes_somebody_an_administrator_is_shown_with_its_statement(company, erin):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    ci = company.role("ci", may=[allow("sts:AssumeRole", company.arn("admin"), Sid="Up")])
    tracing.trace(company.connection)
    page = erin.get(address(company.identity(ci))).content.decode()
    assert "Can assume the role admin, an administrator." in page
    assert "&quot;Sid&quot;: &quot;Up&quot;" in page


def test_hostile_names_stay_text(company, alice, erin):
    company.role("x", trust({"AWS": company.arn("deployer")}))
    role = Principal.objects.get(pk=paths.find(alice, company.prod).paths[0].hops[-1].role.pk)
    role.name = "<script>alert(1)</script>"
    role.save()
    page = erin.get(address(alice, company.prod)).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_the_page_costs_the_same_queries_whatever_there_is(company, alice, erin):
    def queries() -> int:
        tracing.trace(company.connection)
        with CaptureQueriesContext(database) as captured:
            assert erin.get(address(alice, company.prod)).status_code == 200
        return len(captured)

    company.role("more", trust(company.root(company.tools)), may=[EVERYTHING])
    few = queries()
    for n in range(20):
        company.role(f"more{n}", trust(company.root(company.tools)), may=[EVERYTHING])
    assert queries() == few


def test_the_picture_draws_what_is_shared_once(company, alice):
    picture = ways.draw(alice, company.prod, paths.find(alice, company.prod).paths)
    assert [node.title for node in picture.nodes].count("deployer") == 1
    assert {node.title for node in picture.nodes} == {
        "alice", "prod", "Engineers", "Deploy", "Reader", "deployer", "auditor"
    }  # fmt: skip
    xs = {node.title: node.x for node in picture.nodes}
    assert xs["alice"] < xs["Engineers"] < xs["Deploy"] == xs["Reader"] < xs["deployer"] < xs["auditor"] < xs["prod"]
    assert ways.draw(alice, company.prod, []) is None


def test_no_line_of_the_picture_runs_through_what_it_is_not_about(company, alice):
    company.role("second", trust({"AWS": company.arn("deployer")}))
    tracing.trace(company.connection)
    picture = ways.draw(alice, company.prod, paths.find(alice, company.prod).paths)
    ends = {node.title: node for node in picture.nodes}
    beyond = [node for node in picture.nodes if ends["deployer"].x < node.x < ends["prod"].x]
    assert {node.title for node in beyond} == {"auditor", "second"}
    assert all(abs(node.y - ends["deployer"].y) > node.height for node in beyond)
