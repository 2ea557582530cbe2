from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.inventory.models import Entitlement, Identity, Principal
from apps.inventory.models.access import Privilege
from apps.inventory.models.resources import Environment
from apps.rules import questions
from apps.rules.evaluation import evaluate
from tests.factories.inventory import (
    AssignmentFactory,
    EntitlementFactory,
    IdentityFactory,
    PrincipalFactory,
    ResourceFactory,
)
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> Principal:
    return PrincipalFactory.create(name="alice", identity__name="Alice", identity__department=" Engineering ")


def who(principal: Principal) -> Identity:
    assert principal.identity is not None
    return principal.identity


def join(principal: Principal, group: str, **facts: object) -> None:
    entitlement = EntitlementFactory.create(connection=principal.connection, membership=True, group__name=group)
    AssignmentFactory.create(
        connection=principal.connection, principal=principal, entitlement=entitlement, **{"is_standing": True, **facts}
    )


def test_a_person_is_told_by_what_the_directory_says(alice: Principal) -> None:
    facts = questions.identity_facts(who(alice))

    assert (facts.kind, facts.is_active, facts.is_manager) == ("human", True, False)
    assert (facts.department, facts.title) == ("engineering", "Engineer")
    assert facts.groups == frozenset()


def test_who_leads_people_is_a_manager(alice: Principal) -> None:
    IdentityFactory.create(connection=alice.connection, manager=who(alice))

    assert questions.identity_facts(who(alice)).is_manager


def test_who_leads_only_people_who_left_is_not(alice: Principal) -> None:
    IdentityFactory.create(connection=alice.connection, manager=who(alice), ended_at=timezone.now())

    assert not questions.identity_facts(who(alice)).is_manager


def test_who_left_is_not_active(alice: Principal) -> None:
    who(alice).ended_at = timezone.now()

    assert not questions.identity_facts(who(alice)).is_active


def test_whose_portal_user_was_closed_is_not_active(alice: Principal) -> None:
    identity = who(alice)
    identity.user = UserFactory.create(is_active=False)

    assert not questions.identity_facts(identity).is_active


def test_whom_the_directory_disabled_is_not_active(alice: Principal) -> None:
    alice.attributes = {"status": "disabled"}
    alice.save()

    assert not questions.identity_facts(who(alice)).is_active


@pytest.mark.parametrize(
    ("words", "employment"),
    [
        ([], ""),
        ([None], ""),
        (["Employee"], "employee"),
        ([" Contractor "], "contractor"),
        (["Employee", "Contractor"], "contractor"),
        (["Employee", ""], "employee"),
    ],
)
def test_employment_is_the_directorys_word(alice: Principal, words: list[str | None], employment: str) -> None:
    alice.delete()
    for word in words:
        PrincipalFactory.create(connection=alice.connection, identity=who(alice), attributes={"user_type": word})

    assert questions.identity_facts(who(alice)).employment == employment


def test_standing_memberships_count(alice: Principal) -> None:
    join(alice, "platform-oncall")

    assert questions.identity_facts(who(alice)).groups == {"platform-oncall"}


def test_a_membership_that_is_lent_or_unexplained_does_not_count(alice: Principal) -> None:
    join(alice, "platform-oncall", is_standing=False)

    assert questions.identity_facts(who(alice)).groups == frozenset()


def test_a_membership_that_ended_does_not_count(alice: Principal) -> None:
    now = timezone.now()
    join(alice, "platform-oncall", period=(now - timedelta(days=2), now - timedelta(days=1)))

    assert questions.identity_facts(who(alice)).groups == frozenset()


def test_the_membership_of_somebody_else_does_not_count(alice: Principal) -> None:
    join(PrincipalFactory.create(connection=alice.connection), "platform-oncall")

    assert questions.identity_facts(who(alice)).groups == frozenset()


def test_an_iam_group_of_the_same_name_does_not_count(alice: Principal) -> None:
    group = PrincipalFactory.create(connection=alice.connection, iam_group=True, name="platform-oncall")
    entitlement = EntitlementFactory.create(
        connection=alice.connection, kind=Entitlement.Kind.IAM_GROUP, group=group, name="platform-oncall"
    )
    AssignmentFactory.create(connection=alice.connection, principal=alice, entitlement=entitlement, is_standing=True)

    assert questions.identity_facts(who(alice)).groups == frozenset()


