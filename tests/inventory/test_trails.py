"""Reading an audit trail into the inventory: every event once, whatever happens in between."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from django.db.models import Sum
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors.errors import Unreachable
from apps.connectors.trail import Shelf, TrailEvent
from apps.inventory import baselines
from apps.inventory import trails as readers
from apps.inventory.models import Actor, Connection, Creation, Principal, TrailDay, TrailHour, TrailRun, Usage
from apps.inventory.sync import CannotRun, trails, usage
from tests.factories.inventory import ConnectionFactory, CredentialFactory, PrincipalFactory, ResourceFactory
from tests.inventory.trail import REGION, Bucket, at, events, install
from tests.trail import ACCOUNT, ROLE_ID, USER_ID, record, session, user

pytestmark = pytest.mark.django_db


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return install(Bucket(), monkeypatch)


@pytest.fixture
def connection() -> Connection:
    return ConnectionFactory(options={"trail_bucket": "trail"})


@pytest.fixture
def role(connection: Connection) -> Principal:
    account = ResourceFactory(connection=connection, external_id=ACCOUNT)
    return PrincipalFactory(
        connection=connection,
        resource=account,
        kind=Principal.Kind.IAM_ROLE,
        external_id=f"arn:aws:iam::{ACCOUNT}:role/deploy",
        attributes={"unique_id": ROLE_ID},
        last_used_at=None,
    )


def read(connection: Connection) -> TrailRun:
    return trails.read(connection.pk, by=audit.WORKER)


def totals() -> dict[str, int]:
    return Usage.objects.aggregate(*(Sum(name, default=0) for name in ("done", "denied", "failed", "by_services")))


def test_usage_counts_success_refusal_and_failure_apart(
    bucket: Bucket, connection: Connection, role: Principal
) -> None:
    bucket.put(
        "a",
        *events(3),
        *events(2, id="denied", errorCode="AccessDenied"),
        *events(1, id="failed", errorCode="InvalidParameterValue"),
        *events(4, id="by", userIdentity=session("deploy") | {"invokedBy": "cloudformation.amazonaws.com"}),
    )
    run = read(connection)
    assert (run.state, run.files, run.events) == (TrailRun.State.COMPLETE, 1, 10)
    row = Usage.objects.get()
    assert (row.action, row.done, row.denied, row.failed, row.by_services) == ("ec2:DescribeInstances", 3, 2, 1, 4)
    assert (row.networks, row.regions, row.services) == (
        ["203.0.113.0/24"],
        ["eu-west-1"],
        ["cloudformation.amazonaws.com"],
    )
    assert row.actor.principal == role
    role.refresh_from_db()
    assert role.last_used_at == row.last_at


def test_reading_twice_changes_nothing(bucket: Bucket, connection: Connection) -> None:
    bucket.put("a", *events(5))
    read(connection)
    before = totals()
    again = read(connection)
    assert (again.files, again.events) == (0, 0)
    assert totals() == before
    assert bucket.opened.count(next(iter(bucket.files))) == 1


def test_an_event_in_two_files_counts_once_also_for_other_readers(
    bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[TrailEvent] = []
    monkeypatch.setattr(readers, "_readers", {})
    readers.add_event_reader("test", lambda _connection, batch: heard.extend(batch))
    bucket.put("a", *events(5), *events(5))
    read(connection)
    bucket.put("b", *events(6))
    run = read(connection)
    assert (run.events, run.repeated) == (1, 5)
    assert totals()["done__sum"] == 6
    assert sorted(event.event_id for event in heard) == [f"e-{n}" for n in range(6)]


def test_a_reading_that_was_killed_goes_on_where_it_was(
    bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "BATCH", 7)
    for name in "abc":
        bucket.put(name, *events(10, id=name))
    store, batches = usage.store, 0

    def dies(*args: Any) -> usage.Stored:
        nonlocal batches
        batches += 1
        stored = store(*args)
        if batches == 3:
            raise KeyboardInterrupt
        return stored

    monkeypatch.setattr(usage, "store", dies)
    with pytest.raises(KeyboardInterrupt):
        read(connection)
    assert TrailRun.objects.get().state == TrailRun.State.FAILED
    assert 0 < totals()["done__sum"] < 30
    monkeypatch.setattr(usage, "store", store)
    assert read(connection).state == TrailRun.State.COMPLETE
    assert totals()["done__sum"] == 30
    assert TrailDay.objects.get(day=timezone.now().date()).files == 3


def test_a_file_that_comes_late_is_read_while_its_day_is_open(bucket: Bucket, connection: Connection) -> None:
    yesterday = timezone.now().date() - timedelta(days=1)
    bucket.put("b", *events(1), day=timezone.now().date())
    read(connection)
    bucket.put("a", *events(1, id="late", eventTime=at(days=1)), day=yesterday)
    assert read(connection).events == 1


def test_a_damaged_file_that_comes_after_its_day_was_whole_makes_a_gap(bucket: Bucket, connection: Connection) -> None:
    day = timezone.now().date() - timedelta(days=2)
    bucket.put("a", *events(1, eventTime=at(days=2)), day=day)
    read(connection)
    assert TrailDay.objects.get(day=day).whole_at
    bucket.put("b", day=day, content=b"not a file")
    for _ in range(2):
        read(connection)
        row = TrailDay.objects.get(day=day)
        assert (row.damaged, row.whole_at) == (1, None)


def test_a_late_file_that_is_not_handed_out_makes_a_gap_until_it_is(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = TwoRegions()
    install(bucket, monkeypatch)
    read(connection)
    late = TrailDay.objects.filter(day=timezone.now().date() - timedelta(days=2), region="us-east-1")
    assert late.get().whole_at
    bucket.put("late-us-east-1", *events(1, id="late", eventTime=at(days=2)), day=late.get().day)
    bucket.fails["get"] = Unreachable("No.")
    read(connection)
    assert late.get().whole_at is None
    assert TrailDay.objects.filter(whole_at=None, day__lte=late.get().day).count() == 1
    bucket.fails.clear()
    read(connection)
    assert late.get().whole_at
    assert totals()["done__sum"] == 3


def test_days_that_are_over_are_not_listed_again_and_their_ids_are_forgotten(
    bucket: Bucket, connection: Connection
) -> None:
    old = timezone.now() - timedelta(days=20)
    bucket.put("a", *events(3, eventTime=at(days=20)), day=old.date())
    bucket.put("b", *events(3, id="new"))
    read(connection)
    row = TrailDay.objects.get(day=old.date())
    assert (row.files, row.events, row.read_keys) == (1, 3, [])
    assert row.whole_at
    assert TrailHour.objects.count() == 1
    bucket.put("c", *events(1, id="too-late", eventTime=at(days=20)), day=old.date())
    assert read(connection).files == 0


def test_what_cannot_be_read_is_said_and_its_day_is_not_whole(bucket: Bucket, connection: Connection) -> None:
    past = timezone.now().date() - timedelta(days=5)
    bucket.put("bad", content=b"not a file", day=past)
    bucket.put("odd", *events(2, eventTime=at(days=4)), "text", {"eventID": "x"}, day=past + timedelta(days=1))
    bucket.put("skewed", *events(1, id="f", eventTime=at(days=-3)), *events(1, id="g", eventTime=at(days=900)))
    bucket.files[f"{past:%Y/%m/%d}/Digest"] = b""
    run = read(connection)
    assert run.state == TrailRun.State.INCOMPLETE
    assert {(line["file"][11:14], line["reason"][:12]) for line in run.skipped} == {
        ("Dig", "Not a file o"),
        ("bad", "The file is "),
        ("odd", "A record is "),
        ("ske", "An event lie"),
        ("ske", "An event is "),
    }
    assert run.skipped_count == len(run.skipped) + 0 == 6
    assert totals()["done__sum"] == 2
    days = dict(TrailDay.objects.values_list("day", "whole_at"))
    assert days[past] is None
    assert days[past + timedelta(days=1)]


def test_a_shelf_that_does_not_answer_leaves_its_days_unknown(bucket: Bucket, connection: Connection) -> None:
    bucket.unreachable.add("")
    run = read(connection)
    assert run.state == TrailRun.State.INCOMPLETE
    assert run.skipped[0]["reason"] == "No answer."
    assert TrailDay.objects.exists()
    assert not TrailDay.objects.exclude(whole_at=None).exists()


class TwoRegions(Bucket):
    """An account with a file in each of two Regions, three days ago. `fails` happens in the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, BaseException] = {}
        self.day = timezone.now().date() - timedelta(days=3)
        for region in (REGION, "us-east-1"):
            self.put(region, *events(1, id=region, eventTime=at(days=3), awsRegion=region), day=self.day)

    def shelves(self) -> list[Shelf]:
        return [Shelf(ACCOUNT, region, region) for region in (REGION, "us-east-1")]

    def keys(self, shelf: Shelf, since: date) -> Iterator[str]:
        if shelf.region == "us-east-1" and "list" in self.fails:
            raise self.fails["list"]
        return (key for key in super().keys(shelf, since) if f"{shelf.prefix}." in key)

    def read(self, key: str, skipped: Counter[str]) -> Iterator[TrailEvent]:
        if "us-east-1" in key and "get" in self.fails:
            raise self.fails["get"]
        return super().read(key, skipped)


