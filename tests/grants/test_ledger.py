"""The ledger, and ending everything from it: whole or noticed, without the database, proven or said."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from apps.audit import services as audit
from apps.connectors.errors import Denied
from apps.connectors.fake_world import Call, fails_late, lies, lost_response, pending, raises, stale, throttled
from apps.grants import ledger, periodic, provisioning, services
from apps.grants.models import EndReason, Grant, State, Stop
from apps.grants.services import narrowing
from apps.inventory.models import Connection
from tests.factories.users import UserFactory
from tests.grants.system import ACCOUNT, START, System


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def no_database(django_db_blocker: DjangoDbBlocker) -> Callable[[], Any]:
    """Every touch of the database inside is an error."""

    @contextmanager
    def gone() -> Iterator[None]:
        django_db_blocker.block()
        try:
            yield
        finally:
            django_db_blocker.restore()

    return gone


def export(path: Path) -> Path:
    call_command("ledger", out=path, stdout=io.StringIO())
    return path


def revoke(path: Path, *more: str) -> str:
    """What it printed; raises CommandError (exit code 1) where something is not proven."""
    out = io.StringIO()
    call_command("revoke_all", "--from-ledger", str(path), "--yes", *more, stdout=out, stderr=out)
    return out.getvalue()


def unproven(path: Path, *more: str) -> str:
    out = io.StringIO()
    with pytest.raises(CommandError, match="Run it again"):
        call_command("revoke_all", "--from-ledger", str(path), "--yes", *more, stdout=out, stderr=out)
    return out.getvalue()


# Writing and reading


def test_it_says_everything_that_is_unfinished(system: System, path: Path) -> None:
    pending_one, active = system.issue(who=system.bob), system.active()
    ended = system.active(what=system.permission_set("Done", "read"))
    services.end(ended, by=ended.requested_by, reason=EndReason.DONE)
    cancelled = system.issue(what=system.permission_set("Never", "read"))
    services.end(cancelled, by=cancelled.requested_by, reason=EndReason.DONE)
    found = {entry.number: entry for entry in ledger.read(export(path)).entries}
    assert set(found) == {pending_one.number, active.number, ended.number}
    entry = found[active.number]
    assert (entry.reference, entry.state, entry.end) == (active.reference, "active", active.ends_at)
    assert entry.shared_key == active.shared_key == found[pending_one.number].shared_key
    assert (entry.target.principal_external_id, entry.kind) == ("alice", "fake")


@pytest.mark.parametrize("is_alone", [True, False])
def test_the_ledger_says_whose_it_is_and_whether_it_shares_anything(
    system: System, path: Path, monkeypatch: pytest.MonkeyPatch, is_alone: bool
) -> None:
    """What shares nothing ends at its own time, whatever else its holder keeps."""
    monkeypatch.setattr(Grant, "is_alone_in_aws", is_alone)
    grant = system.issue()
    [entry] = ledger.read(export(path)).entries
    assert (entry.is_alone, entry.holder) == (is_alone, str(grant.identity))


def test_ended_grants_whose_sessions_are_still_denied_are_in_it(system: System, path: Path) -> None:
    grant = system.active()
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    [entry] = ledger.read(export(path)).entries
    assert entry.is_over
    revoke(path)
    assert system.world.guards[ACCOUNT]["alice", system.read.external_id].denies(timezone.now())


def test_what_owners_remove_by_hand_is_not_in_it(system: System, path: Path) -> None:
    held = system.holds(system.alice, system.admin)
    held.principal.is_reserved = True
    held.principal.save()
    grant = services.remove_standing(held, by=UserFactory(), reason="A review said so.")
    assert grant.is_owner_task
    assert not ledger.read(export(path)).entries


def test_only_its_owner_may_read_it_and_it_holds_no_secret(
    system: System, path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-words")
    system.active()
    text = export(path).read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "very-secret-words" not in text
    assert settings.SECRET_KEY not in text


def test_a_failed_export_leaves_the_last_one_as_it_was(
    system: System, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.active()
    before = export(path).read_bytes()

    def break_off(descriptor: int) -> None:
        raise OSError("The disk is full.")

    monkeypatch.setattr("os.fsync", break_off)
    with pytest.raises(OSError, match="full"):
        export(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_clock_keeps_a_copy(system: System, path: Path, settings: Any) -> None:
    system.active()
    periodic.write_ledger()
    assert not path.exists()
    settings.LEDGER_PATH = str(path)
    periodic.write_ledger()
    assert len(ledger.read(path).entries) == 1


def test_what_the_database_forgot_stays_in_it(system: System, path: Path, clock: Any) -> None:
    """A dump was restored that is older than a grant, which lives on in AWS; and than its connection's name."""
    known, lost = system.active(), system.active(who=system.bob)
    before = {entry.number: entry for entry in ledger.read(export(path)).entries}
    Grant.objects.filter(pk=lost.pk).delete()
    system.connection.name = "renamed"
    system.connection.save()
    for _ in range(2):
        after = {entry.number: entry for entry in ledger.read(export(path)).entries}
        assert set(after) == {known.number, lost.number}
        assert replace(after[lost.number], forgotten_at=None) == before[lost.number]
        clock.shift(timedelta(minutes=1))
    assert after[known.number].forgotten_at is None
    clock.shift(timedelta(days=6))
    assert lost.number in {entry.number for entry in ledger.read(export(path)).entries}
    clock.shift(timedelta(days=2))
    assert lost.number not in {entry.number for entry in ledger.read(export(path)).entries}


