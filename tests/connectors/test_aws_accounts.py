"""Where an account stands in its organization, when the organization changes while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apps.connectors.aws import organizations
from apps.connectors.base import AccountRecord
from tests.connectors.conftest import HUB, Stubs

MOVED, STAYS = "1" * 12, "2" * 12


def list_accounts(
    stubs: Stubs, *, in_root: list[str], in_unit: list[str], in_all: Sequence[str] = (MOVED, STAYS)
) -> dict[str, AccountRecord]:
    """What comes of it when the organization, its root and its unit Security list these of the two accounts."""
    answers: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("list_accounts", {"Accounts": [account(one) for one in in_all]}, {}),
        ("describe_organization", {"Organization": {"MasterAccountId": HUB}}, {}),
        ("list_roots", {"Roots": [{"Id": "r-1111"}]}, {}),
        ("list_accounts_for_parent", {"Accounts": [account(one) for one in in_root]}, {"ParentId": "r-1111"}),
        (
            "list_organizational_units_for_parent",
            {"OrganizationalUnits": [{"Id": "ou-1111-11111111", "Name": "Security"}]},
            {"ParentId": "r-1111"},
        ),
        ("list_accounts_for_parent", {"Accounts": [account(one) for one in in_unit]}, {"ParentId": "ou-1111-11111111"}),
        ("list_organizational_units_for_parent", {"OrganizationalUnits": []}, {"ParentId": "ou-1111-11111111"}),
        *(("list_tags_for_resource", {"Tags": []}, {"ResourceId": one}) for one in (MOVED, STAYS)),
    ]
    for operation, answer, asked in answers:
        stubs.answer("organizations", operation, answer, asked)
    return {one.external_id: one for one in organizations.list_accounts(stubs.api)}


def account(external_id: str) -> dict[str, str]:
    return {"Id": external_id, "Name": "one", "State": "ACTIVE"}


def test_an_account_that_neither_the_root_nor_a_unit_lists_has_no_known_place(stubs: Stubs) -> None:
    """It moved from a unit that was not read yet into one that was, or a page was short."""
    accounts = list_accounts(stubs, in_root=[], in_unit=[STAYS])
    assert not accounts[MOVED].is_placed
    assert (accounts[STAYS].is_placed, accounts[STAYS].path) == (True, "Security")


def test_an_account_right_under_the_root_has_a_place(stubs: Stubs) -> None:
    accounts = list_accounts(stubs, in_root=[MOVED], in_unit=[STAYS])
    assert (accounts[MOVED].is_placed, accounts[MOVED].path) == (True, "")


def test_an_account_that_only_its_unit_lists_is_there(stubs: Stubs) -> None:
    """A page of all accounts was short, or it was made meanwhile. Taken for gone, all that it holds would end."""
    accounts = list_accounts(stubs, in_root=[MOVED], in_unit=[STAYS], in_all=[MOVED])
    assert accounts[STAYS] == AccountRecord(STAYS, "one", path="Security")


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
