"""The files of a trail as S3 holds them, and what AWS says about last accesses."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import pytest

from apps.connectors.aws.last_accessed import LastAccessed
from apps.connectors.aws.trail_files import TrailFiles
from apps.connectors.errors import ConnectorError, Refused, Throttled
from apps.connectors.trail import LastUse, Unreadable
from tests.connectors.conftest import CONFIG, HUB, Org, Stubs
from tests.trail import ACCOUNT, file, record

TRAIL = {**CONFIG, "trail_bucket": "company-trail", "trail_prefix": "/logs"}
NAME = f"{ACCOUNT}_CloudTrail_eu-west-1_20310131T1220Z_sM25jC0Ku0QcGkDa.json.gz"


@pytest.fixture
def bucket(org: Org) -> Org:
    s3 = org.client("s3")
    s3.create_bucket(Bucket="company-trail")
    organization = f"logs/AWSLogs/o-abcdefghij/{ACCOUNT}"
    for key in (
        f"{organization}/CloudTrail/eu-west-1/2031/01/30/{NAME}",
        f"{organization}/CloudTrail/eu-west-1/2031/01/31/{NAME}",
        f"{organization}/CloudTrail/eu-west-1/2031/01/31/readme.txt",
        f"{organization}/CloudTrail-Digest/eu-west-1/2031/01/31/{NAME}",
        f"{organization}/CloudTrail-Insight/eu-west-1/2031/01/31/{NAME}",
        f"logs/AWSLogs/{HUB}/CloudTrail/us-east-1/2031/01/31/{HUB}_CloudTrail_us-east-1_x.json.gz",
        "logs/AWSLogs/else/CloudTrail/us-east-1/2031/01/31/x.json.gz",
    ):
        s3.put_object(Bucket="company-trail", Key=key, Body=file([record()]))
    return org


def test_files_are_found_by_account_region_and_day(bucket: Org) -> None:
    files = TrailFiles(TRAIL)
    shelves = {(shelf.account_id, shelf.region): shelf for shelf in files.shelves()}
    assert set(shelves) == {(ACCOUNT, "eu-west-1"), (HUB, "us-east-1")}
    shelf = shelves[ACCOUNT, "eu-west-1"]
    keys = list(files.keys(shelf, date(2031, 1, 31)))
    assert [files.day_of(key) for key in keys] == [date(2031, 1, 31), None]
    assert len(list(files.keys(shelf, date(2031, 1, 1)))) == 3
    [event] = files.read(keys[0], Counter())
    assert event.event_id == record()["eventID"]


def test_a_file_in_an_archive_is_unreadable_and_does_not_block_what_comes_after_it(bucket: Org) -> None:
    key = f"logs/AWSLogs/{ACCOUNT}/CloudTrail/eu-west-1/2031/02/01/{NAME}"
    bucket.client("s3").put_object(Bucket="company-trail", Key=key, Body=file([record()]), StorageClass="GLACIER")
    with pytest.raises(Unreadable, match="moved to an archive"):
        list(TrailFiles(TRAIL).read(key, Counter()))


def test_a_bucket_that_is_not_there_says_so(org: Org) -> None:
    with pytest.raises(ConnectorError):
        TrailFiles(TRAIL).shelves()
    with pytest.raises(Refused, match="names no bucket"):
        TrailFiles(CONFIG)


ASKED = {"Arn": "arn:aws:iam::111122223333:role/deploy", "Granularity": "ACTION_LEVEL"}
WHEN = datetime(2031, 1, 1, tzinfo=UTC)


def reports(stubs: Stubs) -> LastAccessed:
    made = LastAccessed(CONFIG, sleep=lambda _seconds: None)
    made._api = stubs.api
    return made


def answer(stubs: Stubs, status: str, *services: dict[str, object], marker: str = "", asked: str = "") -> None:
    stubs.answer(
        "iam",
        "get_service_last_accessed_details",
        {
            "JobStatus": status,
            "JobCreationDate": WHEN,
            "JobCompletionDate": WHEN,
            "ServicesLastAccessed": list(services),
            "IsTruncated": bool(marker),
            **({"Marker": marker} if marker else {}),
        },
        {"JobId": "1" * 36, "MaxItems": 100, **({"Marker": asked} if asked else {})},
    )


def test_a_report_is_waited_for_and_read_to_its_last_page(stubs: Stubs) -> None:
    stubs.answer("iam", "generate_service_last_accessed_details", {"JobId": "1" * 36}, ASKED)
    answer(stubs, "IN_PROGRESS")
    tracked = [{"ActionName": "createrole", "LastAccessedTime": WHEN}, {"ActionName": "DeleteRole"}]
    iam = {"ServiceName": "IAM", "ServiceNamespace": "iam", "LastAuthenticated": WHEN}
    answer(stubs, "COMPLETED", {**iam, "TrackedActionsLastAccessed": tracked}, marker="more")
    answer(stubs, "COMPLETED", {"ServiceName": "SQS", "ServiceNamespace": "sqs"}, asked="more")
    assert reports(stubs).of(ACCOUNT, ASKED["Arn"]) == [
        LastUse("iam", "", WHEN),
        LastUse("iam", "iam:CreateRole", WHEN),
        LastUse("iam", "iam:DeleteRole", None),
        LastUse("sqs", "", None),
    ]


def test_a_report_that_never_comes_is_asked_for_another_time(stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.connectors.aws.last_accessed.TRIES", 2)
    stubs.answer("iam", "generate_service_last_accessed_details", {"JobId": "1" * 36}, ASKED)
    answer(stubs, "IN_PROGRESS")
    answer(stubs, "IN_PROGRESS")
    with pytest.raises(Throttled, match="not ready"):
        reports(stubs).of(ACCOUNT, ASKED["Arn"])
