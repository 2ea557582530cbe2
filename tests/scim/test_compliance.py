"""The public compliance checks (scim2-tester)."""

from __future__ import annotations

import pytest
from scim2_client.engines.wsgi import WSGISCIMClient
from scim2_tester import Status, check_server

from apps.scim.protocol import PROVIDER
from apps.users.models import PortalRole
from tests.scim.conftest import Provider

pytestmark = pytest.mark.django_db


def test_every_public_check_passes_and_no_portal_role_changes(okta: Provider, base_url: str) -> None:
    roles = list(PortalRole.objects.values())
    headers = {"Authorization": f"Bearer {okta.secret}"}
    client = WSGISCIMClient(okta.wsgi, base_url=base_url, headers=headers, provider=PROVIDER)
    results = check_server(client)
    bad = [result for result in results if result.status not in (Status.SUCCESS, Status.SKIPPED)]
    assert not bad, [(result.title, result.resource_type, result.reason) for result in bad]
    assert sum(result.status == Status.SUCCESS for result in results) > 100
    assert list(PortalRole.objects.values()) == roles
