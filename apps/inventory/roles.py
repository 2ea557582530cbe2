"""The portal roles that follow from facts of the inventory, so that nobody has to give them and none goes stale."""

from __future__ import annotations

from collections.abc import Iterator

from apps.inventory import permissions
from apps.inventory.models import Identity
from apps.users.models import User
from apps.users.roles import HeldRole


def derived(user: User) -> Iterator[HeldRole]:
    """Manager, from who reports to them and who says so; entitlement owner, from what they own."""
    me = permissions.identity_of(user)
    if me is None:
        return
    reports = Identity.objects.present().filter(manager=me)
    sources = sorted(set(reports.values_list("manager_source", flat=True)))
    if sources:
        said_by = " and ".join(source or "an unnamed source" for source in sources)
        yield HeldRole("Manager", f"{reports.count()} report to them, says {said_by}")
    if permissions.owns_anything(user):
        yield HeldRole("Entitlement owner", "Named as an owner in the inventory")