def test_what_was_forgotten_stays_in_it_until_a_week_after_its_end(system: System, path: Path, clock: Any) -> None:
    lost, pending = system.active(), system.issue(who=system.bob)
    Grant.objects.filter(pk=lost.pk).update(ends_at=START + timedelta(days=10), not_after=START + timedelta(days=10))
    export(path)
    Grant.objects.all().delete()
    for days, kept in ((0, [lost.number, pending.number]), (16, [lost.number]), (2, [])):
        clock.shift(timedelta(days=days))
        assert [entry.number for entry in ledger.read(export(path)).entries] == kept


def test_a_doubted_database_takes_nothing_out_of_it(system: System, path: Path) -> None:
    """It remembers the grant from before it was opened, and would cancel it."""
    narrowing.notice()
    grant = system.active()
    export(path)
    Grant.objects.filter(pk=grant.pk).update(
        state=State.CANCELLED, active_at=None, ends_at=None, end_reason=EndReason.CANCELLED
    )
    assert not ledger.read(export(path.with_name("other"))).entries
    narrowing.doubt(by=audit.COMMAND, reason="It was restored.")
    assert [entry.state for entry in ledger.read(export(path)).entries] == [State.ACTIVE]


@pytest.mark.parametrize("nothing_to_deny", [{"cleared_at": START}, {"shared_key": ""}], ids=str)
def test_a_database_that_is_believed_takes_out_what_ended(
    system: System, path: Path, nothing_to_deny: dict[str, Any]
) -> None:
    grant = system.active()
    export(path)
    services.end(grant, by=grant.requested_by, reason=EndReason.DONE)
    provisioning.deprovision(grant.pk)
    Grant.objects.filter(pk=grant.pk).update(**nothing_to_deny)
    assert not ledger.read(export(path)).entries


def test_the_last_one_before_the_doubt_is_put_aside(system: System, path: Path) -> None:
    narrowing.notice()
    system.active()
    last = export(path).read_bytes()
    assert not ledger.read(path).is_doubted
    narrowing.doubt(by=audit.COMMAND, reason="It was restored.")
    for _ in range(3):
        assert ledger.read(export(path)).is_doubted
    aside = path.with_name("ledger.jsonl.before")
    assert aside.read_bytes() == last
    assert sorted(path.parent.iterdir()) == [path, aside]


