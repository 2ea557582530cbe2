"""Pages for asking (home, the catalogue), deciding (a request, approvals) and keeping the catalogue."""

from apps.access.views.asking import ask, catalogue, home
from apps.access.views.deciding import approvals, confirm, decide, detail, withdraw
from apps.access.views.extending import extend
from apps.access.views.keeping import add_offer, new_opening, new_policy, offers, withdraw_offer

__all__ = [
    "add_offer",
    "approvals",
    "ask",
    "catalogue",
    "confirm",
    "decide",
    "detail",
    "extend",
    "home",
    "new_opening",
    "new_policy",
    "offers",
    "withdraw",
    "withdraw_offer",
]
