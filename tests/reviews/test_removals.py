"""From a signed revocation to "removed and checked": once, whatever dies in between, and only when AWS shows it gone."""

from __future__ import annotations

import pytest
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from apps.connectors import fake_world as fake
from apps.grants import services as grants
from apps.grants.models import EndReason, Grant
from apps.inventory.models import Assignment, Principal
from apps.reviews import periodic, removals
from apps.reviews.models import Campaign, Outcome, ReviewItem
from apps.reviews.services import items
from tests.conftest import Enqueued
from tests.reviews.conftest import REASON, Company, decide_all


@pytest.fixture
def revoked(company: Company, django_capture_on_commit_callbacks) -> Campaign:
    """Carol revoked what Alice and Bob really hold, and signed."""
    for who in (company.alice, company.bob):
        company.holds(who, company.read)
    campaign = company.launch()
    decide_all(campaign, "revoke", reviewer=company.carol_user)
    with django_capture_on_commit_callbacks(execute=True):
        items.submit(campaign=campaign, by=company.carol_user)
    return campaign


def outcomes(campaign: Campaign) -> set[str]:
    """By the property and by the queryset: they agree."""
    rows = list(campaign.items.with_names())
    for item in rows:
        assert list(ReviewItem.objects.filter(pk=item.pk).outcome(item.outcome)) == [item]
    return {str(item.outcome) for item in rows}


def test_nothing_is_removed_before_it_is_signed(company: Company) -> None:
    company.holds(company.alice, company.read)
    campaign = company.launch()
    decide_all(campaign, "revoke", reviewer=company.carol_user)
    periodic.carry_out_revocations()
    removals.carry_out(campaign.pk, company.carol_user.pk)
    assert not Grant.objects.exists()
    assert outcomes(campaign) == {Outcome.NOT_STARTED}


def test_signing_wakes_a_worker_that_begins_every_removal(
    company: Company, revoked: Campaign, enqueued: Enqueued
) -> None:
    assert enqueued.names == ["apps.reviews.tasks.carry_out"]
    enqueued.run()
    for item in revoked.items.all():
        assert item.grant
        assert (item.grant.origin, item.grant.assignment) == (Grant.Origin.FOUND, item.assignment)
        assert (item.grant.end_reason, item.grant.reason) == (EndReason.REVIEW, REASON)
        assert item.grant.requested_by == company.carol_user


def test_an_item_is_done_only_when_the_system_no_longer_shows_it(company: Company, revoked: Campaign) -> None:
    assert outcomes(revoked) == {Outcome.NOT_STARTED}
    company.world.script("close", fake.lies(), fake.lies())
    removals.carry_out(revoked.pk, company.carol_user.pk)
    assert outcomes(revoked) == {Outcome.REMOVING}
    company.work(1)
    assert company.can_use(company.alice)
    assert outcomes(revoked) == {Outcome.REMOVING}
    Grant.objects.update(next_try_at=timezone.now())
    company.work()
    assert outcomes(revoked) == {Outcome.REMOVED}
    assert not company.can_use(company.alice)
    assert not company.can_use(company.bob)


def test_a_kept_item_ends_nothing(company: Company) -> None:
    company.holds(company.alice, company.read)
    campaign = company.launch()
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    periodic.carry_out_revocations()
    removals.carry_out(campaign.pk, company.carol_user.pk)
    company.work()
    assert company.can_use(company.alice)
    assert outcomes(campaign) == {Outcome.KEPT}


def test_carrying_out_twice_begins_each_removal_once(company: Company, revoked: Campaign) -> None:
    for _ in range(3):
        removals.carry_out(revoked.pk, company.carol_user.pk)
    assert Grant.objects.count() == 2
    company.work()
    removals.carry_out(revoked.pk, company.carol_user.pk)
    assert Grant.objects.count() == 2


