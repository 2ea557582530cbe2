"""What people systems say about people holds against the directory, and the narrower word wins."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from apps.audit import services as audit
from apps.inventory.models import Connection, Departure, Identity
from apps.inventory.services import said
from apps.inventory.services.said import Said
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db
SCIM, HR = Departure.Source.SCIM, Departure.Source.HR_FILE


def alice() -> Identity:
    return Identity.objects.get(external_id="alice")


def say(org: Connection, source: Departure.Source = SCIM, **facts: object) -> said.Taken:
    with transaction.atomic():
        one = Said(identity_id=alice().pk, **facts)  # type: ignore[arg-type]
        return said.take_said(org, [one], source=source, said_by="Okta", by=audit.COMMAND)


def leave(org: Connection, source: Departure.Source = SCIM) -> said.Taken:
    return say(org, source, says_presence=True, leaves_at=timezone.now())


def stay(org: Connection, source: Departure.Source = SCIM) -> said.Taken:
    return say(org, source, says_presence=True)


def test_a_sync_that_still_lists_a_leaver_does_not_bring_them_back(org, read, world):
    read()
    assert leave(org).ended == [alice().pk]
    ended_at = alice().ended_at
    read()
    world.add_user("alice", display_name="Alice M.", email="alice@example.com")  # the directory changes her row
    read()
    assert alice().ended_at == ended_at
    assert alice().name == "Alice M."
    assert stay(org).returned == [alice().pk]
    read()
    assert alice().ended_at is None


def test_somebody_whom_the_directory_disabled_stays_gone_whatever_scim_says(org, read, world):
    world.add_user("alice", email="alice@example.com", attributes={"status": "disabled"})
    read()
    assert alice().ended_at
    assert stay(org).returned == []
    assert alice().ended_at


def test_each_source_takes_back_only_its_own_word(org, read):
    read()
    leave(org, SCIM)
    leave(org, HR)
    stay(org, HR)
    assert alice().ended_at
    stay(org, SCIM)
    assert alice().ended_at is None


def test_title_and_department_hold_against_the_directory(org, read, world):
    read()
    say(org, department="Treasury", title="Lead")
    world.add_user("alice", email="alice@example.com", department="Payments", title="Engineer")
    read()
    assert (alice().department, alice().title) == ("Treasury", "Lead")
    say(org, title="Head")
    assert (alice().department, alice().title) == ("Treasury", "Head")


def test_a_manager_holds_too_and_nobody_manages_themselves(org, read):
    read()
    bob = Identity.objects.get(external_id="bob")
    say(org, says_manager=True, manager_id=bob.pk)
    read()
    assert (alice().manager, alice().manager_source) == (bob, "Okta")
    say(org, says_manager=True, manager_id=alice().pk)
    assert alice().manager is None


def test_who_left_may_not_sign_in_any_more(org, read):
    read()
    user = UserFactory()
    Identity.objects.filter(external_id="alice").update(user=user)
    assert leave(org).kept_out == [user]
    user.refresh_from_db()
    assert not user.is_active


def test_a_last_day_to_come_ends_nobody_before_it(org, read):
    read()
    say(org, HR, says_presence=True, leaves_at=timezone.now() + timedelta(days=3))
    read()
    assert alice().ended_at is None
    with transaction.atomic():
        assert said.end_departed(now=timezone.now()) == []
        assert said.end_departed(now=timezone.now() + timedelta(days=4)) == [alice()]
    assert alice().ended_at


def test_people_of_another_connection_are_out_of_reach(org, read):
    from tests.factories.inventory import ConnectionFactory

    read()
    with transaction.atomic():
        one = Said(identity_id=alice().pk, says_presence=True, leaves_at=timezone.now())
        assert said.take_said(ConnectionFactory(), [one], source=SCIM, said_by="x", by=audit.COMMAND).ended == []
    assert alice().ended_at is None
