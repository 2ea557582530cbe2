"""Long-lived secrets of an account's users and of its root: passwords, MFA, access keys, signing certificates. Never the
secrets themselves. What a user has for one service alone (CodeCommit, Keyspaces, Bedrock) is in no report, and not read.

From the credential report (AWS makes a new one at most every four hours) and, for users with an active key, from
ListAccessKeys, because the report does not name keys.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.connectors.aws.session import Api
from apps.connectors.base import CredentialRecord
from apps.connectors.errors import Throttled, Unreachable

ROOT = "<root_account>"
POLL_EVERY = 1.0  # seconds
MOST_POLLS = 30
SEEN_AFTER = timedelta(hours=1)  # who was made so long before a report is in it; IAM is only eventually consistent
UNREADABLE = "The credential report could not be read. It will be tried again."


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the credential report."""

    arn: str
    values: Mapping[str, str]

    def has(self, column: str) -> bool:
        return self.values.get(column, "").lower() == "true"

    def at(self, column: str) -> datetime | None:
        """An instant; None for "N/A", "no_information" and "not_supported"."""
        try:
            at = datetime.fromisoformat(self.values.get(column, ""))
        except ValueError:
            return None
        return at if at.tzinfo else at.replace(tzinfo=UTC)

    @property
    def is_root(self) -> bool:
        return self.values.get("user") == ROOT

    @property
    def has_active_key(self) -> bool:
        return self.has("access_key_1_active") or self.has("access_key_2_active")


@dataclass(slots=True)
class Report:
    """The report by ARN, and the keys of those who have an active one."""

    rows: dict[str, Row] = field(default_factory=dict)
    made_at: datetime | None = None
    keys: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def leaves_out(self, users: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """A sentence about users that it should name and does not, if there are any."""
        made_at = self.made_at
        left_out = sum(
            1
            for user in users
            if made_at and user["Arn"] not in self.rows and user["CreateDate"] < made_at - SEEN_AFTER
        )
        if left_out:
            yield f"The credential report leaves out {left_out:,} users. AWS makes a new one every four hours."

    @property
    def root(self) -> Row | None:
        return next((row for row in self.rows.values() if row.is_root), None)

    def last_used_at(self, arn: str) -> datetime | None:
        """When a password or key of this user was last used."""
        row = self.rows.get(arn)
        columns = ("password_last_used", "access_key_1_last_used_date", "access_key_2_last_used_date")
        used = [at for at in (row.at(column) for column in columns) if at] if row else []
        return max(used, default=None)


def start_report(api: Api, account_id: str) -> bool:
    """Ask for a report; True when there is one."""
    answer = api.call(account_id, "iam", "generate_credential_report")
    return bool(answer.get("State") == "COMPLETE")


def read_report(api: Api, account_id: str) -> Report:
    """The report without keys, once AWS has made it."""
    for _ in range(MOST_POLLS):
        if start_report(api, account_id):
            answer = api.call(account_id, "iam", "get_credential_report")
            return Report(_parse(answer["Content"]), answer.get("GeneratedTime"))
        time.sleep(POLL_EVERY)
    raise Throttled("AWS has not made the credential report yet. It will be tried again.")


def read_keys(api: Api, account_id: str, user_arns: Iterable[str], report: Report) -> dict[str, list[dict[str, Any]]]:
    """The keys of users who have an active one, or who are newer than the report."""
    return {
        arn: sorted(
            api.items(account_id, "iam", "list_access_keys", "AccessKeyMetadata", UserName=arn.rpartition("/")[2]),
            key=lambda key: (key["CreateDate"], key["AccessKeyId"]),
        )
        for arn in user_arns
        if arn not in report.rows or report.rows[arn].has_active_key
    }


def records_of(report: Report, known_arns: Iterable[str]) -> list[CredentialRecord]:
    """Every secret of the root and of users that still exist (the report can be hours old)."""
    known = set(known_arns)
    records: list[CredentialRecord] = []
    for arn, row in report.rows.items():
        if row.is_root or arn in known:
            records.extend(_password_and_mfa(row))
            records.extend(_certificates(row))
            if arn not in report.keys:
                records.extend(_unnamed_keys(row))
    for arn, keys in report.keys.items():
        records.extend(_named_key(arn, key, report.rows.get(arn)) for key in keys)
    return records


def _password_and_mfa(row: Row) -> Iterable[CredentialRecord]:
    if row.has("password_enabled") or row.is_root:  # the report does not say whether the root has a password
        yield CredentialRecord(
            principal_external_id=row.arn,
            kind="password",
            external_id="password",
            created_at=row.at("password_last_changed"),
            last_used_at=row.at("password_last_used"),
            attributes={"has_mfa": row.has("mfa_active")},
        )
    if row.has("mfa_active"):
        yield CredentialRecord(row.arn, "mfa", "mfa")


def _certificates(row: Row) -> Iterable[CredentialRecord]:
    """X.509 certificates that sign requests to old interfaces of AWS. The report does not say when they were last used."""
    return _numbered(row, "cert", kind="certificate", name="certificate")


def _unnamed_keys(row: Row) -> Iterable[CredentialRecord]:
    """Keys that only the report knows: inactive ones, and those of the root."""
    return _numbered(row, "access_key", kind="root_key" if row.is_root else "access_key", name="key")


def _numbered(row: Row, column: str, *, kind: str, name: str) -> Iterable[CredentialRecord]:
    """The two of a kind that the report has columns for."""
    for number in (1, 2):
        created_at = row.at(f"{column}_{number}_last_rotated")
        is_active = row.has(f"{column}_{number}_active")
        if created_at or is_active:
            yield CredentialRecord(
                principal_external_id=row.arn,
                kind=kind,
                external_id=f"{name}-{number}",
                is_active=is_active,
                created_at=created_at,
                last_used_at=row.at(f"{column}_{number}_last_used_date"),
            )


def _named_key(arn: str, key: Mapping[str, Any], row: Row | None) -> CredentialRecord:
    """A key with its id. The report tells when it was last used, and is matched by the second it was made."""
    created_at = key["CreateDate"].astimezone(UTC)
    used = {
        row.at(f"access_key_{number}_last_rotated"): row.at(f"access_key_{number}_last_used_date")
        for number in (1, 2)
        if row
    }
    return CredentialRecord(
        principal_external_id=arn,
        kind="access_key",
        external_id=key["AccessKeyId"],
        is_active=key["Status"] == "Active",
        created_at=created_at,
        last_used_at=used.get(created_at.replace(microsecond=0)),
    )


def _parse(content: bytes) -> dict[str, Row]:
    """The rows by ARN. Raises `Unreachable` where one is not whole: it may have been cut off anywhere."""
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8")), strict=True)
        columns = next(lines, [])
        rows = [Row(values["arn"], values) for line in lines for values in [dict(zip(columns, line, strict=True))]]
    except (UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        raise Unreachable(UNREADABLE) from error
    if "arn" not in columns:
        raise Unreachable(UNREADABLE)
    return {row.arn: row for row in rows}
