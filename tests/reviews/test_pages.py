"""Reviewers', auditors' and administrators' pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.inventory.models import Identity
from apps.reviews.models import Campaign, ReviewItem, SignOff
from apps.reviews.services import campaigns, items
from tests.reviews.conftest import REASON, Company, client_of, decide_all, item_of

HTMX = {"HX-Request": "true"}


@pytest.fixture
def campaign(company: Company) -> Campaign:
    for who in (company.alice, company.bob):
        company.stands(who, company.read)
        company.stands(who, company.admin)
    return company.launch()


def text(response: Any) -> str:
    return " ".join(response.content.decode().split())


# ---- who sees what

MEMBERS = ["carol_user", "erin_user", "dan", "mallory"]
READ = {"carol_user": 404, "erin_user": 200, "dan": 200, "mallory": 404}
RUN = {"carol_user": 404, "erin_user": 302, "dan": 404, "mallory": 404}
FORM = {**RUN, "erin_user": 200}
DESK = {"carol_user": 200, "erin_user": 404, "dan": 404, "mallory": 404}
ACT = {**DESK, "carol_user": 302}
ROUTES = [
    ("GET", "campaigns/", READ),
    ("GET", "campaigns/new/", FORM),
    ("GET", "campaigns/{campaign}/", READ),
    ("GET", "campaigns/{campaign}/items/", READ),
    ("GET", "campaigns/{campaign}/items/{item}/", READ),
    ("POST", "campaigns/{campaign}/launch/", RUN),
    ("POST", "campaigns/{campaign}/discard/", RUN),
    ("POST", "campaigns/{campaign}/remind/", RUN),
    ("POST", "campaigns/{campaign}/close/", RUN),
    ("POST", "campaigns/{campaign}/reassign/", RUN),
    ("GET", "", {"carol_user": 302, "erin_user": 200, "dan": 200, "mallory": 200}),
    ("GET", "{campaign}/mine/", DESK),
    ("GET", "{campaign}/mine/sign/", DESK),
    ("GET", "{campaign}/mine/{item}/", DESK),
    ("POST", "{campaign}/mine/{item}/decide/", {**ACT, "carol_user": 302}),
    ("POST", "{campaign}/mine/many/", {**ACT, "carol_user": 422}),
    ("POST", "{campaign}/mine/undo/", {**ACT, "carol_user": 422}),
    ("POST", "{campaign}/mine/pass/", {**ACT, "carol_user": 422}),
    ("POST", "{campaign}/mine/sign/", {**ACT, "carol_user": 409}),
    ("GET", "of/{identity}/", {"carol_user": 200, "erin_user": 200, "dan": 200, "mallory": 404}),
]


@pytest.mark.parametrize("who", MEMBERS)
@pytest.mark.parametrize(("method", "path", "allowed"), ROUTES)
def test_each_page_is_there_for_those_it_is_for(
    company: Company, campaign: Campaign, method: str, path: str, allowed: dict[str, int], who: str
) -> None:
    item = item_of(campaign, company.alice, company.read)
    url = "/reviews/" + path.format(campaign=campaign.pk, item=item.pk, identity=company.alice.identity_id)
    client = client_of(getattr(company, who))
    response = client.get(url) if method == "GET" else client.post(url, {"choice": "keep"})
    assert response.status_code == allowed[who]


def test_every_address_is_in_the_table() -> None:
    from apps.reviews.urls import urlpatterns

    named = {str(each.pattern).replace("campaign_id", "campaign") for each in urlpatterns}
    listed = {path.replace("{", "<int:").replace("}", ">") for _, path, _ in ROUTES}
    plain = {
        name.replace("<int:pk>", "*").replace("<int:item_id>", "*").replace("<int:campaign>", "*") for name in named
    }
    assert plain == {
        path.replace("<int:campaign>", "*").replace("<int:item>", "*").replace("<int:identity>", "*") for path in listed
    }


def test_nobody_sees_or_decides_an_item_of_another_reviewer(company: Company, campaign: Campaign) -> None:
    robot = company.machine("robot")
    company.stands(robot, company.read)
    second = company.launch(name="Machines", holders=["human", "machine"])
    item = item_of(second, robot, company.read)
    carol = client_of(company.carol_user)
    assert carol.get(f"/reviews/{second.pk}/mine/").status_code == 200
    assert carol.get(f"/reviews/{second.pk}/mine/{item.pk}/").status_code == 404
    assert carol.post(f"/reviews/{second.pk}/mine/{item.pk}/decide/", {"choice": "keep"}).status_code == 404
    carol.post(f"/reviews/{second.pk}/mine/many/", {"choice": "keep", "reason": REASON, "item": [item.pk]})
    item.refresh_from_db()
    assert not item.is_decided


def test_a_draft_is_nobodys_review(company: Company) -> None:
    draft = company.draft()
    assert client_of(company.carol_user).get(f"/reviews/{draft.pk}/mine/").status_code == 404


# ---- the desk


def test_an_item_says_what_it_allows_how_it_is_held_and_what_remains(company: Company) -> None:
    membership = company.group("payments-admins", company.admin)
    company.stands(company.alice, membership)
    company.stands(company.alice, company.read)
    campaign = company.launch()
    item = item_of(campaign, company.alice, membership)
    page = text(client_of(company.carol_user).get(f"/reviews/{campaign.pk}/mine/{item.pk}/"))
    assert "is a member of" in page
    assert "What the group brings" in page
    assert "payments-admins" in page
    assert "When it was last used is unknown, which is not the same as unused" in page
    assert f"Manager of {company.alice.identity.name}" in page
    assert '<span class="gh-strong">Read</span> in production remains, held directly' in page
    assert "Gatehouse removes it after you sign" in page


def test_what_we_cannot_remove_is_said_before_the_decision(company: Company) -> None:
    membership = company.group("scim", company.admin)
    membership.group.is_externally_owned = True  # type: ignore[union-attr]
    membership.group.save()  # type: ignore[union-attr]
    company.stands(company.alice, membership)
    campaign = company.launch()
    page = text(client_of(company.carol_user).get(f"/reviews/{campaign.pk}/mine/"))
    assert "Gatehouse cannot remove this itself." in page


def test_without_javascript_a_review_is_a_row_of_forms(company: Company, campaign: Campaign) -> None:
    carol = client_of(company.carol_user)
    start = carol.get("/reviews/")
    assert start.url == f"/reviews/{campaign.pk}/mine/"
    for item in campaign.items.order_by("pk"):
        response = carol.post(f"/reviews/{campaign.pk}/mine/{item.pk}/decide/", {"choice": "revoke", "reason": REASON})
        assert response.status_code == 302
    assert campaign.items.undecided().count() == 0
    assert "4 go" in text(carol.get(f"/reviews/{campaign.pk}/mine/sign/"))
    assert carol.post(f"/reviews/{campaign.pk}/mine/sign/").status_code == 302
    assert SignOff.objects.get().counts["revoke"] == 4
    assert "You signed for this" in text(carol.get(f"/reviews/{campaign.pk}/mine/sign/"))


def test_htmx_gets_the_desk_alone_and_goes_on_to_the_next(company: Company, campaign: Campaign) -> None:
    carol = client_of(company.carol_user)
    first, second = campaign.items.order_by("pk")[:2]
    response = carol.post(
        f"/reviews/{campaign.pk}/mine/{first.pk}/decide/",
        {"choice": "revoke", "reason": REASON},
        headers=HTMX,
        follow=True,
    )
    assert response.redirect_chain == [(f"/reviews/{campaign.pk}/mine/{second.pk}/", 302)]
    page = text(response)
    assert page.startswith('<div class="gh-work" id="desk">')
    assert "<html" not in page


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_missing_reason_is_asked_for_in_place(company: Company, campaign: Campaign, headers: dict[str, str]) -> None:
    item = item_of(campaign, company.alice, company.admin)
    carol = client_of(company.carol_user)
    url = f"/reviews/{campaign.pk}/mine/{item.pk}/"
    assert "Why does it stay?" in text(carol.get(f"{url}?choice=keep", headers=headers))
    response = carol.post(f"{url}decide/", {"choice": "keep", "reason": "ok"}, headers=headers)
    assert response.status_code == 422
    page = text(response)
    assert "Say in a few words why this privileged access stays." in page
    assert 'value="ok"' in page


def test_filters_stay_on_the_way_to_the_next_item(company: Company, campaign: Campaign) -> None:
    carol = client_of(company.carol_user)
    url = f"/reviews/{campaign.pk}/mine/"
    first = item_of(campaign, company.alice, company.admin)
    response = carol.post(f"{url}{first.pk}/decide/?show=privileged&x=1", {"choice": "revoke", "reason": REASON})
    assert response.url == f"{url}{item_of(campaign, company.bob, company.admin).pk}/?show=privileged"
    assert "Nothing fits" in text(carol.get(f"{url}?q=nobody"))


def test_many_are_decided_with_one_reason_and_taken_back_together(company: Company, campaign: Campaign) -> None:
    carol = client_of(company.carol_user)
    picked = list(campaign.items.values_list("pk", flat=True)[:3])
    carol.post(f"/reviews/{campaign.pk}/mine/many/", {"choice": "revoke", "reason": REASON, "item": picked})
    assert campaign.items.decided().count() == 3
    carol.post(f"/reviews/{campaign.pk}/mine/undo/")
    assert campaign.items.decided().count() == 0
    response = carol.post(f"/reviews/{campaign.pk}/mine/many/", {"choice": "revoke", "reason": "", "item": picked})
    assert response.status_code == 422
    assert "why it shall go" in text(response)


def test_an_item_is_passed_on_from_the_desk(company: Company, campaign: Campaign) -> None:
    carol = client_of(company.carol_user)
    item = item_of(campaign, company.alice, company.read)
    url = f"/reviews/{campaign.pk}/mine/pass/"
    carol.post(url, {"item": [item.pk], "to": company.bob_user.email, "reason": "Bob knows this."})
    item.refresh_from_db()
    assert item.reviewer == company.bob_user
    response = carol.post(url, {"all": "1", "to": "nobody@example.com", "reason": "Bob knows this."})
    assert response.status_code == 422
    assert "Nobody signs in with this address" in text(response)
    response = carol.post(url, {"all": "1", "to": company.frank_user.email, "reason": "I am away."})
    assert response.url == "/reviews/"
    assert not ReviewItem.objects.filter(reviewer=company.carol_user).exists()


def test_hostile_names_and_reasons_are_only_text(company: Company) -> None:
    Identity.objects.filter(pk=company.alice.identity_id).update(name="<script>alert(1)</script>")
    company.stands(company.alice, company.read)
    campaign = company.launch()
    item = campaign.items.get()
    items.decide(item, choice="revoke", reason="<img src=x onerror=alert(1)>", by=company.carol_user)
    carol, erin = client_of(company.carol_user), client_of(company.erin_user)
    for client, url in (
        (carol, f"/reviews/{campaign.pk}/mine/"),
        (carol, f"/reviews/{campaign.pk}/mine/sign/"),
        (erin, f"/reviews/campaigns/{campaign.pk}/items/"),
        (erin, f"/reviews/campaigns/{campaign.pk}/items/{item.pk}/"),
    ):
        page = client.get(url).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page


# ---- the campaign's own pages


def test_a_campaign_is_drafted_looked_at_launched_and_closed_by_forms(company: Company) -> None:
    company.stands(company.alice, company.read)
    erin = client_of(company.erin_user)
    form = {
        "name": "Q4 2026",
        "connection": company.connection.pk,
        "holders": ["human"],
        "due_on": (timezone.now() + timedelta(days=9)).date().isoformat(),
        "fallback": company.frank_user.email,
    }
    assert erin.post("/reviews/campaigns/new/", {**form, "fallback": company.mallory.email}).status_code == 422
    assert not Campaign.objects.exists()
    page = erin.post("/reviews/campaigns/new/", form, follow=True)
    campaign = Campaign.objects.get()
    assert (campaign.privileged_only, campaign.environments, campaign.holders) == (False, [], ["human"])
    assert "Launch and ask 1 reviewer" in text(page)
    page = erin.post(f"/reviews/campaigns/{campaign.pk}/launch/", follow=True)
    assert "off by 0" in text(page)
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    erin.post(f"/reviews/campaigns/{campaign.pk}/close/")
    campaign.refresh_from_db()
    assert campaign.is_closed


def test_a_blocked_launch_says_why_on_the_draft(company: Company) -> None:
    campaign = company.draft()
    erin = client_of(company.erin_user)
    assert "Widen it." in text(erin.get(f"/reviews/campaigns/{campaign.pk}/"))
    response = erin.post(f"/reviews/campaigns/{campaign.pk}/launch/", follow=True)
    assert "Nothing standing is in this scope. Widen it." in text(response)


def test_a_campaign_that_is_not_finished_closes_only_with_a_note(company: Company, campaign: Campaign) -> None:
    erin = client_of(company.erin_user)
    url = f"/reviews/campaigns/{campaign.pk}/close/"
    assert "It is not finished" in text(erin.post(url, follow=True))
    assert "Say in a few words" in text(erin.post(url, {"force": "1"}, follow=True))
    page = text(erin.post(url, {"force": "1", "note": "The quarter is over."}, follow=True))
    assert "Closed with exceptions" in page


def test_items_are_found_by_where_they_stand(company: Company, campaign: Campaign) -> None:
    first = item_of(campaign, company.alice, company.read)
    items.decide(first, choice="revoke", reason="Wrote something rare.", by=company.carol_user)
    erin = client_of(company.erin_user)
    url = f"/reviews/campaigns/{campaign.pk}/items/"
    for query, count in (
        ("outcome=not_started", 1),
        ("outcome=undecided", 3),
        ("privilege=admin", 2),
        ("rule=manager", 4),
        ("rule=owner", 0),
        (f"reviewer={company.carol_user.pk}", 4),
        (f"reviewer={company.frank_user.pk}", 0),
        ("signed=no", 4),
        (f"q={company.alice.identity.name}", 2),
        ("q=Admin in", 2),
        ("outcome=nonsense", 4),
    ):
        assert len(erin.get(f"{url}?{query}").context["page"].rows) == count, query


def test_an_administrator_passes_picked_items_on(company: Company, campaign: Campaign) -> None:
    erin = client_of(company.erin_user)
    picked = list(campaign.items.values_list("pk", flat=True)[:2])
    to = {"to": company.frank_user.email, "reason": "Carol is away."}
    erin.post(f"/reviews/campaigns/{campaign.pk}/reassign/", {**to, "item": picked})
    assert campaign.items.filter(reviewer=company.frank_user).count() == 2
    page = erin.post(f"/reviews/campaigns/{campaign.pk}/reassign/", {**to, "item": ["x", "-1"]}, follow=True)
    assert "Pick what you want to decide first" in text(page)


def test_an_item_tells_its_whole_story(company: Company, campaign: Campaign) -> None:
    item = item_of(campaign, company.alice, company.read)
    items.decide(item, choice="keep", by=company.carol_user)
    items.undo(campaign=campaign, by=company.carol_user)
    decide_all(campaign, "revoke", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    page = text(client_of(company.dan).get(f"/reviews/campaigns/{campaign.pk}/items/{item.pk}/"))
    for told in ("Asked", "Keep", "Open again", "Revoke", "Signed", REASON):
        assert told in page


def test_the_burn_down_says_how_many_are_left(company: Company, campaign: Campaign) -> None:
    items.decide(item_of(campaign, company.alice, company.read), choice="keep", by=company.carol_user)
    page = text(client_of(company.dan).get(f"/reviews/campaigns/{campaign.pk}/"))
    assert "3 of 4 decisions are left, 4 were planned." in page


# ---- cost


@pytest.mark.parametrize(
    ("path", "who"),
    [
        ("{campaign}/mine/", "carol_user"),
        ("{campaign}/mine/sign/", "carol_user"),
        ("campaigns/", "dan"),
        ("campaigns/{campaign}/", "dan"),
        ("campaigns/{campaign}/items/", "erin_user"),
    ],
)
def test_a_page_costs_the_same_with_one_item_and_with_twenty(company: Company, path: str, who: str) -> None:
    client = client_of(getattr(company, who))
    counts = []
    for people in (1, 20):
        for number in range(people):
            person = company.person(f"p{people}-{number}")
            company.managed_by(person, company.carol)
            company.stands(person, company.read)
        campaign = company.launch(name=f"With {people}")
        decide_all(campaign, "revoke", reviewer=company.carol_user)
        url = "/reviews/" + path.format(campaign=campaign.pk)
        client.get(url)
        with CaptureQueriesContext(database) as queries:
            assert client.get(url).status_code == 200
        counts.append(len(queries))
        campaigns.close(campaign, by=company.erin_user, force=True, note="Only a test of costs.")
    assert counts[0] == counts[1]
