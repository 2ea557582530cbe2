"""The change feed: a message can only say where to look, whatever is written in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.connectors.aws import changes
from apps.connectors.aws.changes import Malformed, QueueOfChanges, parse
from apps.connectors.aws.connector import AwsConnector
from tests.connectors.conftest import CONFIG, QUIET, Org
from tests.plugins.aws import Aws

ACCOUNT = "111122223333"
SET = "arn:aws:sso:::permissionSet/ssoins-1111111111111111/ps-5555555555555555"


def message(source: str = "aws.iam", name: str = "CreateRole", **detail: Any) -> str:
    """An event as EventBridge puts it into the queue."""
    said = {
        "eventName": name,
        "eventID": "0a1b2c3d-0000-0000-0000-000000000001",
        "eventTime": "2026-11-22T08:00:00Z",
        "readOnly": False,
        **detail,
    }
    event = {"version": "0", "id": "x", "source": source, "account": ACCOUNT, "time": said["eventTime"], "detail": said}
    return json.dumps(event)


@pytest.mark.parametrize(
    ("source", "name", "asked", "account_id", "kind", "key"),
    [
        ("aws.iam", "CreateRole", {"roleName": "x"}, ACCOUNT, "account", ""),
        ("aws.iam", "SomethingNew", None, ACCOUNT, "account", ""),
        (
            "aws.sso",
            "CreateAccountAssignment",
            {"permissionSetArn": SET, "targetId": ACCOUNT},
            "",
            "holders",
            f"{SET}@{ACCOUNT}",
        ),
        ("aws.sso", "PutInlinePolicyToPermissionSet", {"permissionSetArn": SET}, "", "rest", ""),
        ("aws.sso", "CreateAccountAssignment", {"permissionSetArn": 7}, "", "rest", ""),
        ("aws.sso", "CreateAccountAssignment", {"permissionSetArn": "x" * 129, "targetId": ACCOUNT}, "", "rest", ""),
        ("aws.sso", "CreateAccountAssignment", "no mapping", "", "rest", ""),
        ("aws.sso-directory", "AddMemberToGroup", {"groupId": "g-1"}, "", "holders", "membership:g-1"),
        ("aws.sso-directory", "AddMemberToGroup", {"groupId": "g-1\n'; DROP"}, "", "rest", ""),
        ("aws.sso-directory", "AddMemberToGroup", {"groupId": "g" * 129}, "", "rest", ""),
        ("aws.identitystore", "CreateGroupMembership", {"groupId": "g-1"}, "", "holders", "membership:g-1"),
        ("aws.identitystore", "DeleteGroupMembership", {"membershipId": "m-1"}, "", "membership", "m-1"),
        ("aws.organizations", "MoveAccount", {}, "", "rest", ""),
    ],
)
def test_an_event_says_where_to_look(source: str, name: str, asked: Any, account_id: str, kind: str, key: str) -> None:
    change = parse(message(source, name, requestParameters=asked))
    assert change
    assert (change.account_id, change.kind, change.key, change.event_name) == (account_id, kind, key, name)
    assert change.at == datetime(2026, 11, 22, 8, tzinfo=UTC)


@pytest.mark.parametrize("detail", [{"errorCode": "AccessDenied"}, {"readOnly": True}])
def test_what_changed_nothing_is_no_change(detail: dict[str, Any]) -> None:
    assert parse(message(**detail)) is None


def _broken(change: Callable[[dict[str, Any]], object]) -> str:
    event = json.loads(message())
    change(event)
    return json.dumps(event)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        "[]",
        "null",
        "[" * 100_000,
        '{"a":' * 100_000,
        "x" * (changes.LONGEST_BODY + 1),
        _broken(lambda event: event.pop("detail")),
        _broken(lambda event: event.update(detail="text")),
        _broken(lambda event: event.update(account="me")),
        _broken(lambda event: event.update(account=111122223333)),
        _broken(lambda event: event.update(source="somebody.else")),
        _broken(lambda event: event.update(source=["aws.iam"])),
        _broken(lambda event: event["detail"].update(eventName="a b")),
        _broken(lambda event: event["detail"].update(eventName=None)),
        _broken(lambda event: event["detail"].update(eventID="x" * 65)),
        _broken(lambda event: event["detail"].update(eventTime="yesterday")),
        _broken(lambda event: event["detail"].update(eventTime={"a": 1})),
    ],
)
def test_a_message_that_is_no_event_is_malformed_and_its_own_words_are_not_repeated(body: str) -> None:
    with pytest.raises(Malformed) as wrong:
        parse(body)
    assert len(str(wrong.value)) < 60


def test_nothing_happens_later_than_now() -> None:
    change = parse(message(eventTime="2999-01-01T00:00:00Z"))
    assert change and change.at <= datetime.now(UTC) + timedelta(seconds=1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["aws.iam", *changes.MEANINGS]), JSON)
def test_no_payload_breaks_the_reader(event: Any, source: str, asked: Any) -> None:
    for body in (json.dumps(event), message(source, "CreateAccountAssignment", requestParameters=asked)):
        try:
            change = parse(body)
        except Malformed:
            continue
        assert change is None or (len(change.key) <= 300 and change.key.isprintable())


def test_the_queue_is_emptied_as_its_own_role_and_what_is_not_done_comes_again(aws: Aws) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="gatehouse-changes", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    for body in (message(), "broken"):
        sqs.send_message(QueueUrl=url, MessageBody=body)
    feed = QueueOfChanges({**CONFIG, "feed_role": "portal/PortalFeed", "change_queue": "gatehouse-changes"})
    first = feed.receive()
    assert [change.account_id for change in first.changes] == [ACCOUNT]
    assert first.malformed == ["It is not JSON."]
    again = feed.receive()
    assert len(again.receipts) == 2, "nobody said that they are done"
    feed.done(again.receipts)
    assert feed.receive().receipts == []


def test_who_holds_one_thing_is_read_as_a_full_reading_reads_it(org: Org) -> None:
    zoe = org.add_person("zoe")
    org.add_group("climbers", "zoe")
    org.add_permission_set("LookAtRocks")
    org.assign("LookAtRocks", zoe)
    connector = AwsConnector(CONFIG)
    parts = list(connector.scan_directory(connector.accounts(), QUIET))
    held = [record for part in parts for record in part.assignments]
    entitlements = [record for part in parts for record in part.entitlements]
    assert len(held) >= 2
    for record in entitlements:
        expected = [one for one in held if one.entitlement_external_id == record.external_id]
        assert connector.read_holders(record.kind, record.external_id, record.attributes) == expected
