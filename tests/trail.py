"""Records as CloudTrail writes them, made up: for tests of everything that reads a trail."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

ACCOUNT = "111122223333"
ROLE_ID = "AROAEXAMPLE123456789"
USER_ID = "AIDAEXAMPLE123456789"


def session(role: str, role_id: str = ROLE_ID, name: str = "run-7", source_identity: str = "") -> dict[str, Any]:
    """The userIdentity of a session of a role."""
    return {
        "type": "AssumedRole",
        "principalId": f"{role_id}:{name}",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.rpartition('/')[2]}/{name}",
        "accountId": ACCOUNT,
        "accessKeyId": "ASIAEXAMPLE",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": role_id,
                "arn": f"arn:aws:iam::{ACCOUNT}:role/{role}",
                "accountId": ACCOUNT,
                "userName": role.rpartition("/")[2],
            },
            "attributes": {"creationDate": "2031-01-01T09:00:00Z", "mfaAuthenticated": "false"},
            **({"sourceIdentity": source_identity} if source_identity else {}),
        },
    }


def user(name: str = "ci", user_id: str = USER_ID) -> dict[str, Any]:
    """The userIdentity of an IAM user with an access key."""
    return {
        "type": "IAMUser",
        "principalId": user_id,
        "arn": f"arn:aws:iam::{ACCOUNT}:user/{name}",
        "accountId": ACCOUNT,
        "accessKeyId": "AKIAEXAMPLE",
        "userName": name,
    }


def record(**fields: Any) -> dict[str, Any]:
    """One record; a keyword replaces what CloudTrail calls by that name."""
    return {
        "eventVersion": "1.08",
        "userIdentity": session("deploy"),
        "eventTime": "2031-01-01T10:00:00Z",
        "eventSource": "ec2.amazonaws.com",
        "eventName": "DescribeInstances",
        "awsRegion": "eu-west-1",
        "sourceIPAddress": "203.0.113.7",
        "userAgent": "aws-sdk",
        "requestParameters": None,
        "responseElements": None,
        "eventID": "00000000-0000-0000-0000-000000000001",
        "readOnly": True,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
        **fields,
    }


def file(records: Iterable[Mapping[str, Any]]) -> bytes:
    """A file of a trail."""
    return gzip.compress(json.dumps({"Records": list(records)}).encode())
