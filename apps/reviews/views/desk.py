"""What a reviewer sees of one item: the queue around it, what it allows, by which path, and what remains if it goes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Any

from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils.dateparse import parse_datetime

from apps.core import paging
from apps.grants import services as grants
from apps.inventory.models import Assignment, Entitlement, Identity, Path
from apps.inventory.models.holders import Classification
from apps.reviews.models import Campaign, Choice, ReviewItem
from apps.reviews.models.items import ReviewItemQuerySet
from apps.users.models import User

BEFORE, AFTER = 12, 40  # items of the queue around the one that is shown
MOST_PATHS = 6

LOGIN_ICONS = {"idc_user": "user", "idc_group": "users-group", "iam_group": "users-group", "iam_root": "crown"}
HUMAN_KIND = {"human": "user", "machine": "robot", "group": "users-group"}


@dataclass(frozen=True)
class Progress:
    """How far a reviewer is with a campaign."""

    total: int
    decided: int
    keep: int
    revoke: int
    signed: int

    @property
    def left(self) -> int:
        return self.total - self.decided

    @property
    def unsigned(self) -> int:
        return self.total - self.signed

    @property
    def is_ready(self) -> bool:
        """Everything is decided, and something is not signed yet."""
        return not self.left and bool(self.unsigned)


def progress_of(mine: ReviewItemQuerySet) -> Progress:
    """One query, however many items there are."""
    return Progress(
        **mine.aggregate(
            total=Count("pk"),
            decided=Count("pk", filter=~Q(choice=Choice.UNDECIDED)),
            keep=Count("pk", filter=Q(choice=Choice.KEEP)),
            revoke=Count("pk", filter=Q(choice=Choice.REVOKE)),
            signed=Count("pk", filter=Q(sign_off__isnull=False)),
        )
    )


@dataclass
class Group:
    """One holder's part of the queue. The counts are of all their items, shown or not."""

    name: str
    icon: str
    items: list[ReviewItem]
    total: int = 0
    done: int = 0


