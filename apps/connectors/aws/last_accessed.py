"""What IAM itself says a principal last accessed ("service last accessed information", reference/aws.md §4).

A job is made and its result fetched by the same session, since AWS shows it to nobody else. It reaches back about 400 days,
lags by up to four hours, counts attempts that were denied, and knows nothing of PassRole and of data events of S3.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.reading import name
from apps.connectors.aws.session import Api, session
from apps.connectors.errors import Refused, Throttled, Unproven
from apps.connectors.trail import LastUse

TRIES = 20  # AWS takes some seconds
PAUSE = 1.5  # seconds
ITEMS = 100


class LastAccessed:
    """Reports of one configured connection, asked for one after another as the reader role."""

    def __init__(self, config: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep) -> None:
        self._api = Api(session(config), "reader_role")
        self._sleep = sleep

    def of(self, account_id: str, arn: str) -> list[LastUse]:
        """Services that the principal may use or used, and the actions of those that AWS tracks so closely."""
        job = self._api.call(
            account_id, "iam", "generate_service_last_accessed_details", Arn=arn, Granularity="ACTION_LEVEL"
        )["JobId"]
        return [use for page in self._pages(account_id, job) for use in _uses(page)]

    def _pages(self, account_id: str, job: str) -> Iterator[dict[str, Any]]:
        page = self._finished(account_id, job)
        seen = set[str]()
        while True:
            yield page
            marker = page.get("Marker", "")
            if not page.get("IsTruncated"):
                return
            if not marker or marker in seen:
                raise Unproven(f"iam:GetServiceLastAccessedDetails in account {account_id} repeats its pages.")
            seen.add(marker)
            page = self._get(account_id, job, Marker=marker)

    def _finished(self, account_id: str, job: str) -> dict[str, Any]:
        for _ in range(TRIES):
            page = self._get(account_id, job)
            if page["JobStatus"] == "COMPLETED":
                return page
            if page["JobStatus"] == "FAILED":
                said = name((page.get("Error") or {}).get("Message"))
                raise Refused(f"AWS could not make the report of last accesses in account {account_id}. {said}".strip())
            self._sleep(PAUSE)
        raise Throttled(f"The report of last accesses in account {account_id} is not ready yet. It is asked for again.")

    def _get(self, account_id: str, job: str, **more: str) -> dict[str, Any]:
        return self._api.call(account_id, "iam", "get_service_last_accessed_details", JobId=job, MaxItems=ITEMS, **more)


def _uses(page: Mapping[str, Any]) -> Iterator[LastUse]:
    known = catalogue()
    for service in page.get("ServicesLastAccessed", ()):
        prefix = name(service.get("ServiceNamespace"))[:64]
        yield LastUse(prefix, at=_utc(service.get("LastAuthenticated")))
        for action in service.get("TrackedActionsLastAccessed") or ():
            said = f"{prefix}:{name(action.get('ActionName'))}"
            yield LastUse(
                prefix, next(known.actions(known.expand(said)), said[:200]), _utc(action.get("LastAccessedTime"))
            )


def _utc(at: datetime | None) -> datetime | None:
    return at.astimezone(UTC) if at else None
