"""The keys that sign approvals: when a worker first saw them, from when they count, and which signatures are good."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AuthenticatorData

from apps.users import assertions, passkeys, services
from apps.users.models import Passkey, User
from tests.conftest import Enqueued
from tests.users.conftest import events, give_passkey, give_totp
from tests.users.soft_key import PRESENT, VERIFIED, SoftKey

pytestmark = pytest.mark.django_db

WAIT = timedelta(hours=24)
CHALLENGE = hashlib.sha256(b"exactly this").digest()


def our_key(**fields: Any) -> SoftKey:
    return SoftKey(**{"origin": settings.BASE_URL, "host": "localhost", **fields})


@pytest.fixture
def key(alice: User) -> SoftKey:
    """A passkey of Alice's that counts."""
    key = our_key()
    with time_machine.travel(timezone.now() - WAIT):
        give_passkey(alice, key)
        passkeys.follow()
    return key


# Which keys count


def test_a_passkey_counts_after_a_wait_that_begins_when_a_worker_sees_it(alice: User) -> None:
    give_passkey(alice, age=timedelta(days=300))  # so it says
    assert passkeys.counting(alice) == []
    passkeys.follow()
    assert passkeys.counting(alice) == []
    [waits] = passkeys.waiting(alice)
    with time_machine.travel(waits.counts_from - timedelta(seconds=1)):
        assert passkeys.counting(alice) == []
    with time_machine.travel(waits.counts_from):
        assert passkeys.counting(alice) == [waits]
        assert passkeys.waiting(alice) == []


def test_its_owner_is_told_by_the_worker_once(alice: User) -> None:
    give_passkey(alice)
    passkeys.follow()
    passkeys.follow()
    [event] = events("users.passkey.seen")
    assert (event.actor_kind, event.subject) == ("worker", f"users.user:{alice.pk}")


def test_without_a_waiting_time_it_counts_once_it_was_seen(alice: User, settings: Any) -> None:
    settings.STEP_UP_WAITING_TIME = timedelta(0)
    give_passkey(alice, age=timedelta(0))
    assert passkeys.counting(alice) == []
    passkeys.follow()
    assert len(passkeys.counting(alice)) == 1


def test_enrolling_wakes_a_worker(alice: User, enqueued: Enqueued, django_capture_on_commit_callbacks: Any) -> None:
    authenticator = give_passkey(alice)
    with django_capture_on_commit_callbacks(execute=True):
        services.note_authenticator(user=alice, what="added", authenticator=authenticator, by=alice)
    assert enqueued.names == ["apps.users.tasks.follow_passkeys"]


def test_a_key_that_is_replaced_in_place_stays_what_it_was(alice: User, key: SoftKey, mallory: User) -> None:
    [before] = passkeys.counting(alice)
    other = give_passkey(mallory, our_key())
    data, pk = other.data, other.pk
    other.delete()
    Authenticator.objects.filter(pk=before.authenticator).update(data=data, user=mallory)
    Authenticator.objects.create(pk=pk, user=alice, type="totp", data={})
    passkeys.follow()
    assert passkeys.counting(alice) == [before]
    assert passkeys.counting(mallory) == []


def test_a_key_ends_with_its_authenticator_and_waits_again_when_it_comes_back(alice: User, key: SoftKey) -> None:
    Authenticator.objects.all().delete()
    passkeys.follow()
    assert passkeys.counting(alice) == []
    assert len(events("users.passkey.ended")) == 1
    give_passkey(alice, key)
    passkeys.follow()
    assert passkeys.counting(alice) == []
    assert len(passkeys.waiting(alice)) == 1


def test_a_passkey_belongs_to_whom_it_was_seen_with_first(alice: User, mallory: User, key: SoftKey) -> None:
    give_passkey(mallory, key)
    passkeys.follow()
    assert {row.user for row in Passkey.objects.all()} == {alice}


def test_codes_sign_nothing_and_what_cannot_be_read_stops_nobody(alice: User, mallory: User) -> None:
    give_totp(alice)
    for data in ({}, {"name": "x", "credential": {}}, {"name": "x", "credential": None}):
        Authenticator.objects.create(user=alice, type=Authenticator.Type.WEBAUTHN, data=data)
    give_passkey(mallory)
    passkeys.follow()
    assert [row.user for row in Passkey.objects.all()] == [mallory]


