"""Writing what one scope holds: upsert what changed as it comes in, then open and close periods and end what is gone.
An account comes in one part and is written in one transaction; the directory comes in many.

Nothing is ended when the scope was not read completely, or when so much would end at once that it is more likely a
broken reading than the truth; an administrator then sees what would end and decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

from apps.connectors.base import ControlTotal, CredentialRecord, EntitlementRecord, PrincipalRecord, Scan
from apps.inventory.models import Connection, Credential, Entitlement, Identity, Principal, Resource, ScopeScan
from apps.inventory.models.access import EntitlementQuerySet
from apps.inventory.models.holders import GROUPS, IdentityQuerySet
from apps.inventory.sync import assignments, groups, last_accessed, oddities, people, said, staging
from apps.inventory.sync import rows as as_rows
from apps.inventory.sync.oddities import Oddities
from apps.inventory.sync.upserts import Changes, Known, due, end, known, one_of, upsert

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

R = TypeVar("R", PrincipalRecord, EntitlementRecord)

# Rows that a person said may end: {"assignments": ids, "identities": ids, "accounts": ids}
Confirmed = Mapping[str, Collection[int]]


@dataclass(frozen=True)
class Scope:
    """The directory (no resource) or one account, as read from `read_from`."""

    connection: Connection
    resource: Resource | None
    read_from: datetime
    known_accounts: Collection[str] = ()
    resource_ids: Mapping[str, int] = field(default_factory=dict)  # of all accounts of the connection
    doubted: Collection[int] = ()  # accounts that are not listed any more, so many that nothing here ends because of it

    @cached_property
    def entitlements(self) -> EntitlementQuerySet:
        here = Q(kind__in=IN_ACCOUNT, resource=self.resource) if self.resource else Q(kind__in=IN_DIRECTORY)
        return Entitlement.objects.filter(here, connection=self.connection)

    @cached_property
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
    totals: list[ControlTotal] = field(default_factory=list)
    held: dict[str, list[int]] = field(default_factory=dict)
    digest: str = ""
    news: set[str] = field(default_factory=set)  # principals of an account that came, are back, or are not shown
    reborn: dict[str, str] = field(default_factory=dict)  # old unique id → the name by which somebody else is there now

    @property
    def would_end(self) -> int:
        return len(self.held.get("assignments", ()))


def write(scope: Scope, scan: Scan, at: datetime, confirmed: Confirmed) -> Outcome:
    """Write an account, which comes in one part and was read `at` this instant. Called inside a transaction."""
    writer = Writer(scope, confirmed)
    changes = writer.add(scan, at)
    outcome = writer.finish(at)
    outcome.changes.merge(changes)
    return outcome


class Writer:
    """Writes one scope as its parts come in, however large it is: rows are brought up to date part by part, who holds
    what is collected, and compared when all of it was read. Each method is called inside a transaction of its own or of
    the whole. `confirmed` rows may end however many they are."""

    def __init__(self, scope: Scope, confirmed: Confirmed) -> None:
        self.scope, self.confirmed = scope, confirmed
        self.outcome = Outcome(ScopeScan.State.COMPLETE)
        self.changes = Changes()
        self.odd = Oddities(is_counted=scope.resource is not None)  # the directory gives no totals
        self.gone: dict[type[Model], list[int]] = {}
        self.marks = 0
        self.parts = 0
        self.inside: Sequence[PrincipalRecord] = []  # of an account; the directory's are too many to keep
        self.faces: Mapping[str, people.Face] = {}  # the same
        self.elsewhere: set[str] = set()  # ids of what another account has; what is read here under them is nobody
        self.has_groups = scope.resource is None
        staging.begin()

    # ---- what is there

    def add(self, part: Scan, at: datetime) -> Changes:
        """Write one part, which came in `at` that instant. Returns what that changed."""
        self.parts += 1
        self.changes = Changes()
        self.outcome.totals += part.totals
        self.outcome.problems += part.problems
        self.outcome.notes += part.notes
        principals: Sequence[PrincipalRecord] = self.odd.kept(part.principals, Principal, Principal.Kind.values)
        credentials = self.odd.kept(part.credentials, Credential, Credential.Kind.values)
        self.odd.look_at_dates([*principals, *credentials], at)
        if self.scope.resource or principals:
            principals = self.write_principals(principals)
            self.write_identities(principals, credentials, at)
        if self.scope.resource or part.entitlements:
            self.write_entitlements(part.entitlements)
        if self.scope.resource:
            self.inside = principals
            self.write_credentials(credentials)
        elif principals:
            people.note_managers(principals)
        if part.assignments:
            self.marks += assignments.stage(part.assignments, without=self.elsewhere)
        return self.changes

    def write_principals(self, records: Sequence[PrincipalRecord]) -> Sequence[PrincipalRecord]:
        """Returns those that are this scope's."""
        resource_id = self.scope.resource.pk if self.scope.resource else None
        if self.scope.resource:
            self.faces = people.faces(self.scope.resource)
            before = {key: face.principal for key, face in self.faces.items()}
        else:
            before = self.known(self.scope.principals, [record.external_id for record in records])
        records = self.mine(Principal, before, records)
        rows = {record.external_id: as_rows.principal(record, resource_id) for record in records}
        digests = self.digests(Principal, rows)
        changed = [key for key in due(before, rows, digests) if key in before]
        reborn = self.reborn(changed, records) if changed else {}
        self.put(Principal, before, rows, digests)
        self.look_again(before, rows)
        if self.scope.resource:
            self.outcome.news = rows.keys() ^ {key for key, old in before.items() if old.ended_at is None}
        if reborn:
            self.outcome.reborn = dict(reborn.values())
            assignments.end_of_reborn(reborn, self.scope.read_from, self.changes)
            last_accessed.forget(reborn)
        return records

    def reborn(self, changed: Collection[str], records: Iterable[PrincipalRecord]) -> dict[int, tuple[str, str]]:
        """Principals that carry a name we know and another unique id: the old id, and the name."""
        found = one_of(self.scope.principals, changed).exclude(attributes__unique_id=None)
        now = {record.external_id: as_rows.plain(record.attributes.get("unique_id")) for record in records}
        return {
            pk: (unique_id, key)
            for pk, key, unique_id in found.values_list("pk", "external_id", "attributes__unique_id")
            if now[key] != unique_id
        }

    def write_identities(
        self, records: Sequence[PrincipalRecord], credentials: Sequence[CredentialRecord], at: datetime
    ) -> None:
        if self.scope.resource:
            before = {key: face.machine for key, face in self.faces.items() if face.machine}
            logins = {key for key, face in self.faces.items() if face.is_login}
            rows = people.machines(records, credentials, self.scope.known_accounts, logins)
        else:
            said.hold(self.scope.connection)
            before = self.known(self.scope.identities, [record.external_id for record in records])
            rows = people.humans(records, before, at)
            said.overlay(self.scope.connection, rows, before, at)
        self.put(Identity, before, rows, self.digests(Identity, rows))
        self.look_again(before, rows)

    def look_again(self, before: Mapping[str, Known], rows: Mapping[str, as_rows.Values]) -> None:
        """Read the faces of an account again, where there are new ones."""
        if self.scope.resource and rows.keys() - before.keys():
            self.faces = people.faces(self.scope.resource)

    def write_entitlements(self, records: Iterable[EntitlementRecord]) -> None:
        kept = self.odd.kept(records, Entitlement, IN_ACCOUNT if self.scope.resource else IN_DIRECTORY)
        groups_named = {record.makes_external_id for record in kept if record.makes_external_id}
        self.has_groups = self.has_groups or bool(groups_named)
        found = self.scope.principals.filter(kind__in=GROUPS, external_id__in=groups_named)
        group_ids = dict(found.values_list("external_id", "pk")) if groups_named else {}
        before = self.known(self.scope.entitlements, [record.external_id for record in kept])
        storable: dict[str, EntitlementRecord] = {}
        for record in self.mine(Entitlement, before, kept):
            if record.account_id and record.account_id not in self.scope.resource_ids:
                self.outcome.problems.append(f"{record.name} is in account {record.account_id}, which was not listed.")
            elif record.makes_external_id and record.makes_external_id not in group_ids:
                self.outcome.problems.append(f"{record.name} is a membership of a group that was not listed.")
            else:
                storable[record.external_id] = record
        rows = {
            key: as_rows.facts(
                record, self.scope.resource_ids.get(record.account_id), group_ids.get(record.makes_external_id)
            )
            for key, record in storable.items()
        }
        digests = {key: as_rows.mark_of(record, rows[key]) for key, record in storable.items()}
        self.note(Entitlement, digests)
        for key in due(before, rows, digests):  # only these are assessed
            rows[key] |= as_rows.assessed(storable[key])
        self.put(Entitlement, before, rows, digests)

    def write_credentials(self, records: Sequence[CredentialRecord]) -> None:
        rows = {
            (face.principal.pk, record.kind, record.external_id): as_rows.credential(record)
            for record in records
            if (face := self.faces.get(record.principal_external_id))
        }
        self.odd.of_nobody += sum(record.principal_external_id not in self.faces for record in records)
        mine = Credential.objects.filter(principal__in=self.scope.principals)
        before = known(mine, "principal_id", "kind", "external_id")
        digests = self.digests(Credential, rows)
        upsert(
            Credential,
            before,
            rows,
            digests,
            keys=["principal_id", "kind", "external_id"],
            fixed={},
            changes=self.changes,
        )
        self.gone[Credential] = _missing(before, rows)

    # ---- all of it

    def finish(self, at: datetime) -> Outcome:
        """Everything was read. What begins and ends does so `at` this instant."""
        outcome, scope = self.outcome, self.scope
        self.changes = outcome.changes
        if scope.resource is None or any(face.machine and not face.is_linked for face in self.faces.values()):
            people.link(scope.principals)
        lost = self.write_assignments(at)
        self.tell()
        if outcome.problems:
            outcome.state = ScopeScan.State.INCOMPLETE
        else:
            self.find_gone()
            if self.is_suspicious(lost):
                outcome.state = ScopeScan.State.HELD
                outcome.held = {"assignments": lost.pks, "identities": self.gone[Identity]}
                outcome.held |= {"accounts": sorted(scope.doubted)} if scope.doubted else {}
            else:
                self.end_what_is_gone(lost.pks, at)
        is_complete = outcome.state == ScopeScan.State.COMPLETE
        if self.has_groups or not is_complete:
            groups.rate(scope.connection, scope.resource, is_complete=is_complete, changes=self.changes)
        self.point()
        outcome.notes += oddities.unreadable(scope.entitlements)
        outcome.digest = f"{self.marks % 2**256:064x}"
        outcome.problems, outcome.notes = _few(outcome.problems), _few(outcome.notes)
        return outcome

    def write_assignments(self, at: datetime) -> assignments.Gone:
        scope = self.scope
        here = scope.entitlements.exclude(kind__in=HELD_UNSEEN).order_by().values("id")
        found = assignments.Difference.of(scope.connection, here, is_directory=scope.resource is None)
        if found.strangers:
            said_so = "assignments name somebody or something that is not listed (any more). They are not shown."
            self.outcome.notes.append(f"{found.strangers} {said_so}")
        lost = found.gone(scope.read_from, scope.connection.drop_percent)
        found.begin(scope.connection, scope.read_from, at, self.changes)
        return lost

    def tell(self) -> None:
        """Say what was odd, and what does not agree."""
        if self.parts > 1:
            self.odd.came_twice.update(staging.repeated())
        self.outcome.problems += [
            *self.odd.problems(),
            *(_disagreement(one) for one in self.outcome.totals if not one.agrees),
        ]
        self.outcome.notes += self.odd.notes()

    def point(self) -> None:
        if self.scope.resource:
            people.machine_owners(self.scope.resource, self.inside, self.faces, self.changes)
        else:
            people.managers(self.scope.connection, self.changes)
            people.resource_owners(self.scope.connection, self.changes)

    # ---- what is not there any more

    def is_suspicious(self, lost: assignments.Gone) -> bool:
        """Too much would end at once, and no person has said that exactly these rows may."""
        if self.scope.doubted:
            return True
        leaving = self.gone[Identity] if self.scope.resource is None else []
        people_now = self.scope.identities.present().count() if leaving else 0
        is_exodus = assignments.is_drop(len(leaving), people_now, self.scope.connection.drop_percent)
        return (lost.is_suspicious and not {*lost.pks} <= {*self.confirmed.get("assignments", ())}) or (
            is_exodus and not {*leaving} <= {*self.confirmed.get("identities", ())}
        )

    def find_gone(self) -> None:
        """Rows of the directory that no part showed. An account's were found when it was written."""
        if self.scope.resource:
            return
        staging.analyze("sync_seen")
        for model, rows in (
            (Principal, self.scope.principals),
            (Identity, self.scope.identities),
            (Entitlement, self.scope.entitlements),
        ):
            self.gone[model] = staging.unseen(rows.filter(ended_at=None), _name(model))

    def end_what_is_gone(self, lost: Iterable[int], at: datetime) -> None:
        assignments.end_all(lost, at, self.changes)
        for model, pks in self.gone.items():
            end(model, pks, at, self.changes)

    # ---- shared

    def digests(self, model: type[Model], rows: Mapping[Any, as_rows.Values]) -> dict[Any, str]:
        found = {key: as_rows.digest(values) for key, values in rows.items()}
        self.note(model, found)
        return found

    def note(self, model: type[Model], digests: Mapping[Any, str]) -> None:
        """Let the digest of the whole cover these."""
        self.marks += sum(as_rows.number(f"{model.__name__} {key} {mark}") for key, mark in digests.items())

    def known(self, rows: QuerySet[Any], keys: Collection[str]) -> dict[Any, Known]:
        """What the inventory has of an account; of the directory, what it has under these keys."""
        if self.scope.resource is None:
            rows = one_of(rows, keys)
        return known(rows, "external_id")

    def mine(self, model: type[Model], before: Mapping[Any, Known], records: Sequence[R]) -> Sequence[R]:
        """Those whose id is not that of something in another account: a row is never taken from where it is."""
        new: list[str] = [record.external_id for record in records if record.external_id not in before]
        if not new:
            return records
        present: QuerySet[Any] = model._default_manager.filter(connection=self.scope.connection, ended_at=None)
        others = {str(key) for key in one_of(present, new).values_list("external_id", flat=True)}
        if not others:
            return records
        self.odd.came_elsewhere[_name(model)] += len(others)
        self.elsewhere |= others
        return [record for record in records if record.external_id not in others]

    def put(
        self,
        model: type[Model],
        before: Mapping[Any, Known],
        rows: Mapping[Any, as_rows.Values],
        digests: Mapping[Any, str],
    ) -> None:
        """Bring the rows up to date, and remember which are there."""
        fixed = {"connection_id": self.scope.connection.pk}
        upsert(model, before, rows, digests, keys=["external_id"], fixed=fixed, changes=self.changes)
        if self.scope.resource:
            self.gone[model] = _missing(before, rows)
        else:
            staging.add("sync_seen", ((_name(model), key) for key in rows))


def _missing(before: Mapping[Any, Known], rows: Mapping[Any, Any]) -> list[int]:
    return [old.pk for key, old in before.items() if key not in rows and old.ended_at is None]


def _name(model: type[Model]) -> str:
    return str(model._meta.verbose_name_plural)


def _disagreement(total: ControlTotal) -> str:
    return (
        f"{total.name}: {total.read:,} were read, but {total.expected:,} are counted. Something changed or is missing."
    )


def _few(sentences: list[str]) -> list[str]:
    shown = [as_rows.text(sentence, 500) for sentence in dict.fromkeys(sentences)]
    if len(shown) <= MOST_SENTENCES:
        return shown
    return [*shown[:MOST_SENTENCES], f"And {len(shown) - MOST_SENTENCES} more like these."]
