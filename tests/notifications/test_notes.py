"""Who is told what: exactly those whom it concerns, never whoever did it, never a stranger."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from apps.access import periodic as access_clock
from apps.access.models import AccessRequest
from apps.access.services import requests
from apps.audit import services as audit
from apps.grants import provisioning, services
from apps.grants.models import EndReason, Grant
from apps.inventory.services import approve_writing, propose_writing
from apps.notifications import consumer, notes, periodic
from apps.notifications.models import Notification
from apps.users import services as users
from apps.users.models import PortalRole
from tests.access.conftest import LAPTOP, PASSKEY, TOTP, Company
from tests.factories.inventory import ConnectionFactory, EntitlementFactory, SyncRunFactory
from tests.factories.users import UserFactory
from tests.notifications.conftest import mailed, told, unread

HOUR = timedelta(hours=1)
ASKED = "access.access_request.asked"


def ask(company: Company, what, **fields) -> AccessRequest:
    row = what.offers.first() or company.offer(what)
    values = {"reason": "Card payments are slow.", "ticket_ref": "INC-7", **fields}
    return requests.ask(row, principal=company.alice, duration=HOUR, by=company.alice_user, place=LAPTOP, **values)


@pytest.fixture
def waiting(company: Company) -> AccessRequest:
    """A request that Bob, the owner, and Carol, the manager, can decide."""
    return ask(company, company.permission_set("Operator", "write"))


@pytest.fixture
def confirming(company: Company) -> AccessRequest:
    company.account.environment = "staging"
    company.account.save()
    return ask(company, company.permission_set("Deployer", "write"))


def active(company: Company, what=None, **fields) -> Grant:
    return company.active(company.alice, what or company.read, **fields)


# ---- requests


def test_approvers_are_asked_with_a_link_to_the_request(company: Company, waiting: AccessRequest) -> None:
    title = "Alice asks for Operator in production for 1 h"
    assert told(ASKED) == {"Bob": [title], "Carol": [title]}
    assert mailed(ASKED) == {"Bob", "Carol"}
    note = Notification.objects.get(recipient=company.bob_user)
    assert note.url == f"/requests/{waiting.pk}/"
    assert "“Card payments are slow.” Ticket INC-7. You can decide as owner of production." in note.text


def test_who_must_confirm_is_told_where_although_they_asked_themselves(confirming: AccessRequest) -> None:
    assert told(ASKED) == {"Alice": ["Confirm your request for Deployer in production"]}
    assert mailed(ASKED) == {"Alice"}


def test_what_needs_nobody_asks_nobody(company: Company) -> None:
    ask(company, company.read)
    assert told(ASKED) == {}


def test_a_request_that_was_decided_before_anybody_was_told_asks_nobody(company: Company, waiting) -> None:
    requests.deny(waiting, by=company.bob_user, reason="Not during the freeze.")
    assert told(ASKED) == {}


def test_the_requester_hears_yes(company: Company, waiting: AccessRequest) -> None:
    requests.approve(waiting, by=company.bob_user, place=PASSKEY, reason="Go ahead.")
    assert told("access.access_request.approved") == {"Alice": ["Bob approved Operator in production"]}


def test_the_requester_hears_no_and_why(company: Company, waiting: AccessRequest) -> None:
    requests.deny(waiting, by=company.bob_user, reason="Not during the freeze.")
    assert told("access.access_request.denied") == {"Alice": ["Bob denied Operator in production"]}
    assert "“Not during the freeze.”" in Notification.objects.get().text


def test_the_requester_hears_that_nobody_decided(company: Company, waiting: AccessRequest, clock) -> None:
    clock.shift(timedelta(hours=25))
    access_clock.lapse_requests()
    assert told("access.access_request.lapsed") == {"Alice": ["Your request for Operator in production has lapsed"]}


def test_approvers_see_a_withdrawal_in_their_inbox_only(company: Company, waiting: AccessRequest) -> None:
    requests.withdraw(waiting, by=company.alice_user)
    assert set(told("access.access_request.withdrawn")) == {"Bob", "Carol"}
    assert mailed("access.access_request.withdrawn") == set()


def test_a_decided_request_leaves_the_unread_of_all_approvers(company: Company, waiting: AccessRequest) -> None:
    told(ASKED)
    assert unread(company.carol_user, ASKED) == 1
    requests.approve(waiting, by=company.bob_user, place=PASSKEY)
    told()
    assert unread(company.carol_user, ASKED) == unread(company.bob_user, ASKED) == 0


def test_an_approver_who_cannot_sign_in_any_more_is_not_told(company: Company, waiting: AccessRequest) -> None:
    company.bob_user.is_active = False
    company.bob_user.save()
    assert set(told(ASKED)) == {"Carol"}


# ---- grants


def test_the_holder_and_for_auto_the_owner_hear_that_it_is_active(company: Company) -> None:
    request = ask(company, company.read)
    provisioning.provision(request.grant_id)
    assert told("grants.grant.active") == {
        "Alice": ["Read in production is active until 10:00 UTC on 22 November"],
        "Bob": ["Alice holds Read in production until 10:00 UTC on 22 November"],
    }


def test_what_somebody_approved_is_no_news_to_the_owner(company: Company, waiting: AccessRequest) -> None:
    requests.approve(waiting, by=company.carol_user, place=TOTP)
    provisioning.provision(waiting.grant_id)
    assert set(told("grants.grant.active")) == {"Alice"}


def test_the_owner_who_holds_it_is_told_once(company: Company) -> None:
    company.account.owner = company.alice.identity
    company.account.save()
    active(company)
    assert {name: len(titles) for name, titles in told("grants.grant.active").items()} == {"Alice": 1}


def test_the_holder_hears_ten_minutes_before_the_end_and_once(company: Company, clock) -> None:
    active(company)
    periodic.watch()
    assert told("grants.grant.ending_soon") == {}
    clock.shift(timedelta(minutes=51))
    periodic.watch()
    periodic.watch()
    assert told("grants.grant.ending_soon") == {"Alice": ["Read in production ends at 10:00 UTC on 22 November"]}


def test_everybody_hears_however_many_end_at_once(company: Company, clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "BATCH", 1)
    active(company)
    company.active(company.bob, company.read)
    clock.shift(timedelta(minutes=51))
    periodic.watch()
    periodic.watch()
    assert {who: len(titles) for who, titles in told("grants.grant.ending_soon").items()} == {"Alice": 1, "Bob": 1}


def test_a_grant_for_minutes_is_not_announced_twice(company: Company, clock) -> None:
    active(company, duration=timedelta(minutes=15))
    clock.shift(timedelta(minutes=6))
    periodic.watch()
    assert told("grants.grant.ending_soon") == {}


def test_the_holder_hears_that_somebody_ended_it(company: Company) -> None:
    grant = active(company)
    services.end(grant, by=company.bob_user, reason=EndReason.REVOKED, note="Wrong account.")
    assert told("grants.grant.revoking") == {"Alice": ["Bob ended Read in production"]}
    assert mailed("grants.grant.revoking") == {"Alice"}


@pytest.mark.parametrize("reason", [EndReason.EXPIRED, EndReason.DONE])
def test_an_expected_end_needs_no_mail_only_its_receipt(company: Company, reason: EndReason) -> None:
    grant = active(company)
    by = company.alice_user if reason == EndReason.DONE else audit.CLOCK
    services.end(grant, by=by, reason=reason)
    company.run_clock()
    assert told("grants.grant.revoking") == {}
    assert told("grants.grant.revoked") == {"Alice": ["Read in production has ended: removed and checked"]}
    assert mailed("grants.grant.revoked") == set()


def test_the_holder_hears_what_could_not_be_opened(company: Company) -> None:
    grant = company.issue()
    with transaction.atomic():
        audit.record("grants.grant.failed", by=audit.WORKER, subject=grant, data={"problem": "It is suspended."})
    assert told("grants.grant.failed") == {"Alice": ["Read in production could not be opened"]}
    assert Notification.objects.get(kind="grants.grant.failed").text == "It is suspended."


def test_a_refused_warrant_alarms_the_administrators(company: Company) -> None:
    grant = company.issue()
    with transaction.atomic():
        audit.record("grants.grant.warrant_refused", by=audit.WORKER, subject=grant, data={"problem": "No warrant."})
    assert {"Alice", "Erin"} <= set(told("grants.grant.warrant_refused"))
    assert "Mallory" not in told("grants.grant.warrant_refused")


def test_a_row_that_names_a_wrong_object_alarms_the_administrators(company: Company) -> None:
    grant = company.issue()
    with transaction.atomic():
        audit.record("grants.grant.object_refused", by=audit.WORKER, subject=grant, data={"problem": "Not the object."})
    found = told("grants.grant.object_refused")
    assert found["Erin"] == [f"{grant.number} names a wrong object in AWS"]
    assert {"Alice", "Mallory"}.isdisjoint(found)


def test_administrators_hear_once_of_a_removal_that_does_not_get_through(company: Company, clock) -> None:
    grant = active(company)
    services.end(grant, by=company.alice_user, reason=EndReason.DONE)
    periodic.watch()
    assert told("grants.grant.overdue") == {}
    clock.shift(timedelta(minutes=6))
    periodic.watch()
    periodic.watch()
    found = told("grants.grant.overdue")
    assert found["Erin"] == ["The removal of Read in production from Alice is overdue"]
    assert {"Alice", "Bob", "Mallory"}.isdisjoint(found)


def by_hand(company: Company, **fields) -> Grant:
    """Standing access that Gatehouse cannot remove itself."""
    group = EntitlementFactory(connection=company.connection, membership=True, name="admins", kind="idc_group")
    group.group.is_externally_owned = True
    group.group.owner = company.bob.identity
    group.group.save()
    row = company.holds(company.alice, group)
    return services.remove_standing(row, by=company.carol_user, reason="Not needed any more.", **fields)


def test_the_owner_is_told_what_to_remove_by_hand_and_the_holder_that_it_goes(company: Company) -> None:
    due = timezone.now() + timedelta(days=7)
    grant = by_hand(company, due_at=due)
    assert grant.is_owner_task
    found = told("grants.grant.removal_decided")
    assert found["Bob"] == [f"Remove {grant.entitlement} from Alice by hand"]
    assert found["Alice"] == [f"Carol decided that you no longer hold {grant.entitlement}"]
    assert set(found) == {"Alice", "Bob"}
    assert "Due 29 November." in Notification.objects.get(recipient=company.bob_user).text


def test_a_task_without_an_owner_goes_to_the_administrators(company: Company) -> None:
    grant = by_hand(company)
    grant.task_owner = None
    grant.save()
    assert "Erin" in told("grants.grant.removal_decided")


def test_an_owners_task_is_overdue_after_its_date_and_not_before(company: Company, clock) -> None:
    by_hand(company, due_at=timezone.now() + timedelta(days=7))
    clock.shift(timedelta(days=6))
    periodic.watch()
    assert told("grants.grant.overdue") == {}
    clock.shift(timedelta(days=2))
    periodic.watch()
    assert {"Bob", "Erin"} <= set(told("grants.grant.overdue"))


# ---- people, connections, syncs


def test_a_removed_authenticator_is_announced_by_mail_when_another_did_it(company: Company) -> None:
    alice = company.alice_user
    users.seed_totp(user=alice, secret="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", by=alice)
    assert told("users.authenticator.added") == {"Alice": ["An authenticator app was added"]}
    assert mailed("users.authenticator.added") == set()  # allauth's mail has left already
    users.reset_authenticators(user=alice, by=company.erin)
    assert told("users.authenticator.removed") == {"Alice": ["Your authenticator app was removed"]}
    assert mailed("users.authenticator.removed") == {"Alice"}


def test_a_new_administrator_is_announced_to_the_others(company: Company) -> None:
    fred = UserFactory(name="Fred", administrator=True)
    users.give_role(user=company.mallory, role=PortalRole.Role.ADMINISTRATOR, by=company.erin)
    found = told("users.portal_role.given")
    assert found[fred.name] == ["Mallory is now an administrator of Gatehouse"]
    assert found["Mallory"] == ["You are now an administrator of Gatehouse"]
    assert "Erin" not in found and "Alice" not in found


def test_another_administrator_is_asked_to_approve_writing(company: Company) -> None:
    fred = UserFactory(name="Fred", administrator=True)
    connection = ConnectionFactory(name="org", baselined=True)
    propose_writing(connection, by=company.erin)
    proposed = "inventory.connection.writing_proposed"
    assert told(proposed)["Fred"] == ["Erin proposes to let Gatehouse change org"]
    assert "Erin" not in told(proposed)
    approve_writing(connection, by=fred)
    told()
    assert unread(fred, proposed) == 0


def finished(connection, state: str) -> None:
    run = SyncRunFactory(connection=connection, state=state)
    with transaction.atomic():
        audit.record("inventory.sync_run.finished", by=audit.CLOCK, subject=run, data={"to": state})


def test_administrators_hear_once_that_a_sync_goes_wrong(company: Company) -> None:
    kind = "inventory.sync_run.finished"
    for state in ("complete", "incomplete", "incomplete", "complete", "held"):
        finished(company.connection, state)
    name = company.connection.name
    assert told(kind)["Erin"] == [f"The sync of {name} was incomplete", f"The sync of {name} waits for you"]
    assert {"Alice", "Bob", "Mallory"}.isdisjoint(told(kind))


# ---- whatever happens


def test_the_same_events_again_tell_nobody_again(company: Company, waiting: AccessRequest) -> None:
    assert told(ASKED) == told(ASKED)


def test_hostile_names_stay_on_one_line_and_within_bounds(company: Company) -> None:
    company.alice_user.name = "Al\r\nBcc: all@example.com\u202e\x07" + "x" * 150
    company.alice_user.save()
    ask(company, company.permission_set("Operator", "write"), reason="line\nline " + "y" * 900)
    told(ASKED)
    note = Notification.objects.get(recipient=company.bob_user)
    assert note.title.startswith("Al Bcc: all@example.com xxx")
    assert len(note.title) <= 200 and len(note.text) <= 1000
    assert not {"\n", "\r", "\u202e", "\x07"} & set(note.title + note.text)


def test_an_event_that_cannot_be_told_reaches_the_administrators_and_stops_nothing(
    company: Company, waiting: AccessRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(event):
        AccessRequest.objects.get(pk=-1)

    monkeypatch.setitem(consumer.TELLERS, ASKED, broken)
    requests.deny(waiting, by=company.bob_user, reason="Not during the freeze.")
    found = told(ASKED, "access.access_request.denied")
    assert "Somebody could not be told about" in found["Erin"][0]
    assert found["Alice"] == ["Bob denied Operator in production"]


ABOUT_NO_ROW = {"users.user.emergency_sign_in", "grants.home.changed", "grants.home.doubted", "grants.home.trusted"}


def test_every_teller_survives_that_its_row_is_gone(company: Company) -> None:
    gone = AccessRequest(pk=987654)
    with transaction.atomic():
        for name in notes.TELLERS:
            row = audit.record(name, by=audit.CLOCK, subject=company.erin)
            row.subject = f"nowhere:{gone.pk}"
            told = list(notes.TELLERS[name](row))
            assert told == [] or name in ABOUT_NO_ROW
