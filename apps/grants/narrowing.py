"""When the database may have forgotten something, nothing opens: what may still open, and how a shared object is written
meanwhile so that no Deny is taken back that the database no longer knows.

Everything else goes on: access ends, and AWS is compared with the rows until nothing is left to take away.
"""

from __future__ import annotations

from collections.abc import Sequence

from apps.connectors.base import Examiner, Target, Window
from apps.connectors.errors import Throttled
from apps.grants.models.homes import Home, name_here


class OnlyNarrowing(Throttled):
    """Nothing opens now. The same may open later, so it is tried again."""


def reason() -> str:
    """Why nothing opens now, in a sentence that says what happens next; "" when everything may open."""
    homes = dict(Home.objects.values_list("name", "trusted_at"))
    if not homes or homes.get(name_here()):  # none is known before the clock's first tick
        return ""
    return (
        "Gatehouse only takes access away now: its database was restored, and may have forgotten something. It opens "
        "again by itself when AWS was compared with it."
    )


def require_may_open() -> None:
    """Raise `OnlyNarrowing` while nothing may open or be extended."""
    why = reason()
    if why:
        raise OnlyNarrowing(why)


def strictest(writer: object, target: Target, windows: Sequence[Window]) -> list[Window]:
    """These windows, be they none, with all that their shared object denies in AWS now and none of them asks for: written
    with that, the object takes no Deny back. `writer` is the object's provisioner, `target` any in it. Reads AWS."""
    if not isinstance(writer, Examiner):
        return list(windows)
    kept = {_line(window): window for window in writer.examine(target, windows).stricter}
    return [*(kept.pop(_line(window), window) for window in windows), *kept.values()]


def _line(window: Window) -> tuple[str, str, str]:
    target = window.target
    return target.principal_external_id, target.entitlement_external_id, target.reference
