"""Somebody leaves: one transaction ends what they asked for, what they hold and what rests on their yes, and whoever
answers in their place is asked instead."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.access.models import AccessRequest, State
from apps.access.services import extensions, requests
from apps.access.services.offers import NotAllowed
from apps.audit import services as audit
from apps.audit.models import AuditEvent
from apps.core.lifecycle import Conflict
from apps.grants import periodic, provisioning
from apps.grants.models import EndReason, Extension, Grant, Leaving
from apps.grants.models import State as GrantState
from apps.grants.services import NotPossible, leaving
from apps.inventory.models import Identity, Principal
from apps.users.models import User
from tests.access.conftest import LAPTOP, TOTP, Company

HOUR = timedelta(hours=1)


def left(who: Principal) -> Leaving:
    """They left, and that was noticed."""
    gone(who)
    row = leaving.notice(who.identity, by=audit.CLOCK)
    assert row
    return row


def gone(who: Principal) -> None:
    Identity.objects.filter(pk=who.identity_id).update(ended_at=timezone.now())


def asked(company: Company, what: str = "write", **fields: object) -> AccessRequest:
    """Alice asks for something that Bob or Carol approves."""
    offer = company.offer(company.permission_set(f"Operator {what}", what))
    values = {"principal": company.alice, "duration": HOUR, "reason": "Payments are slow.", "by": company.alice_user}
    request = requests.ask(offer, place=LAPTOP, **{**values, **fields})
    assert request.state == State.WAITING
    return AccessRequest.objects.get(pk=request.pk)


def approve(request: AccessRequest, by: User) -> AccessRequest:
    return requests.approve(AccessRequest.objects.get(pk=request.pk), by=User.objects.get(pk=by.pk), place=TOTP)


def test_everything_of_a_leaver_ends_in_one_transaction(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last step fails, nothing of it has happened, the shutting out included."""
    request, grant = asked(company), company.active()
    gone(company.alice)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the database went away")

    with monkeypatch.context() as broken:
        broken.setattr("apps.grants.services.leaving.end_many", fails)
        with pytest.raises(RuntimeError):
            leaving.notice(company.alice.identity, by=audit.CLOCK)
    request.refresh_from_db()
    grant.refresh_from_db()
    assert request.state == State.WAITING and grant.state == GrantState.ACTIVE
    assert User.objects.get(pk=company.alice_user.pk).is_active and not Leaving.objects.exists()

    row = leaving.notice(company.alice.identity, by=audit.CLOCK)
    assert row and row.ended == {"portal sign-in": 1, "requests": 1, "grants": 1}
    request.refresh_from_db()
    grant.refresh_from_db()
    assert request.state == State.WITHDRAWN
    assert (grant.state, grant.end_reason) == (GrantState.REVOKING, EndReason.LEAVER)
    assert not User.objects.get(pk=company.alice_user.pk).is_active
    assert AuditEvent.objects.filter(event="grants.leaving.noticed").count() == 1


def test_noticing_twice_changes_nothing(company: Company) -> None:
    left(company.alice)
    assert leaving.notice(company.alice.identity, by=audit.CLOCK) is None
    periodic.follow_people()
    assert Leaving.objects.count() == 1


def test_whoever_is_here_loses_nothing(company: Company) -> None:
    grant = company.active()
    assert leaving.notice(company.alice.identity, by=audit.CLOCK) is None
    periodic.follow_people()
    grant.refresh_from_db()
    assert grant.state == GrantState.ACTIVE and User.objects.get(pk=company.alice_user.pk).is_active


@pytest.mark.parametrize("opened", [False, True])
def test_a_yes_of_somebody_who_left_counts_only_once_it_is_open(company: Company, opened: bool) -> None:
    request = approve(asked(company), company.bob_user)
    assert request.grant
    if opened:
        provisioning.provision(request.grant.pk)
    left(company.bob)
    company.run_clock()
    grant = Grant.objects.get(pk=request.grant.pk)
    if opened:
        assert grant.state == GrantState.ACTIVE
    else:
        assert (grant.state, grant.end_reason) == (GrantState.CANCELLED, EndReason.UNAPPROVED)
        assert "Ask again" in grant.end_note and not company.world.assignments


