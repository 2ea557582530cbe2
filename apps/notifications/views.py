"""The inbox: what was told to me, unread first."""

from __future__ import annotations

from django.db.models import BooleanField, Case, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from apps.core import paging
from apps.notifications import services
from apps.notifications.models import Delivery, Notification
from apps.users.models import User

WAS_READ = Case(When(read_at=None, then=Value(False)), default=Value(True), output_field=BooleanField())

# The app an event is of → what it looks like.
ICONS = {
    "access": "message",
    "grants": "key",
    "reviews": "clipboard-check",
    "inventory": "cloud",
    "users": "fingerprint",
}


@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """Everything that was told to me, unread first, then latest first."""
    user = _user(request)
    mine = Notification.objects.of(user)
    page = paging.page(mine.annotate(was_read=WAS_READ), request.GET, order=("was_read", "-pk"), size=25)
    for row in page:
        row.icon = ICONS.get(row.kind.partition(".")[0], "bell")
    context = {
        "page": page,
        "unread": mine.unread().count(),
        "newest": mine.values_list("pk", flat=True).first() or 0,
        "stuck": _stuck() if user.is_administrator else None,
        "kept_for": Notification.KEPT_FOR.days,
    }
    return render(request, "notifications/inbox.html", context)


@require_safe
def open_one(request: HttpRequest, pk: int) -> HttpResponse:
    """Go to what it is about; it counts as read from then on. Leads to a path of this portal and nowhere else."""
    notification = _mine(request, pk)
    services.mark_read(notification)
    is_ours = url_has_allowed_host_and_scheme(notification.url, allowed_hosts=None)
    return redirect(notification.url if is_ours else "notifications:inbox")


@require_POST
def read(request: HttpRequest, pk: int) -> HttpResponse:
    services.mark_read(_mine(request, pk))
    return redirect("notifications:inbox")


@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    shown = request.POST.get("up_to", "")
    if shown.isascii() and shown.isdigit() and len(shown) < 19:
        services.mark_all_read(by=_user(request), up_to=int(shown))
    return redirect("notifications:inbox")


def _mine(request: HttpRequest, pk: int) -> Notification:
    notification = Notification.objects.of(_user(request)).filter(pk=pk).first()
    if notification is None:
        raise Http404
    return notification


def _stuck() -> Delivery | None:
    """A mail that does not leave, so that somebody who can mend it hears of it on another way than mail."""
    return Delivery.objects.stuck(timezone.now()).order_by("-pk").first()


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # LoginRequiredMiddleware
    return request.user
