"""A campaign's sums, reminders and end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection as database
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.audit.models import AuditEvent
from apps.inventory.models import Principal
from apps.reviews import removals, tie_out
from apps.reviews.models import Campaign, Outcome, ReviewItem, State
from apps.reviews.services import campaigns, items
from apps.reviews.services.items import NotAllowed
from tests.reviews.conftest import REASON, Company, decide_all


@pytest.fixture
def campaign(company: Company) -> Campaign:
    """Carol reviews what Alice and Bob hold, Frank what a machine nobody owns holds."""
    for who in (company.alice, company.bob):
        company.holds(who, company.read)
    company.world.add_principal("iam_user", "robot", account_id=company.account.external_id)
    company.holds(company.machine("robot"), company.read)
    return company.launch()


def finish(campaign: Campaign, choice: str, *, company: Company) -> None:
    for reviewer in (company.carol_user, company.frank_user):
        decide_all(campaign, choice, reviewer=reviewer)
        items.submit(campaign=campaign, by=reviewer)


# ---- closing


def test_it_does_not_close_before_everything_is_decided_and_signed(company: Company, campaign: Campaign) -> None:
    with pytest.raises(NotAllowed, match="3 not decided, 0 not signed"):
        campaigns.close(campaign, by=company.erin_user)
    decide_all(campaign, "keep", reviewer=company.carol_user)
    with pytest.raises(NotAllowed, match="1 not decided, 2 not signed"):
        campaigns.close(campaign, by=company.erin_user)
    campaign.refresh_from_db()
    assert campaign.state == State.RUNNING


def test_it_closes_with_its_numbers(company: Company, campaign: Campaign) -> None:
    finish(campaign, "keep", company=company)
    closed = campaigns.close(campaign, by=company.erin_user)
    assert (closed.state, closed.closed_by, closed.closed_at) == (State.CLOSED, company.erin_user, timezone.now())
    sums = {each["name"]: each for each in closed.tie_out["equations"]}
    assert all(each["off_by"] == 0 for each in sums.values())
    assert sums["Everything has one answer"]["parts"] == {"keep": 3, "revoke": 0, "not decided": 0}
    assert sums["The list is the one of the launch"]["parts"] == {"unchanged": 3}
    assert sums["Everything has a reviewer"]["parts"] == {"by managers": 2, "by the fallback": 1}
    [event] = AuditEvent.objects.filter(event="reviews.campaign.closed")
    assert event.data["tie_out"] == closed.tie_out
    assert event.data["forced"] is False


def test_what_nobody_decided_becomes_an_exception_and_is_never_kept(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "revoke", reviewer=company.carol_user)  # and does not sign
    with pytest.raises(NotAllowed, match="why it closes with exceptions"):
        campaigns.close(campaign, by=company.erin_user, force=True)
    closed = campaigns.close(campaign, by=company.erin_user, force=True, note="Frank is ill until May.")
    assert closed.tie_out["exceptions"] == {"not_decided": 1, "not_signed": 2}
    assert closed.close_note == "Frank is ill until May."
    assert [item.choice for item in campaign.items.undecided()] == ["undecided"]
    removals.carry_out(campaign.pk, company.carol_user.pk)
    assert not ReviewItem.objects.exclude(grant=None).exists()  # nobody signed, so nothing is removed either


def test_it_closes_once(company: Company, campaign: Campaign) -> None:
    finish(campaign, "keep", company=company)
    campaigns.close(campaign, by=company.erin_user)
    with pytest.raises(NotAllowed, match="not running"):
        campaigns.close(campaign, by=company.erin_user)
    assert AuditEvent.objects.filter(event="reviews.campaign.closed").count() == 1


def test_removals_go_on_after_the_close_and_stay_visible(company: Company, campaign: Campaign) -> None:
    finish(campaign, "revoke", company=company)
    closed = campaigns.close(campaign, by=company.erin_user)
    assert closed.tie_out["open_removals"] == 3
    for reviewer in (company.carol_user, company.frank_user):
        removals.carry_out(campaign.pk, reviewer.pk)
    assert tie_out.counts_of(closed).removing == 3
    company.work()
    assert tie_out.counts_of(closed).removed == 3
    assert not company.can_use(company.alice)
    closed.refresh_from_db()
    assert closed.tie_out["open_removals"] == 3  # what was true at the close stays written


def test_it_does_not_close_over_a_list_that_somebody_changed(company: Company, campaign: Campaign) -> None:
    finish(campaign, "keep", company=company)
    with database.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")  # as whoever owns the database could
        cursor.execute(
            """UPDATE reviews_reviewitem SET frozen = '{"holder": "Nobody"}' WHERE id = %s""",
            [campaign.items.all()[0].pk],
        )
        cursor.execute("SET session_replication_role = origin")
    with pytest.raises(NotAllowed, match="The list is the one of the launch"):
        campaigns.close(campaign, by=company.erin_user)


def test_it_does_not_close_over_a_decision_that_is_not_in_the_history(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    campaign.items.undecided().update(choice="keep", decided_by=company.frank_user, decided_at=timezone.now())
    with pytest.raises(NotAllowed, match="Every decision is in the history"):
        campaigns.close(campaign, by=company.erin_user, force=True, note="Nobody looks at this.")


# ---- the sums hold, whatever happens

ACTS = ["keep", "revoke", "undo", "sign", "pass", "carry out", "work", "lie"]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 4)), max_size=14))
def test_the_sums_hold_after_any_acts_in_any_order(company: Company, acts: list[tuple[str, int]]) -> None:
    with transaction.atomic():
        scim = company.group(f"scim-{len(acts)}", company.admin)
        Principal.objects.filter(pk=scim.group_id).update(is_externally_owned=True)
        for who in (company.alice, company.bob):
            company.holds(who, company.read)
            company.holds(who, scim)
        campaign = company.launch(holders=["human", "group"])
        every = list(campaign.items.order_by("pk"))
        for act, number in acts:
            _act(company, campaign, every[number], act)
            counts = tie_out.counts_of(campaign)
            sums = [*tie_out.equations(campaign, counts), *tie_out.closing_equations(campaign)]
            assert [each.off_by for each in sums] == [0] * len(sums), [each.words for each in sums]
            for item in campaign.items.with_names():
                assert list(ReviewItem.objects.filter(pk=item.pk).outcome(item.outcome)) == [item]
        total = sum(ReviewItem.objects.filter(campaign=campaign).outcome(name).count() for name in Outcome)
        assert total == campaign.population
        closed = campaigns.close(campaign, by=company.erin_user, force=True, note="The quarter is over.")
        assert all(each["off_by"] == 0 for each in closed.tie_out["equations"])
        transaction.set_rollback(True)


def _act(company: Company, campaign: Campaign, item: ReviewItem, act: str) -> None:
    rows = ReviewItem.objects.filter(pk=item.pk)
    reviewer = rows.get().reviewer
    acts = {
        "keep": lambda: items.decide(item, choice="keep", reason=REASON, by=reviewer),
        "revoke": lambda: items.decide(item, choice="revoke", reason=REASON, by=reviewer),
        "undo": lambda: items.undo(campaign=campaign, by=reviewer),
        "sign": lambda: items.submit(campaign=campaign, by=reviewer),
        "pass": lambda: items.reassign(rows, campaign=campaign, to=company.erin_user, by=reviewer, reason=REASON),
        "carry out": lambda: removals.carry_out(campaign.pk, reviewer.pk),
        "work": lambda: company.work(1),
        "lie": lambda: company.world.unassign(item.principal.external_id, item.entitlement.external_id),
    }
    try:
        with transaction.atomic():
            acts[act]()
    except NotAllowed:
        pass


# ---- reminding


def test_a_reminder_tells_whoever_has_something_left_and_how_much(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    assert campaigns.remind(campaign, by=company.erin_user) == 1
    [event] = AuditEvent.objects.filter(event="reviews.campaign.reminded")
    assert event.data == {
        "reviewers": [{"user": company.frank_user.pk, "items": 1}],
        "due_at": campaign.due_at.isoformat(),
    }


def test_people_are_not_reminded_all_the_time_nor_for_nothing(company: Company, campaign: Campaign) -> None:
    campaigns.remind(campaign, by=company.erin_user)
    with pytest.raises(NotAllowed, match="were reminded"):
        campaigns.remind(campaign, by=company.erin_user)
    Campaign.objects.update(reminded_at=timezone.now() - timedelta(days=1))
    finish(campaign, "keep", company=company)
    with pytest.raises(NotAllowed, match="Everybody has signed"):
        campaigns.remind(campaign, by=company.erin_user)
