"""`manage.py revoke_all`: end everything, through the database or, when that is gone, from a ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from apps.connectors import registry
from apps.connectors.errors import ConnectorError
from apps.grants import ledger, provisioning
from apps.grants.models import Grant, Scope, State, Stop, StopWrite
from apps.grants.provisioning import offline
from apps.grants.services import NotPossible, stops
from apps.users.models import User

logger = logging.getLogger(__name__)

ROUNDS = 60  # at most so many, a few seconds apart; then it says what is not proven and can be started again
PAUSE = 2  # seconds


class Command(BaseCommand):
    help = (
        "End every unfinished grant now. Without --yes it only says what it would do. With --from-ledger it needs no "
        "database, only AWS credentials. Exit code 1 while anything is not proven gone: run it again."
    )
    requires_system_checks: tuple[str, ...] = ()  # some of them ask the database
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from-ledger", type=Path, help="the file that manage.py ledger wrote")
        parser.add_argument("--accept-damage", action="store_true", help="use what can be read of a damaged ledger")
        parser.add_argument(
            "--attach-stop-policy",
            action="store_true",
            help="first attach the organization's stop policy: it denies all just-in-time roles in every member account",
        )
        parser.add_argument("--yes", action="store_true", help="really do it")
        parser.add_argument("--by", default="", help="without a ledger: the e-mail of the administrator who orders it")
        parser.add_argument("--reason", default="", help="without a ledger: why")

    def handle(self, *_: Any, from_ledger: Path | None, **options: Any) -> None:
        is_proven = self._from_ledger(from_ledger, **options) if from_ledger else self._from_database(**options)
        if not is_proven:
            raise CommandError("Not everything is proven gone. Run it again; what is gone already is left alone.")

    # ---- without the database

    def _from_ledger(self, path: Path, *, yes: bool, accept_damage: bool, attach_stop_policy: bool, **_: Any) -> bool:
        try:
            found = ledger.read(path, accept_damage=accept_damage)
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
        except ledger.Damaged as error:
            raise CommandError(
                f"{error} Take an older copy, or --accept-damage to end at least what can be read."
            ) from error
        todo = [entry for entry in found.entries if not entry.is_over]
        objects = {(entry.connection, entry.shared_key) for entry in found.entries if entry.shared_key}
        self.stdout.write(
            f"The ledger of {found.written_at:%Y-%m-%d %H:%M:%S} UTC names {len(todo)} unfinished grants in "
            f"{len(objects)} shared objects. What was opened later is not in it: denied where a guard denies everybody."
        )
        if found.problem:
            self.stderr.write(f"{found.problem} Only what can be read of it is ended.")
        if not yes:
            self._table([(entry.number, entry.holder, _what(entry), entry.state, "") for entry in todo])
            self.stdout.write("Nothing was done. Add --yes to end them.")
            return True
        is_stopped = self._attach(found) if attach_stop_policy else True
        outcomes = offline.end_all(found.entries)
        self._table([(o.entry.number, o.entry.holder, _what(o.entry), _proven(o), o.problem) for o in outcomes])
        gone = sum(outcome.is_proven for outcome in outcomes)
        self.stdout.write(f"{gone} of {len(outcomes)} are proven gone.")
        return is_stopped and gone == len(outcomes) and not found.problem

    def _attach(self, found: ledger.Ledger) -> bool:
        done = True
        for name, (kind, config) in sorted(found.connections.items()):
            if kind not in registry.STOP_POLICIES:
                continue
            try:
                self.stdout.write(registry.stop_policy(kind, config).attach().what)
            except ConnectorError as error:
                self.stderr.write(f"{name}: the stop policy is not attached: {error}")
                done = False
        return done

    # ---- through the database

    def _from_database(self, *, yes: bool, by: str, reason: str, attach_stop_policy: bool, **_: Any) -> bool:
        foreseen = stops.foresee(scope=Scope.ALL)
        self.stdout.write(
            f"{foreseen.grants} grants of {foreseen.people} people and machines in {foreseen.accounts} accounts end. "
            f"{foreseen.standing} standing assignments are not touched."
        )
        if not yes:
            self.stdout.write("Nothing was done. Add --yes, --by and --reason to end them.")
            return True
        stop = self._ordered(by, reason, attach_stop_policy=attach_stop_policy)
        ended = Grant.objects.filter(state=State.REVOKING).exclude(remover=Grant.BY_OWNER)
        for _round in range(ROUNDS):
            _carry_out(stop)
            if not (stop.writes.unsettled().exists() or ended.exists()):
                break
            time.sleep(PAUSE)
        writes = stop.writes.unsettled().with_names()
        left = ended.with_names()
        self._table([(row.stop.number, "everybody", row.where, "not denied yet", row.problem) for row in writes])
        self._table([(g.number, str(g.identity or g.principal), str(g.entitlement), "ending", g.problem) for g in left])
        is_proven = not (writes or left)
        self.stdout.write(
            f"{stop.number} is in force. {'All of it is' if is_proven else 'Not all of it is'} proven gone."
        )
        return is_proven

    def _ordered(self, by: str, reason: str, *, attach_stop_policy: bool) -> Stop:
        """A stop of everything: the one in force, so that running this again does not order another."""
        known = Stop.objects.in_force().filter(scope=Scope.ALL).first()
        if known and not attach_stop_policy:
            return known
        user = User.objects.filter(email__iexact=by, is_active=True).first()
        if user is None or not user.is_administrator:
            raise CommandError("--by is the e-mail of an administrator of the portal.")
        try:
            return stops.order(
                scope=Scope.ALL,
                reason=reason,
                by=user,
                step_up={"method": "shell", "at": timezone.now().isoformat()},
                attach_policy=attach_stop_policy,
            )
        except NotPossible as refusal:
            raise CommandError(str(refusal)) from refusal

    def _table(self, rows: Iterable[Sequence[str]]) -> None:
        rows = list(rows)
        if not rows:
            return
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            self.stdout.write("  ".join([*cells, row[4]]).rstrip())


def _carry_out(stop: Stop) -> None:
    """What workers do, in this process, whether or not any of them lives; what this stop denies before what others do. A
    row that breaks stops no other."""
    now = timezone.now()
    due = StopWrite.objects.due(now).values_list("pk", flat=True)
    for pk in (*due.filter(stop=stop), *due.exclude(stop=stop)):
        _try(provisioning.write_stop, pk)
    for pk in Grant.objects.due(now).filter(state=State.REVOKING).values_list("pk", flat=True):
        _try(provisioning.deprovision, pk)


def _try(step: Callable[[int], None], pk: int) -> None:
    try:
        step(pk)
    except Exception:
        logger.exception("%s of %s failed", step.__name__, pk)


def _what(entry: ledger.Entry) -> str:
    where = f" in {entry.target.account_id}" if entry.target.account_id else ""
    return f"{entry.target.entitlement_name}{where}"


def _proven(outcome: offline.Outcome) -> str:
    if outcome.is_proven:
        return "gone" if not outcome.denied else "denied, gone"
    return "DENIED, NOT GONE" if outcome.denied else "NOT PROVEN"
