"""Roles, users and permission sets that can become each other, as rows of the inventory."""

from __future__ import annotations

from typing import Any

from apps.connectors.base import DocumentRecord, EntitlementRecord
from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Principal, Resource
from apps.inventory.sync import rows as as_rows
from tests.factories import inventory as make


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def trust(principal: Any, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **more}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


EVERYTHING = allow("*")


class Company:
    """Two accounts, prod and tools, and whoever a test puts there."""

    def __init__(self) -> None:
        self.connection: Connection = make.ConnectionFactory()
        self.prod = self.account("prod")
        self.tools = self.account("tools")

    def account(self, name: str) -> Resource:
        return make.ResourceFactory(connection=self.connection, name=name)

    def arn(self, name: str, account: Resource | None = None, kind: str = "role") -> str:
        return f"arn:aws:iam::{(account or self.prod).external_id}:{kind}/{name}"

    def root(self, account: Resource | None = None) -> dict[str, str]:
        return {"AWS": f"arn:aws:iam::{(account or self.prod).external_id}:root"}

    def role(
        self, name: str, *trusts: dict[str, Any], account: Resource | None = None, may: Any = (), **attributes: Any
    ) -> Principal:
        """A role of prod or `account`, that trusts so and whose one policy has the statements `may`."""
        account = account or self.prod
        document = policy(*(trusts or [trust({"Service": "ec2.amazonaws.com"})]))
        made = make.PrincipalFactory(
            connection=self.connection,
            iam_role=True,
            resource=account,
            external_id=self.arn(name, account),
            name=name,
            identity__name=name,
            digest=f"{name} as made",
            attributes={"trust": document, **attributes},
        )
        if may:
            self.holds(made, self.policy(f"{name}-policy", *may, account=account))
        return made

    def user(self, name: str, *may: dict[str, Any], account: Resource | None = None, **attributes: Any) -> Principal:
        account = account or self.prod
        made = make.PrincipalFactory(
            connection=self.connection,
            iam_user=True,
            resource=account,
            external_id=self.arn(name, account, "user"),
            name=name,
            digest=f"{name} as made",
            attributes=attributes,
        )
        if may:
            self.holds(made, self.policy(f"{name}-policy", *may, account=account))
        return made

    def policy(
        self, name: str, *statements: dict[str, Any], account: Resource | None = None, kind: str = "iam_policy"
    ) -> Entitlement:
        record = EntitlementRecord(kind, name, name, documents=(DocumentRecord(name, policy(*statements)),))
        account = account or self.prod
        return make.EntitlementFactory(
            connection=self.connection,
            resource=account,
            kind=kind,
            name=name,
            external_id=f"{name}@{account.external_id}",
            digest=f"{name} as made",
            documents=[{"name": name, "document": policy(*statements)}],
            attributes={"policy_arn": self.arn(name, account, "policy")} if kind == "iam_policy" else {},
            **as_rows.privilege(record),
        )

    def permission_set(self, name: str, *statements: dict[str, Any], account: Resource | None = None) -> Entitlement:
        return self.policy(name, *statements, account=account, kind="permission_set")

    def holds(self, principal: Principal, entitlement: Entitlement) -> Assignment:
        return make.AssignmentFactory(connection=self.connection, principal=principal, entitlement=entitlement)

    def person(self, name: str) -> Principal:
        return make.PrincipalFactory(connection=self.connection, external_id=name, identity__name=name)

    def group(self, name: str, *members: Principal) -> Entitlement:
        """The membership; its `group` is who holds things for the members."""
        group = make.PrincipalFactory(connection=self.connection, group=True, name=name)
        membership = make.EntitlementFactory(connection=self.connection, membership=True, group=group)
        for member in members:
            self.holds(member, membership)
        return membership

    def identity(self, principal: Principal) -> Identity:
        assert principal.identity is not None
        return principal.identity
