"""Whether the people of a grant still work here, asked of the rows as they are at this moment.

Asked by whoever is about to give something, right before: a grant that was loaded, checked and approved a second ago says
nothing about who left since.
"""

from __future__ import annotations

from django.db.models import Q

from apps.connectors.errors import Refused
from apps.grants.models import Grant
from apps.inventory.models import Identity
from apps.users.models import User


class Left(Refused):
    """Who was to hold it, or asked for it, left or was shut out of the portal. Trying again cannot help."""


def require(grant: Grant) -> None:
    """Raise `Left` unless its holder and whoever asked for it are here now. Reads anew, in one query each."""
    if not _is_holder_here(grant):
        raise Left("Whoever was to hold this has left.")
    if not _is_requester_here(grant):
        raise Left("Whoever asked for this has left.")


def is_here(grant: Grant) -> bool:
    """The same as a question."""
    return _is_holder_here(grant) and _is_requester_here(grant)


def _is_holder_here(grant: Grant) -> bool:
    if grant.identity_id is None:
        return True  # a group: whoever is in it holds it by their membership
    here = Identity.objects.present().filter(pk=grant.identity_id)
    return here.filter(Q(user=None) | Q(user__is_active=True)).exists()


def _is_requester_here(grant: Grant) -> bool:
    if grant.requested_by_id is None:
        return True
    here = User.objects.filter(pk=grant.requested_by_id, is_active=True)
    return here.filter(Q(identity=None) | Q(identity__ended_at=None)).exists()
