"""What a launch freezes, and who is asked about it."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection as database
from django.db import transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.audit.models import AuditEvent
from apps.inventory.models import Assignment, Entitlement, Identity, Principal, Resource, SyncRun
from apps.reviews import population
from apps.reviews.models import Campaign, ReviewItem
from apps.reviews.services import campaigns
from apps.reviews.services.items import NotAllowed
from apps.users.models import User
from tests.factories.inventory import (
    AssignmentFactory,
    CredentialFactory,
    EntitlementFactory,
    PrincipalFactory,
    ResourceFactory,
    SyncRunFactory,
)
from tests.factories.users import UserFactory
from tests.reviews.conftest import Company, item_of


def pairs(campaign: Campaign) -> set[tuple[str, str, str]]:
    return {(item.kind, item.principal.name, item.entitlement.name) for item in campaign.items.all()}


# ---- what


def test_items_are_what_could_be_removed_and_nothing_else(company: Company) -> None:
    company.stands(company.alice, company.read)
    membership = company.group("admins", company.admin)
    company.stands(company.alice, membership)
    AssignmentFactory(connection=company.connection, principal=company.bob, entitlement=company.read)  # unintended
    company.stands(company.bob, EntitlementFactory(connection=company.connection, is_ours=True))
    company.stands(company.bob, company.admin, attributes={"is_ours": True})
    company.stands(PrincipalFactory(connection=company.connection, iam_role=True, is_reserved=True), company.read)
    AssignmentFactory(is_standing=True)  # another connection
    assert pairs(company.launch()) == {
        ("direct", "alice", "Read"),
        ("membership", "alice", "admins"),
        ("group", "admins", "Admin"),
    }


def test_access_given_just_in_time_is_not_reviewed(company: Company) -> None:
    company.stands(company.alice, company.read)
    company.active(company.bob, company.read)  # and a sync has seen it
    assert Assignment.objects.open().filter(principal=company.bob).exists()
    campaign = company.launch()
    assert pairs(campaign) == {("direct", "alice", "Read")}
    assert campaign.left_out == {"granted": 1, "unintended": 0, "reserved": 0}


def test_what_was_left_out_is_counted_by_reason(company: Company) -> None:
    company.stands(company.alice, company.read)
    AssignmentFactory(connection=company.connection, principal=company.bob, entitlement=company.read)
    company.stands(PrincipalFactory(connection=company.connection, iam_role=True, is_reserved=True), company.read)
    campaign = company.launch()
    assert campaign.left_out == {"granted": 0, "unintended": 1, "reserved": 1}
    assert pairs(campaign) == {("direct", "alice", "Read")}


def test_a_connection_that_is_only_looked_at_can_be_reviewed(company: Company) -> None:
    company.connection.write_approved_at = company.connection.write_approved_by = None
    company.connection.save()
    company.stands(company.alice, company.read)
    assert company.launch().population == 1


def test_privileged_only_takes_admin_privileged_and_unknown(company: Company) -> None:
    for privilege in ("admin", "privileged", "unknown", "write", "read", "none"):
        company.stands(company.alice, company.permission_set(privilege, privilege))
    names = {name for _, _, name in pairs(company.launch(privileged_only=True))}
    assert names == {"admin", "privileged", "unknown"}


def test_a_membership_is_in_scope_when_one_thing_its_group_holds_is(company: Company) -> None:
    company.stands(company.alice, company.group("mixed", company.read, company.admin))
    company.stands(company.bob, company.group("harmless", company.read))
    campaign = company.launch(privileged_only=True)
    assert pairs(campaign) == {("membership", "alice", "mixed"), ("group", "mixed", "Admin")}
    [item] = campaign.items.filter(kind="membership")
    assert [(each["entitlement"], each["in_scope"]) for each in item.frozen["brings"]] == [
        ("Admin", True),
        ("Read", False),
    ]
    assert item.frozen["brings_total"] == 2


def test_a_group_that_holds_something_that_does_not_stand_still_brings_it(company: Company) -> None:
    membership = company.group("new", company.admin, is_standing=False)
    company.stands(company.alice, membership)
    assert pairs(company.launch()) == {("membership", "alice", "new")}


@pytest.mark.parametrize(
    ("environments", "expected"),
    [
        ([], {"production", "staging", "unknown", "org-wide"}),
        (["production"], {"production", "unknown", "org-wide"}),  # what nobody classified counts as production
        (["staging"], {"staging"}),
    ],
)
def test_environments_narrow_the_scope(company: Company, environments: list[str], expected: set[str]) -> None:
    for environment in ("production", "staging", "unknown"):
        account = ResourceFactory(connection=company.connection, environment=environment)
        what = EntitlementFactory(connection=company.connection, resource=account, name=environment)
        company.stands(company.alice, what)
    company.stands(company.alice, EntitlementFactory(connection=company.connection, resource=None, name="org-wide"))
    assert {name for _, _, name in pairs(company.launch(environments=environments))} == expected


def test_one_account_narrows_the_scope(company: Company) -> None:
    company.stands(company.alice, company.read)
    company.stands(company.alice, EntitlementFactory(connection=company.connection))
    assert pairs(company.launch(resource=company.account)) == {("direct", "alice", "Read")}


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        (["human"], {"alice"}),
        (["machine"], {"robot"}),
        (["group"], {"admins"}),
        (["human", "group"], {"alice", "admins"}),
    ],
)
def test_kinds_of_holder_narrow_the_scope(company: Company, holders: list[str], expected: set[str]) -> None:
    company.stands(company.alice, company.read)
    company.stands(company.machine("robot", company.bob), company.read)
    company.group("admins", company.admin)
    assert {name for _, name, _ in pairs(company.launch(holders=holders))} == expected


def test_what_an_item_says_is_what_stood_at_launch(company: Company) -> None:
    Entitlement.objects.filter(pk=company.admin.pk).update(privilege_reason="It allows everything.")
    company.stands(company.alice, company.admin)
    campaign = company.launch()
    Identity.objects.filter(pk=company.alice.identity_id).update(name="Alicia")
    Entitlement.objects.filter(pk=company.admin.pk).update(name="Renamed", privilege="read")
    [item] = campaign.items.all()
    assert (item.holder_name, item.holding_name, item.privilege) == (
        company.alice.identity.name,
        "Admin in production",
        "admin",
    )
    frozen = item.frozen
    assert frozen["privilege_reason"] == "It allows everything."
    assert (frozen["account_id"], frozen["environment"]) == (company.account.external_id, "production")
    assert frozen["last_used_at"] is None
    assert frozen["since"] == "2026-11-22T09:00:00.000000Z"
    assert frozen["manager"] == company.carol.identity.name
    assert (frozen["reviewer"], frozen["reviewer_rule"]) == ("Carol", item.reviewer_rule)
    assert population.digest(campaign) == campaign.digest


def test_items_come_by_reviewer_and_holder_the_worst_first(company: Company) -> None:
    for who in (company.bob, company.alice):
        for what in (company.read, company.admin):
            company.stands(who, what)
    shown = [(item.principal.name, item.entitlement.name) for item in company.launch().items.all()]
    assert shown == [("alice", "Admin"), ("alice", "Read"), ("bob", "Admin"), ("bob", "Read")]


# ---- who


def rule(campaign: Campaign, who: Principal, what: Entitlement) -> tuple[User, str, str]:
    item = item_of(campaign, who, what)
    return item.reviewer, item.rule, item.reviewer_rule


def test_a_persons_manager_reviews(company: Company) -> None:
    company.stands(company.alice, company.read)
    name = company.alice.identity.name
    assert rule(company.launch(), company.alice, company.read) == (company.carol_user, "manager", f"Manager of {name}")


def test_people_without_a_manager_who_can_review_go_to_the_fallback(company: Company) -> None:
    unmanaged, unlinked, kept_out, left = (company.person(name) for name in ("una", "uli", "kim", "lee"))
    nobody = company.person("nobody")
    Identity.objects.filter(pk=nobody.identity_id).update(user=None)
    for who, manager in ((unlinked, nobody), (kept_out, company.person("out")), (left, company.person("gone"))):
        company.managed_by(who, manager)
    User.objects.filter(name="Out").update(is_active=False)
    Identity.objects.filter(external_id="gone").update(ended_at=timezone.now())
    everybody = (unmanaged, unlinked, kept_out, left)
    for who in everybody:
        company.stands(who, company.read)
    campaign = company.launch()
    for who in everybody:
        reviewer, by, why = rule(campaign, who, company.read)
        assert (reviewer, by) == (company.frank_user, "fallback")
        assert why == f"Fallback: no manager of {who.identity.name} can review it"


def test_a_machines_owner_reviews(company: Company) -> None:
    owned, unowned = company.machine("owned", company.bob), company.machine("unowned")
    company.stands(owned, company.read)
    company.stands(unowned, company.read)
    campaign = company.launch()
    assert rule(campaign, owned, company.read) == (company.bob_user, "owner", "Owner of owned")
    assert rule(campaign, unowned, company.read)[:2] == (company.frank_user, "fallback")


def test_the_successor_reviews_once_the_owner_has_left(company: Company) -> None:
    owned = company.machine("owned", company.bob)
    Identity.objects.filter(pk=owned.identity_id).update(successor=company.carol.identity)
    company.stands(owned, company.read)
    assert rule(company.launch(), owned, company.read)[:2] == (company.bob_user, "owner")
    Identity.objects.filter(pk=company.bob.identity_id).update(ended_at=timezone.now())
    why = (company.carol_user, "owner", "Successor of the owner of owned")
    assert rule(company.launch(), owned, company.read) == why


def test_a_login_of_a_person_is_reviewed_by_their_manager(company: Company) -> None:
    """An IAM user with a console password is its owner's own access."""
    login = company.machine("alice-console", company.alice)
    CredentialFactory(principal=login, kind="password")
    company.stands(login, company.admin)
    item = item_of(company.launch(), login, company.admin)
    assert (item.reviewer, item.rule) == (company.carol_user, "manager")
    assert item.reviewer_rule == f"Manager of {company.alice.identity.name}, whose login this is"
    assert item.subject_user == company.alice_user


