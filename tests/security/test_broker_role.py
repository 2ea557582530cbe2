"""The broker under its own database role: it can do its work, and nothing that would make access."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.connectors import registry
from apps.grants.broker.minting import NotGiven, hand_out
from apps.grants.models import Grant, Minting, State, Warrant
from tests.grants.signing import draft, give_key, signed_by
from tests.grants.system import System
from tests.grants.test_broker import asking, signed_for
from tests.security.conftest import Acting


@pytest.fixture(autouse=True)
def _minter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MINTERS, ("fake", "idc_assignment"), "tests.grants.test_broker:FakeMinter")


def test_it_can_do_its_work(system: System, acting: Acting) -> None:
    bob = system.bob.identity.user  # type: ignore[union-attr]
    authority = signed_by(bob, give_key(bob), draft(system.alice, system.admin, ticket_ref="INC-1"))
    grants = [system.active(), system.active(what=system.admin, authority=authority, ticket_ref="INC-1")]
    alice = give_key(system.alice.identity.user)  # type: ignore[union-attr, arg-type]
    for grant in grants:
        asked = asking(grant, signed=signed_for(grant, alice))
        with acting("broker"):
            hand_out(asked)
    assert Minting.objects.count() == 2


def test_it_can_raise_its_alarm(system: System, acting: Acting) -> None:
    grant = system.active()
    Warrant.objects.get(grant=grant).delete()
    asked = asking(grant)
    with acting("broker"), pytest.raises(NotGiven, match="no warrant"):
        hand_out(asked)


@pytest.mark.parametrize(
    "write",
    [
        lambda grant: Grant.objects.filter(pk=grant.pk).update(ends_at=timezone.now() + timedelta(days=9)),
        lambda grant: Grant.objects.filter(pk=grant.pk).update(state=State.ACTIVE),
        lambda grant: Warrant.objects.filter(grant=grant).update(requester="1"),
        lambda grant: draft(grant.principal, grant.entitlement).save(),
        lambda grant: Minting.objects.all().delete(),
        lambda grant: grant.entitlement.save(),
        lambda grant: grant.identity.save(),
    ],
)
def test_it_cannot_write_what_it_believes(system: System, acting: Acting, write: Callable[[Grant], object]) -> None:
    grant = Grant.objects.with_names().get(pk=system.active().pk)
    with acting("broker"), pytest.raises(DatabaseError), transaction.atomic():
        write(grant)


def test_the_web_process_cannot_say_that_a_session_was_made(system: System, acting: Acting) -> None:
    grant, now = system.active(), timezone.now()
    with acting("web"), pytest.raises(DatabaseError), transaction.atomic():
        Minting.objects.create(
            grant=grant, kind="cli", access_key_id="ASIA", session_name="x", minted_at=now, expires_at=now
        )


def test_the_web_process_cannot_write_an_active_grant_to_ask_a_session_of(system: System, acting: Acting) -> None:
    now = timezone.now()
    times = {"active_at": now, "ends_at": now + timedelta(hours=1), "not_after": now + timedelta(hours=1)}
    grant = draft(system.alice, system.admin, ticket_ref="INC-1", origin="request", state=State.ACTIVE, **times)
    with acting("web"), pytest.raises(DatabaseError), transaction.atomic():
        grant.save()
