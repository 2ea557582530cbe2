"""The documents of managed policies. AWS's own are the same in every account, so they are read once for the fleet."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.connectors.aws import reading
from apps.connectors.aws.session import Api
from apps.connectors.base import DocumentRecord
from apps.connectors.errors import Denied

KEEP_FOR = timedelta(hours=1)  # how long we believe that the same version is in force
UNREADABLE = ""  # not a document: whoever judges it must say that it is unknown, never that it is harmless


@dataclass(frozen=True, slots=True)
class _Kept:
    """One of AWS's own policies: which version was in force when somebody last asked, and what it says."""

    version_id: str
    record: DocumentRecord
    asked_at: datetime


_fleet: dict[str, _Kept] = {}
_fleet_lock = threading.Lock()
_asking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


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
            asking = _asking[arn]
        with asking:  # accounts are read at the same time: one asks, the others wait for its answer
            return self._of_the_fleet(account_id, arn)

    def _of_the_fleet(self, account_id: str, arn: str) -> DocumentRecord:
        """Asks which version is in force at most once in a while, and for the document of a version once."""
        known, now = _fleet.get(arn), datetime.now(UTC)
        if known and now < known.asked_at + KEEP_FOR:
            return known.record
        policy_name = reading.name(arn.rpartition("/")[2])
        try:
            version_id = _default_version_id(self._api, account_id, arn)
            if known and known.version_id == version_id:
                _fleet[arn] = replace(known, asked_at=now)
            else:
                document = _document(self._api, account_id, arn, version_id)
                _fleet[arn] = _Kept(version_id, DocumentRecord(policy_name, document), now)
        except Denied as error:
            self.unreadable.append(str(error))
            return DocumentRecord(policy_name, UNREADABLE)
        return _fleet[arn].record

    def _read(self, account_id: str, arn: str) -> DocumentRecord:
        policy_name = reading.name(arn.rpartition("/")[2])
        try:
            return DocumentRecord(policy_name, default_document(self._api, account_id, arn)[1])
        except Denied as error:
            self.unreadable.append(str(error))
            return DocumentRecord(policy_name, UNREADABLE)


def default_document(api: Api, account_id: str, arn: str) -> tuple[str, Any]:
    """The id and the document of the version in force, read now."""
    version_id = _default_version_id(api, account_id, arn)
    return version_id, _document(api, account_id, arn, version_id)


def _default_version_id(api: Api, account_id: str, arn: str) -> str:
    return str(api.call(account_id, "iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"])


def _document(api: Api, account_id: str, arn: str, version_id: str) -> Any:
    answer = api.call(account_id, "iam", "get_policy_version", PolicyArn=arn, VersionId=version_id)
    return answer["PolicyVersion"]["Document"]


def forget() -> None:
    """Read AWS's own policies anew. For tests, whose AWS forgets."""
    with _fleet_lock:
        _fleet.clear()
