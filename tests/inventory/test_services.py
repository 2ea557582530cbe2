"""What people decide about the inventory, and what must hold when they do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors.base import CredentialRecord
from apps.inventory import periodic, services
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Principal, Resource, SyncRun
from apps.inventory.services import NotPossible
from tests.factories import inventory as make
from tests.factories.users import UserFactory
from tests.inventory.conftest import PROD, SANDBOX

pytestmark = pytest.mark.django_db


@pytest.fixture
def frank():
    return UserFactory(name="Frank", administrator=True)


def events(name):
    return AuditEvent.objects.filter(event=f"inventory.{name}")


# ---- connections


def test_a_connection_starts_observe_only_with_an_id_of_its_own(erin):
    one = services.add_connection(name="acme", region="eu-west-1", by=erin)
    other = services.add_connection(name="emca", region="eu-west-1", by=erin)
    assert not one.is_writable and not one.baselined_at
    assert one.external_id != other.external_id and len(one.external_id) > 20
    assert events("connection.added").count() == 2


@pytest.mark.parametrize("name", ["acme", "Not a slug", "", "x" * 61])
def test_a_connection_needs_a_name_of_its_own(erin, name):
    make.ConnectionFactory(name="acme")
    with pytest.raises(NotPossible):
        services.add_connection(name=name, region="eu-west-1", by=erin)
    assert Connection.objects.count() == 1


def test_a_baseline_makes_everything_standing_except_our_own(read, world, org, erin):
    world.add_entitlement("iam_inline_policy", "jit", account_id=PROD, attributes={"is_ours": True})
    world.assign("ci", "jit")
    world.add_entitlement("iam_inline_policy", "odd", account_id=PROD)
    world.assign("ci", "odd", is_ours=True)
    read()
    other = make.AssignmentFactory()
    org = services.baseline(org, by=erin)
    assert Assignment.objects.standing().count() == 5
    assert not Assignment.objects.standing().filter(entitlement__external_id__in=["jit", "odd"]).exists()
    other.refresh_from_db()
    assert not other.is_standing
    [event] = events("connection.baselined")
    assert event.data["assignments"] == 5 and len(event.data["digest"]) == 64
    assert org.baselined_by == erin


def test_what_is_seen_after_the_baseline_is_not_standing(read, world, org, erin):
    read()
    services.baseline(org, by=erin)
    world.assign("bob", f"Admin@{PROD}")
    read()
    assert not Assignment.objects.get(
        principal__external_id="bob", entitlement__external_id=f"Admin@{PROD}"
    ).is_standing


@pytest.mark.parametrize("state", ["incomplete", "held", "failed"])
def test_a_baseline_needs_a_complete_reading(org, erin, state):
    with pytest.raises(NotPossible, match="never read"):
        services.baseline(org, by=erin)
    make.SyncRunFactory(connection=org, started_at=timezone.now() - timedelta(hours=1))
    make.SyncRunFactory(connection=org, state=state)
    with pytest.raises(NotPossible, match="not complete"):
        services.baseline(org, by=erin)


def test_a_baseline_waits_for_a_running_sync_and_is_done_once(org, erin):
    make.SyncRunFactory(connection=org)
    running = make.SyncRunFactory(connection=org, state="running", finished_at=None)
    with pytest.raises(NotPossible, match="being read"):
        services.baseline(org, by=erin)
    running.delete()
    services.baseline(org, by=erin)
    with pytest.raises(NotPossible, match="done once"):
        services.baseline(org, by=erin)


def test_letting_it_write_takes_a_baseline_and_two_people(org, erin, frank):
    with pytest.raises(NotPossible, match="Baseline"):
        services.propose_writing(org, by=erin)
    make.SyncRunFactory(connection=org)
    services.baseline(org, by=erin)
    with pytest.raises(NotPossible, match="Nobody has proposed"):
        services.approve_writing(org, by=frank)
    services.propose_writing(org, by=erin)
    with pytest.raises(NotPossible, match="Erin proposed it already"):
        services.propose_writing(org, by=frank)
    with pytest.raises(NotPossible, match="yourself"):
        services.approve_writing(org, by=erin)
    assert not Connection.objects.get(pk=org.pk).is_writable
    services.approve_writing(org, by=frank)
    assert Connection.objects.writable().get() == org
    with pytest.raises(NotPossible, match="already"):
        services.approve_writing(org, by=frank)
    assert events("connection.writing_approved").get().data == {"proposed_by": "Erin"}


def test_the_database_too_wants_two_people(org, erin):
    now = timezone.now()
    with pytest.raises(IntegrityError, match="connection_writes_need_two_people"):
        Connection.objects.filter(pk=org.pk).update(
            baselined_at=now,
            write_proposed_at=now,
            write_proposed_by=erin,
            write_approved_at=now,
            write_approved_by=erin,
        )


def test_pausing_stops_reading_and_writing_until_it_is_resumed(erin, enqueued, django_capture_on_commit_callbacks):
    org = make.ConnectionFactory(writable=True)
    services.pause(org, by=erin)
    assert not Connection.objects.get().is_writable
    assert not Connection.objects.readable().exists()
    with pytest.raises(NotPossible):
        services.pause(org, by=erin)
    with pytest.raises(NotPossible, match="Resume it first"):
        services.request_sync(org, by=erin)
    with django_capture_on_commit_callbacks(execute=True):
        services.resume(org, by=erin)
    assert Connection.objects.get().is_writable
    assert enqueued.names == ["apps.inventory.tasks.sync_connection"]
    with pytest.raises(NotPossible):
        services.resume(org, by=erin)


def test_sync_now_enqueues_a_reading(read, org, erin, enqueued, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        services.request_sync(org, by=erin)
    assert events("connection.sync_requested").get().actor_name == "Erin"
    enqueued.run()
    assert org.runs.get().state == "complete"


def test_sync_now_says_when_one_is_running(org, erin):
    make.SyncRunFactory(connection=org, state="running", finished_at=None)
    with pytest.raises(NotPossible, match="being read"):
        services.request_sync(org, by=erin)


def test_a_task_that_comes_twice_reads_once(org, world, enqueued):
    make.SyncRunFactory(connection=org, state="running", finished_at=None)
    enqueued.calls.append(("apps.inventory.tasks.sync_connection", (org.pk,), {}))
    enqueued.run()
    assert org.runs.count() == 1


# ---- held drops


def held_run(read, world):
    for number in range(10):
        world.add_user(f"user{number}")
        world.assign(f"user{number}", f"Read@{SANDBOX}")
    read()
    for number in range(5):
        world.unassign(f"user{number}", f"Read@{SANDBOX}")
    return read()


def test_a_confirmed_drop_is_read_again_and_ended(read, world, org, erin, enqueued, django_capture_on_commit_callbacks):
    run = held_run(read, world)
    with django_capture_on_commit_callbacks(execute=True):
        services.confirm_drop(run, by=erin)
    assert events("sync_run.drop_confirmed").get().data == {"would_end": {"Directory": 5}}
    enqueued.run()
    assert org.runs.first().state == "complete"
    assert Assignment.objects.exclude(period__upper_inf=True).count() == 5


def test_only_the_latest_held_run_can_be_confirmed_and_only_once(read, world, erin):
    run = held_run(read, world)
    newer = read()
    with pytest.raises(NotPossible, match="newer run"):
        services.confirm_drop(run, by=erin)
    services.confirm_drop(newer, by=erin)
    with pytest.raises(NotPossible, match="does not wait"):
        services.confirm_drop(newer, by=erin)


# ---- the clock


def test_the_clock_reads_each_connection_again_after_its_time(enqueued, settings):
    settings.SYNC_EVERY_MINUTES = 15
    now = timezone.now()
    never, paused, fresh, old = make.ConnectionFactory.create_batch(4)
    Connection.objects.filter(pk=paused.pk).update(paused_at=now)
    make.SyncRunFactory(connection=fresh, started_at=now - timedelta(minutes=14))
    make.SyncRunFactory(connection=old, started_at=now - timedelta(minutes=19))
    periodic.sync_due()
    assert {args for _, args, _ in enqueued.calls} == {(never.pk,), (old.pk,)}


def test_every_connection_has_its_own_moment_within_a_fifth():
    now = timezone.now()
    for name in ("a", "b", "c"):
        org = Connection(name=name)
        assert not periodic.is_due(org, now - timedelta(minutes=14, seconds=59), now)
        assert periodic.is_due(org, now - timedelta(minutes=18, seconds=1), now)


# ---- who is who


def test_a_login_is_linked_to_a_person_by_somebody_else(erin, frank):
    alice = make.IdentityFactory(email="alice@example.com")
    user = UserFactory(email="alice@example.com")
    assert not Identity.objects.filter(user=user).exists()  # an equal address links nothing
    services.link_user(alice, user, by=erin)
    alice.refresh_from_db()
    assert (alice.user, alice.user_source) == (user, "linked by Erin")
    [event] = events("identity.user_linked")
    assert event.data == {"user": "alice@example.com", "source": "linked by Erin"}
    assert f"users.user:{user.pk}" in event.refs


def test_nobody_links_or_unlinks_their_own_login(erin):
    me = make.IdentityFactory()
    with pytest.raises(NotPossible, match="Another administrator"):
        services.link_user(me, erin, by=erin)
    Identity.objects.filter(pk=me.pk).update(user=erin)
    with pytest.raises(NotPossible, match="Another administrator"):
        services.unlink_user(me, by=erin)


def test_a_login_is_one_person_and_a_person_one_login(erin):
    user = UserFactory()
    alice, bob = make.IdentityFactory.create_batch(2)
    services.link_user(alice, user, by=erin)
    with pytest.raises(NotPossible, match="Unlink that first"):
        services.link_user(bob, user, by=erin)
    with pytest.raises(NotPossible, match="Unlink that first"):
        services.link_user(alice, UserFactory(), by=erin)
    services.unlink_user(alice, by=erin)
    services.link_user(bob, user, by=erin)
    assert events("identity.user_unlinked").count() == 1


@pytest.mark.parametrize(
    ("identity", "user"),
    [({"machine": True}, {}), ({"ended_at": timezone.now()}, {}), ({}, {"is_active": False})],
)
def test_only_people_who_are_here_are_linked(erin, identity, user):
    with pytest.raises(NotPossible):
        services.link_user(make.IdentityFactory(**identity), UserFactory(**user), by=erin)


# ---- owners and environments


@pytest.mark.parametrize("kind", ["resource", "entitlement", "group", "machine"])
def test_an_owner_is_named_and_taken_back(org, erin, kind):
    owned = {
        "resource": make.ResourceFactory,
        "entitlement": make.EntitlementFactory,
        "group": lambda connection: make.PrincipalFactory(connection=connection, group=True),
        "machine": lambda connection: make.IdentityFactory(connection=connection, machine=True),
    }[kind](connection=org)
    bob = make.IdentityFactory(connection=org)
    owned = services.set_owner(owned, bob, by=erin)
    assert type(owned).objects.get(pk=owned.pk).owner == bob
    assert getattr(owned, "owner_source", "set by Erin") == "set by Erin"
    owned = services.set_owner(owned, None, by=erin)
    assert owned.owner is None and not getattr(owned, "owner_source", "")
    assert AuditEvent.objects.filter(event__endswith=".owner_set").count() == 2


def test_an_owner_is_a_person_of_the_same_connection_who_is_here(org, erin):
    account = make.ResourceFactory(connection=org)
    for nobody in (
        make.IdentityFactory(connection=org, machine=True),
        make.IdentityFactory(connection=org, ended_at=timezone.now()),
        make.IdentityFactory(),
    ):
        with pytest.raises(NotPossible):
            services.set_owner(account, nobody, by=erin)


def test_people_and_logins_have_no_owner(org, erin):
    bob = make.IdentityFactory(connection=org)
    with pytest.raises(NotPossible):
        services.set_owner(make.IdentityFactory(connection=org), bob, by=erin)
    with pytest.raises(NotPossible):
        services.set_owner(make.PrincipalFactory(connection=org), bob, by=erin)


def test_a_persons_word_about_owner_and_environment_outlives_the_next_sync(read, world, org, erin):
    world.add_account(SANDBOX, "sandbox", path="Sandbox", tags={"owner": "alice@example.com"})
    read()
    sandbox = Resource.objects.get(external_id=SANDBOX)
    services.set_owner(sandbox, Identity.objects.get(external_id="bob"), by=erin)
    services.set_environment(sandbox, "production", by=erin)
    read()
    sandbox = Resource.objects.get(external_id=SANDBOX)
    assert (sandbox.owner.external_id, sandbox.environment) == ("bob", "production")
    assert sandbox.environment_source == "confirmed by Erin"
    services.set_owner(sandbox, None, by=erin)
    services.set_environment(sandbox, None, by=erin)
    assert Resource.objects.get(external_id=SANDBOX).environment == "sandbox"
    read()
    assert Resource.objects.get(external_id=SANDBOX).owner.external_id == "alice"


def test_a_refusal_writes_no_event(org, erin):
    with pytest.raises(NotPossible):
        services.propose_writing(org, by=erin)
    assert not AuditEvent.objects.exists()


def test_credentials_are_never_more_than_facts(read, world):
    world.credentials.append(CredentialRecord("ci", "access_key", "AKIA1", attributes={"rotated": "2026"}))
    read()
    assert Principal.objects.get(external_id="ci").credentials.get().attributes == {"rotated": "2026"}


def test_events_of_a_worker_carry_no_person(read):
    read()
    assert events("sync_run.finished").get().actor_kind == audit.WORKER.kind


def test_the_run_is_kept_when_it_failed(read, world, org):
    world.hook = lambda when, call: (_ for _ in ()).throw(ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        read()
    assert SyncRun.objects.get().problem == "Gatehouse itself failed (ZeroDivisionError). Its log says where."


def test_entitlement_owners_survive_a_change_of_the_entitlement(read, world, erin):
    read()
    admin = Entitlement.objects.get(external_id=f"Admin@{PROD}")
    bob = Identity.objects.get(external_id="bob")
    services.set_owner(admin, bob, by=erin)
    world.add_permission_set("Admin", PROD, {"Version": "2012-10-17", "Statement": []})
    read()
    admin.refresh_from_db()
    assert admin.owner == bob and admin.privilege == "none"
