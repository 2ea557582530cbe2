"""What a run that did not come to its end says of what it changed and cost: as much as it did."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.connectors import budget, fake
from apps.connectors.errors import Throttled
from apps.inventory import services
from apps.inventory.models import Principal, Resource, SyncRun
from apps.inventory.sync import claims, reading
from tests.factories.inventory import SyncRunFactory
from tests.inventory.conftest import SANDBOX


def costs(monkeypatch, **calls):
    """Let these methods of the connector make so many calls, of which one is too much. Returns what was asked in all."""
    asked = budget.Spent()

    def counted(original, number):
        def method(self, *args):
            one = budget.Spent(number, 1, 0.5)
            budget.spending().add(one)
            asked.add(one)
            return original(self, *args)

        return method

    for name, number in calls.items():
        monkeypatch.setattr(fake.FakeConnector, name, counted(getattr(fake.FakeConnector, name), number))
    return asked


def said(run):
    """What the row says that it cost."""
    run.refresh_from_db()
    return budget.Spent(run.calls, run.throttles, run.waited_for.total_seconds())


def event(run):
    (one,) = AuditEvent.objects.filter(event="inventory.sync_run.finished", subject=f"inventory.syncrun:{run.pk}")
    return one.data


def pause_after(scopes, org, erin, monkeypatch):
    settle = reading._Run.settle

    def settled(self, *args):
        found = settle(self, *args)
        if len(self.states) == scopes:
            services.pause(org, by=erin)
        return found

    monkeypatch.setattr(reading._Run, "settle", settled)


def test_a_run_that_is_paused_says_what_it_changed_and_cost_until_then(org, world, read, erin, monkeypatch):
    asked = costs(monkeypatch, accounts=30, scan_directory=400, scan_account=20)
    pause_after(2, org, erin, monkeypatch)
    run = read()
    assert (run.state, said(run)) == ("failed", asked)
    assert run.changes["resource"] == {"added": 2}
    assert run.changes["principal"]["added"] == Principal.objects.count() > 0
    assert (event(run)["changes"], event(run)["calls"]) == (run.changes, asked.calls)


def test_what_was_asked_for_a_directory_that_is_cut_off_counts(org, world, read, erin, monkeypatch):
    asked = costs(monkeypatch, scan_directory=400)
    started = reading._Run.reporter

    def paused_meanwhile(self, name):
        if name == "Directory":
            services.pause(org, by=erin)
        return started(self, name)

    monkeypatch.setattr(reading._Run, "reporter", paused_meanwhile)
    run = read()
    assert not run.scopes.exists()
    assert said(run) == asked == budget.Spent(400, 1, 0.5)


def test_what_was_asked_of_accounts_that_are_not_written_any_more_counts(org, world, read, erin, monkeypatch):
    """Both accounts are read at the same time; the connection is paused before either is written."""
    both = threading.Barrier(2)
    scan_account = fake.FakeConnector.scan_account

    def together(self, *args):
        both.wait(30)
        return scan_account(self, *args)

    monkeypatch.setattr(fake.FakeConnector, "scan_account", together)
    asked = costs(monkeypatch, scan_directory=400, scan_account=20)
    pause_after(1, org, erin, monkeypatch)
    run = read()
    assert run.scopes.get().resource is None
    assert said(run) == asked == budget.Spent(440, 3, 1.5)


def test_a_list_of_accounts_that_fails_costs_what_it_cost(read, monkeypatch):
    def too_much(self, *args):
        raise Throttled("AWS asks us to wait.")

    monkeypatch.setattr(fake.FakeConnector, "accounts", too_much)
    asked = costs(monkeypatch, accounts=30)
    run = read()
    assert (run.state, said(run)) == ("failed", asked)
    assert event(run)["calls"] == 30


def test_a_run_that_died_says_what_it_had_done_at_its_last_sign_of_life(org, world, read):
    dead = SyncRunFactory(connection=org, state="running", finished_at=None)
    progress = claims.Progress(dead)
    progress.spent.add(budget.Spent(70, 3, 1.5))
    progress.changes.add(Resource, "added", 9)
    progress.save(now=True)
    SyncRun.objects.filter(pk=dead.pk).update(beat_at=timezone.now() - timedelta(minutes=11))
    assert read().state == "complete"
    assert said(dead) == budget.Spent(70, 3, 1.5)
    assert dead.changes == event(dead)["changes"] == {"resource": {"added": 9}}
    assert event(dead)["calls"] == 70


def test_accounts_that_were_not_written_after_all_are_no_change(read, monkeypatch):
    original = reading.upsert

    def fails(*args, **kwargs):
        original(*args, **kwargs)
        raise RuntimeError("a bug in writing")

    monkeypatch.setattr(reading, "upsert", fails)
    with pytest.raises(RuntimeError):
        read()
    assert SyncRun.objects.get().changes == {}
    assert not Resource.objects.filter(external_id=SANDBOX).exists()


def test_costs_of_a_complete_run_are_those_of_its_scopes_and_of_the_list(read, world, monkeypatch):
    asked = costs(monkeypatch, accounts=30, scan_directory=400, scan_account=20)
    run = read()
    assert (run.state, said(run)) == ("complete", asked)
    assert sorted(run.scopes.values_list("calls", flat=True)) == [20, 20, 400]
    assert asked.calls == 470
