"""Asked again before access opens or lasts longer: may who asked ask, and may one who said yes say it, by now?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from apps.connectors import fake_world as fake
from apps.grants import provisioning, services, warrants
from apps.grants.models import Extension, Grant, State
from apps.inventory.models import Principal
from apps.rules import evaluation
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.signing import approved, draft, give_key, sign, signed_by
from tests.grants.system import START, System, make_due
from tests.rules.asking import permit, rules
from tests.users.soft_key import SoftKey

WITH_TICKET = '@requires("ticket") '
Put = Callable[..., None]


@pytest.fixture
def in_force(monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts other rules in force."""

    def put(*texts: str) -> None:
        ruleset = rules("".join(texts))
        monkeypatch.setattr(evaluation, "in_force", lambda: ruleset)

    return put


def yes_of(*people: Principal) -> services.Authority:
    return approved(*({"user": str(who.identity.user_id), "name": who.name} for who in people))  # type: ignore[union-attr]


def robot(system: System) -> Principal:
    """A machine that Alice answers for."""
    machine: Principal = PrincipalFactory(connection=system.connection, external_id="robot")
    machine.identity.owner = system.alice.identity  # type: ignore[union-attr]
    machine.identity.save()  # type: ignore[union-attr]
    return machine


def for_the_robot(system: System, **fields: Any) -> Grant:
    machine = robot(system)
    return services.issue(
        identity=machine.identity,
        principal=machine,
        entitlement=system.read,
        requester=system.alice.identity.user,
        by=system.bob.identity.user,
        **{
            "provisioner": "idc_assignment",
            "duration": timedelta(hours=1),
            "reason": "For the robot.",
            "authority": yes_of(system.bob),
            **fields,
        },
    )


def refused(grant: Grant) -> str:
    with pytest.raises(warrants.InvalidWarrant) as why:
        warrants.ask_rules_again(Grant.objects.get(pk=grant.pk))
    return str(why.value)


# ---- who asked


def test_nothing_opens_for_somebody_who_left_after_the_approval(system: System) -> None:
    grant = system.issue(authority=yes_of(system.bob))
    system.alice.identity.user.is_active = False
    system.alice.identity.user.save()
    assert "Nobody who works here" in refused(grant)


@pytest.mark.parametrize("missing", ["requested_by", "identity"])
def test_nothing_opens_for_nobody(system: System, missing: str) -> None:
    grant = system.issue(authority=yes_of(system.bob))
    Grant.objects.filter(pk=grant.pk).update(**{missing: None})
    assert "Nobody who works here" in refused(grant)


def test_nothing_opens_on_the_word_of_somebody_whom_the_inventory_does_not_know(system: System) -> None:
    grant = system.issue(authority=yes_of(system.bob))
    Grant.objects.filter(pk=grant.pk).update(requested_by=UserFactory(name="Somebody"))
    assert "Nobody who works here" in refused(grant)


# ---- whether it can be given at all


def change(grant: Grant, field: str, value: Any) -> None:
    *path, name = field.split(".")
    for step in path:
        grant = getattr(grant, step)
    setattr(grant, name, value)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("provisioner", "no_such_way", "the way that this grant names"),
        ("entitlement.kind", "idc_group", "for this holder"),
        ("principal.kind", "idc_group", "for this holder"),
        ("entitlement.connection_id", 0, "of one place"),
        ("principal.connection_id", 0, "of one place"),
        ("principal.resource_id", 0, "of one place"),
        ("entitlement.is_ours", True, "not there to be given"),
        ("principal.is_reserved", True, "not there to be given"),
        ("entitlement.ended_at", START, "not there to be given"),
        ("principal.ended_at", START, "not there to be given"),
    ],
)
def test_what_does_not_fit_is_not_given_whoever_says_yes(system: System, field: str, value: Any, why: str) -> None:
    grant = Grant.objects.with_names().get(pk=system.issue(authority=yes_of(system.bob)).pk)
    warrants.ask_rules_again(grant)
    change(grant, field, value)
    with pytest.raises(warrants.InvalidWarrant, match=why):
        warrants.ask_rules_again(grant)


