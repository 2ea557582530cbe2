"""The tables of reviews: campaigns, their items, the decisions about each, and the sign-offs."""

from apps.reviews.models.campaigns import Campaign, Holder, State
from apps.reviews.models.items import OUTCOMES, Choice, Decision, Outcome, ReviewItem, SignOff
from apps.reviews.models.moves import Move, Placement

__all__ = [
    "OUTCOMES",
    "Campaign",
    "Choice",
    "Decision",
    "Holder",
    "Move",
    "Outcome",
    "Placement",
    "ReviewItem",
    "SignOff",
    "State",
]
