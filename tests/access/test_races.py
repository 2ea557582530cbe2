"""Scripted races with real connections: both sides are past their checks before either writes. One wins, one is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connections

from apps.access.models import AccessRequest, Approval
from apps.access.services import requests
from apps.audit.models import AuditEvent
from apps.core.lifecycle import Conflict
from apps.grants import services as grants
from apps.grants.models import EndReason, Grant
from tests.access.conftest import LAPTOP, TOTP, Company

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*acts: Callable[[], object]) -> list[object]:
    """Run each in a thread with a connection of its own; what it returned or raised, in order."""
    outcomes: list[object] = [None] * len(acts)

    def run(index: int, act: Callable[[], object]) -> None:
        try:
            outcomes[index] = act()
        except Exception as error:
            outcomes[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index, act)) for index, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return outcomes


@pytest.fixture
def asked(clock_stands_still: None) -> tuple[Company, int]:
    company = Company()
    row = company.offer(company.permission_set("Operator", "write"))
    request = requests.ask(
        row,
        principal=company.alice,
        duration=timedelta(hours=1),
        reason="Card payments are slow.",
        by=company.alice_user,
        place=LAPTOP,
    )
    return company, request.pk


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes before both have passed every check."""
    barrier, real = threading.Barrier(2, timeout=20), requests._require_undecided

    def wait_for_the_other(request: AccessRequest) -> None:
        real(request)
        barrier.wait()

    monkeypatch.setattr(requests, "_require_undecided", wait_for_the_other)


def load(pk: int) -> AccessRequest:
    return AccessRequest.objects.with_names().get(pk=pk)


def test_two_approvers_at_once_give_one_grant(asked: tuple[Company, int], meet: None) -> None:
    company, pk = asked
    outcomes = at_once(
        lambda: requests.approve(load(pk), by=company.bob_user, place=TOTP),
        lambda: requests.approve(load(pk), by=company.carol_user, place=TOTP),
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AccessRequest", "Conflict"], outcomes
    assert Grant.objects.count() == Approval.objects.count() == 1
    assert AuditEvent.objects.filter(event="access.access_request.approved").count() == 1


def test_approving_against_withdrawing_has_one_winner(asked: tuple[Company, int], meet: None) -> None:
    company, pk = asked
    outcomes = at_once(
        lambda: requests.approve(load(pk), by=company.bob_user, place=TOTP),
        lambda: requests.withdraw(load(pk), by=company.alice_user),
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1, outcomes
    assert Grant.objects.count() == (1 if load(pk).state == "allowed" else 0)


def test_approving_against_denying_has_one_winner(asked: tuple[Company, int], meet: None) -> None:
    company, pk = asked
    outcomes = at_once(
        lambda: requests.approve(load(pk), by=company.bob_user, place=TOTP),
        lambda: requests.deny(load(pk), by=company.carol_user, reason="Use the staging account."),
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1, outcomes
    assert Approval.objects.count() == 1


def test_ending_a_grant_twice_at_once_ends_it_once(asked: tuple[Company, int]) -> None:
    company, pk = asked
    grant = requests.approve(load(pk), by=company.bob_user, place=TOTP).grant
    assert grant is not None
    outcomes = at_once(
        lambda: grants.end(grant, by=company.alice_user, reason=EndReason.DONE),
        lambda: grants.end(grant, by=company.bob_user, reason=EndReason.REVOKED),
    )
    assert all(isinstance(outcome, Grant | Conflict) for outcome in outcomes), outcomes
    assert AuditEvent.objects.filter(event="grants.grant.cancelled").count() == 1
