"""Network openings that an administrator defines: nothing that lets everybody in, and a sentence that says what it is."""

from __future__ import annotations

from typing import Any

import pytest

from apps.audit.models import AuditEvent
from apps.inventory import services
from apps.inventory.models import Entitlement, Resource
from apps.inventory.services import NotPossible
from tests.factories import inventory as make
from tests.factories.users import UserFactory

pytestmark = pytest.mark.django_db

DATABASE: dict[str, Any] = {
    "slug": "orders-db",
    "name": "Reach the orders database",
    "region": "eu-central-1",
    "group_id": "sg-0123456789abcdef0",
    "protocol": "tcp",
    "from_port": 5432,
    "to_port": 5432,
    "source": "10.1.0.0/24",
}


@pytest.fixture
def account() -> Resource:
    return make.ResourceFactory(external_id="111122223333", connection__kind="aws")


def test_it_says_what_it_lets_in_and_that_it_opens_for_a_source(account: Resource) -> None:
    erin = UserFactory(administrator=True)
    row = services.define_opening(account, by=erin, **DATABASE)
    assert (row.kind, row.privilege, row.resource) == ("network_rule", "write", account)
    assert not row.is_privileged
    for words in ("10.1.0.0/24", "sg-0123456789abcdef0", "tcp 5432", "PostgreSQL", "not for a person"):
        assert words in row.privilege_reason
    assert row.attributes["source"] == "10.1.0.0/24"
    event = AuditEvent.objects.get(event="inventory.entitlement.defined")
    assert (event.actor_name, event.data["rule"]["from_port"]) == (erin.name, 5432)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"slug": "Orders DB"}, "short name"),
        ({"slug": "x" * 61}, "short name"),
        ({"region": "eu"}, "Region"),
        ({"group_id": "sg-orders"}, "security group"),
        ({"protocol": "-1"}, "protocol"),
        ({"from_port": 0}, "port"),
        ({"from_port": 6000}, "backwards"),
        ({"to_port": 70000}, "port"),
        ({"source": "0.0.0.0/0"}, "too many"),
        ({"source": "::/0"}, "too many"),
        ({"source": "10.0.0.0/8"}, "/16 or narrower"),
        ({"source": "10.1.0.7/24"}, "first address"),
        ({"source": "'; DROP TABLE x; --"}, "no source"),
        ({"source": "sg-0123456789abcdef0"}, "itself"),
    ],
)
def test_what_is_no_rule_or_lets_too_many_in_is_refused_and_nothing_is_kept(
    account: Resource, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(NotPossible, match=says):
        services.define_opening(account, by=UserFactory(administrator=True), **{**DATABASE, **wrong})
    assert not Entitlement.objects.exists()
    assert not AuditEvent.objects.filter(event="inventory.entitlement.defined").exists()


def test_the_same_short_name_is_taken_once_an_account(account: Resource) -> None:
    erin = UserFactory(administrator=True)
    services.define_opening(account, by=erin, **DATABASE)
    with pytest.raises(NotPossible, match="already"):
        services.define_opening(account, by=erin, **DATABASE)
    services.define_opening(
        make.ResourceFactory(connection=account.connection, external_id="444455556666"), by=erin, **DATABASE
    )


def test_a_connection_says_how_wide_its_networks_are(account: Resource) -> None:
    account.connection.options = {"widest_ipv4": 24}
    account.connection.save()
    with pytest.raises(NotPossible, match="/24 or narrower"):
        services.define_opening(account, by=UserFactory(administrator=True), **{**DATABASE, "source": "10.1.0.0/23"})


def test_hostile_names_stay_text(account: Resource) -> None:
    row = services.define_opening(
        account,
        by=UserFactory(administrator=True),
        **{**DATABASE, "name": "a\u202eb\x07<script>", "description": "x\ny"},
    )
    assert row.name == "a b <script>"
    assert row.description == "x y"
