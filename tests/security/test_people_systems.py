"""SCIM and HR files with the database roles of the processes that serve them; and what the web's role may not do there."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from apps.inventory import periodic as inventory
from apps.inventory.models import Departure, HrFile, Identity, Principal
from apps.inventory.services import hr_files
from apps.scim import periodic
from apps.scim.models import ScimUser, Token
from apps.scim.services import people, sources
from tests.factories.inventory import PrincipalFactory
from tests.factories.users import UserFactory
from tests.scim.conftest import CORE, ENTERPRISE, Provider, erin, okta  # noqa: F401  fixtures
from tests.security.conftest import Acting

pytestmark = pytest.mark.django_db


def person(okta: Provider, name: str) -> Identity:  # noqa: F811
    known = {"external_ids": [f"00u-{name}"], "status": "enabled"}
    return PrincipalFactory(connection=okta.source.connection, external_id=name, attributes=known).identity


def test_the_web_can_serve_everything_that_an_identity_provider_says(
    okta: Provider,  # noqa: F811
    erin: Any,  # noqa: F811
    acting: Acting,
) -> None:
    alice, carol = person(okta, "alice"), person(okta, "carol")
    Identity.objects.filter(pk=alice.pk).update(user=UserFactory())
    with acting("web"):
        source = sources.add_source(name="Entra", connection=alice.connection, subject_is_external_id=True, by=erin)
        token, _ = sources.make_token(source, expires_at=None, by=erin)
        sources.revoke_token(token, by=erin)
        boss = okta.add("carol", externalId="00u-carol")
        job = {"department": "Treasury", "manager": {"value": boss["id"]}}
        user = okta.add("alice", externalId="00u-alice", title="Lead", **{ENTERPRISE: job})
        group = {"schemas": [f"{CORE}Group"], "displayName": "g", "members": [{"value": user["id"]}]}
        where = f"/Groups/{okta.call('POST', '/Groups', group).json()['id']}"
        assert okta.patch(where, {"op": "remove", "path": "members"}).status_code == 204
        assert okta.call("DELETE", where).status_code == 204
        okta.active(user, False)
        okta.active(user, True)
        row = ScimUser.objects.get(user_name="alice")
        people.unlink(row, by=erin)
        people.link(row, alice, by=erin)
        assert okta.call("DELETE", f"/Users/{user['id']}").status_code == 204
    alice = Identity.objects.get(pk=alice.pk)
    assert (alice.department, alice.manager, bool(alice.ended_at)) == ("Treasury", carol, True)


def test_a_worker_links_who_became_known_and_ends_whose_last_day_is_over(
    okta: Provider,  # noqa: F811
    acting: Acting,
) -> None:
    user = okta.add("alice", externalId="00u-alice", title="Lead")
    alice, bob = person(okta, "alice"), person(okta, "bob")
    Departure.objects.create(identity=bob, source="hr_file", said_by="hr.csv", leaves_at=timezone.now())
    with acting("worker"):
        periodic.link_waiting()
        inventory.end_departed()
    assert Identity.objects.get(pk=alice.pk).title == "Lead"
    assert Identity.objects.get(pk=bob.pk).ended_at
    okta.active(user, False)
    assert Identity.objects.get(pk=alice.pk).ended_at


def test_the_web_can_look_at_a_file_and_apply_it(
    okta: Provider,  # noqa: F811
    erin: Any,  # noqa: F811
    acting: Acting,
) -> None:
    alice = person(okta, "alice")
    content = f"email,title,last day\n{alice.email},Lead,2026-01-31\n".encode()
    with acting("web"):
        hr_files.apply(hr_files.look_at(alice.connection, [content], name="hr.csv", by=erin), by=erin)
    assert Identity.objects.get(pk=alice.pk).ended_at


def test_the_web_can_neither_change_what_was_looked_at_nor_a_token_nor_what_aws_shows(
    okta: Provider,  # noqa: F811
    erin: Any,  # noqa: F811
    acting: Acting,
) -> None:
    alice = person(okta, "alice")
    hr_files.look_at(alice.connection, [f"email,title\n{alice.email},Lead\n".encode()], name="hr.csv", by=erin)
    for change in (
        lambda: HrFile.objects.update(changes=[]),
        lambda: HrFile.objects.update(needs_second=False),
        lambda: Token.objects.update(digest="0" * 64),
        lambda: Token.objects.update(expires_at=None),
        lambda: Principal.objects.update(attributes={"external_ids": ["00u-mallory"]}),
    ):
        with acting("web"), pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            change()
