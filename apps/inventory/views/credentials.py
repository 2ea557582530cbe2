"""How far it still is to no static credentials at all, and which they are."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Count, Exists, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from apps.core import paging
from apps.inventory import permissions
from apps.inventory.models import Credential, Principal
from apps.inventory.models.access import STATIC, CredentialQuerySet, is_stale
from apps.inventory.views.common import account_asked, connections_of, freshness, part, visitor, who


@require_safe
def credentials(request: HttpRequest) -> HttpResponse:
    """Every key, certificate and password that works now, the oldest first."""
    user, now = visitor(request), timezone.now()
    made_before, used_before = now - timedelta(days=settings.STALE_KEY_DAYS), now - timedelta(days=settings.UNUSED_DAYS)
    visible = Credential.objects.static()
    if not permissions.can_see_everything(user):
        visible = visible.filter(principal__identity__in=permissions.visible_identities(user))
    found = _chosen(request, visible)
    if request.GET.get("stale"):
        found = found.stale(made_before, used_before)
    query, account = paging.searched(request.GET), account_asked(request)
    if query:
        found = found.filter(_whose(query))
    if account:
        found = found.filter(principal__resource=account)
    rows = _with_names(found).annotate(has_mfa=_has_mfa())
    if request.GET.get("mfa") == "none":
        rows = rows.filter(kind=Credential.Kind.PASSWORD, has_mfa=False)
    counts = _counts(visible, is_stale(made_before, used_before))
    context = {
        "page": paging.page(rows, request.GET, order=("created_at", "pk")),
        "total": sum(count for count, _ in counts.values()),
        "counts": [(Credential.Kind(kind).label, counts.get(kind, (0, 0))[0]) for kind in STATIC],
        "stale": sum(stale for _, stale in counts.values()),
        "kinds": [(kind.value, kind.label) for kind in STATIC],
        "account": account,
        "made_before": made_before,
        "used_before": used_before,
        "days": settings.STALE_KEY_DAYS,
        "freshness": freshness(connections_of(user)),
    }
    return render(request, part(request, "inventory/credentials.html", "rows"), context)


def _chosen(request: HttpRequest, rows: CredentialQuerySet) -> CredentialQuerySet:
    kind = request.GET.get("kind", "")
    return rows.filter(kind=kind) if kind in STATIC else rows


def _whose(name: str) -> Q:
    """Condition: whose name contains this. IAM users and root users alone have any, and each kind its index."""
    named = Principal.objects.present().filter(name__icontains=name)
    kinds = Principal.Kind.IAM_USER, Principal.Kind.IAM_ROOT
    return Q(*(Q(principal__in=named.filter(kind=kind)) for kind in kinds), _connector=Q.OR)


def _with_names(rows: CredentialQuerySet) -> CredentialQuerySet:
    """With what the list prints, and no more of these six tables."""
    people = "principal__identity", "principal__identity__owner", "principal__identity__successor"
    own = "kind", "external_id", "created_at", "last_used_at"
    whose = "principal__name", "principal__resource__name", "principal__resource__external_id"
    return rows.select_related(*people[1:], "principal__resource").only(*own, *whose, *who(*people))


def _has_mfa() -> Exists:
    """Whether the same login has a second factor."""
    same = Credential.objects.filter(principal=OuterRef("principal"), ended_at=None, is_active=True)
    return Exists(same.filter(kind=Credential.Kind.MFA))


def _counts(rows: CredentialQuerySet, is_stale: Q) -> dict[str, tuple[int, int]]:
    """How many there are of each kind, and how many of them are stale."""
    counted = rows.order_by().values_list("kind").annotate(count=Count("pk"), stale=Count("pk", filter=is_stale))
    return {kind: (count, stale) for kind, count, stale in counted}
