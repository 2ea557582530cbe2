"""What a grant rests on: the exact thing that was allowed, by rules that still say so, with the yes that it needs."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from django.db import IntegrityError, transaction
from django.utils import timezone
from fido2.utils import websafe_decode, websafe_encode

from apps.audit.models import AuditEvent, ref
from apps.connectors import fake_world as fake
from apps.grants import provisioning, services, warrants
from apps.grants.models import EndReason, Grant, State, Warrant
from apps.grants.windows import windows_of
from apps.inventory.models import Principal
from apps.users import passkeys
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.signing import approved, draft, give_key, sign, signed_by
from tests.grants.system import YES, System
from tests.users.soft_key import SoftKey


def by(user: Any, **fields: Any) -> dict[str, Any]:
    return {"user": str(user.pk), "name": str(user), **fields}


def refusal(grant: Grant) -> str:
    """Why this grant's warrant does not hold, read anew."""
    with pytest.raises(warrants.InvalidWarrant) as refused:
        warrants.check(Grant.objects.get(pk=grant.pk))
    return str(refused.value)


def replace(grant: Grant, **fields: Any) -> None:
    """Another warrant in the place of the grant's own, as somebody who can write rows would put it there."""
    own = Warrant.objects.get(grant=grant)
    values = {
        name: getattr(own, name) for name in ("spec", "digest", "requester", "approvals", "signed_digest", "verdict")
    }
    own.delete()
    Warrant.objects.create(grant=grant, **{**values, **fields})


@pytest.fixture
def key(system: System) -> SoftKey:
    """A passkey of Bob's that counts."""
    return give_key(system.bob.identity.user)


def signed(system: System, key: SoftKey, **fields: Any) -> services.Authority:
    """Bob's passkey over exactly what `issue_admin` asks for."""
    return signed_by(system.bob.identity.user, key, draft(system.alice, system.admin, ticket_ref="INC-1"), **fields)


def issue_admin(system: System, authority: services.Authority, **fields: Any) -> Grant:
    return system.issue(what=system.admin, authority=authority, **{"ticket_ref": "INC-1", **fields})


def not_possible(system: System, authority: services.Authority, **fields: Any) -> str:
    with pytest.raises(services.NotPossible) as refused, transaction.atomic():
        issue_admin(system, authority, **fields)
    return str(refused.value)


def provisioned(grant: Grant) -> Grant:
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    return grant


def test_a_warrant_says_exactly_what_may_be_provisioned_in_words_that_never_change(system: System) -> None:
    """Warrants are kept: in other words, none that was ever signed would hold any more."""
    grant = system.active(duration=timedelta(minutes=90), ticket_ref="INC-1")
    alice = system.alice.identity
    spec = {
        "connection": system.connection.pk,
        "identity": alice.pk,  # type: ignore[union-attr]
        "principal": "alice",
        "entitlement": system.read.external_id,
        "provisioner": "idc_assignment",
        "seconds": 5400,
        "reason": "Looking into INC-1.",
        "ticket": "INC-1",
        "requester": str(alice.user_id),  # type: ignore[union-attr]
    }
    assert grant.warrant.spec == spec
    assert grant.warrant.digest == warrants.digest(spec)
    longer = {**spec, "extends": grant.reference, "seconds": 5400 + 600}
    assert warrants.spec_of_extension(grant, timedelta(minutes=10)) == longer


def test_a_digest_is_of_all_that_is_said_in_whatever_order() -> None:
    digest = warrants.digest({"ticket": "INC-1", "seconds": 60})
    assert digest == warrants.digest({"seconds": 60, "ticket": "INC-1"})
    assert digest == hashlib.sha256(b'{"seconds":60,"ticket":"INC-1"}').hexdigest()


def test_privileged_access_is_opened_by_another_persons_passkey(system: System, key: SoftKey) -> None:
    grant = provisioned(issue_admin(system, signed(system, key)))
    assert grant.state == State.ACTIVE
    assert system.can_use(what=system.admin)


