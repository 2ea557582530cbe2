"""A campaign from its draft to its close. Launching freezes who holds what; closing proves that the numbers add up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from apps.audit import services as audit
from apps.core import words
from apps.core.lifecycle import move
from apps.inventory.models import Connection, Resource, SyncRun
from apps.reviews import permissions, population, tie_out
from apps.reviews.models import Campaign, ReviewItem, State
from apps.reviews.services.items import NotAllowed
from apps.users.models import User

REMIND_AGAIN_AFTER = timedelta(hours=4)


@transaction.atomic
def draft(
    *,
    name: str,
    connection: Connection,
    holders: Iterable[str],
    due_at: datetime,
    fallback: User,
    by: Any,
    environments: Iterable[str] = (),
    privileged_only: bool = True,
    resource: Resource | None = None,
    instructions: str = "",
    kind: str = Campaign.Kind.PERIODIC,
    people: Iterable[int] = (),
) -> Campaign:
    """Write down what is to be reviewed. Nobody is asked anything before it is launched. With `people` it is about what
    these hold and nothing else."""
    if due_at <= timezone.now():
        raise NotAllowed("The review must be due in the future.")
    if resource and resource.connection_id != connection.pk:
        raise NotAllowed(f"{resource} is not an account of {connection}. Choose one of its accounts.")
    _require_fallback(fallback)
    campaign = Campaign.objects.create(
        name=name,
        instructions=instructions,
        connection=connection,
        environments=sorted(environments),
        privileged_only=privileged_only,
        holders=sorted(holders),
        resource=resource,
        due_at=due_at,
        fallback=fallback,
        drafted_by=_person(by),
        kind=kind,
        people=sorted(people),
    )
    audit.record("reviews.campaign.drafted", by=by, subject=campaign, about=[connection], data=campaign.scope)
    return campaign


@transaction.atomic
def discard(campaign: Campaign, *, by: User) -> None:
    """Throw a draft away. What was launched stays for ever."""
    row = Campaign.objects.select_for_update(of=("self",)).select_related("connection", "resource").get(pk=campaign.pk)
    if not row.is_draft:
        raise NotAllowed(f"{row} was launched, so it is kept. Close it instead.")
    audit.record("reviews.campaign.discarded", by=by, subject=row, about=[row.connection], data=row.scope)
    row.delete()


def blocked(campaign: Campaign) -> str:
    """Why it cannot be launched now, with what to do about it; "" when nothing stands in the way.

    A population is only as complete as the sync it comes from: the latest run must have read everything, lately.
    """
    connection, run = campaign.connection, campaign.connection.latest_run
    limit, now = settings.REVIEW_DATA_MAX_AGE, timezone.now()
    if connection.baselined_at is None:
        return f"{connection} has no baseline, so nothing counts as standing there. Baseline it first."
    if run is None:
        return f"{connection} was never read. Sync it first."
    if run.state != SyncRun.State.COMPLETE:
        how = run.get_state_display().lower()
        return f"The latest sync of {connection} is {how}: the list could lack somebody. See what it says, then sync again."
    if now - run.started_at > limit:
        age = words.duration(now - run.started_at)
        return f"{connection} was last read {age} ago, the limit is {words.duration(limit)}. Sync it first."
    if campaign.due_at <= now:
        return "It would be overdue at once. Draft it again with a later date."
    return ""


@transaction.atomic
def launch(campaign: Campaign, *, by: Any) -> Campaign:
    """Freeze the population and ask its reviewers. From then on neither scope nor population changes.

    Refuses when the inventory is not complete and fresh, when nothing is in scope, and when something could only be
    reviewed by somebody whose own access it is. A constant number of statements, whatever the size.
    """
    campaign = (
        Campaign.objects.select_for_update(of=("self",))
        .select_related("connection", "resource", "fallback")
        .get(pk=campaign.pk)
    )
    if not campaign.is_draft:
        raise NotAllowed(f"{campaign} was launched already.")
    problem = blocked(campaign)
    if problem:
        raise NotAllowed(f"Launch is blocked. {problem}")
    _require_fallback(campaign.fallback)
    found = population.freeze(campaign, launcher=by.pk if _person(by) else campaign.fallback_id)
    require_launchable(campaign, found)
    reviewers = ReviewItem.objects.filter(campaign=campaign).order_by("reviewer").values("reviewer")
    asked = [{"user": row["reviewer"], "items": row["items"]} for row in reviewers.annotate(items=Count("pk"))]
    run = campaign.connection.latest_run
    digest = population.digest(campaign)
    return move(
        campaign,
        State.RUNNING,
        by=by,
        event="reviews.campaign.launched",
        about=[campaign.connection, *([run] if run else [])],
        data={
            "scope": campaign.scope,
            "population": found.items,
            "digest": digest,
            "as_of": run.started_at.isoformat() if run else "",
            "left_out": found.left_out,
            "reviewers": asked,
            "due_at": campaign.due_at.isoformat(),
        },
        launched_at=timezone.now(),
        launched_by=_person(by),
        run=run,
        population=found.items,
        digest=digest,
        left_out=found.left_out,
    )


def require_launchable(campaign: Campaign, found: population.Population) -> None:
    """Raise `NotAllowed` unless there is something to review and everything of it has a reviewer."""
    if not found.items:
        raise NotAllowed("Nothing standing is in this scope. Widen it.")
    if found.placed < found.items:
        raise NotAllowed(
            f"Nobody may review what {found.unplaced} holds: {campaign.fallback} would review their own access, "
            "and so would you. Draft it again with another fallback."
        )


@transaction.atomic
def remind(campaign: Campaign, *, by: User) -> int:
    """Remind everybody who has something left to decide or to sign. Returns how many that are."""
    campaign = Campaign.objects.select_for_update(of=("self",)).get(pk=campaign.pk)
    if not campaign.is_running:
        raise NotAllowed(f"{campaign} is not running, so there is nobody to remind.")
    now = timezone.now()
    if campaign.reminded_at and now - campaign.reminded_at < REMIND_AGAIN_AFTER:
        ago = words.duration(now - campaign.reminded_at)
        raise NotAllowed(f"They were reminded {ago} ago. Give them {words.duration(REMIND_AGAIN_AFTER)}.")
    rows = ReviewItem.objects.filter(campaign=campaign).unsigned().order_by("reviewer").values("reviewer")
    left = [{"user": row["reviewer"], "items": row["items"]} for row in rows.annotate(items=Count("pk"))]
    if not left:
        raise NotAllowed("Everybody has signed. There is nobody to remind.")
    Campaign.objects.filter(pk=campaign.pk).update(reminded_at=now)
    audit.record(
        "reviews.campaign.reminded",
        by=by,
        subject=campaign,
        data={"reviewers": left, "due_at": campaign.due_at.isoformat()},
    )
    return len(left)


@transaction.atomic
def close(campaign: Campaign, *, by: Any, force: bool = False, note: str = "") -> Campaign:
    """End the review and keep its sums. Removals go on, and stay visible until AWS shows them gone.

    Refused while something is not decided or not signed. With `force` and a note that says why, those become exceptions:
    nobody reviewed them, so they are neither kept nor removed by this campaign. Never closes with a sum that is off.
    """
    campaign = Campaign.objects.select_for_update(of=("self",)).select_related("connection").get(pk=campaign.pk)
    if not campaign.is_running:
        raise NotAllowed(f"{campaign} is not running, so it cannot be closed.")
    now = timezone.now()
    sums = tie_out.record(campaign, at=now.isoformat())
    exceptions = sums["exceptions"]
    if any(exceptions.values()):
        left = f"{exceptions['not_decided']} not decided, {exceptions['not_signed']} not signed"
        if not force:
            raise NotAllowed(f"It is not finished: {left}. Remind the reviewers, or close it with these as exceptions.")
        if len(note.strip()) < ReviewItem.MIN_REASON:
            raise NotAllowed("Say in a few words why it closes with exceptions. An auditor will ask.")
    off = [each["name"] for each in sums["equations"] if each["off_by"]]
    if off:
        raise NotAllowed(f"Its numbers do not add up: {', '.join(off)}. Ask whoever runs Gatehouse to look into it.")
    return move(
        campaign,
        State.CLOSED,
        by=by,
        event="reviews.campaign.closed",
        about=[campaign.connection],
        data={"tie_out": sums, "forced": any(exceptions.values()), "note": note.strip()},
        closed_at=now,
        closed_by=_person(by),
        close_note=note.strip()[:1000],
        tie_out=sums,
    )


def _person(by: Any) -> User | None:
    """Who did it, as rows keep it; nobody for the clock."""
    return by if isinstance(by, User) else None


def _require_fallback(fallback: User) -> None:
    if not permissions.can_be_reviewer(fallback):
        raise NotAllowed(
            f"{fallback} cannot be the fallback: only people who are linked to the inventory and can sign in review."
        )
