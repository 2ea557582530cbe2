"""Short-lived credentials, for those provisioners whose access is a session that somebody has to make.

Only the broker process makes any (`apps/grants/broker`). They are shown once and kept nowhere: what this module hands
out does not show its secrets when it is printed, and cannot be put into a cache, a queue or a session.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn, Protocol

from apps.connectors.base import Target


@dataclass(frozen=True, slots=True)
class Minted:
    """One session. `expires_at` is when the system stops accepting it."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime
    session_name: str
    endpoint_url: str = ""  # where it counts, if that is not the system's usual address

    def __reduce__(self) -> NoReturn:
        raise TypeError("Credentials are handed over once and are never stored.")

    __getstate__ = __reduce__


class Minter(Protocol):
    """Makes sessions in one configured system."""

    def mint(self, target: Target, not_after: datetime, *, person: str, now: datetime) -> Minted:
        """A session for the grant `target.reference` that ends at `not_after`, or sooner where the system allows no
        session that long. `person` is written into the system's own log. Raises a `ConnectorError`."""

    def require_console(self) -> None:
        """Raise `Refused` where a session cannot be opened in a console, so that none is made for one."""

    def console_url(self, minted: Minted) -> str:
        """The address that opens the system's console with this session. It is as secret as the session, and soon
        stale. Raises a `ConnectorError`."""
