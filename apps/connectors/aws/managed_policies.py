"""The documents of managed policies. AWS's own are the same in every account, so they are read once for the fleet."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.connectors.aws import reading
from apps.connectors.aws.session import Api
from apps.connectors.base import DocumentRecord
from apps.connectors.errors import Denied

KEEP_FOR = timedelta(hours=1)
UNREADABLE = ""  # not a document: whoever judges it must say that it is unknown, never that it is harmless

_fleet: dict[str, tuple[DocumentRecord, datetime]] = {}
_fleet_lock = threading.Lock()


class ManagedPolicies:
    """Reads default versions, each once. `unreadable` collects what we may not read, as sentences."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._local: dict[str, DocumentRecord] = {}
        self.unreadable: list[str] = []

    def document(self, account_id: str, arn: str) -> DocumentRecord:
        """The default version of the policy, as seen from the account. Raises `Gone` when there is no such policy."""
        if ":iam::aws:policy/" not in arn:
            if arn not in self._local:
                self._local[arn] = self._read(account_id, arn)
            return self._local[arn]
        with _fleet_lock:
            known = _fleet.get(arn)
        if known and datetime.now(UTC) < known[1] + KEEP_FOR:
            return known[0]
        record = self._read(account_id, arn)
        if record.document != UNREADABLE:
            with _fleet_lock:
                _fleet[arn] = (record, datetime.now(UTC))
        return record

    def _read(self, account_id: str, arn: str) -> DocumentRecord:
        policy_name = reading.name(arn.rpartition("/")[2])
        try:
            return DocumentRecord(policy_name, default_document(self._api, account_id, arn)[1])
        except Denied as error:
            self.unreadable.append(str(error))
            return DocumentRecord(policy_name, UNREADABLE)


def default_document(api: Api, account_id: str, arn: str) -> tuple[str, Any]:
    """The id and the document of the version in force, read now."""
    version_id = api.call(account_id, "iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
    version = api.call(account_id, "iam", "get_policy_version", PolicyArn=arn, VersionId=version_id)["PolicyVersion"]
    return version_id, version["Document"]


def forget() -> None:
    """Read AWS's own policies anew. For tests, whose AWS forgets."""
    with _fleet_lock:
        _fleet.clear()
