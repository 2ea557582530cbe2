"""IAM users get new names: what people said about them stays said."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.connectors.base import CredentialRecord
from apps.inventory import services
from apps.inventory.models import Assignment, Correlation, Identity, Principal
from tests.inventory.conftest import PROD, SANDBOX

pytestmark = pytest.mark.django_db


@pytest.fixture
def user(world):
    """Put an IAM user of this name and unique id into prod, with something that it holds; `was` is its name until now."""

    def put(name, unique_id="AIDA1", *, was="", account_id=PROD, **more):
        if was:
            del world.principals[was]
            world.unassign(was, "deploy")
        world.add_principal("iam_user", name, account_id=account_id, attributes={"unique_id": unique_id, **more})
        if account_id == PROD:
            world.assign(name, "deploy")

    return put


def person(external_id):
    return Identity.objects.get(external_id=external_id, kind="human")


def machine(external_id):
    return Identity.objects.select_related("correction", "owner", "successor").get(
        external_id=external_id, kind="machine"
    )


def principal(external_id):
    return Principal.objects.select_related("identity", "correlation").get(external_id=external_id)


def whose(external_id):
    found = principal(external_id)
    return found.identity.external_id if found.identity.is_human else found.identity.kind


@pytest.fixture
def bobs(read, user, erin):
    """`old` is Bob's login, an administrator says: it has keys only, so no rule would ever ask."""
    user("old")
    read()
    services.say_whose(principal("old"), person("bob"), by=erin, reason="His keys.")
    read()
    assert whose("old") == "bob"


# ---- whose login it is


def test_a_login_that_is_renamed_stays_its_persons(bobs, read, user):
    user("new", was="old")
    read()
    bob, row = person("bob"), principal("new")
    assert row.identity == bob
    assert "deploy" in {path.assignment.entitlement.name for path in Assignment.objects.paths_of(bob)}
    assert (row.correlation.decision, row.correlation.reason) == ("person", "His keys.")
    assert row not in Principal.objects.matched_by_rule()
    assert AuditEvent.objects.filter(event="inventory.connection.correlated").latest("pk").data["carried_over"] == 1
    assert whose("old") == "bob"  # history does not change
    events = AuditEvent.objects.filter(event="inventory.connection.correlated").count()
    read()
    assert AuditEvent.objects.filter(event="inventory.connection.correlated").count() == events


def test_it_is_theirs_while_the_old_name_cannot_end_yet(bobs, read, user, world):
    user("new", was="old")
    world.scan_problems[PROD].append("Page 2 could not be read.")
    read()
    assert principal("old").ended_at is None
    assert whose("new") == "bob"


def test_what_is_said_under_the_new_name_holds_when_the_old_one_is_back(bobs, read, user, erin):
    user("new", was="old")
    read()
    services.say_machine(principal("new"), by=erin, reason="A robot has the keys now.")
    read()
    user("old", was="new")
    read()
    assert (whose("old"), principal("old").correlation.decision) == ("machine", "machine")


def test_two_users_that_swap_names_keep_their_answers(bobs, read, user, erin, world):
    user("other", "AIDA2")
    read()
    services.say_whose(principal("other"), person("alice"), by=erin)
    read()
    user("old", "AIDA2")
    user("other", "AIDA1")
    read()
    assert (whose("old"), whose("other")) == ("alice", "bob")


def test_who_takes_the_old_name_gets_nothing_of_it(bobs, read, user):
    user("new", was="old")
    user("old", "AIDA2")
    read()
    assert (whose("new"), whose("old")) == ("bob", "machine")


@pytest.mark.parametrize(
    ("unique_id", "account_id"), [("AIDA2", PROD), ("AIDA1", SANDBOX)], ids=["another id", "another account"]
)
def test_another_user_is_nobodys_by_it(bobs, read, user, unique_id, account_id):
    user("new", unique_id, account_id=account_id)
    read()
    assert (whose("new"), Correlation.objects.filter(principal__external_id="new").exists()) == ("machine", False)


def test_a_users_id_that_aws_did_not_say_makes_nobody_the_same(read, user, erin):
    user("old", "")
    read()
    services.say_whose(principal("old"), person("bob"), by=erin)
    user("new", "", was="old")
    read()
    assert whose("new") == "machine"


def test_a_question_that_a_person_asked_waits_under_the_new_name(read, user, erin):
    user("old")
    read()
    services.correct(machine("old"), classification=None, is_person=True, reason="Bob logs in with it.", by=erin)
    user("new", was="old")
    read()
    assert [row.principal.external_id for row in Correlation.objects.waiting()] == ["new"]
    assert "Bob logs in with it." in principal("new").correlation.note


def test_what_a_person_said_counts_before_what_a_rule_says_of_the_new_name(read, user, world, erin):
    user("old")
    read()
    services.say_machine(principal("old"), by=erin, reason="A robot.")
    user("alice@example.com", was="old")
    world.credentials.append(CredentialRecord("alice@example.com", "password", "password"))
    read()
    assert whose("alice@example.com") == "machine"
    Correlation.objects.filter(principal__external_id="alice@example.com").update(  # as earlier versions left it
        decision="person", person=person("alice"), decided_by=None, decided_at=timezone.now()
    )
    read()
    assert whose("alice@example.com") == "machine"
