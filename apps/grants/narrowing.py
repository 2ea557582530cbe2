"""When the database may have forgotten something, nothing opens: what may still open, and how a shared object is written
meanwhile so that no Deny is taken back that the database no longer knows.

Everything else goes on: access ends, and AWS is compared with the rows until nothing is left to take away. A comparison
cannot show that a session lives on of what was ended and forgotten, so Denies stay as long as one can live after that, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Exists, OuterRef
from django.utils import timezone

from apps.connectors.base import Examiner, Target, Window
from apps.connectors.errors import Throttled
from apps.grants.models import Reconciliation
from apps.grants.models.homes import Home, name_here
from apps.inventory.models import Connection, SyncRun

LONGEST_SESSION = timedelta(hours=1)  # that a guard has to cut: no permission set with longer ones is opened


class OnlyNarrowing(Throttled):
    """Nothing opens now. The same may open later, so it is tried again."""


def reason() -> str:
    """Why nothing opens now, in a sentence that says what happens next; "" when everything may open."""
    homes = {home.name: home for home in Home.objects.all()}
    here = homes.get(name_here())
    if not homes or (here and here.trusted_at and not is_resumed(here)):  # none is known before the clock's first tick
        return ""
    return (
        "Gatehouse only takes access away now: its database was restored, and may have forgotten something. It opens "
        "again by itself when AWS was compared with it."
    )


def is_resumed(home: Home) -> bool:
    """Whether somebody resumed a connection that was paused while all others were compared, and it was not yet. The clock
    doubts the database for it, so that it is compared as strictly; this bites before the clock ticks."""
    if home.doubted_at is None:
        return False
    read = SyncRun.objects.complete().filter(
        connection=OuterRef("connection"), started_at__gte=home.doubted_at, finished_at__lte=OuterRef("started_at")
    )
    compared = Reconciliation.objects.settled().filter(
        Exists(read),
        connection=OuterRef("pk"),
        database=home.name,
        only_reports=False,
        repairs=0,
        problems=[],
    )
    old = Connection.objects.writable().filter(created_at__lt=home.doubted_at)
    return old.exclude(Exists(compared)).exists()


def require_may_open() -> None:
    """Raise `OnlyNarrowing` while nothing may open or be extended."""
    why = reason()
    if why:
        raise OnlyNarrowing(why)


def is_watchful() -> bool:
    """Whether what was doubted is trusted again since so lately that a session may live which it has forgotten."""
    lately = timezone.now() - LONGEST_SESSION
    return Home.objects.filter(doubted_at__isnull=False, trusted_at__gt=lately).exists()


def require_may_take_back() -> None:
    """Raise `OnlyNarrowing` while no Deny may be taken back."""
    require_may_open()
    if is_watchful():
        raise OnlyNarrowing(
            "For an hour after the database is trusted again no Deny is taken back, since a session may live that it "
            "forgot. This follows by itself."
        )


def strictest(writer: object, target: Target, windows: Sequence[Window]) -> list[Window]:
    """These windows, be they none, with all that their shared object denies in AWS now and none of them asks for: written
    with that, the object takes no Deny back. `writer` is the object's provisioner, `target` any in it. Reads AWS."""
    if not isinstance(writer, Examiner):
        return list(windows)
    kept = _denied_beyond(writer, target, windows)
    return [*(kept.pop(_line(window), window) for window in windows), *kept.values()]


def with_strangers(writer: object, target: Target, windows: Sequence[Window]) -> list[Window]:
    """These windows as they are, with all that their shared object denies in AWS now to whom none of them is about."""
    if not isinstance(writer, Examiner):
        return list(windows)
    known = {_line(window) for window in windows}
    found = _denied_beyond(writer, target, windows)
    return [*windows, *(window for line, window in found.items() if line not in known)]


def _denied_beyond(writer: Examiner, target: Target, windows: Sequence[Window]) -> dict[tuple[str, str, str], Window]:
    return {_line(window): window for window in writer.examine(target, windows).stricter}


def _line(window: Window) -> tuple[str, str, str]:
    target = window.target
    return target.principal_external_id, target.entitlement_external_id, target.reference
