"""For administrators: which identity providers may speak, with which tokens, and who their users are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.core import paging
from apps.core.refusals import NotPossible
from apps.inventory.views.common import try_to
from apps.scim import permissions
from apps.scim.documents import key_of
from apps.scim.forms import LinkForm, SourceForm, TokenForm
from apps.scim.models import ScimGroup, ScimUser, Source, Token
from apps.scim.services import people
from apps.scim.services import sources as services
from apps.users import stepup
from apps.users.models import User

FRESH = timedelta(minutes=15)
View = Callable[..., HttpResponse]
with_passkey = stepup.required(within=FRESH, privileged=True)


def administrators(view: View) -> View:
    """Others do not learn that the page exists."""

    @wraps(view)
    def administered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not permissions.can_manage(cast("User", request.user)):
            raise Http404
        return view(request, *args, **kwargs)

    return administered


@require_http_methods(["GET", "POST"])
@administrators
def sources(request: HttpRequest) -> HttpResponse:
    """Every identity provider; a new one."""
    form = SourceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if not stepup.has_fresh(request, within=FRESH, privileged=True):
            return stepup.ask(request, privileged=True)
        try:
            return redirect(services.add_source(**form.cleaned_data, by=cast("User", request.user)))
        except NotPossible as error:
            form.add_error("name", str(error))
    rows = Source.objects.select_related("connection").annotate(
        users=_count(ScimUser.objects.all()),
        unlinked=_count(ScimUser.objects.unlinked()),
        used_at=Max("tokens__last_used_at"),
    )
    status = 422 if form.errors else 200
    return render(request, "scim/sources.html", {"sources": rows, "form": form}, status=status)


@require_safe
@administrators
def source(request: HttpRequest, pk: int) -> HttpResponse:
    """One identity provider: where it calls, its tokens, its users."""
    return _page(request, _load(pk))


@require_POST
@administrators
@with_passkey
def make_token(request: HttpRequest, pk: int) -> HttpResponse:
    """A new token. Its secret is in this one answer, and nowhere else."""
    row, form = _load(pk), TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, row, status=422, token_form=form)
    try:
        token, secret = services.make_token(row, expires_at=form.cleaned_data["expires"], by=cast("User", request.user))
    except NotPossible as error:
        messages.error(request, str(error))
        return redirect(row)
    response = _page(request, row, new_token=token, secret=secret)
    response.headers["Cache-Control"] = "no-store"
    return response


@require_POST
@administrators
def revoke_token(request: HttpRequest, pk: int, token_id: int) -> HttpResponse:
    """It works no more. Nobody is asked to confirm with a passkey first: taking away is never made harder."""
    row = _load(pk)
    token = get_object_or_404(Token, pk=token_id, source=row)
    try_to(request, lambda: services.revoke_token(token, by=request.user), f"Token {token.prefix} opens nothing now.")
    return redirect(row)


@require_POST
@administrators
@with_passkey
def link(request: HttpRequest, pk: int, user_id: int) -> HttpResponse:
    """This user is that person."""
    row = _load(pk)
    user = get_object_or_404(ScimUser, pk=user_id, source=row)
    form = LinkForm(request.POST, connection=row.connection)
    if not form.is_valid():
        messages.error(request, " ".join(str(error) for error in form.errors.get("person", [])))
        return redirect(row)
    person = form.cleaned_data["person"]
    try_to(request, lambda: people.link(user, person, by=request.user), f"{user} is {person}.")
    return redirect(row)


@require_POST
@administrators
@with_passkey
def unlink(request: HttpRequest, pk: int, user_id: int) -> HttpResponse:
    """This user is somebody else."""
    row = _load(pk)
    user = get_object_or_404(ScimUser, pk=user_id, source=row)
    try_to(request, lambda: people.unlink(user, by=request.user), f"{user} is linked to nobody now.")
    return redirect(row)


def _page(request: HttpRequest, row: Source, *, status: int = 200, **more: Any) -> HttpResponse:
    asked, typed = request.GET.get("show", ""), paging.searched(request.GET)
    users = ScimUser.objects.filter(source=row).select_related("identity")
    users = users.filter(identity__isnull=False) if asked == "linked" else users.filter(identity=None, active=True)
    if typed:
        users = users.filter(user_name_key__startswith=key_of(typed))
    mine = ScimUser.objects.filter(source=row)
    context = {
        "source": row,
        "base_url": f"{settings.BASE_URL}/scim/v2",
        "tokens": list(row.tokens.select_related("created_by", "revoked_by")[:20]),
        "token_form": TokenForm(),
        "counts": mine.aggregate(
            everybody=Count("pk"),
            linked=Count("identity"),
            present=Count("pk", filter=Q(active=True)),
            waiting=Count("pk", filter=Q(active=True, identity=None)),
        ),
        "groups": ScimGroup.objects.filter(source=row).count(),
        "page": paging.page(users, request.GET, order=("user_name_key", "pk")),
        "show": "linked" if asked == "linked" else "",
        "q": typed,
        "is_overlapping": row.tokens.live(timezone.now()).count() >= Token.MOST_LIVE,
        **more,
    }
    return render(request, "scim/source.html", context, status=status)


def _load(pk: int) -> Source:
    return get_object_or_404(Source.objects.select_related("connection"), pk=pk)


def _count(rows: QuerySet[Any]) -> Coalesce:
    """How many of `rows` each source has, in a subquery of its own."""
    each = rows.filter(source=OuterRef("pk")).order_by().values("source").annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(each), 0)
