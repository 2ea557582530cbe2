"""The pages of emergency stops: administrators see what would happen, order with a passkey, and see how far AWS is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.connectors.fake_world import throttled
from apps.grants import provisioning
from apps.grants.models import Grant, Scope, State, Stop, StopWrite
from apps.grants.services import stops
from apps.users import stepup
from apps.users.models import User
from tests.factories.inventory import EntitlementFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.grants.lifting import known
from tests.grants.signing import give_key
from tests.grants.system import System
from tests.users.soft_key import SoftKey

PASSKEY = {"method": "passkey", "authenticator": 1, "at": "2026-11-22T09:00:00+00:00"}
WHY = "Alice's laptop was stolen."


def sign_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def erin(system: System) -> User:
    return known(UserFactory(name="Erin", administrator=True))


@pytest.fixture
def frank(system: System) -> User:
    return known(UserFactory(name="Frank", administrator=True))


def stop_all(erin: User) -> Stop:
    return stops.order(scope=Scope.ALL, reason=WHY, by=erin, step_up=PASSKEY)


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A fresh step-up with this method in every session."""

    def by(method: str) -> None:
        def proof(_: Any, *, within: Any = None, privileged: bool = False) -> dict[str, Any]:
            return {} if privileged and method != "passkey" else {**PASSKEY, "method": method}

        monkeypatch.setattr(stepup, "proof", proof)

    return by


def text_of(shown: str) -> str:
    return re.sub(r"<[^>]+>", "", shown)


def page(client: Client, **query: Any) -> str:
    return client.get(f"{reverse('stops:every')}?{urlencode(query)}").content.decode()


def test_it_says_before_what_would_happen(system: System, erin: User) -> None:
    system.active()
    system.holds(system.alice, system.admin)
    shown = page(sign_in(erin), scope="person", what=system.alice.identity.name)  # type: ignore[union-attr]
    assert "Everything of" in shown
    assert "1 grant of 1 in 1 account end" in shown
    assert "1 standing assignment " in shown
    assert "What lives on: Nothing." in shown
    assert not Stop.objects.exists()


def test_what_fits_several_is_picked_from_a_list(system: System, erin: User) -> None:
    one, other = system.permission_set("Deploy", "write"), system.permission_set("Deployer", "write")
    shown = page(sign_in(erin), scope="entitlement", what="deploy")
    assert f"id={one.pk}" in shown
    assert f"id={other.pk}" in shown
    assert "Stop it now" not in shown
    assert "Stop it now" in page(sign_in(erin), scope="entitlement", id=one.pk)


@pytest.mark.parametrize("what", ["1111-2222-3333", "111122223333", "production"])
def test_an_account_is_found_by_number_or_name(system: System, erin: User, what: str) -> None:
    assert "Everything of production" in page(sign_in(erin), scope="account", what=what)


@pytest.mark.parametrize(
    "query", [{"scope": "person"}, {"scope": "person", "what": "\0"}, {"scope": "nonsense"}, {"id": -1}]
)
def test_nonsense_stops_nothing(system: System, erin: User, query: dict[str, Any]) -> None:
    assert "Stop it now" not in page(sign_in(erin), **query)


@pytest.mark.parametrize(
    ("query", "may_be_empty"), [({}, False), ({"scope": "account"}, False), ({"scope": "all"}, True)]
)
def test_only_everything_needs_no_name(system: System, erin: User, query: dict[str, str], may_be_empty: bool) -> None:
    shown = page(sign_in(erin), **query)
    [label] = re.findall(r'<label class="form-label" for="id_what">(.*?)</label>', shown)
    assert ("optional" in label) is may_be_empty
    [typed] = re.findall(r'<input[^>]* name="what"[^>]*>', shown)
    assert " required" not in typed  # the scope may change after the page was drawn


def test_an_order_needs_a_fresh_passkey_and_keeps_what_was_typed(
    system: System, erin: User, present: Callable[[str], None]
) -> None:
    present("totp")
    client = sign_in(erin)
    preview = f"{reverse('stops:every')}?scope=all"
    asked = {"scope": "all", "reason": WHY}
    answer = client.post(reverse("stops:order"), asked, headers={"Referer": f"http://testserver{preview}"})
    assert "/settings/step-up/" in answer["Location"]
    assert not Stop.objects.exists()
    assert "laptop was stolen" in client.get(preview).content.decode()


def test_an_order_stops_it(system: System, erin: User, present: Callable[[str], None]) -> None:
    grant = system.active()
    present("passkey")
    answer = sign_in(erin).post(
        reverse("stops:order"), {"scope": "person", "id": system.alice.identity.pk, "reason": WHY}
    )
    stop = Stop.objects.get()
    assert answer["Location"] == stop.get_absolute_url()
    assert (stop.identity, stop.ordered_by, stop.step_up["method"]) == (system.alice.identity, erin, "passkey")
    grant.refresh_from_db()
    assert grant.state == State.REVOKING


def test_an_order_without_a_reason_says_so(system: System, erin: User, present: Callable[[str], None]) -> None:
    present("passkey")
    answer = sign_in(erin).post(reverse("stops:order"), {"scope": "all"}, follow=True)
    assert "Say in a few words why" in answer.content.decode()
    assert not Stop.objects.exists()


def test_an_auditor_sees_stops_and_orders_none(system: System, erin: User, present: Callable[[str], None]) -> None:
    dan = UserFactory(name="Dan", auditor=True)
    present("passkey")
    shown = page(sign_in(dan), scope="all")
    assert "Stop it now" not in shown
    assert sign_in(dan).post(reverse("stops:order"), {"scope": "all", "reason": WHY}).status_code == 404
    assert not Stop.objects.exists()


