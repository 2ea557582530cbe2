"""What reviewers do: keep or revoke, take it back, pass it on, sign. A decision is held until its reviewer signs; then the
revocations are carried out and nothing of it can be changed."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connection as database
from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from apps.audit import services as audit
from apps.reviews import permissions, population, tasks
from apps.reviews.models import Campaign, Choice, Decision, ReviewItem, SignOff, State
from apps.reviews.models.items import ReviewItemQuerySet
from apps.users.models import User


class NotAllowed(Exception):
    """This person cannot do this now. The text says why and what to do; nothing was written."""


def decide(item: ReviewItem, *, choice: str, reason: str = "", by: User) -> ReviewItem:
    """Keep or revoke one item; see `decide_many` for what stays true."""
    rows = ReviewItem.objects.filter(pk=item.pk)
    _decide(rows, campaign=item.campaign, choice=choice, reason=reason, by=by, is_bulk=False)
    item.refresh_from_db()
    return item


def decide_many(
    items: QuerySet[ReviewItem], *, campaign: Campaign, choice: str, reason: str = "", by: User
) -> list[ReviewItem]:
    """Keep or revoke many items of one campaign with one reason: all of them, or none.

    Only by their reviewer, while the campaign runs and nobody signed for them, and never about one's own access. Revoking
    needs a reason, and so does keeping what is privileged. One UPDATE and one INSERT, with an event for each item.
    """
    return _decide(items, campaign=campaign, choice=choice, reason=reason, by=by, is_bulk=True)


@transaction.atomic
def undo(*, campaign: Campaign, by: User) -> list[ReviewItem]:
    """Take back what `by` decided last and has not signed for, as a whole when it was decided in bulk. Nothing is
    forgotten: the history shows the decision, and that it was taken back."""
    _hold_running(campaign)
    mine = ReviewItem.objects.filter(campaign=campaign, reviewer=by, decided_by=by).unsigned().decided()
    last = mine.order_by("-decided_at", "-pk").first()
    if last is None:
        raise NotAllowed("There is nothing left to take back. What you signed for stays as it is.")
    rows = mine.filter(batch=last.batch)
    return _decide(rows, campaign=campaign, choice=Choice.UNDECIDED, reason="", by=by, is_bulk=last.is_bulk)


@transaction.atomic
def submit(*, campaign: Campaign, by: User) -> SignOff:
    """A reviewer signs for all their decisions, and from then on they stand. Refused while one is missing.

    The revocations are carried out afterwards, by workers. Signing twice finds nothing left to sign.
    """
    _hold_running(campaign)
    _require_reviewer(by)
    mine = ReviewItem.objects.filter(campaign=campaign, reviewer=by).unsigned()
    locked = [*mine.select_for_update(of=("self",)).order_by("pk").values_list("pk", "choice", "is_bulk")]
    if not locked:
        raise NotAllowed("There is nothing left for you to sign.")
    left = sum(choice == Choice.UNDECIDED for _, choice, _ in locked)
    if left:
        raise NotAllowed(f"{left} of {len(locked)} are not decided yet. Decide them, or pass them on.")
    _require_not_own(mine, by)
    before = SignOff.objects.filter(campaign=campaign, reviewer=by).aggregate(last=Max("number"))["last"] or 0
    counts = {
        "items": len(locked),
        "keep": sum(choice == Choice.KEEP for _, choice, _ in locked),
        "revoke": sum(choice == Choice.REVOKE for _, choice, _ in locked),
        "bulk": sum(is_bulk for _, _, is_bulk in locked),
    }
    sign_off = SignOff(campaign=campaign, reviewer=by, number=before + 1, statement=statement_of(counts), counts=counts)
    sign_off.digest = population.digest_of_decisions(pk for pk, _, _ in locked)
    sign_off.save()
    mine.update(sign_off=sign_off)
    audit.record(
        "reviews.sign_off.submitted",
        by=by,
        subject=sign_off,
        about=[campaign],
        data={
            "campaign": campaign.pk,
            "counts": counts,
            "digest": sign_off.digest,
            "statement": sign_off.statement,
            "started_by": campaign.launched_by_id,
        },
    )
    if counts["revoke"]:
        transaction.on_commit(lambda: tasks.enqueue(campaign.pk, by.pk))
    return sign_off


def statement_of(counts: dict[str, int]) -> str:
    """What somebody puts their name to. The screen shows it before they do."""
    items, keep, revoke = counts["items"], counts["keep"], counts["revoke"]
    return (
        f"I looked at {items} {'holding' if items == 1 else 'holdings'} and know who needs them for their work. "
        f"{keep} {'stays' if keep == 1 else 'stay'} because the holder still needs {'it' if keep == 1 else 'them'}. "
        f"{revoke} {'goes' if revoke == 1 else 'go'}. None of it is my own access."
    )


@transaction.atomic
def reassign(items: QuerySet[ReviewItem], *, campaign: Campaign, to: User, by: Any, reason: str) -> int:
    """Pass items on to somebody else, by their reviewer, an administrator, or the clock for a reviewer who left. What was
    decided about them and not signed is open again: whoever signs has decided. Never to somebody whose own access it is.
    Returns how many were passed.
    """
    _hold_running(campaign)
    reason = _reason(reason, "Say in a few words why you pass this on.")
    if not permissions.can_be_reviewer(to):
        raise NotAllowed(f"{to} cannot review: only people who are linked to the inventory and can sign in can.")
    rows = items.filter(campaign=campaign)
    locked = list(rows.select_for_update(of=("self",)).order_by("pk").only(*_NARROW))
    _require_mine(locked, by, may_run=not isinstance(by, User) or permissions.can_run(by))
    moving = [item for item in locked if item.reviewer_id != to.pk]
    if not moving:
        raise NotAllowed(f"{to} already reviews this.")
    pks = [item.pk for item in moving]
    rows = ReviewItem.objects.filter(pk__in=pks)
    own = rows.own_of(to).first()
    if own:
        raise NotAllowed(f"{own} is {to}'s own access. Pass it to somebody else.")
    decided = [item for item in moving if item.is_decided]
    if decided:
        _write(decided, choice=Choice.UNDECIDED, reason=f"Passed to {to}: {reason}", by=by, is_bulk=len(decided) > 1)
    rows.update(reviewer=to, rule=ReviewItem.Rule.PASSED, reviewer_rule=f"Passed on by {by}: {reason}"[:700])
    single = len(moving) == 1
    audit.record(
        "reviews.review_item.reassigned",
        by=by,
        subject=moving[0] if single else campaign,
        about=[campaign, *moving],
        data={
            "campaign": campaign.pk,
            "to": to.pk,
            "to_name": str(to),
            "from": sorted({item.reviewer_id for item in moving}),
            "items": len(moving),
            "item_ids": pks,
            "reason": reason,
            "due_at": campaign.due_at.isoformat(),
        },
    )
    return len(moving)


# ---- what stays true ------------------------------------------------------------------------------------------------

_NARROW = (  # what deciding reads of an item; not its frozen facts, which are large
    *("campaign_id", "assignment_id", "entitlement_id", "principal_id", "identity_id", "holder_name", "holding_name"),
    *("privilege", "reviewer_id", "choice", "sign_off_id", "is_bulk"),
)


@transaction.atomic
def _decide(
    items: QuerySet[ReviewItem], *, campaign: Campaign, choice: str, reason: str, by: User, is_bulk: bool
) -> list[ReviewItem]:
    _hold_running(campaign)
    _require_reviewer(by)
    rows = items.filter(campaign=campaign)
    locked = list(rows.select_for_update(of=("self",)).order_by("pk").only(*_NARROW))
    _require_mine(locked, by)
    _require_not_own(ReviewItem.objects.filter(pk__in=[item.pk for item in locked]), by)
    if choice == Choice.REVOKE:
        reason = _reason(reason, "Say in a few words why it shall go. Its holder will ask.")
    elif choice == Choice.KEEP and any(item.is_privileged for item in locked):
        reason = _reason(reason, "Say in a few words why this privileged access stays.")
    elif choice not in Choice.values:
        raise NotAllowed("Choose keep or revoke.")
    _write(locked, choice=choice, reason=reason.strip(), by=by, is_bulk=is_bulk)
    return locked


def _write(items: list[ReviewItem], *, choice: str, reason: str, by: Any, is_bulk: bool) -> None:
    """The rows, their history and their events: one statement each, whatever their number."""
    now, batch = timezone.now(), uuid.uuid4()
    who = by if isinstance(by, User) else None
    is_open = choice == Choice.UNDECIDED
    ReviewItem.objects.filter(pk__in=[item.pk for item in items]).update(
        choice=choice,
        reason="" if is_open else reason,
        decided_by=None if is_open else by,
        decided_at=None if is_open else now,
        is_bulk=is_bulk and not is_open,
        batch=None if is_open else batch,
    )
    Decision.objects.bulk_create(
        [
            Decision(
                item=item, choice=choice, was=item.choice, reason=reason, by=who, at=now, is_bulk=is_bulk, batch=batch
            )
            for item in items
        ],
        batch_size=1000,
    )
    audit.record_all(
        audit.event(
            "reviews.review_item.decided",
            by=by,
            subject=item,
            about=item.about,
            data={
                "campaign": item.campaign_id,
                "choice": choice,
                "was": item.choice,
                "reason": reason,
                "is_bulk": is_bulk,
                "batch": str(batch),
            },
        )
        for item in items
    )


def _hold_running(campaign: Campaign) -> None:
    """Keep the campaign from being closed until this transaction ends. Reviewers do not wait for each other: the lock is
    shared, and only `close` and `launch` take the row for themselves."""
    with database.cursor() as cursor:
        cursor.execute("SELECT state FROM reviews_campaign WHERE id = %s FOR SHARE", [campaign.pk])
        row = cursor.fetchone()
    if row is None or row[0] != State.RUNNING:
        raise NotAllowed(f"{campaign} is not running, so nothing in it can be decided.")


def _require_reviewer(by: User) -> None:
    if not permissions.can_be_reviewer(by):
        raise NotAllowed("You are not linked to anybody in the inventory. Ask an administrator to link you.")


def _require_mine(items: list[ReviewItem], by: User, *, may_run: bool = False) -> None:
    """All of them are there, unsigned, and `by` is the reviewer of each (or runs campaigns)."""
    if not items:
        raise NotAllowed("Pick what you want to decide first.")
    if not may_run and any(item.reviewer_id != by.pk for item in items):
        raise NotAllowed("Not all of this is yours to decide any more. Look at it again.")
    if any(item.sign_off_id for item in items):
        raise NotAllowed("This was signed for already, so it cannot be changed.")


def _require_not_own(items: ReviewItemQuerySet, by: User) -> None:
    own = items.own_of(by).first()
    if own:
        raise NotAllowed(f"{own} is your own access. Pass it to somebody else.")


def _reason(reason: str, ask: str) -> str:
    reason = reason.strip()
    if len(reason) < ReviewItem.MIN_REASON:
        raise NotAllowed(ask)
    return reason[:1000]