def test_what_lies_in_its_holders_own_account_fits(system: System) -> None:
    grant = Grant.objects.with_names().get(pk=system.issue(authority=yes_of(system.bob)).pk)
    grant.principal.resource_id = grant.entitlement.resource_id
    warrants.ask_rules_again(grant)


def test_a_verdict_that_names_no_time_allows_not_even_a_second(system: System) -> None:
    with pytest.raises(services.NotPossible, match="for so long"):
        system.issue(duration=timedelta(seconds=1), authority=services.Authority({"tier": "auto"}))


# ---- whose yes it takes


def test_what_takes_nobodys_yes_by_now_needs_no_approver(system: System, in_force: Put) -> None:
    carol = system.person("carol")
    grant = system.issue(authority=yes_of(carol))
    warrants.ask_rules_again(grant)  # the rules as shipped let an engineer read
    in_force(permit("asked", "approval", "8h"))
    assert "Nobody who approved this may" in refused(grant)


def test_privileged_access_takes_its_approvers_passkey_even_where_rules_say_it_needs_nobody(
    system: System, in_force: Put
) -> None:
    in_force(permit("free", "auto", "8h"), permit("asked", "approval", "8h"))
    bob, carol = system.bob.identity.user, system.person("carol").identity.user
    wanted = draft(system.alice, system.admin)
    hers = system.issue(what=system.admin, authority=signed_by(carol, give_key(carol), wanted))
    assert "Nobody who approved this may" in refused(hers)
    other = draft(system.alice, system.admin, reason="Looking into INC-2.")
    his = sign(warrants.spec_of(other), give_key(bob), bob)
    warrants.ask_rules_again(system.issue(what=system.admin, reason="Looking into INC-2.", authority=approved(his)))


def test_an_approval_opens_for_a_machine_what_its_owner_may_have_without(system: System, in_force: Put) -> None:
    in_force(permit("free", "auto", "8h"), permit("asked", "approval", "1h"))
    warrants.ask_rules_again(for_the_robot(system))


def test_a_machine_gets_nothing_that_only_its_owner_may_have(system: System, in_force: Put) -> None:
    in_force(permit("free", "auto", "8h"))
    assert "Nobody who approved this may" in refused(for_the_robot(system))


def test_a_machine_gets_nothing_for_longer_than_approvers_may_give(system: System, in_force: Put) -> None:
    in_force(permit("free", "auto", "8h"), permit("asked", "approval", "59m"))
    assert "Nobody who approved this may" in refused(for_the_robot(system))


def test_an_approval_for_a_machine_counts_against_a_ticket_where_the_rule_wants_one(
    system: System, in_force: Put
) -> None:
    in_force(permit("free", "auto", "8h"), permit("asked", "approval", "8h", extra=WITH_TICKET))
    warrants.ask_rules_again(for_the_robot(system, ticket_ref="INC-1"))


def test_without_the_ticket_only_they_approve_whose_rule_wants_none(system: System, in_force: Put) -> None:
    """The owner against a ticket, for long; an administrator without."""
    in_force(
        permit("free", "auto", "8h"),
        permit("owner", "approval", "8h", extra=WITH_TICKET),
        permit("boss", "approval", "4h", extra='@approvers("administrator") '),
    )
    assert "Nobody who approved this may" in refused(for_the_robot(system))


@pytest.mark.parametrize(("lasts", "holds"), [(1_000_000, True), (1_999_999, True), (999_999, False)])
def test_a_signature_holds_for_the_whole_second_in_which_a_worker_acted(
    system: System, lasts: int, holds: bool
) -> None:
    """Rows keep seconds: where in it the worker acted is not known any more."""
    key, wanted = give_key(system.bob.identity.user), draft(system.alice, system.admin, ticket_ref="INC-1")
    until = timezone.now() + timedelta(microseconds=lasts)
    authority = signed_by(system.bob.identity.user, key, wanted, expires=until)
    grant = system.issue(what=system.admin, authority=authority, ticket_ref="INC-1")
    grant.claimed_at = timezone.now()
    if holds:
        warrants.check(grant)
    else:
        with pytest.raises(warrants.InvalidWarrant, match="another time"):
            warrants.check(grant)