@pytest.mark.parametrize("step_up", [{}, {"method": "totp"}, {"method": "passkey", "authenticator": 1}, None])
def test_a_row_that_says_somebody_stepped_up_is_no_proof(system: System, step_up: Any) -> None:
    assert "with a passkey" in not_possible(system, approved(by(system.bob.identity.user, step_up=step_up)))


@pytest.mark.parametrize(
    "different",
    [{"reason": "Something else."}, {"duration": timedelta(minutes=59)}, {"ticket_ref": "INC-2"}, {"who": "carol"}],
    ids=str,
)
def test_a_signature_holds_for_exactly_what_was_asked(system: System, key: SoftKey, different: dict[str, Any]) -> None:
    if "who" in different:
        different = {"who": system.person("carol")}
    assert "something else" in not_possible(system, signed(system, key), **different)


@pytest.mark.parametrize("changed", ["request", "expires", "user"])
def test_nothing_that_was_signed_can_be_said_otherwise_afterwards(system: System, key: SoftKey, changed: str) -> None:
    [approval] = signed(system, key).approvals
    later = (timezone.now() + timedelta(hours=24)).isoformat()
    said = dict(approval["signed"]) | {"request": "R-2"} if changed == "request" else dict(approval["signed"])
    if changed == "expires":
        said["expires"] = later
    other = {**approval, "signed": said}
    if changed == "user":
        other["user"] = str(system.person("carol").identity.user_id)
    assert "does not hold" in not_possible(system, approved(other))


def test_one_signature_serves_one_warrant(system: System, key: SoftKey) -> None:
    authority = signed(system, key)
    services.end(issue_admin(system, authority), by=system.alice.identity.user, reason=EndReason.DONE)
    with pytest.raises(IntegrityError), transaction.atomic():
        issue_admin(system, authority)


def test_a_signature_that_is_altered_but_good_serves_no_second_warrant(system: System, key: SoftKey) -> None:
    """Of every ECDSA signature (r, s) there is a twin (r, -s): the digest is what is used once, not the signature."""
    authority = signed(system, key)
    issue_admin(system, authority)
    [approval] = authority.approvals
    assertion = approval["signed"]["assertion"]
    r, s = decode_dss_signature(websafe_decode(assertion["signature"]))
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, FIPS 186-4 D.1.2.3
    twin = {**assertion, "signature": websafe_encode(encode_dss_signature(r, order - s))}
    with pytest.raises(IntegrityError), transaction.atomic():
        issue_admin(system, approved({**approval, "signed": {**approval["signed"], "assertion": twin}}))


def test_a_warrant_that_hides_what_was_signed_opens_nothing(system: System, key: SoftKey) -> None:
    grant = issue_admin(system, signed(system, key))
    for digest in (None, "0" * 64):
        replace(grant, signed_digest=digest)
        assert "something else" in refusal(grant)


@pytest.mark.parametrize("hours", [-1, 25])
def test_a_signature_counts_in_its_last_day_only(system: System, key: SoftKey, hours: int) -> None:
    expires = timezone.now() + timedelta(hours=hours)
    assert "another time" in not_possible(system, signed(system, key, expires=expires))


def test_an_approval_that_expired_before_anybody_opened_it_opens_nothing(
    system: System, key: SoftKey, clock: Any
) -> None:
    grant = issue_admin(system, signed(system, key, expires=timezone.now() + timedelta(minutes=5)))
    clock.shift(timedelta(minutes=6))
    assert provisioned(grant).state == State.FAILED
    assert not system.world.assignments


def test_what_was_opened_in_time_stays_good_while_it_is_held(system: System, key: SoftKey, clock: Any) -> None:
    grant = provisioned(issue_admin(system, signed(system, key, expires=timezone.now() + timedelta(minutes=5))))
    clock.shift(timedelta(minutes=30))
    Authenticator.objects.all().delete()
    passkeys.follow()
    warrants.check(Grant.objects.get(pk=grant.pk))


