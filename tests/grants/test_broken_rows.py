"""What is done about many rows at once goes on after one that somebody wrote so that it breaks: the ledger, and the end of
everything."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from apps.grants import ledger, provisioning
from apps.grants.models import Grant, Stop, StopWrite, Warrant
from tests.factories.inventory import ConnectionFactory
from tests.factories.users import UserFactory
from tests.grants.system import System


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def written(path: Path) -> list[str]:
    ledger.write(path, timezone.now())
    return [entry.reference for entry in ledger.read(path).entries]


def forged(system: System, provisioner: str) -> Grant:
    return Grant.objects.create(
        connection=system.connection,
        identity=system.alice.identity,
        principal=system.alice,
        entitlement=system.read,
        origin="request",
        provisioner=provisioner,
        duration=timedelta(hours=1),
        reason="x",
        requested_by=UserFactory(),
    )


def test_a_grant_of_an_unknown_provisioner_keeps_no_other_out_of_the_ledger(system: System, path: Path) -> None:
    good = system.active()
    forged(system, "nonsense")
    assert written(path) == [good.reference]


@pytest.mark.parametrize("spec", [None, [], "x", {}, {"provisioner": ["nonsense"]}], ids=str)
def test_a_grant_whose_warrant_names_no_provisioner_is_in_the_ledger_by_its_row(
    system: System, path: Path, spec: Any
) -> None:
    grant = forged(system, "idc_assignment")
    if spec is not None:
        Warrant.objects.create(grant=grant, spec=spec, verdict={})
    assert written(path) == [grant.reference]
    assert ledger.read(path).entries[0].provisioner == "idc_assignment"


def test_a_row_that_breaks_stays_in_the_ledger_as_it_was(
    system: System, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_grant: Grant) -> ledger.Entry:
        raise TypeError("whatever it is")

    grant = system.active()
    assert written(path) == [grant.reference]
    [before] = ledger.read(path).entries
    monkeypatch.setattr(ledger, "entry_of", broken)
    assert written(path) == [grant.reference]
    assert ledger.read(path).entries == (before,)


def test_a_connection_that_breaks_keeps_no_grant_of_others_out(system: System, path: Path) -> None:
    grant = system.active()
    ConnectionFactory(name="Forged", kind="nonsense")
    assert written(path) == [grant.reference]


def test_the_ledger_names_what_the_warrant_says(system: System, path: Path) -> None:
    """A row that says otherwise keeps nobody from ending it without the database."""
    Grant.objects.filter(pk=system.active().pk).update(provisioner="iam_timeboxed_policy")
    written(path)
    [entry] = ledger.read(path).entries
    assert (entry.provisioner, entry.is_alone) == ("idc_assignment", False)


def test_a_write_that_takes_longer_than_a_tick_is_not_in_the_way_of_the_next(
    system: System, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, began = ledger._lines, []

    def slow(*args: Any) -> Iterator[bytes]:
        for line in real(*args):
            yield line
            if not began:
                began.append(line)
                assert written(path)

    grant = system.active()
    monkeypatch.setattr(ledger, "_lines", slow)
    assert written(path) == [grant.reference]
    assert list(path.parent.iterdir()) == [path]


def test_the_end_of_everything_goes_first_and_on_after_a_row_that_breaks(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = provisioning.write_stop

    def write_stop(pk: int) -> None:
        written.append(StopWrite.objects.get(pk=pk).stop.scope)
        real(pk)

    monkeypatch.setattr("apps.grants.management.commands.revoke_all.provisioning.write_stop", write_stop)
    monkeypatch.setattr("apps.grants.management.commands.revoke_all.ROUNDS", 9)
    erin = UserFactory(administrator=True)
    system.active()
    stop = Stop.objects.create(
        scope="person", identity=system.bob.identity, reason="x", ordered_by=erin, ordered_at=timezone.now()
    )
    StopWrite.objects.create(
        stop=stop,
        connection=system.connection,
        provisioner="nonsense",
        shared_key="x",
        next_try_at=timezone.now() - timedelta(hours=1),
    )
    out = io.StringIO()
    call_command("revoke_all", "--yes", "--by", erin.email, "--reason", "Somebody is inside.", stdout=out, stderr=out)
    assert "All of it is proven gone" in out.getvalue()
    assert not system.can_use()
    assert written[:2] == ["all", "person"]
