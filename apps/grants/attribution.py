"""Whose grant a call belongs to. Reads the events of audit trails (`inventory.trails`) and keeps sums, never events.

The surest sign first (aws.md §4): the id of a role that was made for one grant; the access key of a session that the broker
made, or that was opened from such a session; the grant's name in the tag of a session; an Identity Center session in the
account, of the permission set and the person, that began while the grant held. That last one is certain only where the
person had no other way to the same permission set then. A dated policy changes what a login may do and not who it is, so
what that login did meanwhile is merely possible.

Calls are attributed until an hour after the end: sessions can live on, and what they are refused is worth knowing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection as database
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from apps.connectors.trail import Outcome, TrailEvent
from apps.grants.models import Grant, Minting
from apps.grants.models.activity import Strength, TracedSession
from apps.inventory.models import Assignment, Connection, Entitlement, Principal

AFTERMATH = timedelta(hours=1)
TAG = "jit-grant"  # of every session that the broker makes (connectors/aws/sts_broker.py)

# Only Identity Center can make roles under this path; the Region stands in it where it is not us-east-1.
_RESERVED = re.compile(
    r":role/aws-reserved/sso\.amazonaws\.com/(?:[\w-]+/)?AWSReservedSSO_(?P<name>[\w+=,.@-]{1,32})_[0-9a-f]{16}$",
    re.ASCII,
)

_ADD = """
    INSERT INTO grants_activity AS a
        (grant_id, action, strength, is_mapped, done, denied, failed, by_services, first_at, last_at)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bool[], %s::int[], %s::int[], %s::int[], %s::int[],
        %s::timestamptz[], %s::timestamptz[])
    ON CONFLICT (grant_id, action, strength) DO UPDATE SET
        done = a.done + excluded.done, denied = a.denied + excluded.denied, failed = a.failed + excluded.failed,
        by_services = a.by_services + excluded.by_services,
        first_at = LEAST(a.first_at, excluded.first_at), last_at = GREATEST(a.last_at, excluded.last_at)