@pytest.mark.parametrize("owned", ["group", "entitlement", "account"])
def test_what_a_group_holds_goes_to_the_nearest_owner(company: Company, owned: str) -> None:
    membership = company.group("admins", company.admin)
    group = membership.group
    assert group
    rows = {"group": group, "entitlement": company.admin, "account": company.account}
    for name in list(rows)[list(rows).index(owned) :]:
        rows[name].owner = company.bob.identity if name == owned else company.carol.identity
        rows[name].save()
    reviewer, by, why = rule(company.launch(), group, company.admin)
    assert (reviewer, by) == (company.bob_user, "owner")
    assert why == {"group": "Owner of the group admins", "entitlement": "Owner of Admin"}.get(
        owned, "Owner of the account production"
    )


# ---- never their own


def own_items(campaign: Campaign) -> list[ReviewItem]:
    return [
        item for item in campaign.items.all() if ReviewItem.objects.filter(pk=item.pk).own_of(item.reviewer).exists()
    ]


def test_the_fallback_never_reviews_their_own(company: Company) -> None:
    company.stands(company.frank, company.read)
    campaign = company.launch()
    reviewer, by, why = rule(campaign, company.frank, company.read)
    assert (reviewer, by) == (company.erin_user, "launcher")
    assert why.startswith("Launched the campaign, and the fallback would review their own access")
    assert own_items(campaign) == []


