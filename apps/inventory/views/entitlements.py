"""What can be held, what it allows, and who holds it."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.db.models import Count, Window
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST, require_safe

from apps.core import paging
from apps.inventory import extensions, permissions
from apps.inventory.forms import OwnerForm
from apps.inventory.models import Assignment, Entitlement, Principal
from apps.inventory.models.access import Privilege, by_weight
from apps.inventory.models.resources import Environment
from apps.inventory.views.common import (
    account_asked,
    address,
    connections_of,
    freshness,
    manager_only,
    part,
    reason_of,
    set_owner,
    user_of,
    visitor,
    why,
)

MOST_BROUGHT = 50
MOST_SORTED = 2000  # holders; more are shown in the order of an index, which costs the same for any number
BY_NAME, AS_INDEXED = ("principal__name", "pk"), ("entitlement_id", "principal_id", "pk")
# what is printed of what a group brings
BROUGHT = [f"entitlement__{name}" for name in ("name", "privilege", "can_escalate", "is_sensitive_read")] + [
    f"entitlement__resource__{name}" for name in ("name", "external_id")
]
SHORT_LINES = 25  # a longer statement is folded


@require_safe
def entitlements(request: HttpRequest) -> HttpResponse:
    """Everything that can be held, in the connections this user may look at."""
    user = visitor(request)
    found = permissions.visible_entitlements(user).present().select_related("resource", "owner", "group")
    query = paging.searched(request.GET)
    if query:
        found = found.filter(name__icontains=query)
    filters = {
        "kind": ("kind", Entitlement.Kind.values),
        "risk": ("privilege", Privilege.values),
        "env": ("resource__environment", Environment.values),
    }
    for name, (column, values) in filters.items():
        if request.GET.get(name) in values:
            found = found.filter(**{column: request.GET[name]})
    if request.GET.get("own") == "none":
        found = found.filter(is_ours=False)
    account = account_asked(request)
    if account:
        found = found.filter(resource=account)
    context = {
        "page": paging.page(found, request.GET, order=("name", "pk")),
        "account": account,
        "kinds": [choice for choice in Entitlement.Kind.choices if choice[0] != Entitlement.Kind.DATED_POLICY],
        "privileges": Privilege.choices,
        "environments": Environment.choices,
        "freshness": freshness(connections_of(user)),
        "sees_all": permissions.can_see_everything(user),
    }
    return render(request, part(request, "inventory/entitlements.html", "rows"), context)


@require_safe
def entitlement(request: HttpRequest, pk: int) -> HttpResponse:
    """One entitlement: what it allows and why we say so; for its owners, everyone who holds it and by which path."""
    row = _load(request, pk)
    user = user_of(request)
    context: dict[str, Any] = {
        "entitlement": row,
        "tabs": extensions.tabs_of(request, row),
        "freshness": freshness([row.connection]),
        "sees_all": permissions.can_see_everything(user),
        "can_manage": permissions.can_manage(user),
        "can_view_holders": permissions.can_view_holders(user, row),
        "owner_form": OwnerForm(initial={"owner": row.owner.email if row.owner else ""}, connection=row.connection),
    }
    if context["can_view_holders"]:
        context |= _holders(request, row)
    context["statement"] = _text(row.privilege_statement) if row.privilege_statement else ""
    context["statement_is_short"] = context["statement"].count("\n") < SHORT_LINES
    context["documents"] = [{"name": one["name"], "text": _text(one["document"])} for one in row.documents]
    if row.group:
        brought = Assignment.objects.open().filter(principal=row.group).select_related("entitlement__resource")
        context["brought"] = list(
            brought.only(*BROUGHT).order_by(by_weight("entitlement__privilege"), "pk")[:MOST_BROUGHT]
        )
        context["brought_count"] = brought.count()
    return render(request, part(request, "inventory/entitlement.html", "holders"), context)


class Holder(NamedTuple):
    """Who holds it by one removable path: an assignment to it, or a membership of a group that holds it, which `what`
    names. A plain row, with what a line prints."""

    pk: int
    principal_id: int
    entitlement_id: int
    is_standing: bool
    since: datetime
    what: str
    is_ours: bool
    login: str
    login_kind: str
    is_reserved: bool
    identity_id: int | None
    who: str | None
    title: str | None
    left_at: datetime | None

    @property
    def removable_id(self) -> int:
        return self.pk

    @property
    def is_open(self) -> bool:
        return True

    @property
    def period(self) -> DateTimeTZRange:
        return DateTimeTZRange(self.since)

    @property
    def login_word(self) -> str:
        return str(Principal.Kind(self.login_kind).label)


COLUMNS = {
    "pk": "pk",
    "principal_id": "principal_id",
    "entitlement_id": "entitlement_id",
    "is_standing": "is_standing",
    "period__startswith": "since",
    "entitlement__name": "what",
    "entitlement__is_ours": "is_ours",
    "principal__name": "login",
    "principal__kind": "login_kind",
    "principal__is_reserved": "is_reserved",
    "principal__identity": "identity_id",
    "principal__identity__name": "who",
    "principal__identity__title": "title",
    "principal__identity__ended_at": "left_at",
}


def _holders(request: HttpRequest, row: Entitlement) -> dict[str, Any]:
    """One page of them, how many there are, and the groups among them, whose members are told instead."""
    holders = Assignment.objects.holders_of(row)
    count = holders.count()
    order = BY_NAME if count <= MOST_SORTED else AS_INDEXED
    page = paging.page(holders.values(*COLUMNS), request.GET, order=order)
    rows = [Holder(**{name: found[column] for column, name in COLUMNS.items()}) for found in page.rows]
    reasons, told = extensions.reasons_for(rows), cache(why)
    person, entitlement = address("inventory:identity"), address("inventory:entitlement")
    is_baselined = row.connection.baselined_at is not None
    groups = Assignment.objects.groups_holding(row).select_related("principal").annotate(all=Window(Count("pk")))
    shown = list(groups.order_by("principal__name", "pk")[:MOST_BROUGHT])
    return {
        "page": page,
        "holders": [
            (
                one,
                told(reason_of(one, reasons, is_baselined=is_baselined)),
                person(one.identity_id),
                entitlement(one.entitlement_id),
            )
            for one in rows
        ],
        "holder_count": count,
        "groups": shown,
        "group_count": shown[0].all if shown else 0,
    }


@require_POST
def own(request: HttpRequest, pk: int) -> HttpResponse:
    """An administrator says who answers for it."""
    by, row = manager_only(request), _load(request, pk)
    return set_owner(request, row, by, or_else=f"Nobody answers for {row} but the account's owner.")


def _text(document: Any) -> str:
    """A policy document to read: indented JSON, or as it is where it is none."""
    return document if isinstance(document, str) else json.dumps(document, indent=2, ensure_ascii=False)


def _load(request: HttpRequest, pk: int) -> Entitlement:
    visible = permissions.visible_entitlements(user_of(request))
    return get_object_or_404(visible.select_related("connection", "resource__owner", "owner", "group__owner"), pk=pk)
