"""How people use what was opened for them: console links and profiles for the AWS command line, without any secret.

Everything is put together from validated ids, since it is copied into terminals and followed as a link. Addresses: the
IAM user guide, "Granting permissions to switch roles" (the switch-role link), and the Identity Center user guide,
"Creating shortcut links to AWS Management Console destinations". Profiles: the AWS CLI user guide, "Configuration and
credential file settings".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from apps.connectors.base import WayIn

SIGN_IN = {
    "aws": "https://signin.aws.amazon.com",
    "aws-us-gov": "https://signin.amazonaws-us-gov.com",
    "aws-cn": "https://signin.amazonaws.cn",
}

_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_NAME = re.compile(r"[\w+=,.@/-]{1,128}", re.ASCII)
_START_URL = re.compile(r"https://[a-z0-9.-]+/start/?", re.ASCII)


def partition_of(region: str) -> str:
    """The second word of every ARN in this Region."""
    return next((f"aws-{part}" for part in ("cn", "us-gov") if region.startswith(f"{part}-")), "aws")


def to_role(config: Mapping[str, Any], account_id: str, role: str, shown_as: str) -> tuple[WayIn, ...]:
    """Ways into a role, "jit/jit-abc", that sessions of the entry permission set may assume."""
    entry = str(config.get("entry_permission_set", ""))
    if not _are_plain(account_id, role, shown_as, entry):
        return ()
    partition = partition_of(config["region"])
    asked = urlencode({"account": account_id, "roleName": role, "displayName": shown_as}, quote_via=quote, safe="/")
    profile = [
        f"[profile {shown_as}]",
        f"role_arn = arn:{partition}:iam::{account_id}:role/{role}",
        f"source_profile = {entry}-{account_id}",
        "",
        *_sso_profile(config, account_id, entry),
    ]
    return (
        WayIn("console", f"Switch role, from {entry} in the console", f"{SIGN_IN[partition]}/switchrole?{asked}"),
        WayIn("cli", f"Profiles for the AWS command line, used with --profile {shown_as}", "\n".join(profile)),
    )


def to_permission_set(config: Mapping[str, Any], account_id: str, name: str) -> tuple[WayIn, ...]:
    """Ways into a permission set in an account."""
    if not _are_plain(account_id, name):
        return ()
    profile = WayIn(
        "cli",
        f"A profile for the AWS command line, used with --profile {name}-{account_id}",
        "\n".join(_sso_profile(config, account_id, name)),
    )
    start_url = _start_url(config)
    if not start_url:
        return (profile,)
    asked = urlencode({"account_id": account_id, "role_name": name}, quote_via=quote)
    return (WayIn("console", "Open the console", f"{start_url}/#/console?{asked}"), profile)


def _sso_profile(config: Mapping[str, Any], account_id: str, permission_set: str) -> list[str]:
    start_url = _start_url(config)
    return [
        f"[profile {permission_set}-{account_id}]",
        f"sso_start_url = {start_url}" if start_url else "# sso_start_url = the address of your access portal",
        f"sso_region = {config['region']}",
        f"sso_account_id = {account_id}",
        f"sso_role_name = {permission_set}",
    ]


def _start_url(config: Mapping[str, Any]) -> str:
    found = str(config.get("start_url") or "")
    return found.rstrip("/") if _START_URL.fullmatch(found) else ""


def _are_plain(account_id: str, *names: str) -> bool:
    return bool(_ACCOUNT_ID.fullmatch(account_id)) and all(_NAME.fullmatch(name) for name in names)
