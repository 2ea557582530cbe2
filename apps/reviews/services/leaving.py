"""What waited for a reviewer who left waits for somebody else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.db.models import Exists, OuterRef

from apps.grants.leaving import Gone
from apps.reviews import permissions
from apps.reviews.models import Campaign, ReviewItem
from apps.reviews.services import items
from apps.users.models import PortalRole, User

log = logging.getLogger(__name__)


def pass_items(gone: Gone, by: Any) -> dict[str, int]:
    """Everything that waited for their decision or signature goes to who answers in their place; where that is the holder,
    or cannot review, to the review's fallback, and in the end to an administrator. What they signed for stands."""
    if gone.user is None:
        return {}
    theirs = ReviewItem.objects.unsigned().filter(reviewer=gone.user)
    passed = 0
    for campaign in Campaign.objects.running().filter(Exists(theirs.filter(campaign=OuterRef("pk")))):
        passed += _pass_in(campaign, gone, by)
        left = theirs.filter(campaign=campaign).count()
        if left:
            log.error(
                "%s items of campaign %s wait for somebody who left: nobody else may review them", left, campaign.pk
            )
    return {"holdings to review": passed}


def _pass_in(campaign: Campaign, gone: Gone, by: Any) -> int:
    passed = 0
    for to in _candidates(campaign, gone):
        waiting = ReviewItem.objects.unsigned().filter(campaign=campaign, reviewer=gone.user)
        own = ReviewItem.objects.filter(campaign=campaign, reviewer=gone.user).own_of(to)
        fitting = waiting.exclude(pk__in=own.values("pk"))
        if fitting.exists():
            passed += items.reassign(fitting, campaign=campaign, to=to, by=by, reason=f"{gone.identity} left.")
    return passed


def _candidates(campaign: Campaign, gone: Gone) -> Iterator[User]:
    """Who may take over, the nearest first; people who can sign in and are linked, each once."""
    administrators = User.objects.filter(portal_roles__role=PortalRole.Role.ADMINISTRATOR).order_by("pk")
    named = [gone.to.user if gone.to else None, campaign.fallback, *administrators]
    for user in dict.fromkeys(user for user in named if user and user != gone.user):
        if permissions.can_be_reviewer(user):
            yield user
