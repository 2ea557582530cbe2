"""Connections: adding one, trusting what stands there, letting Gatehouse write, and reading it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.refusals import NotPossible
from apps.inventory import tasks
from apps.inventory.models import Assignment, Connection, ConnectionTest, ScopeScan, SyncRun
from apps.inventory.models.connections import FREE_OPTIONS
from apps.users.models import User


@transaction.atomic
def add_connection(
    *,
    name: str,
    region: str,
    by: Any,
    kind: str = Connection.Kind.AWS,
    options: Mapping[str, Any] | None = None,
    drop_percent: int | None = None,
) -> Connection:
    """A new connection: observe-only, with an external id of its own. Its credentials come from the environment."""
    connection = Connection(name=name, region=region, kind=kind, options=dict(options or {}))
    if drop_percent is not None:
        connection.drop_percent = drop_percent
    _checked(connection)
    connection.save()
    data = {"kind": kind, "region": region, "options": connection.options}
    audit.record("inventory.connection.added", by=by, subject=connection, data=data)
    return connection


@transaction.atomic
def change_connection(
    connection: Connection, *, region: str, options: Mapping[str, Any], drop_percent: int, by: Any
) -> Connection:
    """Let it read elsewhere, as somebody else, or with another brake. Once it was baselined it stays where it is, and
    only what says nothing about where Gatehouse writes (`FREE_OPTIONS`, the brake) can be changed: what was accepted as
    standing would stand somewhere else, and the two people who let Gatehouse write said so about that place."""
    connection = _locked(connection)
    before = _settings_of(connection)
    connection.region, connection.options, connection.drop_percent = region, dict(options), drop_percent
    _checked(connection)
    after = _settings_of(connection)
    changed = {
        name: [before.get(name), after.get(name)] for name in before | after if before.get(name) != after.get(name)
    }
    if not changed:
        return connection
    fixed = sorted(set(changed) - {*FREE_OPTIONS, "drop_percent"})
    if connection.is_fixed and fixed:
        raise NotPossible(
            f"{connection} was baselined, so it goes on pointing where it does ({', '.join(fixed)}). "
            "Add another connection for another place, and pause this one."
        )
    connection.save(update_fields=["region", "options", "drop_percent"])
    audit.record("inventory.connection.changed", by=by, subject=connection, data={"changed": changed})
    return connection


def _checked(connection: Connection) -> None:
    try:
        connection.full_clean()
    except ValidationError as error:
        raise NotPossible(
            " ".join(f"{field}: {' '.join(said)}" for field, said in error.message_dict.items())
        ) from None


def _settings_of(connection: Connection) -> dict[str, Any]:
    return {"region": connection.region, "drop_percent": connection.drop_percent, **connection.options}


@transaction.atomic
def baseline(connection: Connection, *, by: Any) -> Connection:
    """Take what is held now as what was there before Gatehouse: every open assignment becomes standing, except
    Gatehouse's own artefacts. Once, and only on a complete reading; the event says how many and their digest."""
    connection = _locked(connection)
    if connection.baselined_at:
        raise NotPossible(f"{connection} was baselined on {connection.baselined_at:%d %B %Y}. That is done once.")
    as_of = _complete_as_of(connection)
    held = Assignment.objects.open().filter(connection=connection).strangers_only()
    digest, count = hashlib.sha256(), 0
    pairs = held.order_by("principal__external_id", "entitlement__external_id")
    for pair in pairs.values_list("principal__external_id", "entitlement__external_id").iterator():
        digest.update(f"{pair[0]}\0{pair[1]}\n".encode())
        count += 1
    held.update(is_standing=True)
    connection.baselined_at, connection.baselined_by = timezone.now(), by
    connection.save(update_fields=["baselined_at", "baselined_by"])
    data = {"assignments": count, "digest": digest.hexdigest(), "as_of": as_of.isoformat()}
    audit.record("inventory.connection.baselined", by=by, subject=connection, data=data)
    return connection


@transaction.atomic
def propose_writing(connection: Connection, *, by: Any) -> Connection:
    """The first of two people says that Gatehouse may change this system."""
    connection = _locked(connection)
    if connection.write_approved_at:
        raise NotPossible(f"Gatehouse may change {connection} already.")
    if not connection.baselined_at:
        raise NotPossible("Baseline what stands there first, so that Gatehouse can tell it from its own work.")
    if connection.write_proposed_at:
        raise NotPossible(f"{connection.write_proposed_by} proposed it already. Another administrator can approve it.")
    connection.write_proposed_at, connection.write_proposed_by = timezone.now(), by
    connection.save(update_fields=["write_proposed_at", "write_proposed_by"])
    audit.record("inventory.connection.writing_proposed", by=by, subject=connection)
    return connection


