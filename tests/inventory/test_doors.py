"""Roles are found by whom they let in, in order, and no more than asked for."""

from __future__ import annotations

import pytest

from apps.inventory import doors, tracing
from tests.inventory.company import EVERYTHING, Company, allow, trust

pytestmark = pytest.mark.django_db


@pytest.fixture
def company() -> Company:
    company = Company()
    company.role("reader", trust(company.root()), may=[allow("s3:GetObject")])
    company.role("admin", trust(company.root()), may=[EVERYTHING])
    company.role("named", trust({"AWS": company.arn("caller")}), may=[])
    company.role("there", trust(company.root()), may=[allow("s3:GetObject")], account=company.tools)
    company.role("gone", trust(company.root()), may=[EVERYTHING])
    tracing.trace(company.connection)
    return company


def names(company: Company, **asked: object) -> list[str]:
    nothing: dict[str, object] = {
        "named": (),
        "accounts": (),
        "patterns": ["*"],
        "first": None,
        "only": None,
        "most": 99,
    }
    return [role.name for role in doors.letting_in(company.connection.pk, **{**nothing, **asked})]  # type: ignore[arg-type]


def test_the_most_powerful_come_first_unless_an_account_is_asked_about(company):
    account = company.prod.external_id
    company.connection.principals.filter(name="gone").update(ended_at=company.connection.created_at)
    assert names(company, accounts=[account]) == ["admin", "reader", "there"]
    assert names(company, accounts=[account], first=company.tools.pk) == ["there", "admin", "reader"]
    assert names(company, accounts=[account], only=company.tools.pk) == ["there"]
    assert names(company, accounts=[account], most=1) == ["admin"]


def test_many_names_find_what_each_of_them_finds(company):
    strangers = [company.arn(f"stranger{n}") for n in range(100)]
    assert names(company, named=[*strangers, company.arn("caller")]) == ["named"]
    assert names(company, named=strangers) == []


def test_patterns_narrow_whom_an_account_finds_and_not_who_is_named(company):
    account = company.prod.external_id
    asked = {"accounts": [account], "named": [company.arn("caller")]}
    assert names(company, **asked, patterns=[company.arn("rea*")]) == ["reader", "named"]
    assert names(company, **asked, patterns=[]) == ["named"]
