"""Who may sign in, and how. Everything that is not open is closed."""

from __future__ import annotations

import re

import pytest
from allauth.account.adapter import get_adapter
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from pytest_django import Settings

from apps.users.models import PortalRole, User
from tests.users.conftest import PASSWORD, client_of, events, give_totp, is_signed_in, make_person, sign_in

pytestmark = pytest.mark.django_db


def test_somebody_signs_in_with_address_and_password(client: Client, alice: User) -> None:
    assert sign_in(client, "ALICE@example.com").status_code == 302
    assert is_signed_in(client)
    [event] = events("users.user.signed_in")
    assert (event.actor_name, event.data["method"]) == ("Alice", "password")


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(client: Client, alice: User) -> None:
    wrong, unknown = sign_in(client, alice.email, "wrong"), sign_in(client, "nobody@example.com", "wrong")
    errors = [list(response.context["form"].non_field_errors()) for response in (wrong, unknown)]
    assert errors[0] == errors[1] != []
    assert not is_signed_in(client)


def test_guessing_passwords_is_stopped(client: Client, alice: User) -> None:
    for _ in range(5):
        sign_in(client, alice.email, "wrong")
    response = sign_in(client, alice.email)
    assert "Too many" in response.content.decode()
    assert not is_signed_in(client)


def test_nobody_signs_up(client: Client) -> None:
    response = client.post(
        "/accounts/signup/", {"email": "mallory@example.com", "password1": PASSWORD, "password2": PASSWORD}
    )
    assert "account/signup_closed.html" in [template.name for template in response.templates]
    assert not User.objects.exists()


def test_an_unverified_address_does_not_get_in(client: Client, alice: User) -> None:
    EmailAddress.objects.update(verified=False)
    assert sign_in(client, alice.email)["Location"] == "/accounts/confirm-email/"
    assert not is_signed_in(client)


def test_somebody_who_is_kept_out_does_not_get_in(client: Client, alice: User) -> None:
    User.objects.update(is_active=False)
    sign_in(client, alice.email)
    assert not is_signed_in(client)


@pytest.mark.parametrize(
    "path", ["email/", "3rdparty/", "3rdparty/signup/", "login/code/confirm/", "social/connections/"]
)
def test_closed_addresses_are_not_there_for_anybody(path: str, client: Client, alice: User) -> None:
    for visitor in (client, client_of(alice)):
        assert visitor.get(f"/accounts/{path}").status_code == 404
        assert visitor.post(f"/accounts/{path}", {"action_add": "", "email": "mallory@example.com"}).status_code == 404


def test_no_address_is_added_or_removed_even_without_the_page(alice: User) -> None:
    assert not EmailAddress.objects.can_add_email(alice)
    assert not get_adapter().can_delete_email(alice.emailaddress_set.get())


def test_the_django_admin_is_not_there(client: Client, erin: User) -> None:
    assert client_of(erin).get("/admin/").status_code == 404


def test_the_first_administrator_signs_in_at_once(client: Client) -> None:
    User.objects.create_superuser("erin@example.com", PASSWORD, name="Erin")
    sign_in(client, "erin@example.com")
    assert is_signed_in(client)
    user = User.objects.get()
    assert user.is_administrator
    assert user.portal_roles.get().source == "first administrator"
    assert [event.actor_kind for event in events("users.user.first_administrator")] == ["command"]


def test_createsuperuser_makes_the_first_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    call_command("createsuperuser", email="erin@example.com", name="Erin", interactive=False, verbosity=0)
    assert PortalRole.objects.get().user.check_password(PASSWORD)


def test_a_forgotten_password_is_reset_by_mail_and_told_to_the_audit_log(client: Client, alice: User) -> None:
    client.post("/accounts/password/reset/", {"email": alice.email})
    [message] = mail.outbox
    link = re.search(r"/accounts/password/reset/key/\S+", message.body)
    assert link
    form = client.get(link[0])["Location"]
    client.post(form, {"password1": "another good long one", "password2": "another good long one"})
    alice.refresh_from_db()
    assert alice.check_password("another good long one")
    assert len(events("users.user.password_reset")) == 1