def test_what_a_worker_began_in_time_may_be_finished_after_the_yes_expired(system: System, clock: Any) -> None:
    key, wanted = give_key(system.bob.identity.user), draft(system.alice, system.admin, ticket_ref="INC-1")
    authority = signed_by(system.bob.identity.user, key, wanted, expires=timezone.now() + timedelta(minutes=5))
    grant = system.issue(what=system.admin, authority=authority, ticket_ref="INC-1")
    system.world.script("open", fake.pending(polls=9))
    provisioning.provision(grant.pk)
    clock.shift(timedelta(minutes=6))
    provisioning.provision(grant.pk)
    grant.refresh_from_db()
    assert grant.state == State.ACTIVE, grant.end_note


def test_a_verdict_in_a_row_gives_it_for_no_longer_than_the_rules(system: System, in_force: Put) -> None:
    in_force(permit("free", "auto", "1h"))
    warrants.ask_rules_again(system.issue())
    assert "longest" in refused(system.issue(what=system.permission_set("Other", "read"), duration=timedelta(hours=2)))


# ---- for longer


def later(system: System, grant: Grant, key: SoftKey, **fields: Any) -> Extension:
    """Bob signs that Alice holds it for half an hour longer."""
    longer = timedelta(minutes=30)
    yes = sign(warrants.spec_of_extension(grant, longer), key, system.bob.identity.user, **fields)  # type: ignore[arg-type, union-attr]
    return services.extend(grant, longer=longer, by=grant.requested_by, authority=approved(yes))


def half_an_hour(system: System, key: SoftKey) -> Grant:
    wanted = draft(system.alice, system.admin, ticket_ref="INC-1", duration=timedelta(minutes=30))
    authority = signed_by(system.bob.identity.user, key, wanted)  # type: ignore[arg-type, union-attr]
    return system.active(what=system.admin, authority=authority, ticket_ref="INC-1", duration=timedelta(minutes=30))


def test_privileged_access_is_extended_by_a_passkey_of_its_own(system: System) -> None:
    key = give_key(system.bob.identity.user)
    grant = half_an_hour(system, key)
    extension = later(system, grant, key)
    make_due()
    provisioning.extend(extension.pk)
    extension.refresh_from_db()
    assert extension.applied_at, extension.problem
    assert Grant.objects.get(pk=grant.pk).ends_at == timezone.now() + timedelta(hours=1)


def test_a_yes_to_an_extension_that_expired_before_a_worker_acted_extends_nothing(system: System, clock: Any) -> None:
    key = give_key(system.bob.identity.user)
    extension = later(system, half_an_hour(system, key), key, expires=timezone.now() + timedelta(minutes=5))
    clock.shift(timedelta(minutes=6))
    make_due()
    provisioning.extend(extension.pk)
    extension.refresh_from_db()
    assert extension.refused_at and "another time" in extension.problem


def test_the_passkey_that_opened_it_does_not_extend_it(system: System) -> None:
    grant = half_an_hour(system, give_key(system.bob.identity.user))
    again = services.Authority({"tier": "approval", "cap_seconds": 3600}, grant.warrant.approvals)
    with pytest.raises(services.NotPossible, match="something else"):
        services.extend(grant, longer=timedelta(minutes=30), by=grant.requested_by, authority=again)


def test_a_passkey_that_counts_only_since_it_was_opened_may_extend_it(system: System, clock: Any) -> None:
    bob = system.bob.identity.user
    grant = half_an_hour(system, give_key(bob))
    clock.move_to(START + timedelta(days=29, minutes=5))
    key = give_key(bob)  # counts since 29 days before
    clock.move_to(START + timedelta(minutes=10))
    warrants.ask_rules_again(Grant.objects.get(pk=grant.pk), later(system, grant, key))
