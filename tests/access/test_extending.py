"""Asking to hold a grant longer: the rules judge the whole time, and the yes moves the end of the same grant."""

from datetime import timedelta

import pytest
import time_machine
from django.db import transaction
from django.test import Client
from django.urls import reverse

from apps.access.models import AccessRequest
from apps.access.services import extensions, requests
from apps.access.services.offers import NotAllowed
from apps.core.lifecycle import Conflict
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant, State
from apps.inventory.models import Entitlement
from tests.access.conftest import LAPTOP, PASSKEY, TOTP, Company
from tests.grants.signing import give_key
from tests.grants.system import START

HOUR = timedelta(hours=1)


def held(company: Company, what: Entitlement | None = None, duration: timedelta = HOUR) -> Grant:
    """Something Alice asked for and has."""
    what = what or company.read
    row = company.offer(what)
    request = requests.ask(
        row, principal=company.alice, duration=duration, by=company.alice_user, place=LAPTOP, reason="Slow payments."
    )
    if request.tier == "approval":
        request = requests.approve(
            AccessRequest.objects.with_names().get(pk=request.pk), by=company.bob_user, place=TOTP
        )
    assert request.grant
    provisioning.provision(request.grant.pk)
    grant = Grant.objects.with_names().get(pk=request.grant.pk)
    assert grant.state == State.ACTIVE, grant.problem
    return grant


def longer(
    company: Company, grant: Grant, by=None, span: timedelta = HOUR, reason: str = "Still slow."
) -> AccessRequest:
    return extensions.ask_longer(grant, longer=span, reason=reason, by=by or company.alice_user, place=LAPTOP)


def end_of(grant: Grant):
    """After every worker did its part."""
    for extension in grant.extensions.unsettled():
        provisioning.extend(extension.pk)
    return Grant.objects.get(pk=grant.pk).ends_at


@pytest.fixture
def write(company: Company) -> Entitlement:
    """Something that needs approval by the manager or the owner."""
    return company.permission_set("Operator", "write")


def test_what_the_rules_give_at_once_is_extended_at_once(company: Company) -> None:
    grant = held(company)
    request = longer(company, grant)
    assert (request.state, request.tier, request.grant) == ("allowed", "auto", None)
    assert end_of(grant) == START + 2 * HOUR
    assert Grant.objects.count() == 1


def test_past_the_cap_of_the_rule_somebody_else_must_say_yes(company: Company) -> None:
    grant = held(company, duration=3 * HOUR)
    assert longer(company, grant).state == "allowed"  # four hours altogether, as long as the rule gives by itself
    assert end_of(grant) == START + 4 * HOUR
    assert longer(company, grant, span=timedelta(minutes=30)).state == "waiting"
    assert end_of(grant) == START + 4 * HOUR


def test_past_what_is_offered_at_a_time_it_is_not_given(company: Company) -> None:
    grant = held(company, duration=4 * HOUR)
    company.read.offers.update(max_for=4 * HOUR)
    with pytest.raises(NotAllowed, match="offered for 4 h"):
        longer(company, grant, span=timedelta(minutes=30))


def test_somebody_else_decides_again_where_somebody_else_decided(company: Company, write: Entitlement) -> None:
    grant = held(company, write)
    request = longer(company, grant)
    assert request.state == "waiting"
    assert end_of(grant) == START + HOUR
    request = AccessRequest.objects.with_names().get(pk=request.pk)
    with pytest.raises(NotAllowed):
        requests.approve(request, by=company.alice_user, place=TOTP)
    requests.approve(request, by=company.bob_user, place=TOTP)
    assert end_of(grant) == START + 2 * HOUR