"""

Found = tuple[Grant, Strength]
Place = tuple[str, str, str]  # account, permission set, person


@dataclass(slots=True)
class _Sum:
    is_mapped: bool
    first_at: datetime
    last_at: datetime
    done: int = 0
    denied: int = 0
    failed: int = 0
    by_services: int = 0

    def add(self, event: TrailEvent) -> None:
        self.first_at, self.last_at = min(self.first_at, event.at), max(self.last_at, event.at)
        name = event.outcome.value if event.is_own else "by_services"
        setattr(self, name, getattr(self, name) + 1)


def read(connection: Connection, events: Sequence[TrailEvent]) -> None:
    """Attribute a batch. A constant number of statements, whatever it holds."""
    known = _Known(connection, events)
    sums: dict[tuple[int, str, Strength], _Sum] = {}
    for event in sorted(events, key=lambda one: one.at):  # a session is used after it was opened
        found = known.grant_of(event)
        if found is None:
            continue
        grant, strength = found
        if event.made_access_key_id and event.outcome == Outcome.DONE:
            known.learn(event, grant, strength)
        action = event.action or f"{event.service}:{event.name}"
        key = (grant.pk, action[:200], strength)
        sums.setdefault(key, _Sum(bool(event.action), event.at, event.at)).add(event)
    known.save()
    if sums:
        _add(sums)


def _add(sums: dict[tuple[int, str, Strength], _Sum]) -> None:
    rows = [
        (*key, one.is_mapped, one.done, one.denied, one.failed, one.by_services, one.first_at, one.last_at)
        for key, one in sorted(sums.items())
    ]
    with database.cursor() as cursor:
        cursor.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])


class _Known:
    """What is known of the grants that a batch could be about."""

    def __init__(self, connection: Connection, events: Sequence[TrailEvent]) -> None:
        self.connection = connection
        self.learned: dict[str, TracedSession] = {}
        first = min((min(one.at, one.session_began_at or one.at) for one in events), default=timezone.now())
        last = max((one.at for one in events), default=first)
        self.grants = Grant.objects.filter(
            Q(revoked_at=None) | Q(revoked_at__gte=first - AFTERMATH), connection=connection, claimed_at__lte=last
        ).defer("entitlement__documents", "entitlement__privilege_statement")
        self.by_role = {
            grant.made_as: grant
            for grant in self.grants.filter(made_as__in={event.issuer_id for event in events if event.issuer_id})
        }
        self.by_reference = {
            grant.reference: grant
            for grant in self.grants.filter(
                reference__in={event.tags[TAG][:16] for event in events if event.tags.get(TAG)}
            )
        }
        self.by_key = self._keys({event.access_key_id for event in events if event.access_key_id})
        self.in_center = self._in_center(events)
        self.by_login = self._by_login(events)

    def grant_of(self, event: TrailEvent) -> Found | None:
        """The grant that a call belongs to, by the surest sign."""
        signs: tuple[Found | None, ...] = (
            self._exact(self.by_role.get(event.issuer_id)),
            self.by_key.get(event.access_key_id),
            self._tagged(event),
            self._of_center(event),
            self._of_login(event),
        )
        return next((found for found in signs if found and _covers(found[0], event.at)), None)

    def learn(self, event: TrailEvent, grant: Grant, strength: Strength) -> None:
        """A session was opened with one that belongs to a grant."""
        if event.made_access_key_id not in self.by_key:
            self.by_key[event.made_access_key_id] = (grant, strength)
            self.learned[event.made_access_key_id] = TracedSession(
                grant=grant, access_key_id=event.made_access_key_id[:128], strength=strength, began_at=event.at
            )

    def save(self) -> None:
        TracedSession.objects.bulk_create(self.learned.values(), ignore_conflicts=True)

    # ---- the signs

    @staticmethod
    def _exact(grant: Grant | None) -> Found | None:
        return (grant, Strength.EXACT) if grant else None

    def _tagged(self, event: TrailEvent) -> Found | None:
        """The broker tags what it opens. Anybody who may tag sessions could write the same, so only our broker's word is
        certain."""
        grant = self.by_reference.get(event.tags.get(TAG, ""))
        if grant is None:
            return None
        is_ours = event.issuer_arn.partition(":role/")[2] == str(self.connection.config["broker_role"])
        return grant, Strength.EXACT if is_ours else Strength.PROBABLE

    def _keys(self, keys: set[str]) -> dict[str, Found]:
        of_ours = Q(grant__connection=self.connection, access_key_id__in=keys)
        traced = TracedSession.objects.filter(of_ours).select_related("grant")
        minted = Minting.objects.filter(of_ours).select_related("grant")
        return {
            **{one.access_key_id: (one.grant, Strength(one.strength)) for one in traced},
            **{one.access_key_id: (one.grant, Strength.EXACT) for one in minted},
        }

    # ---- Identity Center

    def _in_center(self, events: Sequence[TrailEvent]) -> dict[Place, list[tuple[Grant, bool]]]:
        """(account, permission set, person) → grants for it, each with whether another way to it was open too."""
        wanted = {place for event in events for place in [_place(event)] if place}
        if not wanted:
            return {}
        grants = list(
            self.grants.filter(
                entitlement__kind=Entitlement.Kind.PERMISSION_SET,
                entitlement__resource__external_id__in={account for account, _, _ in wanted},
                entitlement__name__in={name for _, name, _ in wanted},
                principal__kind=Principal.Kind.IDC_USER,
            )
            .alias(person=Lower("principal__name"))
            .filter(person__in={person for _, _, person in wanted})
            .select_related("entitlement__resource", "principal")
        )
        others = _other_ways(grants)
        found: dict[Place, list[tuple[Grant, bool]]] = {}
        for grant in grants:
            account = grant.entitlement.resource.external_id if grant.entitlement.resource else ""
            place = (account, grant.entitlement.name, grant.principal.name.casefold())
            found.setdefault(place, []).append((grant, grant.pk in others))
        return found

    def _of_center(self, event: TrailEvent) -> Found | None:
        place = _place(event)
        at = event.session_began_at or event.at
        fit = [(grant, shared) for grant, shared in self.in_center.get(place or ("", "", ""), ()) if _held(grant, at)]
        if not fit:
            return None
        grant, shared = max(fit, key=lambda one: one[0].pk)
        is_certain = len(fit) == 1 and not shared and event.session_began_at is not None
        return grant, Strength.EXACT if is_certain else Strength.PROBABLE

    # ---- dated policies

    def _by_login(self, events: Sequence[TrailEvent]) -> dict[str, list[Grant]]:
        arns = {event.issuer_arn or event.actor_arn for event in events} - {""}
        grants = self.grants.filter(provisioner="iam_timeboxed_policy", principal__external_id__in=arns)
        found: dict[str, list[Grant]] = {}
        for grant in grants.select_related("principal"):
            found.setdefault(grant.principal.external_id, []).append(grant)
        return found

    def _of_login(self, event: TrailEvent) -> Found | None:
        grants = [
            grant for grant in self.by_login.get(event.issuer_arn or event.actor_arn, ()) if _held(grant, event.at)
        ]
        return (max(grants, key=lambda grant: grant.pk), Strength.POSSIBLE) if grants else None


def _place(event: TrailEvent) -> Place | None:
    """Account, permission set and person of an Identity Center session."""
    found = _RESERVED.search(event.issuer_arn)
    if found is None or not event.session_name:
        return None
    return event.account_id, found["name"], event.session_name.casefold()


def _other_ways(grants: Iterable[Grant]) -> set[int]:
    """Grants whose holder could open the same permission set without them while they held: standing, or by a group."""
    rows = list(grants)
    people = {grant.principal_id for grant in rows}
    standing, by_group = Q(principal__in=people, is_standing=True), Q(principal__kind=Principal.Kind.IDC_GROUP)
    ways = Assignment.objects.filter(standing | by_group, entitlement__in={grant.entitlement_id for grant in rows})
    memberships = Assignment.objects.filter(principal__in=people, entitlement__group__in=ways.values("principal"))
    by_entitlement: dict[int, list[Assignment]] = {}
    for way in ways:
        by_entitlement.setdefault(way.entitlement_id, []).append(way)
    groups: dict[int, list[Assignment]] = {}
    for one in memberships.select_related("entitlement"):
        groups.setdefault(one.principal_id, []).append(one)
    return {
        grant.pk
        for grant in rows
        for way in by_entitlement.get(grant.entitlement_id, ())
        if _overlaps(way, grant)
        and (
            way.principal_id == grant.principal_id
            or any(
                one.entitlement.group_id == way.principal_id and _overlaps(one, grant)
                for one in groups.get(grant.principal_id, ())
            )
        )
    }


def _overlaps(row: Assignment, grant: Grant) -> bool:
    began, ended = row.period.lower, row.period.upper
    return (began is None or began <= _end(grant)) and (ended is None or ended > grant.claimed_at)


def _held(grant: Grant, at: datetime) -> bool:
    """Whether a session could begin by it at that instant."""
    return grant.claimed_at is not None and grant.claimed_at <= at < _end(grant)


def _covers(grant: Grant, at: datetime) -> bool:
    """Whether calls of that instant can still be its doing."""
    return grant.claimed_at is not None and grant.claimed_at <= at < _end(grant) + AFTERMATH


def _end(grant: Grant) -> datetime:
    """When it was over at the latest, as far as is known."""
    return grant.revoked_at or grant.ends_at or grant.not_after or timezone.now()
