"""The campaign's own sums. Each says that a number is the sum of its parts, counted separately, and by how much it is off:
anything but 0 means that a row is missing or counted twice, and the campaign does not close."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Count, F, OuterRef, Q, Subquery

from apps.reviews import population
from apps.reviews.models import OUTCOMES, Campaign, Choice, Decision, Outcome, ReviewItem


@dataclass(frozen=True)
class Equation:
    """`total` = sum of `parts`. `is_open` when it holds and still has work in it."""

    name: str
    total: int
    parts: tuple[tuple[str, int], ...]
    is_open: bool = False

    @property
    def off_by(self) -> int:
        return self.total - sum(count for _, count in self.parts)

    @property
    def words(self) -> str:
        """1,284 = 852 kept + 148 revoked + 284 not decided"""
        return f"{self.total:,} = " + " + ".join(f"{count:,} {name}" for name, count in self.parts)


@dataclass(frozen=True)
class Counts:
    """How many items of a campaign are where."""

    items: int
    keep: int
    revoke: int
    undecided: int
    signed: int
    unsigned: int  # decided, and nobody signed for it
    removed: int
    removing: int
    owner_task: int
    not_started: int
    manager: int
    owner: int
    fallback: int
    launcher: int
    passed: int

    @property
    def decided(self) -> int:
        return self.keep + self.revoke

    @property
    def open_removals(self) -> int:
        return self.revoke - self.removed


def counts_of(campaign: Campaign) -> Counts:
    """Everything the campaign's page counts, in one statement."""
    decided = ~Q(choice=Choice.UNDECIDED)
    conditions = {
        "keep": Q(choice=Choice.KEEP),
        "revoke": Q(choice=Choice.REVOKE),
        "undecided": Q(choice=Choice.UNDECIDED),
        "signed": decided & Q(sign_off__isnull=False),
        "unsigned": decided & Q(sign_off=None),
        **{name: OUTCOMES[name] for name in (Outcome.REMOVED, Outcome.REMOVING)},
        **{name: OUTCOMES[name] for name in (Outcome.OWNER_TASK, Outcome.NOT_STARTED)},
        **{rule: Q(rule=rule) for rule in ReviewItem.Rule.values},
    }
    counted = {str(name): Count("pk", filter=condition) for name, condition in conditions.items()}
    return Counts(**ReviewItem.objects.filter(campaign=campaign).aggregate(items=Count("pk"), **counted))


def equations(campaign: Campaign, counts: Counts) -> list[Equation]:
    """The sums that must hold at any time."""
    rules = [("by managers", counts.manager), ("by owners", counts.owner), ("by the fallback", counts.fallback)]
    rules += [("by who launched it", counts.launcher), ("passed on", counts.passed)]
    return [
        Equation("Everything has a reviewer", campaign.population, tuple(part for part in rules if part[1])),
        Equation(
            "Everything has one answer",
            campaign.population,
            (("keep", counts.keep), ("revoke", counts.revoke), ("not decided", counts.undecided)),
            is_open=counts.undecided > 0,
        ),
        Equation(
            "Decisions are signed",
            counts.decided,
            (("signed", counts.signed), ("not signed", counts.unsigned)),
            is_open=counts.unsigned > 0,
        ),
        Equation(
            "Removals are proven",
            counts.revoke,
            (
                ("gone", counts.removed),
                ("being removed", counts.removing),
                ("with their owners", counts.owner_task),
                ("not started", counts.not_started),
            ),
            is_open=counts.open_removals > 0,
        ),
    ]


def closing_equations(campaign: Campaign) -> list[Equation]:
    """Those that read every row again, for closing: the list is still the one of the launch, and the history agrees."""
    last = Decision.objects.filter(item=OuterRef("pk")).order_by("-pk").values("choice")[:1]
    items = ReviewItem.objects.filter(campaign=campaign)
    told = items.decided().annotate(last=Subquery(last)).filter(last=F("choice")).count()
    is_same = population.digest(campaign) == campaign.digest
    return [
        Equation("The list is the one of the launch", campaign.population, (("unchanged", items.count() * is_same),)),
        Equation("Every decision is in the history", items.decided().count(), (("recorded", told),)),
    ]


def record(campaign: Campaign, *, at: str) -> dict[str, Any]:
    """The equations as a closed campaign keeps them, and what became an exception."""
    counts = counts_of(campaign)
    every = [*equations(campaign, counts), *closing_equations(campaign)]
    return {
        "at": at,
        "equations": [
            {"name": each.name, "total": each.total, "parts": dict(each.parts), "off_by": each.off_by} for each in every
        ],
        "exceptions": {"not_decided": counts.undecided, "not_signed": counts.unsigned},
        "open_removals": counts.open_removals,
        "counts": asdict(counts),
    }
