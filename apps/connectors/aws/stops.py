"""The organization's stop: one service control policy that was deployed beforehand, attached to the organization's root.

Attaching it is the whole stop: one call, and no administrator of a member account can undo it. Whom it denies is written
in the policy itself; ours (deploy/aws/organization.yaml) names the roles of just-in-time access, so that other standing
access, Gatehouse's own roles and break-glass go on. It does not bind the management account, nor service-linked roles (AWS
Organizations user guide, "SCP evaluation"). The ender role may attach it and nobody in Gatehouse may take it off.
Unverified live.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from apps.connectors.aws import organizations
from apps.connectors.aws.errors import code_of
from apps.connectors.aws.session import Api, session
from apps.connectors.base import Look, Proof
from apps.connectors.errors import ConnectorError, Refused, Unproven

ATTACHED_ALREADY = "DuplicatePolicyAttachmentException"


class ServiceControlPolicy:
    """Reads as the reader, attaches as the ender."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._name = str(config["stop_policy"])
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), "ender_role")

    def attach(self) -> Proof:
        """Attach it to every root, and read back that it is there. Raises `Refused` where nobody deployed it."""
        policy_id, roots = self._policy_id(), self._roots()
        for root_id in sorted(roots - self._targets(policy_id)):
            self._attach(policy_id, root_id)
        missing = roots - self._targets(policy_id)
        if missing:
            raise Unproven(f"Policy {self._name} ({policy_id}) is not attached to {', '.join(sorted(missing))} yet.")
        management = organizations.management_account_id(self._reader)
        what = (
            f"Service control policy {self._name} ({policy_id}) is attached to {', '.join(sorted(roots))}. "
            f"It does not bind the management account {management}."
        )
        return Proof(what, datetime.now(UTC), {"policy_id": policy_id, "roots": sorted(roots), "spared": management})

    def look(self) -> Look:
        policy_id = self._policy_id()
        targets = sorted(self._targets(policy_id))
        where = f"attached to {', '.join(targets)}" if targets else "attached to nothing"
        what = f"Service control policy {self._name} ({policy_id}) is {where}."
        return Look(bool(targets), Proof(what, datetime.now(UTC), {"policy_id": policy_id, "targets": targets}))

    def _attach(self, policy_id: str, root_id: str) -> None:
        try:
            self._writer.call(
                self._writer.hub_id, "organizations", "attach_policy", PolicyId=policy_id, TargetId=root_id
            )
        except ConnectorError as error:
            if code_of(error) != ATTACHED_ALREADY:
                raise

    def _policy_id(self) -> str:
        found = self._reader.items(
            self._reader.hub_id, "organizations", "list_policies", "Policies", Filter="SERVICE_CONTROL_POLICY"
        )
        ids = [str(policy["Id"]) for policy in found if policy["Name"] == self._name]
        if len(ids) != 1:
            raise Refused(f"The organization has no service control policy called {self._name}. Deploy it first.")
        return ids[0]

    def _roots(self) -> set[str]:
        found = self._reader.items(self._reader.hub_id, "organizations", "list_roots", "Roots")
        roots = {str(root["Id"]) for root in found}
        if not roots:
            raise Refused("The organization shows no root. Give the reader role organizations:ListRoots.")
        return roots

    def _targets(self, policy_id: str) -> set[str]:
        found = self._reader.items(
            self._reader.hub_id, "organizations", "list_targets_for_policy", "Targets", PolicyId=policy_id
        )
        return {str(target["TargetId"]) for target in found}
