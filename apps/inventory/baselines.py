"""What an identity really does, how much of that we can know, and the smaller policies that would do.

Reads only. Everything is about a window of whole days; what was not read is said, never taken for unused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.contrib.postgres.aggregates import ArrayAgg, BoolOr
from django.db.models import Count, F, Func, Max, Min, Q, QuerySet, Sum
from django.utils import timezone

from apps.connectors.aws import rightsizing
from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.policy.documents import MalformedPolicy
from apps.connectors.aws.rightsizing import Evidence, Smaller
from apps.inventory.models import (
    AccessReport,
    Actor,
    Assignment,
    Entitlement,
    Identity,
    LastAccess,
    Principal,
    TrailDay,
    Usage,
)
from apps.inventory.models.holders import CALLERS

SETTLES = timedelta(days=2)  # a day that ended so long ago and is not whole has a gap
REPORT_LASTS = timedelta(days=14)  # of somebody who calls, it is read again after a week: older, and that fails
POLICIES = (Entitlement.Kind.IAM_POLICY, Entitlement.Kind.IAM_INLINE_POLICY)


# ---- how much we can know


@dataclass(frozen=True)
class Coverage:
    """Of which days the trail of some accounts was read whole."""

    first: date | None = None
    last: date | None = None
    whole: int = 0
    missing: tuple[date, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def is_enough(self) -> bool:
        """Whether a smaller policy may be proposed: enough whole days, up to now, without a gap among them."""
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Why nothing is proposed yet, in a sentence; empty when there is enough."""
        needed = settings.USAGE_PROPOSAL_DAYS
        if self.last is None or self.first is None:
            return f"No day of the trail was read whole yet. {needed} days are needed."
        if self.last < _today() - SETTLES - timedelta(days=2):
            return f"The trail was read to {self.last:%d %B %Y} only. Read it up to now first."
        since = self.last - timedelta(days=needed - 1)
        gaps = [day for day in self.missing if day >= since]
        if gaps:
            said = f"{len(gaps)} of the last {needed} days were not read whole, the latest on {gaps[-1]:%d %B %Y}"
            return f"{said}. What happened then could need what looks unused."
        if self.first > since:
            have = (self.last - self.first).days + 1
            return f"The trail was read for {have} day{'s' if have != 1 else ''}. {needed} are needed."
        return ""

    @property
    def since(self) -> date:
        """The first day of the window that a proposal rests on."""
        return (self.last or _today()) - timedelta(days=settings.USAGE_PROPOSAL_DAYS - 1)


def _today() -> date:
    return timezone.now().astimezone(UTC).date()


def coverage(identity: Identity) -> Coverage:
    """Of the accounts that an identity's principals are in. A day is whole when it was read whole in every one of them:
    an account whose trail never came leaves no row at all. Two queries."""
    here = identity.principals.present().filter(kind__in=CALLERS)
    accounts = set(here.values_list("resource__external_id", flat=True))
    days = TrailDay.objects.filter(connection=identity.connection_id, account_id__in=accounts)
    rows = list(
        days.values("day")
        .annotate(
            broken=Count("pk", filter=Q(whole_at=None)),
            read_in=Count("account_id", distinct=True),
            names=ArrayAgg("region", filter=Q(events__gt=0)),
        )
        .order_by("day")
    )
    whole = [row["day"] for row in rows if not row["broken"] and row["read_in"] == len(accounts)]
    if not whole:
        return Coverage()
    settled = max(whole[-1], min(rows[-1]["day"], _today() - SETTLES))
    known = set(whole)
    every = (whole[0] + timedelta(days=n) for n in range((settled - whole[0]).days + 1))
    missing = tuple(day for day in every if day not in known)
    regions = sorted({name for row in rows for name in row["names"] or ()})
    return Coverage(whole[0], whole[-1], len(whole), missing, tuple(regions))


# ---- what was done

ONLY = {
    "denied": Q(denied__gt=0),
    "services": Q(by_services__gt=0),
    "unmapped": Q(is_mapped=False),
    "data": Q(is_data_event=True),
}


def usage(identity: Identity, since: date) -> QuerySet[Usage]:
    """What all principals of an identity did from a day on, whoever's session it was.

    Its actors are few and asked for first: joined, PostgreSQL at times reads everybody's usage instead.
    """
    actors = list(Actor.objects.filter(principal__identity=identity).values_list("pk", flat=True))
    return Usage.objects.filter(actor__in=actors, day__gte=since)


