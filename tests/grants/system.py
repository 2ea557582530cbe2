"""A small world for grant tests: a fake system and the inventory rows that say what is in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone

from apps.connectors.fake_world import World, forget, world
from apps.grants import periodic, provisioning, services
from apps.grants.models import Extension, Grant, State
from apps.inventory.models import Assignment, Entitlement, Principal
from tests.factories.inventory import ConnectionFactory, EntitlementFactory, PrincipalFactory, ResourceFactory
from tests.factories.users import UserFactory

ACCOUNT = "111122223333"
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
YES = services.Authority({"tier": "auto", "cap_seconds": 8 * 3600, "rule": "read-anywhere"})


GIVES = {
    privilege: {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}
    for privilege, action in {"read": "ec2:Describe*", "write": "ec2:StopInstances", "admin": "*"}.items()
}


class System:
    """Alice and Bob, who owns the one account, with the permission sets Read and Admin."""

    def __init__(self) -> None:
        self.connection = ConnectionFactory(writable=True)
        forget(self.connection.name)
        self.world: World = world(self.connection.name)
        self.world.now = timezone.now
        self.world.add_account(ACCOUNT)
        self.account = ResourceFactory(connection=self.connection, external_id=ACCOUNT, name="production")
        self.alice = self.person("alice")
        self.bob = self.person("bob")
        self.account.owner = self.bob.identity
        self.account.save()
        self.read = self.permission_set("Read", "read")
        self.admin = self.permission_set("Admin", "admin")

    def person(self, name: str) -> Principal:
        self.world.add_user(name, department="Engineering")
        person = PrincipalFactory(connection=self.connection, external_id=name, name=name)
        person.identity.department = "Engineering"
        person.identity.user = UserFactory(name=name.capitalize())
        person.identity.save()
        return person

    def permission_set(self, name: str, privilege: str) -> Entitlement:
        record = self.world.add_permission_set(name, ACCOUNT, GIVES.get(privilege))
        return EntitlementFactory(
            connection=self.connection,
            resource=self.account,
            external_id=record.external_id,
            name=name,
            privilege=privilege,
            session_for=timedelta(hours=1),
        )

    def issue(self, who: Principal | None = None, what: Entitlement | None = None, **fields: Any) -> Grant:
        who, what = who or self.alice, what or self.read
        values: dict[str, Any] = {
            "provisioner": "idc_assignment",
            "duration": timedelta(hours=1),
            "reason": "Looking into INC-1.",
            "authority": YES,
        }
        by = who.identity.user  # type: ignore[union-attr]
        return services.issue(identity=who.identity, principal=who, entitlement=what, by=by, **{**values, **fields})

    def active(self, *args: Any, **fields: Any) -> Grant:
        """A grant that went all the way."""
        grant = self.issue(*args, **fields)
        provisioning.provision(grant.pk)
        grant.refresh_from_db()
        assert grant.state == State.ACTIVE, grant.problem
        return grant

    def holds(self, who: Principal, what: Entitlement, **fields: Any) -> Assignment:
        """Standing access, in the fake system and in the inventory."""
        self.world.assign(who.external_id, what.external_id)
        return Assignment.objects.create(
            connection=self.connection,
            principal=who,
            entitlement=what,
            period=DateTimeTZRange(timezone.now() - timedelta(days=9), None),
            is_standing=True,
            **fields,
        )

    def can_use(
        self, who: Principal | None = None, what: Entitlement | None = None, at: datetime | None = None
    ) -> bool:
        """Whether the access really works there, by the world's own account."""
        who, what = who or self.alice, what or self.read
        return self.world.can_use(who.external_id, what.external_id, at or timezone.now())

    def run_clock(self, rounds: int = 4) -> None:
        """Sweeps, and the workers each of them wakes, without Celery between them."""
        for _ in range(rounds):
            periodic.sweep()
            for shared_key in set(Grant.objects.undenied().due(timezone.now()).values_list("shared_key", flat=True)):
                provisioning.deny(shared_key)
            for grant in Grant.objects.unfinished().exclude(state=State.ACTIVE):
                (provisioning.deprovision if grant.state == State.REVOKING else provisioning.provision)(grant.pk)
            now = timezone.now()
            for extension in Extension.objects.unsettled().filter(grant__next_try_at__lte=now):
                provisioning.extend(extension.pk)
            for grant in Grant.objects.unnarrowed(now):
                provisioning.narrow(grant.pk)
            for grant in Grant.objects.uncleared(now):
                provisioning.clear(grant.pk)


def make_due() -> None:
    """Let every postponed attempt be due now."""
    Grant.objects.update(next_try_at=timezone.now() - timedelta(seconds=1))
