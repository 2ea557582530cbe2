"""How somebody gets into an account, by every way there is, and what remains when one of them goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.core import paging, words
from apps.inventory import extensions, lines, permissions
from apps.inventory import paths as ways_in
from apps.inventory.chains import AccessPath
from apps.inventory.models import Identity, Resource, Tracing
from apps.inventory.paths import Everywhere, Found
from apps.inventory.views import ways
from apps.inventory.views.common import account_asked, freshness, part, user_of

MOST_SHOWN = 25  # of accounts or ways on one page
MOST_ESCALATIONS = 10


@dataclass(frozen=True)
class Line:
    """One path in the list: its steps for `{% access_path %}`, the statement that its reason rests on, and whether it goes
    with the one that was chosen."""

    path: AccessPath
    key: str
    steps: list[tuple[str, str]]
    cause: lines.Cause | None
    is_gone: bool = False
    is_chosen: bool = False


@require_safe
def paths(request: HttpRequest, pk: int) -> HttpResponse:
    """Every way of one identity into one account, or the accounts that it gets into at all."""
    visible = permissions.visible_identities(user_of(request)).select_related("connection__tracing")
    identity = get_object_or_404(visible, pk=pk)
    account = account_asked(request)
    if request.GET.get("account") and (account is None or account.connection_id != identity.connection_id):
        raise Http404
    tracing: Tracing | None = getattr(identity.connection, "tracing", None)
    context = {
        "identity": identity,
        "account": account,
        "tracing": tracing,
        "notes": tracing.notes if tracing else [],
        "depth": ways_in.DEPTH,
        "tabs": extensions.tabs_of(request, identity),
        "freshness": freshness([identity.connection]),
        **(_into(request, identity, account) if account else _everywhere(request, identity)),
    }
    return render(
        request, part(request, "inventory/paths.html", "ways") if account else "inventory/paths.html", context
    )


def _everywhere(request: HttpRequest, identity: Identity) -> dict[str, object]:
    """What the page shows of all accounts."""
    found = ways_in.everywhere(identity)
    page = _window(request, found.accounts)
    reached = replace(page, rows=[found.reached(account) for account in page])
    return {"found": found, "reached": reached, "reached_count": len(found.accounts), **_up(identity, found)}


def _into(request: HttpRequest, identity: Identity, account: Resource) -> dict[str, object]:
    """What it shows of one account, as it is or without one way."""
    found = ways_in.find(identity, account)
    asked = request.GET.get("without", "")[:12]
    chosen = found.by_key(asked) if asked else None
    remaining = found.without(chosen) if chosen else None
    kept = {path.key for path in remaining.paths} if remaining else set()
    page = _window(request, found.paths)
    query = request.GET.copy()
    query.pop("without", None)
    rows = [
        Line(path, path.key, _steps(identity, path), cause, chosen is not None and path.key not in kept, path == chosen)
        for path, cause in zip(page, lines.causes(page.rows), strict=True)
    ]
    return {
        "found": found,
        "picture": ways.draw(identity, account, remaining.paths if remaining else found.paths),
        "page": replace(page, rows=rows),
        "by_role": sum(bool(path.hops) for path in found.paths),
        "without": f"?{query.urlencode()}&without=",
        "chosen": chosen,
        "remaining": remaining,
        "still_title": f"{len(kept)} way{'' if len(kept) == 1 else 's'} in remain{'s' if len(kept) == 1 else ''}",
        "number": words.account_id(account.external_id),
        **_up(identity, found),
    }


def _up(identity: Identity, found: Found | Everywhere) -> dict[str, object]:
    """What they can make of themselves, as whom they are and with the permission sets that they hold."""
    principals, sets = found.acts_as
    rows = lines.escalations(identity.connection_id, principals=principals, sets=sets, most=MOST_ESCALATIONS + 1)
    return {"escalations": rows[:MOST_ESCALATIONS], "are_all_escalations": len(rows) <= MOST_ESCALATIONS}


def _window(request: HttpRequest, rows: Sequence[Any]) -> paging.Page:
    """So many of the rows that were worked out, by the number of the page."""
    number = paging.number_of(request.GET, last=max(len(rows) - 1, 0) // MOST_SHOWN)
    start, end = number * MOST_SHOWN, (number + 1) * MOST_SHOWN
    return paging.numbered(rows[start:end], request.GET, number, has_next=end < len(rows))


@require_safe
def account_paths(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody to look at: whose ways into this account are asked for."""
    user = user_of(request)
    account = get_object_or_404(permissions.visible_resources(user).select_related("connection"), pk=pk)
    people = permissions.visible_identities(user).present().filter(connection=account.connection_id)
    query = paging.searched(request.GET)
    if query:
        people = people.filter(Q(name__icontains=query) | Q(email__icontains=query))
    if request.GET.get("kind") in Identity.Kind.values:
        people = people.filter(kind=request.GET["kind"])
    context = {
        "account": account,
        "kinds": Identity.Kind.choices,
        "page": paging.page(people, request.GET, order=("name", "pk"), size=25),
        "tabs": extensions.tabs_of(request, account),
        "freshness": freshness([account.connection]),
    }
    return render(request, part(request, "inventory/account_paths.html", "rows"), context)


def _steps(identity: Identity, path: AccessPath) -> list[tuple[str, str]]:
    """The path as icons and words, from who to where."""
    steps = [("user" if identity.is_human else "robot", identity.name)]
    if path.held:
        if path.held.via_id:
            steps.append(("users-group", path.held.via_name))
        place = f" in {path.held.account_name}" if path.held.account_name and path.hops else ""
        steps.append(("key", f"{path.held.name}{place}"))
    steps += [("hierarchy-3", f"{hop.role.name} in {hop.role.account_name}") for hop in path.hops]
    return steps
