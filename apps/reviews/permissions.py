"""Who may see and run reviews. Deciding about an item is for its reviewer, and the service asks whose access it is."""

from __future__ import annotations

from apps.inventory import permissions as inventory
from apps.inventory.models import Identity
from apps.reviews.models import Campaign, ReviewItem
from apps.users.models import User


def can_see(user: User) -> bool:
    """See campaigns and what was decided: auditors and administrators."""
    return user.is_active and (user.is_auditor or user.is_administrator)


def can_run(user: User) -> bool:
    """Draft, launch, remind, pass on and close: administrators."""
    return user.is_active and user.is_administrator


def can_review(user: User, campaign: Campaign) -> bool:
    """See one's own part of a campaign: whoever has an item in it. Of a draft there is none yet."""
    return user.is_active and ReviewItem.objects.filter(campaign=campaign, reviewer=user).exists()


def can_see_reviews_of(user: User, identity: Identity) -> bool:
    """What was decided about what somebody holds: whoever may look at that anyway."""
    return inventory.can_view_identity(user, identity)


def can_be_reviewer(user: User) -> bool:
    """Whoever can sign in and is linked to a person in the inventory: of anybody else it could not be told whether it is
    their own access."""
    return user.is_active and Identity.objects.present().filter(user=user).exists()
