"""A list with a panel and a second page, built as an app would build them, for the tests in a browser."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path
from django.utils import timezone


def draw(name: str, request: HttpRequest, **context: Any) -> str:
    return engines["django"].from_string((Path(__file__).parent / name).read_text()).render(context, request)


def rows(request: HttpRequest, name: str = "") -> HttpResponse:
    panel = draw("panel.html", request, opened=name)
    if request.htmx and name:  # type: ignore[attr-defined]
        return HttpResponse(panel)
    now = timezone.now()
    half = timedelta(seconds=30)  # far from a full minute, so that a slow browser says the same
    return HttpResponse(
        draw(
            "rows.html",
            request,
            names=["Alpha", "Beta", "Gamma"],
            opened=name,
            panel=panel,
            risks=[("admin", "Admin"), ("read", "Read")],
            start=now - timedelta(hours=1),
            soon=now + timedelta(minutes=12) + half,
            later=now + timedelta(hours=1, minutes=47) + half,
            days=now + timedelta(days=1, hours=3, minutes=20),
        )
    )


def other(request: HttpRequest) -> HttpResponse:
    return HttpResponse(draw("other.html", request, posted=", ".join(request.POST.getlist("row"))))


urlpatterns = [
    path("", rows),
    path("rows/<str:name>/", rows),
    path("other/", other, name="other"),
    path("accounts/", include("apps.users.accounts")),
    path("settings/", include("apps.users.urls")),
]
