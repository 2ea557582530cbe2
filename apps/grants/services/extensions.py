"""Holding a grant longer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.core.refusals import NotPossible
from apps.grants import narrowing, tasks, warrants
from apps.grants.models import Extension, Grant, State, Stop
from apps.grants.services.grants import Authority, require_here


def can_extend(grant: Grant) -> bool:
    """Whether it can be held longer at all: AWS shows it, it is not over, and no other extension is under way."""
    return (
        grant.state == State.ACTIVE
        and grant.origin != Grant.Origin.FOUND
        and grant.ends_at is not None
        and grant.ends_at > timezone.now()
        and not grant.extensions.unsettled().exists()
    )


def whole_time(grant: Grant, longer: timedelta) -> timedelta:
    """For how long it would be held altogether; what the rules are asked about."""
    return timedelta(seconds=warrants.whole_seconds(grant, longer))


@transaction.atomic
def extend(
    grant: Grant, *, longer: timedelta, by: Any, authority: Authority, about: Iterable[models.Model] = ()
) -> Extension:
    """Decide that an active grant lasts `longer` than now agreed, on a warrant of its own. AWS ends it at the old time
    until a worker has checked that and moved the end there.

    Refuses (`NotPossible`) what is over, what is being extended already, and what the authority does not cover.
    """
    grant = Grant.objects.select_for_update(of=("self",)).select_related(*Grant.NAMES, "warrant").get(pk=grant.pk)
    if not can_extend(grant):
        raise NotPossible("This cannot be extended any more, or an extension is under way. Look at it again.")
    if why_narrow := narrowing.reason():
        raise NotPossible(why_narrow)
    require_here(grant.identity, grant.requested_by)
    stop = Stop.objects.in_force().against(grant).first()
    if stop:
        raise NotPossible(stop.refusal)
    spec = warrants.spec_of_extension(grant, longer)
    extension = Extension.objects.create(grant=grant, duration=longer, **authority.over(spec))
    try:
        warrants.check_extension(extension)
    except warrants.InvalidWarrant as error:
        raise NotPossible(str(error)) from error
    audit.record(
        "grants.grant.extension_decided",
        by=by,
        subject=grant,
        about=[grant.identity or grant.principal, grant.entitlement, *about],
        data={"spec": spec, "verdict": extension.verdict, "approvals": extension.approvals},
    )
    transaction.on_commit(lambda: tasks.enqueue(tasks.extend, extension.pk))
    return extension