def test_an_approval_that_comes_after_the_end_extends_nothing(company: Company, write: Entitlement) -> None:
    grant = held(company, write)
    request = AccessRequest.objects.with_names().get(pk=longer(company, grant).pk)
    services.end(grant, by=company.alice_user, reason=EndReason.DONE)
    with pytest.raises(services.NotPossible), transaction.atomic():
        requests.approve(request, by=company.bob_user, place=TOTP)
    assert not grant.extensions.exists()
    with time_machine.travel(START + HOUR, tick=False), pytest.raises(NotAllowed):
        requests.approve(AccessRequest.objects.with_names().get(pk=request.pk), by=company.bob_user, place=TOTP)


def test_two_approvers_extend_once(company: Company, write: Entitlement) -> None:
    grant = held(company, write)
    pk = longer(company, grant).pk
    seen = [AccessRequest.objects.with_names().get(pk=pk) for _ in range(2)]
    requests.approve(seen[0], by=company.bob_user, place=TOTP)
    with pytest.raises((Conflict, services.NotPossible)), transaction.atomic():
        requests.approve(seen[1], by=company.carol_user, place=PASSKEY)
    assert end_of(grant) == START + 2 * HOUR


def test_only_whoever_asked_can_ask_for_more_and_only_once_at_a_time(company: Company, write: Entitlement) -> None:
    grant = held(company, write)
    with pytest.raises(NotAllowed, match="whoever asked"):
        longer(company, grant, by=company.bob_user)
    longer(company, grant)
    with pytest.raises(NotAllowed, match="nobody decided"):
        longer(company, grant)
    with pytest.raises(NotAllowed, match="why"):
        longer(company, held(company), reason="x")


def test_what_is_no_longer_on_offer_is_not_extended(company: Company) -> None:
    grant = held(company)
    company.read.offers.update(withdrawn_at=START)
    with pytest.raises(NotAllowed, match="cannot be extended"):
        longer(company, grant)


def test_the_page_says_what_each_choice_takes_and_extends(company: Company, client: Client) -> None:
    grant = held(company)
    client.force_login(company.alice_user)
    url = reverse("access:extend", args=[grant.pk])
    assert reverse("access:extend", args=[grant.pk]) in client.get(grant.get_absolute_url()).content.decode()
    page = client.get(url).content.decode()
    assert "At once" in page
    assert client.post(url, {"longer": 3600, "reason": "Still slow."}).status_code == 302
    assert end_of(grant) == START + 2 * HOUR
    assert client.post(url, {"longer": 1, "reason": "Still slow."}).status_code == 422
    client.force_login(company.bob_user)
    assert client.get(url).status_code == 404


def test_what_cannot_be_extended_leads_back_to_the_grant(company: Company, client: Client) -> None:
    grant = held(company)
    services.end(grant, by=company.alice_user, reason=EndReason.DONE)
    client.force_login(company.alice_user)
    answer = client.get(reverse("access:extend", args=[grant.pk]))
    assert answer["Location"] == grant.get_absolute_url()


def test_holding_privileged_access_longer_takes_a_passkey_over_exactly_that(company: Company) -> None:
    key = give_key(company.bob_user)
    request = requests.ask(
        company.offer(company.admin),
        principal=company.alice,
        duration=HOUR / 2,
        reason="Slow payments.",
        ticket_ref="INC-1",
        by=company.alice_user,
        place=PASSKEY,
    )
    request = AccessRequest.objects.with_names().get(pk=request.pk)
    first = company.sign(request, company.bob_user, key)
    grant = requests.approve(request, by=company.bob_user, place=PASSKEY, credential=first).grant
    assert grant is not None
    provisioning.provision(grant.pk)
    grant = Grant.objects.with_names().get(pk=grant.pk)
    asked = extensions.ask_longer(grant, longer=HOUR / 2, reason="Still slow.", by=company.alice_user, place=PASSKEY)
    asked = AccessRequest.objects.with_names().get(pk=asked.pk)
    with pytest.raises(NotAllowed, match="something else"), transaction.atomic():
        requests.approve(asked, by=company.bob_user, place=PASSKEY, credential=first)
    second = company.sign(asked, company.bob_user, key)
    requests.approve(asked, by=company.bob_user, place=PASSKEY, credential=second)
    assert end_of(grant) == START + HOUR
