"""The numbers in Prometheus's text format, computed when they are asked for. Only the format comes from its library: there
are no counters in the web processes, which are many and replaced. Never the name of a person, an account or a grant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from django.utils import timezone
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from apps.connectors import budget
from apps.insights import measures

CONTENT_TYPE = CONTENT_TYPE_LATEST
WINDOW = timedelta(hours=24)  # what the percentiles are over

_STRETCHES = {
    "approval_to_access": "Seconds from the decision until AWS showed the access, over a day.",
    "end_to_denied": "Seconds from the end until AWS was read back as denying it, over a day.",
    "end_to_gone": "Seconds from the end until AWS no longer showed the access, over a day.",
}
_NUMBERS = {
    "live": ("grants_live", "Grants that are starting, being confirmed, or active."),
    "ending": ("grants_ending", "Grants that are being removed."),
    "to_open": ("grants_due_to_open", "Grants whose next step towards access is due, and no worker has taken it."),
    "to_end": ("grants_due_to_end", "Removals whose next step is due, and no worker has taken it."),
    "overdue": ("revocations_overdue", "Removals that should be done by now, owners' tasks included."),
    "unproven": ("revocations_unproven", "Removals of ours that should be done by now and are not proven."),
}


def exposition() -> bytes:
    """Everything, as Prometheus reads it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers())
    return generate_latest(registry)


class _Numbers(Collector):
    def collect(self) -> Iterable[Metric]:
        now = timezone.now()
        for name, help_ in _STRETCHES.items():
            yield from _spread(name, help_, now)
        yield from _standing(now)
        yield from _asked_of_aws()


def _spread(name: str, help_: str, now: datetime) -> Iterator[Metric]:
    seconds = GaugeMetricFamily(f"gatehouse_{name}_seconds", help_, labels=["provisioner", "quantile"])
    number = GaugeMetricFamily(f"gatehouse_{name}_grants", f"How many that is over. {help_}", labels=["provisioner"])
    for row in measures.spread(name, now - WINDOW):
        kind = row.provisioner or "all"
        number.add_metric([kind], row.number)
        for quantile, value in (("0.5", row.p50), ("0.95", row.p95), ("0.99", row.p99)):
            seconds.add_metric([kind, quantile], value)
    yield seconds
    yield number


def _standing(now: datetime) -> Iterator[Metric]:
    rows = measures.standing(now)
    for name, (metric, help_) in _NUMBERS.items():
        family = GaugeMetricFamily(f"gatehouse_{metric}", help_, labels=["provisioner"])
        family.add_metric(["all"], sum(getattr(row, name) for row in rows))
        for row in rows:
            family.add_metric([row.provisioner], getattr(row, name))
        yield family
    longest = GaugeMetricFamily(
        "gatehouse_oldest_revocation_seconds",
        "Age of the removal of ours that is open longest; 0 when none is.",
        labels=["provisioner"],
    )
    longest.add_metric(
        ["all"], measures.age(measures.oldest(row.oldest_ending_at for row in rows), now).total_seconds()
    )
    for row in rows:
        longest.add_metric([row.provisioner], measures.age(row.oldest_ending_at, now).total_seconds())
    yield longest
    yield GaugeMetricFamily(
        "gatehouse_end_missed_seconds",
        "For how long the clock has not ended what is over: it does not run. AWS denies it meanwhile.",
        measures.age(measures.oldest(row.oldest_end_missed_at for row in rows), now).total_seconds(),
    )


def _asked_of_aws() -> Iterator[Metric]:
    counts = budget.here().counts()
    calls = CounterMetricFamily("gatehouse_aws_calls", "Requests sent to AWS.", labels=["service", "purpose"])
    throttles = CounterMetricFamily(
        "gatehouse_aws_throttles", "Requests that AWS refused as too many.", labels=["service", "purpose"]
    )
    for labels, number in sorted(counts.calls.items()):
        calls.add_metric(labels, number)
    for labels, number in sorted(counts.throttles.items()):
        throttles.add_metric(labels, number)
    yield calls
    yield throttles
    skews = budget.here().skews()
    if skews:
        worst = max(skews, key=abs)
        help_ = "How far the clock of a worker is ahead of AWS's: the worst of the last ten minutes."
        yield GaugeMetricFamily("gatehouse_clock_skew_seconds", help_, worst)