def test_a_group_of_another_directory_does_not_count(alice: Principal) -> None:
    elsewhere = PrincipalFactory.create(identity=who(alice))
    join(elsewhere, "platform-oncall")

    assert elsewhere.connection != alice.connection
    assert questions.identity_facts(who(alice)).groups == frozenset()


def test_an_entitlement_is_told_with_its_account() -> None:
    entitlement = EntitlementFactory.create(
        name="ReadOnly", privilege=Privilege.WRITE, can_escalate=True, is_sensitive_read=True
    )

    facts = questions.entitlement_facts(entitlement)

    assert (facts.kind, facts.name, facts.privilege) == ("permission_set", "ReadOnly", "write")
    assert (facts.can_escalate, facts.is_sensitive_read) == (True, True)
    assert entitlement.resource is not None
    assert (facts.environment, facts.resource_id) == ("production", entitlement.resource.external_id)


def test_the_management_account_is_that_whatever_its_environment_says() -> None:
    account = ResourceFactory.create(is_management=True, environment=Environment.SANDBOX)

    entitlement = EntitlementFactory.create(connection=account.connection, resource=account)

    assert questions.entitlement_facts(entitlement).environment == "management"


def test_what_lies_in_no_account_is_not_known_to_be_harmless(alice: Principal) -> None:
    facts = questions.entitlement_facts(EntitlementFactory.create(membership=True))

    assert (facts.environment, facts.resource_id) == ("unknown", "")


def test_tags_say_nothing() -> None:
    account = ResourceFactory.create(environment=Environment.PRODUCTION, tags={"environment": "sandbox", "Env": "dev"})
    entitlement = EntitlementFactory.create(connection=account.connection, resource=account)

    assert questions.entitlement_facts(entitlement).environment == "production"


@pytest.mark.parametrize("privilege", Privilege.values)
@pytest.mark.parametrize("environment", Environment.values)
def test_every_word_of_the_inventory_is_one_the_rules_know(alice: Principal, privilege: str, environment: str) -> None:
    account = ResourceFactory.create(environment=environment, connection=alice.connection)
    entitlement = EntitlementFactory.create(connection=alice.connection, resource=account, privilege=privilege)

    assert evaluate(questions.about(questions.identity_facts(who(alice)), entitlement)).errors == ()


def test_machines_are_known_to_the_rules_as_well(alice: Principal) -> None:
    facts = questions.identity_facts(IdentityFactory.create(machine=True))
    verdict = evaluate(questions.about(facts, EntitlementFactory.create()))

    assert (verdict.tier, verdict.errors) == (None, ())


def test_the_question_carries_what_is_asked(alice: Principal) -> None:
    facts = questions.identity_facts(who(alice))
    entitlement = EntitlementFactory.create()

    question = questions.about(facts, entitlement, asked_for=timedelta(hours=1), has_ticket=True)

    assert (question.asked_for, question.has_ticket, question.is_on_call) == (timedelta(hours=1), True, False)
    assert question.identity == facts
    assert questions.about(facts, entitlement).asked_for is None


def test_many_questions_take_no_more_queries_than_one(alice: Principal) -> None:
    for _ in range(20):
        EntitlementFactory.create(connection=alice.connection)
    identity = Identity.objects.select_related("user").get(pk=who(alice).pk)

    with CaptureQueriesContext(database) as captured:
        facts = questions.identity_facts(identity)
        asked = [questions.about(facts, e) for e in Entitlement.objects.select_related("resource")]

    assert len(asked) == 20
    assert len(captured) == 4


def test_the_fast_way_is_closed_to_a_lent_group(alice: Principal) -> None:
    """End to end: being lent the on-call group does not open what being on call does."""
    entitlement = EntitlementFactory.create(connection=alice.connection, privilege=Privilege.WRITE)
    join(alice, "platform-oncall", is_standing=False)
    facts = questions.identity_facts(who(alice))

    lent = evaluate(questions.about(facts, entitlement, asked_for=timedelta(hours=1)))
    standing = evaluate(
        questions.about(
            replace(facts, groups=frozenset({"platform-oncall"})), entitlement, asked_for=timedelta(hours=1)
        )
    )

    assert (lent.tier, standing.tier) == ("approval", "self")
