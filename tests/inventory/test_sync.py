"""What a sync writes, and above all what it must not end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors import fake_world
from apps.connectors.base import ControlTotal, CredentialRecord
from apps.connectors.errors import Denied, Unreachable
from apps.connectors.trail import LastUse
from apps.inventory import sync
from apps.inventory.models import (
    AccessReport,
    Assignment,
    Credential,
    Entitlement,
    Identity,
    LastAccess,
    Principal,
    Resource,
    ScopeScan,
    SyncRun,
)
from apps.inventory.sync import last_accessed
from tests.factories.inventory import AssignmentFactory, SyncRunFactory
from tests.inventory.conftest import PROD, READ, SANDBOX

TABLES = (Resource, Identity, Principal, Entitlement, Assignment, Credential)


def held() -> set[tuple[str, str]]:
    rows = Assignment.objects.open().values_list("principal__external_id", "entitlement__external_id")
    return set(rows)


def crowd(world, count=10):
    """`count` people who hold Read in the sandbox."""
    for number in range(count):
        world.add_user(f"user{number}")
        world.assign(f"user{number}", f"Read@{SANDBOX}")


def scope(run, account_id=None):
    return run.scopes.get(resource__external_id=account_id) if account_id else run.scopes.get(resource=None)


# ---- what is there


def test_a_sync_writes_all_that_it_read(read, world):
    run = read()
    assert (run.state, run.problem) == ("complete", "")
    assert set(Resource.objects.values_list("external_id", flat=True)) == {PROD, SANDBOX}
    assert set(Principal.objects.values_list("external_id", "kind")) == {
        ("alice", "idc_user"),
        ("bob", "idc_user"),
        ("engineers", "idc_group"),
        ("deployer", "iam_role"),
        ("ci", "iam_user"),
    }
    assert held() == {
        ("alice", "membership:engineers"),
        ("engineers", f"Admin@{PROD}"),
        ("bob", f"Read@{PROD}"),
        ("deployer", "deploy"),
        ("ci", "deploy"),
    }
    assert not Assignment.objects.standing().exists()
    assert run.changes["assignment"] == {"added": 5}
    assert (run.done, run.total, run.doing) == (4, 4, "")


def test_permission_sets_that_nobody_holds_are_known(read):
    read()
    assert Entitlement.objects.get(external_id=f"Read@{SANDBOX}").resource.external_id == SANDBOX


@pytest.mark.django_db(transaction=True)
def test_a_second_sync_that_finds_nothing_new_writes_no_inventory_row(read, world):
    def versions():
        with connection.cursor() as cursor:
            found = {}
            for model in TABLES:
                cursor.execute(f"SELECT id, xmin::text, ctid::text FROM {model._meta.db_table}")
                found[model] = sorted(cursor.fetchall())
            return found

    world.credentials.append(CredentialRecord("ci", "access_key", "AKIA1", created_at=timezone.now()))
    world.add_user("gone", attributes={"status": "disabled"})
    world.add_user("boss", manager_external_id="boss")
    read()
    before = versions()
    assert read().changes == {}
    assert versions() == before


def test_only_what_changed_is_written(read, world):
    read()
    world.add_user("alice", display_name="Alice Moreau-Vega", email="alice@example.com", department="Payments")
    run = read()
    assert run.changes == {"identity": {"changed": 1}}
    assert Identity.objects.get(external_id="alice").name == "Alice Moreau-Vega"


def test_no_transaction_waits_for_the_provider(transactional_db, read, world, monkeypatch):
    """Calls are waited for in the main thread, and it holds none open then."""
    seen = []

    def state():
        seen.append(connection.connection.info.transaction_status.name)

    def wait(*args):
        state()
        return original(*args)

    original = sync.reading.wait
    monkeypatch.setattr(sync.reading, "wait", wait)
    monkeypatch.setattr(sync.threads, "wait", wait)
    read()
    assert len(seen) >= 4
    assert set(seen) == {"IDLE"}


def test_the_statements_of_a_sync_do_not_grow_with_what_it_reads(read, world):
    def statements():
        with CaptureQueriesContext(connection) as captured:
            assert read().state == "complete"
        return len([q for q in captured if 'UPDATE "inventory_syncrun"' not in q["sql"]])

    read()
    crowd(world, 1)
    one = statements()
    crowd(world, 20)
    assert statements() == one


# ---- what is gone


def test_what_is_gone_is_ended_and_kept(read, world):
    read()
    world.unassign("bob", f"Read@{PROD}")
    world.delete_principal("ci")
    run = read()
    assert run.state == "complete"
    gone = Assignment.objects.get(principal__external_id="bob")
    assert gone.period.upper is not None
    assert gone.period.lower < gone.period.upper
    assert Principal.objects.get(external_id="ci").ended_at
    assert Identity.objects.get(external_id="ci").ended_at
    assert held() == {("alice", "membership:engineers"), ("engineers", f"Admin@{PROD}"), ("deployer", "deploy")}
    assert run.changes["assignment"] == {"ended": 2}


def test_what_comes_back_begins_a_new_period_and_is_not_standing(read, world):
    read()
    Assignment.objects.update(is_standing=True)
    world.unassign("bob", f"Read@{PROD}")
    read()
    world.assign("bob", f"Read@{PROD}")
    read()
    first, second = Assignment.objects.filter(principal__external_id="bob").order_by("pk")
    assert not first.is_open and first.is_standing
    assert second.is_open and not second.is_standing
    assert first.period.upper <= second.period.lower


def test_a_principal_that_comes_back_is_the_same_row(read, world):
    read()
    record = world.principals["bob"]
    world.delete_principal("bob")
    read()
    assert Identity.objects.get(external_id="bob").ended_at
    world.principals["bob"] = record
    read()
    assert Identity.objects.get(external_id="bob").ended_at is None
    assert Principal.objects.get(external_id="bob").ended_at is None


def test_a_principal_made_again_under_its_old_name_inherits_nothing(read, world):
    world.add_principal("iam_role", "deployer", account_id=PROD, attributes={"unique_id": "AROA1"})
    read()
    Assignment.objects.update(is_standing=True)
    for principal in Principal.objects.filter(external_id__in=("deployer", "ci")):
        last_accessed.keep(principal, [LastUse("s3", at=None)])
    world.add_principal("iam_role", "deployer", account_id=PROD, attributes={"unique_id": "AROA2"})
    read()
    for rows in (AccessReport.objects, LastAccess.objects):
        assert [row.principal.external_id for row in rows.all()] == ["ci"]
    old, new = Assignment.objects.filter(principal__external_id="deployer").order_by("pk")
    assert (old.is_open, old.is_standing) == (False, True)
    assert (new.is_open, new.is_standing) == (True, False)
    assert read().changes == {}


def test_a_credential_that_is_gone_is_ended(read, world):
    world.credentials.append(CredentialRecord("ci", "access_key", "AKIA1"))
    read()
    assert Credential.objects.get().ended_at is None
    world.credentials.clear()
    read()
    assert Credential.objects.get().ended_at


def test_a_dated_policy_of_our_own_is_not_ended_by_a_sync_that_never_lists_it(read, world, org):
    read()
    prod = Resource.objects.get(external_id=PROD)
    dated = Entitlement.objects.create(
        connection=org, resource=prod, kind="dated_policy", external_id="dated", name="d"
    )
    row = AssignmentFactory(connection=org, entitlement=dated, principal=Principal.objects.get(external_id="ci"))
    read()
    dated.refresh_from_db()
    row.refresh_from_db()
    assert dated.ended_at is None and row.is_open


# ---- what must not end


@pytest.mark.parametrize("where", ["directory", PROD])
def test_an_incomplete_reading_ends_nothing(read, world, where):
    read()
    before = held()
    world.unassign("bob", f"Read@{PROD}")
    world.unassign("ci", "deploy")
    world.delete_principal("deployer")
    world.scan_problems[where].append("Page 2 could not be read.")
    for other in {"directory", PROD} - {where}:
        world.scan_problems[other].append("Nor this.")
    run = read()
    assert run.state == "incomplete"
    assert held() == before
    assert not Principal.objects.exclude(ended_at=None).exists()
    assert not Identity.objects.exclude(ended_at=None).exists()
    found = scope(run) if where == "directory" else scope(run, PROD)
    assert (found.state, found.problems) == ("incomplete", ["Page 2 could not be read."])


def test_an_incomplete_reading_still_adds_what_it_saw(read, world):
    read()
    world.assign("bob", f"Admin@{PROD}")
    world.scan_problems["directory"].append("Page 2 could not be read.")
    read()
    assert ("bob", f"Admin@{PROD}") in held()


def test_a_control_total_that_disagrees_makes_the_reading_incomplete(read, world, monkeypatch):
    read()
    world.delete_principal("ci")
    monkeypatch.setattr("apps.connectors.fake.ControlTotal", lambda name, read, _: ControlTotal(name, read, read + 1))
    run = read()
    assert run.state == "incomplete"
    assert Principal.objects.get(external_id="ci").ended_at is None
    assert "1 were read, but 2 are counted" in scope(run, PROD).problems[0]
    assert scope(run, PROD).totals == [{"name": "principals", "read": 1, "expected": 2}]


@pytest.mark.parametrize("error", [Denied("The role is missing."), KeyError("a bug in reading")])
def test_the_errors_of_one_account_do_not_stop_the_others(read, world, error):
    read()

    def fail(when, call):
        if call.detail.get("account") == PROD:
            raise error

    world.hook = fail
    world.unassign("ci", "deploy")
    world.add_principal("iam_role", "playful", account_id=SANDBOX)
    run = read()
    assert run.state == "incomplete"
    assert scope(run, PROD).state == "failed"
    assert scope(run, PROD).problems
    assert scope(run, SANDBOX).state == "complete"
    assert Principal.objects.filter(external_id="playful").exists()
    assert ("ci", "deploy") in held()


def test_what_cannot_be_written_fails_alone_and_whole(read, world, monkeypatch):
    read()
    classify = sync.people.classify

    def fail(record, *args):
        if record.external_id == "deployer":
            raise RuntimeError("a bug in writing")
        return classify(record, *args)

    monkeypatch.setattr(sync.people, "classify", fail)
    world.add_principal("iam_user", "newcomer", account_id=PROD)
    world.add_principal("iam_role", "playful", account_id=SANDBOX)
    run = read()
    assert (scope(run, PROD).state, scope(run, SANDBOX).state) == ("failed", "complete")
    assert "RuntimeError" in scope(run, PROD).problems[0]
    assert not Principal.objects.filter(external_id="newcomer").exists()


def test_an_unreachable_system_fails_the_run_and_writes_nothing(read, world):
    world.script("accounts", fake_world.raises(Unreachable("AWS does not answer. Check the network.")))
    run = read()
    assert (run.state, run.problem) == ("failed", "AWS does not answer. Check the network.")
    assert run.finished_at
    assert not Resource.objects.exists()


def test_what_began_after_the_scan_was_read_is_not_ended_by_it(read, world, org):
    read()
    bob = Principal.objects.get(external_id="bob")
    admin = Entitlement.objects.get(external_id=f"Admin@{PROD}")
    later = timezone.now() + timedelta(hours=1)
    sync.note(bob, admin, is_present=True, at=later)
    read()
    assert ("bob", f"Admin@{PROD}") in held()
    sync.note(bob, admin, is_present=False, at=later + timedelta(hours=1))
    world.assign("bob", f"Admin@{PROD}")
    read()
    assert ("bob", f"Admin@{PROD}") not in held()


# ---- runs


def test_one_run_at_a_time(read, org):
    SyncRunFactory(connection=org, state="running", finished_at=None)
    with pytest.raises(sync.CannotRun, match="being read right now"):
        read()
    assert org.runs.count() == 1


def test_a_silent_run_is_declared_failed_and_the_next_one_runs(read, org):
    silent = SyncRunFactory(
        connection=org, state="running", finished_at=None, beat_at=timezone.now() - timedelta(minutes=11)
    )
    assert read().state == "complete"
    silent.refresh_from_db()
    assert silent.state == "failed"
    assert "No sign of life" in silent.problem


def test_a_run_that_was_declared_dead_stops_writing(read):
    original = sync.reading._Run.write_accounts

    def write_accounts(self, accounts):
        found = original(self, accounts)
        SyncRun.objects.filter(pk=self.run.pk).update(state="failed", problem="declared dead")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync.reading._Run, "write_accounts", write_accounts)
        run = read()
    assert (run.state, run.problem) == ("failed", "declared dead")
    assert not Principal.objects.exists()


def test_a_paused_connection_is_not_read(read, org):
    org.paused_at = timezone.now()
    org.save()
    with pytest.raises(sync.CannotRun, match="paused"):
        read()


def test_an_interrupted_run_says_so(read, world):
    def interrupt(when, call):
        raise KeyboardInterrupt

    world.hook = interrupt
    with pytest.raises(KeyboardInterrupt):
        read()
    run = SyncRun.objects.get()
    assert (run.state, run.problem) == ("failed", "It was interrupted. Start it again.")


def test_a_run_is_one_event_with_counts_and_a_digest(read, org):
    read()
    read()
    first, second = AuditEvent.objects.filter(event="inventory.sync_run.finished").order_by("pk")
    assert first.data["changes"]["assignment"] == {"added": 5}
    assert first.data["scopes"] == {"complete": 3}
    assert first.data["digest"] == second.data["digest"]
    assert len(first.data["digest"]) == 64
    assert f"inventory.connection:{org.pk}" in first.refs


def test_a_suspended_account_is_left_as_it_is_and_said(read, world):
    read()
    world.add_account(PROD, "prod", state="suspended")
    world.unassign("ci", "deploy")
    run = read()
    assert run.state == "complete"
    assert not run.scopes.filter(resource__external_id=PROD).exists()
    assert "suspended" in scope(run).notes[0]
    assert ("ci", "deploy") in held()
    assert Resource.objects.get(external_id=PROD).ended_at is None


def test_each_scope_says_when_it_was_read(read):
    run = read()
    prod = Resource.objects.get(external_id=PROD)
    assert prod.read_at == scope(run, PROD).started_at
    assert ScopeScan.objects.filter(resource=prod, state="complete").count() == 1


# ---- hostile and broken input


def test_hostile_names_are_cleaned_and_bounded(read, world):
    world.add_user("evil", display_name="Eve\u202egnp.exe\x00\x07" + "x" * 500, email="evil@example.com")
    world.add_permission_set("<script>alert(1)</script>", PROD, READ)
    world.add_principal("iam_user", "tagged", account_id=PROD, attributes={"tags": {"a\x00b": "c\x00\ud800"}})
    assert read().state == "complete"
    name = Identity.objects.get(external_id="evil").name
    assert name.startswith("Eve gnp.exe x") and len(name) == 256
    assert Entitlement.objects.filter(name="<script>alert(1)</script>").exists()
    assert Principal.objects.get(external_id="tagged").attributes == {"tags": {"ab": "c?"}}


def test_an_id_that_cannot_be_stored_makes_the_reading_incomplete(read, world):
    read()
    world.add_principal("iam_user", "x" * 701, account_id=PROD)
    world.delete_principal("ci")
    run = read()
    assert scope(run, PROD).state == "incomplete"
    assert "cannot store" in scope(run, PROD).problems[0]
    assert Principal.objects.get(external_id="ci").ended_at is None


def test_assignments_of_somebody_unknown_are_said_and_not_shown(read, world):
    world.assign("nobody", f"Read@{PROD}")
    run = read()
    assert run.state == "complete"
    assert scope(run).notes == [
        "1 assignments name somebody or something that is not listed (any more). They are not shown."
    ]


def test_a_malformed_policy_is_unknown_and_does_not_stop_the_sync(read, world):
    world.add_permission_set("Broken", PROD, "{not json")
    assert read().state == "complete"
    broken = Entitlement.objects.get(name="Broken")
    assert broken.privilege == "unknown"
    assert "cannot be read" in broken.privilege_reason
    assert broken.documents == [{"name": "Broken", "document": "{not json"}]


def test_two_organizations_do_not_touch_each_other(read, world, org):
    read()
    other = SyncRunFactory(state="complete").connection
    alien = AssignmentFactory(connection=other)
    run = read()
    assert run.changes == {}
    alien.refresh_from_db()
    assert alien.is_open


def test_a_worker_without_transactions_of_its_own_can_run_it(transactional_db, read, org):
    assert sync.run(org.pk, by=audit.COMMAND).state == "complete"
