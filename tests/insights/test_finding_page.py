"""A finding's page says what it is about, and its evidence as people read it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.insights import inspecting, services
from apps.insights.models import Finding, Severity
from tests.factories.inventory import ConnectionFactory, EntitlementFactory
from tests.factories.users import UserFactory
from tests.inventory.company import Company


@pytest.mark.django_db
def test_evidence_is_what_is_wrong_first_and_instants_in_words(client: Client) -> None:
    evidence = {
        "since": "2026-11-22T22:29:57.302541+00:00",
        "and also": "It lets Acme in.",
        "last used": None,
        "Tried": "THE 99T99",
        "policy": "20260101T000000",  # whoever makes a policy may call it so
        "seen in": "2026-01-01T00:00:00+00:00",
        "what is wrong": "Anybody may assume it.",
    }
    finding = Finding.objects.create(
        connection=ConnectionFactory(),
        kind=Finding.Kind.OPEN_TRUST,
        key="identity:1:anybody",
        severity=Severity.HIGH,
        name="open-to-all",
        what="Its trust policy lets anybody assume it.",
        evidence=evidence,
        first_seen_at=timezone.now(),
    )
    client.force_login(UserFactory(auditor=True))
    page = client.get(finding.get_absolute_url()).content.decode()
    assert "open-to-all: Its trust policy lets anybody assume it." in page
    assert "22 November 2026, 22:29</time> UTC" in page
    assert "T22:29:57.3" not in page
    assert "20260101T000000" in page and "2026-01-01T00:00:00+00:00" in page
    assert "Last used" not in page
    assert page.index("Anybody may assume it.") < page.index("THE 99T99") < page.index("It lets Acme in.")


@pytest.mark.django_db
def test_inline_policies_of_one_name_are_told_apart_and_stay_accepted(client: Client) -> None:
    company = Company()
    for holder in ("policy-janitor", "deployer"):
        work = EntitlementFactory(
            connection=company.connection,
            resource=company.prod,
            kind="iam_inline_policy",
            name="work",
            privilege="privileged",
            can_escalate=True,
            attributes={"holder_arn": company.arn(f"service/{holder}")},
        )
        company.holds(company.role(holder), work)
    inspecting.inspect(company.connection)
    found = Finding.objects.filter(kind=Finding.Kind.ESCALATION, key__startswith="entitlement:")
    assert sorted(found.values_list("name", flat=True)) == ["work of deployer", "work of policy-janitor"]
    found.update(name="work")  # as it was before it said whose
    until = timezone.now() + timedelta(days=30)
    for finding in found:
        services.accept(finding, by=UserFactory(), until=until, reason="It is being replaced.")
    inspecting.inspect(company.connection)
    assert {one.accepted_until for one in found.all()} == {until}
    client.force_login(UserFactory(auditor=True))
    page = client.get(reverse("insights:findings"), {"show": "accepted"}).content.decode()
    assert "work of policy-janitor: work is not an administrator" in page