def test_the_page_shows_in_red_what_is_not_read_back(system: System, erin: User) -> None:
    system.active()
    stop = stops.order(scope=Scope.ALL, reason=WHY, by=erin, step_up=PASSKEY)
    [row] = stop.writes.all()
    client = sign_in(erin)
    assert "Not yet" in client.get(stop.get_absolute_url()).content.decode()
    system.world.script("enforce", throttled())
    provisioning.write_stop(row.pk)
    shown = client.get(stop.get_absolute_url()).content.decode()
    assert "slow down" in shown and "Next try in " in text_of(shown)
    stop.writes.update(next_try_at=timezone.now())
    assert "Next try now." in client.get(stop.get_absolute_url()).content.decode()
    provisioning.write_stop(row.pk)
    shown = client.get(stop.get_absolute_url()).content.decode()
    assert "Not yet" not in shown
    assert "1 <small>of 1 object" in shown
    assert 'hx-trigger="every 2s"' in shown
    system.run_clock()
    assert Grant.objects.get().state == State.REVOKED
    assert 'hx-trigger="every 2s"' not in client.get(stop.get_absolute_url()).content.decode()


def answer(client: Client, stop: Stop, key: SoftKey) -> dict[str, str]:
    """What the page's form sends once the passkey signed what the page asks for."""
    shown = client.get(stop.get_absolute_url()).content.decode()
    asked = json.loads(re.findall(r'<script id="passkey" type="application/json">(.*?)</script>', shown)[0])
    [expires] = re.findall(r'name="expires" value="([^"]+)"', shown)
    return {"credential": json.dumps(key.sign(asked["challenge"])), "expires": expires}


def test_two_administrators_lift_it_on_its_page(system: System, erin: User, frank: User) -> None:
    stop, erins, franks = stop_all(erin), give_key(erin), give_key(frank)
    url, first, second = stop.get_absolute_url(), sign_in(erin), sign_in(frank)
    said = {"reason": "The laptop was found.", **answer(first, stop, erins)}
    first.post(reverse("stops:propose_lift", args=[stop.pk]), said)
    alone = first.post(reverse("stops:lift", args=[stop.pk]), said, follow=True)
    assert "yourself" in alone.content.decode()
    assert "Sign and lift it" not in first.get(url).content.decode()
    assert "Sign and lift it" in second.get(url).content.decode()
    second.post(reverse("stops:lift", args=[stop.pk]), answer(second, stop, franks))
    assert "A worker checks both signatures" in second.get(url).content.decode()
    part = second.get(url, headers={"HX-Request": "true", "HX-Target": "lifting"}).content.decode()
    assert part.strip().startswith("<section")
    provisioning.lift_stop(stop.pk)
    stop.refresh_from_db()
    assert stop.lifted_by == frank
    assert "Nothing that ended came back" in second.get(url).content.decode()


@pytest.mark.parametrize("sent", [{}, {"credential": "nonsense"}, {"credential": "{}", "expires": "\0"}], ids=str)
def test_what_no_passkey_signed_proposes_nothing(system: System, erin: User, sent: dict[str, str]) -> None:
    stop, client = stop_all(erin), sign_in(erin)
    give_key(erin)
    sent = {"reason": "The laptop was found.", **sent}
    answer = client.post(reverse("stops:propose_lift", args=[stop.pk]), sent, follow=True)
    assert "signed with a passkey" in answer.content.decode()
    assert Stop.objects.get().lift_proposed_by is None


def test_whoever_has_no_passkey_reads_what_it_takes(system: System, erin: User) -> None:
    shown = sign_in(erin).get(stop_all(erin).get_absolute_url()).content.decode()
    assert "You have no passkey that can sign this" in shown
    assert "Sign and propose" not in shown


def test_why_a_worker_did_not_lift_it_is_shown(system: System, erin: User, frank: User) -> None:
    stop = stop_all(erin)
    Stop.objects.update(lift_proposed_by=erin, lift_asked_by=frank, lift_asked_at=timezone.now())
    provisioning.lift_stop(stop.pk)
    assert "It was not lifted" in sign_in(frank).get(stop.get_absolute_url()).content.decode()


def test_what_denies_nothing_is_not_called_denied(system: System, erin: User) -> None:
    """A stop brings a membership's schedule forward. Until it was taken away, the group gives what it gives."""
    system.world.add_group("devs")
    group = PrincipalFactory(
        connection=system.connection, kind="idc_group", external_id="devs", name="devs", identity=None
    )
    devs = EntitlementFactory(
        connection=system.connection,
        resource=None,
        kind="idc_group",
        external_id="membership:devs",
        name="devs",
        group=group,
        privilege="read",
    )
    system.active(what=devs, provisioner="group_membership")
    stop = stops.order(scope=Scope.PERSON, subject=system.alice.identity, reason=WHY, by=erin, step_up=PASSKEY)
    [row] = stop.writes.all()
    provisioning.write_stop(row.pk)
    shown = " ".join(re.sub(r"<[^>]+>", " ", sign_in(erin).get(stop.get_absolute_url()).content.decode()).split())
    listed = shown[shown.index("Where it is written in AWS") : shown.index("What it does not cover")]
    assert "Denied" not in listed
    assert "nothing denies them" in listed
    assert StopWrite.objects.get().proof in listed
