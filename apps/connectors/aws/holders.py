"""IAM users, roles and groups as holders of policies: how IAM's calls name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.connectors.aws.session import Api
from apps.connectors.base import Target
from apps.connectors.errors import Gone, Refused

_ARN = re.compile(r"arn:[\w-]+:iam::(\d{12}):(user|role|group)/(?:(.*)/)?([\w+=,.@-]{1,128})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Holder:
    """`word` is how operations call it (user, role, group)."""

    account_id: str
    word: str
    path: str  # "aws-reserved/sso.amazonaws.com", without the outer slashes
    name: str

    @property
    def named(self) -> dict[str, str]:
        """The parameter that names it: {"UserName": "alice"}."""
        return {f"{self.word.title()}Name": self.name}

    def require_ours_to_change(self, config: Mapping[str, Any]) -> None:
        """Raise `Refused` for the portal's own roles and for roles that AWS services own."""
        full_name = f"{self.path}/{self.name}".lstrip("/")
        own = {config[role] for role in ("reader_role", "provisioner_role", "remover_role")}
        if self.word == "role" and full_name in own:
            raise Refused(f"{full_name} is one of Gatehouse's own roles. Gatehouse does not change it.")
        if self.word == "role" and self.path.split("/")[0] in ("aws-reserved", "aws-service-role"):
            raise Refused(f"{full_name} belongs to an AWS service. Change it there.")


def holder_of(target: Target) -> Holder:
    """The user, role or group that the target's principal is. Raises `Refused` for anything else."""
    found = _ARN.fullmatch(target.principal_external_id)
    if not found or target.principal_kind != f"iam_{found[2]}" or found[1] != target.account_id:
        raise Refused(f"{target.principal_name} is not an IAM user, role or group of account {target.account_id}.")
    return Holder(found[1], found[2], found[3] or "", found[4])


def attribute(target: Target, name: str) -> str:
    """What the scan noted about the entitlement. Raises `Refused` where it is missing."""
    value = target.entitlement_attributes.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(f"{target.entitlement_name} lacks what names it in AWS ({name}). Sync first.")
    return value


def inline_document(api: Api, holder: Holder, policy_name: str) -> Any | None:
    """One inline policy, read now; None when there is none, or no such holder."""
    try:
        answer = api.call(holder.account_id, "iam", f"get_{holder.word}_policy", **holder.named, PolicyName=policy_name)
    except Gone:
        return None
    return answer["PolicyDocument"]


def unique_id(api: Api, holder: Holder) -> str:
    """The id that a holder made anew under the same name does not have. Raises `Gone`."""
    answer = api.call(holder.account_id, "iam", f"get_{holder.word}", **holder.named)
    return str(answer[holder.word.title()][f"{holder.word.title()}Id"])
