"""What the clock does about grants. Each function selects due rows and calls a service or wakes a worker; all of them may
run at any time, twice, or by hand (`manage.py sweep`) when Celery is down."""

from __future__ import annotations

from celery import shared_task
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from apps.audit import services as audit
from apps.grants import services, tasks
from apps.grants.models import EndReason, Grant, State
from apps.inventory.models import Assignment

BATCH = 1000  # rows a sweep takes at a time; the next sweep is seconds away


@shared_task
def sweep() -> None:
    """End what is over, settle what AWS already shows gone, and wake workers for every row that is due."""
    expire()
    end_of_leavers()
    settle_gone()
    wake_workers()


def expire() -> None:
    """End every grant whose time is up."""
    due = Grant.objects.expired(timezone.now()).order_by("pk")[:BATCH]
    services.end_many(
        Grant.objects.filter(pk__in=list(due.values_list("pk", flat=True))), reason=EndReason.EXPIRED, by=audit.CLOCK
    )


def end_of_leavers() -> None:
    """End every live grant of an identity that the inventory says has left."""
    leavers = Grant.objects.live().exclude(identity__ended_at=None)
    for grant in leavers.filter(state=State.PENDING)[:BATCH]:
        services.end(grant, by=audit.CLOCK, reason=EndReason.LEAVER)
    services.end_many(leavers, reason=EndReason.LEAVER, by=audit.CLOCK)


def settle_gone() -> None:
    """Act on what complete scans show gone: an owner's task is done; access that somebody removed outside Gatehouse is
    ended here too, with a read-back of its own, since one scan may be staler than the grant."""
    done = Grant.objects.filter(state=State.REVOKING, remover=Grant.BY_OWNER, assignment__period__upper_inf=False)
    for grant in done.select_related("assignment", "entitlement", "identity", "principal")[:BATCH]:
        services.settle_task(grant)
    same = Assignment.objects.filter(principal=OuterRef("principal"), entitlement=OuterRef("entitlement"))
    removed = Grant.objects.filter(
        Exists(same.filter(period__endswith__gt=OuterRef("active_at"))), ~Exists(same.open()), state=State.ACTIVE
    )
    services.end_many(removed, reason=EndReason.GONE, by=audit.CLOCK)


def wake_workers() -> None:
    """Wake a worker for every grant whose next step is due. Removals first."""
    now = timezone.now()
    for grant in Grant.objects.due(now).order_by(F("revoking_at").asc(nulls_last=True))[:BATCH]:
        tasks.enqueue(tasks.deprovision if grant.state == State.REVOKING else tasks.provision, grant.pk)
    for grant in Grant.objects.filter(state=State.ACTIVE, narrowed_at=None).exclude(shared_key="")[:BATCH]:
        tasks.enqueue(tasks.narrow, grant.pk)
    for grant in Grant.objects.uncleared(now)[:BATCH]:
        tasks.enqueue(tasks.clear, grant.pk)
