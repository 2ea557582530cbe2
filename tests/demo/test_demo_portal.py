"""A trimmed company, seeded into its AWS, read by a real sync and signed up through the services."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from apps.access.models import AccessRequest, Offer
from apps.access.services import offers
from apps.audit.models import AuditEvent
from apps.connectors import registry
from apps.connectors.aws.session import forget_sessions
from apps.connectors.base import Target, Window
from apps.demo import cast, said, trail
from apps.demo.company.harbourline import HARBOURLINE
from apps.demo.company.people import CAST, email
from apps.demo.history import make_requests, make_reviews
from apps.demo.portal import DATED_POLICIES, ON_OFFER, CannotSignUp, Portal
from apps.demo.seed_aws import seed
from apps.grants.models import Grant
from apps.inventory import sync
from apps.inventory.models import Assignment, Entitlement, Identity, Principal, Resource, SyncRun, TrailRun, Usage
from apps.inventory.sync import trails
from apps.reviews.models import Campaign, ReviewItem
from apps.rules import questions
from apps.users import services as users
from apps.users.models import User

SMALL = HARBOURLINE.trimmed(people=13, roles_per_account=3)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The demo's own server, which knows departments, with the company in it."""
    command = [sys.executable, "-m", "apps.demo.aws_server", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    address = process.stdout.readline().strip()
    seed(address, SMALL)
    yield address
    process.kill()
    process.communicate()


@pytest.fixture
def aws_url(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    forget_sessions()
    yield url
    forget_sessions()


@pytest.mark.django_db
def test_the_company_signs_up_as_people_would(aws_url: str) -> None:
    portal = Portal(SMALL)
    connection = portal.connect()
    assert not connection.is_writable
    assert portal.read().state == SyncRun.State.COMPLETE
    portal.sign_up()
    portal.name_managers()
    portal.name_owners()
    check_trail(portal)
    check_said(portal)
    check_people()
    check_owners()
    assert not Assignment.objects.standing().exists()
    portal.open()
    check_trust(portal)
    made = portal.offer()
    check_offers(portal, made)
    check_requests(make_requests(portal.connection))
    check_reviews(make_reviews(portal.connection))
    check_second_sync(portal)
    check_audit()


def check_people() -> None:
    administrators = {CAST["erin"], CAST["farid"]}
    for person in SMALL.people:
        identity = Identity.objects.select_related("user", "manager").get(email=person.email)
        user = identity.user
        assert user
        assert user.email == person.email
        assert not user.has_usable_password()
        assert identity.department == person.department
        assert (identity.manager.email if identity.manager else None) == person.manager
        assert identity.manager_source == "CSV harbourline-org-chart.csv"
        assert identity.user_source.startswith(f"Identity Center user {person.email}, linked by ")
        assert user.is_administrator is (person.email in administrators)
        assert user.is_auditor is (person.email == CAST["dan"])
        assert users.totp_now(user).isdigit()
    assert User.objects.count() == len(SMALL.people)
    mallory = Identity.objects.get(email=CAST["mallory"])
    assert questions.identity_facts(mallory).employment == "contractor"
    assert questions.identity_facts(Identity.objects.get(email=CAST["alice"])).employment == "employee"
    linked = AuditEvent.objects.filter(event="inventory.identity.user_linked")
    assert {event.actor_name for event in linked if event.subject_name == "Erin Walsh"} == {"Farid Haddad"}
    assert {event.actor_name for event in linked if event.subject_name != "Erin Walsh"} == {"Erin Walsh"}


def check_trail(portal: Portal) -> None:
    """It is read as any trail, and the calls of a machine are known as its own."""
    delivered = trail.deliver(portal.connection, by=portal.erin)
    run = trails.read(portal.connection.pk, by=portal.erin)
    assert (run.state, run.events) == (TrailRun.State.COMPLETE, delivered)
    used = {usage.action for usage in Usage.objects.filter(actor__principal__name="backup-agent")}
    assert used == {"s3:PutObject", "s3:ListBucket"}


def check_said(portal: Portal) -> None:
    machine = said.about_machines(portal.connection)
    assert machine
    assert (machine.owner.email, machine.successor.email) == (CAST["bob"], CAST["carol"])  # type: ignore[union-attr]
    assert machine.correction.said_by.email == CAST["bob"]
    (joiner,) = said.about_people(portal.connection)
    assert joiner.identity is None
    assert not joiner.source.tokens.exists()


def check_owners() -> None:
    for account in SMALL.accounts:
        resource = Resource.objects.select_related("owner").get(name=account.name)
        known = account.owner in {person.email for person in SMALL.people}
        assert (resource.owner.email if resource.owner else None) == (account.owner if known else None)
        assert resource.environment == account.environment
    admins = Principal.objects.select_related("owner").get(name="production-admins")
    assert admins.owner
    assert admins.owner.email == CAST["bob"]


def check_trust(portal: Portal) -> None:
    connection = portal.connection
    assert connection.is_writable
    assert (connection.baselined_by, connection.write_proposed_by) == (portal.erin, portal.erin)
    assert connection.write_approved_by == portal.farid
    assert Assignment.objects.standing().count() == Assignment.objects.open().strangers_only().count() > 0


def check_offers(portal: Portal, made: list[Offer]) -> None:
    just_in_time = {one.name for one in SMALL.permission_sets if one.is_jit}
    assert set(ON_OFFER) == just_in_time, "what AWS can end in time is on offer, and nothing else"
    found = {
        (offer.entitlement.name, offer.entitlement.resource.name if offer.entitlement.resource else "")
        for offer in Offer.objects.open().filter(provisioner="idc_assignment").with_names()
    }
    assert found == {(name, f"harbourline-{key}") for name, (keys, _) in ON_OFFER.items() for key in keys}
    dated = [offer.entitlement for offer in made if offer.entitlement.kind == Entitlement.Kind.DATED_POLICY]
    assert {offer.provisioner for offer in made if offer.entitlement in dated} == {
        "iam_timeboxed_policy",
        "iam_jit_role",
    }
    assert len(dated) == len(DATED_POLICIES)
    for entitlement in dated:
        assert not entitlement.is_privileged
        assert entitlement.resource
        assert entitlement.external_id.startswith(f"gatehouse:policy:{entitlement.resource.external_id}:")
        [statement] = entitlement.attributes["statements"]
        assert statement["actions"]
        assert not any("<" in resource for resource in statement["resources"])
    (opening,) = [offer for offer in made if offer.entitlement.kind == Entitlement.Kind.NETWORK_RULE]
    assert opening.provisioner == "security_group_rule"
    assert opening.entitlement.attributes["group_id"].startswith("sg-")
    check_people_can_have(opening)
    check_people_can_have(next(offer for offer in made if offer.provisioner == "iam_jit_role"))


def check_people_can_have(offer: Offer) -> None:
    """Alice may ask for it, AWS has what it needs, and it opens and ends there."""
    row = Offer.objects.with_names().get(pk=offer.pk)
    alice = User.objects.get(email=CAST["alice"])
    (holder, *_) = offers.holders_for(alice, row)
    assert offers.judge(holder.identity, row, duration=timedelta(hours=1), has_ticket=True).tier  # type: ignore[arg-type]
    entitlement = row.entitlement
    target = Target(
        account_id=entitlement.resource.external_id,  # type: ignore[union-attr]
        principal_kind=holder.kind,
        principal_external_id=holder.external_id,
        principal_name=holder.name,
        entitlement_kind=entitlement.kind,
        entitlement_external_id=entitlement.external_id,
        entitlement_name=entitlement.name,
        entitlement_attributes=entitlement.attributes,
        reference="demograntabc2345" if offer.provisioner == "iam_jit_role" else "",
    )
    provisioner = registry.provisioner("aws", row.provisioner, entitlement.connection.config)
    end = timezone.now() + timedelta(hours=1)
    provisioner.check(target, [Window(target, end)])
    provisioner.enforce(target, [Window(target, end)])
    provisioner.open(target)
    assert provisioner.look(target).is_present
    provisioner.enforce(target, [Window(target, timezone.now(), is_open=False)])
    provisioner.close(target)
    provisioner.enforce(target, [])
    assert not provisioner.look(target).is_present


def check_requests(requests: list[AccessRequest]) -> None:
    told = {(request.requester.email, request.entitlement.name): (request.tier, request.state) for request in requests}
    assert told == {
        (email("Viktor Sandoval"), "NetworkOperator"): ("approval", "denied"),
        (CAST["alice"], "SupportView"): ("auto", "allowed"),
        (email("Elena Marković"), "Deployer"): ("auto", "allowed"),
        (CAST["alice"], "Deployer"): ("approval", "waiting"),
        (CAST["mallory"], "Deployer"): ("approval", "waiting"),
        (CAST["alice"], "Query the data lake"): ("approval", "waiting"),
    }
    assert AccessRequest.objects.waiting_for(User.objects.get(email=CAST["carol"])).count() == 2
    assert Grant.objects.filter(state=Grant.State.PENDING).count() == 2, "workers take them from here"


def check_reviews(made: list[Campaign]) -> None:
    running, draft = made
    assert running.is_running
    assert draft.is_draft
    items = ReviewItem.objects.filter(campaign=running)
    assert {item.reviewer.email for item in items.select_related("reviewer")} >= {CAST["carol"]}
    assert not items.filter(identity__user=F("reviewer")).exists(), "nobody reviews their own"


def check_second_sync(portal: Portal) -> None:
    again = sync.run(portal.connection.pk, by=portal.erin)
    assert again.state == SyncRun.State.COMPLETE
    changed = {name for name, changes in again.changes.items() if any(changes.values())}
    assert changed <= {"principal"}, "the roles that read were used since, nothing else"
    dated = Entitlement.objects.present().filter(kind=Entitlement.Kind.DATED_POLICY)
    assert dated.count() == len(DATED_POLICIES)


def check_audit() -> None:
    """What happened was decided by somebody: nothing that matters goes without its event."""
    events = set(AuditEvent.objects.values_list("event", flat=True))
    assert {
        "users.user.first_administrator",
        "inventory.connection.added",
        "inventory.sync_run.finished",
        "inventory.connection.org_chart_imported",
        "inventory.connection.baselined",
        "inventory.connection.writing_proposed",
        "inventory.connection.writing_approved",
        "inventory.entitlement.defined",
        "access.offer.made",
        "access.access_request.asked",
        "access.access_request.denied",
        "grants.grant.issued",
        "reviews.campaign.launched",
    } <= events


@pytest.mark.django_db
def test_a_sync_that_is_not_complete_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers at the address."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_sessions()
    portal = Portal(SMALL)
    portal.connect()
    with pytest.raises(CannotSignUp, match=r"(?s)^The first sync is failed\..*AWS"):
        portal.read()
    assert cast.everybody().count() == 2
