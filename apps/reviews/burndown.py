"""Decisions left over time, as the points of a server-drawn SVG: what was, what was planned, and where this pace leads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from django.db.models import Count
from django.db.models.functions import TruncDay, TruncHour
from django.utils import timezone

from apps.reviews.models import Campaign, ReviewItem

LEFT, RIGHT, TOP, BOTTOM = 52, 712, 14, 190  # the plotting area inside a viewBox of 730 × 218
BY_HOUR = timedelta(days=3)  # a campaign younger than this is drawn by the hour


@dataclass(frozen=True)
class Tick:
    """A label on an axis, and where it stands."""

    at: float
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Burndown:
    """Everything the template draws."""

    real: str
    area: str
    plan: str
    now: tuple[float, float]
    now_anchor: str
    left: int
    total: int
    planned: int
    finish_at: datetime | None
    forecast: str
    rows: list[Tick]
    columns: list[Tick]

    @property
    def ahead(self) -> int:
        """How many decisions more than planned; negative: behind."""
        return self.planned - self.left

    @property
    def behind(self) -> int:
        return -self.ahead

    @property
    def now_dy(self) -> int:
        """Where the label of the present goes: above the point, or below it at the top of the chart."""
        return 18 if self.now[1] < TOP + 30 else -10


def of(campaign: Campaign) -> Burndown | None:
    """The burn-down of a launched campaign, from its items' decisions. One query."""
    if campaign.launched_at is None or not campaign.population:
        return None
    start, now = campaign.launched_at, campaign.closed_at or timezone.now()
    end = max(campaign.due_at, now)
    scale = _Scale(start, end, campaign.population)
    trunc = TruncHour if now - start < BY_HOUR else TruncDay
    step = timedelta(hours=1) if trunc is TruncHour else timedelta(days=1)
    decided = ReviewItem.objects.filter(campaign=campaign, decided_at__isnull=False)
    counted = decided.annotate(slot=trunc("decided_at")).values("slot").annotate(n=Count("pk")).order_by("slot")
    slots = [(min(row["slot"] + step, now), row["n"]) for row in counted]
    lefts = [campaign.population - done for done in accumulate(n for _, n in slots)]
    line = [(start, campaign.population), *zip([at for at, _ in slots], lefts, strict=True)]
    left = line[-1][1]
    line.append((now, left))
    points = [scale.point(at, value) for at, value in line]
    finish_at = _finish(start, now, campaign.population, left) if campaign.is_running else None
    reach = min(finish_at, end) if finish_at else None
    share = (now - start) / (campaign.due_at - start) if campaign.due_at > start else 1
    return Burndown(
        real=_path(points),
        area=_path([(LEFT, BOTTOM), *points, (points[-1][0], BOTTOM)]),
        plan=_path([scale.point(start, campaign.population), scale.point(campaign.due_at, 0)]),
        now=points[-1],
        now_anchor="end" if points[-1][0] > (LEFT + RIGHT) / 2 else "start",
        left=left,
        total=campaign.population,
        planned=round(campaign.population * max(0.0, 1 - share)),
        finish_at=finish_at,
        forecast=_path([points[-1], scale.point(reach, scale.at_pace(start, now, left, reach))]) if reach else "",
        rows=[Tick(scale.y(value), f"{value:,}") for value in _round_steps(campaign.population)],
        columns=_columns(scale, start, end),
    )


@dataclass(frozen=True)
class _Scale:
    start: datetime
    end: datetime
    total: int

    def x(self, at: datetime) -> float:
        share = (at - self.start) / ((self.end - self.start) or timedelta(seconds=1))
        return round(LEFT + share * (RIGHT - LEFT), 1)

    def y(self, left: float) -> float:
        return round(BOTTOM - left / self.total * (BOTTOM - TOP), 1)

    def point(self, at: datetime, left: float) -> tuple[float, float]:
        return self.x(at), self.y(left)

    def at_pace(self, start: datetime, now: datetime, left: int, at: datetime) -> float:
        """How many would be left `at`, if it goes on as it did."""
        pace = (self.total - left) / ((now - start) / timedelta(seconds=1) or 1)
        return max(0.0, left - pace * ((at - now) / timedelta(seconds=1)))


def _finish(start: datetime, now: datetime, total: int, left: int) -> datetime | None:
    """When the last decision falls at the pace so far; None while there is no pace, or nothing is left."""
    done = total - left
    if not left or not done or now <= start:
        return None
    return now + (now - start) * (left / done)


def _path(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)


def _round_steps(total: int) -> list[int]:
    """At most five round numbers from 0 to the total."""
    step = next(size * 10**power for power in range(9) for size in (1, 2, 5) if size * 10**power * 5 > total)
    return list(range(0, total + 1, step))


def _columns(scale: _Scale, start: datetime, end: datetime) -> list[Tick]:
    ticks = []
    for part in range(5):
        at = start + (end - start) * (part / 4)
        local = timezone.localtime(at)
        label = f"{local.day} {local:%b}" if end - start > timedelta(days=4) else f"{local.day} {local:%b %H:%M}"
        ticks.append(Tick(scale.x(at), label, {0: "start", 4: "end"}.get(part, "middle")))
    return ticks
