"""What reviewers are told, with a link straight to their items, and administrators when a review is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from django.urls import reverse

from apps.audit.models import AuditEvent
from apps.notifications.notes.base import Note, Teller, administrators, at, quoted, row, sentences
from apps.reviews.models import Campaign
from apps.users.models import User

EACH_NEEDS_YOU = "Decide for each whether it stays. Nothing is taken away before you sign."


def launched(event: AuditEvent) -> Iterator[Note]:
    for campaign, user, count in _asked(event):
        yield Note(
            to=user,
            title=f"Review {_holdings(count)} for {campaign} until {_due(event)}",
            text=sentences(campaign.instructions, EACH_NEEDS_YOU),
            url=_items(campaign),
        )


def reminded(event: AuditEvent) -> Iterator[Note]:
    for campaign, user, count in _asked(event):
        yield Note(
            to=user,
            title=f"{_holdings(count)} of {campaign} {'waits' if count == 1 else 'wait'} for you until {_due(event)}",
            text=EACH_NEEDS_YOU,
            url=_items(campaign),
        )


def reassigned(event: AuditEvent) -> Iterator[Note]:
    campaign = Campaign.objects.filter(pk=event.data.get("campaign")).first()
    user = User.objects.filter(pk=event.data.get("to")).first()
    if campaign and user and campaign.is_running:
        yield Note(
            to=user,
            title=f"{event.actor_name} passed you {_holdings(int(event.data.get('items', 1)))} of {campaign} to review",
            text=sentences(quoted(event.data.get("reason")), f"Due {_due(event)}.", EACH_NEEDS_YOU),
            url=_items(campaign),
        )


def closed(event: AuditEvent) -> Iterator[Note]:
    campaign = row(event, Campaign.objects.all())
    if campaign is None:
        return
    counts = event.data.get("tie_out", {}).get("counts", {})
    numbers = f"{counts.get('keep', 0):,} kept, {counts.get('revoke', 0):,} revoked."
    left = event.data.get("tie_out", {}).get("open_removals", 0)
    for user in administrators():
        yield Note(
            to=user,
            title=f"{event.actor_name} closed the review {campaign}",
            text=sentences(
                numbers,
                f"{left:,} removals are still under way." if left else "",
                "It closed with exceptions." if event.data.get("forced") else "",
                "The evidence pack can be made now.",
            ),
            url=campaign.get_absolute_url(),
        )


TELLERS: dict[str, Teller] = {
    "reviews.campaign.launched": launched,
    "reviews.campaign.reminded": reminded,
    "reviews.review_item.reassigned": reassigned,
    "reviews.campaign.closed": closed,
}

SETTLES = {"reviews.campaign.closed": ("reviews.campaign.launched", "reviews.campaign.reminded")}


def _asked(event: AuditEvent) -> Iterator[tuple[Campaign, User, int]]:
    """Whom the event asks, and about how many items, while the campaign still runs."""
    campaign = row(event, Campaign.objects.all())
    if campaign is None or not campaign.is_running:
        return
    counts = {int(asked["user"]): int(asked["items"]) for asked in event.data.get("reviewers", [])}
    for user in User.objects.filter(pk__in=counts):
        yield campaign, user, counts[user.pk]


def _holdings(count: int) -> str:
    return "1 holding" if count == 1 else f"{count:,} holdings"


def _due(event: AuditEvent) -> str:
    due = event.data.get("due_at")
    return at(datetime.fromisoformat(due) if due else None)


def _items(campaign: Campaign) -> str:
    """The reviewer's own items; their page shows nobody else's."""
    return reverse("reviews:review", args=[campaign.pk])