@dataclass
class Desk:
    """One item of a reviewer's queue and what lies around it. `rows` is the queue as filtered."""

    campaign: Campaign
    user: User
    rows: ReviewItemQuerySet
    item: ReviewItem
    progress: Progress
    before: int = 0
    after: int = 0
    place: int = 0
    total: int = 0
    groups: list[Group] = field(default_factory=list)
    previous: ReviewItem | None = None
    following: ReviewItem | None = None

    first_shown: ReviewItem | None = None
    last_shown: ReviewItem | None = None

    def __post_init__(self) -> None:
        rows = self.rows.select_related("grant", "assignment")
        earlier = list(rows.filter(pk__lt=self.item.pk).order_by("-pk")[:BEFORE])
        later = list(rows.filter(pk__gt=self.item.pk).order_by("pk")[:AFTER])
        counted = self.rows.aggregate(
            before=Count("pk", filter=Q(pk__lt=self.item.pk)), after=Count("pk", filter=Q(pk__gt=self.item.pk))
        )
        self.previous = earlier[0] if earlier else None
        self.following = later[0] if later else None
        self.place, self.total = counted["before"] + 1, counted["before"] + 1 + counted["after"]
        self.before, self.after = counted["before"] - len(earlier), counted["after"] - len(later)
        self.first_shown, self.last_shown = (earlier or [self.item])[-1], (later or [self.item])[-1]
        self.groups = self._grouped([*reversed(earlier), self.item, *later])

    def _grouped(self, items: list[ReviewItem]) -> list[Group]:
        groups = [
            Group(rows[0].holder_name, HUMAN_KIND[rows[0].frozen["holder_kind"]], rows)
            for rows in (list(found) for _, found in groupby(items, key=_holder))
        ]
        holder = Coalesce(F("identity"), -F("principal"))
        shown = {_holder(item) for item in items}
        counted = self.rows.annotate(holder=holder).filter(holder__in=shown).values("holder").order_by("holder")
        totals = {
            row["holder"]: (row["total"], row["done"])
            for row in counted.annotate(total=Count("pk"), done=Count("pk", filter=~Q(choice=Choice.UNDECIDED)))
        }
        for group in groups:
            group.total, group.done = totals.get(_holder(group.items[0]), (len(group.items), 0))
        return groups

    # ---- the item itself

    @cached_property
    def facts(self) -> dict[str, Any]:
        return dict(self.item.frozen)

    @property
    def who(self) -> str:
        """The holder with what they are, as the beginning of a sentence."""
        facts = self.facts
        if facts["holder_kind"] == "group":
            return f"The group {facts['holder']} holds"
        what = facts["title"] or dict(Classification.choices).get(facts["classification"] or "", "")
        verb = "is a member of" if self.item.kind == ReviewItem.Kind.MEMBERSHIP else "holds"
        return f"{facts['holder']}, {what}, {verb}" if what else f"{facts['holder']} {verb}"

    @property
    def since(self) -> datetime | None:
        return parse_datetime(self.facts["since"] or "")

    @property
    def last_used_at(self) -> datetime | None:
        return parse_datetime(self.facts["last_used_at"] or "")

    @property
    def statement(self) -> str:
        """The policy statement that causes its privilege, for reading."""
        found = self.facts["privilege_statement"]
        return json.dumps(found, indent=2, ensure_ascii=False) if found else ""

    @property
    def brings(self) -> list[dict[str, Any]]:
        return self.facts["brings"][:8]

    @property
    def brings_more(self) -> int:
        return self.facts["brings_total"] - len(self.brings)

    @property
    def steps(self) -> list[tuple[str, str]]:
        """The access path from the holder to what it reaches."""
        facts = self.facts
        steps = [(HUMAN_KIND[facts["holder_kind"]], facts["holder"])]
        if facts["holder_kind"] == "machine" and facts["login"] != facts["holder"]:
            steps.append((LOGIN_ICONS.get(facts["login_kind"], "key"), facts["login"]))
        steps.append(("users-group" if self.item.kind == ReviewItem.Kind.MEMBERSHIP else "key", facts["entitlement"]))
        if facts["account"]:
            steps.append(("server", facts["account"]))
        elif self.item.kind == ReviewItem.Kind.MEMBERSHIP:
            steps += _accounts(facts["brings"])
        return steps

    # ---- what would be, read now

    @cached_property
    def live(self) -> Assignment:
        return (
            Assignment.objects.with_names()
            .select_related("connection", "entitlement__owner")
            .get(pk=self.item.assignment_id)
        )

    @cached_property
    def _paths(self) -> list[Path]:
        identity = self.item.identity_id
        return Assignment.objects.paths_of(Identity(pk=identity)) if identity else []

    @cached_property
    def remaining(self) -> list[Path]:
        """Other ways into the same accounts that stay when this goes."""
        gone = [path for path in self._paths if path.removable.pk == self.item.assignment_id]
        accounts = {path.assignment.entitlement.resource_id for path in gone if not path.is_membership}
        return [
            path
            for path in self._paths
            if path.removable.pk != self.item.assignment_id
            and not path.is_membership
            and path.assignment.entitlement.resource_id in accounts
        ]

    @property
    def remaining_shown(self) -> list[Path]:
        return self.remaining[:MOST_PATHS]

    @property
    def remaining_more(self) -> int:
        return max(0, len(self.remaining) - MOST_PATHS)

    @cached_property
    def members(self) -> int | None:
        """For what a group holds: how many would lose it."""
        if self.item.kind != ReviewItem.Kind.GROUP:
            return None
        return Assignment.objects.open().filter(entitlement__group=self.item.principal_id).count()

    @cached_property
    def peers(self) -> tuple[int, int] | None:
        """Of how many people beside them, how many hold the same: (with, all)."""
        if self.facts["holder_kind"] != "human" or not self.item.identity_id:
            return None
        identity = self.item.identity
        beside = Identity.objects.peers_of(identity) if identity else Identity.objects.none()
        entitlement = Entitlement(pk=self.item.entitlement_id)
        held = Assignment.objects.holders_of(entitlement).filter(principal__identity__in=beside)
        every = beside.count()
        return (held.values("principal__identity").distinct().count(), every) if every else None

    @cached_property
    def we_remove(self) -> bool:
        return grants.can_remove(self.live)

    @cached_property
    def task_owner(self) -> Identity | None:
        """Who must remove by hand what we cannot."""
        return grants.owner_of(self.live)

    @property
    def sessions_for(self) -> Any:
        return self.live.entitlement.session_for


def _holder(item: ReviewItem) -> int:
    return item.identity_id or -item.principal_id


def _accounts(brought: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    names = list(dict.fromkeys(row["account"] for row in brought if row["account"]))
    return [("server", names[0] if len(names) == 1 else f"{len(names)} accounts")] if names else []


def filtered(mine: ReviewItemQuerySet, params: Any) -> ReviewItemQuerySet:
    """The queue as somebody wants to see it: by name, only what is left, only what is privileged."""
    query = paging.searched(params)
    if query:
        mine = mine.filter(Q(holder_name__icontains=query) | Q(holding_name__icontains=query))
    shown = params.get("show", "")
    if shown == "left":
        return mine.undecided()
    if shown == "privileged":
        return mine.privileged()
    return mine


def first_of(rows: QuerySet[ReviewItem]) -> ReviewItem | None:
    """Where to begin: the first undecided one, or else the first."""
    undecided = rows.filter(choice=Choice.UNDECIDED).order_by("pk").first()
    return undecided or rows.order_by("pk").first()


def after(rows: QuerySet[ReviewItem], pk: int) -> ReviewItem | None:
    """Where to go after deciding about `pk`: the next undecided one, from the start again at the end."""
    undecided = rows.filter(choice=Choice.UNDECIDED).order_by("pk")
    return undecided.filter(pk__gt=pk).first() or undecided.first()