def test_nobody_is_told_whether_an_address_exists(client: Client, alice: User) -> None:
    known = client.post("/accounts/password/reset/", {"email": alice.email})
    unknown = client.post("/accounts/password/reset/", {"email": "nobody@example.com"})
    assert (known.status_code, known["Location"]) == (unknown.status_code, unknown["Location"])
    assert [message.to for message in mail.outbox] == [[alice.email]]


# With single sign-on


@pytest.fixture
def sso(settings: Settings) -> None:
    settings.OIDC_ISSUER = "https://login.example.com"


@pytest.mark.usefixtures("sso")
def test_passwords_are_for_emergency_users_only(client: Client, alice: User) -> None:
    response = sign_in(client, alice.email)
    wrong = sign_in(client, alice.email, "wrong")
    assert response.context["form"].non_field_errors() == wrong.context["form"].non_field_errors()
    assert not is_signed_in(client)


@pytest.mark.usefixtures("sso")
def test_an_emergency_sign_in_is_loud(client: Client) -> None:
    make_person("Erin", administrator=True, is_emergency=True)
    sign_in(client, "erin@example.com")
    assert is_signed_in(client)
    [event] = events("users.user.emergency_sign_in")
    assert event.data["method"] == "password"
    assert not events("users.user.signed_in")


@pytest.mark.usefixtures("sso")
def test_a_password_reset_is_for_emergency_users_only(client: Client, alice: User) -> None:
    client.post("/accounts/password/reset/", {"email": alice.email})
    assert mail.outbox == []
    with pytest.raises(PermissionDenied):
        get_adapter().set_password(alice, "another good long one")


@pytest.mark.usefixtures("sso")
def test_a_passkey_is_no_way_round_single_sign_on(client: Client, alice: User) -> None:
    request = client.get("/accounts/login/").wsgi_request
    response = get_adapter(request).pre_login(
        request, alice, email_verification="none", signal_kwargs=None, email=None, signup=False, redirect_url=None
    )
    assert response["Location"] == "/accounts/login/"


# Second step


def test_whoever_has_an_authenticator_is_asked_for_it(client: Client, alice: User) -> None:
    give_totp(alice)
    assert sign_in(client, alice.email)["Location"] == "/accounts/2fa/authenticate/"
    assert not is_signed_in(client)


# Every allauth address is known here: what a new version adds must be looked at before it is open.

OPEN = {
    "account_login", "account_logout", "account_inactive", "account_signup", "account_reauthenticate",
    "account_email_verification_sent", "account_confirm_email", "account_change_password", "account_set_password",
    "account_reset_password", "account_reset_password_done", "account_reset_password_from_key",
    "account_reset_password_from_key_done", "mfa_index", "mfa_authenticate", "mfa_reauthenticate", "mfa_list_webauthn",
    "mfa_reauthenticate_webauthn", "mfa_login_webauthn", "usersessions_list", "openid_connect_login",
    "openid_connect_callback", "socialaccount_login_cancelled", "socialaccount_login_error",
}  # fmt: skip
FRESH_ONLY = {
    "mfa_activate_totp", "mfa_deactivate_totp", "mfa_add_webauthn", "mfa_remove_webauthn", "mfa_edit_webauthn",
    "mfa_view_recovery_codes", "mfa_generate_recovery_codes", "mfa_download_recovery_codes",
}  # fmt: skip
CLOSED = {"account_email", "account_confirm_login_code", "socialaccount_connections", "socialaccount_signup"}


def names(resolver: URLResolver) -> set[str]:
    found: set[str] = set()
    for each in resolver.url_patterns:
        found |= names(each) if isinstance(each, URLResolver) else {each.name or ""}
    return found


def test_every_address_of_allauth_is_open_on_purpose() -> None:
    [accounts] = [each for each in get_resolver().url_patterns if str(each.pattern) == "accounts/"]
    assert isinstance(accounts, URLResolver)
    first = {each.name for each in accounts.url_patterns if isinstance(each, URLPattern) and each.name}
    assert first == FRESH_ONLY | CLOSED
    assert names(accounts) - {""} == OPEN | FRESH_ONLY | CLOSED
