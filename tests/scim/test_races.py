"""Two calls about the same user or group at once."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, transaction

from apps.scim.models import Token
from apps.scim.protocol import PROVIDER
from apps.scim.storage import Storage
from tests.reviews.test_races import elsewhere
from tests.scim.conftest import CORE, Provider

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_change_begins_with_what_a_change_before_it_made_and_a_look_waits_for_nobody(okta: Provider) -> None:
    token = Token.objects.select_related("source__connection").get()
    user = okta.add("alice")
    group = okta.call("POST", "/Groups", {"schemas": [f"{CORE}Group"], "displayName": "Payments"}).json()
    for kind, row, change in (("User", user, "title"), ("Group", group, "displayName")):
        type_ = next(one for one in PROVIDER.resource_types if one.name == kind)

        def get(type_: Any = type_, row: Any = row, **how: bool) -> object:
            return Storage(token, **how).get(type_, row["id"])

        with transaction.atomic():
            answer = okta.patch(f"/{kind}s/{row['id']}", {"op": "add", "path": change, "value": "Lead"})
            assert answer.status_code == 204
            with pytest.raises(OperationalError):
                elsewhere(get)
            assert elsewhere(lambda get=get: get(only_reads=True))
