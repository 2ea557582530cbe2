"""What was not looked at, or cannot be read, says nothing about a way that was known: it stays as it was."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.inventory import escalations, tracing
from apps.inventory.models import Entitlement, Escalation, Principal
from tests.inventory.company import EVERYTHING, Company, allow, policy, trust

pytestmark = pytest.mark.django_db


@pytest.fixture
def company() -> Company:
    return Company()


@pytest.fixture
def two_steps(company) -> Company:
    """`first`, of another account, can become `second`, who can become `admin`."""
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("stranger", may=[allow("sts:AssumeRole", company.arn("nobody"))])
    company.role("second", trust(company.root(company.tools)), may=[allow("sts:AssumeRole", company.arn("admin"))])
    company.role("first", may=[allow("sts:AssumeRole", company.arn("second"))], account=company.tools)
    assert ways(company) == {"first": 2, "second": 1}
    return company


def ways(company: Company) -> dict[str, int]:
    tracing.trace(company.connection)
    return dict(Escalation.objects.values_list("principal__name", "steps"))


def say(name: str, document: object, privilege: str) -> None:
    documents = [{"name": name, "document": document}]
    Entitlement.objects.filter(name=f"{name}-policy").update(
        documents=documents, privilege=privilege, can_escalate=False, digest=privilege
    )


def let_in(company: Company, name: str, document: object) -> None:
    role = Principal.objects.get(connection=company.connection, name=name)
    role.attributes = {**role.attributes, "trust": document}
    role.digest = str(document)[:64]
    role.save()


@pytest.mark.parametrize("name", ["admin", "second", "first"])
def test_a_way_stays_while_a_policy_on_it_cannot_be_read(two_steps, name):
    before = list(Escalation.objects.order_by("pk").values())
    say(name, "{", "unknown")
    for _ in range(2):
        ways(two_steps)
        assert list(Escalation.objects.order_by("pk").values()) == before
    say(name, policy(allow("s3:GetObject")), "read")
    assert ways(two_steps) == ({"second": 1} if name == "first" else {})


def test_a_step_that_is_closed_goes_also_while_it_is_not_known_who_is_an_administrator(two_steps):
    say("admin", "{", "unknown")
    say("first", policy(allow("s3:GetObject")), "read")
    assert ways(two_steps) == {"second": 1}
    say("second", policy(allow("s3:GetObject")), "read")
    assert ways(two_steps) == {}


@pytest.mark.parametrize("name", ["admin", "second"])
def test_a_way_stays_while_it_cannot_be_read_whom_a_role_on_it_lets_in(two_steps, name):
    before = list(Escalation.objects.order_by("pk").values())
    let_in(two_steps, name, "{")
    for _ in range(2):
        ways(two_steps)
        assert list(Escalation.objects.order_by("pk").values()) == before
    let_in(two_steps, name, policy(trust({"Service": "ec2.amazonaws.com"})))
    assert ways(two_steps) == ({"second": 1} if name == "second" else {})


def test_a_way_that_asks_nothing_of_a_trust_policy_goes_though_that_cannot_be_read(company):
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("deploy", may=[allow("iam:UpdateAssumeRolePolicy", company.arn("admin"))])
    assert ways(company) == {"deploy": 1}
    let_in(company, "admin", "{")
    assert ways(company) == {"deploy": 1}
    say("deploy", policy(allow("s3:GetObject")), "read")
    assert ways(company) == {}


def test_whom_a_role_lets_in_may_be_unknown_of_one_that_is_gone(two_steps):
    let_in(two_steps, "admin", "{")
    Principal.objects.filter(name="admin").update(ended_at=timezone.now())
    assert ways(two_steps) == {}


def test_whoever_was_no_administrator_is_none_when_it_cannot_be_read(company):
    company.role("reader", trust(company.root()), may=[allow("s3:GetObject")])
    company.role("deploy", may=[allow("sts:AssumeRole")])
    assert ways(company) == {}
    say("reader", "{", "unknown")
    assert ways(company) == {}


@pytest.mark.parametrize("what", ["held", "held by nobody"])
def test_the_way_of_a_permission_set_that_cannot_be_read_stays_while_somebody_holds_it(company, what):
    company.role("admin", trust(company.root(company.tools)), may=[EVERYTHING])
    held = company.permission_set("Deploy", allow("sts:AssumeRole", company.arn("admin")), account=company.tools)
    assignment = company.holds(company.person("alice"), held)
    tracing.trace(company.connection)
    Entitlement.objects.filter(pk=held.pk).update(
        documents=[{"name": "x", "document": "{"}], privilege="unknown", digest=""
    )
    if what == "held by nobody":
        assignment.period = type(assignment.period)(assignment.period.lower, timezone.now())
        assignment.save()
    tracing.trace(company.connection)
    assert Escalation.objects.count() == (1 if what == "held" else 0)


def test_beyond_a_bound_the_first_of_two_steps_stays_with_the_second(two_steps, monkeypatch):
    monkeypatch.setattr(escalations, "MOST_COMPARED", 1)
    assert ways(two_steps) == {"first": 2, "second": 1}


def test_beyond_a_bound_what_was_known_stays_while_its_holder_is_there(company, monkeypatch):
    for n in range(3):
        company.role(f"admin{n}", trust(company.root(), Condition={"Bool": {"aws:x": "1"}}), may=[EVERYTHING])
    rows = [company.role(f"r{n}", may=[allow("sts:AssumeRole")]) for n in range(3)]
    tracing.trace(company.connection)
    monkeypatch.setattr(escalations, "MOST_COMPARED", 4)
    tracing.trace(company.connection)
    assert Escalation.objects.count() == 3
    Principal.objects.filter(pk=rows[2].pk).update(ended_at=timezone.now())
    tracing.trace(company.connection)
    assert Escalation.objects.count() == 2


def test_ways_to_administrators_that_were_not_looked_at_stay(company, monkeypatch):
    for n in range(2):
        company.role(
            f"admin{n}", trust({"AWS": f"arn:aws:iam::{company.prod.external_id}:role/r{n}"}), may=[EVERYTHING]
        )
        company.role(f"r{n}")
    tracing.trace(company.connection)
    monkeypatch.setattr(escalations, "MOST_TARGETS", 1)
    tracing.trace(company.connection)
    assert Escalation.objects.count() == 2
