"""Whose login an IAM user is: what the rules propose, what people say, and that it stays said."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.access.models import Offer
from apps.access.services.offers import holders_for
from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors.base import CredentialRecord
from apps.grants import warrants
from apps.grants.models import Grant
from apps.inventory import services, tasks
from apps.inventory.models import Assignment, ChangeMark, Correlation, Identity, Principal
from apps.inventory.services import NotPossible
from apps.inventory.sync.correlation import RULES, correlate
from tests.factories.inventory import CredentialFactory, EntitlementFactory, IdentityFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.inventory.conftest import PROD
from tests.inventory.test_following import follow, tell


@pytest.fixture
def alice(org):
    user = UserFactory(name="Alice")
    person = IdentityFactory(connection=org, name="Alice", email="alice@example.com", external_id="alice", user=user)
    PrincipalFactory(connection=org, external_id="alice", name="amoreau", identity=person)
    return person


def login(org, name, *, tags=None, password=True, unique_id="AIDA1"):
    row = PrincipalFactory(
        connection=org,
        iam_user=True,
        external_id=f"arn:{name}",
        name=name,
        attributes={"tags": tags or {}, "unique_id": unique_id},
    )
    if password:
        CredentialFactory(principal=row, kind="password", external_id="password")
    return row


def run(org, *, with_rules=True):
    correlate(org, by=audit.WORKER, with_rules=with_rules)


def question(principal):
    return Correlation.objects.filter(principal=principal).first()


@pytest.mark.parametrize(
    ("name", "tags", "rule"),
    [
        ("someone", {"Email": " ALICE@example.com "}, "tag"),
        ("someone", {"owner": "alice@example.com"}, "tag"),
        ("AMoreau", {}, "directory_name"),
        ("alice", {}, "local_part"),
        ("bob@example.com", {"email": "alice@example.com"}, "tag"),
        ("alic", {"note": "alice@example.com"}, ""),
        ("alice.example.com", {}, ""),
    ],
)
def test_a_rule_proposes_and_links_nobody(org, alice, name, tags, rule):
    row = login(org, name, tags=tags)
    run(org)
    asked = question(row)
    assert (asked.decision, asked.rule, asked.proposed) == ("", rule, alice if rule else None)
    row.refresh_from_db()
    assert row.identity.kind == "machine"


def test_the_exact_rule_links_by_itself_and_the_machine_is_kept_for_history(org, alice):
    row = login(org, "Alice@Example.com")
    machine = row.identity
    run(org)
    row.refresh_from_db()
    machine.refresh_from_db()
    assert (row.identity, question(row).decided_by) == (alice, None)
    assert machine.ended_at
    event = AuditEvent.objects.get(event="inventory.connection.correlated")
    assert (event.data["linked"], event.data["asked"]) == (1, 1)
    run(org)
    assert AuditEvent.objects.filter(event="inventory.connection.correlated").count() == 1


@pytest.mark.parametrize(
    "why", ["a tag names another person", "two have the address", "no password", "directory unread", "she left"]
)
def test_the_exact_rule_never_guesses(org, alice, why):
    IdentityFactory(connection=org, email="bob@example.com")
    tags = {"email": "bob@example.com"} if why == "a tag names another person" else {}
    row = login(org, "alice@example.com", tags=tags, password=why != "no password")
    if why == "two have the address":
        IdentityFactory(connection=org, email="ALICE@example.com")
    if why == "she left":
        Identity.objects.filter(pk=alice.pk).update(ended_at=timezone.now())
    run(org, with_rules=why != "directory unread")
    row.refresh_from_db()
    assert row.identity.kind == "machine"
    asked = question(row)
    assert asked is None if why == "no password" else asked.decision == ""
    if why == "two have the address":
        assert (asked.proposed, bool(asked.note)) == (None, True)


def test_what_a_rule_linked_lets_nobody_ask_for_more_until_it_is_confirmed(org, alice, erin):
    row = login(org, "alice@example.com")
    run(org)
    row.refresh_from_db()
    assert row in Principal.objects.matched_by_rule()
    services.say_whose(row, alice, by=erin)
    assert row not in Principal.objects.matched_by_rule()


def test_a_rule_linked_login_is_not_offered_to_its_person(org, alice, erin):
    row = login(org, "alice@example.com")
    run(org)
    policy = EntitlementFactory(connection=org, resource=row.resource, kind="dated_policy")
    offer = Offer(entitlement=policy, provisioner="iam_timeboxed_policy")
    assert row not in holders_for(alice.user, offer)
    services.say_whose(row, alice, by=erin)
    assert row in holders_for(alice.user, offer)


def test_no_grant_is_opened_on_a_login_that_only_a_rule_matched(org, alice, monkeypatch):
    row = login(org, "alice@example.com")
    run(org)
    row.refresh_from_db()
    monkeypatch.setattr(warrants.policies, "is_what_it_says", lambda _entitlement: True)
    policy = EntitlementFactory(connection=org, resource=row.resource, kind="dated_policy")
    grant = Grant(connection=org, identity=alice, principal=row, entitlement=policy, provisioner="iam_timeboxed_policy")
    with pytest.raises(warrants.InvalidWarrant, match="Only a rule says whose login this is"):
        warrants.ask_rules_again(grant)


def test_an_answer_wakes_a_worker_who_moves_the_login(
    org, alice, erin, monkeypatch, django_capture_on_commit_callbacks
):
    row = login(org, "jenkins-old")
    monkeypatch.setattr(tasks.correlate_people, "delay", tasks.correlate_people)
    with django_capture_on_commit_callbacks(execute=True):
        services.say_whose(row, alice, by=erin, reason="She set it up for herself in 2019.")
    row.refresh_from_db()
    assert row.identity == alice
    assert {one.name for one in alice.principals.all()} == {"amoreau", "jenkins-old"}
    event = AuditEvent.objects.get(event="inventory.principal.linked")
    assert (event.data["person"], event.data["reason"]) == ("Alice", "She set it up for herself in 2019.")


def test_it_is_undone_and_no_rule_does_it_again(org, alice, erin):
    row = login(org, "alice@example.com")
    machine = row.identity
    run(org)
    services.unlink_login(row, by=erin, reason="A shared mailbox.")
    run(org)
    run(org)
    row.refresh_from_db()
    machine.refresh_from_db()
    assert (row.identity, machine.ended_at) == (machine, None)
    assert question(row) in Correlation.objects.waiting()
    services.say_machine(row, by=erin)
    assert question(row) not in Correlation.objects.waiting()


def test_not_now_comes_back_by_itself(org, alice, erin):
    row = login(org, "someone")
    run(org)
    services.put_off(row, by=erin)
    asked = question(row)
    assert asked not in Correlation.objects.waiting()
    assert asked in Correlation.objects.put_off()
    assert asked in Correlation.objects.waiting(timezone.now() + timedelta(days=31))


def test_another_user_by_the_same_name_is_asked_about_anew(org, alice, erin):
    row = login(org, "someone", unique_id="AIDA1")
    run(org)
    services.say_whose(row, alice, by=erin)
    run(org)
    Principal.objects.filter(pk=row.pk).update(attributes={"tags": {}, "unique_id": "AIDA2"})
    run(org)
    row.refresh_from_db()
    assert row.identity.kind == "machine"
    assert (question(row).decision, question(row).decided_by) == ("", None)


@pytest.mark.parametrize("linked_by", ["a rule", "an administrator", "a row that is gone"])
def test_another_user_by_the_same_name_without_a_password_is_nobodys_login(org, alice, erin, linked_by):
    row = login(org, "alice@example.com")
    machine = row.identity
    run(org)
    if linked_by == "an administrator":
        services.say_whose(row, alice, by=erin)
    row.credentials.update(is_active=False)
    Principal.objects.filter(pk=row.pk).update(attributes={"tags": {}, "unique_id": "AIDA2"})
    if linked_by == "a row that is gone":  # as earlier versions left it
        question(row).delete()
    run(org)
    for one in (row, machine):
        one.refresh_from_db()
    assert (row.identity, machine.ended_at, question(row)) == (machine, None, None)
    assert AuditEvent.objects.filter(event="inventory.connection.correlated").latest("pk").data["unlinked"] == 1


def test_a_question_goes_when_the_password_does_and_stays_when_a_person_asked(org, alice, erin):
    plain, said = login(org, "plain"), login(org, "said")
    run(org)
    services.correct(said.identity, classification=None, is_person=True, reason="Bob logs in with it.", by=erin)
    for row in (plain, said):
        row.credentials.update(is_active=False)
    run(org)
    assert question(plain) is None
    assert question(said) in Correlation.objects.waiting()
    assert "Bob logs in with it." in question(said).note


def test_nobody_links_or_unlinks_their_own_logins(org, erin):
    me = IdentityFactory(connection=org, email="erin@example.com", user=erin)
    row = login(org, "erin")
    run(org)
    with pytest.raises(NotPossible, match="Another administrator"):
        services.say_whose(row, me, by=erin)
    assert services.accept_proposals("local_part", by=erin) == 0
    services.say_whose(row, me, by=UserFactory(administrator=True))
    for decide in (services.say_machine, services.unlink_login):
        with pytest.raises(NotPossible, match="Another administrator"):
            decide(row, by=erin)


@pytest.mark.parametrize("who", ["left", "machine", "elsewhere"])
def test_a_login_belongs_only_to_a_person_who_is_here(org, erin, who):
    row = login(org, "someone")
    person = {
        "left": lambda: IdentityFactory(connection=org, ended_at=timezone.now()),
        "machine": lambda: IdentityFactory(connection=org, machine=True),
        "elsewhere": IdentityFactory,
    }[who]()
    with pytest.raises(NotPossible):
        services.say_whose(row, person, by=erin)
    assert not AuditEvent.objects.filter(event="inventory.principal.linked").exists()


def test_only_iam_users_are_linked_by_hand(org, alice, erin):
    for row in (PrincipalFactory(connection=org, iam_role=True), alice.principals.get()):
        with pytest.raises(NotPossible, match="no IAM user"):
            services.say_whose(row, alice, by=erin)


def test_all_that_one_rule_proposes_is_accepted_at_once_with_an_event_each(org, alice, erin):
    rows = [login(org, "alice"), login(org, "bob", tags={"email": "alice@example.com"}), login(org, "x")]
    run(org)
    assert services.accept_proposals("local_part", by=erin) == 1
    run(org)
    assert [Principal.objects.get(pk=row.pk).identity == alice for row in rows] == [True, False, False]
    assert AuditEvent.objects.filter(event="inventory.principal.linked").count() == 1


def test_what_was_answered_survives_a_sync_and_counts_as_the_persons(read, world, org, erin):
    world.add_principal("iam_user", "console", account_id=PROD, attributes={"unique_id": "AIDA1"})
    world.credentials.append(CredentialRecord("console", "password", "password"))
    world.assign("console", "deploy")
    read()
    row = Principal.objects.get(external_id="console")
    alice = Identity.objects.get(external_id="alice")
    services.say_whose(row, alice, by=erin)
    for _ in range(2):
        assert read().state == "complete"
        row.refresh_from_db()
        assert row.identity == alice
        assert Identity.objects.get(external_id="console").ended_at
    assert "deploy" in {path.assignment.entitlement.name for path in Assignment.objects.paths_of(alice)}
    services.say_machine(row, by=erin)
    read()
    row.refresh_from_db()
    assert row.identity == Identity.objects.get(external_id="console", kind="machine", ended_at=None)


def test_odd_tags_crash_nothing(org, alice):
    for n, tags in enumerate([[], "alice@example.com", {"email": ["alice@example.com"]}, {"email": None}, 7]):
        row = login(org, f"user-{n}")
        Principal.objects.filter(pk=row.pk).update(attributes={"tags": tags})
    run(org)
    assert set(Correlation.objects.values_list("rule", flat=True)) == {""}


def test_only_one_rule_links_by_itself():
    assert [rule.key for rule in RULES if rule.is_exact] == ["user_name"]


def test_another_user_of_that_name_is_nobodys_login_as_soon_as_its_account_is_read_again(org, world, read, monkeypatch):
    """Not only after the next full reading, which a change feed makes seldom."""
    monkeypatch.setattr(ChangeMark, "SETTLES_FOR", timedelta(0))
    org.options["change_queue"] = "gatehouse-changes"
    org.save()
    name = "alice@example.com"
    world.add_principal("iam_user", "arn:alice", name, account_id=PROD, attributes={"unique_id": "AIDA1"})
    world.credentials.append(CredentialRecord("arn:alice", "password", "password"))
    read()
    login = Principal.objects.get(external_id="arn:alice")
    assert login.identity == Identity.objects.get(external_id="alice")
    world.add_principal("iam_user", "arn:alice", name, account_id=PROD, attributes={"unique_id": "AIDA2"})
    tell(world, ("account", PROD, ""))
    follow(org)
    login.refresh_from_db()
    assert login.identity.kind == "machine" and login.identity.ended_at is None
    assert question(login) in Correlation.objects.waiting()
    assert AuditEvent.objects.filter(event="inventory.connection.correlated").latest("pk").data["unlinked"] == 1
