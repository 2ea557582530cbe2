from collections.abc import Callable

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.test import RequestFactory
from django_htmx.middleware import HtmxMiddleware

from apps.core.middleware import HtmxAuthRedirect, NoStore, PermissionsPolicy
from apps.users.models import User

SIGN_IN = "/accounts/login/?next=/grants/7/part/"


def answer(to: str, status: int = 302, **headers: str) -> HttpResponse:
    """What an htmx request gets when its view redirects to `to`."""

    def view(request: HttpRequest) -> HttpResponse:
        response = HttpResponseRedirect(to)
        response.status_code = status
        response.set_cookie("sessionid", "kept")
        return response

    request = RequestFactory().get("/grants/7/part/", headers=headers)
    htmx: Callable[[HttpRequest], HttpResponse] = HtmxMiddleware(HtmxAuthRedirect(view))  # type: ignore[assignment]
    return htmx(request)


def test_an_htmx_request_that_must_sign_in_takes_the_whole_page_there_and_back() -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/grants/7/?tab=story"}
    response = answer(SIGN_IN, **headers)
    assert response.status_code == 204
    assert response["HX-Redirect"] == "/accounts/login/?next=%2Fgrants%2F7%2F%3Ftab%3Dstory"
    assert response.cookies["sessionid"].value == "kept"


@pytest.mark.parametrize("current", ["https://evil.example/grants/", "", "//evil.example/"])
def test_it_never_comes_back_to_another_site(current: str) -> None:
    response = answer(SIGN_IN, **{"HX-Request": "true", "HX-Current-URL": current})
    assert response["HX-Redirect"] == "/accounts/login/?next=%2F"


def test_what_else_the_address_says_is_kept() -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/"}
    response = answer("/accounts/reauthenticate/?max_age=0&next=/x/", **headers)
    assert response["HX-Redirect"] == "/accounts/reauthenticate/?max_age=0&next=%2F"


@pytest.mark.parametrize("to", ["/grants/8/", "https://evil.example/accounts/login/", "//evil.example/accounts/login/"])
def test_other_redirects_are_left_alone(to: str) -> None:
    response = answer(to, **{"HX-Request": "true", "HX-Current-URL": "http://testserver/"})
    assert response.status_code == 302
    assert response["Location"] == to


def test_a_plain_request_is_redirected_as_ever() -> None:
    assert answer(SIGN_IN).status_code == 302


def test_an_answer_that_is_no_redirect_is_left_alone() -> None:
    assert answer(SIGN_IN, status=200, **{"HX-Request": "true"}).status_code == 200


def respond(user: User | AnonymousUser, response: HttpResponse) -> HttpResponse:
    request = RequestFactory().get("/")
    request.user = user
    answered = NoStore(lambda _: response)(request)
    assert isinstance(answered, HttpResponse)
    return answered


def test_nothing_a_signed_in_person_sees_stays_in_a_cache() -> None:
    assert respond(User(email="alice@example.com"), HttpResponse())["Cache-Control"] == "no-store"


def test_a_view_may_say_otherwise() -> None:
    response = HttpResponse(headers={"Cache-Control": "private, max-age=60"})
    assert respond(User(email="alice@example.com"), response)["Cache-Control"] == "private, max-age=60"


def test_what_everybody_may_see_can_be_cached() -> None:
    assert "Cache-Control" not in respond(AnonymousUser(), HttpResponse())


def test_the_page_after_signing_out_is_not_stored_either() -> None:
    def sign_out(request: HttpRequest) -> HttpResponse:
        request.user = AnonymousUser()
        return HttpResponse()

    request = RequestFactory().get("/")
    request.user = User(email="alice@example.com")
    assert NoStore(sign_out)(request).headers["Cache-Control"] == "no-store"


def test_pages_may_use_passkeys_and_no_sensors() -> None:
    response = PermissionsPolicy(lambda _: HttpResponse())(RequestFactory().get("/"))
    assert "publickey-credentials-get=(self)" in response.headers["Permissions-Policy"]
    assert "camera=()" in response.headers["Permissions-Policy"]