def by_action(rows: QuerySet[Usage], query: str = "", only: str = "") -> QuerySet[Usage, Any]:
    """One row an action with its counts, the busiest first."""
    rows = rows.filter(ONLY.get(only, Q()))
    if query:
        rows = rows.filter(action__icontains=query)
    return (
        rows.values("action", "is_mapped")
        .annotate(
            is_data=BoolOr("is_data_event"),
            dones=Sum("done"),
            denials=Sum("denied"),
            failures=Sum("failed"),
            for_services=Sum("by_services"),
            days=Count("day", distinct=True),
            last=Max("last_at"),
        )
        .order_by("-dones", "action")
    )


def sources(rows: QuerySet[Usage], column: str, actions: Sequence[str]) -> dict[str, list[str]]:
    """By action, the distinct networks, regions or services that its calls came from."""
    found: dict[str, list[str]] = {}
    unnested = rows.filter(action__in=actions).annotate(one=Func(F(column), function="unnest"))
    for action, one in unnested.values_list("action", "one").distinct().order_by("action", "one"):
        found.setdefault(action, []).append(one)
    return found


# ---- against what is allowed


@dataclass(frozen=True)
class Service:
    """A service that policies allow, and how much of it was used."""

    name: str
    allowed: int
    used: int
    is_called: bool  # also when what was called is not what its policies allow
    last_at: datetime | None  # as AWS says it
    is_reported: bool  # AWS said something about it


@dataclass(frozen=True)
class Against:
    """What policies allow against what was done."""

    allowed: int
    used: int
    services: tuple[Service, ...] = ()
    broken: int = 0  # policies that could not be read

    @property
    def unused(self) -> tuple[Service, ...]:
        """Services without any call in the window."""
        return tuple(one for one in self.services if not one.is_called)


def evidence(identity: Identity, since: date) -> Evidence:
    """What is known of an identity's use since a day, from the trail and from AWS's own report."""
    rows = usage(identity, since).values("action", "is_mapped")
    counted = rows.annotate(own=Sum(F("done") + F("failed")), others=Sum("by_services"))
    used, others, unmapped = set(), set(), set()
    for row in counted:
        if not row["is_mapped"]:
            unmapped |= {row["action"].partition(":")[0]} if row["own"] or row["others"] else set()
        elif row["own"]:
            used.add(row["action"])
        elif row["others"]:
            others.add(row["action"])
    start = datetime.combine(since, time(), UTC)
    accessed, reported_at = _accessed(identity)
    return Evidence(
        since=start,
        used=frozenset(used),
        for_services=frozenset(others),
        unmapped=frozenset(unmapped),
        accessed={service: at for (service, action), at in accessed.items() if not action},
        accessed_actions=frozenset(action for (_, action), at in accessed.items() if action and at and at >= start),
        reported_at=reported_at,
    )


def _accessed(identity: Identity) -> tuple[dict[tuple[str, str], datetime | None], datetime | None]:
    """AWS's own report, and when it was read, if for every principal of the identity there is one that still tells of
    it: read lately, or nothing was done since. Otherwise nothing is known from it."""
    principals = identity.principals.present().filter(kind__in=CALLERS)
    lately = Q(access_report__read_at__gte=timezone.now() - REPORT_LASTS)
    idle = Q(access_report__read_at__isnull=False, access_report__used_at=F("last_used_at"))
    if principals.exclude(pk__in=principals.filter(lately | idle)).exists():
        return {}, None
    rows = LastAccess.objects.filter(principal__in=principals).values_list("service", "action")
    accessed = {(service, action): at for service, action, at in rows.annotate(latest=Max("last_at"))}
    return accessed, principals.aggregate(read_at=Min("access_report__read_at"))["read_at"]


def report(identity: Identity) -> AccessReport | None:
    """The latest reading of AWS's own report for one of its principals."""
    return AccessReport.objects.filter(principal__identity=identity).order_by("-tried_at").first()