def test_a_passkey_that_has_not_waited_opens_nothing(system: System) -> None:
    key = give_key(system.bob.identity.user, waited=False)
    assert "that counts" in not_possible(system, signed(system, key))


def test_the_requesters_own_passkey_opens_nothing(system: System, key: SoftKey) -> None:
    alice = system.alice.identity.user
    grant = draft(system.alice, system.admin, ticket_ref="INC-1")
    own = sign(warrants.spec_of(grant), give_key(alice), alice)
    assert "Nobody but the requester" in not_possible(system, approved(own))
    unsigned = by(system.bob.identity.user, step_up={"method": "passkey"})
    assert "with a passkey" in not_possible(system, approved(own, unsigned))


def test_the_signature_of_somebody_who_may_not_approve_opens_nothing(system: System, key: SoftKey) -> None:
    """Not even beside the name of somebody who may."""
    carol = system.person("carol").identity.user
    spec = warrants.spec_of(draft(system.alice, system.admin, ticket_ref="INC-1"))
    hers, his = sign(spec, give_key(carol), carol), by(system.bob.identity.user, step_up={"method": "passkey"})
    grant = provisioned(issue_admin(system, approved(hers, his)))
    assert (grant.state, "may approve it" in grant.end_note) == (State.FAILED, True)
    assert not system.world.calls


def test_an_approval_of_somebody_who_may_not_approve_is_none(system: System) -> None:
    write = system.permission_set("Operator", "write")
    grant = system.issue(what=write, authority=approved(by(system.person("carol").identity.user)))
    assert provisioned(grant).state == State.FAILED
    assert not system.world.calls


def test_an_approval_opens_nothing_that_the_rules_never_offer(system: System, key: SoftKey) -> None:
    without_ticket = draft(system.alice, system.admin)
    authority = signed_by(system.bob.identity.user, key, without_ticket)
    grant = provisioned(issue_admin(system, authority, ticket_ref=""))
    assert (grant.state, "ticket" in grant.end_note) == (State.FAILED, True)


def test_nobody_asks_for_somebody_else(system: System, key: SoftKey) -> None:
    carol = system.person("carol").identity.user
    grant = draft(system.alice, system.admin, ticket_ref="INC-1", requested_by=carol)
    authority = signed_by(system.bob.identity.user, key, grant)
    issued = provisioned(issue_admin(system, authority, requester=carol))
    assert (issued.state, "for themselves" in issued.end_note) == (State.FAILED, True)


def test_who_may_approve_may_change_while_it_is_held(system: System, key: SoftKey) -> None:
    grant = provisioned(issue_admin(system, signed(system, key)))
    system.account.owner = None
    system.account.save()
    warrants.check(grant)
    warrants.ask_rules_again(grant)


def test_whoever_is_to_hold_it_approves_nothing(system: System) -> None:
    somebody, alice = UserFactory(name="Somebody"), system.alice.identity.user
    with pytest.raises(services.NotPossible, match="Nobody but the requester"):
        services.issue(
            identity=system.alice.identity,
            principal=system.alice,
            entitlement=system.read,
            provisioner="idc_assignment",
            duration=timedelta(hours=1),
            reason="For Alice.",
            by=somebody,
            authority=approved(by(alice)),
        )


def test_a_principal_that_belongs_to_somebody_else_by_now_gets_nothing(system: System) -> None:
    grant = system.issue()
    Principal.objects.filter(pk=system.alice.pk).update(identity=system.bob.identity)
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert "somebody else by now" in grant.end_note
    assert not system.world.calls


