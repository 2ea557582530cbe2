"""The function that AWS's scheduler calls to end a membership: its code as it is deployed, against the test's AWS."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.templates import read
from tests.plugins.aws import Aws


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    names: dict[str, Any] = {}
    about = read("hub.yaml")["Resources"]["PortalEnderFunction"]["Properties"]
    exec(about["Code"]["ZipFile"], names)
    assert about["Handler"] == "index.handler"
    return names["handler"]


@pytest.fixture
def membership(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Alice in a group, as the event that ends it names her."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    store_id = aws.client("sso-admin").list_instances()["Instances"][0]["IdentityStoreId"]
    store = aws.client("identitystore")
    user = store.create_user(
        IdentityStoreId=store_id, UserName="alice", DisplayName="Alice", Name={"GivenName": "A", "FamilyName": "E"}
    )["UserId"]
    group = store.create_group(IdentityStoreId=store_id, DisplayName="operators")["GroupId"]
    store.create_group_membership(IdentityStoreId=store_id, GroupId=group, MemberId={"UserId": user})
    return {"end": "idc_membership", "IdentityStoreId": store_id, "GroupId": group, "UserId": user}


def members(aws: Aws, event: dict[str, str]) -> list[Any]:
    listed: list[Any] = aws.client("identitystore").list_group_memberships(
        IdentityStoreId=event["IdentityStoreId"], GroupId=event["GroupId"]
    )["GroupMemberships"]
    return listed


def test_it_ends_the_membership_that_the_event_names(aws: Aws, handler: Any, membership: dict[str, str]) -> None:
    assert handler(membership, None) == {"ended": True}
    assert members(aws, membership) == []


def test_called_again_it_has_nothing_to_do(aws: Aws, handler: Any, membership: dict[str, str]) -> None:
    handler(membership, None)
    assert handler(membership, None) == {"ended": False, "why": "It was gone already."}


def test_it_leaves_everybody_else_in_the_group(aws: Aws, handler: Any, membership: dict[str, str]) -> None:
    store, names = aws.client("identitystore"), {"IdentityStoreId": membership["IdentityStoreId"]}
    bob = store.create_user(**names, UserName="bob", DisplayName="Bob", Name={"GivenName": "B", "FamilyName": "E"})[
        "UserId"
    ]
    store.create_group_membership(**names, GroupId=membership["GroupId"], MemberId={"UserId": bob})
    handler(membership, None)
    assert [one["MemberId"]["UserId"] for one in members(aws, membership)] == [bob]


@pytest.mark.parametrize(
    "change", [{"end": "everything"}, {"end": None}, {"GroupId": None}, {"UserId": ["a", "b"]}, {"IdentityStoreId": 1}]
)
def test_an_event_that_it_does_not_know_ends_nothing(
    aws: Aws, handler: Any, membership: dict[str, str], change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="ends one membership"):
        handler({**membership, **change}, None)
    assert len(members(aws, membership)) == 1
