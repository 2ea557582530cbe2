"""The close-out of a grant: what it was used for, and the smaller set that would have done."""

from __future__ import annotations

import json

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.core import navigation
from apps.grants import closing, permissions
from apps.grants.models import Grant
from apps.users.models import User


@require_safe
def used_for(request: HttpRequest, pk: int) -> HttpResponse:
    """Every action that the trail shows under a grant, and how surely it belongs there."""
    grant = get_object_or_404(Grant.objects.with_names(), pk=pk)
    if not isinstance(request.user, User) or not permissions.can_see(request.user, grant):
        raise Http404
    navigation.belongs_to(request, "grants:mine" if permissions.is_holder(request.user, grant) else "grants:every")
    found = closing.close_out(grant)
    smaller = [(name, one, json.dumps(one.after, indent=2) if one.after else "") for name, one in found.smaller]
    return render(request, "grants/used_for.html", {"grant": grant, "found": found, "smaller": smaller})
