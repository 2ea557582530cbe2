"""The audit events of a period as a file: exact at its bounds, on the record, and safe to open."""

from __future__ import annotations

import csv
import hashlib
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.audit.models import AuditEvent
from apps.evidence import selection, services
from apps.evidence.models import Export
from apps.users.models import User
from tests.evidence.conftest import client_of, happened

pytestmark = pytest.mark.django_db
URL = "/evidence/audit/export/"
DAYS = {"start": "2026-03-30", "end": "2026-03-31"}


def take(user: User, **params: str) -> tuple[bytes, list[dict[str, str]]]:
    response = client_of(user).post(URL, {**DAYS, **params})
    assert response.status_code == 200
    data = b"".join(response)
    assert response["X-Content-SHA256"] == hashlib.sha256(data).hexdigest()
    return data, list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_it_holds_exactly_the_events_of_those_days_oldest_first(dan: User) -> None:
    tick = timedelta(microseconds=1)
    begin, end = datetime(2026, 3, 30, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    last, first = happened(at=end - tick), happened(at=begin)
    happened(at=begin - tick)
    happened(at=end)
    _, rows = take(dan)
    assert [row["id"] for row in rows] == [str(first.pk), str(last.pk)]
    assert rows[0]["at"] == "2026-03-30T00:00:00.000000Z"
    assert list(rows[0]) == list(selection.COLUMNS)


def test_who_took_what_is_on_the_record_with_the_digest_of_the_file(dan: User) -> None:
    happened(at=datetime(2026, 3, 30, 12, tzinfo=UTC))
    data, _ = take(dan)
    event = AuditEvent.objects.get(event="evidence.export.made")
    export = Export.objects.get()
    digest = hashlib.sha256(data).hexdigest()
    assert event.actor_id == str(dan.pk)
    assert (event.data["rows"], event.data["sha256"], event.data["bytes"]) == (1, digest, len(data))
    assert (export.rows, export.digest, export.size, export.made_by) == (1, digest, len(data), dan)
    assert digest in client_of(dan).get("/evidence/").content.decode()


def test_the_same_period_gives_the_same_bytes(dan: User, erin: User) -> None:
    for hour in range(5):
        happened(at=datetime(2026, 3, 30, hour, tzinfo=UTC), data={"b": 1, "a": [hour]})
    assert take(dan)[0] == take(erin)[0]


def test_a_period_without_events_is_a_header_and_on_the_record_too(dan: User) -> None:
    _, rows = take(dan)
    assert rows == [] and Export.objects.get().rows == 0


def test_hostile_names_are_no_formulas(dan: User) -> None:
    happened(at=datetime(2026, 3, 30, 12, tzinfo=UTC), subject_name="=cmd|' /C calc'!A0", actor_name="@evil")
    _, [row] = take(dan)
    assert (row["subject_name"], row["actor_name"]) == ("'=cmd|' /C calc'!A0", "'@evil")


def test_only_auditors_and_administrators_may_and_only_by_post(dan: User, mallory: User) -> None:
    assert client_of(mallory).post(URL, DAYS).status_code == 404
    assert client_of(dan).get(URL).status_code == 405
    assert not Export.objects.exists()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"start": ""}, "required"),
        ({"start": "2026-04-01"}, "before the first day"),
        ({"end": "9999-12-31"}, "too far away"),
        ({"end": "31.3.2026"}, "valid date"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused_with_the_reason(dan: User, params: dict[str, str], said: str) -> None:
    response = client_of(dan).post(URL, {**DAYS, **params})
    assert response.status_code == 422
    assert said in response.content.decode()
    assert not Export.objects.exists()


def test_ten_times_the_events_cost_as_many_queries(dan: User) -> None:
    start, end = datetime(2026, 3, 30, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            services.export_audit(start=start, end=end, by=dan)[1].file.close()
        return len(captured)

    happened(at=start)
    one = queries()
    for _ in range(9):
        happened(at=start)
    assert queries() == one


def test_what_was_exported_stays_on_record(dan: User) -> None:
    take(dan)
    for act in (Export.objects.all().delete, lambda: Export.objects.update(rows=0)):
        with pytest.raises(DatabaseError, match="Cannot"), transaction.atomic():
            act()
