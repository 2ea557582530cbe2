"""The credential report: what is cut off or left out is never taken for what is not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.connectors.aws import credentials, iam
from apps.connectors.errors import Unreachable
from tests.connectors.conftest import Stubs
from tests.connectors.test_aws_scan import ACCOUNT, HEADER, QUIET, answer_account

MADE = datetime(2030, 5, 1, 12, tzinfo=UTC)


def arn(name: str) -> str:
    return f"arn:aws:iam::111122223333:user/{name}"


def line(name: str) -> str:
    return (
        f"{name},{arn(name)},2020-01-01T00:00:00+00:00,true{',N/A' * 3},true{',false,N/A,N/A,N/A,N/A,false,N/A,N/A'}\n"
    )


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_a_row_that_was_cut_off_makes_the_report_unreadable(name: str) -> None:
    before = HEADER + (line("alice") if name == "bob" else "")
    assert len(credentials._parse(before.encode())) == (1 if name == "bob" else 0)
    for n in range(1, line(name).rindex(",") + 1):
        with pytest.raises(Unreachable, match="credential report"):
            credentials._parse((before + line(name)[:n]).encode())
    assert credentials._parse((before + line(name).strip()).encode())[arn(name)].has("password_enabled")


@pytest.mark.parametrize(
    "content", [b"", b"user\n", b"user,arn\na,b,c\n", b'user,arn\n"a', b"\xff", b"user,arn\na\0\n"]
)
def test_what_is_no_report_is_unreadable(content: bytes) -> None:
    with pytest.raises(Unreachable, match="credential report"):
        credentials._parse(content)


def user(name: str, made_at: datetime) -> dict[str, Any]:
    return {"UserName": name, "UserId": "AIDAEXAMPLEEXAMPLE", "Arn": arn(name), "Path": "/", "CreateDate": made_at}


def test_a_report_that_leaves_users_out_makes_the_scan_incomplete(stubs: Stubs) -> None:
    users = [user("alice", MADE - timedelta(days=9)), user("bob", MADE - timedelta(days=9))]
    answer_account(stubs, *users, report=HEADER + line("alice"), made_at=MADE, keys_of=1)
    scan = iam.scan_account(stubs.api, [], ACCOUNT, QUIET)
    assert scan.problems == ["The credential report leaves out 1 users. AWS makes a new one every four hours."]
    assert not scan.is_complete


def test_a_user_who_is_younger_than_the_report_cannot_be_in_it(stubs: Stubs) -> None:
    answer_account(stubs, user("new", MADE - timedelta(minutes=50)), made_at=MADE)
    assert iam.scan_account(stubs.api, [], ACCOUNT, QUIET).is_complete
