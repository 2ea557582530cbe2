"""Writing what one scope holds, in one transaction: upsert what changed, open and close periods, end what is gone.

Nothing is ended when the scope was not read completely, or when so much would end at once that it is more likely a
broken reading than the truth; an administrator then sees what would end and decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

from apps.connectors.base import ControlTotal, CredentialRecord, EntitlementRecord, PrincipalRecord, Scan
from apps.inventory.models import Connection, Credential, Entitlement, Identity, Principal, Resource, ScopeScan
from apps.inventory.models.holders import IdentityQuerySet
from apps.inventory.sync import assignments, groups, people, said
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.upserts import Changes, Known, end, known, upsert

IN_DIRECTORY = (Entitlement.Kind.PERMISSION_SET, Entitlement.Kind.IDC_GROUP)
IN_ACCOUNT = (
    Entitlement.Kind.IAM_GROUP,
    Entitlement.Kind.IAM_POLICY,
    Entitlement.Kind.IAM_INLINE_POLICY,
    Entitlement.Kind.TIER_ROLE,
)
# AWS does not say who is in these, so what a scan does not show there is not gone: grants read each one back.
HELD_UNSEEN = (Entitlement.Kind.TIER_ROLE,)
MOST_SENTENCES = 100

R = TypeVar("R", PrincipalRecord, EntitlementRecord, CredentialRecord)
Confirmed = Mapping[str, Collection[int]]  # rows that a person said may end: {"assignments": ids, "identities": ids}


@dataclass(frozen=True)
class Scope:
    """The directory (no resource) or one account, as read from `read_from`; what begins and ends does so `at`."""

    connection: Connection
    resource: Resource | None
    read_from: datetime
    at: datetime
    known_accounts: Collection[str] = ()

    @property
    def entitlements(self) -> QuerySet[Entitlement]:
        here = Q(kind__in=IN_ACCOUNT, resource=self.resource) if self.resource else Q(kind__in=IN_DIRECTORY)
        return Entitlement.objects.filter(here, connection=self.connection)

    @property
    def principals(self) -> QuerySet[Principal]:
        return Principal.objects.filter(connection=self.connection, resource=self.resource)

    @property
    def identities(self) -> IdentityQuerySet:
        mine = Identity.objects.filter(connection=self.connection)
        if self.resource is None:
            return mine.human()
        return mine.machine().filter(external_id__in=self.principals.values("external_id"))


@dataclass
class Outcome:
    """What became of one scope."""

    state: str
    changes: Changes = field(default_factory=Changes)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    held: dict[str, list[int]] = field(default_factory=dict)
    digest: str = ""

    @property
    def would_end(self) -> int:
        return len(self.held.get("assignments", ()))


def write(scope: Scope, scan: Scan, confirmed: Confirmed) -> Outcome:
    """Write one scope. Called inside a transaction; `confirmed` rows may end however many they are."""
    return _Writer(scope, scan, confirmed).write()


class _Writer:
    def __init__(self, scope: Scope, scan: Scan, confirmed: Confirmed) -> None:
        self.scope, self.scan, self.confirmed = scope, scan, confirmed
        self.outcome = Outcome(ScopeScan.State.COMPLETE, problems=list(scan.problems), notes=list(scan.notes))
        self.changes = self.outcome.changes
        self.gone: dict[type[Model], list[int]] = {}
        self.marks: list[str] = []

    def write(self) -> Outcome:
        self.write_principals()
        self.write_identities()
        self.write_entitlements()
        self.write_credentials()
        lost = self.write_assignments()
        outcome = self.outcome
        outcome.problems += [_disagreement(total) for total in self.scan.totals if not total.agrees]
        if outcome.problems:
            outcome.state = ScopeScan.State.INCOMPLETE
        elif self.is_suspicious(lost):
            outcome.state = ScopeScan.State.HELD
            outcome.held = {"assignments": lost.pks, "identities": self.gone[Identity]}
        else:
            self.end_what_is_gone(lost.pks)
        groups.rate(
            self.scope.connection,
            self.scope.resource,
            is_complete=outcome.state == ScopeScan.State.COMPLETE,
            changes=self.changes,
        )
        self.point()
        outcome.digest = hashlib.sha256("".join(sorted(self.marks)).encode()).hexdigest()
        outcome.problems, outcome.notes = _few(outcome.problems), _few(outcome.notes)
        return outcome

    # ---- what is there

    def write_principals(self) -> None:
        resource_id = self.scope.resource.pk if self.scope.resource else None
        records = self.kept(self.scan.principals, Principal, Principal.Kind.values)
        rows = {record.external_id: as_rows.principal(record, resource_id) for record in records}
        before = known(self.scope.principals, "external_id")
        reborn = self.reborn(rows)
        self.put(Principal, before, rows, keys=["external_id"], fixed={"connection_id": self.scope.connection.pk})
        assignments.end_of_reborn(reborn, self.scope.read_from, self.changes)

    def reborn(self, rows: Mapping[str, as_rows.Values]) -> list[int]:
        """Principals that carry a name we know and another unique id."""
        found = self.scope.principals.exclude(attributes__unique_id=None)
        return [
            pk
            for pk, key, unique_id in found.values_list("pk", "external_id", "attributes__unique_id")
            if key in rows and rows[key]["attributes"].get("unique_id") != unique_id
        ]

    def write_identities(self) -> None:
        if self.scope.resource is None:
            said.hold(self.scope.connection)
        before = known(self.scope.identities, "external_id")
        records = self.kept(self.scan.principals, Principal, Principal.Kind.values, told=False)
        rows = (
            people.machines(
                records, self.scan.credentials, self.scope.known_accounts, people.logins(self.scope.principals)
            )
            if self.scope.resource
            else people.humans(records, before, self.scope.at)
        )
        if self.scope.resource is None:
            said.overlay(self.scope.connection, rows, before, self.scope.at)
        self.put(Identity, before, rows, keys=["external_id"], fixed={"connection_id": self.scope.connection.pk})
        people.link(self.scope.principals)

    def write_entitlements(self) -> None:
        records = self.kept(self.scan.entitlements, Entitlement, IN_ACCOUNT if self.scope.resource else IN_DIRECTORY)
        group_ids = dict(self.scope.principals.filter(kind__in=GROUP_KINDS).values_list("external_id", "pk"))
        resource_ids = dict(Resource.objects.filter(connection=self.scope.connection).values_list("external_id", "pk"))
        rows = {}
        for record in records:
            if record.account_id and record.account_id not in resource_ids:
                self.outcome.problems.append(f"{record.name} is in account {record.account_id}, which was not listed.")
            elif record.makes_external_id and record.makes_external_id not in group_ids:
                self.outcome.problems.append(f"{record.name} is a membership of a group that was not listed.")
            else:
                rows[record.external_id] = as_rows.entitlement(
                    record, resource_ids.get(record.account_id), group_ids.get(record.makes_external_id)
                )
        before = known(self.scope.entitlements, "external_id")
        self.put(Entitlement, before, rows, keys=["external_id"], fixed={"connection_id": self.scope.connection.pk})

    def write_credentials(self) -> None:
        if self.scope.resource is None:
            return
        ids = dict(self.scope.principals.values_list("external_id", "pk"))
        rows = {
            (ids[record.principal_external_id], record.kind, record.external_id): as_rows.credential(record)
            for record in self.kept(self.scan.credentials, Credential, Credential.Kind.values)
            if record.principal_external_id in ids
        }
        before = known(
            Credential.objects.filter(principal__in=self.scope.principals), "principal_id", "kind", "external_id"
        )
        self.put(Credential, before, rows, keys=["principal_id", "kind", "external_id"], fixed={})

    def write_assignments(self) -> assignments.Gone:
        strangers = assignments.stage(
            self.scope.connection,
            self.scan.assignments,
            self.scope.entitlements.exclude(kind__in=HELD_UNSEEN).values("id"),
        )
        if strangers:
            self.outcome.notes.append(
                f"{strangers} assignments name somebody or something that is not listed (any more). They are not shown."
            )
        lost = assignments.gone(self.scope.read_from, self.scope.connection.drop_percent)
        assignments.begin(self.scope.connection, self.scope.read_from, self.scope.at, self.changes)
        self.marks += [f"{pair.principal_external_id} {pair.entitlement_external_id}" for pair in self.scan.assignments]
        return lost

    def point(self) -> None:
        if self.scope.resource:
            people.machine_owners(self.scope.resource, self.scan.principals, self.changes)
        else:
            people.managers(self.scope.connection, self.scan.principals, self.changes)
            people.resource_owners(self.scope.connection, self.changes)

    # ---- what is not there any more

    def is_suspicious(self, lost: assignments.Gone) -> bool:
        """Too much would end at once, and no person has said that exactly these rows may."""
        leaving = self.gone[Identity] if self.scope.resource is None else []
        people_now = self.scope.identities.present().count() if leaving else 0
        is_exodus = assignments.is_drop(len(leaving), people_now, self.scope.connection.drop_percent)
        return (lost.is_suspicious and not {*lost.pks} <= {*self.confirmed.get("assignments", ())}) or (
            is_exodus and not {*leaving} <= {*self.confirmed.get("identities", ())}
        )

    def end_what_is_gone(self, lost: Iterable[int]) -> None:
        assignments.end_all(lost, self.scope.at, self.changes)
        for model, pks in self.gone.items():
            end(model, pks, self.scope.at, self.changes)

    # ---- shared

    def put(
        self,
        model: type[Model],
        before: Mapping[Any, Known],
        rows: Mapping[Any, as_rows.Values],
        *,
        keys: list[str],
        fixed: Mapping[str, object],
    ) -> None:
        digests = {key: as_rows.digest(values) for key, values in rows.items()}
        upsert(model, before, rows, digests, keys=keys, fixed=fixed, changes=self.changes)
        self.gone[model] = [old.pk for key, old in before.items() if key not in rows and old.ended_at is None]
        self.marks += [f"{model.__name__} {key} {mark}" for key, mark in digests.items()]

    def kept(self, records: Iterable[R], model: type[Model], kinds: Collection[str], told: bool = True) -> list[R]:
        """Records we can store. What we cannot makes the scan incomplete, so that nothing ends because of it."""
        fine: list[R] = []
        refused = 0
        for record in records:
            if record.kind in kinds and as_rows.fits(model, record.external_id):
                fine.append(record)
            else:
                refused += 1
        if refused and told:
            name = model._meta.verbose_name_plural
            self.outcome.problems.append(f"{refused} {name} have a kind or an id that Gatehouse cannot store.")
        return fine


GROUP_KINDS = (Principal.Kind.IDC_GROUP, Principal.Kind.IAM_GROUP)


def _disagreement(total: ControlTotal) -> str:
    return (
        f"{total.name}: {total.read:,} were read, but {total.expected:,} are counted. Something changed or is missing."
    )


def _few(sentences: list[str]) -> list[str]:
    shown = [as_rows.text(sentence, 500) for sentence in dict.fromkeys(sentences)]
    if len(shown) <= MOST_SENTENCES:
        return shown
    return [*shown[:MOST_SENTENCES], f"And {len(shown) - MOST_SENTENCES} more like these."]
