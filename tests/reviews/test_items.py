"""Keeping, revoking, taking back, passing on and signing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import DatabaseError, IntegrityError, ProgrammingError, transaction
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from apps.audit.models import AuditEvent
from apps.inventory.models import Identity, Principal
from apps.reviews import population
from apps.reviews.models import Campaign, Choice, Decision, ReviewItem, SignOff
from apps.reviews.services import campaigns, items
from apps.reviews.services.items import NotAllowed
from tests.factories.inventory import AssignmentFactory, CredentialFactory
from tests.reviews.conftest import REASON, Company, decide_all, item_of


@pytest.fixture
def campaign(company: Company) -> Campaign:
    """Carol reviews what Alice and Bob hold: Read and Admin each."""
    for who in (company.alice, company.bob):
        company.stands(who, company.read)
        company.stands(who, company.admin)
    return company.launch()


@pytest.fixture
def item(company: Company, campaign: Campaign) -> ReviewItem:
    return item_of(campaign, company.alice, company.read)


@pytest.fixture
def admin_item(company: Company, campaign: Campaign) -> ReviewItem:
    return item_of(campaign, company.alice, company.admin)


def events(name: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(event=name).order_by("pk"))


# ---- deciding


@pytest.mark.parametrize("choice", ["keep", "revoke"])
def test_a_decision_is_kept_with_its_reason_and_told_once(company: Company, item: ReviewItem, choice: str) -> None:
    items.decide(item, choice=choice, reason=f"  {REASON} ", by=company.carol_user)
    assert (item.choice, item.reason, item.decided_by, item.is_bulk) == (choice, REASON, company.carol_user, False)
    [decision] = item.decisions.all()
    assert (decision.choice, decision.was, decision.by, decision.batch) == (
        choice,
        "undecided",
        item.decided_by,
        item.batch,
    )
    [event] = events("reviews.review_item.decided")
    assert event.data["choice"] == choice
    assert {f"reviews.campaign:{item.campaign_id}", f"inventory.identity:{item.identity_id}"} <= set(event.refs)


@pytest.mark.parametrize(
    ("which", "choice", "reason", "says"),
    [
        ("read", "revoke", "", "why it shall go"),
        ("read", "revoke", "  short  ", "why it shall go"),
        ("admin", "keep", "", "why this privileged access stays"),
        ("read", "maybe", REASON, "keep or revoke"),
    ],
)
def test_a_decision_that_lacks_something_is_refused(
    company: Company, item: ReviewItem, admin_item: ReviewItem, which: str, choice: str, reason: str, says: str
) -> None:
    asked = {"read": item, "admin": admin_item}[which]
    with pytest.raises(NotAllowed, match=says):
        items.decide(asked, choice=choice, reason=reason, by=company.carol_user)
    assert not Decision.objects.exists()


def test_keeping_what_is_not_privileged_needs_no_reason(company: Company, item: ReviewItem) -> None:
    assert items.decide(item, choice="keep", by=company.carol_user).choice == "keep"


@pytest.mark.parametrize("who", ["erin_user", "frank_user", "alice_user", "dan", "mallory"])
def test_nobody_but_the_reviewer_decides(company: Company, item: ReviewItem, who: str) -> None:
    with pytest.raises(NotAllowed):
        items.decide(item, choice="keep", by=getattr(company, who))
    item.refresh_from_db()
    assert not item.is_decided


def test_a_decision_can_be_changed_until_it_is_signed_and_the_history_shows_all(
    company: Company, campaign: Campaign, item: ReviewItem
) -> None:
    for choice in ("keep", "revoke", "keep"):
        items.decide(item, choice=choice, reason=REASON, by=company.carol_user)
    assert list(item.decisions.values_list("was", "choice")) == [
        ("undecided", "keep"),
        ("keep", "revoke"),
        ("revoke", "keep"),
    ]
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    with pytest.raises(NotAllowed, match="signed"):
        items.decide(item, choice="revoke", reason=REASON, by=company.carol_user)


@pytest.mark.parametrize(
    "act",
    [
        lambda company, item: items.decide(item, choice="keep", by=company.carol_user),
        lambda company, item: items.undo(campaign=item.campaign, by=company.carol_user),
        lambda company, item: items.submit(campaign=item.campaign, by=company.carol_user),
        lambda company, item: items.reassign(
            item.campaign.items.all(), campaign=item.campaign, to=company.bob_user, by=company.erin_user, reason=REASON
        ),
    ],
)
def test_nothing_is_decided_in_a_campaign_that_does_not_run(
    company: Company, item: ReviewItem, act: Callable[[Company, ReviewItem], object]
) -> None:
    campaigns.close(item.campaign, by=company.erin_user, force=True, note="The auditors were here.")
    with pytest.raises(NotAllowed, match="not running"):
        act(company, item)


# ---- never their own


def test_somebody_linked_after_the_launch_cannot_decide_about_themselves(company: Company, item: ReviewItem) -> None:
    """Carol turns out to be the person behind Alice's login."""
    Identity.objects.filter(pk=company.carol.identity_id).update(user=None)
    carol = item.reviewer
    Identity.objects.filter(pk=item.identity_id).update(user=carol)
    with pytest.raises(NotAllowed, match="your own access"):
        items.decide(item, choice="keep", by=carol)


