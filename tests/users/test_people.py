"""Who may change who may do what."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import encrypt
from allauth.usersessions.models import UserSession
from cryptography.fernet import InvalidToken
from django.core import mail
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from apps.users import permissions, roles, services, totp
from apps.users.models import PortalRole, User
from apps.users.services import Refused
from tests.conftest import Enqueued
from tests.factories.users import UserFactory
from tests.users.conftest import (
    client_of,
    events,
    give_passkey,
    give_totp,
    is_signed_in,
    make_person,
    sign_in,
)

pytestmark = pytest.mark.django_db

AUDITOR, ADMINISTRATOR = PortalRole.Role.AUDITOR, PortalRole.Role.ADMINISTRATOR


@pytest.fixture
def frank(db: None) -> User:
    """A second administrator."""
    return make_person("Frank", administrator=True)


# Rules


def test_a_role_is_given_with_its_source_and_told(alice: User, erin: User) -> None:
    services.give_role(user=alice, role=AUDITOR, by=erin)
    services.give_role(user=alice, role=AUDITOR, by=erin)
    assert alice.is_auditor
    assert [(role.name, role.source) for role in roles.held_by(alice)][1:] == [("Auditor", "Given by Erin")]
    [event] = events("users.portal_role.given")
    assert (event.actor_name, event.subject_name, event.data) == ("Erin", "Alice", {"role": "auditor"})


def test_a_role_is_taken_and_told(alice: User, erin: User) -> None:
    services.give_role(user=alice, role=AUDITOR, by=erin)
    assert alice.is_auditor
    services.take_role(user=alice, role=AUDITOR, by=erin)
    services.take_role(user=alice, role=AUDITOR, by=erin)
    assert not alice.is_auditor
    assert len(events("users.portal_role.taken")) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda user: services.give_role(user=user, role=AUDITOR, by=user),
        lambda user: services.take_role(user=user, role=ADMINISTRATOR, by=user),
        lambda user: services.deactivate_user(user=user, by=user),
        lambda user: services.reactivate_user(user=user, by=user),
        lambda user: services.set_emergency(user=user, is_emergency=True, by=user),
        lambda user: services.reset_authenticators(user=user, by=user),
    ],
)
def test_nobody_changes_these_for_themselves(change: Callable[[User], None], erin: User, frank: User) -> None:
    with pytest.raises(Refused, match="for themselves"):
        change(frank)
    assert not permissions.can_change(frank, frank)


def test_the_last_administrator_stays(erin: User, frank: User) -> None:
    services.take_role(user=frank, role=ADMINISTRATOR, by=erin)
    with pytest.raises(Refused, match="last administrator"):
        services.take_role(user=erin, role=ADMINISTRATOR, by=frank)
    with pytest.raises(Refused, match="last administrator"):
        services.deactivate_user(user=erin, by=frank)
    assert PortalRole.objects.filter(user=erin, role=ADMINISTRATOR).exists()


def test_an_administrator_who_cannot_sign_in_is_none(erin: User, frank: User) -> None:
    services.deactivate_user(user=frank, by=erin)
    with pytest.raises(Refused, match="last administrator"):
        services.deactivate_user(user=erin, by=frank)


@pytest.mark.django_db(transaction=True)
def test_two_administrators_cannot_remove_each_other_at_the_same_moment(erin: User, frank: User) -> None:
    """Erin keeps Frank out and has not committed when Frank takes Erin's role: he waits, and then he is the last."""
    answers: list[str] = []

    def frank_takes() -> None:
        try:
            services.take_role(user=User.objects.get(pk=erin.pk), role=ADMINISTRATOR, by=frank)
        except Refused as refused:
            answers.append(str(refused))
        finally:
            connection.close()

    other = threading.Thread(target=frank_takes)
    with transaction.atomic():
        services.deactivate_user(user=frank, by=erin)
        other.start()
        with connection.cursor() as cursor:
            cursor.execute(UNTIL_SOMEBODY_WAITS)
    other.join()
    assert answers == ["Erin is the last administrator. Make somebody else administrator first."]
    assert User.objects.get(pk=erin.pk).is_administrator


# PostgreSQL refreshes its view of other sessions once a transaction unless it is told to.
UNTIL_SOMEBODY_WAITS = """
DO $$ BEGIN
  FOR i IN 1..1000 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database());
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$
"""


