"""A fake organization to read, and the reading of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apps.audit import services as audit
from apps.connectors import fake_world
from apps.inventory import sync
from apps.inventory.models import Connection, SyncRun
from apps.users.models import User
from tests.factories.inventory import ConnectionFactory
from tests.factories.users import UserFactory

PROD, SANDBOX = "111122223333", "444455556666"
ADMIN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]}


def trust(**principal: object) -> dict[str, object]:
    """The attributes of a role that this principal may assume."""
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    return {"trust": {"Version": "2012-10-17", "Statement": [statement]}, "path": "/"}


@pytest.fixture
def erin(db: None) -> User:
    """She administers."""
    user: User = UserFactory(name="Erin", administrator=True)
    return user


@pytest.fixture
def org(db: None) -> Connection:
    return ConnectionFactory()


@pytest.fixture
def world(org: Connection) -> fake_world.World:
    """Two accounts; Alice and Bob in the directory; Alice is in engineers, who have Admin in prod; Bob has Read there;
    a role and a user with a key in prod."""
    world = fake_world.world(org.options["world"])
    world.add_account(PROD, "prod", path="Workloads/Production")
    world.add_account(SANDBOX, "sandbox", path="Sandbox")
    world.add_user("alice", display_name="Alice Moreau", email="alice@example.com", department="Payments")
    world.add_user("bob", display_name="Bob Lindqvist", email="bob@example.com", department="Payments")
    world.add_group("engineers", ["alice"])
    world.add_permission_set("Admin", PROD, ADMIN)
    world.add_permission_set("Read", PROD, READ)
    world.add_permission_set("Read", SANDBOX, READ)
    world.assign("engineers", f"Admin@{PROD}")
    world.assign("bob", f"Read@{PROD}")
    world.add_principal("iam_role", "deployer", account_id=PROD, attributes=trust(Service="lambda.amazonaws.com"))
    world.add_principal("iam_user", "ci", account_id=PROD)
    world.add_entitlement("iam_policy", "deploy", account_id=PROD)
    world.assign("deployer", "deploy")
    world.assign("ci", "deploy")
    return world


@pytest.fixture
def read(org: Connection, world: fake_world.World) -> Callable[[], SyncRun]:
    """Sync the organization as a worker does."""
    return lambda: sync.run(org.pk, by=audit.WORKER)
