"""Lines of a ledger, and a small fake system that they are about, for tests without a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from apps.connectors import fake_world as fake
from apps.grants.ledger import Entry
from tests.grants.system import ACCOUNT, START

WORLD = "lines of a ledger"
READ = f"Read@{ACCOUNT}"


@contextmanager
def small_world() -> Iterator[fake.World]:
    """Alice, Bob and a robot in one account, and nobody holds anything."""
    fake.forget(WORLD)
    world = fake.world(WORLD)
    world.add_account(ACCOUNT)
    for person in ("alice", "bob"):
        world.add_user(person)
    world.add_permission_set("Read", ACCOUNT)
    world.add_principal("iam_user", "robot", account_id=ACCOUNT)
    world.add_entitlement("dated_policy", "logs", account_id=ACCOUNT)
    yield world
    fake.forget(WORLD)


def entry(who: str = "alice", what: str = READ, **fields: Any) -> Entry:
    """One line of a ledger, and the access it is about: an active grant of an hour."""
    world = fake.world(WORLD)
    world.assign(who, what)
    values: dict[str, Any] = {
        "number": f"G-{who}",
        "reference": f"ref-{who}",
        "state": "active",
        "holder": who,
        "connection": "AWS",
        "kind": "fake",
        "config": {"world": WORLD},
        "target": world.target(who, what),
        "provisioner": "idc_assignment",
        "shared_key": f"guard:{ACCOUNT}",
        "not_after": START + timedelta(hours=1),
    }
    return Entry(**{**values, **fields})
