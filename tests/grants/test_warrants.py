"""What a grant rests on: the exact thing that was allowed, by rules that still say so, with the yes that it needs."""

from datetime import timedelta
from typing import Any

import pytest

from apps.audit.models import AuditEvent, ref
from apps.connectors import fake_world as fake
from apps.grants import provisioning, services, warrants
from apps.grants.models import Grant, State, Warrant
from apps.grants.windows import windows_of
from apps.inventory.models import Principal
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.system import YES, System

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}


def approved(*approvals: dict[str, Any]) -> services.Authority:
    return services.Authority({"tier": "approval", "cap_seconds": 3600}, approvals)


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
    values = {name: getattr(own, name) for name in ("spec", "digest", "requester", "approvals", "verdict")}
    own.delete()
    Warrant.objects.create(grant=grant, **{**values, **fields})


def test_privileged_access_is_opened_by_another_persons_passkey(system: System) -> None:
    bob = system.bob.identity.user
    grant = system.active(what=system.admin, authority=approved(by(bob, step_up=PASSKEY)))
    assert system.can_use(what=system.admin)
    assert grant.warrant.approvals[0]["step_up"] == PASSKEY


@pytest.mark.parametrize("step_up", [{}, {"method": "totp"}, None, "passkey"])
def test_privileged_access_is_not_opened_by_anything_less(system: System, step_up: Any) -> None:
    authority = approved(by(system.bob.identity.user, step_up=step_up))
    with pytest.raises(services.NotPossible):
        system.issue(what=system.admin, authority=authority)


def test_the_requesters_passkey_does_not_make_another_persons_approval_a_passkey(system: System) -> None:
    alice, bob = system.alice.identity.user, system.bob.identity.user
    authority = approved(by(alice, step_up=PASSKEY), by(bob, step_up={"method": "totp"}))
    with pytest.raises(services.NotPossible, match="with a passkey"):
        system.issue(what=system.admin, authority=authority)


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
