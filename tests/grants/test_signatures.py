"""The form of what approvers sign, and which signature counts. They are kept: another form would undo them all."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from apps.grants import signatures, warrants
from apps.users import assertions

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
SPEC = {"entitlement": "Admin", "seconds": 3600, "reason": "Ärger"}


def test_the_same_facts_are_the_same_bytes_in_any_order() -> None:
    assert signatures.canonical({"b": {"z": 1, "a": "ü"}, "a": None}) == b'{"a":null,"b":{"a":"\\u00fc","z":1}}'


def test_what_a_passkey_signs_keeps_its_form() -> None:
    said = (
        b'{"approver":"7","expires":"2026-11-22T10:00:00+00:00","purpose":"gatehouse.approve","request":"R-1",'
        b'"spec":{"entitlement":"Admin","reason":"\\u00c4rger","seconds":3600}}'
    )
    challenge = signatures.challenge(SPEC, request="R-1", approver="7", expires="2026-11-22T10:00:00+00:00")
    assert challenge == hashlib.sha256(said).digest()


def test_what_a_warrant_covers_keeps_its_form() -> None:
    """Changing it takes all that is held from everybody."""
    grant: Any = SimpleNamespace(
        connection_id=1,
        identity_id=2,
        principal=SimpleNamespace(external_id="alice"),
        entitlement=SimpleNamespace(external_id="Admin@111122223333"),
        provisioner="idc_assignment",
        duration=timedelta(days=1, hours=1),
        reason="Looking.",
        ticket_ref="INC-1",
        requested_by_id=3,
        reference="g-1",
        extensions=SimpleNamespace(exclude=lambda **_: [SimpleNamespace(duration=timedelta(hours=2))]),
    )
    spec = {
        "connection": 1,
        "identity": 2,
        "principal": "alice",
        "entitlement": "Admin@111122223333",
        "provisioner": "idc_assignment",
        "seconds": 90_000,
        "reason": "Looking.",
        "ticket": "INC-1",
        "requester": "3",
    }
    assert warrants.spec_of(grant) == spec
    longer = {**spec, "extends": "g-1", "seconds": 90_000 + 7200 + 1800}
    assert warrants.spec_of_extension(grant, timedelta(minutes=30)) == longer
    assert warrants.digest(SPEC) == hashlib.sha256(signatures.canonical(SPEC)).hexdigest()


# ---- which signature counts


def signed(user: str, *, expires: datetime = NOW + timedelta(hours=1)) -> dict[str, Any]:
    return {"user": user, "signed": {"request": "R-1", "expires": expires.isoformat(), "assertion": {"by": user}}}


def unsigned(user: str) -> dict[str, Any]:
    return {"user": user, "step_up": {"method": "passkey"}}


@pytest.fixture
def good_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every passkey is one that counts, but Mallory's, and signed what it was asked about."""

    def verify(assertion: dict[str, str], *, challenge: bytes, user_id: str, at: datetime) -> None:
        assert at == NOW and len(challenge) == 32
        if user_id != assertion["by"] or user_id == "mallory":
            raise assertions.Invalid("It is not signed with a passkey of the approver that counts.")

    monkeypatch.setattr(assertions, "verify", verify)


def require(*approvals: dict[str, Any], digest: str | None = None) -> str:
    warrant: Any = SimpleNamespace(signed_digest=digest or signatures.digest_of(SPEC, approvals))
    return signatures.require(warrant, SPEC, approvals, at=NOW)


def why_not(*approvals: dict[str, Any], **fields: Any) -> str:
    with pytest.raises(signatures.NotSigned) as refused:
        require(*approvals, **fields)
    return str(refused.value)


@pytest.mark.usefixtures("good_key")
def test_a_signature_counts_beside_a_yes_without_one() -> None:
    assert require(signed("bob")) == "bob"
    assert require(unsigned("carol"), signed("bob")) == "bob"
    assert require(signed("bob"), unsigned("carol")) == "bob"


@pytest.mark.usefixtures("good_key")
def test_a_signature_that_fails_does_not_spoil_a_good_one() -> None:
    bobs = signatures.digest_of(SPEC, [signed("bob")])
    assert require(signed("carol"), signed("bob"), digest=bobs) == "bob"
    assert require({**signed("bob"), "user": "mallory"}, signed("bob"), digest=bobs) == "bob"


@pytest.mark.usefixtures("good_key")
def test_who_did_not_sign_is_told_why() -> None:
    assert "with a passkey" in why_not()
    assert "with a passkey" in why_not(unsigned("bob"))
    assert "something else" in why_not(signed("bob"), digest="0" * 64)
    assert "that counts" in why_not(signed("mallory"))


@pytest.mark.usefixtures("good_key")
@pytest.mark.parametrize("ahead", [timedelta(0), signatures.LONGEST], ids=["ends now", "a day ahead"])
def test_a_signature_counts_from_a_day_before_its_end_to_its_last_instant(ahead: timedelta) -> None:
    assert require(signed("bob", expires=NOW + ahead)) == "bob"


@pytest.mark.usefixtures("good_key")
@pytest.mark.parametrize(
    "ahead", [timedelta(seconds=-1), timedelta(hours=24, seconds=1)], ids=["over", "too far ahead"]
)
def test_a_signature_for_another_time_does_not_count(ahead: timedelta) -> None:
    assert "another time" in why_not(signed("bob", expires=NOW + ahead))


def test_where_nobody_signed_there_is_no_digest() -> None:
    assert signatures.digest_of(SPEC, []) is None
    assert signatures.digest_of(SPEC, [unsigned("bob")]) is None
    until = (NOW + timedelta(hours=1)).isoformat()
    one = signatures.challenge(SPEC, request="R-1", approver="bob", expires=until).hex()
    assert signatures.digest_of(SPEC, [unsigned("carol"), signed("bob")]) == one
    assert one != signatures.digest_of(SPEC, [signed("carol")])
