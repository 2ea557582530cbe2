"""From a signed revocation to a grant that ends: grants carries it out, and AWS's answer settles it.

One transaction for each item, so that one that cannot begin keeps no other from it, and a worker killed in between leaves
whole items only: those that have their grant, and those the clock finds again.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from apps.grants import services as grants
from apps.inventory.models import Assignment
from apps.reviews.models import ReviewItem

OWNER_TASK_FOR = timedelta(days=14)  # what only its owner can remove is due after this
BATCH = 1000  # items one run begins, those that met no problem first; the clock wakes the next


def carry_out(campaign_id: int, reviewer_id: int) -> None:
    """Begin every removal that this reviewer signed for and that has not begun. Running it twice, or at once in two
    workers, begins each once."""
    due = ReviewItem.objects.filter(campaign=campaign_id, reviewer=reviewer_id).to_carry_out()
    for pk in list(due.order_by("problem", "pk").values_list("pk", flat=True)[:BATCH]):
        _begin(pk)


@transaction.atomic
def _begin(pk: int) -> None:
    rows = ReviewItem.objects.to_carry_out().filter(pk=pk)
    item = rows.select_for_update(of=("self",), skip_locked=True).select_related("campaign", "decided_by").first()
    if item is None:
        return
    assignment = Assignment.objects.with_names().select_related("connection").get(pk=item.assignment_id)
    due_at = None if grants.can_remove(assignment) else timezone.now() + OWNER_TASK_FOR
    try:
        with transaction.atomic():
            grant = grants.remove_standing(
                assignment, by=item.decided_by, reason=item.reason, due_at=due_at, about=[item.campaign, item]
            )
    except grants.NotPossible as error:
        ReviewItem.objects.filter(pk=pk).exclude(problem=str(error)).update(problem=str(error)[:1000])
        return
    ReviewItem.objects.filter(pk=pk).update(grant=grant, problem="")
