"""The brake: what would end so much at once that a broken reading is more likely stops, and a person says whether it is
real."""

from __future__ import annotations

import pytest
from django.urls import reverse

from apps.inventory.models import Assignment, Entitlement, Identity, Principal, Resource, SyncRun
from tests.inventory.conftest import PROD, SANDBOX, trust
from tests.inventory.test_sync import crowd, held, scope


def test_a_suspicious_drop_stops_and_asks(read, world):
    crowd(world, 10)
    read()
    before = held()
    for number in range(4):
        world.unassign(f"user{number}", f"Read@{SANDBOX}")
    world.unassign("bob", f"Read@{PROD}")
    world.assign("bob", f"Admin@{PROD}")
    run = read()
    assert run.state == "held"
    assert run.waits_for_confirmation
    assert (scope(run).state, scope(run).would_end) == ("held", 5)
    assert held() == before | {("bob", f"Admin@{PROD}")}


@pytest.mark.parametrize(("lost", "state"), [(3, "complete"), (4, "held")])
def test_the_brake_trips_above_the_connections_share(read, world, lost, state):
    crowd(world, 10)  # drop_percent is 30
    read()
    for number in range(lost):
        world.unassign(f"user{number}", f"Read@{SANDBOX}")
    assert read().state == state


def test_small_accounts_do_not_trip_the_brake(read, world):
    crowd(world, 2)
    read()
    for number in range(2):
        world.unassign(f"user{number}", f"Read@{SANDBOX}")
    assert read().state == "complete"


def test_memberships_have_a_brake_of_their_own(read, world):
    crowd(world, 30)
    world.add_group("small", ["user0", "user1", "user2", "user3"])
    read()
    for number in range(4):
        world.unassign(f"user{number}", "membership:small")
    assert read().state == "held"


def test_an_account_has_the_brake_too(read, world):
    for number in range(5):
        world.add_principal("iam_user", f"robot{number}", account_id=SANDBOX)
        world.add_entitlement("iam_policy", f"policy{number}", account_id=SANDBOX)
        world.assign(f"robot{number}", f"policy{number}")
    read()
    for number in range(5):
        world.delete_principal(f"robot{number}")
    run = read()
    assert scope(run, SANDBOX).state == "held"
    assert not Principal.objects.exclude(ended_at=None).exists()


def test_people_who_vanish_all_at_once_have_not_left(read, world):
    for number in range(6):
        world.add_user(f"user{number}")
    read()
    for number in range(6):
        world.delete_principal(f"user{number}")
    run = read()
    assert run.state == "held"
    assert len(scope(run).would_end_rows["identities"]) == 6
    assert not Identity.objects.exclude(ended_at=None).exists()


def test_an_account_that_vanishes_takes_the_brake_too(read, world):
    crowd(world, 5)
    read()
    del world.accounts[SANDBOX]
    run = read()
    assert run.state == "held"
    assert Assignment.objects.open().filter(entitlement__resource__external_id=SANDBOX).count() == 5


def test_an_account_that_left_the_organization_is_ended_with_what_it_held_and_is_a_stranger(read, world):
    world.add_principal("iam_role", "playful", account_id=SANDBOX)
    world.add_principal("iam_role", "partner", account_id=PROD, attributes=trust(AWS=f"arn:aws:iam::{SANDBOX}:root"))
    read()
    del world.accounts[SANDBOX]
    run = read()
    assert run.state == "complete"
    assert Resource.objects.get(external_id=SANDBOX).ended_at
    assert Principal.objects.get(external_id="playful").ended_at
    assert Entitlement.objects.get(external_id=f"Read@{SANDBOX}").ended_at
    assert Identity.objects.get(external_id="partner").classification == "third_party"


def half_is_gone(read, world):
    """The reading of ten people in an account of whom five hold nothing there any more."""
    crowd(world, 10)
    read()
    for number in range(5):
        world.unassign(f"user{number}", f"Read@{SANDBOX}")
    return read()


def test_confirmed_drops_end_with_the_next_run(read, world):
    half_is_gone(read, world)
    assert read().state == "held"  # asking again changes nothing
    SyncRun.objects.filter(state="held").update(confirmed_drops=True)
    run = read()
    assert run.state == "complete"
    assert run.changes["assignment"] == {"ended": 5}


def test_more_than_was_confirmed_stops_again(read, world):
    run = half_is_gone(read, world)
    SyncRun.objects.filter(pk=run.pk).update(confirmed_drops=True)
    world.unassign("user9", f"Read@{SANDBOX}")
    assert read().state == "held"
    assert len([row for row in held() if row[1] == f"Read@{SANDBOX}"]) == 10


