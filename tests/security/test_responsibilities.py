"""Who may approve privileged access must have been that for the waiting time, as workers saw it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from apps.grants import provisioning, warrants
from apps.grants.models import State
from apps.inventory import responsibilities
from apps.inventory.models import Identity, Responsibility
from apps.rules import approvers
from apps.users.models import PortalRole, User
from tests.grants.signing import approved, draft, give_key, let_stand, sign
from tests.grants.system import System

pytestmark = pytest.mark.django_db

WAIT = timedelta(hours=24)


def stood(system: System, *words: str) -> set[User]:
    """Who could approve Admin for Alice now, by a word that has stood."""
    who, what = Identity.objects.get(pk=system.alice.identity.pk), type(system.admin).objects.get(pk=system.admin.pk)
    return set(approvers.have_stood(who.user, who, what, words, at=timezone.now()))


@pytest.mark.parametrize("word", ["owner", "manager", "administrator"])
def test_a_word_counts_after_the_waiting_time_from_when_a_worker_saw_it(system: System, word: str) -> None:
    carol = system.person("carol").identity
    if word == "owner":
        system.account.owner = carol
        system.account.save()
    if word == "manager":
        Identity.objects.filter(pk=system.alice.identity.pk).update(manager=carol)
    if word == "administrator":
        PortalRole.objects.create(user=carol.user, role=PortalRole.Role.ADMINISTRATOR)
    responsibilities.follow()
    assert stood(system, word) == set()
    with time_machine.travel(timezone.now() + WAIT):
        assert stood(system, word) == {carol.user}
        responsibilities.follow()
        assert stood(system, word) == {carol.user}


def test_nobody_saw_it_and_nobody_may(system: System) -> None:
    assert stood(system, "owner") == set()


@pytest.mark.parametrize("how", ["owner", "login"])
def test_what_changes_hands_waits_again(system: System, how: str) -> None:
    """Another owner, or another login for the same person."""
    let_stand()
    assert stood(system, "owner") == {system.bob.identity.user}
    carol = system.person("carol").identity
    thief = carol.user
    if how == "owner":
        system.account.owner = carol
        system.account.save()
    else:
        Identity.objects.filter(pk=carol.pk).update(user=None)
        Identity.objects.filter(pk=system.bob.identity.pk).update(user=thief)
    responsibilities.follow()
    assert stood(system, "owner") == set()
    gone = Responsibility.objects.get(user=system.bob.identity.user, kind="account")
    assert gone.ended_at is not None


def test_who_made_themselves_owner_just_now_opens_nothing(system: System) -> None:
    carol = system.person("carol").identity
    key = give_key(carol.user)
    system.account.owner = carol
    system.account.save()
    responsibilities.follow()
    grant = draft(system.alice, system.admin, ticket_ref="INC-1")
    issued = system.issue(
        what=system.admin, ticket_ref="INC-1", authority=approved(sign(warrants.spec_of(grant), key, carol.user))
    )
    provisioning.provision(issued.pk)
    issued.refresh_from_db()
    assert (issued.state, "may approve it" in issued.end_note) == (State.FAILED, True)
    assert not system.world.calls