def test_a_worker_that_dies_in_between_is_followed_by_one_that_finishes(
    company: Company, revoked: Campaign, enqueued: Enqueued, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    real, calls = grants.remove_standing, []

    def dies(assignment: Assignment, **fields: object) -> Grant:
        calls.append(assignment)
        grant = real(assignment, **fields)  # type: ignore[arg-type]
        if len(calls) == 2:
            raise Killed
        return grant

    monkeypatch.setattr(removals.grants, "remove_standing", dies)
    with pytest.raises(Killed):
        removals.carry_out(revoked.pk, company.carol_user.pk)
    assert revoked.items.exclude(grant=None).count() == 1
    assert Grant.objects.count() == 1
    enqueued.calls.clear()
    periodic.carry_out_revocations()
    assert enqueued.calls == [("apps.reviews.tasks.carry_out", (revoked.pk, company.carol_user.pk), {})]
    enqueued.run()
    assert revoked.items.exclude(grant=None).count() == 2
    assert Grant.objects.count() == 2


def test_the_clock_finds_a_lost_wake_up_call_and_nothing_afterwards(
    company: Company, revoked: Campaign, enqueued: Enqueued
) -> None:
    enqueued.calls.clear()
    periodic.carry_out_revocations()
    enqueued.run()
    assert revoked.items.exclude(grant=None).count() == 2
    enqueued.calls.clear()
    periodic.carry_out_revocations()
    assert enqueued.names == []


def test_what_we_cannot_remove_is_its_owners_task_until_a_complete_sync_shows_it_gone(company: Company) -> None:
    membership = company.group("scim", company.read)
    Principal.objects.filter(pk=membership.group_id).update(is_externally_owned=True, owner=company.bob.identity)
    held = company.holds(company.alice, membership)
    campaign = company.launch(holders=["human"])
    decide_all(campaign, "revoke", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    removals.carry_out(campaign.pk, company.carol_user.pk)
    item = campaign.items.get()
    assert item.grant
    assert item.grant.task_owner == company.bob.identity
    assert item.grant.due_at == timezone.now() + removals.OWNER_TASK_FOR
    for _ in range(2):
        company.work()
        assert outcomes(campaign) == {Outcome.OWNER_TASK}
    held.period = DateTimeTZRange(held.period.lower, timezone.now())
    held.save()
    company.work()
    assert outcomes(campaign) == {Outcome.REMOVED}


def test_what_somebody_else_removed_meanwhile_is_gone_without_a_grant(company: Company, revoked: Campaign) -> None:
    for held in Assignment.objects.all():
        held.period = DateTimeTZRange(held.period.lower, timezone.now())
        held.save()
    periodic.carry_out_revocations()
    removals.carry_out(revoked.pk, company.carol_user.pk)
    assert not Grant.objects.exists()
    assert outcomes(revoked) == {Outcome.REMOVED}


def test_where_gatehouse_may_only_look_the_removal_waits_and_says_why(company: Company, revoked: Campaign) -> None:
    approved_by = company.connection.write_approved_by
    company.connection.write_approved_at = company.connection.write_approved_by = None
    company.connection.save()
    removals.carry_out(revoked.pk, company.carol_user.pk)
    item = revoked.items.all()[0]
    assert "may only look" in item.problem
    assert outcomes(revoked) == {Outcome.NOT_STARTED}
    company.connection.write_approved_at, company.connection.write_approved_by = timezone.now(), approved_by
    company.connection.save()
    removals.carry_out(revoked.pk, company.carol_user.pk)
    item.refresh_from_db()
    assert item.problem == ""
    assert outcomes(revoked) == {Outcome.REMOVING}


def test_two_campaigns_about_one_assignment_share_its_removal(company: Company, revoked: Campaign) -> None:
    second = company.launch(name="Again")
    decide_all(second, "revoke", reviewer=company.carol_user)
    items.submit(campaign=second, by=company.carol_user)
    for campaign in (revoked, second):
        removals.carry_out(campaign.pk, company.carol_user.pk)
    assert Grant.objects.count() == 2
    company.work()
    assert outcomes(revoked) == outcomes(second) == {Outcome.REMOVED}