def against(identity: Identity, known: Evidence) -> Against:
    """What the policies of an identity allow at most, service by service, and how much of that was used."""
    documents = [one["document"] for held in policies_of(identity) for one in held.entitlement.documents]
    allowed, broken = rightsizing.allowed_by(documents)
    actions = catalogue()
    used = actions.select(known.used) & allowed
    called = {action.partition(":")[0] for action in known.used} | known.unmapped
    services = [
        Service(
            name=name,
            allowed=(allowed & (mine := actions.expand(f"{name}:*"))).bit_count(),
            used=(used & mine).bit_count(),
            is_called=name in called,
            last_at=known.accessed.get(name),
            is_reported=name in known.accessed,
        )
        for name in actions.services(allowed)
    ]
    return Against(allowed.bit_count(), used.bit_count(), tuple(services), broken)


def policies_of(identity: Identity) -> list[Assignment]:
    """The policies attached to an identity's principals themselves, those of Gatehouse left out. What comes through a
    group is the group's."""
    held = Assignment.objects.open().strangers_only().filter(principal__identity=identity)
    held = held.filter(entitlement__kind__in=POLICIES)
    return list(held.select_related("entitlement", "principal").order_by("entitlement__name", "pk"))


# ---- a smaller policy


@dataclass(frozen=True)
class Proposal:
    """A smaller document for one policy of an identity, or why there is none."""

    name: str
    entitlement: Entitlement
    smaller: Smaller | None
    problem: str = ""
    others: int = 0  # who hold the same policy beside this identity

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before taking it over."""
        if self.smaller is None:
            return ()
        shared = self.smaller.is_smaller and self.others
        return (*((_shared(self.others),) if shared else ()), *self.smaller.notes)

    @property
    def is_aws_owned(self) -> bool:
        """AWS's own policy cannot be changed: a policy of one's own takes its place."""
        return bool(self.entitlement.attributes.get("is_aws_owned"))


@dataclass(frozen=True)
class Proposals:
    """Everything proposed for one identity, and the window that it rests on."""

    coverage: Coverage
    proposals: list[Proposal] = field(default_factory=list)

    @property
    def removed(self) -> int:
        return sum(len(one.smaller.removed) for one in self.proposals if one.smaller)


def propose(identity: Identity) -> Proposals:
    """Smaller policies from what was used. None from a window that is too short or has gaps: `coverage.why_not` says so."""
    covered = coverage(identity)
    if not covered.is_enough:
        return Proposals(covered)
    known, held_here = evidence(identity, covered.since), policies_of(identity)
    others, inline = _others(identity, held_here), _inline(held_here)
    return Proposals(
        covered,
        [
            _propose(held, document, known, others.get(held.entitlement_id, 0), inline[held.principal_id])
            for held in held_here
            for document in held.entitlement.documents
        ],
    )


def _propose(held: Assignment, document: dict[str, Any], known: Evidence, others: int, inline: int) -> Proposal:
    name, text = document["name"], document["document"]
    holder = "role" if held.principal.kind == Principal.Kind.IAM_ROLE else "user"
    holder = holder if held.entitlement.kind == Entitlement.Kind.IAM_INLINE_POLICY else ""
    try:
        smaller = rightsizing.smaller(text, known, inline_of=holder, beside=inline - rightsizing.size(text))
        return Proposal(name, held.entitlement, smaller, others=others)
    except MalformedPolicy as error:
        return Proposal(name, held.entitlement, None, str(error))


def _inline(held: Iterable[Assignment]) -> Counter[int]:
    """By principal, how many characters its inline policies have: IAM limits them together."""
    found = Counter[int]()
    for one in held:
        if one.entitlement.kind == Entitlement.Kind.IAM_INLINE_POLICY:
            found[one.principal_id] += sum(rightsizing.size(each["document"]) for each in one.entitlement.documents)
    return found


def _others(identity: Identity, held: Sequence[Assignment]) -> dict[int, int]:
    """By entitlement, how many principals hold it that are not this identity's: what it does says nothing of their
    need."""
    rows = Assignment.objects.open().filter(entitlement__in=[one.entitlement_id for one in held])
    rows = rows.exclude(principal__in=identity.principals.all())
    return dict(rows.order_by().values_list("entitlement").annotate(Count("principal", distinct=True)))


def _shared(others: int) -> str:
    who = "One other holds" if others == 1 else f"{others:,} others hold"
    return f"{who} this policy too, and what they do was not looked at. Make one for this identity alone."


def has_usage(identity: Identity) -> bool:
    """Whether there is anything to know about its use: it is a role or an IAM user somewhere."""
    return identity.principals.filter(kind__in=CALLERS).exists()
