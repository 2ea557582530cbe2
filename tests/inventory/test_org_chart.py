"""Managers from a CSV: all or nothing, and what is wrong is said by line."""

from __future__ import annotations

import pytest

from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.inventory import services
from apps.inventory.models import Identity
from tests.factories import inventory as make

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(org):
    return {
        name: make.IdentityFactory(connection=org, external_id=name, email=f"{name}@example.com")
        for name in ("alice", "bob", "carol")
    }


def take(org, *lines):
    return services.import_org_chart(org, iter(lines), by=audit.COMMAND, source="org.csv")


def managers():
    return dict(Identity.objects.order_by("external_id").values_list("external_id", "manager__external_id"))


def test_managers_are_taken_with_their_source(org, people):
    done = take(
        org, "name,Manager,Email\n", "Alice,CAROL@example.com,alice@example.com\n", "Carol,,carol@example.com\n"
    )
    assert (done.changed, done.unchanged, done.unknown) == (2, 0, [])
    assert managers() == {"alice": "carol", "bob": None, "carol": None}
    assert Identity.objects.get(external_id="alice").manager_source == "CSV org.csv"
    assert AuditEvent.objects.get().data == {"source": "org.csv", "changed": 2, "unknown": 0, "ended": []}
    again = take(org, "email,manager\n", "alice@example.com,carol@example.com\n")
    assert (again.changed, again.unchanged) == (0, 1)


def test_people_nobody_knows_are_named_and_left(org, people):
    done = take(org, "email,manager\n", "new@example.com,carol@example.com\n", "alice@example.com,boss@example.com\n")
    assert done.unknown == [
        "Line 2: new@example.com is not in the directory.",
        "Line 3: boss@example.com is not in the directory.",
    ]
    assert managers()["alice"] is None


def test_who_leaves_does_so_whether_their_manager_is_known_or_not(org, people):
    Identity.objects.filter(pk=people["alice"].pk).update(manager=people["carol"])
    done = take(org, "email,manager,department,last day\n", "alice@example.com,boss@example.com,Treasury,2026-01-31\n")
    assert done.unknown == ["Line 2: boss@example.com is not in the directory. The rest of the line counts."]
    alice = Identity.objects.get(pk=people["alice"].pk)
    assert (bool(alice.ended_at), alice.department, alice.manager) == (True, "Treasury", people["carol"])


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["person;boss\n"], "Line 1: the first line names the columns"),
        ([], "Line 1: the first line names the columns"),
        (["alice,bob\n"], "Line 2: 'alice' is not an e-mail address."),
        (["alice@example.com\n"], "Line 2: it has 1 cells, the first line has 2."),
        (["alice@example.com,alice@example.com\n"], "Line 2: alice@example.com cannot report to themselves."),
        (
            ["alice@example.com,bob@example.com\n", "alice@example.com,carol@example.com\n"],
            "Line 3: alice@example.com has another manager in line 2.",
        ),
        (["twin@example.com,bob@example.com\n"], "Line 2: twin@example.com is the address of two people"),
        (['"alice@example.com,bob\n'], "it is not CSV"),
        (
            ["alice@example.com,bob@example.com\n", "bob@example.com,alice@example.com\n"],
            "Line 2: this closes a circle: alice@example.com → bob@example.com → alice@example.com.",
        ),
    ],
)
def test_a_file_that_makes_no_sense_changes_nothing_and_says_where(org, people, lines, problem):
    make.IdentityFactory.create_batch(2, connection=org, email="twin@example.com")
    header = [] if problem.startswith("Line 1") else ["email,manager\n", "carol@example.com,\n"]
    lines = [*header[:1], *lines]
    with pytest.raises(services.OrgChartError) as caught:
        take(org, *lines, "carol@example.com,bob@example.com\n")
    assert problem in str(caught.value)
    assert set(managers().values()) == {None}
    assert not AuditEvent.objects.exists()


def test_a_circle_that_the_file_closes_with_what_stands_is_found(org, people):
    people["bob"].manager = people["alice"]
    people["bob"].save()
    with pytest.raises(services.OrgChartError, match="closes a circle"):
        take(org, "email,manager\n", "alice@example.com,bob@example.com\n")


def test_a_circle_the_directory_says_itself_is_not_the_files_fault(org, people):
    Identity.objects.filter(external_id="alice").update(manager=people["bob"])
    Identity.objects.filter(external_id="bob").update(manager=people["alice"])
    assert take(org, "email,manager\n", "carol@example.com,bob@example.com\n").changed == 1


def test_many_problems_are_cut_short(org, people):
    with pytest.raises(services.OrgChartError) as caught:
        take(org, "email,manager\n", *("x,y\n" for _ in range(30)))
    assert len(caught.value.problems) == 20
    assert str(caught.value).endswith("And 10 more.")


def test_what_the_file_says_outlives_the_next_sync(org, read, world):
    world.add_user("alice", email="alice@example.com", manager_external_id="bob")
    world.add_user("carol", email="carol@example.com")
    read()
    take(org, "email,manager\n", "alice@example.com,carol@example.com\n")
    read()
    assert managers()["alice"] == "carol"
