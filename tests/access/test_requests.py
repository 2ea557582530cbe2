"""Who may ask for what, how, and who may say yes."""

from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine
from django.db import IntegrityError, transaction
from django.utils import timezone
from fido2.utils import websafe_encode

from apps.access import periodic
from apps.access.models import AccessRequest, Approval, Approver
from apps.access.services import offers, requests, signing
from apps.access.services.offers import NotAllowed
from apps.audit.models import AuditEvent
from apps.core.lifecycle import Conflict
from apps.grants import provisioning
from apps.grants.models import Grant, State
from apps.inventory.models import Connection, Entitlement, Identity, Principal
from apps.rules import approvers
from apps.users.models import User
from tests.access.conftest import LAPTOP, PASSKEY, PHONE, TOTP, Company
from tests.factories.inventory import EntitlementFactory, ResourceFactory
from tests.grants.signing import give_key
from tests.grants.system import START

HOUR = timedelta(hours=1)
BEFORE = (START - timedelta(seconds=1)).isoformat()


def ask(
    company: Company, what: Entitlement, *, by=None, principal=None, place=LAPTOP, duration=HOUR, **fields
) -> AccessRequest:
    row = what.offers.first() or company.offer(what)
    values = {"reason": "Card payments are slow.", **fields}
    who = principal or company.alice
    return requests.ask(row, principal=who, duration=duration, by=by or company.alice_user, place=place, **values)


def load(request: AccessRequest) -> AccessRequest:
    return AccessRequest.objects.with_names().get(pk=request.pk)


def fresh(user: User) -> User:
    """As another request of theirs would load them."""
    return User.objects.get(pk=user.pk)


@pytest.fixture
def staging(company: Company) -> Entitlement:
    """Something the self tier covers."""
    company.account.environment = "staging"
    company.account.save()
    return company.permission_set("Deployer", "write")


@pytest.fixture
def write(company: Company) -> Entitlement:
    """Something that needs approval by the manager or the owner."""
    return company.permission_set("Operator", "write")


# ---- auto


def test_auto_is_granted_at_once(company: Company) -> None:
    request = ask(company, company.read)
    assert (request.tier, request.state) == ("auto", "allowed")
    assert request.grant.state == State.PENDING
    assert request.grant.warrant.verdict["rule_id"] == "read-production-engineers"


def test_a_request_and_its_grant_tell_one_story(company: Company) -> None:
    request = ask(company, company.read)
    events = AuditEvent.objects.about(f"grants.grant:{request.grant.pk}").values_list("event", flat=True)
    assert set(events) == {"grants.grant.issued", "access.access_request.asked"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reason": "x"}, "why you need it"),
        ({"duration": timedelta(hours=9)}, "offered for 8 h"),
        ({"by": "mallory"}, "not linked to anybody"),
        ({"principal": "bob"}, "for yourself, or for a machine"),
    ],
)
def test_what_cannot_be_asked_says_why_and_writes_nothing(company: Company, fields: dict, says: str) -> None:
    names = {"mallory": company.mallory, "bob": company.bob}
    company.offer(company.read)
    with pytest.raises(NotAllowed, match=says), transaction.atomic():
        ask(company, company.read, **{key: names.get(value, value) for key, value in fields.items()})
    assert not AccessRequest.objects.exists()
    assert not Grant.objects.exists()


def test_what_is_held_already_is_refused(company: Company) -> None:
    company.holds(company.alice, company.read)
    with pytest.raises(NotAllowed, match="already held directly"):
        ask(company, company.read)


def test_the_offers_own_limit_holds_whatever_the_rule_says(company: Company) -> None:
    company.offer(company.read, hours=2)
    with pytest.raises(NotAllowed, match="offered for 2 h"):
        ask(company, company.read, duration=timedelta(hours=3))


def test_somebody_who_left_can_ask_for_nothing(company: Company) -> None:
    company.alice.identity.ended_at = timezone.now()
    company.alice.identity.save()
    with pytest.raises(NotAllowed, match="not linked"):
        ask(company, company.read)


