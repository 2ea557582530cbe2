"""What people say about machines: what they are, what they are for, who answers for them and who comes after."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.access.models import Offer
from apps.access.services.offers import holders_for
from apps.audit.models import AuditEvent
from apps.inventory import permissions, services
from apps.inventory.models import Actor, Correction, Correlation, Creation, Identity, Resource
from apps.inventory.models.holders import Classification, answered_by
from apps.inventory.services import NotPossible
from apps.inventory.sync import creators
from tests.factories.inventory import EntitlementFactory, IdentityFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.inventory.conftest import PROD, trust


def person(org, name):
    return IdentityFactory(
        connection=org,
        name=name,
        email=f"{name.lower()}@example.com",
        user=UserFactory(name=name, email=f"{name}@x.example"),
    )


@pytest.fixture
def bob(org):
    return person(org, "Bob")


@pytest.fixture
def alice(org):
    return person(org, "Alice")


@pytest.fixture
def robot(org, bob):
    row = PrincipalFactory(connection=org, iam_user=True, external_id="robot", name="robot").identity
    row.name, row.owner, row.owner_source = "robot", bob, "set by Erin"
    row.signs = [
        {"classification": "service", "evidence": "ec2", "confidence": "high", "statement": "", "concerns": []}
    ]
    row.save()
    return row


def test_a_correction_stands_beside_the_evidence_and_says_when_that_changed(robot, bob):
    services.correct(robot, classification=Classification.SAML, reason="People use it.", by=bob.user)
    robot = Identity.objects.get(pk=robot.pk)
    assert (robot.what, robot.classification, robot.kind) == ("Signed in through SAML", "service", "machine")
    assert not robot.correction.has_evidence_changed
    robot.signs = [{**robot.signs[0], "evidence": "lambda"}]
    robot.save()
    assert Identity.objects.get(pk=robot.pk).correction.has_evidence_changed
    event = AuditEvent.objects.get(event="inventory.identity.corrected")
    assert (event.data["said"], event.data["evidence_says"], event.data["reason"]) == (
        "saml",
        "service",
        "People use it.",
    )


def test_lists_find_a_machine_by_what_was_said(robot, bob, org):
    other = IdentityFactory(connection=org, machine=True)
    services.correct(robot, classification=Classification.SAML, reason="People use it.", by=bob.user)
    assert set(Identity.objects.classified("service")) == {other}
    assert set(Identity.objects.classified("saml")) == {robot}
    services.take_correction_back(robot, by=bob.user)
    assert set(Identity.objects.classified("service")) == {robot, other}
    assert AuditEvent.objects.filter(event="inventory.identity.correction_taken_back").count() == 1


def test_what_was_said_survives_every_sync(read, org, erin):
    read()
    deployer = Identity.objects.get(external_id="deployer")
    alice = Identity.objects.get(external_id="alice")
    services.correct(deployer, classification=Classification.SAML, reason="People use it.", by=erin)
    services.describe(deployer, purpose="Ships the shop.", consumers="Payments", by=erin)
    services.set_successor(deployer, alice, by=erin)
    read()
    deployer = Identity.objects.get(pk=deployer.pk)
    assert (deployer.what, deployer.classification) == ("Signed in through SAML", "service")
    assert (deployer.purpose, deployer.consumers, deployer.successor) == ("Ships the shop.", "Payments", alice)


def test_an_owners_word_that_it_is_a_person_only_asks_an_administrator(robot, bob):
    services.correct(robot, classification=None, is_person=True, reason="I log in with it.", by=bob.user)
    robot.refresh_from_db()
    assert robot.kind == "machine"
    asked = Correlation.objects.waiting().get()
    assert (asked.decision, asked.person, asked.asked_by) == ("", None, bob.user)
    assert "I log in with it." in asked.note


def test_a_role_is_nobodys_login(org, erin):
    role = PrincipalFactory(connection=org, iam_role=True).identity
    with pytest.raises(NotPossible, match="Only an IAM user"):
        services.correct(role, classification=None, is_person=True, reason="x", by=erin)
    assert not Correction.objects.exists()


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_correction_says_why(robot, erin, reason):
    with pytest.raises(NotPossible, match="Say why"):
        services.correct(robot, classification=Classification.SAML, reason=reason, by=erin)


def test_what_it_is_for_is_bounded_and_recorded_once(robot, erin):
    services.describe(robot, purpose="x" * 5000, consumers="", by=erin)
    services.describe(robot, purpose="x" * 1000, consumers="", by=erin)
    robot.refresh_from_db()
    assert len(robot.purpose) == 1000
    assert AuditEvent.objects.filter(event="inventory.identity.described").count() == 1


def test_people_and_deleted_machines_are_not_corrected(robot, alice, erin):
    Identity.objects.filter(pk=robot.pk).update(ended_at=timezone.now())
    for row in (robot, alice):
        with pytest.raises(NotPossible):
            services.correct(row, classification=Classification.SAML, reason="x", by=erin)
        with pytest.raises(NotPossible):
            services.set_successor(row, None, by=erin)


# ---- who answers


def test_the_successor_answers_once_the_owner_has_left(robot, bob, alice, erin, org):
    services.set_successor(robot, alice, by=erin)
    assert (robot.answerer, set(Identity.objects.filter(answered_by(alice)))) == (bob, set())
    assert not permissions.can_describe(alice.user, robot)
    bob.ended_at = timezone.now()
    bob.save()
    robot = Identity.objects.get(pk=robot.pk)
    assert (robot.answerer, set(Identity.objects.filter(answered_by(alice)))) == (alice, {robot})
    assert robot not in Identity.objects.unowned()
    assert permissions.can_describe(alice.user, robot)
    assert permissions.can_view_identity(alice.user, robot)
    Identity.objects.filter(pk=alice.pk).update(ended_at=timezone.now())
    assert robot in Identity.objects.unowned()
    assert Identity.objects.get(pk=robot.pk).answerer is None


def test_the_successor_asks_for_the_machine_in_the_owners_place(robot, bob, alice, erin, org):
    login = robot.principals.get()
    policy = EntitlementFactory(connection=org, resource=login.resource, kind="dated_policy")
    offer = Offer(entitlement=policy, provisioner="iam_timeboxed_policy")
    services.set_successor(robot, alice, by=erin)
    assert (holders_for(bob.user, offer), holders_for(alice.user, offer)) == ([login], [])
    Identity.objects.filter(pk=bob.pk).update(ended_at=timezone.now())
    assert holders_for(alice.user, offer) == [login]


def test_a_successor_is_another_person_who_is_here(robot, bob, erin, org):
    gone, elsewhere = IdentityFactory(connection=org, ended_at=timezone.now()), IdentityFactory()
    for who in (bob, gone, elsewhere, IdentityFactory(connection=org, machine=True)):
        with pytest.raises(NotPossible):
            services.set_successor(robot, who, by=erin)


STACK = {"aws:cloudformation:stack-name": "payments"}


def made(world, name, tags):
    facts = {**trust(Service="ec2.amazonaws.com"), "tags": tags, "unique_id": f"AROA-{name}"}
    world.add_principal("iam_role", name, account_id=PROD, attributes=facts)


def test_machines_of_one_stack_share_the_owner_that_a_person_named(read, world, erin):
    made(world, "first", STACK)
    made(world, "second", {"AWS:CloudFormation:Stack-Name": "payments"})
    made(world, "stranger", {"aws:cloudformation:stack-name": "other"})
    read()
    alice, bob = (Identity.objects.get(external_id=name) for name in ("alice", "bob"))
    services.set_owner(Identity.objects.get(external_id="first"), alice, by=erin)
    read()
    second = Identity.objects.get(external_id="second")
    assert (second.owner, second.owner_source) == (alice, "stack payments")
    assert Identity.objects.get(external_id="stranger").owner is None
    # what was derived names nobody for others: two people said for one stack is nobody
    made(world, "third", STACK)
    read()
    services.set_owner(Identity.objects.get(external_id="third"), bob, by=erin)
    read()
    assert Identity.objects.get(external_id="second").owner is None


@pytest.mark.parametrize(
    ("tags", "account_owner", "source"),
    [
        ({**STACK, "owner": "bob@example.com"}, True, "tag owner"),
        (STACK, True, "account owner"),
        (STACK, False, "stack payments"),
        ({}, False, "creator"),
    ],
)
def test_the_first_source_that_knows_an_owner_counts(read, world, erin, tags, account_owner, source):
    made(world, "first", STACK)
    made(world, "role", tags)
    read()
    alice, bob = (Identity.objects.get(external_id=name) for name in ("alice", "bob"))
    services.set_owner(Identity.objects.get(external_id="first"), alice, by=erin)
    creation(bob.connection, principal=bob.principals.get(), made_id="AROA-role")
    if account_owner:
        services.set_owner(Resource.objects.get(external_id=PROD), alice, by=erin)
    read()
    assert Identity.objects.get(external_id="role").owner_source == source


SSO = "arn:aws:iam::1:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_1"


def creation(org, *, principal=None, arn="", session="", made_id="AROA1"):
    now = timezone.now()
    actor = Actor.objects.create(
        connection=org, external_id=f"actor-{made_id}", arn=arn, principal=principal, first_at=now, last_at=now
    )
    return Creation.objects.create(connection=org, made_id=made_id, actor=actor, session_name=session, at=now)


@pytest.mark.parametrize("who", ["directory user", "login", "identity center session"])
def test_the_trail_says_who_made_a_machine(org, bob, who):
    user = PrincipalFactory(connection=org, external_id="bob-id", name="bob@example.com", identity=bob)
    login = PrincipalFactory(connection=org, iam_user=True, external_id="arn:bob", identity=bob)
    creation(
        org,
        **{
            "directory user": {"principal": user},
            "login": {"principal": login},
            "identity center session": {"arn": SSO, "session": "BOB@example.com"},
        }[who],
    )
    assert creators.creators(org, {"role": "AROA1", "again": "AROA2"}) == {"role": bob.pk}
    Identity.objects.filter(pk=bob.pk).update(ended_at=timezone.now())
    assert creators.creators(org, {"role": "AROA1"}) == {}


@pytest.mark.parametrize("who", ["a session named by whoever began it", "a stranger", "two people", "a machine"])
def test_the_trail_names_no_maker_where_aws_does_not(org, bob, who):
    PrincipalFactory(connection=org, external_id="bob-id", name="bob@example.com", identity=bob)
    robot = PrincipalFactory(connection=org, iam_user=True)
    if who == "two people":
        PrincipalFactory(connection=org, name="Bob@Example.com")
    creation(
        org,
        **{
            "a session named by whoever began it": {"arn": "arn:aws:iam::1:role/x", "session": "bob@example.com"},
            "a stranger": {"arn": SSO, "session": "mallory"},
            "two people": {"arn": SSO, "session": "bob@example.com"},
            "a machine": {"principal": robot},
        }[who],
    )
    assert creators.creators(org, {"role": "AROA1"}) == {}


# ---- pages


def test_the_owner_corrects_describes_and_names_a_successor_on_the_page(client, robot, bob, alice):
    client.force_login(bob.user)
    url = robot.get_absolute_url()
    answer = client.post(f"{url}correct", {"what": "saml", "reason": "People use it."}, follow=True)
    client.post(f"{url}describe", {"purpose": "<b>Ships</b>", "consumers": "Payments"})
    client.post(f"{url}successor", {"owner": "alice@example.com"})
    page = client.get(url).content.decode()
    assert answer.status_code == 200
    for text in (
        "Signed in through SAML",
        "People use it.",
        "AWS's evidence says AWS service",
        "&lt;b&gt;Ships",
        "Alice",
    ):
        assert text in page
    client.post(f"{url}take-correction-back")
    assert not Correction.objects.exists()


@pytest.mark.parametrize("what", ["correct", "describe", "successor", "take-correction-back"])
def test_nobody_else_writes_about_a_machine(client, robot, alice, what):
    client.force_login(alice.user)
    assert client.post(f"{robot.get_absolute_url()}{what}", {"what": "saml", "reason": "x"}).status_code == 404


def test_every_sign_is_shown_with_how_sure_it_is_and_what_is_wrong(client, robot, erin):
    robot.signs = [
        {
            "classification": "third_party",
            "confidence": "low",
            "evidence": "It trusts <x>.",
            "statement": "Partner",
            "concerns": ["no_external_id", "not a concern we know"],
        }
    ]
    robot.save()
    client.force_login(erin)
    page = client.get(robot.get_absolute_url()).content.decode()
    for text in ("Third party", "A guess", "It trusts &lt;x&gt;.", "(Partner)", "without an external id"):
        assert text in page


@pytest.fixture
def asked(org, alice):
    rows = []
    for name in ("alice", "nobody", "third"):
        row = PrincipalFactory(connection=org, iam_user=True, external_id=f"arn:{name}", name=name)
        proposed = alice if name == "alice" else None
        Correlation.objects.create(principal=row, proposed=proposed, rule="local_part" if proposed else "")
        rows.append(row)
    return rows


def test_the_queue_leads_from_question_to_question(client, asked, erin, alice):
    client.force_login(erin)
    answer = client.get("/logins/")
    assert all(row.name in answer.content.decode() for row in asked)
    assert [answer.context[name] for name in ("waiting", "later", "decided")] == [3, 0, 0]
    assert {one.rule.key: one.count for one in answer.context["rules"] if one.count} == {"local_part": 1}
    answer = client.post(f"/logins/{asked[0].pk}/decide", {"choice": "proposed", "reason": "Sure."})
    assert answer.url == f"/logins/{asked[1].pk}/"
    answer = client.post(f"/logins/{asked[1].pk}/decide", {"choice": "machine"})
    assert answer.url == f"/logins/{asked[2].pk}/"
    assert client.post(f"/logins/{asked[2].pk}/decide", {"choice": "later"}).url == "/logins/"
    said = dict(Correlation.objects.values_list("principal__name", "decision"))
    assert said == {"alice": "person", "nobody": "machine", "third": "later"}
    answer = client.get("/logins/")
    assert "Nothing waits for you" in answer.content.decode()
    assert [answer.context[name] for name in ("waiting", "later", "decided")] == [0, 1, 2]
    assert "third" in client.get("/logins/?show=later").content.decode()
    assert "Alice" in client.get("/logins/?show=decided").content.decode()
    assert "It is not theirs" in client.get(f"/logins/{asked[0].pk}/").content.decode()


def test_a_person_is_named_by_the_e_mail_of_exactly_one(client, asked, erin, alice, org):
    client.force_login(erin)
    for email in ("", "who@example.com"):
        client.post(f"/logins/{asked[1].pk}/decide", {"choice": "person", "person": email})
    client.post(f"/logins/{asked[1].pk}/decide", {"choice": "proposed"})
    assert not Correlation.objects.decided().exists()
    client.post(f"/logins/{asked[1].pk}/decide", {"choice": "person", "person": "ALICE@example.com"})
    assert Correlation.objects.decided().get().person == alice


def test_what_one_rule_proposes_is_linked_by_a_press(client, asked, erin):
    client.force_login(erin)
    client.post("/logins/accept", {"rule": "local_part"})
    assert Correlation.objects.decided().get().principal == asked[0]


def test_an_auditor_sees_the_queue_and_answers_nothing(client, asked):
    client.force_login(UserFactory(name="Dan", auditor=True))
    assert "It is Alice" not in client.get(f"/logins/{asked[0].pk}/").content.decode()
    assert client.post(f"/logins/{asked[0].pk}/decide", {"choice": "machine"}).status_code == 404


def test_the_queue_costs_the_same_for_one_and_for_twenty(client, erin, org):
    client.force_login(erin)

    def cost(count):
        for _ in range(count):
            Correlation.objects.create(principal=PrincipalFactory(connection=org, iam_user=True))
        with CaptureQueriesContext(connection) as seen:
            client.get("/logins/")
        return len(seen)

    assert cost(1) == cost(19)
