"""What the clock does about grants. Each function selects due rows and calls a service or wakes a worker; all of them may
run at any time, twice, or by hand (`manage.py sweep`) when Celery is down."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from celery import shared_task
from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from apps.audit import services as audit
from apps.grants import ledger, services, tasks
from apps.grants.models import (
    Drift,
    EndReason,
    Exodus,
    Extension,
    Grant,
    Leaving,
    OutsideChange,
    Reconciliation,
    State,
    Stop,
    StopWrite,
)
from apps.grants.services import drift, leaving, narrowing
from apps.inventory.models import Assignment, Connection, Identity

BATCH = 1000  # rows a sweep takes at a time; the next sweep is seconds away
LEAVERS = 100  # people, each in a transaction of their own


@shared_task
def sweep() -> None:
    """Decide what is over, then wake workers for every row that is due."""
    run_all(*DECISIONS, wake_workers)


@shared_task
def write_ledger() -> None:
    """Keep a copy of everything that is unfinished where it can be read without the database."""
    if settings.LEDGER_PATH:
        ledger.write(Path(settings.LEDGER_PATH), timezone.now())


def run_all(*steps: Callable[[], object]) -> None:
    """Run every step in order, also after one that failed. What went wrong last is raised in the end."""
    with ExitStack() as stack:
        for step in reversed(steps):
            stack.callback(step)


def expire() -> None:
    """End every grant whose time is up."""
    due = Grant.objects.expired(timezone.now())
    batch = list(due.order_by("pk").values_list("pk", flat=True)[:BATCH])
    services.end_many(due.filter(pk__in=batch), reason=EndReason.EXPIRED, by=audit.CLOCK, skip_locked=True)


def end_of_leavers() -> None:
    """End every live grant of somebody who left, by the inventory, or who was shut out of the portal."""
    live = Grant.objects.live()
    services.end_many(live.exclude(identity__ended_at=None), reason=EndReason.LEAVER, by=audit.CLOCK, skip_locked=True)
    shut_out = live.filter(identity__user__is_active=False)
    note = "Their way into the portal was closed."
    services.end_many(shut_out, reason=EndReason.LEAVER, by=audit.CLOCK, note=note, skip_locked=True)


@shared_task
def follow_people() -> None:
    """Notice who left and who came back, and deal with what leavers left behind. Runs every few seconds."""
    run_all(note_returns, notice_leavers, notice_logins, decide_leavers, take_from_leavers)


def note_returns() -> None:
    back = Leaving.objects.open().filter(identity__ended_at=None).select_related("identity")
    run_all(*(partial(leaving.note_return, row, by=audit.CLOCK) for row in back[:BATCH]))


def notice_leavers() -> None:
    """A transaction for each. Their grants ended a sweep ago at the latest; this ends the rest."""
    known = Leaving.objects.open().filter(identity=OuterRef("pk"))
    gone = Identity.objects.human().exclude(ended_at=None).exclude(Exists(known))
    run_all(*(partial(leaving.notice, row, by=audit.CLOCK) for row in gone.order_by("pk")[:LEAVERS]))


def notice_logins() -> None:
    late = Leaving.objects.with_another_login().order_by("pk")
    run_all(*(partial(leaving.notice_login, row, by=audit.CLOCK) for row in late[:LEAVERS]))


def decide_leavers() -> None:
    now = timezone.now()
    waiting = Connection.objects.filter(
        Exists(Leaving.objects.unpassed(now).filter(identity__connection=OuterRef("pk")))
        | Exists(Exodus.objects.held().filter(connection=OuterRef("pk")))
    )
    run_all(*(partial(leaving.decide, row) for row in waiting))


def take_from_leavers() -> None:
    leaving.look_again(timezone.now())
    due = Leaving.objects.taking(timezone.now()).order_by("next_try_at", "pk")
    run_all(*(partial(leaving.take, row) for row in due[:LEAVERS]))


def settle_gone() -> None:
    """Act on what complete scans show gone: an owner's task is done; access that somebody removed outside Gatehouse is
    ended here too, with a read-back of its own, since one scan may be staler than the grant."""
    done = Grant.objects.filter(state=State.REVOKING, remover=Grant.BY_OWNER, assignment__period__upper_inf=False)
    for grant in done.with_names().select_related("assignment")[:BATCH]:
        services.settle_task(grant)
    same = Assignment.objects.filter(principal=OuterRef("principal"), entitlement=OuterRef("entitlement"))
    removed = Grant.objects.filter(
        Exists(same.filter(period__endswith__gt=OuterRef("active_at"))), ~Exists(same.open()), state=State.ACTIVE
    )
    services.end_many(removed, reason=EndReason.GONE, by=audit.CLOCK, skip_locked=True)


def end_stopped() -> None:
    """End what is live in the scope of a stop in force: a race, or a database restored, let it through."""
    stops = Stop.objects.in_force()
    let_through: dict[Stop | None, list[int]] = {}
    for grant in Grant.objects.live().filter(stops.covering()).select_related("entitlement", "principal")[:BATCH]:
        let_through.setdefault(stops.against(grant).first(), []).append(grant.pk)
    for stop, keys in let_through.items():
        if stop is not None:  # lifted meanwhile
            live, note = Grant.objects.live().filter(pk__in=keys), f"{stop.number} is in force."
            services.end_many(live, reason=EndReason.EMERGENCY, by=audit.CLOCK, note=note, skip_locked=True)


def end_of_unsigned() -> None:
    """End privileged access that rests on no passkey's signature. AWS is told nothing good of it any more (`is_open`), so
    it must not stay listed as held."""
    services.end_many(Grant.objects.unsigned(), reason=EndReason.UNWARRANTED, by=audit.CLOCK, skip_locked=True)


DECISIONS = (end_stopped, expire, end_of_leavers, end_of_unsigned, settle_gone)


def _stops(now: datetime) -> QuerySet[Any]:
    """What failed least goes first: rows that nobody can write keep no others waiting."""
    return StopWrite.objects.due(now).order_by("problem_count", "pk").values_list("pk", flat=True)


def _undenied(now: datetime) -> QuerySet[Any]:
    return Grant.objects.undenied().due(now).order_by("shared_key").values_list("shared_key", flat=True).distinct()


def _ending(now: datetime) -> QuerySet[Any]:
    due = Grant.objects.due(now).filter(state=State.REVOKING)
    return due.order_by("revoking_at").values_list("pk", flat=True)


def _unnarrowed(now: datetime) -> QuerySet[Any]:
    return Grant.objects.unnarrowed(now).values_list("pk", flat=True)


def _extended(now: datetime) -> QuerySet[Any]:
    return Extension.objects.unsettled().filter(grant__next_try_at__lte=now).values_list("pk", flat=True)


def _beginning(now: datetime) -> QuerySet[Any]:
    return Grant.objects.due(now).exclude(state=State.REVOKING).values_list("pk", flat=True)


def _uncleared(now: datetime) -> QuerySet[Any]:
    return Grant.objects.uncleared(now).values_list("pk", flat=True)


def _signed_to_go(_now: datetime) -> QuerySet[Any]:
    return Stop.objects.to_lift().values_list("pk", flat=True)


# What a worker has to do, and the keys of the rows for which it is due. What takes away goes first.
STEPS: tuple[tuple[Any, Callable[[datetime], QuerySet[Any]]], ...] = (
    (tasks.write_stop, _stops),
    (tasks.deny, _undenied),
    (tasks.deprovision, _ending),
    (tasks.narrow, _unnarrowed),
    (tasks.extend, _extended),
    (tasks.provision, _beginning),
    (tasks.clear, _uncleared),
    (tasks.lift_stop, _signed_to_go),
)


def wake_workers() -> None:
    """Wake a worker for every step that is due."""
    now = timezone.now()
    for task, due in STEPS:
        for key in due(now)[:BATCH]:
            tasks.enqueue(task, key)


def carry_out() -> None:
    """Take every step that is due right here, without Celery. One that breaks stops no other; what went wrong last is
    raised in the end."""
    run_all(*(partial(_carry_out, task, due) for task, due in STEPS))


def _carry_out(task: Callable[[Any], None], due: Callable[[datetime], QuerySet[Any]]) -> None:
    run_all(*(partial(task, key) for key in due(timezone.now())))


@shared_task
def forget_changes() -> None:
    """Drop who changed what outside the portal, once usage of that day is dropped too."""
    kept_since = timezone.now() - timedelta(days=settings.USAGE_KEPT_DAYS)
    OutsideChange.objects.filter(at__lt=kept_since).delete()


@shared_task
def reconcile() -> None:
    """Decide about what comparisons found, begin those that are due, and know which database this is."""
    run_all(notice_database, decide_found, trust_database, wake_comparers)


def notice_database() -> None:
    narrowing.notice()


def trust_database() -> None:
    narrowing.trust()


def decide_found() -> None:
    for run in Reconciliation.objects.undecided():
        drift.decide(run)


def wake_comparers() -> None:
    """Wake a worker for every repair that is still to be written, and for every connection whose time it is."""
    now = timezone.now()
    for row in Drift.objects.unwritten(now)[:BATCH]:
        tasks.enqueue(tasks.repair, row.pk)
    for connection in Connection.objects.readable().exclude(baselined_at=None):
        last = connection.reconciliations.first()
        is_silent = last is not None and connection.reconciliations.silent(now).exists()
        is_due = last is None or (last.state != Reconciliation.State.RUNNING and last.next_at <= now)
        if is_due or is_silent:
            tasks.enqueue(tasks.compare, connection.pk)