def test_the_last_one_of_another_database_is_put_aside(
    system: System, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an empty one took its place, which is doubted by nobody."""
    system.active()
    last = export(path).read_bytes()
    monkeypatch.setattr(ledger, "name_here", lambda: "another")
    for _ in range(2):
        assert len(ledger.read(export(path)).entries) == 1
    assert path.with_name("ledger.jsonl.before").read_bytes() == last


def damaged(path: Path) -> dict[str, Callable[[], None]]:
    lines = path.read_bytes().splitlines(keepends=True)

    def keep(*kept: bytes) -> Callable[[], None]:
        return lambda: path.write_bytes(b"".join(kept)) and None  # type: ignore[func-returns-value]

    other_end = json.dumps({**json.loads(lines[-1]), "count": 7}).encode()
    return {
        "cut off": keep(*lines[:-1]),
        "cut in a line": keep(*lines[:-2], lines[-2][:40]),
        "a grant taken out": keep(*lines[:-2], lines[-1]),
        "a date changed": keep(*[line.replace(b"2026", b"2036") for line in lines[:-1]], lines[-1]),
        "another count": keep(*lines[:-1], other_end),
        "another version": keep(lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]),
        "empty": keep(b""),
        "no ledger": keep(b"\xff\xfe not a ledger\n"),
    }


@pytest.mark.parametrize(
    "how",
    [
        "cut off",
        "cut in a line",
        "a grant taken out",
        "a date changed",
        "another count",
        "another version",
        "empty",
        "no ledger",
    ],
)
def test_damage_is_noticed_and_ends_nothing(system: System, path: Path, how: str) -> None:
    system.active()
    system.active(who=system.bob)
    damaged(export(path))[how]()
    with pytest.raises(ledger.Damaged):
        ledger.read(path)
    with pytest.raises(CommandError, match="older copy"):
        revoke(path)
    assert system.can_use()


def test_what_can_be_read_of_a_damaged_one_can_be_ended_and_is_not_called_proof(system: System, path: Path) -> None:
    system.active()
    system.active(who=system.bob)
    damaged(export(path))["cut in a line"]()
    said = unproven(path, "--accept-damage")
    assert "1 of 1 are proven gone" in said
    assert not system.can_use()
    assert not system.can_use(who=system.bob)  # the guard denies everybody


def test_a_file_that_is_not_there_is_said(path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        revoke(path)


# Ending without the database


def test_everything_ends_without_the_database(system: System, path: Path, no_database: Callable[[], Any]) -> None:
    system.active()
    system.active(who=system.bob)
    export(path)
    before = len(system.world.calls_of("enforce"))
    with no_database():
        said = revoke(path)
    assert "2 of 2 are proven gone" in said
    assert len(system.world.calls_of("enforce")) - before == 1  # one write for the account
    assert not system.can_use()
    assert not system.can_use(who=system.bob)
    assert not system.world.assignments


def test_the_write_comes_before_any_removal_and_denies_what_no_line_names(
    system: System, path: Path, no_database: Callable[[], Any]
) -> None:
    system.active()
    system.active(who=system.bob)
    system.world.assign("bob", system.admin.external_id)
    export(path)
    system.world.calls.clear()
    with no_database():
        revoke(path)
    names = [call.operation for call in system.world.calls if call.operation in ("enforce", "close")]
    assert names == ["enforce", "close", "close"]
    assert not system.can_use(system.bob, system.admin)


def test_a_grant_that_was_opened_after_the_export_ends_too(system: System, path: Path) -> None:
    grant = system.issue()
    export(path)
    provisioning.provision(grant.pk)
    assert system.can_use()
    assert "1 of 1 are proven gone" in revoke(path)
    assert not system.can_use()


def test_without_yes_nothing_happens(system: System, path: Path, no_database: Callable[[], Any]) -> None:
    system.active()
    export(path)
    system.world.calls.clear()
    out = io.StringIO()
    with no_database():
        call_command("revoke_all", "--from-ledger", str(path), stdout=out)
    assert "Nothing was done" in out.getvalue()
    assert "G-" in out.getvalue()
    assert not system.world.calls
    assert system.can_use()


def test_running_it_again_is_fine(system: System, path: Path) -> None:
    system.active()
    export(path)
    revoke(path)
    assert "1 of 1 are proven gone" in revoke(path)


@pytest.mark.parametrize("operation", ["enforce", "close", "look"])
@pytest.mark.parametrize("fault", [throttled, lost_response])
def test_what_aws_cannot_do_just_now_is_asked_again(
    system: System, path: Path, operation: str, fault: Callable[[], Any]
) -> None:
    system.active()
    export(path)
    system.world.script(operation, fault(), fault())
    assert "1 of 1 are proven gone" in revoke(path)


def test_a_removal_that_takes_long_is_waited_for(system: System, path: Path) -> None:
    system.active()
    export(path)
    system.world.script("close", pending(5))
    assert "1 of 1 are proven gone" in revoke(path)
    assert not system.world.assignments


@pytest.mark.parametrize("fault", [lies, lambda: fails_late("AWS had enough."), lambda: raises(Denied("No right."))])
def test_what_is_not_proven_is_said_and_the_rest_ends(system: System, path: Path, fault: Callable[[], Any]) -> None:
    system.active()
    export(path)
    system.world.script("close", fault())
    said = unproven(path)
    assert "DENIED, NOT GONE" in said
    assert "0 of 1 are proven gone" in said
    assert not system.can_use()  # the guard denies it all the same
    assert "1 of 1 are proven gone" in revoke(path)


def test_a_guard_that_cannot_be_written_stops_no_removal_and_is_not_called_proof(system: System, path: Path) -> None:
    system.active()
    export(path)
    system.world.script("enforce", *[raises(Denied("No right."))] * 9)
    said = unproven(path)
    assert "Not denied" in said
    assert not system.world.assignments


def test_a_stale_read_back_is_not_believed(system: System, path: Path) -> None:
    system.active()
    export(path)
    before = len(system.world.calls_of("enforce"))
    system.world.script("enforce", stale())
    revoke(path)
    assert len(system.world.calls_of("enforce")) - before == 2


def test_a_kill_in_the_middle_is_finished_by_the_next_run(system: System, path: Path) -> None:
    class Killed(BaseException):
        pass

    system.active()
    system.active(who=system.bob)
    export(path)

    def kill(when: str, call: Call) -> None:
        if (when, call.operation) == ("after", "close"):
            raise Killed

    system.world.hook = kill
    with pytest.raises(Killed):
        revoke(path)
    system.world.hook = None
    assert not system.can_use()
    assert not system.can_use(who=system.bob)
    assert "2 of 2 are proven gone" in revoke(path)


def test_standing_access_that_was_being_removed_goes_too(system: System, path: Path) -> None:
    held = system.holds(system.alice, system.admin)
    services.remove_standing(held, by=UserFactory(), reason="A review said so.")
    export(path)
    assert "1 of 1 are proven gone" in revoke(path)
    assert not system.world.assignments


def test_the_organizations_switch_can_be_thrown_first(
    system: System, path: Path, no_database: Callable[[], Any]
) -> None:
    system.active()
    export(path)
    with no_database():
        revoke(path, "--attach-stop-policy")
    assert system.world.is_stopped


def test_a_switch_that_cannot_be_thrown_is_not_called_proof(system: System, path: Path) -> None:
    system.active()
    export(path)
    system.world.script("attach", raises(Denied("No right.")))
    assert "not attached" in unproven(path, "--attach-stop-policy")


# Through the database


def revoke_all(*args: str) -> str:
    out = io.StringIO()
    call_command("revoke_all", *args, stdout=out, stderr=out)
    return out.getvalue()


def test_with_the_database_it_is_a_stop_of_everything(system: System) -> None:
    erin = UserFactory(name="Erin", administrator=True)
    grant, waiting = system.active(), system.issue(who=system.bob)
    assert "Nothing was done" in revoke_all()
    assert not Stop.objects.exists()
    said = revoke_all("--yes", "--by", erin.email, "--reason", "Somebody is inside.")
    assert "All of it is proven gone" in said
    grant.refresh_from_db()
    waiting.refresh_from_db()
    assert (grant.state, waiting.state) == (State.REVOKED, State.CANCELLED)
    stop = Stop.objects.get()
    assert (stop.scope, stop.ordered_by, stop.step_up["method"]) == ("all", erin, "shell")


def test_running_it_again_orders_no_second_stop(system: System) -> None:
    erin = UserFactory(name="Erin", administrator=True)
    system.active()
    for _ in range(2):
        revoke_all("--yes", "--by", erin.email, "--reason", "Somebody is inside.")
    assert Stop.objects.count() == 1


@pytest.mark.parametrize("by", ["", "mallory@example.com"])
def test_somebody_who_administers_orders_it(system: System, by: str) -> None:
    UserFactory(name="Mallory", email="mallory@example.com")
    system.active()
    with pytest.raises(CommandError, match="administrator"):
        revoke_all("--yes", "--by", by, "--reason", "Somebody is inside.")
    assert not Stop.objects.exists()


def test_what_does_not_get_through_fails_the_command(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    erin = UserFactory(name="Erin", administrator=True)
    system.active()
    monkeypatch.setattr("apps.grants.management.commands.revoke_all.ROUNDS", 1)
    system.world.script("close", *[raises(Denied("No right."))] * 9)
    with pytest.raises(CommandError, match="Run it again"):
        revoke_all("--yes", "--by", erin.email, "--reason", "Somebody is inside.")


def test_a_connection_that_was_paused_is_in_the_ledger_all_the_same(system: System, path: Path) -> None:
    system.active()
    Connection.objects.update(paused_at=timezone.now() - timedelta(days=1))
    assert len(ledger.read(export(path)).entries) == 1