def test_with_nobody_left_who_may_review_there_is_no_launch(company: Company) -> None:
    company.stands(company.erin, company.read)
    company.stands(company.alice, company.read)
    campaign = company.draft(fallback=company.erin_user)
    with pytest.raises(NotAllowed, match="Nobody may review what"):
        campaigns.launch(campaign, by=company.erin_user)
    assert not ReviewItem.objects.exists()
    campaign.refresh_from_db()
    assert campaign.is_draft


def test_an_administrator_who_is_not_linked_is_no_reviewer_by_launching(company: Company) -> None:
    company.stands(company.frank, company.read)
    grace = UserFactory(name="Grace", administrator=True)
    with pytest.raises(NotAllowed, match="Nobody may review"):
        campaigns.launch(company.draft(), by=grace)


def test_a_manager_of_themselves_by_another_login_does_not_review(company: Company) -> None:
    """Carol has a second login that is linked to nobody, has her address, and names her as its manager."""
    second = company.person("carol-admin")
    Identity.objects.filter(pk=second.identity_id).update(
        user=None, manager=company.carol.identity, email=company.carol_user.email.upper()
    )
    company.stands(second, company.admin)
    item = item_of(company.launch(), second, company.admin)
    assert item.subject_user == company.carol_user
    assert item.reviewer == company.frank_user


