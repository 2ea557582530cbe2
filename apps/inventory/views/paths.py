"""How somebody gets into an account, by every way there is, and what remains when one of them goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.core import paging, words
from apps.inventory import extensions, permissions
from apps.inventory import paths as ways_in
from apps.inventory.holdings import Light
from apps.inventory.models import Escalation, Identity, Tracing
from apps.inventory.models.access import Privilege
from apps.inventory.paths import AccessPath, Found
from apps.inventory.views import ways
from apps.inventory.views.common import account_asked, freshness, part, user_of

MOST_SHOWN = 50
MOST_ESCALATIONS = 20


@dataclass(frozen=True)
class Line:
    """One path in the list: its steps for `{% access_path %}`, and whether it goes with the one that was chosen."""

    path: AccessPath
    steps: list[tuple[str, str]]
    is_gone: bool = False
    is_chosen: bool = False


@dataclass(frozen=True)
class Reached:
    """One account that somebody gets into."""

    pk: int
    worst: AccessPath
    count: int
    by_role: int


@require_safe
def paths(request: HttpRequest, pk: int) -> HttpResponse:
    """Every way of one identity into one account, or the accounts that it gets into at all."""
    visible = permissions.visible_identities(user_of(request)).select_related("connection__tracing")
    identity = get_object_or_404(visible, pk=pk)
    account = account_asked(request)
    if request.GET.get("account") and (account is None or account.connection_id != identity.connection_id):
        raise Http404
    found = ways_in.find(identity, account)
    tracing: Tracing | None = getattr(identity.connection, "tracing", None)
    escalations = list(_escalations(identity, found)[: MOST_ESCALATIONS + 1])
    context = {
        "identity": identity,
        "account": account,
        "found": found,
        "tracing": tracing,
        "notes": tracing.notes if tracing else [],
        "depth": ways_in.DEPTH,
        "tabs": extensions.tabs_of(request, identity),
        "freshness": freshness([identity.connection]),
        "escalations": escalations[:MOST_ESCALATIONS],
        "are_all_escalations": len(escalations) <= MOST_ESCALATIONS,
    }
    if account is None:
        reached = _reached(found.paths)
        return render(
            request,
            "inventory/paths.html",
            {**context, "reached": reached[:MOST_SHOWN], "reached_count": len(reached)},
        )
    asked = request.GET.get("without", "")[:12]
    chosen = found.by_key(asked) if asked else None
    remaining = found.without(chosen) if chosen else None
    kept = {path.key for path in remaining.paths} if remaining else set()
    context |= {
        "picture": ways.draw(identity, account, remaining.paths if remaining else found.paths),
        "lines": [
            Line(path, _steps(identity, path), chosen is not None and path.key not in kept, path == chosen)
            for path in found.paths[:MOST_SHOWN]
        ],
        "by_role": sum(bool(path.hops) for path in found.paths),
        "chosen": chosen,
        "remaining": remaining,
        "still_title": f"{len(kept)} way{'' if len(kept) == 1 else 's'} in remain{'s' if len(kept) == 1 else ''}",
        "number": words.account_id(account.external_id),
    }
    return render(request, part(request, "inventory/paths.html", "ways"), context)


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


def _escalations(identity: Identity, found: Found) -> QuerySet[Escalation]:
    """What this identity can make of itself, as whom it is and with the permission sets that it holds."""
    principals = [pk for kind, pk in found.starts if kind == "principal"]
    sets = [pk for (kind, pk), held in found.starts.items() if kind == "set" and not _is_administrator(held[0])]
    mine = RawSQL(
        """SELECT id FROM inventory_escalation WHERE principal_id = ANY(%s::bigint[])
           UNION ALL SELECT id FROM inventory_escalation WHERE entitlement_id = ANY(%s::bigint[])""",
        [f"{{{','.join(map(str, keys))}}}" for keys in (principals, sets)],
    )
    rows = Escalation.objects.filter(pk__in=mine, connection=identity.connection_id)
    printed = rows.select_related("principal", "entitlement", "resource").only(
        "reason",
        "statement",
        "is_conditional",
        "first_seen_at",
        "principal__name",
        "entitlement__name",
        "resource__name",
    )
    return printed.order_by("steps", "is_conditional", "pk")


def _is_administrator(held: Light | None) -> bool:
    """Outright: there is nothing to make of oneself any more."""
    return held is not None and held.privilege == Privilege.ADMIN and not held.can_escalate


def _reached(found: Iterable[AccessPath]) -> list[Reached]:
    """The accounts, those with the most powerful way in first."""
    by_account: dict[int, list[AccessPath]] = {}
    for path in found:
        by_account.setdefault(path.resource_id or 0, []).append(path)
    return [Reached(pk, rows[0], len(rows), sum(bool(path.hops) for path in rows)) for pk, rows in by_account.items()]


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
