"""What the files of an audit trail say, and what becomes of files and records that are not what they should be."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.aws import trails
from apps.connectors.aws.trail_actions import action_of
from apps.connectors.trail import Outcome, TrailEvent, Unreadable
from tests.trail import ROLE_ID, record, session


def read(content: bytes, **options: Any) -> tuple[list[TrailEvent], Counter[str], str]:
    """The events, what was skipped, and why reading stopped, if it did."""
    skipped: Counter[str] = Counter()
    events: list[TrailEvent] = []
    try:
        events.extend(trails.read(io.BytesIO(content), skipped, **options))
    except Unreadable as reason:
        return events, skipped, str(reason)
    return events, skipped, ""


def packed(*records: Any) -> bytes:
    return gzip.compress(json.dumps({"Records": records}).encode())


def parsed(**fields: Any) -> TrailEvent:
    event = trails.parse(record(**fields))
    assert event
    return event


# ---- records


def test_a_session_of_a_role_is_told_by_its_role_and_its_name() -> None:
    event = parsed(userIdentity=session("deploy", source_identity="alice@example.com"))
    assert (event.issuer_id, event.session_name) == (ROLE_ID, "run-7")
    assert event.issuer_arn == "arn:aws:iam::111122223333:role/deploy"
    assert event.source_identity == "alice@example.com"
    assert event.session_began_at == datetime(2031, 1, 1, 9, 0, tzinfo=UTC)
    assert event.is_own


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (None, Outcome.DONE),
        ("AccessDenied", Outcome.DENIED),
        ("AccessDeniedException", Outcome.DENIED),
        ("Client.UnauthorizedOperation", Outcome.DENIED),
        ("UnauthorizedOperation", Outcome.DENIED),
        ("Some.UnauthorizedAccess", Outcome.DENIED),
        ("NoSuchBucketPolicy", Outcome.FAILED),
        ("ThrottlingException", Outcome.FAILED),
    ],
)
def test_a_refusal_is_told_from_another_failure(code: str | None, outcome: Outcome) -> None:
    assert parsed(errorCode=code).outcome is outcome


@pytest.mark.parametrize(
    ("service", "name", "action"),
    [
        ("iam", "CreateUser", "iam:CreateUser"),
        ("s3", "ListBuckets", "s3:ListAllMyBuckets"),
        ("s3", "GetBucketCors", "s3:GetBucketCORS"),
        ("lambda", "CreateFunction20150331", "lambda:CreateFunction"),
        ("lambda", "UpdateFunctionCode20150331v2", "lambda:UpdateFunctionCode"),
        ("cloudfront", "GetDistribution2020_05_31", "cloudfront:GetDistribution"),
        ("cloudwatch", "DescribeAlarms", "cloudwatch:DescribeAlarms"),
        ("apigateway", "CreateRestApi", "apigateway:POST"),
        ("signin", "ConsoleLogin", ""),
        ("iam", "*", ""),
    ],
)
def test_a_call_is_mapped_to_the_permission_it_needed(service: str, name: str, action: str) -> None:
    assert action_of(service, name) == action


def test_every_permission_with_another_name_exists() -> None:
    from apps.connectors.aws import trail_actions

    unknown = [name for name in trail_actions.RENAMED if not action_of(*name.split(":"))]
    assert unknown == []


def test_what_a_service_does_for_somebody_is_not_their_own_need() -> None:
    event = parsed(userIdentity=session("deploy") | {"invokedBy": "cloudformation.amazonaws.com"})
    assert not event.is_own


def test_what_a_person_does_in_the_console_is_their_own_need() -> None:
    event = parsed(userIdentity=session("deploy") | {"invokedBy": "signin.amazonaws.com"})
    assert (event.is_own, event.invoked_by) == (True, "")


def test_beginning_a_session_says_which_key_it_has_and_keeps_nothing_else_of_the_parameters() -> None:
    event = parsed(
        eventSource="sts.amazonaws.com",
        eventName="AssumeRole",
        requestParameters={
            "roleArn": "arn:aws:iam::111122223333:role/deploy",
            "roleSessionName": "alice",
            "sourceIdentity": "alice@example.com",
            "tags": [{"key": "jit-grant", "value": "17"}],
            "externalId": "hidden",
        },
        responseElements={"credentials": {"accessKeyId": "ASIAEXAMPLE", "sessionToken": "hidden"}},
    )
    assert event.made_access_key_id == "ASIAEXAMPLE"
    assert event.tags == {"jit-grant": "17"}
    assert "hidden" not in repr(event)


def test_parameters_of_other_calls_are_not_kept() -> None:
    assert "hidden" not in repr(parsed(requestParameters={"password": "hidden", "roleArn": "hidden"}))


def test_making_a_role_says_which() -> None:
    made = {"role": {"arn": "arn:aws:iam::111122223333:role/new", "roleId": "AROANEW"}}
    event = parsed(eventSource="iam.amazonaws.com", eventName="CreateRole", responseElements=made)
    assert (event.made_arn, event.made_id) == ("arn:aws:iam::111122223333:role/new", "AROANEW")


def test_text_is_bounded_and_printable() -> None:
    event = parsed(awsRegion="a\x00b\u202ec" + "x" * 10_000, eventName="Do\nThis")
    assert len(event.region) == 40
    assert event.region.isprintable()
    assert event.name == "Do This"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
named_fields = st.sampled_from([*record(), "errorCode", "resources", "eventCategory", "managementEvent"])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(named_fields, json_values, max_size=6))
def test_no_record_breaks_the_parser(odd: dict[str, Any]) -> None:
    event = trails.parse({**record(), **odd})
    assert event is None or all(
        value.isprintable() and len(value) <= trails.LONGEST_ARN
        for name in event.__slots__
        if isinstance(value := getattr(event, name), str)
    )


# ---- files


def test_records_that_are_none_are_counted_and_the_others_read() -> None:
    events, skipped, stopped = read(packed(record(), "text", None, {}, record(eventTime="soon"), record(eventID="b")))
    assert len(events) == 2
    assert skipped == {trails.NO_OBJECT: 2, trails.NO_CALL: 2}
    assert not stopped


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ends in the middle"),
        (b"hello", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'{"Records": {}}', "not a list"),
        (b'{"Other": []}', "no Records"),
        (b'{"Records": [', "ends in the middle"),
        (b'{"Records": [{"eventID": "', "ends in the middle of a record"),
        (b'{"Records" [', "not JSON"),
        (b"\x1f\x8b" + b"nothing" * 9, "damaged"),
        (b'{"Records": [' + b"[" * 200_000, "nested"),
    ],
)
def test_a_file_that_is_not_one_says_so(content: bytes, words: str) -> None:
    events, _, stopped = read(content)
    assert events == []
    assert words in stopped


def test_a_file_that_was_cut_off_gives_what_came_before() -> None:
    plain = json.dumps({"Records": [record(eventID=str(n)) for n in range(100)]}).encode()
    events, _, stopped = read(plain[: len(plain) // 2])
    assert 40 < len(events) < 60
    assert "ends in the middle" in stopped
    whole = packed(*[record(eventID=str(n)) for n in range(500)])
    assert "compressed file ends" in read(whole[:-20])[2]


@pytest.mark.parametrize(
    "content",
    [
        packed(record()) + packed(record(eventID="second")),
        json.dumps({"Records": [record()]}).encode() + b'\n{"Records": []}',
        json.dumps({"Records": [record()]}).encode() + b"more",
        json.dumps({"Records": [record()]}).encode() + b"\xe2",
    ],
)
def test_what_follows_the_first_document_of_a_file_is_not_dropped_in_silence(content: bytes) -> None:
    events, _, stopped = read(content)
    assert len(events) == 1
    assert "follows the file's first document" in stopped
    assert "damaged" in read(packed(record()) + b"more")[2]


def test_white_space_and_several_members_of_one_document_are_fine() -> None:
    first, second = b'{"Records": [', json.dumps(record()).encode() + b"]} \r\n\t"
    assert read(gzip.compress(first) + gzip.compress(second) + gzip.compress(b"\n"))[2] == ""


def test_a_file_that_unfolds_without_end_is_left() -> None:
    bomb = gzip.compress(b'{"Records": [' + b" " * 3_000_000)
    assert len(bomb) < 10_000
    assert "unfolds to more than 1 MB" in read(bomb, most=1024**2)[2]


def test_one_endless_record_does_not_fill_the_memory() -> None:
    events, _, stopped = read(b'{"Records": [{"eventID": "' + b"x" * 3_000_000)
    assert events == []
    assert "longer than any" in stopped


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.lists(st.one_of(st.just(record()), json_values), max_size=12))
def test_where_a_file_happens_to_be_cut_while_reading_changes_nothing(size: int, records: list[Any]) -> None:
    class Dribble(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            return super().read(size)

    skipped: Counter[str] = Counter()
    content = json.dumps({"Records": records}).encode()
    events = list(trails.read(Dribble(content), skipped))
    assert len(events) + skipped.total() == len(records)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(content: bytes) -> None:
    read(content)
    read(b'{"Records": [' + content)
    read(gzip.compress(content)[:-3])
