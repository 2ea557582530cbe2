"""What somebody who left answered for, and what tags say about it afterwards."""

from __future__ import annotations

import pytest
from django.utils import timezone

from apps.audit import services as audit
from apps.inventory import services
from apps.inventory.models import Identity, Resource
from apps.inventory.services.handing_over import hand_over
from apps.inventory.sync.upserts import is_derived
from tests.factories.inventory import IdentityFactory
from tests.inventory.conftest import PROD, trust

pytestmark = pytest.mark.django_db

BOB, CAROL, NOBODY = "bob@example.com", "carol@example.com", "payments-team"


@pytest.fixture
def tag(world):
    """Tag the production account and the role `exporter` in it with this owner."""
    world.add_user("carol", display_name="Carol", email=CAROL)

    def say(owner):
        world.add_account(PROD, "prod", path="Workloads/Production", tags={"owner": owner})
        attributes = trust(Service="lambda.amazonaws.com") | {"tags": {"owner": owner}}
        world.add_principal("iam_role", "exporter", account_id=PROD, attributes=attributes)

    return say


def person(external_id):
    return Identity.objects.get(external_id=external_id, kind="human")


def leave(external_id, to, world):
    world.add_user(external_id, attributes={"status": "disabled"})
    Identity.objects.filter(external_id=external_id).update(ended_at=timezone.now())
    hand_over(person(external_id), person(to), by=audit.CLOCK)


def owned():
    return Resource.objects.get(external_id=PROD), Identity.objects.get(external_id="exporter")


def owners():
    return [(one.owner.external_id, one.owner_source) for one in owned()]


def test_a_tag_that_names_somebody_else_by_now_counts_again(read, world, tag):
    tag(BOB)
    read()
    leave("bob", "alice", world)
    tag(CAROL)
    read()
    assert owners() == [("carol", "tag owner")] * 2


@pytest.mark.parametrize("says", [BOB, NOBODY], ids=["who left", "nobody"])
def test_a_tag_that_names_nobody_who_is_here_changes_nothing(read, world, tag, says):
    tag(BOB)
    read()
    leave("bob", "alice", world)
    tag(says)
    read()
    assert owners() == [("alice", "passed on by Bob Lindqvist, who left")] * 2


def test_what_was_passed_on_twice_follows_its_tag_too(read, world, tag):
    world.add_user("dave")
    tag(BOB)
    read()
    leave("bob", "alice", world)
    leave("alice", "dave", world)
    read()
    assert owners() == [("dave", "passed on by Alice Moreau, who left")] * 2
    tag(CAROL)
    read()
    assert owners() == [("carol", "tag owner")] * 2


def test_a_tag_that_a_person_overruled_counts_no_more_than_before(read, world, tag, erin):
    tag(CAROL)
    read()
    for one in owned():
        services.set_owner(one, person("bob"), by=erin)
    leave("bob", "alice", world)
    read()
    assert owners() == [("alice", "set by Erin; passed on by Bob Lindqvist, who left")] * 2


def test_the_successor_whom_a_person_named_stays_whatever_a_tag_says(read, world, tag, erin):
    tag(BOB)
    read()
    services.set_successor(owned()[1], person("alice"), by=erin)
    leave("bob", "carol", world)
    world.add_user("dave", email="dave@example.com")
    tag("dave@example.com")
    read()
    assert owners() == [("dave", "tag owner"), ("alice", "named to succeed Bob Lindqvist, who left")]


@pytest.mark.parametrize(
    "source",
    ["", "tag owner", "stack s-1", "creator", "account owner", "Identity Center", "set by Erin", "tags.csv", "x" * 120],
)
def test_whether_a_person_said_it_is_kept(org, source):
    bob, alice = IdentityFactory(connection=org, name="Bob"), IdentityFactory(connection=org, name="Alice")
    robot = IdentityFactory(connection=org, machine=True, owner=bob, owner_source=source)
    hand_over(bob, alice, by=audit.CLOCK)
    robot.refresh_from_db()
    assert robot.owner == alice
    assert robot.owner_source.startswith("passed on by Bob" if is_derived(source) else source)