# ---- self


def test_self_waits_for_a_confirmation(company: Company, staging: Entitlement) -> None:
    request = ask(company, staging)
    assert (request.tier, request.state, request.grant) == ("self", "confirming", None)


@pytest.mark.parametrize(
    ("place", "how"),
    [(PASSKEY, "passkey"), (PHONE, "other_device")],
)
def test_it_is_confirmed_by_a_passkey_or_from_another_device(company: Company, staging, place, how: str) -> None:
    request = requests.confirm(ask(company, staging), by=company.alice_user, place=place)
    assert (request.state, request.confirmed_by) == ("allowed", how)
    assert request.grant.state == State.PENDING


@pytest.mark.parametrize(
    "place",
    [
        LAPTOP,
        replace(PHONE, device="laptop", session="s1"),
        replace(PHONE, device="laptop"),
        replace(PHONE, session="s1"),
        replace(PHONE, step_up={}),
        replace(PHONE, step_up={**PHONE.step_up, "at": BEFORE}),
        replace(PASSKEY, step_up={**PASSKEY.step_up, "at": BEFORE}),
        replace(PHONE, device="", session=""),
        replace(PHONE, device=""),
        replace(PHONE, session=""),
        replace(PHONE, known_since=START + timedelta(minutes=1)),
        replace(PHONE, known_since=None),
    ],
    ids=[
        "same browser",
        "TOTP there",
        "same device",
        "same session",
        "no step-up",
        "old code",
        "old passkey",
        "unknown",
        "no device",
        "no session",
        "new device",
        "no age",
    ],
)
def test_the_asking_browser_or_a_link_alone_confirms_nothing(company: Company, staging, place) -> None:
    request = ask(company, staging)
    with pytest.raises(NotAllowed, match="another device"):
        requests.confirm(request, by=company.alice_user, place=place)
    assert not Grant.objects.exists()


@pytest.mark.parametrize(
    "asked_from", [replace(LAPTOP, device=""), replace(LAPTOP, session="")], ids=["device", "session"]
)
def test_what_was_asked_from_nowhere_known_is_confirmed_from_nowhere_else(
    company: Company, staging, asked_from
) -> None:
    request = ask(company, staging, place=asked_from)
    with pytest.raises(NotAllowed, match="another device"):
        requests.confirm(request, by=company.alice_user, place=PHONE)


def test_confirming_twice_is_told(company: Company, staging: Entitlement) -> None:
    request = requests.confirm(ask(company, staging), by=company.alice_user, place=PASSKEY)
    with pytest.raises(Conflict, match="allowed now"):
        requests.confirm(load(request), by=company.alice_user, place=PASSKEY)
    assert Grant.objects.count() == 1


def test_nobody_else_can_confirm(company: Company, staging: Entitlement) -> None:
    request = ask(company, staging)
    with pytest.raises(NotAllowed, match="Only whoever asked"):
        requests.confirm(request, by=company.bob_user, place=PASSKEY)


# ---- approval