@pytest.mark.parametrize(
    ("call", "error"), [("list", Unreachable("No answer.")), ("get", Unreachable("No.")), ("list", KeyboardInterrupt())]
)
def test_no_day_is_whole_before_every_region_of_the_account_was_read(
    call: str, error: BaseException, connection: Connection, role: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trails, "MOST_FILES", 1)
    bucket = TwoRegions()
    install(bucket, monkeypatch)
    assert role.identity
    bucket.fails[call] = error
    with contextlib.suppress(KeyboardInterrupt):
        assert read(connection).state == TrailRun.State.INCOMPLETE
    assert TrailDay.objects.get(day=bucket.day, region=REGION).whole_at
    assert not TrailDay.objects.filter(region="us-east-1").exclude(whole_at=None).exists()
    assert baselines.coverage(role.identity).why_not.startswith("No day of the trail was read whole")
    bucket.fails.clear()
    assert read(connection).state == TrailRun.State.COMPLETE
    assert baselines.coverage(role.identity).last
    assert not baselines.coverage(role.identity).missing
    assert totals()["done__sum"] == 2


def test_a_region_that_stops_answering_leaves_a_gap_from_then_on(
    connection: Connection, role: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = TwoRegions()
    install(bucket, monkeypatch)
    read(connection)
    TrailDay.objects.filter(day__gte=bucket.day).delete()
    bucket.fails["list"] = Unreachable("No answer.")
    read(connection)
    assert role.identity
    covered = baselines.coverage(role.identity)
    assert covered.last == bucket.day - timedelta(days=1)
    days = TrailDay.objects.filter(day__gte=bucket.day, region="us-east-1")
    assert set(days.values_list("whole_at", flat=True)) == {None}


class TwoLayouts(Bucket):
    """An account's own trail stood there first, then the organization's: two shelves of one account and Region."""

    def shelves(self) -> list[Shelf]:
        return [Shelf(ACCOUNT, REGION, "own"), Shelf(ACCOUNT, REGION, "organization")]

    def keys(self, shelf: Shelf, since: date) -> Iterator[str]:
        return (key for key in super().keys(shelf, since) if f"/{shelf.prefix}-" in key)


@pytest.mark.parametrize("refused", ["own", "organization"])
def test_a_day_is_whole_only_when_every_layout_of_the_bucket_was_read(
    refused: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = TwoLayouts()
    install(bucket, monkeypatch)
    day = timezone.now().date() - timedelta(days=10)
    for layout in ("own", "organization"):
        bucket.put(f"{layout}-a", *events(1, id=layout, eventTime=at(days=10)), day=day)
    bucket.unreachable.add(refused)
    assert read(connection).state == TrailRun.State.INCOMPLETE
    assert not TrailDay.objects.exclude(whole_at=None).exists()
    bucket.unreachable.clear()
    run = read(connection)
    assert (run.state, run.events, totals()["done__sum"]) == (TrailRun.State.COMPLETE, 1, 2)
    assert TrailDay.objects.get(day=day).whole_at


def test_a_role_that_was_made_again_under_its_name_is_somebody_else(
    bucket: Bucket, connection: Connection, role: Principal
) -> None:
    bucket.put("a", *events(1, userIdentity=session("deploy", role_id="AROAFORMER")))
    read(connection)
    assert Actor.objects.get().principal is None
    bucket.put("b", *events(1, id="now"))
    read(connection)
    assert Actor.objects.get(principal=role).external_id == ROLE_ID
    Principal.objects.filter(pk=role.pk).update(attributes={"unique_id": "AROANEXT"})
    read(connection)
    assert not Actor.objects.exclude(principal=None).exists()


def test_usage_of_a_principal_that_is_synced_later_is_its_own(bucket: Bucket, connection: Connection) -> None:
    bucket.put("a", *events(1, userIdentity=user()))
    read(connection)
    assert Actor.objects.get().principal is None
    late = PrincipalFactory(
        connection=connection, kind=Principal.Kind.IAM_USER, external_id="arn", attributes={"unique_id": USER_ID}
    )
    read(connection)
    assert Actor.objects.get().principal == late


def test_what_aws_services_and_other_accounts_do_is_nobodys_usage(bucket: Bucket, connection: Connection) -> None:
    bucket.put(
        "a",
        *events(2, userIdentity={"accountId": ACCOUNT, "invokedBy": "health.amazonaws.com"}),
        *events(1, id="x", userIdentity={"type": "AWSAccount", "principalId": "AROAOTHER:me", "accountId": "9" * 12}),
    )
    assert read(connection).of_nobody == 3
    assert not Usage.objects.exists()


def test_a_call_that_fits_no_permission_is_kept_as_such(bucket: Bucket, connection: Connection) -> None:
    bucket.put("a", *events(1, eventSource="signin.amazonaws.com", eventName="ConsoleLogin"))
    read(connection)
    row = Usage.objects.get()
    assert (row.action, row.is_mapped) == ("signin:ConsoleLogin", False)


def test_who_made_a_role_is_kept(bucket: Bucket, connection: Connection, role: Principal) -> None:
    made = {"role": {"arn": f"arn:aws:iam::{ACCOUNT}:role/new", "roleId": "AROANEW"}}
    fields = {"eventSource": "iam.amazonaws.com", "eventName": "CreateRole", "responseElements": made}
    bucket.put("a", *events(1, **fields), *events(1, id="denied", errorCode="AccessDenied", **fields))
    read(connection)
    creation = Creation.objects.get()
    assert (creation.made_id, creation.actor.principal, creation.session_name) == ("AROANEW", role, "run-7")


def test_the_last_use_of_a_key_is_known_sooner(bucket: Bucket, connection: Connection) -> None:
    ci = PrincipalFactory(
        connection=connection, kind=Principal.Kind.IAM_USER, external_id="arn", attributes={"unique_id": USER_ID}
    )
    key = CredentialFactory(principal=ci, kind="access_key", external_id="AKIAEXAMPLE", last_used_at=None)
    bucket.put("a", record(userIdentity=user(), eventTime=at(hours=2)))
    read(connection)
    key.refresh_from_db()
    assert key.last_used_at


def test_a_run_ends_with_one_audit_event_that_counts(bucket: Bucket, connection: Connection) -> None:
    bucket.put("a", *events(3))
    run = read(connection)
    event = AuditEvent.objects.get(event="inventory.trail_run.finished")
    assert event.data["events"] == 3
    assert len(event.data["digest"]) == 64
    assert run.finished_at


def test_a_reader_that_fails_undoes_its_batch(
    bucket: Bucket, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(readers, "_readers", {"test": fails})
    bucket.put("a", *events(3))
    with pytest.raises(RuntimeError):
        read(connection)
    assert not Usage.objects.exists()
    assert not TrailHour.objects.exists()


def test_one_reading_at_a_time_and_none_without_a_trail(bucket: Bucket, connection: Connection) -> None:
    TrailRun.objects.create(connection=connection)
    with pytest.raises(CannotRun, match="being read right now"):
        read(connection)
    TrailRun.objects.update(beat_at=timezone.now() - timedelta(hours=1))
    assert read(connection).state == TrailRun.State.COMPLETE
    with pytest.raises(CannotRun, match="names no audit trail"):
        read(ConnectionFactory())
    with pytest.raises(CannotRun, match="paused"):
        read(ConnectionFactory(options={"trail_bucket": "x"}, paused_at=timezone.now()))


def test_usage_is_dropped_when_it_is_older_than_it_is_kept_for(
    bucket: Bucket, connection: Connection, settings: Any
) -> None:
    bucket.put("a", *events(1), *events(1, id="old", eventTime=at(days=80)))
    read(connection)
    settings.USAGE_KEPT_DAYS = 60
    assert trails.prune() == 1
    assert Usage.objects.count() == 1
