"""The page on which everybody reads the rules that decide about them."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apps.rules import loading

_TIERS = {
    "auto": ("At once", "Granted as soon as it is asked for. The owner is told."),
    "self": ("On your own word", "You confirm it with a passkey or from another of your devices."),
    "approval": ("With somebody's yes", "Somebody other than you decides."),
}


@require_safe
def in_force(request: HttpRequest) -> HttpResponse:
    """Every rule with its sentence, tier, cap, approvers and text, in the order in which tiers are tried."""
    ruleset = loading.in_force()
    every = list(ruleset.rules.values())
    tiers = [
        {
            "tier": tier,
            "title": title,
            "about": about,
            "rules": [r for r in every if r.is_permit and r.tiers == (tier,)],
        }
        for tier, (title, about) in _TIERS.items()
    ]
    forbids = [rule for rule in every if not rule.is_permit]
    return render(request, "rules/rules.html", {"tiers": tiers, "forbids": forbids, "digest": ruleset.digest})