def test_whoever_is_kept_out_is_out_at_once(client: Client, alice: User, erin: User) -> None:
    sign_in(client, alice.email)
    assert UserSession.objects.filter(user=alice).count() == 1
    services.deactivate_user(user=alice, by=erin)
    assert client.get("/settings/").status_code == 302
    assert not is_signed_in(client)
    [event] = events("users.user.deactivated")
    assert event.data == {"sessions_ended": 1}


def test_whoever_comes_back_comes_back_without_roles(alice: User, erin: User) -> None:
    services.give_role(user=alice, role=AUDITOR, by=erin)
    services.deactivate_user(user=alice, by=erin)
    with pytest.raises(Refused, match="cannot sign in"):
        services.give_role(user=alice, role=ADMINISTRATOR, by=erin)
    services.reactivate_user(user=alice, by=erin)
    assert not alice.is_auditor
    [event] = events("users.user.reactivated")
    assert event.data == {"roles_taken": ["auditor"]}


def test_an_invited_person_sets_a_password_by_mail(
    client: Client, erin: User, enqueued: Enqueued, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        services.invite_user(email="Bob@Example.com", name="Bob", by=erin)
    assert [args for _, args, _ in enqueued.calls] == [(User.objects.get(name="Bob").pk,)]
    enqueued.run()
    [message] = mail.outbox
    assert message.to == ["bob@example.com"]
    link = re.search(r"http://localhost:8000(/accounts/password/reset/key/\S+)", message.body)
    assert link
    form = client.get(link[1])["Location"]
    client.post(form, {"password1": "a good long one for Bob", "password2": "a good long one for Bob"})
    sign_in(client, "bob@example.com", "a good long one for Bob")
    assert is_signed_in(client)
    [event] = events("users.user.invited")
    assert event.actor_name == "Erin"
    with pytest.raises(Refused, match="signed in before"):
        services.invite_again(user=User.objects.get(name="Bob"), by=erin)


def test_with_single_sign_on_an_invitation_holds_no_password_link(
    erin: User,
    enqueued: Enqueued,
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    settings.OIDC_ISSUER, settings.OIDC_NAME = "https://login.example.com", "Corporate sign-in"
    with django_capture_on_commit_callbacks(execute=True):
        services.invite_user(email="bob@example.com", name="Bob", by=erin)
    enqueued.run()
    [message] = mail.outbox
    assert "Corporate sign-in" in message.body
    assert "password/reset" not in message.body


def test_nobody_is_invited_twice(alice: User, erin: User) -> None:
    with pytest.raises(Refused, match="user already"):
        services.invite_user(email="ALICE@example.com", name="Alice", by=erin)


def test_lost_authenticators_are_removed_and_new_ones_wait(alice: User, erin: User) -> None:
    give_totp(alice)
    give_passkey(alice)
    services.reset_authenticators(user=alice, by=erin)
    assert not Authenticator.objects.filter(user=alice).exists()
    assert [event.actor_name for event in events("users.authenticator.removed")] == ["Erin", "Erin"]


def test_upper_apps_add_the_roles_they_derive(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "_sources", [])
    roles.register(lambda user: [roles.HeldRole("Manager", "Org chart of Identity Center")])
    assert ("Manager", "Org chart of Identity Center") in [(each.name, each.source) for each in roles.held_by(alice)]


# Authenticators


def test_a_seeded_code_is_the_one_that_counts(alice: User, erin: User, settings: Settings) -> None:
    settings.STEP_UP_WAITING_TIME = timedelta(0)
    services.seed_totp(user=alice, secret="JBSWY3DPEHPK3PXP", by=erin)
    services.seed_totp(user=alice, secret="GEZDGNBVGY3TQOJQ", by=erin)
    response = client_of(alice).post("/settings/step-up/", {"code": services.totp_now(alice)})
    assert response["Location"] == "/"
    assert Authenticator.objects.count() == 1
    with pytest.raises(Refused, match="no authenticator app"):
        services.totp_now(erin)


def test_secrets_of_authenticators_are_not_in_the_database(alice: User, settings: Settings) -> None:
    row = give_totp(alice)
    assert "JBSWY3DPEHPK3PXP" not in str(row.data)
    with time_machine.travel("2026-11-22", tick=False):
        before = services.totp_now(alice)
        settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "the next one"
        assert services.totp_now(alice) == before
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(InvalidToken):
        services.totp_now(alice)


@pytest.mark.django_db(transaction=True)
def test_enrolling_is_told_announced_and_ends_the_step_up(client: Client, alice: User) -> None:
    sign_in(client, alice.email)
    client.post("/accounts/reauthenticate/", {"password": "correct horse battery staple"})
    secret = client.get("/accounts/2fa/totp/activate/").context["form"].secret
    draft = Authenticator(user=alice, type=Authenticator.Type.TOTP, data={"secret": encrypt(secret)})
    session = client.session
    session["users.stepup.proofs"] = {"totp": {}}
    session.save()
    client.post("/accounts/2fa/totp/activate/", {"code": totp.now(draft)})
    assert "users.stepup.proofs" not in client.session
    assert {event.data["type"] for event in events("users.authenticator.added")} == {"totp", "recovery_codes"}
    assert any("uthenticator" in message.subject for message in mail.outbox)


def test_nobody_enrols_on_an_older_session(client: Client, alice: User) -> None:
    sign_in(client, alice.email)
    for path in ("totp/activate/", "webauthn/add/", "recovery-codes/generate/"):
        assert client.get(f"/accounts/2fa/{path}")["Location"].startswith("/accounts/reauthenticate/"), path


def test_a_session_without_any_way_to_confirm_cannot_enrol(alice: User) -> None:
    """allauth alone would let it."""
    alice.set_unusable_password()
    alice.save()
    client = client_of(alice)
    assert client.get("/accounts/2fa/webauthn/add/")["Location"].startswith("/settings/sign-in-again/")
    assert "Sign out, then in again" in client.get("/settings/sign-in-again/").content.decode()


# Pages

PAGES = ["", "step-up/", "sign-in-again/"]
PEOPLE = ["people/", "people/invite/", "people/{pk}/"]
CHANGES = {
    "role": {"role": "auditor", "give": "1"},
    "active": {"on": "0"},
    "emergency": {"on": "1"},
    "invite-again": {},
    "reset-authenticators": {},
}


def test_every_page_is_closed_to_strangers(client: Client, alice: User) -> None:
    for path in [*PAGES, *PEOPLE]:
        response = client.get(f"/settings/{path.format(pk=alice.pk)}")
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/accounts/login/"), path
    for path in CHANGES:
        response = client.post(f"/settings/people/{alice.pk}/{path}/")
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/accounts/login/"), path


@pytest.mark.parametrize("is_auditor", [False, True])
def test_people_are_for_administrators_only(alice: User, erin: User, is_auditor: bool) -> None:
    mallory = UserFactory(name="Mallory", auditor=is_auditor)
    client = client_of(mallory)
    for path in PEOPLE:
        assert client.get(f"/settings/{path.format(pk=alice.pk)}").status_code == 404, path
    assert client.post("/settings/people/invite/", {"email": "x@example.com", "name": "X"}).status_code == 404
    for path, data in CHANGES.items():
        assert client.post(f"/settings/people/{alice.pk}/{path}/", data).status_code == 404, path
    assert not User.objects.filter(email="x@example.com").exists()


def test_roles_need_a_step_up(alice: User, erin: User) -> None:
    client = client_of(erin)
    for path in ("role", "emergency", "reset-authenticators"):
        response = client.post(f"/settings/people/{alice.pk}/{path}/", CHANGES[path])
        assert response["Location"].startswith("/settings/step-up/"), path
    assert not alice.portal_roles.exists()


def stepped_up(user: User) -> Client:
    give_totp(user)
    client = client_of(user)
    client.post("/settings/step-up/", {"code": services.totp_now(user)})
    return client


def test_an_administrator_gives_and_takes_a_role(alice: User, erin: User) -> None:
    client = stepped_up(erin)
    client.post(f"/settings/people/{alice.pk}/role/", {"role": "auditor", "give": "1"})
    assert User.objects.get(pk=alice.pk).is_auditor
    client.post(f"/settings/people/{alice.pk}/role/", {"role": "auditor", "give": "0"})
    assert not User.objects.get(pk=alice.pk).is_auditor


def test_an_administrator_does_not_change_themselves(erin: User, frank: User) -> None:
    client = stepped_up(erin)
    for path, data in {**CHANGES, "role": {"role": "administrator", "give": "0"}}.items():
        page = client.post(f"/settings/people/{erin.pk}/{path}/", data, follow=True).content.decode()
        assert "Nobody changes this for themselves" in page, path
    assert User.objects.get(pk=erin.pk).is_administrator


@pytest.mark.parametrize("data", [{}, {"role": "owner", "give": "1"}, {"role": "auditor", "give": "yes"}])
def test_nonsense_changes_nothing(alice: User, erin: User, data: dict[str, str]) -> None:
    page = stepped_up(erin).post(f"/settings/people/{alice.pk}/role/", data, follow=True)
    assert "not understood" in page.content.decode()
    assert not alice.portal_roles.exists()


def test_an_administrator_invites_keeps_out_and_lets_in(alice: User, erin: User) -> None:
    client = client_of(erin)
    client.post("/settings/people/invite/", {"email": "bob@example.com", "name": "Bob"})
    bob = User.objects.get(email="bob@example.com")
    assert not bob.has_usable_password()
    again = client.post("/settings/people/invite/", {"email": "bob@example.com", "name": "Bob"})
    assert (again.status_code, "is a user already" in again.content.decode()) == (422, True)
    for on in ("0", "1"):
        client.post(f"/settings/people/{bob.pk}/active/", {"on": on})
        assert User.objects.get(pk=bob.pk).is_active == (on == "1")


def test_people_are_found_and_filtered(alice: User, mallory: User, erin: User) -> None:
    client = client_of(erin)

    def found(**query: str) -> list[str]:
        return [user.name for user, _ in client.get("/settings/people/", query).context["rows"]]

    assert found() == ["Alice", "Erin", "Mallory"]
    assert found(q="ALI") == ["Alice"]
    assert found(q="mallory@") == ["Mallory"]
    assert found(role="administrator") == ["Erin"]
    assert found(role="'; drop table", state="x") == ["Alice", "Erin", "Mallory"]
    services.deactivate_user(user=mallory, by=erin)
    assert found(state="out") == ["Mallory"]
    assert found(state="active", q="nobody") == []


def test_the_list_pages_by_key(erin: User) -> None:
    UserFactory.create_batch(60)
    client = client_of(erin)
    first = client.get("/settings/people/").context["page"]
    second = client.get(f"/settings/people/?{first.next_url_params}").context["page"]
    assert (len(first), len(second)) == (50, 11)
    assert not {user.pk for user in first} & {user.pk for user in second}


def test_the_list_costs_the_same_for_1_and_for_20(erin: User) -> None:
    client = client_of(erin)
    client.get("/settings/people/")

    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/settings/people/")
        return len(captured)

    few = cost()
    for user in UserFactory.create_batch(20, auditor=True):
        give_totp(user)
    assert cost() == few


def test_a_person_opens_in_a_panel_and_on_a_page_of_its_own(alice: User, erin: User) -> None:
    give_totp(alice, age=timedelta(hours=1))
    client = client_of(erin)
    panel = client.get(f"/settings/people/{alice.pk}/", headers={"hx-request": "true"}).content.decode()
    page = client.get(f"/settings/people/{alice.pk}/").content.decode()
    assert panel.lstrip().startswith("<aside")
    assert "Waiting" in panel
    assert "alice@example.com" in panel
    assert "<aside" in page
    assert "<html" in page


def test_names_are_escaped(erin: User) -> None:
    UserFactory(name="<script>alert(1)</script>", email="x@example.com")
    assert b"<script>alert" not in client_of(erin).get("/settings/people/").content


def test_my_settings_show_what_counts_and_from_when(alice: User) -> None:
    give_passkey(alice, age=timedelta(hours=1))
    page = client_of(alice).get("/settings/").content.decode()
    for text in ("Laptop", "Waiting", "Counts from", "Member", "Everybody who can sign in", "Change your password"):
        assert text in page


def test_single_keys_are_switched_off_and_on(alice: User) -> None:
    client = client_of(alice)
    client.post("/settings/", {})
    assert not User.objects.get(pk=alice.pk).single_keys
    client.post("/settings/", {"single_keys": "on"})
    assert User.objects.get(pk=alice.pk).single_keys