def test_the_manager_and_the_owner_may_decide(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    assert {(approver.user, approver.why) for approver in request.approvers.all()} == {
        (company.carol_user, f"manager of {company.alice.identity}"),
        (company.bob_user, f"owner of {company.account}"),
    }


def test_an_approval_becomes_a_grant_with_the_approver_in_its_warrant(company: Company, write: Entitlement) -> None:
    request = requests.approve(ask(company, write), by=company.bob_user, place=TOTP, reason="Go ahead.")
    assert request.state == "allowed"
    [approval] = request.grant.warrant.approvals
    assert approval["user"] == str(company.bob_user.pk)
    assert approval["step_up"]["method"] == "totp"


def test_nobody_approves_their_own_request(company: Company, write: Entitlement) -> None:
    company.account.owner = company.alice.identity
    company.account.save()
    request = ask(company, write)
    assert company.alice_user not in {approver.user for approver in request.approvers.all()}
    with pytest.raises(NotAllowed):
        requests.approve(request, by=company.alice_user, place=PASSKEY)


@pytest.mark.parametrize("model", [Approver, Approval])
def test_the_database_refuses_an_own_approval_too(company: Company, write: Entitlement, model) -> None:
    request = ask(company, write)
    facts = {"why": "owner"} if model is Approver else {"choice": "approve"}
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.create(request=request, user=company.alice_user, requester=company.alice_user, **facts)


def test_the_same_person_in_another_login_cannot_decide(company: Company, write: Entitlement) -> None:
    """Linked to somebody of their own in the inventory, with the same address."""
    twin = company.person("twin").identity
    request = ask(company, write)
    Approver.objects.create(request=request, user=twin.user, requester=company.alice_user, why="a mistake")
    for address in (company.alice_user.email, company.alice.identity.email):
        twin.email = address.upper()
        twin.save()
        with pytest.raises(NotAllowed, match="not one of those"):
            requests.approve(load(request), by=fresh(twin.user), place=TOTP)
    company.account.owner = twin
    company.account.save()
    assert twin.user not in approvers.approvers_for(company.alice_user, company.alice.identity, write, ["owner"])


@pytest.mark.parametrize("same", ["holder", "address of the holder", "address the requester has at work", "nothing"])
def test_nobody_decides_for_themselves_by_whatever_name(company: Company, same: str) -> None:
    bob, holder = company.bob.identity, company.person("holder").identity
    Identity.objects.filter(pk__in=[bob.pk, holder.pk]).update(email="")
    holder.refresh_from_db()
    if same == "holder":
        holder = Identity.objects.get(pk=bob.pk)
    if same == "address of the holder":
        holder.email = company.bob_user.email.upper()
    if same == "address the requester has at work":
        Identity.objects.filter(pk=company.alice.identity.pk).update(email=company.bob_user.email)
    is_independent = approvers.is_independent(fresh(company.bob_user), fresh(company.alice_user), holder)
    assert is_independent == (same == "nothing")


@pytest.mark.parametrize("how", ["unlinked", "left", "shut out"])
def test_only_people_who_work_here_decide(company: Company, write: Entitlement, how: str) -> None:
    request = ask(company, write)
    bob = company.bob.identity
    if how == "unlinked":
        bob.user = None
    if how == "left":
        bob.ended_at = timezone.now()
    bob.save()
    company.bob_user.is_active = how != "shut out"
    company.bob_user.save()
    for act in (
        lambda: requests.approve(load(request), by=fresh(company.bob_user), place=TOTP),
        lambda: requests.deny(load(request), by=fresh(company.bob_user), reason="Use the staging account."),
    ):
        with pytest.raises(NotAllowed, match="not one of those"):
            act()
    write = Entitlement.objects.get(pk=write.pk)
    named = approvers.approvers_for(company.alice_user, company.alice.identity, write, ["owner", "manager"])
    assert set(named) == {company.carol_user}


def test_an_administrator_who_is_linked_to_nobody_stands_in_for_nobody(company: Company, write: Entitlement) -> None:
    Identity.objects.filter(user=company.erin).update(user=None)
    named = approvers.approvers_for(company.alice_user, company.alice.identity, write, ["administrator"])
    assert company.erin not in named
    company.account.owner = company.alice.identity.manager = None
    company.account.save()
    company.alice.identity.save()
    with pytest.raises(NotAllowed, match="Nobody else could approve"), transaction.atomic():
        ask(company, write)


def test_whoever_is_no_longer_owner_or_manager_cannot_approve(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    company.account.owner = company.carol.identity
    company.account.save()
    with pytest.raises(NotAllowed, match="has changed since"):
        requests.approve(load(request), by=company.bob_user, place=TOTP)
    assert not Grant.objects.exists()
    assert requests.approve(load(request), by=company.carol_user, place=TOTP).state == "allowed"


def test_a_yes_stands_when_the_rules_ask_for_less_by_now(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    company.account.environment = "sandbox"
    company.account.save()
    assert requests.approve(load(request), by=company.bob_user, place=TOTP).state == "allowed"


def test_the_log_names_the_approver_as_who_issued_the_grant(company: Company, write: Entitlement) -> None:
    grant = requests.approve(ask(company, write), by=company.bob_user, place=TOTP).grant
    assert grant.requested_by == company.alice_user
    issued = AuditEvent.objects.about(f"grants.grant:{grant.pk}").get(event="grants.grant.issued")
    assert issued.actor_id == str(company.bob_user.pk)


def test_an_outsider_cannot_decide(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    for user in (company.mallory, company.erin):
        with pytest.raises(NotAllowed, match="not one of those"):
            requests.approve(request, by=user, place=PASSKEY)


def test_an_approval_needs_a_fresh_step_up(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    with pytest.raises(NotAllowed, match="Confirm that it is you"):
        requests.approve(request, by=company.bob_user, place=LAPTOP)


@pytest.fixture
def admin(company: Company) -> AccessRequest:
    """Alice asks for admin access in production, which Bob may open."""
    return load(ask(company, company.admin, place=PASSKEY, ticket_ref="INC-1"))


def test_privileged_access_is_approved_by_a_passkey_that_signs_the_request(
    company: Company, admin: AccessRequest
) -> None:
    for place in (TOTP, PASSKEY):
        with pytest.raises(NotAllowed, match="with a passkey"):
            requests.approve(admin, by=company.bob_user, place=place)
    credential = company.sign(admin, company.bob_user)
    requests.approve(admin, by=company.bob_user, place=LAPTOP, credential=credential)
    assert admin.state == "allowed"
    [approval] = admin.grant.warrant.approvals
    assert approval["signed"]["request"] == admin.number
    assert approval["step_up"]["method"] == admin.approvals.get().step_up["method"] == "passkey"
    provisioning.provision(admin.grant.pk)
    assert company.can_use(what=company.admin)


def test_a_signature_over_another_request_approves_nothing(company: Company, admin: AccessRequest) -> None:
    key = give_key(company.bob_user)
    credential = company.sign(admin, company.bob_user, key)
    requests.withdraw(admin, by=company.alice_user)
    again = load(ask(company, company.admin, place=PASSKEY, ticket_ref="INC-1"))
    with pytest.raises(NotAllowed, match="something else"):
        requests.approve(again, by=company.bob_user, place=PASSKEY, credential=credential)
    with pytest.raises(NotAllowed, match="not accepted"):
        requests.approve(again, by=company.bob_user, place=PASSKEY, credential={"id": "x"})
    assert not Grant.objects.exists()


def test_the_signature_is_the_approvers_own(company: Company, admin: AccessRequest) -> None:
    for user in (company.alice_user, company.carol_user):
        credential = give_key(user).sign(websafe_encode(signing.challenge(admin, company.bob_user)))
        with pytest.raises(NotAllowed, match="of the approver"):
            requests.approve(admin, by=company.bob_user, place=PASSKEY, credential=credential)


def test_asking_for_admin_needs_a_step_up_and_a_ticket(company: Company) -> None:
    with pytest.raises(NotAllowed, match="ticket"):
        ask(company, company.admin, place=PASSKEY)
    with pytest.raises(NotAllowed, match="step-up"):
        ask(company, company.admin, place=LAPTOP, ticket_ref="INC-1")


def test_asking_for_privileged_access_takes_a_passkey(company: Company) -> None:
    with pytest.raises(NotAllowed, match="with a passkey"):
        ask(company, company.admin, place=TOTP, ticket_ref="INC-1")


def test_a_ticket_of_spaces_is_none(company: Company) -> None:
    with pytest.raises(NotAllowed, match="ticket"):
        ask(company, company.admin, place=PASSKEY, ticket_ref="  ")


def test_without_owner_and_manager_administrators_decide_and_it_says_so(company: Company, write: Entitlement) -> None:
    company.account.owner = None
    company.account.save()
    company.alice.identity.manager = None
    company.alice.identity.save()
    approvers = {approver.user: approver.why for approver in ask(company, write).approvers.all()}
    assert company.erin in approvers
    assert not {company.bob_user, company.carol_user} & set(approvers)
    assert all("no manager or owner" in why for why in approvers.values())


def test_of_two_approvers_the_second_is_told(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    same = AccessRequest.objects.get(pk=request.pk)
    requests.approve(request, by=company.bob_user, place=TOTP)
    with pytest.raises(Conflict, match="allowed now"), transaction.atomic():
        requests.approve(same, by=company.carol_user, place=TOTP)
    assert Grant.objects.count() == 1
    assert Approval.objects.count() == 1


def test_approving_what_was_withdrawn_gives_nothing(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    same = AccessRequest.objects.get(pk=request.pk)
    requests.withdraw(request, by=company.alice_user)
    with pytest.raises(Conflict), transaction.atomic():
        requests.approve(same, by=company.bob_user, place=TOTP)
    assert not Grant.objects.exists()


def test_what_is_decided_is_neither_denied_nor_withdrawn(company: Company, write: Entitlement) -> None:
    request = requests.approve(ask(company, write), by=company.bob_user, place=TOTP)
    with pytest.raises(Conflict, match="allowed now"):
        requests.deny(load(request), by=company.carol_user, reason="Use the staging account.")
    with pytest.raises(Conflict, match="allowed now"):
        requests.withdraw(load(request), by=company.alice_user)


def test_only_whoever_asked_withdraws(company: Company, write: Entitlement) -> None:
    with pytest.raises(NotAllowed, match="Only whoever asked"):
        requests.withdraw(ask(company, write), by=company.bob_user)


def test_a_denial_says_why(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    with pytest.raises(NotAllowed, match="why not"):
        requests.deny(request, by=company.bob_user, reason="no")
    assert requests.deny(request, by=company.bob_user, reason="Use the staging account.").state == "denied"
    assert not Grant.objects.exists()


def test_the_rules_are_asked_again_when_the_yes_comes(company: Company, staging: Entitlement) -> None:
    request = ask(company, staging)
    company.account.environment = "production"
    company.account.save()
    request.refresh_from_db()
    with pytest.raises(NotAllowed):
        requests.confirm(AccessRequest.objects.get(pk=request.pk), by=company.alice_user, place=PASSKEY)
    assert not Grant.objects.exists()


def test_what_was_taken_out_of_the_catalogue_cannot_be_asked_for_nor_approved(company: Company, write) -> None:
    request = ask(company, write)
    offers.withdraw_offer(request.offer, by=company.erin)
    with pytest.raises(NotAllowed, match="no longer be asked for"):
        requests.approve(load(request), by=company.bob_user, place=TOTP)
    with pytest.raises(NotAllowed, match="no longer be asked for"):
        ask(company, write)
    assert not Grant.objects.exists()


def test_a_request_lapses_and_cannot_be_approved_then(company: Company, write: Entitlement) -> None:
    request = ask(company, write)
    with time_machine.travel(START + timedelta(hours=25), tick=False):
        with pytest.raises(NotAllowed, match="no longer good"):
            requests.approve(AccessRequest.objects.get(pk=request.pk), by=company.bob_user, place=TOTP)
        periodic.lapse_requests()
    request.refresh_from_db()
    assert request.state == "lapsed"


# ---- for a machine identity


def test_a_machine_gets_nothing_without_somebody_elses_approval(company: Company) -> None:
    robot = company.machine(owner=company.alice.identity)
    dated = EntitlementFactory(
        connection=company.connection, resource=company.account, kind="dated_policy", privilege="read"
    )
    company.offer(dated, provisioner="iam_timeboxed_policy")
    request = ask(company, dated, principal=robot)
    assert (request.tier, request.state) == ("approval", "waiting")
    assert company.alice_user not in {approver.user for approver in request.approvers.all()}


def test_a_machine_that_changed_hands_while_a_request_waited_gets_nothing(company: Company) -> None:
    robot = company.machine(owner=company.alice.identity)
    dated = EntitlementFactory(
        connection=company.connection, resource=company.account, kind="dated_policy", privilege="read"
    )
    company.offer(dated, provisioner="iam_timeboxed_policy")
    request = ask(company, dated, principal=robot)
    robot.identity.owner = company.bob.identity
    robot.identity.save()
    with pytest.raises(NotAllowed, match="no longer good"):
        requests.approve(load(request), by=company.carol_user, place=TOTP)


def test_only_the_owner_of_a_machine_can_ask_for_it(company: Company) -> None:
    robot = company.machine(owner=company.bob.identity)
    dated = EntitlementFactory(
        connection=company.connection, resource=company.account, kind="dated_policy", privilege="read"
    )
    company.offer(dated, provisioner="iam_timeboxed_policy")
    with pytest.raises(NotAllowed, match="that you own"):
        ask(company, dated, principal=robot)


# ---- offers


@pytest.mark.parametrize(
    "wrong", [{}, {"ended_at": START}, {"is_reserved": True}, {"resource": "other"}, {"owner left": 1}]
)
def test_a_machine_is_asked_for_only_where_it_is(company: Company, wrong: dict) -> None:
    robot = company.machine(owner=company.alice.identity)
    row = company.offer(
        EntitlementFactory(
            connection=company.connection, resource=company.account, kind="dated_policy", privilege="read"
        ),
        provisioner="iam_timeboxed_policy",
    )
    fields = {"resource": ResourceFactory(connection=company.connection)} if "resource" in wrong else wrong
    if "owner left" in wrong:
        company.alice.identity.ended_at = START
        company.alice.identity.save()
    else:
        Principal.objects.filter(pk=robot.pk).update(**fields)
    assert offers.holders_for(company.alice_user, row) == ([] if wrong else [robot])


def test_a_face_in_another_system_holds_nothing_here(company: Company) -> None:
    elsewhere = Company()
    row = elsewhere.offer(elsewhere.read)
    assert offers.holders_for(company.alice_user, row) == []
    assert offers.holders_for(elsewhere.alice_user, row) == [elsewhere.alice]


@pytest.mark.parametrize("fields", [{"paused_at": START}, {"write_approved_at": None, "write_approved_by": None}])
def test_nothing_is_on_offer_where_gatehouse_may_not_write(company: Company, fields: dict) -> None:
    company.offer(company.read)
    Connection.objects.update(**fields)
    with pytest.raises(NotAllowed, match="no longer be asked for"):
        ask(company, company.read)


def test_what_cannot_be_ended_safely_is_not_offered_for_privileged_access(company: Company) -> None:
    with pytest.raises(NotAllowed, match="no ender strong enough"):
        company.offer(company.admin, provisioner="iam_timeboxed_policy")


def test_nothing_is_offered_twice_or_by_what_cannot_open_it(company: Company) -> None:
    company.offer(company.read)
    with pytest.raises(NotAllowed, match="on offer already"):
        company.offer(company.read)
    with pytest.raises(NotAllowed, match="cannot open this kind"):
        company.offer(company.permission_set("Other", "read"), provisioner="iam_timeboxed_policy")


def test_gatehouses_own_objects_are_never_on_offer(company: Company) -> None:
    guard = EntitlementFactory(connection=company.connection, is_ours=True)
    with pytest.raises(NotAllowed, match="own object"):
        company.offer(guard)


def test_a_withdrawn_offer_cannot_be_asked_for_and_running_grants_stay(company: Company) -> None:
    request = ask(company, company.read)
    offers.withdraw_offer(request.offer, by=company.erin)
    assert not request.offer.__class__.objects.open().exists()
    request.grant.refresh_from_db()
    assert request.grant.is_live


def test_who_became_owner_just_now_is_told_to_wait(company: Company, admin: AccessRequest) -> None:
    key = give_key(company.carol_user)
    company.account.owner = company.carol.identity
    company.account.save()
    again = load(ask(company, company.admin, place=PASSKEY, ticket_ref="INC-1"))
    credential = company.sign(again, company.carol_user, key)
    with pytest.raises(NotAllowed, match="too soon"):
        requests.approve(again, by=company.carol_user, place=PASSKEY, credential=credential)