def test_a_group_is_not_reviewed_by_an_owner_who_is_a_member(company: Company) -> None:
    membership = company.group("admins", company.admin)
    group = membership.group
    assert group
    Principal.objects.filter(pk=group.pk).update(owner=company.bob.identity)
    company.account.owner = company.carol.identity
    company.account.save()
    AssignmentFactory(connection=company.connection, principal=company.bob, entitlement=membership)
    assert rule(company.launch(), group, company.admin)[:2] == (company.carol_user, "owner")


def test_a_group_is_not_reviewed_by_a_fallback_who_is_a_member(company: Company) -> None:
    Resource.objects.update(owner=None)
    membership = company.group("admins", company.admin)
    company.stands(company.frank, membership)
    group = membership.group
    assert group
    assert rule(company.launch(), group, company.admin)[:2] == (company.erin_user, "launcher")


def test_whatever_holds_whatever_nobody_reviews_their_own(company: Company) -> None:
    people = [company.alice, company.bob, company.carol, company.frank, company.erin]
    membership = company.group("everybody", company.admin)
    for boss, who in pairwise(people):
        company.managed_by(who, boss)
    for who in people[:4]:
        company.stands(who, company.read)
        company.stands(who, company.admin)
        company.stands(who, membership)
    group = membership.group
    Principal.objects.filter(pk=group.pk if group else 0).update(owner=company.alice.identity)
    campaign = company.launch()
    assert campaign.population == 13
    assert own_items(campaign) == []


# ---- when


def test_an_unread_connection_is_not_launched(company: Company) -> None:
    company.stands(company.alice, company.read)
    SyncRun.objects.all().delete()
    with pytest.raises(NotAllowed, match="was never read"):
        company.launch()


@pytest.mark.parametrize("state", ["incomplete", "held", "failed"])
def test_an_incomplete_sync_blocks_the_launch_even_after_a_complete_one(company: Company, state: str) -> None:
    company.stands(company.alice, company.read)
    SyncRunFactory(connection=company.connection, state=state, started_at=timezone.now() + timedelta(seconds=1))
    with pytest.raises(NotAllowed, match="the list could lack somebody"):
        company.launch()


@pytest.mark.parametrize(("hours", "is_blocked"), [(24, False), (25, True)])
def test_an_old_sync_blocks_the_launch(company: Company, hours: int, is_blocked: bool) -> None:
    company.stands(company.alice, company.read)
    SyncRun.objects.update(started_at=timezone.now() - timedelta(hours=hours))
    campaign = company.draft()
    assert campaigns.blocked(campaign) == (
        f"{company.connection} was last read 1 day 1 h ago, the limit is 1 day. Sync it first." if is_blocked else ""
    )
    if is_blocked:
        with pytest.raises(NotAllowed, match="Launch is blocked"):
            campaigns.launch(campaign, by=company.erin_user)
        return
    assert campaigns.launch(campaign, by=company.erin_user).run == company.run


def test_a_connection_without_a_baseline_is_not_launched(company: Company) -> None:
    company.stands(company.alice, company.read)
    company.connection.write_approved_at = company.connection.baselined_at = None
    company.connection.write_approved_by = None
    company.connection.save()
    with pytest.raises(NotAllowed, match="Baseline it first"):
        company.launch()


