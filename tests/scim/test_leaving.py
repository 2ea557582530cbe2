"""An identity provider says that somebody left: all that ends with them ends in the call that says so."""

from __future__ import annotations

import pytest

from apps.audit.models import AuditEvent
from apps.grants.models import EndReason, Grant, Leaving
from apps.inventory.models import Identity, Principal
from apps.scim.models import ScimUser
from tests.factories.inventory import EntitlementFactory, PrincipalFactory
from tests.factories.users import UserFactory
from tests.scim.conftest import CORE, Provider
from tests.scim.test_people import add, person

pytestmark = pytest.mark.django_db


def test_the_call_that_says_that_somebody_left_ends_what_they_hold(okta: Provider) -> None:
    alice, user = person(okta, "alice"), UserFactory()
    Identity.objects.filter(pk=alice.pk).update(user=user)
    face = Principal.objects.filter(identity=alice).first() or PrincipalFactory(
        connection=okta.source.connection, identity=alice
    )
    grant = Grant.objects.create(
        connection=okta.source.connection,
        identity=alice,
        principal=face,
        entitlement=EntitlementFactory(connection=okta.source.connection),
        origin="request",
        provisioner="idc_assignment",
        duration="01:00:00",
        reason="Looking into it.",
        requested_by=user,
    )
    row = add(okta, "alice")
    okta.active(row, False)
    grant.refresh_from_db()
    user.refresh_from_db()
    assert grant.end_reason == EndReason.LEAVER and not user.is_active
    assert Leaving.objects.get(identity=alice).ended == {"portal sign-in": 1, "grants": 1}
    assert AuditEvent.objects.get(event="grants.leaving.noticed").actor_name == "Okta"
    okta.active(row, True)
    grant.refresh_from_db()
    assert not grant.is_live, "nothing comes back"


@pytest.mark.parametrize("how", ["taken back", "null", "left out"])
def test_who_left_comes_back_by_a_plain_word_alone(okta: Provider, how: str) -> None:
    row = add(okta, "alice")
    okta.active(row, False)
    where = f"/Users/{row['id']}"
    answer = {
        "taken back": lambda: okta.patch(where, {"op": "remove", "path": "active"}),
        "null": lambda: okta.patch(where, {"op": "replace", "path": "active", "value": None}),
        "left out": lambda: okta.call("PUT", where, {"schemas": [f"{CORE}User"], "userName": "alice", "title": "x"}),
    }[how]()
    assert answer.status_code in (200, 204), answer.content
    assert ScimUser.objects.get().active is False
    okta.active(row, True)
    assert ScimUser.objects.get().active is True
