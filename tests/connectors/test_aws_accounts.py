"""Where an account stands in its organization, when the organization changes while it is read."""

from __future__ import annotations

from typing import Any

from apps.connectors.aws import organizations
from apps.connectors.base import AccountRecord
from tests.connectors.conftest import HUB, Stubs

MOVED, STAYS = "1" * 12, "2" * 12


def list_accounts(stubs: Stubs, *, in_root: list[str], in_unit: list[str]) -> dict[str, AccountRecord]:
    """Both accounts are in the organization; its root and the unit Security list these of them."""
    answers: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("list_accounts", {"Accounts": [{"Id": one, "Name": "one", "State": "ACTIVE"} for one in (MOVED, STAYS)]}, {}),
        ("describe_organization", {"Organization": {"MasterAccountId": HUB}}, {}),
        ("list_roots", {"Roots": [{"Id": "r-1111"}]}, {}),
        ("list_accounts_for_parent", {"Accounts": [{"Id": one} for one in in_root]}, {"ParentId": "r-1111"}),
        (
            "list_organizational_units_for_parent",
            {"OrganizationalUnits": [{"Id": "ou-1111-11111111", "Name": "Security"}]},
            {"ParentId": "r-1111"},
        ),
        ("list_accounts_for_parent", {"Accounts": [{"Id": one} for one in in_unit]}, {"ParentId": "ou-1111-11111111"}),
        ("list_organizational_units_for_parent", {"OrganizationalUnits": []}, {"ParentId": "ou-1111-11111111"}),
        *(("list_tags_for_resource", {"Tags": []}, {"ResourceId": one}) for one in (MOVED, STAYS)),
    ]
    for operation, answer, asked in answers:
        stubs.answer("organizations", operation, answer, asked)
    return {account.external_id: account for account in organizations.list_accounts(stubs.api)}


def test_an_account_that_neither_the_root_nor_a_unit_lists_has_no_known_place(stubs: Stubs) -> None:
    """It moved from a unit that was not read yet into one that was, or a page was short."""
    accounts = list_accounts(stubs, in_root=[], in_unit=[STAYS])
    assert not accounts[MOVED].is_placed
    assert (accounts[STAYS].is_placed, accounts[STAYS].path) == (True, "Security")


def test_an_account_right_under_the_root_has_a_place(stubs: Stubs) -> None:
    accounts = list_accounts(stubs, in_root=[MOVED], in_unit=[STAYS])
    assert (accounts[MOVED].is_placed, accounts[MOVED].path) == (True, "")


def test_a_long_list_says_how_far_it_is(stubs: Stubs, monkeypatch: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    listed = organizations.list_accounts
    monkeypatch.setattr(organizations, "list_accounts", lambda api: listed(api, lambda *one: seen.append(one)))
    list_accounts(stubs, in_root=[MOVED], in_unit=[STAYS])
    assert [what for _, _, what in seen] == [
        "all of them",
        "the unit r-1111",
        "the unit Security",
        "the tags of one",
        "the tags of one",
    ]
    assert [(done, of) for done, of, _ in seen][-2:] == [(0, 2), (1, 2)]