def test_the_worker_refuses_a_leavers_yes_before_anybody_noticed(company: Company) -> None:
    request = approve(asked(company), company.bob_user)
    assert request.grant
    gone(company.bob)
    provisioning.provision(request.grant.pk)
    assert Grant.objects.get(pk=request.grant.pk).state == GrantState.FAILED
    assert not company.world.assignments


def test_an_extension_that_a_leaver_approved_is_not_applied(company: Company) -> None:
    request = approve(asked(company), company.bob_user)
    assert request.grant
    provisioning.provision(request.grant.pk)
    grant = Grant.objects.get(pk=request.grant.pk)
    longer = extensions.ask_longer(
        grant, longer=HOUR, reason="Still looking into it.", by=company.alice_user, place=TOTP
    )
    approve(longer, company.bob_user)
    ends_at = grant.ends_at
    left(company.bob)
    extension = Extension.objects.get()
    provisioning.extend(extension.pk)
    extension.refresh_from_db()
    assert extension.refused_at and not extension.applied_at
    assert Grant.objects.get(pk=grant.pk).ends_at == ends_at


def test_requests_wait_for_who_answers_in_the_place_of_an_approver_who_left(company: Company) -> None:
    dora = company.person("dora")
    Identity.objects.filter(pk=company.carol.identity_id).update(manager=dora.identity)
    request = asked(company)
    assert dora.identity.user_id not in request.approvers.values_list("user_id", flat=True)
    left(company.carol)
    row = request.approvers.get(user=dora.identity.user_id)
    assert "in place of" in row.why and "who left" in row.why
    approve(request, dora.identity.user)
    request.refresh_from_db()
    assert request.state == State.ALLOWED
    with pytest.raises((NotAllowed, Conflict)):
        approve(request, company.carol_user)


def test_where_nobody_is_left_to_ask_administrators_are(company: Company) -> None:
    request = asked(company)
    left(company.carol)
    left(company.bob)
    assert company.erin in [approver.user for approver in request.approvers.select_related("user")]
    approve(request, company.erin)
    request.refresh_from_db()
    assert request.state == State.ALLOWED


def test_nothing_routes_to_somebody_who_left(company: Company) -> None:
    """A new request after the manager and the owner left, noticed or not."""
    gone(company.carol)
    gone(company.bob)
    request = asked(company)
    assert [approver.user for approver in request.approvers.all()] == [company.erin]


def test_what_a_leaver_asked_for_a_machine_ends_too(company: Company) -> None:
    robot = company.machine(owner=company.alice.identity)
    held = Grant.objects.create(
        connection=company.connection,
        identity=robot.identity,
        principal=robot,
        entitlement=company.read,
        origin="request",
        provisioner="idc_assignment",
        duration=HOUR,
        reason="A job.",
        requested_by=company.alice_user,
    )
    left(company.alice)
    held.refresh_from_db()
    assert held.end_reason == EndReason.LEAVER


def test_who_comes_back_gets_nothing_back(company: Company) -> None:
    request, grant = asked(company), company.active()
    row = left(company.alice)
    company.run_clock()
    Identity.objects.filter(pk=company.alice.identity_id).update(ended_at=None)
    periodic.follow_people()
    company.run_clock()
    row.refresh_from_db()
    assert row.returned_at
    for one in (request, grant):
        one.refresh_from_db()
    assert request.state == State.WITHDRAWN and grant.state == GrantState.REVOKED
    assert not User.objects.get(pk=company.alice_user.pk).is_active
    assert not company.world.assignments
    # and leaving a second time is another time
    left(company.alice)
    assert Leaving.objects.count() == 2


def test_noticing_costs_the_same_whatever_they_had(company: Company) -> None:
    def queries(who: Principal) -> int:
        gone(who)
        with CaptureQueriesContext(connection) as seen:
            leaving.notice(who.identity, by=audit.CLOCK)
        return len(seen)

    few, many = company.person("few"), company.person("many")
    for number in range(6):
        company.issue(who=many, what=company.permission_set(f"Set {number}", "read"))
    company.issue(who=few)
    assert queries(few) == queries(many)


# ---- races -----------------------------------------------------------------------------------------------------------


def test_who_left_can_be_issued_nothing_by_a_yes_that_comes_later(company: Company) -> None:
    request = asked(company)
    gone(company.alice)
    with pytest.raises((NotAllowed, NotPossible)):
        approve(request, company.bob_user)
    assert not Grant.objects.exists()