@pytest.mark.parametrize(
    "forged",
    [
        {"verdict": {}},
        {"verdict": []},
        {"verdict": {"tier": "auto", "cap_seconds": "long"}},
        {"verdict": {"tier": "royal", "cap_seconds": 3600}},
        {"verdict": {"tier": "approval", "cap_seconds": 3600}, "approvals": [{}]},
        {"verdict": {"tier": "approval", "cap_seconds": 3600}, "approvals": {"user": "1"}},
        {"spec": {"entitlement": "Admin"}, "digest": warrants.digest({"entitlement": "Admin"})},
        {"spec": {"entitlement": "Admin"}},
        {"requester": "999"},
    ],
    ids=str,
)
def test_a_forged_warrant_opens_nothing_and_blocks_nobody_else(system: System, forged: dict[str, Any]) -> None:
    real, grant = system.active(system.alice), system.issue(system.bob)
    replace(grant, **forged)
    assert refusal(grant)
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    later = real.ends_at
    Grant.objects.filter(pk=grant.pk).update(
        state=State.ACTIVE, active_at=later, ends_at=later, not_after=later, shared_key=real.shared_key
    )
    windows = {window.target.principal_name: window.is_open for window in windows_of(real.shared_key)}
    assert windows == {"alice": True, "bob": False}


def test_the_rules_must_still_give_it_without_more_than_was_given(system: System) -> None:
    """The rules want a confirmation for this; a row says that they give it at once."""
    system.account.environment = "staging"
    system.account.save()
    deployer = system.permission_set("Deployer", "write")
    confirmed = services.Authority({"tier": "self", "cap_seconds": 3600})
    unconfirmed = system.issue(what=deployer, authority=YES)
    provisioning.provision(unconfirmed.pk)
    unconfirmed.refresh_from_db()
    assert unconfirmed.state == State.FAILED
    assert not system.world.calls
    assert system.active(what=deployer, authority=confirmed).state == State.ACTIVE


def test_whoever_was_shut_out_meanwhile_gets_nothing(system: System) -> None:
    grant = system.issue()
    user = system.alice.identity.user
    user.is_active = False
    user.save()
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.FAILED
    assert not system.world.calls


def test_the_rules_are_asked_again_for_what_a_worker_takes_over(system: System) -> None:
    grant = system.issue()
    system.world.script("open", fake.lost_response())
    provisioning.provision(grant.pk)
    system.alice.identity.department = ""
    system.alice.identity.save()
    Grant.objects.update(next_try_at=grant.created_at)
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.REVOKING
    system.run_clock()
    assert not system.world.assignments


def test_an_approval_stands_when_the_rules_ask_for_nothing_more(system: System) -> None:
    write = system.permission_set("Operator", "write")
    grant = system.active(what=write, authority=approved(by(system.bob.identity.user)))
    assert grant.state == State.ACTIVE


def test_the_log_says_who_decided_and_the_grant_who_asked(system: System) -> None:
    alice, bob = system.alice.identity.user, system.bob.identity.user
    grant = services.issue(
        identity=system.alice.identity,
        principal=system.alice,
        entitlement=system.read,
        provisioner="idc_assignment",
        duration=timedelta(hours=1),
        reason="For Alice.",
        by=bob,
        requester=alice,
        authority=approved(by(bob)),
    )
    assert grant.requested_by == alice
    assert grant.warrant.requester == str(alice.pk)
    assert AuditEvent.objects.about(ref(grant)).get().actor_id == str(bob.pk)


def test_nobody_issues_their_own_with_their_own_yes_in_another_name(system: System) -> None:
    """`requester` is who asked; the yes of that person is none, whoever carries it in."""
    alice, bob = system.alice.identity.user, system.bob.identity.user
    robot = PrincipalFactory(connection=system.connection, external_id="robot")
    with pytest.raises(services.NotPossible, match="Nobody but the requester"):
        services.issue(
            identity=robot.identity,
            principal=robot,
            entitlement=system.read,
            provisioner="idc_assignment",
            duration=timedelta(hours=1),
            reason="For the robot.",
            by=bob,
            requester=alice,
            authority=approved(by(alice)),
        )