def test_an_empty_scope_is_not_launched(company: Company) -> None:
    with pytest.raises(NotAllowed, match="Widen it"):
        company.launch()


def test_a_campaign_is_launched_once(company: Company) -> None:
    company.stands(company.alice, company.read)
    campaign = company.launch()
    with pytest.raises(NotAllowed, match="launched already"):
        campaigns.launch(campaign, by=company.erin_user)
    assert campaign.items.count() == 1


def test_one_event_tells_the_launch(company: Company) -> None:
    company.stands(company.alice, company.read)
    company.stands(company.bob, company.admin)
    campaign = company.launch()
    [event] = AuditEvent.objects.filter(event="reviews.campaign.launched")
    assert event.data["reviewers"] == [{"user": company.carol_user.pk, "items": 2}]
    assert event.data["population"] == 2
    assert event.data["digest"] == campaign.digest
    assert event.data["scope"]["connection"] == company.connection.name
    assert event.data["due_at"] == campaign.due_at.isoformat()


# ---- how much


def statements(company: Company, people: int) -> int:
    membership = company.group(f"group-{people}", company.admin)
    for number in range(people):
        who = company.person(f"p{people}-{number}")
        company.stands(who, company.read)
        company.stands(who, membership)
    campaign = company.draft()
    with CaptureQueriesContext(database) as queries:
        campaigns.launch(campaign, by=company.erin_user)
    return len(queries)


def test_launching_takes_the_same_number_of_statements_whatever_the_size(company: Company) -> None:
    assert statements(company, 1) == statements(company, 30)


def test_a_preview_says_what_a_launch_would_freeze_and_writes_nothing(company: Company) -> None:
    company.stands(company.alice, company.read)
    company.stands(company.frank, company.read)
    campaign = company.draft()
    found = population.preview(campaign, launcher=company.erin_user.pk)
    assert (found.items, found.placed, found.reviewers, found.by_fallback) == (2, 2, 2, 1)
    assert not ReviewItem.objects.exists()


def test_the_digest_can_be_computed_without_the_portal(company: Company) -> None:
    """By the recipe of population.py, in plain Python."""

    def canonical(value: object) -> object:
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: canonical(value[key]) for key in keys}
        return [canonical(each) for each in value] if isinstance(value, list) else value

    def sha(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    Identity.objects.filter(pk=company.alice.identity_id).update(name='Zoë "O\'Neil" \\ 統')
    Entitlement.objects.filter(pk=company.admin.pk).update(privilege_statement={"Effect": "Allow", "Action": ["*"]})
    for who in (company.alice, company.bob):
        company.stands(who, company.admin)
    campaign = company.launch()
    lines = [
        f"{item.assignment_id}|{json.dumps(canonical(item.frozen), ensure_ascii=False)}"
        for item in campaign.items.order_by("assignment_id")
    ]
    assert sha("".join(map(sha, lines))) == campaign.digest


def test_a_draft_can_be_thrown_away_and_a_campaign_cannot(company: Company) -> None:
    company.stands(company.alice, company.read)
    campaigns.discard(company.draft(), by=company.erin_user)
    assert not Campaign.objects.exists()
    campaign = company.launch()
    with pytest.raises(NotAllowed, match="it is kept"):
        campaigns.discard(campaign, by=company.erin_user)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"due_at": timezone.now() - timedelta(days=365 * 9)}, "future"),
        ({"fallback": "mallory"}, "cannot be the fallback"),
        ({"resource": "elsewhere"}, "is not an account of"),
    ],
)
def test_a_draft_that_could_not_work_is_refused(company: Company, fields: dict, says: str) -> None:
    names = {"mallory": company.mallory, "elsewhere": ResourceFactory()}
    with pytest.raises(NotAllowed, match=says), transaction.atomic():
        company.draft(
            **{key: names.get(value, value) if isinstance(value, str) else value for key, value in fields.items()}
        )
    assert not Assignment.objects.filter(is_standing=True).exists()