def test_somebody_with_the_holders_address_cannot_decide(company: Company, item: ReviewItem) -> None:
    Identity.objects.filter(pk=item.identity_id).update(email=item.reviewer.email.upper())
    with pytest.raises(NotAllowed, match="your own access"):
        items.decide(item, choice="keep", by=item.reviewer)


def test_whoever_joined_the_group_meanwhile_cannot_decide_what_it_holds(company: Company) -> None:
    membership = company.group("admins", company.admin)
    Principal.objects.filter(pk=membership.group_id).update(owner=company.bob.identity)
    [item] = company.launch().items.all()
    assert item.reviewer == company.bob_user
    AssignmentFactory(connection=company.connection, principal=company.bob, entitlement=membership)
    with pytest.raises(NotAllowed, match="your own access"):
        items.decide(item, choice="keep", reason=REASON, by=company.bob_user)


def test_whoever_gives_their_machine_a_password_cannot_decide_about_it(company: Company) -> None:
    robot = company.machine("robot", company.bob)
    company.stands(robot, company.read)
    [item] = company.launch().items.all()
    assert item.reviewer == company.bob_user
    CredentialFactory(principal=robot, kind="password")
    with pytest.raises(NotAllowed, match="your own access"):
        items.decide(item, choice="keep", by=company.bob_user)


def test_nobody_signs_for_their_own(company: Company, campaign: Campaign, item: ReviewItem) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    Identity.objects.filter(pk=item.identity_id).update(email=company.carol_user.email)
    with pytest.raises(NotAllowed, match="your own access"):
        items.submit(campaign=campaign, by=company.carol_user)


def test_somebody_whose_link_was_taken_away_decides_nothing(company: Company, item: ReviewItem) -> None:
    Identity.objects.filter(user=item.reviewer).update(user=None)
    with pytest.raises(NotAllowed, match="not linked"):
        items.decide(item, choice="keep", by=item.reviewer)


# ---- what the database itself refuses


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"reviewer": "alice_user"}, IntegrityError),
        ({"choice": "keep", "decided_by": "alice_user", "decided_at": "2026-11-22T09:00Z"}, IntegrityError),
        ({"choice": "keep"}, IntegrityError),  # decided by nobody
        ({"decided_by": "carol_user", "decided_at": "2026-11-22T09:00Z"}, IntegrityError),  # nothing decided
        (
            {"choice": "revoke", "decided_by": "carol_user", "decided_at": "2026-11-22T09:00Z"},
            IntegrityError,
        ),  # no reason
        ({"frozen": {}}, ProgrammingError),
        ({"holder_name": "Somebody else"}, ProgrammingError),
        ({"privilege": "none"}, ProgrammingError),
        ({"subject_user": None}, ProgrammingError),
    ],
)
def test_the_database_keeps_an_item_honest(company: Company, item: ReviewItem, fields: dict, error: type) -> None:
    values = {
        name: getattr(company, value) if isinstance(value, str) and value.endswith("_user") else value
        for name, value in fields.items()
    }
    with pytest.raises(error), transaction.atomic():
        ReviewItem.objects.filter(pk=item.pk).update(**values)


def test_the_database_keeps_privileged_access_from_being_kept_without_a_reason(
    company: Company, item: ReviewItem, admin_item: ReviewItem
) -> None:
    keep = {"choice": "keep", "decided_by": company.carol_user, "decided_at": "2026-11-22T09:00Z"}
    ReviewItem.objects.filter(pk=item.pk).update(**keep)
    with pytest.raises(IntegrityError), transaction.atomic():
        ReviewItem.objects.filter(pk=admin_item.pk).update(**keep)


