"""Pausing a connection while it is being read: nothing more is read or written there."""

from __future__ import annotations

import threading

import pytest
from django.utils import timezone

from apps.audit import services as audit
from apps.connectors import fake, registry
from apps.inventory import services
from apps.inventory.models import Assignment, ChangeMark, Connection, Principal, ScopeScan, SyncRun
from apps.inventory.sync import claims, following, last_accessed, reading, threads, trails
from tests.inventory.conftest import PROD
from tests.inventory.trail import Bucket, events, install


def pauses(org, erin, monkeypatch, method):
    """An administrator pauses while this is being read."""
    original = getattr(fake.FakeConnector, method)

    def paused_meanwhile(self, *args):
        found = original(self, *args)
        if Connection.objects.filter(pk=org.pk, paused_at=None).exists():
            services.pause(org, by=erin)
        return found

    monkeypatch.setattr(fake.FakeConnector, method, paused_meanwhile)


def test_a_reading_that_is_under_way_stops_and_writes_nothing_more(org, world, read, erin, monkeypatch):
    read()
    world.unassign("bob", f"Read@{PROD}")
    world.add_principal("iam_user", "newcomer", account_id=PROD)
    storable = reading._Run.storable

    def paused_meanwhile(self, accounts):
        services.pause(org, by=erin)
        return storable(self, accounts)

    monkeypatch.setattr(reading._Run, "storable", paused_meanwhile)
    run = read()
    assert (run.state, run.problem.startswith("It was paused")) == ("failed", True)
    assert not ScopeScan.objects.filter(run=run).exists()
    assert Assignment.objects.open().filter(principal__external_id="bob").exists()
    assert not Principal.objects.filter(external_id="newcomer").exists()


def test_a_long_list_of_accounts_is_not_read_to_its_end(org, world, read, erin, monkeypatch):
    never, stopped = threading.Event(), []
    wait = threads.wait

    def accounts(self, progress):
        try:
            for done in range(3_000):
                progress(done, 3_000, "the tags of prod")
                never.wait(0.01)
        except claims.Superseded:
            stopped.append(done)
            raise
        return []

    def paused_meanwhile(*args):
        if Connection.objects.filter(pk=org.pk, paused_at=None).exists():
            services.pause(org, by=erin)
        return wait(*args)

    monkeypatch.setattr(fake.FakeConnector, "accounts", accounts)
    monkeypatch.setattr(threads, "wait", paused_meanwhile)
    monkeypatch.setattr(threads, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0)
    run = read()
    assert (run.state, run.problem.startswith("It was paused")) == ("failed", True)
    assert stopped


def test_a_long_list_of_accounts_gives_signs_of_life(org, world, read, monkeypatch):
    """It is read on only once a sign of life has said where it is."""
    said, save, listed = threading.Event(), claims.Progress.save, fake.FakeConnector.accounts

    def accounts(self, progress):
        progress(340, 1_000, "the tags of prod")
        assert said.wait(30)
        return listed(self, progress)

    def saved(self, **how):
        save(self, **how)
        if SyncRun.objects.get(pk=self.run.pk).doing == "Accounts: the tags of prod":
            said.set()

    monkeypatch.setattr(fake.FakeConnector, "accounts", accounts)
    monkeypatch.setattr(claims.Progress, "save", saved)
    monkeypatch.setattr(threads, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0)
    assert read().state == "complete"
    assert said.is_set()


def test_what_threads_still_read_for_a_run_that_was_paused_stops_at_its_next_step(org, world, read, erin):
    run = read()
    run.state, run.pk = "running", None
    run.save()
    progress = claims.Progress(run)
    progress.report("prod", "users")
    services.pause(org, by=erin)
    with pytest.raises(claims.Paused):
        progress.save(now=True)
    with pytest.raises(claims.Superseded):
        progress.report("prod", "roles")


def test_what_was_marked_waits_for_the_resumption(org, world, read, erin, monkeypatch):
    read()
    world.add_principal("iam_user", "newcomer", account_id=PROD)
    now = timezone.now()
    ChangeMark.objects.create(
        connection=org, account_id=PROD, kind="account", event_id="1", event_name="CreateUser", event_at=now, try_at=now
    )
    pauses(org, erin, monkeypatch, "scan_account")
    following.reread(org.pk, PROD)
    assert not Principal.objects.filter(external_id="newcomer").exists()
    assert ChangeMark.objects.unread().count() == 1


def test_a_trail_is_read_no_further(org, erin, monkeypatch):
    bucket = install(Bucket(), monkeypatch)
    org.options["trail_bucket"] = "trail"
    org.save()
    bucket.put("a", *events(3))
    monkeypatch.setattr(trails, "BEAT_SECONDS", 0)
    keys = bucket.keys

    def paused_meanwhile(*args):
        services.pause(org, by=erin)
        return keys(*args)

    monkeypatch.setattr(bucket, "keys", paused_meanwhile)
    run = trails.read(org.pk, by=audit.WORKER)
    assert (run.state, run.problem.startswith("It was paused"), run.files) == ("failed", True, 0)


def test_a_file_of_a_trail_is_kept_no_further(org, erin, monkeypatch):
    bucket = install(Bucket(), monkeypatch)
    org.options["trail_bucket"] = "trail"
    org.save()
    bucket.put("a", *events(9))
    monkeypatch.setattr(trails, "BATCH", 3)
    kept = trails.usage.store

    def paused_meanwhile(connection, batch):
        services.pause(org, by=erin)
        return kept(connection, batch)

    monkeypatch.setattr(trails.usage, "store", paused_meanwhile)
    run = trails.read(org.pk, by=audit.WORKER)
    assert (run.state, run.problem.startswith("It was paused"), run.events) == ("failed", True, 3)


def test_no_further_report_of_last_accesses_is_asked_for(org, world, read, erin, monkeypatch):
    read()
    Principal.objects.update(last_used_at=timezone.now())
    asked = []

    class Reports:
        def of(self, _account_id, arn):
            asked.append(arn)
            if len(asked) == 1:
                services.pause(org, by=erin)
            return []

    monkeypatch.setitem(registry.ACCESS_REPORTS, "fake", "unused:unused")
    monkeypatch.setattr(registry, "access_reports", lambda _kind, _config: Reports())
    last_accessed.read(org.pk)
    assert len(asked) == 1
