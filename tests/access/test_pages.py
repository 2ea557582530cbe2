"""The pages for asking and deciding, as each person sees them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from fido2.utils import websafe_encode
from pytest_django.asserts import assertContains

from apps.access.models import AccessRequest
from apps.access.services import requests
from apps.grants import provisioning
from apps.grants import services as grants
from apps.grants.models import EndReason, Grant
from apps.inventory.models import Entitlement
from apps.users import stepup
from tests.access.conftest import LAPTOP, PASSKEY, TOTP, Company
from tests.factories.users import UserFactory
from tests.grants.signing import give_key
from tests.grants.system import START


@pytest.fixture
def as_user(client: Client):
    def sign_in(user) -> Client:
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def stepped_up(monkeypatch: pytest.MonkeyPatch):
    """A fresh step-up with this method in every session."""

    def by(method: str) -> None:
        def proof(request, *, within=None, privileged=False):
            if privileged and method != "passkey":
                return {}
            return {"method": method, "authenticator": 1, "at": timezone.now().isoformat()}

        monkeypatch.setattr(stepup, "proof", proof)

    return by


def ask(company: Company, what) -> AccessRequest:
    row = what.offers.first() or company.offer(what)
    return requests.ask(
        row,
        principal=company.alice,
        duration=timedelta(hours=1),
        reason="Card payments are slow.",
        by=company.alice_user,
        place=LAPTOP,
    )


def test_home_tells_what_is_held_and_what_waits(company: Company, as_user) -> None:
    company.active()
    waiting = ask(company, company.permission_set("Operator", "write"))
    page = as_user(company.alice_user).get("/").content.decode()
    assert "Active now" in page
    assert waiting.entitlement.name in page
    assert "Can approve now:" in page


def test_somebody_who_is_not_linked_is_told_whom_to_ask(company: Company, as_user) -> None:
    assert "Ask an administrator to link you" in as_user(company.mallory).get("/").content.decode()


def test_the_catalogue_shows_tier_and_cap_before_anything_is_asked(company: Company, as_user) -> None:
    company.offer(company.read)
    company.offer(company.admin)
    page = as_user(company.alice_user).get("/request/").content.decode()
    assert "Auto" in page
    assert "up to 4 h" in page
    assert "Approval" in page


def test_the_panel_names_the_approvers_and_the_rule(company: Company, as_user) -> None:
    row = company.offer(company.permission_set("Operator", "write"))
    page = as_user(company.alice_user).get(f"/request/{row.pk}/").content.decode()
    assert "Can approve now" in page
    assert "Bob" in page
    assert "write-with-approval" in page
    assert "How it ends" in page


def test_asking_for_auto_access_leads_to_the_grant(company: Company, as_user) -> None:
    row = company.offer(company.read)
    answer = as_user(company.alice_user).post(
        f"/request/{row.pk}/",
        {"duration": 3600, "principal": company.alice.pk, "reason": "Card payments are slow."},
    )
    assert answer.status_code == 302
    assert answer["Location"] == Grant.objects.get().get_absolute_url()


def test_a_reason_that_says_nothing_is_refused_on_the_form(company: Company, as_user) -> None:
    row = company.offer(company.read)
    answer = as_user(company.alice_user).post(
        f"/request/{row.pk}/", {"duration": 3600, "principal": company.alice.pk, "reason": "x"}
    )
    assert answer.status_code == 422
    assert "why you need it" in answer.content.decode()


@pytest.mark.parametrize("fields", [{"duration": 999999}, {"principal": 0}, {"duration": "abc"}, {"reason": ""}])
def test_hostile_input_is_refused_and_writes_nothing(company: Company, as_user, fields: dict) -> None:
    row = company.offer(company.read)
    values = {"duration": 3600, "principal": company.alice.pk, "reason": "Card payments are slow.", **fields}
    assert as_user(company.alice_user).post(f"/request/{row.pk}/", values).status_code == 422
    assert not AccessRequest.objects.exists()


def test_somebody_elses_principal_cannot_be_named(company: Company, as_user) -> None:
    row = company.offer(company.read)
    values = {"duration": 3600, "principal": company.bob.pk, "reason": "Card payments are slow."}
    assert as_user(company.alice_user).post(f"/request/{row.pk}/", values).status_code == 422
    assert not Grant.objects.exists()


def test_what_was_typed_survives_the_step_up(company: Company, as_user) -> None:
    row = company.offer(company.admin)
    browser = as_user(company.alice_user)
    values = {
        "duration": 3600,
        "principal": company.alice.pk,
        "reason": "Card payments are slow.",
        "ticket_ref": "INC-1",
    }
    answer = browser.post(f"/request/{row.pk}/", values, headers={"referer": f"http://testserver/request/{row.pk}/"})
    assert "/settings/step-up/" in answer["Location"]
    page = browser.get(f"/request/{row.pk}/").content.decode()
    assert "Card payments are slow." in page
    assert "INC-1" in page


def test_an_approver_decides_on_the_requests_page(company: Company, as_user, stepped_up) -> None:
    asked = ask(company, company.permission_set("Operator", "write"))
    browser = as_user(company.bob_user)
    assert asked.entitlement.name in browser.get("/approvals/").content.decode()
    stepped_up("totp")
    browser.post(f"/requests/{asked.pk}/decide/", {"choice": "approve"})
    asked.refresh_from_db()
    assert asked.state == "allowed"


def test_approving_without_a_step_up_asks_for_one_and_keeps_what_was_typed(company: Company, as_user) -> None:
    asked = ask(company, company.permission_set("Operator", "write"))
    browser = as_user(company.bob_user)
    answer = browser.post(f"/requests/{asked.pk}/decide/", {"choice": "approve", "reason": "Only until noon."})
    assert "/settings/step-up/" in answer["Location"]
    asked.refresh_from_db()
    assert asked.state == "waiting"
    assert "Only until noon." in browser.get(f"/requests/{asked.pk}/").content.decode()


def test_the_second_approver_is_told_that_it_is_decided(company: Company, as_user, stepped_up) -> None:
    asked = ask(company, company.permission_set("Operator", "write"))
    requests.approve(asked, by=company.bob_user, place=TOTP)
    stepped_up("totp")
    answer = as_user(company.carol_user).post(f"/requests/{asked.pk}/decide/", {"choice": "approve"}, follow=True)
    assert "allowed now" in answer.content.decode()


def test_the_same_browser_confirms_only_with_a_passkey(company: Company, as_user, stepped_up) -> None:
    company.account.environment = "staging"
    company.account.save()
    asked = ask(company, company.permission_set("Deployer", "write"))
    browser = as_user(company.alice_user)
    stepped_up("totp")
    assert "passkey=1" in browser.post(f"/requests/{asked.pk}/confirm/")["Location"]
    stepped_up("passkey")
    assert browser.post(f"/requests/{asked.pk}/confirm/")["Location"].startswith("/grants/")


def test_strangers_find_nothing(company: Company, as_user) -> None:
    asked = ask(company, company.permission_set("Operator", "write"))
    browser = as_user(company.mallory)
    for path in (f"/requests/{asked.pk}/", "/offers/"):
        assert browser.get(path).status_code == 404
    for verb in ("confirm", "decide", "withdraw"):
        assert browser.post(f"/requests/{asked.pk}/{verb}/", {"choice": "approve"}).status_code == 404


def test_an_approver_cannot_confirm_or_withdraw_for_the_requester(company: Company, as_user) -> None:
    asked = ask(company, company.permission_set("Operator", "write"))
    browser = as_user(company.bob_user)
    assert browser.post(f"/requests/{asked.pk}/confirm/").status_code == 404
    assert browser.post(f"/requests/{asked.pk}/withdraw/").status_code == 404


def test_names_and_reasons_are_escaped(company: Company, as_user) -> None:
    evil = company.permission_set("<script>alert(1)</script>", "write")
    row = company.offer(evil)
    asked = requests.ask(
        row,
        principal=company.alice,
        duration=timedelta(hours=1),
        reason="</p><script>alert(2)</script>",
        by=company.alice_user,
        place=LAPTOP,
    )
    for path in ("/", "/request/", f"/request/{row.pk}/", f"/requests/{asked.pk}/"):
        assert "<script>alert" not in as_user(company.alice_user).get(path).content.decode(), path


@pytest.mark.parametrize("path", ["/", "/request/", "/approvals/", "/grants/", "/grants/all/", "/offers/"])
def test_queries_do_not_grow_with_rows(company: Company, as_user, path: str) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def fill(count: int) -> int:
        for number in range(count):
            name = f"Set{path.strip('/').replace('/', '')}{count}x{number}"
            ask(company, company.permission_set(name, "write"))
            company.issue(what=company.permission_set(f"{name}r", "read"))
        browser = as_user(
            company.erin if path == "/offers/" else company.bob_user if path == "/approvals/" else company.alice_user
        )
        browser.get(path)
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert browser.get(path).status_code == 200
        return len(seen)

    assert fill(1) == fill(8)


def test_administrators_keep_the_catalogue(company: Company, as_user) -> None:
    browser = as_user(company.erin)
    answer = browser.post(f"/offers/add/{company.read.pk}/", {"provisioner": "idc_assignment", "hours": 4})
    assert answer.status_code == 302
    row = company.read.offers.get()
    assert company.read.name in browser.get("/offers/").content.decode()
    browser.post(f"/offers/{row.pk}/withdraw/")
    row.refresh_from_db()
    assert row.withdrawn_at


def test_a_grants_page_tells_its_whole_story(company: Company, as_user) -> None:
    grant = company.active()
    page = as_user(company.alice_user).get(grant.get_absolute_url()).content.decode()
    for title in ("Allowed", "End written before the start", "Active", "How it ends"):
        assert title in page
    answer = as_user(company.alice_user).post(f"/grants/{grant.pk}/end/")
    assert answer["Location"] == grant.get_absolute_url()
    grant.refresh_from_db()
    assert (grant.state, grant.end_reason) == ("revoking", "done")


def test_a_grants_page_shows_other_paths_only_to_those_who_may_see_them(company: Company, as_user) -> None:
    grant = company.active()
    company.holds(company.alice, company.admin)
    owner = company.person("olga").identity
    company.read.owner = owner
    company.read.save()
    sees = {company.alice_user: True, company.carol_user: True, company.bob_user: True, owner.user: False}
    for user, shows in sees.items():
        page = as_user(user).get(grant.get_absolute_url()).content.decode()
        assert ("Paths that remain" in page) == ("Other paths here" in page) == shows, user


def test_offers_of_another_system_are_not_shown(company: Company, as_user) -> None:
    other = Company()
    row = other.offer(other.permission_set("Elsewhere", "read"))
    browser = as_user(company.alice_user)
    assert "Elsewhere" not in browser.get("/request/").content.decode()
    assert browser.get(f"/request/{row.pk}/").status_code == 404


def test_a_step_up_from_before_the_request_confirms_nothing(company: Company, as_user, monkeypatch) -> None:
    company.account.environment = "staging"
    company.account.save()
    asked = ask(company, company.permission_set("Deployer", "write"))
    before = (START - timedelta(seconds=1)).isoformat()
    monkeypatch.setattr(stepup, "proof", lambda *_, **__: {"method": "passkey", "authenticator": 1, "at": before})
    answer = as_user(company.alice_user).post(f"/requests/{asked.pk}/confirm/")
    assert "/settings/step-up/" in answer["Location"]
    asked.refresh_from_db()
    assert asked.state == "confirming"


def test_who_may_see_and_end_a_grant(company: Company, as_user) -> None:
    grant = company.active()
    auditor = UserFactory(name="Dan", auditor=True)
    sees = {company.alice_user: 200, company.bob_user: 200, company.carol_user: 200, auditor: 200, company.mallory: 404}
    for user, status in sees.items():
        assert as_user(user).get(grant.get_absolute_url()).status_code == status, user
    for user in (auditor, company.carol_user, company.mallory):
        assert as_user(user).post(f"/grants/{grant.pk}/end/").status_code == 404, user
    as_user(company.bob_user).post(f"/grants/{grant.pk}/end/")
    grant.refresh_from_db()
    assert grant.end_reason == "revoked"


def test_a_persons_page_says_which_grant_put_an_assignment_there(company: Company, as_user) -> None:
    grant = company.active()
    browser = as_user(company.alice_user)
    page = browser.get(company.alice.identity.get_absolute_url()).content.decode()
    assert "JIT until 10:00" in page
    tab = browser.get(f"/grants/of/{company.alice.identity.pk}/").content.decode()
    assert grant.get_absolute_url() in tab
    assert as_user(company.mallory).get(f"/grants/of/{company.alice.identity.pk}/").status_code == 404


def test_a_story_begins_with_the_asking(company: Company, as_user) -> None:
    grant = ask(company, company.read).grant
    page = as_user(company.alice_user).get(grant.get_absolute_url()).content.decode()
    assert page.index("Requested by Alice") < page.index(">Allowed<")


def test_a_closed_grant_shows_its_receipt(company: Company, as_user) -> None:
    grant = company.active()
    grants.end(grant, by=company.alice_user, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    page = as_user(company.alice_user).get(grant.get_absolute_url()).content.decode()
    for words in (
        "Removed and checked",
        "alice does not hold Read",
        "read back",
        "Sessions opened before could live until",
        "What lives on",
    ):
        assert words in page, words


POLICY = {
    "name": "Read the logs",
    "slug": "read-logs",
    "actions": "logs:GetLogEvents\nlogs:FilterLogEvents",
    "resources": "*",
    "hours": 4,
}


def test_administrators_define_what_iam_users_and_roles_can_be_given(company: Company, as_user) -> None:
    browser = as_user(company.erin)
    answer = browser.post("/offers/new-policy/", {**POLICY, "account": company.account.pk})
    assert answer.status_code == 302
    row = Entitlement.objects.get(kind="dated_policy")
    assert (row.privilege, row.offers.get().provisioner) == ("read", "iam_timeboxed_policy")
    assert row.attributes["statements"] == [
        {"actions": ["logs:GetLogEvents", "logs:FilterLogEvents"], "resources": ["*"]}
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"actions": "everything"}, "is no action"),
        ({"resources": "my-bucket"}, "is no resource"),
        ({"actions": "iam:PutUserPolicy"}, "has no ender strong enough"),
        ({"actions": "*:*"}, "is no action"),
    ],
)
def test_a_policy_that_cannot_be_ended_safely_or_is_none_is_refused_whole(
    company: Company, as_user, wrong: dict, says: str
) -> None:
    answer = as_user(company.erin).post("/offers/new-policy/", {**POLICY, **wrong, "account": company.account.pk})
    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not Entitlement.objects.filter(kind="dated_policy").exists()


def test_people_can_be_given_a_dated_policy_as_a_role_of_their_own_even_a_privileged_one(
    company: Company, as_user
) -> None:
    company.connection.kind = "aws"
    company.connection.save()
    asked = {**POLICY, "actions": "iam:PutUserPolicy", "provisioner": "iam_jit_role", "account": company.account.pk}
    assert as_user(company.erin).post("/offers/new-policy/", asked).status_code == 302
    row = Entitlement.objects.get(kind="dated_policy")
    assert row.is_privileged
    assert row.offers.get().provisioner == "iam_jit_role"


OPENING = {
    "name": "Reach the orders database",
    "slug": "orders-db",
    "region": "eu-central-1",
    "group_id": "sg-0123456789abcdef0",
    "protocol": "tcp",
    "from_port": 5432,
    "source": "10.1.0.0/24",
    "hours": 2,
}


def test_administrators_define_what_can_be_let_in_for_a_time(company: Company, as_user) -> None:
    company.connection.kind = "aws"
    company.connection.save()
    browser = as_user(company.erin)
    assert "not for a person" in browser.get("/offers/new-opening/").content.decode()
    answer = browser.post("/offers/new-opening/", {**OPENING, "account": company.account.pk})
    assert answer.status_code == 302
    row = Entitlement.objects.get(kind="network_rule")
    assert (row.privilege, row.offers.get().provisioner) == ("write", "security_group_rule")
    assert (row.attributes["from_port"], row.attributes["to_port"]) == (5432, 5432)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"source": "0.0.0.0/0"}, "too many"),
        ({"source": "<script>"}, "no source"),
        ({"group_id": "default"}, "security group"),
        ({"from_port": "ssh"}, "whole number"),
        ({"to_port": 22}, "backwards"),
        ({"protocol": "icmp"}, "valid choice"),
        ({"hours": 200}, "less than or equal"),
    ],
)
def test_an_opening_that_lets_too_many_in_or_is_none_is_refused_whole(
    company: Company, as_user, wrong: dict, says: str
) -> None:
    asked = {**OPENING, **wrong, "account": company.account.pk}
    answer = as_user(company.erin).post("/offers/new-opening/", asked)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert says in page
    assert "“<script>" not in page
    assert not Entitlement.objects.filter(kind="network_rule").exists()


# ---- a passkey that signs


@pytest.fixture
def admin(company: Company) -> AccessRequest:
    """Alice asks for admin access in production, which Bob may open."""
    return requests.ask(
        company.offer(company.admin),
        principal=company.alice,
        duration=timedelta(hours=1),
        reason="Card payments are slow.",
        ticket_ref="INC-1",
        by=company.alice_user,
        place=PASSKEY,
    )


def test_the_page_asks_for_a_signature_over_this_request_and_the_form_carries_it(
    company: Company, as_user, admin: AccessRequest
) -> None:
    key, browser = give_key(company.bob_user), as_user(company.bob_user)
    page = browser.get(admin.get_absolute_url())
    options = page.context["passkey"]
    assert [one["id"] for one in options["allowCredentials"]] == [websafe_encode(key.id)]
    credential = json.dumps(key.sign(options["challenge"]))
    browser.post(f"/requests/{admin.pk}/decide/", {"choice": "approve", "credential": credential})
    admin.refresh_from_db()
    assert admin.state == "allowed"


@pytest.mark.parametrize("credential", ["", "{}", '{"id": "x"}'])
def test_without_a_signature_it_says_what_to_do_and_opens_nothing(
    company: Company, as_user, stepped_up, admin: AccessRequest, credential: str
) -> None:
    stepped_up("passkey")
    give_key(company.bob_user)
    form = {"choice": "approve", "credential": credential}
    page = as_user(company.bob_user).post(f"/requests/{admin.pk}/decide/", form, follow=True)
    assert "passkey" in str(next(iter(page.context["messages"])))
    assert not Grant.objects.exists()


def test_who_has_no_passkey_that_counts_is_told_from_when_it_does(
    company: Company, as_user, admin: AccessRequest
) -> None:
    browser = as_user(company.bob_user)
    page = browser.get(admin.get_absolute_url())
    assertContains(page, "Add a passkey")
    assertContains(page, "disabled")
    give_key(company.bob_user, waited=False)
    assertContains(browser.get(admin.get_absolute_url()), "signs from")