def test_what_was_signed_and_what_was_launched_cannot_be_changed(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    sign_off = items.submit(campaign=campaign, by=company.carol_user)
    for change in (
        lambda: ReviewItem.objects.update(reason="Something else."),
        lambda: ReviewItem.objects.update(sign_off=None),
        lambda: ReviewItem.objects.update(reviewer=company.frank_user),
        lambda: ReviewItem.objects.all()[0].delete(),
        lambda: Decision.objects.update(reason="Something else."),
        lambda: Decision.objects.all()[0].delete(),
        lambda: SignOff.objects.filter(pk=sign_off.pk).update(statement=""),
        lambda: Campaign.objects.update(privileged_only=True),
        lambda: Campaign.objects.update(population=1),
        lambda: Campaign.objects.update(digest="0" * 64),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()
    assert SignOff.objects.get().statement == sign_off.statement


def test_an_item_ends_a_grant_only_when_it_was_signed(company: Company, item: ReviewItem) -> None:
    items.decide(item, choice="revoke", reason=REASON, by=company.carol_user)
    grant = company.issue(company.frank, company.read)
    with pytest.raises(IntegrityError), transaction.atomic():
        ReviewItem.objects.filter(pk=item.pk).update(grant=grant)


# ---- many at once


def facts(campaign: Campaign) -> list[tuple]:
    decided = list(campaign.items.order_by("pk").values_list("choice", "reason", "decided_by", "decided_at"))
    history = list(Decision.objects.order_by("pk").values_list("item", "choice", "was", "reason", "by", "at"))
    told = [
        (event.subject, event.data["choice"], event.data["reason"]) for event in events("reviews.review_item.decided")
    ]
    return [*decided, *history, *told]


@pytest.mark.parametrize("choice", ["keep", "revoke"])
def test_deciding_in_bulk_is_the_same_as_one_by_one(company: Company, campaign: Campaign, choice: str) -> None:
    with transaction.atomic():
        for item in campaign.items.all():
            items.decide(item, choice=choice, reason=REASON, by=company.carol_user)
        one_by_one = facts(campaign)
        transaction.set_rollback(True)
    items.decide_many(campaign.items.all(), campaign=campaign, choice=choice, reason=REASON, by=company.carol_user)
    assert facts(campaign) == one_by_one
    assert all(campaign.items.values_list("is_bulk", flat=True))
    assert len(set(campaign.items.values_list("batch", flat=True))) == 1


def test_of_many_all_are_decided_or_none(company: Company, campaign: Campaign, item: ReviewItem) -> None:
    items.reassign(
        ReviewItem.objects.filter(pk=item.pk),
        campaign=campaign,
        to=company.frank_user,
        by=company.erin_user,
        reason=REASON,
    )
    with pytest.raises(NotAllowed, match="Not all of this is yours"):
        items.decide_many(campaign.items.all(), campaign=campaign, choice="keep", reason=REASON, by=company.carol_user)
    assert not Decision.objects.exists()


def test_deciding_takes_the_same_number_of_statements_for_one_and_for_twenty(company: Company) -> None:
    for number in range(21):
        who = company.person(f"p{number}")
        company.managed_by(who, company.carol)
        company.stands(who, company.read)
    campaign = company.launch()
    one, many = campaign.items.all()[:1], campaign.items.all()[1:]
    counts = []
    for rows in (one, many):
        chosen = ReviewItem.objects.filter(pk__in=[row.pk for row in rows])
        with CaptureQueriesContext(database) as queries:
            items.decide_many(chosen, campaign=campaign, choice="keep", by=company.carol_user)
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert campaign.items.decided().count() == 21


# ---- taking back


def test_undo_takes_back_the_last_act_and_then_the_one_before(company: Company, campaign: Campaign) -> None:
    first, *rest = campaign.items.all()
    items.decide(first, choice="keep", reason=REASON, by=company.carol_user)
    others = ReviewItem.objects.filter(pk__in=[item.pk for item in rest])
    items.decide_many(others, campaign=campaign, choice="revoke", reason=REASON, by=company.carol_user)
    assert len(items.undo(campaign=campaign, by=company.carol_user)) == 3
    assert list(campaign.items.decided()) == [first]
    assert list(items.undo(campaign=campaign, by=company.carol_user)) == [first]
    with pytest.raises(NotAllowed, match="nothing left to take back"):
        items.undo(campaign=campaign, by=company.carol_user)
    assert Decision.objects.filter(choice=Choice.UNDECIDED).count() == 4


def test_undo_takes_back_nothing_that_was_signed(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    with pytest.raises(NotAllowed):
        items.undo(campaign=campaign, by=company.carol_user)
    assert not campaign.items.undecided().exists()


# ---- passing on


def test_an_item_is_passed_on_by_its_reviewer_or_an_administrator(company: Company, item: ReviewItem) -> None:
    rows = ReviewItem.objects.filter(pk=item.pk)
    to, by = company.bob_user, company.carol_user
    assert items.reassign(rows, campaign=item.campaign, to=to, by=by, reason="Bob knows.") == 1
    item.refresh_from_db()
    assert (item.reviewer, item.rule) == (company.bob_user, "passed")
    assert item.reviewer_rule == "Passed on by Carol: Bob knows."
    assert item.frozen["reviewer"] == "Carol"
    assert items.reassign(rows, campaign=item.campaign, to=by, by=company.erin_user, reason="Carol is back.") == 1
    told = [
        (event.actor_name, event.data["to"], event.data["items"]) for event in events("reviews.review_item.reassigned")
    ]
    assert told == [("Carol", to.pk, 1), ("Erin", by.pk, 1)]


@pytest.mark.parametrize(
    ("to", "by", "reason", "says"),
    [
        ("alice_user", "carol_user", REASON, "own access"),
        ("bob_user", "mallory", REASON, "Not all of this is yours"),
        ("bob_user", "dan", REASON, "Not all of this is yours"),
        ("mallory", "carol_user", REASON, "cannot review"),
        ("bob_user", "carol_user", "x", "why you pass this on"),
        ("carol_user", "carol_user", REASON, "already reviews"),
    ],
)
def test_an_item_is_not_passed_to_or_by_just_anybody(
    company: Company, item: ReviewItem, to: str, by: str, reason: str, says: str
) -> None:
    rows = ReviewItem.objects.filter(pk=item.pk)
    with pytest.raises(NotAllowed, match=says):
        items.reassign(rows, campaign=item.campaign, to=getattr(company, to), by=getattr(company, by), reason=reason)
    item.refresh_from_db()
    assert item.reviewer == company.carol_user


def test_what_a_group_holds_is_not_passed_to_a_member(company: Company) -> None:
    membership = company.group("admins", company.admin)
    AssignmentFactory(connection=company.connection, principal=company.bob, entitlement=membership)
    campaign = company.launch()
    with pytest.raises(NotAllowed, match="own access"):
        items.reassign(
            campaign.items.all(), campaign=campaign, to=company.bob_user, by=company.erin_user, reason=REASON
        )


def test_whoever_is_passed_something_decides_anew(company: Company, campaign: Campaign, item: ReviewItem) -> None:
    items.decide(item, choice="keep", by=company.carol_user)
    rows = campaign.items.filter(principal=company.alice)
    items.reassign(rows, campaign=campaign, to=company.bob_user, by=company.carol_user, reason=REASON)
    item.refresh_from_db()
    assert not item.is_decided
    assert item.decisions.last().reason == f"Passed to Bob: {REASON}"


def test_what_was_signed_is_not_passed_on(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    with pytest.raises(NotAllowed, match="signed"):
        items.reassign(
            campaign.items.all(), campaign=campaign, to=company.bob_user, by=company.erin_user, reason=REASON
        )


# ---- signing


def test_signing_needs_every_decision(company: Company, campaign: Campaign, item: ReviewItem) -> None:
    items.decide(item, choice="keep", by=company.carol_user)
    with pytest.raises(NotAllowed, match="3 of 4 are not decided yet"):
        items.submit(campaign=campaign, by=company.carol_user)
    assert not SignOff.objects.exists()


def test_a_sign_off_says_what_was_signed_and_can_be_checked(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    first = campaign.items.first()
    assert first
    items.decide(first, choice="revoke", reason=REASON, by=company.carol_user)
    sign_off = items.submit(campaign=campaign, by=company.carol_user)
    assert sign_off.counts == {"items": 4, "keep": 3, "revoke": 1, "bulk": 3}
    assert "4 holdings" in sign_off.statement
    assert "3 stay" in sign_off.statement
    assert "1 goes" in sign_off.statement
    assert population.digest_of_decisions(sign_off.items.values_list("pk", flat=True)) == sign_off.digest
    [event] = events("reviews.sign_off.submitted")
    assert event.data["counts"] == sign_off.counts
    assert event.data["digest"] == sign_off.digest


def test_signing_twice_signs_once(company: Company, campaign: Campaign) -> None:
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    with pytest.raises(NotAllowed, match="nothing left for you to sign"):
        items.submit(campaign=campaign, by=company.carol_user)
    assert SignOff.objects.count() == 1


def test_whoever_is_passed_more_after_signing_signs_for_that_too(company: Company, campaign: Campaign) -> None:
    robot = company.machine("robot")
    other = company.stands(robot, company.read)
    decide_all(campaign, "keep", reviewer=company.carol_user)
    items.submit(campaign=campaign, by=company.carol_user)
    second = company.launch(name="Machines", holders=["machine"])
    assert second.items.get().assignment == other
    items.reassign(second.items.all(), campaign=second, to=company.carol_user, by=company.erin_user, reason=REASON)
    decide_all(second, "keep", reviewer=company.carol_user)
    items.submit(campaign=second, by=company.carol_user)
    assert SignOff.objects.count() == 2


def test_strangers_sign_nothing(company: Company, campaign: Campaign) -> None:
    for user in (company.erin_user, company.frank_user, company.mallory):
        with pytest.raises(NotAllowed):
            items.submit(campaign=campaign, by=user)
    assert not SignOff.objects.exists()
