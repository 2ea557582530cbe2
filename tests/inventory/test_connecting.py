"""Adding, changing and testing connections in the browser."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors import fake, fake_world
from apps.connectors.base import Finding
from apps.connectors.errors import Denied
from apps.inventory import periodic, services, tasks
from apps.inventory.models import ChangeFeed, ChangeMark, Connection, ConnectionTest, ScopeScan, SyncRun
from apps.inventory.sync import testing
from apps.inventory.views.common import freshness
from tests.factories.inventory import ConnectionFactory, ResourceFactory, SyncRunFactory
from tests.inventory.conftest import PROD

pytestmark = pytest.mark.django_db

GIVEN = {"name": "acme", "region": "eu-central-1", "drop_percent": "20"}
MISSING = Finding(
    PROD,
    "prod",
    "iam:GetRole",
    "missing",
    "portal/PortalReader lacks the right.",
    "Update the stack of member.yaml.",
    {"Effect": "Allow", "Action": "iam:GetRole", "Resource": "*"},
)


@pytest.fixture
def browser(erin: Any) -> Client:
    client = Client()
    client.force_login(erin)
    return client


def test_a_connection_is_added_observe_only_with_an_external_id_of_its_own(browser: Client) -> None:
    page = browser.post(reverse("inventory:add_connection"), GIVEN, follow=True).content.decode()
    added = Connection.objects.get()
    assert (added.region, added.drop_percent, added.options, added.is_writable) == ("eu-central-1", 20, {}, False)
    assert added.external_id in page
    assert AuditEvent.objects.filter(event="inventory.connection.added").count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"region": "https://evil.example"},
        {"change_queue": "https://sqs.evil.example/1/queue"},
        {"reader_role": "arn:aws:iam::1:role/x"},
        {"reader_role": "portal/*"},
        {"start_url": "http://evil.example"},
        {"start_url": "javascript:alert(1)"},
        {"drop_percent": "0"},
        {"name": "a b"},
    ],
)
def test_no_address_that_we_would_call_and_no_pattern_comes_from_a_form(browser: Client, wrong: dict[str, str]) -> None:
    answer = browser.post(reverse("inventory:add_connection"), {**GIVEN, **wrong})
    assert answer.status_code == 200
    assert not Connection.objects.exists()


def test_options_that_nobody_knows_are_refused_wherever_they_come_from(erin: Any) -> None:
    for options in ({"endpoint_url": "https://evil.example"}, {"reader_role": ["x"]}, {"start_url": "ftp://x"}):
        with pytest.raises(services.NotPossible):
            services.add_connection(name="acme", region="us-east-1", options=options, by=erin)


def test_a_name_that_is_taken_is_said_at_its_field(browser: Client) -> None:
    ConnectionFactory(name="acme")
    assert (
        "There is a connection of this name"
        in browser.post(reverse("inventory:add_connection"), GIVEN).content.decode()
    )


def test_what_is_not_shown_in_the_form_is_kept(browser: Client) -> None:
    row = ConnectionFactory(kind="aws", options={"rules_per_group": 100, "reader_role": "audit/Reader"})
    browser.post(reverse("inventory:edit_connection", args=[row.name]), {**GIVEN, "change_queue": "gatehouse-changes"})
    row.refresh_from_db()
    assert row.options == {"rules_per_group": 100, "change_queue": "gatehouse-changes"}
    assert row.region == "eu-central-1"
    event = AuditEvent.objects.get(event="inventory.connection.changed")
    assert event.data["changed"]["reader_role"] == ["audit/Reader", None]


def test_saving_what_is_so_already_is_no_event(erin: Any) -> None:
    row = ConnectionFactory(kind="aws", options={})
    services.change_connection(row, region=row.region, options={}, drop_percent=row.drop_percent, by=erin)
    assert not AuditEvent.objects.filter(event="inventory.connection.changed").exists()


@pytest.mark.parametrize(
    "change", [{"region": "eu-west-1"}, {"options": {"provisioner_role": "Admin"}}, {"options": {"reader_role": "X"}}]
)
def test_what_was_baselined_goes_on_pointing_where_it_does(erin: Any, change: dict[str, Any]) -> None:
    row = ConnectionFactory(kind="aws", options={}, baselined=True)
    asked = {"region": row.region, "options": {}, "drop_percent": 30, **change}
    with pytest.raises(services.NotPossible, match="Add another connection"):
        services.change_connection(row, **asked, by=erin)
    services.change_connection(row, region=row.region, options={"change_queue": "q"}, drop_percent=10, by=erin)
    row.refresh_from_db()
    assert (row.change_queue, row.drop_percent) == ("q", 10)


# ---- testing


def test_a_worker_does_the_test_that_somebody_asked_for_and_the_page_says_what_is_missing(
    browser: Client, org: Connection, world: fake_world.World
) -> None:
    world.findings = [Finding(PROD, "prod", "iam:ListRoles"), MISSING]
    asked = browser.post(reverse("inventory:test_connection", args=[org.name]))
    test = ConnectionTest.objects.get()
    waiting = browser.get(asked["Location"]).content.decode()
    assert "Waiting for a worker" in waiting
    assert "every 2s" in waiting
    testing.run(test.pk, by=audit.WORKER)
    page = browser.get(asked["Location"]).content.decode()
    for said in ("iam:GetRole", "lacks the right", "Update the stack of member.yaml", "&quot;iam:GetRole&quot;"):
        assert said in page
    assert "HX-Refresh" in browser.get(reverse("inventory:test_progress", args=[org.name, test.pk]))
    event = AuditEvent.objects.get(event="inventory.connection_test.finished")
    assert event.data["found"] == {"ok": 1, "missing": 1, "unknown": 0}


def test_a_statement_is_for_the_role_that_lacks_the_right(
    browser: Client, org: Connection, world: fake_world.World, erin: Any
) -> None:
    gives = {"Effect": "Allow", "Action": "sqs:DeleteMessage", "Resource": "arn:aws:sqs:us-east-1:1:q"}
    world.findings = [Finding(PROD, "Change feed", "sqs:DeleteMessage", "missing", "x", "y", gives)]
    done = testing.run(services.request_test(org, by=erin).pk, by=audit.WORKER)
    assert done
    page = browser.get(reverse("inventory:connection_test", args=[org.name, done.pk]))
    [statement] = page.context["statements"]
    assert statement["role"] == org.config["feed_role"] != org.config["reader_role"]


def test_a_test_is_done_once_and_one_at_a_time(org: Connection, world: fake_world.World, erin: Any) -> None:
    test = services.request_test(org, by=erin)
    with pytest.raises(services.NotPossible, match="being tested"):
        services.request_test(org, by=erin)
    assert testing.run(test.pk, by=audit.WORKER)
    assert testing.run(test.pk, by=audit.WORKER) is None
    services.request_test(org, by=erin)


def test_a_test_that_nobody_takes_up_does_not_stand_in_the_way_for_ever(org: Connection, erin: Any) -> None:
    test = services.request_test(org, by=erin)
    ConnectionTest.objects.update(beat_at=timezone.now() - ConnectionTest.SILENT_FOR)
    test.refresh_from_db()
    assert not test.is_open
    services.request_test(org, by=erin)


def test_a_lost_wake_up_call_costs_a_minute(org: Connection, erin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    test = services.request_test(org, by=erin)
    called: list[Any] = []
    monkeypatch.setattr(tasks.test_connection, "apply_async", lambda args, **_: called.append(args))
    periodic.test_asked()
    assert called == [(test.pk,)]


def test_a_worker_without_credentials_says_so(org: Connection, world: fake_world.World, erin: Any) -> None:
    world.script("checkup", fake_world.raises(Denied("AWS does not accept Gatehouse's credentials.")))
    done = testing.run(services.request_test(org, by=erin).pk, by=audit.WORKER)
    assert done and (done.state, done.problem) == ("failed", "AWS does not accept Gatehouse's credentials.")


def test_a_test_stops_when_the_connection_is_paused_and_says_so(
    org: Connection, erin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def checkup(_self: Any, progress: Any) -> None:
        for account in ("first", "second", "third"):
            progress(0, 3, account)
            tried.append(account)
            if account == "second":
                services.pause(org, by=erin)

    monkeypatch.setattr(fake.FakeConnector, "checkup", checkup)
    monkeypatch.setattr(testing, "BEAT_SECONDS", 0)
    done = testing.run(services.request_test(org, by=erin).pk, by=audit.WORKER)
    assert tried == ["first", "second"]
    assert done and (done.state, done.problem) == ("failed", testing.PAUSED)


def test_the_command_prints_what_is_missing_and_says_it_by_its_exit_code(
    org: Connection, world: fake_world.World, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as caught:
        call_command("test_connection", org.name)
    assert caught.value.code == 0
    world.findings = [MISSING]
    with pytest.raises(SystemExit) as caught:
        call_command("test_connection", org.name)
    assert caught.value.code == 1
    assert f"MISSING  prod {PROD}  iam:GetRole" in capsys.readouterr().out


# ---- what a run says about each scope


def test_of_many_scopes_those_that_failed_come_first_and_the_rest_is_paged(
    browser: Client, org: Connection, django_assert_max_num_queries: Any
) -> None:
    run = SyncRunFactory(connection=org, state=SyncRun.State.INCOMPLETE, throttles=3)
    now = timezone.now()
    accounts = ResourceFactory.create_batch(60, connection=org)
    ScopeScan.objects.bulk_create(
        ScopeScan(run=run, resource=account, state="failed" if n == 59 else "complete", started_at=now, finished_at=now)
        for n, account in enumerate(accounts)
    )
    with django_assert_max_num_queries(30):
        page = browser.get(org.get_absolute_url()).content.decode()
    assert accounts[59].name in page
    assert accounts[0].name in page
    assert accounts[58].name not in page
    assert 'said <span class="gh-num">3</span> times' in page
    only = browser.get(f"{org.get_absolute_url()}?run={run.pk}&state=failed").content.decode()
    assert accounts[0].name not in only


# ---- as of


def test_pages_say_what_the_feed_told_since_the_last_full_reading(
    org: Connection, world: fake_world.World, read: Any
) -> None:
    read()
    assert freshness([org]).followed == 0
    org.options["change_queue"] = "q"
    marks = {"connection": org, "kind": "account", "event_name": "CreateRole", "event_at": timezone.now()}
    ChangeMark.objects.create(**marks, account_id=PROD, event_id="1", read_at=timezone.now())
    ChangeMark.objects.create(**marks, account_id="444455556666", event_id="2")
    said = freshness([Connection.objects.get(pk=org.pk)])
    assert (said.followed, said.waiting) == (0, 0), "without a feed nobody asks"
    org.save()
    said = freshness([Connection.objects.get(pk=org.pk)])
    assert (said.followed, said.waiting, len(said.unheard)) == (1, 1, 1)
    ChangeFeed.objects.create(connection=org, polled_at=timezone.now())
    assert freshness([Connection.objects.get(pk=org.pk)]).unheard == ()
