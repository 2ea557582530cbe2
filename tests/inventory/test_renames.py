"""IAM users get new names: what people said about them stays said."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.connectors.base import CredentialRecord
from apps.inventory import services
from apps.inventory.models import Assignment, ChangeMark, Correlation, Identity, Principal
from apps.inventory.models.holders import Classification
from apps.inventory.services.handing_over import hand_over
from apps.inventory.sync import reading as sync_reading
from apps.inventory.sync import renames
from tests.inventory.conftest import PROD, SANDBOX
from tests.inventory.test_following import follow, tell

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


def test_it_is_theirs_as_soon_as_the_account_is_read_again(bobs, org, world, user, monkeypatch):
    monkeypatch.setattr(ChangeMark, "SETTLES_FOR", timedelta(0))
    org.options["change_queue"] = "gatehouse-changes"
    org.save()
    user("new", was="old")
    tell(world, ("account", PROD, ""))
    follow(org)
    assert whose("new") == "bob"


def test_it_is_theirs_before_the_rest_of_the_organization_was_read(bobs, read, user, monkeypatch):
    seen = []
    finish = sync_reading._Run.finish
    at_the_end = SimpleNamespace(correlate=lambda *_args, **_more: None)
    monkeypatch.setattr(sync_reading, "correlation", at_the_end)
    monkeypatch.setattr(sync_reading._Run, "finish", lambda run: seen.append(whose("new")) or finish(run))
    user("new", was="old")
    read()
    assert seen == ["bob"]


@pytest.mark.parametrize("next_name", ["old", "third"])
def test_what_was_said_last_holds_under_the_next_name(bobs, read, user, erin, next_name):
    user("new", was="old")
    read()
    services.say_machine(principal("new"), by=erin, reason="A robot has the keys now.")
    read()
    user(next_name, was="new")
    read()
    assert (whose(next_name), principal(next_name).correlation.decision) == ("machine", "machine")


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


def test_what_a_rule_said_of_the_old_name_does_not_hold_for_the_new_one(read, user, world):
    user("alice@example.com")
    world.credentials.append(CredentialRecord("alice@example.com", "password", "password"))
    read()
    assert whose("alice@example.com") == "alice"
    world.credentials.clear()
    user("batch", was="alice@example.com")
    read()
    assert (whose("batch"), whose("alice@example.com")) == ("machine", "alice")


# ---- what was said about a machine


@pytest.fixture
def described(read, user, erin):
    user("old", tags={"owner": "alice@example.com"})
    read()
    old = machine("old")
    services.set_owner(old, person("bob"), by=erin)
    services.set_successor(old, person("alice"), by=erin)
    services.describe(old, purpose="Nightly exports.", consumers="Finance.", by=erin)
    services.correct(old, classification=Classification.SERVICE, reason="A batch job.", by=erin)


def about(one):
    return (
        one.owner and one.owner.external_id,
        one.successor and one.successor.external_id,
        one.purpose,
        one.consumers,
    )


def test_what_was_said_about_a_machine_moves_to_its_new_name(described, read, user):
    user("new", was="old", tags={"owner": "alice@example.com"})
    read()
    new, old = machine("new"), machine("old")
    assert about(new) == ("bob", "alice", "Nightly exports.", "Finance.")
    assert (new.owner_source, new.successor_source) == ("set by Erin", "set by Erin")
    assert (new.what, new.said.reason) == ("AWS service", "A batch job.")
    assert (about(old), old.owner_source, old.said) == ((None, None, "", ""), "", None)
    event = AuditEvent.objects.get(event="inventory.identity.renamed")
    assert event.data["kept"] == ["owner", "successor", "purpose", "consumers", "correction"]
    assert event.subject_name == "new"
    read()
    assert about(machine("new")) == ("bob", "alice", "Nightly exports.", "Finance.")
    assert AuditEvent.objects.filter(event="inventory.identity.renamed").count() == 1


def test_what_is_taken_back_under_the_new_name_does_not_return(described, read, user, erin):
    user("new", was="old")
    read()
    services.set_owner(machine("new"), None, by=erin)
    services.take_correction_back(machine("new"), by=erin)
    user("third", "AIDA3")  # so that something changes in the account
    read()
    assert (machine("new").owner, machine("new").said) == (None, None)


def test_what_is_taken_back_does_not_return_from_what_was_left_with_the_old_name(described, read, user, erin, world):
    user("new", was="old")
    world.scan_problems[PROD].append("Page 2 could not be read.")
    read()
    services.set_owner(machine("new"), person("alice"), by=erin)
    services.correct(machine("new"), classification=Classification.SAML, reason="I looked.", by=erin)
    world.scan_problems.clear()
    read()
    services.set_owner(machine("new"), None, by=erin)
    services.take_correction_back(machine("new"), by=erin)
    user("third", "AIDA3")
    read()
    assert (machine("new").owner, machine("new").said) == (None, None)


def test_a_rename_is_followed_once(described, read, user, monkeypatch):
    user("new", was="old")
    read()
    asked = []
    monkeypatch.setattr(renames.correlation, "correlate", lambda *_args, **more: asked.append(more))
    user("third", "AIDA3")
    read()
    assert [more["with_rules"] for more in asked] == [True], "only at the end of the reading"


def test_a_new_name_that_comes_after_the_old_one_ended_is_followed(described, read, user, world):
    del world.principals["old"]
    world.unassign("old", "deploy")
    read()
    assert principal("old").ended_at
    user("new")
    read()
    assert about(machine("new")) == ("bob", "alice", "Nightly exports.", "Finance.")


def test_what_was_said_does_not_stay_for_who_takes_the_old_name(described, read, user):
    user("new", was="old")
    user("old", "AIDA9", tags={"owner": "alice@example.com"})
    read()
    new, old = machine("new"), machine("old")
    assert about(new) == ("bob", "alice", "Nightly exports.", "Finance.")
    assert (new.owner_source, new.said.reason) == ("set by Erin", "A batch job.")
    assert (about(old), old.said) == ((None, None, "", ""), None)
    event = AuditEvent.objects.get(event="inventory.identity.renamed")
    assert (event.subject_name, event.data["from"]) == ("new", "old")
    read()
    assert (about(machine("new"))[0], machine("old").owner_source) == ("bob", "tag owner")


@pytest.mark.parametrize(("first", "second"), [("old", "other"), ("third", "other")], ids=["swapped", "moved up"])
def test_machines_that_take_each_others_names_keep_what_was_said(described, read, user, erin, world, first, second):
    user("other", "AIDA2")
    read()
    services.describe(machine("other"), purpose="Reports.", consumers="", by=erin)
    services.correct(machine("other"), classification=Classification.SAML, reason="I looked.", by=erin)
    del world.principals["old"], world.principals["other"]
    user(first, "AIDA2")
    user(second, "AIDA1")
    read()
    assert (about(machine(first)), machine(first).said.reason) == ((None, None, "Reports.", ""), "I looked.")
    assert about(machine(second)) == ("bob", "alice", "Nightly exports.", "Finance.")
    assert machine(second).said.reason == "A batch job."


def test_what_was_said_stays_with_the_name_of_a_user_that_was_made_again(described, read, user):
    user("old", "AIDA9")
    read()
    assert about(machine("old")) == ("bob", "alice", "Nightly exports.", "Finance.")
    assert machine("old").said


def test_a_user_that_takes_the_name_of_a_deleted_one_keeps_what_was_said_about_itself(described, read, user, erin):
    user("blue", "AIDA2")
    read()
    services.describe(machine("blue"), purpose="Hourly exports.", consumers="", by=erin)
    user("old", "AIDA2", was="blue")
    read()
    assert machine("old").purpose == "Hourly exports."


@pytest.mark.parametrize("next_name", ["old", "third"])
def test_it_moves_on_with_the_next_name(described, read, user, erin, next_name):
    user("new", was="old")
    read()
    services.describe(machine("new"), purpose="Hourly exports.", consumers="", by=erin)
    user(next_name, was="new")
    read()
    assert about(machine(next_name)) == ("bob", "alice", "Hourly exports.", "")
    assert machine(next_name).said


def test_what_was_said_of_the_new_name_stays(described, read, user, erin, world):
    user("new", was="old")
    world.scan_problems[PROD].append("Page 2 could not be read.")  # so the old name is not known to be gone
    read()
    new = machine("new")
    services.set_owner(new, person("alice"), by=erin)
    services.describe(new, purpose="", consumers="Sales.", by=erin)
    services.correct(new, classification=Classification.SAML, reason="I looked.", by=erin)
    world.scan_problems.clear()
    read()
    assert about(machine("new")) == ("alice", "alice", "Nightly exports.", "Sales.")
    assert machine("new").said.reason == "I looked."
    assert machine("old").said.reason == "A batch job."


def test_what_sync_worked_out_about_the_old_name_does_not_move(read, user):
    user("old", tags={"owner": "alice@example.com"})
    read()
    user("new", was="old")
    read()
    assert machine("new").owner is None
    assert machine("old").owner == person("alice")
    assert not AuditEvent.objects.filter(event="inventory.identity.renamed").exists()


def test_nothing_is_looked_for_where_no_principal_came_or_went(described, read, user, monkeypatch):
    asked = []
    monkeypatch.setattr(renames, "_follow", lambda account, *_more: asked.append(account.external_id))
    read()
    assert asked == []
    user("new", was="old")
    read()
    assert asked == [PROD]


def test_who_got_a_leavers_machine_keeps_it_unless_the_new_name_is_tagged_with_somebody_else(read, user, world):
    user("old", tags={"owner": "bob@example.com"})
    read()
    hand_over(person("bob"), person("alice"), by=audit.CLOCK)
    world.add_user("bob", attributes={"status": "disabled"})
    user("new", was="old", tags={"owner": "bob@example.com"})
    read()
    assert machine("new").owner == person("alice")
    world.add_user("carol", email="carol@example.com")
    user("newer", was="new", tags={"owner": "carol@example.com"})
    read()
    assert machine("newer").owner == person("carol")
