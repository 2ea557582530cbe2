"""The change feed: a queue in the hub of what EventBridge heard from CloudTrail (deploy/aws/feed.yaml).

An event says that something may be different, and is believed in nothing else: what is there is read again. Names and ids
in it were written by whoever made the change, and delivery is best effort (aws.md §3.2), so a feed replaces no full scan.
EventBridge itself says which account an event is from, and lets nobody send one whose source begins with "aws.".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from apps.connectors.aws.identity_center import membership_id
from apps.connectors.aws.session import Api, session
from apps.connectors.changes import Change, Received

AT_ONCE = 10  # messages in one answer, the most that SQS gives
LONGEST_BODY = 1_048_576  # what SQS lets a message be

_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_ACCOUNT = re.compile(r"[0-9]{12}")
_NAME = re.compile(r"[A-Za-z0-9]{1,128}")
_KEY = re.compile(r"[\w:/.@+=,-]{1,128}", re.ASCII)  # two of them are a key of ours, of at most 300


class Malformed(ValueError):
    """A message that is no event of ours. The text says why, in words of ours only."""


def _pair(asked: Mapping[str, Any]) -> tuple[str, str]:
    return "holders", f"{_text(asked, 'permissionSetArn')}@{_text(asked, 'targetId')}"


def _members(asked: Mapping[str, Any]) -> tuple[str, str]:
    return "holders", membership_id(_text(asked, "groupId"))


def _membership(asked: Mapping[str, Any]) -> tuple[str, str]:
    return "membership", _text(asked, "membershipId")


def _rest(_asked: Mapping[str, Any]) -> tuple[str, str]:
    return "rest", ""


Meaning = Callable[[Mapping[str, Any]], tuple[str, str]]

# What an event is about: (kind, key) of what must be read again. `feed.yaml` forwards exactly these, and every write of
# IAM, which is about the account it happened in.
MEANINGS: Mapping[str, Mapping[str, Meaning]] = {
    "aws.sso": {
        "CreateAccountAssignment": _pair,
        "DeleteAccountAssignment": _pair,
        "AttachCustomerManagedPolicyReferenceToPermissionSet": _rest,
        "AttachManagedPolicyToPermissionSet": _rest,
        "CreatePermissionSet": _rest,
        "DeleteInlinePolicyFromPermissionSet": _rest,
        "DeletePermissionSet": _rest,
        "DeletePermissionsBoundaryFromPermissionSet": _rest,
        "DetachCustomerManagedPolicyReferenceFromPermissionSet": _rest,
        "DetachManagedPolicyFromPermissionSet": _rest,
        "ProvisionPermissionSet": _rest,
        "PutInlinePolicyToPermissionSet": _rest,
        "PutPermissionsBoundaryToPermissionSet": _rest,
        "UpdatePermissionSet": _rest,
    },
    "aws.sso-directory": {
        "AddMemberToGroup": _members,
        "RemoveMemberFromGroup": _members,
        "CreateGroup": _rest,
        "CreateUser": _rest,
        "DeleteGroup": _rest,
        "DeleteUser": _rest,
        "DisableUser": _rest,
        "EnableUser": _rest,
        "UpdateGroup": _rest,
        "UpdateUser": _rest,
    },
    "aws.identitystore": {
        "CreateGroupMembership": _members,
        "DeleteGroupMembership": _membership,
        "CreateGroup": _rest,
        "CreateUser": _rest,
        "DeleteGroup": _rest,
        "DeleteUser": _rest,
        "UpdateGroup": _rest,
        "UpdateUser": _rest,
    },
    "aws.organizations": {
        "AcceptHandshake": _rest,
        "CloseAccount": _rest,
        "CreateAccountResult": _rest,
        "MoveAccount": _rest,
        "RemoveAccountFromOrganization": _rest,
        "TagResource": _rest,
        "UntagResource": _rest,
    },
}
IAM = "aws.iam"


def parse(body: str) -> Change | None:
    """What a message says may be different; None for an event that changed nothing. Raises `Malformed`."""
    event = _event(body)
    detail = event.get("detail")
    if not isinstance(detail, Mapping):
        raise Malformed("It has no detail.")
    source, name, account_id = event.get("source"), detail.get("eventName"), event.get("account")
    event_id = detail.get("eventID") or event.get("id")
    if not (isinstance(account_id, str) and _ACCOUNT.fullmatch(account_id)):
        raise Malformed("It names no account.")
    if not (isinstance(name, str) and _NAME.fullmatch(name) and isinstance(event_id, str) and _ID.fullmatch(event_id)):
        raise Malformed("It has no event name or no id.")
    if not isinstance(source, str) or (source != IAM and source not in MEANINGS):
        raise Malformed("It is from a source that the feed is not about.")
    at = _instant(detail.get("eventTime") or event.get("time"))
    if detail.get("errorCode") or detail.get("readOnly") is True:
        return None
    if source == IAM:
        return Change(event_id, name, at, account_id, "account")
    asked = detail.get("requestParameters")
    try:
        kind, key = MEANINGS[source].get(name, _rest)(asked if isinstance(asked, Mapping) else {})
    except Malformed:  # it happened, and we cannot tell to what
        kind, key = "rest", ""
    return Change(event_id, name, at, "", kind, key)


def _event(body: str) -> Mapping[str, Any]:
    if len(body) > LONGEST_BODY:
        raise Malformed("It is too long.")
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("It is not JSON.") from None
    if not isinstance(event, Mapping):
        raise Malformed("It is no event.")
    return event


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        raise Malformed(f"It has no {name}.")
    return value


def _instant(value: Any) -> datetime:
    """When it happened as AWS says, and never later than now: clocks differ, and a text can say anything."""
    try:
        at = datetime.fromisoformat(value)
        return min(at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC), datetime.now(UTC))
    except (TypeError, ValueError, OverflowError):
        raise Malformed("It does not say when it happened.") from None


class QueueOfChanges:
    """The queue, read as a role that can do nothing else."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._api = Api(session(config), "feed_role")
        self._name = str(config["change_queue"])

    def receive(self) -> Received:
        """Some messages, which nobody else gets for a while. None may mean that there are more all the same."""
        answer = self._api.call(
            self._api.hub_id,
            "sqs",
            "receive_message",
            QueueUrl=self._api.queue_url(self._name),
            MaxNumberOfMessages=AT_ONCE,
            WaitTimeSeconds=1,
        )
        changes: list[Change] = []
        malformed: list[str] = []
        messages = answer.get("Messages") or []
        for message in messages:
            try:
                change = parse(str(message.get("Body", "")))
            except Malformed as wrong:
                malformed.append(str(wrong))
                continue
            if change:
                changes.append(change)
        return Received(changes, malformed, [message["ReceiptHandle"] for message in messages])

    def done(self, receipts: Sequence[str]) -> None:
        """These are taken care of. One that is not said to be done comes again, at most five times."""
        for receipt in receipts:
            self._api.call(
                self._api.hub_id,
                "sqs",
                "delete_message",
                QueueUrl=self._api.queue_url(self._name),
                ReceiptHandle=receipt,
            )