@transaction.atomic
def approve_writing(connection: Connection, *, by: Any) -> Connection:
    """The second, another person, says so too. From now on grants can be issued there."""
    connection = _locked(connection)
    if connection.write_approved_at:
        raise NotPossible(f"Gatehouse may change {connection} already.")
    if not connection.write_proposed_at:
        raise NotPossible("Nobody has proposed it. Propose it first, then another administrator approves it.")
    if connection.write_proposed_by_id == by.pk:
        raise NotPossible("You proposed it yourself. Another administrator approves it.")
    connection.write_approved_at, connection.write_approved_by = timezone.now(), by
    connection.save(update_fields=["write_approved_at", "write_approved_by"])
    audit.record(
        "inventory.connection.writing_approved",
        by=by,
        subject=connection,
        data={"proposed_by": str(connection.write_proposed_by)},
    )
    return connection


@transaction.atomic
def pause(connection: Connection, *, by: Any) -> Connection:
    """Read and change nothing there until somebody resumes it. What AWS itself ends still ends."""
    connection = _locked(connection)
    if connection.paused_at:
        raise NotPossible(f"{connection} is paused already.")
    connection.paused_at = timezone.now()
    connection.save(update_fields=["paused_at"])
    audit.record("inventory.connection.paused", by=by, subject=connection)
    return connection


@transaction.atomic
def resume(connection: Connection, *, by: Any) -> Connection:
    """As it was before the pause, with a fresh reading first."""
    connection = _locked(connection)
    if not connection.paused_at:
        raise NotPossible(f"{connection} is not paused.")
    connection.paused_at = None
    connection.save(update_fields=["paused_at"])
    audit.record("inventory.connection.resumed", by=by, subject=connection)
    _sync_on_commit(connection)
    return connection


@transaction.atomic
def request_sync(connection: Connection, *, by: Any) -> None:
    """Have the connection read soon, without waiting for the clock."""
    connection = _locked(connection)
    if connection.paused_at:
        raise NotPossible(f"{connection} is paused. Resume it first.")
    if connection.is_being_read:
        raise NotPossible(f"{connection} is being read right now. Wait until that is done.")
    audit.record("inventory.connection.sync_requested", by=by, subject=connection)
    _sync_on_commit(connection)


@transaction.atomic
def request_test(connection: Connection, *, by: Any, is_woken: bool = True) -> ConnectionTest:
    """Have a worker, which alone holds credentials, try every right that reading needs. Changes nothing there. Nobody is
    woken for it where whoever asks does it themselves (`is_woken`)."""
    connection = _locked(connection)
    if connection.paused_at:
        raise NotPossible(f"{connection} is paused. Resume it first.")
    running = connection.tests.alive(timezone.now()).first()
    if running:
        raise NotPossible(f"{connection} is being tested right now. Wait until that is done.")
    test = ConnectionTest.objects.create(connection=connection, asked_by=by if isinstance(by, User) else None)
    audit.record("inventory.connection.test_requested", by=by, subject=connection)
    if is_woken:
        transaction.on_commit(lambda: tasks.test_connection.delay(test.pk))
    return test


@transaction.atomic
def confirm_drop(run: SyncRun, *, by: Any) -> SyncRun:
    """A person looked at what a held run would end, and says it is real: the next run, started at once, may end exactly
    those rows. Anything beyond them stops and asks again."""
    connection = _locked(run.connection)
    run = SyncRun.objects.select_for_update().get(pk=run.pk)
    if not run.waits_for_confirmation:
        raise NotPossible("This run does not wait for anybody any more. Look at the latest one.")
    if connection.latest_run != run:
        raise NotPossible("A newer run has read this connection since. Look at what it says.")
    run.confirmed_drops = True
    run.save(update_fields=["confirmed_drops"])
    held = run.scopes.filter(state=ScopeScan.State.HELD).select_related("resource")
    audit.record(
        "inventory.sync_run.drop_confirmed",
        by=by,
        subject=run,
        about=[connection],
        data={"would_end": {str(scan.resource or "Directory"): scan.would_end for scan in held}},
    )
    _sync_on_commit(connection)
    return run


def _locked(connection: Connection) -> Connection:
    return Connection.objects.select_for_update().get(pk=connection.pk)


def _complete_as_of(connection: Connection) -> datetime:
    """When the last reading began, which must have been complete."""
    if connection.is_being_read:
        raise NotPossible(f"{connection} is being read right now. Wait until that is done.")
    latest = connection.latest_run
    if latest is None:
        raise NotPossible(f"{connection} was never read. Sync it first.")
    if latest.state != SyncRun.State.COMPLETE:
        raise NotPossible("The last reading was not complete. Look at its problems, sync again, then baseline.")
    return latest.started_at


def _sync_on_commit(connection: Connection) -> None:
    transaction.on_commit(lambda: tasks.sync_connection.delay(connection.pk))
