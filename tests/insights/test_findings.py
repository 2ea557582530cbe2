"""Findings: seen, kept, closed only on the word of a complete scan; and what people may decide about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.core import locks
from apps.insights import inspecting, services
from apps.insights.models import Finding, Inspection, Severity
from apps.inventory import tracing
from apps.inventory.models import Credential, Escalation, Identity, Principal, ScopeScan, SyncRun, Tracing, Trust
from tests.factories.inventory import (
    ConnectionFactory,
    EntitlementFactory,
    IdentityFactory,
    PrincipalFactory,
    ResourceFactory,
    SyncRunFactory,
)
from tests.factories.users import UserFactory
from tests.grants.system import System
from tests.inventory.company import EVERYTHING, Company, allow

Kind = Finding.Kind


class Estate:
    """One account of one organization, with a machine in it that nothing is wrong with."""

    def __init__(self) -> None:
        self.connection = ConnectionFactory()
        self.account = ResourceFactory(connection=self.connection, name="production")
        self.owner = IdentityFactory(connection=self.connection, name="Bob")
        self.machine = IdentityFactory(connection=self.connection, kind="machine", name="etl", owner=self.owner)
        self.role = PrincipalFactory(
            connection=self.connection, resource=self.account, identity=self.machine, kind="iam_role", name="etl"
        )

    def user(self, name: str = "deploy") -> Principal:
        identity = IdentityFactory(connection=self.connection, kind="machine", name=name, owner=self.owner)
        return PrincipalFactory(
            connection=self.connection, resource=self.account, identity=identity, kind="iam_user", name=name
        )

    def scan(self, state: str = "complete", *, directory: str = "complete", at: datetime | None = None) -> None:
        """A reading of the account and the directory that began at `at`, which is now."""
        at = at or timezone.now()
        run = SyncRunFactory(connection=self.connection)
        for resource, said in ((self.account, state), (None, directory)):
            ScopeScan.objects.create(run=run, resource=resource, state=said, started_at=at, finished_at=at)

    def look(self) -> list[str]:
        """What is open after an inspection."""
        inspecting.inspect(self.connection)
        return sorted(Finding.objects.open().values_list("kind", flat=True))


@pytest.fixture
def estate(db: None) -> Estate:
    return Estate()


def key(principal: Principal, **fields: Any) -> Credential:
    now = timezone.now()
    values = {"kind": "access_key", "external_id": "AKIA1", "created_at": now, "last_used_at": now}
    return Credential.objects.create(principal=principal, **{**values, **fields})


def ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


# ---- what is found


def test_nothing_is_wrong_with_nothing(estate: Estate) -> None:
    assert estate.look() == []


@pytest.mark.parametrize(
    ("made", "used", "severity"),
    [(91, 1, Severity.MEDIUM), (10, 100, Severity.MEDIUM), (400, 1, Severity.HIGH), (89, 89, None), (89, None, None)],
)
def test_a_key_is_stale_when_it_is_old_or_was_last_used_long_ago(
    estate: Estate, made: int, used: int | None, severity: Severity | None
) -> None:
    key(estate.user(), created_at=ago(made), last_used_at=None if used is None else ago(used))
    assert estate.look() == ([Kind.STALE_KEY] if severity else [])
    assert [row.severity for row in Finding.objects.all()] == ([severity] if severity else [])


def test_an_inactive_or_deleted_key_is_no_finding(estate: Estate) -> None:
    user = estate.user()
    key(user, created_at=ago(900), is_active=False)
    key(user, created_at=ago(900), external_id="AKIA2", ended_at=timezone.now())
    assert estate.look() == []


def test_a_root_key_is_critical_however_new(estate: Estate) -> None:
    root = PrincipalFactory(connection=estate.connection, resource=estate.account, kind="iam_root", name="root")
    key(root, kind="root_key")
    assert estate.look() == [Kind.ROOT_KEY]
    assert Finding.objects.get().severity == Severity.CRITICAL


def test_a_password_without_mfa_is_found_and_with_mfa_is_not(estate: Estate) -> None:
    careless, careful = estate.user("careless"), estate.user("careful")
    for one in (careless, careful):
        key(one, kind="password", external_id="password")
    key(careful, kind="mfa", external_id="mfa")
    assert estate.look() == [Kind.NO_MFA]
    assert Finding.objects.get().identity == careless.identity


@pytest.mark.parametrize("is_of_a_person", [True, False])
def test_one_login_for_a_person_and_a_program_is_found_whoever_it_belongs_to(
    estate: Estate, is_of_a_person: bool
) -> None:
    both, only_keys = estate.user("both"), estate.user("program")
    if is_of_a_person:
        both.identity = IdentityFactory(connection=estate.connection)
        both.save()
    for kind in ("password", "mfa", "access_key"):
        key(both, kind=kind, external_id=kind)
    key(only_keys, external_id="AKIA2")
    key(only_keys, kind="password", external_id="password", is_active=False)
    assert estate.look() == [Kind.MIXED_USE]
    row = Finding.objects.get()
    assert (row.severity, row.identity, row.name) == (Severity.MEDIUM, both.identity, "both")


def test_a_root_user_whose_password_may_not_exist_is_no_finding(estate: Estate) -> None:
    root = PrincipalFactory(connection=estate.connection, resource=estate.account, kind="iam_root", name="root")
    password = key(root, kind="password", external_id="password", last_used_at=None)
    assert estate.look() == []
    Credential.objects.filter(pk=password.pk).update(last_used_at=timezone.now())
    assert estate.look() == [Kind.NO_MFA]
    assert Finding.objects.get().severity == Severity.CRITICAL


def test_standing_admin_is_found_and_what_a_grant_gives_is_not(system: System) -> None:
    system.holds(system.alice, system.admin)
    other = system.holds(system.bob, system.admin)
    type(other).objects.filter(pk=other.pk).update(is_standing=False)
    inspecting.inspect(system.connection)
    [row] = Finding.objects.filter(kind=Kind.STANDING_ADMIN)
    assert (row.identity, row.owner) == (system.alice.identity, system.bob.identity)
    assert row.what == "alice holds Admin in production all the time."


def test_our_own_roles_are_no_finding(system: System) -> None:
    system.holds(system.alice, system.admin)
    type(system.alice).objects.filter(pk=system.alice.pk).update(attributes={"is_portal": True})
    inspecting.inspect(system.connection)
    assert not Finding.objects.filter(kind=Kind.STANDING_ADMIN).exists()


def test_a_way_to_admin_is_found_only_where_somebody_holds_it(system: System) -> None:
    deploy = EntitlementFactory(
        connection=system.connection, resource=system.account, name="Deploy", privilege="privileged", can_escalate=True
    )
    inspecting.inspect(system.connection)
    assert not Finding.objects.filter(kind=Kind.ESCALATION).exists()
    system.world.assignments[(system.alice.external_id, deploy.external_id)] = {}
    system.alice.assignments.create(connection=system.connection, entitlement=deploy, period=(ago(3), None))
    inspecting.inspect(system.connection)
    assert Finding.objects.get(kind=Kind.ESCALATION).entitlement == deploy


def test_what_policies_add_up_to_is_found_by_holder(db: None) -> None:
    company = Company()
    runs = company.policy("runs", allow(["lambda:CreateFunction", "lambda:InvokeFunction"]))
    passing = company.policy("passes", allow("iam:PassRole"))
    both = company.policy("both", allow(["iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"]))
    for name, policies in {
        "split": [runs, passing],
        "one": [both],
        "with one": [both, runs],
        "harmless": [runs],
    }.items():
        role = company.role(name)
        for held in policies:
            company.holds(role, held)
    tracing.trace(company.connection)
    inspecting.inspect(company.connection)
    rows = Finding.objects.filter(kind=Kind.ESCALATION)
    assert sorted(rows.values_list("name", flat=True)) == [
        "both",
        "split",
    ]  # of the two others the policy is the finding
    assert json.loads(rows.get(name="both").evidence["statement"])["Action"][0] == "iam:PassRole"
    row = rows.get(name="split")
    assert (row.severity, row.identity.name if row.identity else "") == (Severity.HIGH, "split")
    assert row.what == "No single policy of split does, but together they let it become an administrator."
    assert (row.evidence["policy"], json.loads(row.evidence["statement"])) == ("passes", allow("iam:PassRole"))


def test_an_administrators_policy_within_a_boundary_is_a_lesser_finding(db: None) -> None:
    company = Company()
    admin = company.policy("AdministratorAccess", EVERYTHING)
    escalates = company.policy("Passer", allow(["iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"]))
    bound = company.policy("bound", allow("s3:Get*")).attributes["policy_arn"]
    denies = company.policy("nothing", {"Effect": "Deny", "Action": "*", "Resource": "*"})
    plain, bounded, denied = company.role("plain"), company.role("bounded", boundary=bound), company.role("denied")
    for role in (plain, bounded, denied):
        assignment = company.holds(role, admin)
        type(assignment).objects.filter(pk=assignment.pk).update(is_standing=True)
    company.holds(denied, denies)
    company.holds(company.role("idle", boundary=bound), escalates)
    tracing.trace(company.connection)
    inspecting.inspect(company.connection)
    found = {row.name: row for row in Finding.objects.filter(kind=Kind.STANDING_ADMIN)}
    assert {name: row.severity for name, row in found.items()} == {
        "plain": Severity.HIGH,
        "bounded": Severity.LOW,
        "denied": Severity.LOW,
    }
    assert found["plain"].what == "plain holds AdministratorAccess in prod all the time."
    assert found["bounded"].what.endswith("all the time. Its boundary or another policy takes most of that away.")
    left = found["bounded"].evidence
    assert left["what is left of it"] == "Within its boundary: Can read in s3."
    assert left["policy of what is left"] == "AdministratorAccess"
    assert json.loads(left["statement of what is left"]) == EVERYTHING
    assert not Finding.objects.filter(kind=Kind.ESCALATION).exists()  # nobody can use what Passer says


@pytest.mark.parametrize(("is_conditional", "severity"), [(False, Severity.HIGH), (True, Severity.MEDIUM)])
def test_whoever_can_become_an_administrator_in_two_steps_is_found(
    estate: Estate, is_conditional: bool, severity: Severity
) -> None:
    Escalation.objects.create(
        connection=estate.connection,
        resource=estate.account,
        principal=estate.role,
        way=Escalation.Way.ASSUME,
        target=estate.user("breakglass"),
        steps=2,
        reason="etl can assume breakglass.",
        is_conditional=is_conditional,
    )
    assert estate.look() == [Kind.ESCALATION]
    row = Finding.objects.get()
    assert (row.severity, row.identity, row.owner) == (severity, estate.machine, estate.owner)


def test_whoever_answers_for_a_permission_set_is_asked_about_the_ways_from_it(estate: Estate) -> None:
    Escalation.objects.create(
        connection=estate.connection,
        resource=estate.account,
        entitlement=EntitlementFactory(connection=estate.connection, resource=estate.account, owner=estate.owner),
        way=Escalation.Way.ASSUME,
        target=estate.user("breakglass"),
        steps=1,
        reason="Its holders can assume breakglass.",
    )
    assert estate.look() == [Kind.ESCALATION]
    assert Finding.objects.get().owner == estate.owner
    Identity.objects.filter(pk=estate.owner.pk).update(ended_at=timezone.now())
    type(estate.account).objects.update(owner=IdentityFactory(connection=estate.connection, name="Carol"))
    assert Kind.ESCALATION in estate.look()
    assert getattr(Finding.objects.get(kind=Kind.ESCALATION).owner, "name", None) == "Carol"


@pytest.mark.parametrize(
    ("concern", "kind", "severity"),
    [
        ("anybody", Kind.OPEN_TRUST, Severity.CRITICAL),
        ("no_external_id", Kind.OPEN_TRUST, Severity.HIGH),
        ("deleted", Kind.ORPHAN, Severity.LOW),
    ],
)
def test_each_concern_of_a_machine_is_a_finding(estate: Estate, concern: str, kind: str, severity: Severity) -> None:
    signs = [{"classification": "x", "evidence": "It is so.", "statement": "1", "concerns": [concern]}]
    Identity.objects.filter(pk=estate.machine.pk).update(signs=signs)
    assert estate.look() == [kind]
    row = Finding.objects.get()
    assert (row.severity, row.what, row.owner) == (severity, "It is so.", estate.owner)


def test_every_concern_has_its_finding() -> None:
    from apps.insights.detectors import CONCERNS
    from apps.inventory.models.concerns import Concern

    own_statements = {Concern.NO_MFA, Concern.PASSWORD_AND_KEY}
    assert {*CONCERNS} == {*Concern.values} - own_statements


def test_unused_is_what_is_known_to_be_unused(estate: Estate) -> None:
    policy = EntitlementFactory(connection=estate.connection, resource=estate.account, privilege="read")
    estate.role.assignments.create(connection=estate.connection, entitlement=policy, period=(ago(300), None))
    assert estate.look() == []  # nobody knows when it was used
    Principal.objects.filter(pk=estate.role.pk).update(last_used_at=ago(91))
    assert estate.look() == [Kind.UNUSED]


def test_never_used_is_a_finding_where_aws_could_have_seen_it(estate: Estate) -> None:
    """A role, a user and what people hold, which is used through the role that Identity Center makes for it."""
    set_ = EntitlementFactory(
        connection=estate.connection, resource=estate.account, kind="permission_set", name="Read", privilege="read"
    )
    person = PrincipalFactory(connection=estate.connection)
    behind = PrincipalFactory(
        connection=estate.connection,
        resource=estate.account,
        iam_role=True,
        name=f"AWSReservedSSO_Read_{'0' * 16}",
        is_reserved=True,
    )
    user = estate.user()
    for holder in (estate.role, user, person):
        holder.assignments.create(
            connection=estate.connection, entitlement=set_, period=(ago(300), None), is_standing=holder is person
        )
    aged = Principal.objects.filter(pk__in=[estate.role.pk, user.pk, behind.pk])
    aged.update(created_at=ago(91))
    assert estate.look() == []  # its account was not read
    estate.scan("incomplete")
    assert estate.look() == []
    estate.scan()
    assert estate.look() == [Kind.UNUSED] * 3
    assert sorted(Finding.objects.values_list("what", flat=True)) == [
        "Read in production is held, and nobody has used it, as far as AWS keeps track.",
        "deploy was never used, as far as AWS keeps track, and keeps its access.",
        "etl was never used, as far as AWS keeps track, and keeps its access.",
    ]
    seen = {"connection": estate.connection, "external_id": "AROA1", "first_at": ago(1), "last_at": ago(1)}
    estate.role.actors.create(**seen)  # a trail saw it
    user.attributes = {"is_portal": True}  # we leave its last use empty ourselves
    user.save()
    Principal.objects.filter(pk=behind.pk).update(created_at=ago(89))
    estate.scan()
    assert estate.look() == []


def test_a_machine_is_unowned_until_somebody_answers_for_it(estate: Estate) -> None:
    Identity.objects.filter(pk=estate.machine.pk).update(owner=None)
    assert estate.look() == [Kind.UNOWNED]
    Identity.objects.filter(pk=estate.machine.pk).update(successor=estate.owner)
    assert estate.look() == []  # at once: no scan is needed to see what a person said


# ---- how long it is open


def test_seen_again_it_is_the_same_finding(estate: Estate) -> None:
    old = key(estate.user(), created_at=ago(91))
    estate.look()
    first = Finding.objects.get()
    Credential.objects.filter(pk=old.pk).update(created_at=ago(500))
    estate.look()
    again = Finding.objects.get()
    assert (again.pk, again.first_seen_at, again.severity) == (first.pk, first.first_seen_at, Severity.HIGH)


@pytest.mark.parametrize(
    ("account", "directory", "is_closed"),
    [
        ("complete", "complete", True),
        ("incomplete", "complete", False),
        ("held", "complete", False),
        ("failed", "complete", False),
        ("complete", "incomplete", False),
    ],
)
def test_only_a_complete_scan_closes_it(estate: Estate, account: str, directory: str, is_closed: bool) -> None:
    old = key(estate.user(), created_at=ago(91))
    estate.look()
    Credential.objects.filter(pk=old.pk).update(ended_at=timezone.now())
    assert estate.look() == [Kind.STALE_KEY]  # no scan since
    assert Inspection.objects.latest("pk").kept == 1
    estate.scan(account, directory=directory)
    assert bool(estate.look()) is not is_closed
    assert (Finding.objects.get().closed_at is not None) is is_closed


def test_a_complete_scan_from_before_it_was_found_does_not_close_it(estate: Estate) -> None:
    estate.scan(at=ago(1))
    old = key(estate.user(), created_at=ago(91))
    estate.look()
    Credential.objects.filter(pk=old.pk).update(ended_at=timezone.now())
    assert estate.look() == [Kind.STALE_KEY]


def test_an_incomplete_scan_after_a_complete_one_closes_nothing(estate: Estate) -> None:
    old = key(estate.user(), created_at=ago(91))
    estate.look()
    estate.scan()
    Credential.objects.filter(pk=old.pk).update(ended_at=timezone.now())
    estate.scan("incomplete")
    assert estate.look() == [Kind.STALE_KEY]


def test_one_that_comes_back_is_a_new_finding(estate: Estate) -> None:
    old = key(estate.user(), created_at=ago(91))
    estate.look()
    Credential.objects.filter(pk=old.pk).update(ended_at=timezone.now())
    estate.scan()
    estate.look()
    Credential.objects.filter(pk=old.pk).update(ended_at=None)
    assert estate.look() == [Kind.STALE_KEY]
    assert Finding.objects.count() == 2


def test_of_another_organization_nothing_closes(estate: Estate) -> None:
    other = Estate()
    key(other.user(), created_at=ago(91))
    other.look()
    estate.scan()
    assert estate.look() == [Kind.STALE_KEY]


def test_an_inspection_that_changes_something_is_one_event_and_one_that_does_not_is_none(estate: Estate) -> None:
    events = AuditEvent.objects.filter(event="insights.inspection.found")
    key(estate.user(), created_at=ago(91))
    estate.look()
    estate.look()
    assert [event.data["opened"] for event in events] == [1]


def test_looking_costs_the_same_whatever_there_is(estate: Estate) -> None:
    def statements() -> int:
        with CaptureQueriesContext(database) as queries:
            inspecting.inspect(estate.connection)
        return len(queries)

    key(estate.user(), created_at=ago(91))
    few = statements()
    for number in range(20):
        key(estate.user(f"u{number}"), created_at=ago(91))
    assert statements() == few


# ---- what people decide


@pytest.fixture
def finding(estate: Estate) -> Finding:
    key(estate.user(), created_at=ago(91))
    estate.look()
    return Finding.objects.get()


def test_what_is_accepted_comes_back_on_its_day(finding: Finding) -> None:
    now = timezone.now()
    services.accept(finding, by=UserFactory(administrator=True), until=now + timedelta(days=30), reason="Being moved.")
    assert not Finding.objects.to_do(now).exists()
    assert Finding.objects.to_do(now + timedelta(days=31)).exists()


def test_what_was_accepted_comes_back_when_it_is_worse(estate: Estate, finding: Finding) -> None:
    now = timezone.now()
    services.accept(finding, by=UserFactory(administrator=True), until=now + timedelta(days=30), reason="Being moved.")
    estate.look()
    assert not Finding.objects.to_do(now).exists()
    Credential.objects.update(created_at=ago(500))
    estate.look()
    assert Finding.objects.to_do(now).exists()


def signs_in(estate: Estate, user: Principal) -> None:
    key(user, kind="password", external_id="password")


def signs_in_and_runs(estate: Estate, user: Principal) -> None:
    for kind in ("password", "mfa", "access_key"):
        key(user, kind=kind, external_id=kind)


def becomes_admin(estate: Estate, user: Principal) -> None:
    values = {"way": Escalation.Way.ASSUME, "target": estate.role, "steps": 1, "reason": "deploy can assume etl."}
    Escalation.objects.create(connection=estate.connection, resource=estate.account, principal=user, **values)


def adds_up(estate: Estate, user: Principal) -> None:
    weighed = {"holds": "x", "weighed": "x", "privilege": "privileged", "can_escalate": True}
    Trust.objects.create(principal=user, resource=estate.account, **weighed)


@pytest.mark.parametrize(
    ("does", "kind"),
    [
        (signs_in, Kind.NO_MFA),
        (signs_in_and_runs, Kind.MIXED_USE),
        (becomes_admin, Kind.ESCALATION),
        (adds_up, Kind.ESCALATION),
    ],
)
def test_an_acceptance_is_of_one_user_and_not_of_the_next_of_that_name(
    estate: Estate, does: Callable[[Estate, Principal], None], kind: Finding.Kind
) -> None:
    user = estate.user()
    does(estate, user)

    def made(unique_id: str | None) -> None:
        Principal.objects.filter(pk=user.pk).update(attributes={"unique_id": unique_id} if unique_id else {})
        assert estate.look() == [kind]

    now = timezone.now()
    made(None)  # as it was before its unique id was kept
    services.accept(Finding.objects.get(), by=UserFactory(), until=now + timedelta(days=30), reason="On its way out.")
    made("AIDA1")
    Credential.objects.filter(kind="password").update(created_at=now, last_used_at=now)  # changed, and used
    made("AIDA1")
    assert Finding.objects.get().is_accepted
    made("AIDA2")
    assert not Finding.objects.get().is_accepted


def test_an_acceptance_is_of_one_fact(estate: Estate) -> None:
    def trusts(evidence: str) -> None:
        signs = [{"evidence": evidence, "statement": "1", "concerns": ["no_external_id"]}]
        Identity.objects.filter(pk=estate.machine.pk).update(signs=signs)
        estate.look()

    trusts("It lets the vendor's account in.")
    now = timezone.now()
    services.accept(Finding.objects.get(), by=UserFactory(), until=now + timedelta(days=30), reason="A contract.")
    trusts("It lets account 999999999999 in.")
    assert Finding.objects.to_do(now).get().what == "It lets account 999999999999 in."


def test_an_acceptance_holds_when_the_statement_is_learned_and_not_when_it_changes(db: None) -> None:
    company = Company()
    role = company.role("split", may=[allow(["lambda:CreateFunction", "lambda:InvokeFunction"])])
    passing = company.policy("passes", allow("iam:PassRole"))
    company.holds(role, passing)
    now = timezone.now()

    def look() -> Finding:
        inspecting.inspect(company.connection)
        return Finding.objects.get(kind=Kind.ESCALATION)

    def accept() -> None:
        services.accept(look(), by=UserFactory(), until=now + timedelta(days=30), reason="A contract.")

    tracing.trace(company.connection)
    trusts = Trust.objects.filter(principal=role)
    kept = trusts.get().privilege_statement
    trusts.update(privilege_statement=None)  # as it was before statements were kept
    accept()
    trusts.update(privilege_statement=kept)
    assert look().accepted_until
    assert look().evidence["policy"] == "passes"
    trusts.update(privilege_statement={"policy": "passes", "statement": allow("iam:*")})
    assert not look().accepted_until
    accept()
    trusts.update(privilege_statement={"policy": "other", "statement": allow("iam:*")})
    assert not look().accepted_until
    accept()
    trusts.update(privilege_statement=None, privilege_reason="Something else.")
    assert not look().accepted_until


def test_an_acceptance_covers_no_door_that_opened_later(estate: Estate) -> None:
    def trusts(*vendors: str) -> Finding:
        signs = [
            {"evidence": f"It lets {name} in.", "statement": str(number), "concerns": ["no_external_id"]}
            for number, name in enumerate(vendors, 1)
        ]
        Identity.objects.filter(pk=estate.machine.pk).update(signs=signs)
        estate.look()
        return Finding.objects.get()

    now = timezone.now()
    only = trusts("Acme")
    services.accept(only, by=UserFactory(), until=now + timedelta(days=30), reason="A contract.")
    both = trusts("Acme", "Zorro")
    assert (both.pk, both.accepted_until) == (only.pk, None)
    assert both.what == "It lets Acme in. And 1 more like it."
    assert (both.evidence["seen in"], both.evidence["and also"]) == ("1, 2", "It lets Zorro in.")
    services.accept(both, by=UserFactory(), until=now + timedelta(days=30), reason="Two contracts.")
    assert trusts("Zorro", "Acme").accepted_until  # which comes first says nothing


@pytest.mark.parametrize(("days", "reason"), [(0, "Why."), (366, "Why."), (30, "  ")])
def test_nothing_is_accepted_for_ever_or_without_a_reason(finding: Finding, days: int, reason: str) -> None:
    until = timezone.now() + timedelta(days=days)
    with pytest.raises(services.NotPossible):
        services.accept(finding, by=UserFactory(administrator=True), until=until, reason=reason)
    assert Finding.objects.to_do(timezone.now()).exists()


def test_what_is_said_to_be_done_opens_again_when_a_complete_scan_still_shows_it(
    estate: Estate, finding: Finding
) -> None:
    services.resolve(finding, by=UserFactory(), reason="The key is deleted.")
    assert not Finding.objects.to_do(timezone.now()).exists()
    estate.look()
    assert not Finding.objects.to_do(timezone.now()).exists()  # nothing was read since
    estate.scan()
    estate.look()
    assert Finding.objects.to_do(timezone.now()).exists()


def test_a_reading_of_the_account_alone_does_not_open_it_again(estate: Estate, finding: Finding) -> None:
    services.resolve(finding, by=UserFactory(), reason="The key is deleted.")
    estate.scan(directory="failed")
    estate.look()
    assert not Finding.objects.to_do(timezone.now()).exists()


def test_what_is_gone_cannot_be_decided(estate: Estate, finding: Finding) -> None:
    Finding.objects.update(closed_at=timezone.now())
    with pytest.raises(services.NotPossible, match="gone"):
        services.resolve(finding, by=UserFactory(), reason="Done.")


def test_nobody_lets_stay_what_is_about_themselves(estate: Estate, finding: Finding, client: Client) -> None:
    erin = UserFactory(administrator=True)
    Identity.objects.filter(pk=finding.identity_id).update(kind="human", user=erin)
    client.force_login(erin)
    answer = client.post(f"/findings/{finding.pk}/accept", {"days": 30, "reason": "I say so."})
    assert answer.status_code == 404
    finding.refresh_from_db()
    assert finding.accepted_until is None


def test_a_finding_links_whom_it_is_about_only_for_those_who_may_look_at_them(estate: Estate, client: Client) -> None:
    bob = UserFactory()
    Identity.objects.filter(pk=estate.owner.pk).update(user=bob)
    type(estate.account).objects.update(owner=estate.owner)
    Identity.objects.filter(pk=estate.machine.pk).update(owner=None)
    estate.look()
    seen = {}
    for user in (bob, UserFactory(auditor=True)):
        client.force_login(user)
        page = client.get(Finding.objects.get().get_absolute_url()).content.decode()
        url = estate.machine.get_absolute_url()
        seen[user.is_auditor] = (f'href="{url}"' in page, client.get(url).status_code)
    assert seen == {False: (False, 404), True: (True, 200)}


# ---- pages


@pytest.fixture
def pages(client: Client, estate: Estate) -> Callable[[str], str]:
    client.force_login(UserFactory(administrator=True))

    def get(query: str = "") -> str:
        answer = client.get(f"/findings/{query}")
        assert answer.status_code == 200
        return answer.content.decode()

    return get


def test_the_list_finds_filters_and_hides_what_is_accepted(
    pages: Callable[[str], str], estate: Estate, finding: Finding
) -> None:
    assert "An access key of deploy" in pages("")
    assert "An access key of deploy" in pages("?q=DEPL&kind=stale_key&severity=2")
    assert "Nothing matches" in pages("?kind=no_mfa")
    services.accept(finding, by=UserFactory(), until=timezone.now() + timedelta(days=30), reason="Being moved.")
    assert "An access key of deploy" not in pages("")
    assert "An access key of deploy" in pages("?show=accepted")


def test_a_hostile_name_is_text(pages: Callable[[str], str], estate: Estate) -> None:
    key(estate.user("<script>alert(1)</script>%s{}"), created_at=ago(91))
    estate.look()
    assert "<script>alert" not in pages("")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;%s{}" in pages("")


def test_queries_do_not_grow_with_findings(client: Client, estate: Estate) -> None:
    client.force_login(UserFactory(administrator=True))

    def count() -> int:
        estate.look()
        with CaptureQueriesContext(database) as queries:
            client.get("/findings/")
        return len(queries)

    key(estate.user(), created_at=ago(91))
    few = count()
    for number in range(20):
        key(estate.user(f"u{number}"), created_at=ago(91))
    assert count() == few


def test_the_clock_looks_at_what_was_read_since(estate: Estate, enqueued: Any) -> None:
    from apps.insights import periodic

    def woken() -> bool:
        enqueued.calls.clear()
        periodic.inspect_due()
        return bool(enqueued.calls)

    assert not woken()  # never read
    SyncRunFactory(connection=estate.connection, state="complete", finished_at=timezone.now())
    assert woken()
    estate.look()
    assert not woken()
    SyncRunFactory(connection=estate.connection, state="complete", finished_at=timezone.now() + timedelta(seconds=1))
    assert woken()
    SyncRun.objects.update(finished_at=timezone.now() - timedelta(hours=1))
    assert not woken()
    Tracing.objects.create(connection=estate.connection, traced_at=timezone.now() + timedelta(seconds=1))
    assert woken()


def test_nothing_is_looked_at_while_who_can_become_whom_is_worked_out(estate: Estate) -> None:
    with tracing.exclusive(estate.connection), pytest.raises(locks.Taken):
        estate.look()
    estate.look()