def test_a_confirmation_does_not_outlive_the_next_complete_run(read, world):
    run = half_is_gone(read, world)
    SyncRun.objects.filter(pk=run.pk).update(confirmed_drops=True)
    for number in range(5):
        world.assign(f"user{number}", f"Read@{SANDBOX}")
    assert read().state == "complete"
    for number in range(5):
        world.unassign(f"user{number}", f"Read@{SANDBOX}")
    assert read().state == "held"


def test_our_own_artefacts_do_not_trip_the_brake(read, world):
    for number in range(4):
        world.add_principal("iam_user", f"robot{number}", account_id=SANDBOX)
        world.add_entitlement("iam_inline_policy", f"jit{number}", account_id=SANDBOX, attributes={"is_ours": True})
        world.assign(f"robot{number}", f"jit{number}", is_ours=True)
    read()
    assert Entitlement.objects.filter(is_ours=True).count() == 4
    for number in range(4):
        world.unassign(f"robot{number}", f"jit{number}")
        del world.entitlements[f"jit{number}"]
    assert read().state == "complete"


# ---- many small accounts


@pytest.fixture
def small(world):
    """Ten accounts more, each too small for a brake of its own: one person and one machine hold something there."""
    found = [f"{number:012d}" for number in range(10)]
    for one in found:
        world.add_account(one, f"small{one}")
        world.add_principal("iam_role", f"role{one}", account_id=one, attributes=trust(Service="lambda.amazonaws.com"))
        world.add_entitlement("iam_policy", f"policy{one}", account_id=one)
        world.add_permission_set("Read", one)
        world.assign("bob", f"Read@{one}")
        world.assign(f"role{one}", f"policy{one}")
    return found


def leave(world, accounts):
    """They are not listed any more, and nothing of them is shown. Returns how to bring them back."""
    gone = {one: world.accounts.pop(one) for one in accounts}
    entitlements = {key: row for key, row in world.entitlements.items() if row.account_id in gone}
    assignments = {key: row for key, row in world.assignments.items() if key[1] in entitlements}
    for rows, left in ((world.entitlements, entitlements), (world.assignments, assignments)):
        for key in left:
            del rows[key]

    def back():
        world.accounts.update(gone)
        world.entitlements.update(entitlements)
        world.assignments.update(assignments)

    return back


def test_a_list_of_accounts_that_is_short_ends_nothing(read, world, small):
    read()
    before = held()
    Assignment.objects.open().update(is_standing=True)
    back = leave(world, small[:9])
    run = read()
    assert run.state == "held"
    assert (scope(run).state, scope(run, small[0]).state, scope(run, PROD).state) == ("held", "held", "complete")
    assert len(scope(run).would_end_rows["accounts"]) == 9
    assert held() == before
    assert not Resource.objects.exclude(ended_at=None).exists()
    assert not Identity.objects.exclude(ended_at=None).exists()
    back()
    assert read().state == "complete"
    assert held() == before
    assert not Assignment.objects.open().filter(is_standing=False).exists()


def test_what_a_short_list_leaves_out_is_no_stranger(read, world, small):
    arn = f"arn:aws:iam::{small[0]}:root"
    world.add_principal("iam_role", "partner", account_id=PROD, attributes=trust(AWS=arn))
    read()
    leave(world, small[:9])
    read()
    assert Identity.objects.get(external_id="partner").classification == "cross_account"


def test_who_really_closes_most_accounts_confirms_it_once(read, world, small, client, erin):
    read()
    leave(world, small[:9])
    run = read()
    client.force_login(erin)
    page = client.get(run.connection.get_absolute_url()).content.decode()
    assert "9 accounts are not listed any more" in page
    client.post(reverse("inventory:confirm_drop", args=[run.connection.name, run.pk]))
    run = read()
    assert run.state == "complete"
    assert run.changes["resource"] == {"ended": 9}
    assert "Accounts: 9 ended" in client.get(run.get_absolute_url()).content.decode()
    assert Assignment.objects.open().filter(entitlement__resource__external_id__in=small).count() == 2


def test_more_accounts_than_were_confirmed_stop_again(read, world, small):
    read()
    leave(world, small[:8])
    SyncRun.objects.filter(pk=read().pk).update(confirmed_drops=True)
    leave(world, small[8:])
    assert read().state == "held"
    assert not Resource.objects.exclude(ended_at=None).exists()


def test_a_few_accounts_that_leave_are_ended_at_once(read, world, small):
    read()
    leave(world, small[:3])
    assert read().state == "complete"
    assert Resource.objects.exclude(ended_at=None).count() == 3


def test_a_drop_over_many_small_accounts_is_one(read, world, small):
    """Each loses less than a brake of its own would notice."""
    read()
    before = held()
    for one in small[:9]:
        world.unassign("bob", f"Read@{one}")
    assert read().state == "held"
    assert held() == before
