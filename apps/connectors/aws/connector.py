"""Reads an AWS organization: its accounts, its Identity Center, and the IAM of every account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apps.connectors.aws import iam, identity_center, organizations, rights
from apps.connectors.aws.session import Api, session
from apps.connectors.base import AccountRecord, AssignmentRecord, Checkup, Progress, Scan, unwatched

OUR_ROLES = ("reader_role", "provisioner_role", "remover_role")


class AwsConnector:
    """One organization, read as the reader role. `config` is described in `apps/connectors/aws/session.py`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def check(self) -> str:
        """Assume the reader role in our own account, and reach Organizations and Identity Center with it."""
        api = self._api()
        management_id = organizations.management_account_id(api)
        instance = identity_center.find_instance(api)
        return (
            f"Reading from account {api.hub_id} as {self._config['reader_role']}: the organization of account "
            f"{management_id}, with Identity Center {instance.arn.rpartition('/')[2]} in {self._config['region']}."
        )

    def checkup(self, progress: Progress) -> Checkup:
        return rights.checkup(session(self._config), progress)

    def accounts(self, progress: Progress = unwatched) -> list[AccountRecord]:
        return organizations.list_accounts(self._api(), progress)

    def scan_directory(self, accounts: Sequence[AccountRecord], progress: Progress) -> Iterator[Scan]:
        return identity_center.scan_directory(self._api(), self._config["guard_policy"], accounts, progress)

    def scan_account(self, account: AccountRecord, progress: Progress) -> Scan:
        return iam.scan_account(self._api(), [self._config[role] for role in OUR_ROLES], account, progress)

    def read_holders(self, kind: str, external_id: str, attributes: Mapping[str, Any]) -> list[AssignmentRecord]:
        return identity_center.read_holders(self._api(), kind, external_id, attributes)

    def _api(self) -> Api:
        """A counter of its own for every scan, so that scans in parallel do not count each other's calls."""
        return Api(session(self._config), "reader_role")
