"""An identity provider that may call, and a client that calls as it does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import Client

from apps.scim.models import Source
from apps.scim.services import sources
from apps.scim.views.door import door
from tests.factories.inventory import ConnectionFactory
from tests.factories.users import UserFactory

CORE = "urn:ietf:params:scim:schemas:core:2.0:"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
TYPE = "application/scim+json"


class Provider:
    """What an identity provider does: calls with its token."""

    def __init__(self, source: Source, secret: str) -> None:
        self.source, self.secret = source, secret
        self.client = Client(enforce_csrf_checks=True)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        said = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {self.secret}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return self.client.generic(
            method, f"/scim/v2{path}", said or "", content_type=TYPE if said else "", headers=headers
        )

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", f"{path}?{urlencode(query)}" if query else path)

    def add(self, user_name: str = "alice", **more: Any) -> Any:
        body = {
            "schemas": [f"{CORE}User", *([ENTERPRISE] if ENTERPRISE in more else [])],
            "userName": user_name,
            **more,
        }
        answer = self.call("POST", "/Users", body)
        assert answer.status_code == 201, answer.content
        return answer.json()

    def patch(self, where: str, *operations: dict[str, Any], **headers: str) -> HttpResponse:
        return self.call("PATCH", where, {"schemas": [PATCH], "Operations": [*operations]}, **headers)

    def active(self, user: Any, active: bool) -> None:
        answer = self.patch(f"/Users/{user['id']}", {"op": "replace", "path": "active", "value": active})
        assert answer.status_code == 204, answer.content

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The door itself, without the middleware round it: the public checks call it hundreds of times."""
        response = door(WSGIRequest(environ), environ["PATH_INFO"].removeprefix("/scim/v2"))
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.headers.items()))
        return [response.content]


@pytest.fixture
def erin(db: None) -> Any:
    return UserFactory(name="Erin", administrator=True)


@pytest.fixture
def okta(erin: Any) -> Provider:
    connection = ConnectionFactory()
    source = sources.add_source(name="Okta", connection=connection, subject_is_external_id=False, by=erin)
    return Provider(source, sources.make_token(source, expires_at=None, by=erin)[1])


@pytest.fixture
def base_url() -> str:
    return f"{settings.BASE_URL}/scim/v2"