@pytest.mark.parametrize("change", ["counts_from", "first_seen_at", "public_key", "user_id", "delete"])
def test_the_database_keeps_a_key_as_it_was_seen(alice: User, mallory: User, key: SoftKey, change: str) -> None:
    rows = Passkey.objects.all()
    now = timezone.now()
    values = {"counts_from": now, "first_seen_at": now, "public_key": "AAAA", "user_id": mallory.pk}
    with pytest.raises(DatabaseError), transaction.atomic():
        rows.delete() if change == "delete" else rows.update(**{change: values[change]})


# Which signatures are good


def refused(assertion: dict[str, str], user: User, **fields: Any) -> str:
    with pytest.raises(assertions.Invalid) as error:
        verified(assertion, user, **fields)
    return str(error.value)


def verified(assertion: dict[str, str], user: User, **fields: Any) -> Passkey:
    values = {"challenge": CHALLENGE, "user_id": str(user.pk), "at": timezone.now(), **fields}
    return assertions.verify(assertion, **values)


def signed(key: SoftKey, challenge: bytes = CHALLENGE, **fields: Any) -> dict[str, str]:
    return assertions.kept(key.sign(websafe_encode(challenge), **fields))


def test_a_signature_over_the_digest_is_good(alice: User, key: SoftKey) -> None:
    assert verified(signed(key), alice).user == alice


def test_the_browser_is_asked_for_keys_that_count_with_the_person_verified(alice: User, key: SoftKey) -> None:
    give_passkey(alice, our_key())
    passkeys.follow()
    options = assertions.options(alice, CHALLENGE)
    assert websafe_decode(options["challenge"]) == CHALLENGE
    assert (options["userVerification"], options["rpId"]) == ("required", "localhost")
    assert [one["id"] for one in options["allowCredentials"]] == [websafe_encode(key.id)]


def test_without_a_key_that_counts_the_browser_is_asked_for_nothing(alice: User) -> None:
    give_passkey(alice)
    passkeys.follow()
    assert assertions.options(alice, CHALLENGE) == {}


def test_a_signature_over_anything_else_is_not(alice: User, key: SoftKey) -> None:
    assert "something else" in refused(signed(key, hashlib.sha256(b"another").digest()), alice)


def test_a_signature_for_another_site_is_not(alice: User, key: SoftKey) -> None:
    key.origin = "https://gatehouse.example.org"
    assert "another site" in refused(signed(key), alice)
    key.origin = settings.BASE_URL
    key.rp = hashlib.sha256(b"example.org").digest()
    assert "another site" in refused(signed(key), alice)


@pytest.mark.parametrize("flags", [PRESENT, AuthenticatorData.FLAG.UV, AuthenticatorData.FLAG(0)])
def test_a_touch_alone_signs_nothing(alice: User, key: SoftKey, flags: Any) -> None:
    assert "verify who is there" in refused(signed(key, flags=flags), alice)


def test_somebody_elses_signature_is_not_theirs(alice: User, mallory: User, key: SoftKey) -> None:
    assert "of the approver" in refused(signed(key), mallory)


def test_a_self_made_key_under_a_known_name_signs_nothing(alice: User, key: SoftKey) -> None:
    forged = our_key()
    forged.id = key.id
    assert "signature is wrong" in refused(signed(forged), alice)


def test_a_key_counts_for_what_was_opened_while_it_did(alice: User, key: SoftKey) -> None:
    assertion, before = signed(key), timezone.now()
    Authenticator.objects.all().delete()
    passkeys.follow()
    assert verified(assertion, alice, at=before)
    assert "counts" in refused(assertion, alice)
    assert "counts" in refused(assertion, alice, at=before - WAIT)


@pytest.mark.parametrize("part", ["authenticator_data", "client_data", "signature"])
@pytest.mark.parametrize("value", ["", "AAAA", "!", "e30", "W10"])
def test_whatever_is_not_a_signature_is_refused_and_breaks_nothing(
    alice: User, key: SoftKey, part: str, value: str
) -> None:
    assert refused({**signed(key), part: value}, alice)


@pytest.mark.parametrize(
    "answer",
    [{}, [], None, {"id": "x"}, {"id": "x", "response": []}, {"id": 1, "response": {}}],
    ids=str,
)
def test_an_answer_that_cannot_be_read_is_refused(answer: Any) -> None:
    with pytest.raises(assertions.Invalid):
        assertions.kept(answer)


def test_an_answer_without_end_is_refused(key: SoftKey) -> None:
    answer = key.sign(websafe_encode(CHALLENGE), flags=VERIFIED)
    answer["response"]["clientDataJSON"] = "A" * 5000
    with pytest.raises(assertions.Invalid):
        assertions.kept(answer)
