"""Who could be on a way into an account is found backwards, so that a search is not spent on what leads elsewhere."""

from __future__ import annotations

import pytest

from apps.inventory import approaches, callers, paths, tracing
from apps.inventory.approaches import Circle
from tests.inventory.company import EVERYTHING, Company, allow, trust

pytestmark = pytest.mark.django_db


@pytest.fixture
def company() -> Company:
    """prod lets in a role of tools, that lets in all of a third account, that lets in one permission set of a fourth."""
    company = Company()
    company.third, company.fourth = company.account("third"), company.account("fourth")  # type: ignore[attr-defined]
    company.role("last", trust({"AWS": company.arn("middle", company.tools)}), may=[EVERYTHING])
    company.role("middle", trust(company.root(company.third)), account=company.tools, may=[allow("sts:AssumeRole")])
    sso = f"aws-reserved/sso.amazonaws.com/AWSReservedSSO_Start_{'0' * 16}"
    company.role(
        "first",
        trust({"AWS": company.arn(sso, company.fourth)}),
        account=company.third,
        may=[allow("sts:AssumeRole")],
    )
    return company


def circles(company: Company, account) -> list[Circle | None]:
    tracing.trace(company.connection)
    return approaches.leading_to(account, paths.DEPTH)


def test_each_step_back_finds_whom_the_roles_before_it_let_in(company):
    one, two, three = circles(company, company.prod)
    middle = company.arn("middle", company.tools)
    assert one.has(company.tools.external_id, [middle])
    assert not one.has(company.tools.external_id, [company.arn("other", company.tools)])
    assert two.has(company.third.external_id, []) and not one.has(company.third.external_id, [])
    start = [f"sso:{company.fourth.external_id}:Start"]
    assert three.has(company.fourth.external_id, start) and not two.has(company.fourth.external_id, start)
    assert company.fourth.external_id in three.every_account
    assert company.fourth.external_id not in three.accounts


def test_a_way_through_four_accounts_is_found(company):
    alice = company.person("alice")
    company.holds(alice, company.permission_set("Start", allow("sts:AssumeRole"), account=company.fourth))
    tracing.trace(company.connection)
    [path] = paths.find(company.identity(alice), company.prod).paths
    assert path.words == "Start, held directly → first → middle → last"


def test_a_session_that_is_named_may_be_anybody_of_its_account(company):
    session = f"arn:aws:sts::{company.third.external_id}:assumed-role/first/me"
    company.role("watched", trust({"AWS": session}))
    one, *_ = circles(company, company.prod)
    assert one.has(company.third.external_id, [])


@pytest.mark.parametrize("trusts", [{"AWS": "*"}, "*"])
def test_a_trust_in_anybody_narrows_nothing(company, trusts):
    company.role("open", trust(trusts), account=company.third)
    assert [circle is None for circle in circles(company, company.prod)] == [False, False, True]


def test_what_would_be_too_much_to_read_narrows_nothing(company, monkeypatch):
    monkeypatch.setattr(approaches, "MOST_READ", 0)
    assert circles(company, company.prod) == [None, None, None]


def test_roles_that_lead_elsewhere_take_no_room_in_a_search(company, monkeypatch):
    alice = company.person("alice")
    company.holds(alice, company.permission_set("Start", allow("sts:AssumeRole"), account=company.fourth))
    for n in range(5):
        company.role(f"beside{n}", trust(company.root(company.fourth)), account=company.fourth, may=[EVERYTHING])
    tracing.trace(company.connection)
    monkeypatch.setattr(paths, "MOST_ROLES", 3)
    found = paths.find(company.identity(alice), company.prod)
    assert [path.name for path in found.paths] == ["last"]
    assert not found.is_cut
    assert paths.find(company.identity(alice)).is_cut  # into all accounts they do


def test_permission_sets_that_ask_for_nothing_are_followed_last(company, monkeypatch):
    monkeypatch.setattr(paths, "MOST_STARTS", 1)
    alice = company.person("alice")
    company.holds(alice, company.permission_set("Admin", allow("s3:*"), account=company.tools))
    company.holds(alice, company.permission_set("Start", allow("sts:AssumeRole"), account=company.fourth))
    tracing.trace(company.connection)
    found = paths.find(company.identity(alice))
    assert found.is_cut
    assert "first" in {path.name for path in found.paths}


def test_the_permission_sets_that_ask_are_those_whose_policies_let_them_try(company):
    sets = [
        company.permission_set(f"S{n}", *statements)
        for n, statements in enumerate(
            (
                [allow("sts:AssumeRole")],
                [allow("*", company.arn("last"))],
                [{"Effect": "Allow", "Action": "sts:*", "NotResource": "*"}],
                [allow("sts:AssumeRole", "arn:aws:s3:::bucket")],
                [allow("iam:UpdateAssumeRolePolicy"), {"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*"}],
                [allow("s3:GetObject")],
            )
        )
    ]
    tracing.trace(company.connection)
    keys = [one.pk for one in sets]
    said = callers.said_by_sets(keys)
    assert {*callers.asking(keys)} == {pk for pk, one in said.items() if one.asks} == {*keys[:3]}
    assert callers.asking(keys[1:2]) == keys[1:2]
