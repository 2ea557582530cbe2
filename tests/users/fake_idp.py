"""An identity provider in this process: discovery, token endpoint with PKCE, and a browser's way through it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from django.test import Client
from pytest_django import Settings

from apps.users import oidc

CLIENT_ID, CLIENT_SECRET = "gatehouse", "kept-between-us-and-nobody-else-at-all"


class FakeIdp:
    """`claims` go into the next identity token, over what is right."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.announced = issuer  # what discovery says the issuer is
        self.claims: dict[str, Any] = {}
        self.asked: dict[str, str] = {}  # the last authorization request
        self.failures: list[str] = []

    def token(self) -> str:
        now = int(time.time())
        right = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300}
        return jwt.encode({**right, **self.claims}, CLIENT_SECRET, algorithm="HS256")

    def exchange(self, form: dict[str, str]) -> dict[str, Any]:
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != self.asked.get("code_challenge"):
            self.failures.append("the code verifier does not fit the challenge")
        if form.get("client_secret") != CLIENT_SECRET:
            self.failures.append("the client secret is wrong")
        return {"access_token": "unused", "token_type": "Bearer", "id_token": self.token()}

    def sign_in(self, client: Client, subject: str, *, query: str = "", **claims: Any) -> Any:
        """Start at our sign-in page, be somebody at the provider, come back. The answer to the callback."""
        self.claims = {"sub": subject, **claims}
        start = client.post(f"/accounts/oidc/{oidc.provider_id(self.issuer)}/login/{query}")
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(start["Location"]).query).items()}
        callback = urlsplit(self.asked["redirect_uri"]).path
        return client.get(callback, {"code": "once", "state": self.asked["state"]})


@contextmanager
def running(settings: Settings) -> Iterator[FakeIdp]:
    """The portal configured for a provider that runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            endpoints = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            self._answer(
                {"issuer": idp.announced, **{name: f"{idp.issuer}/{path}" for name, path in endpoints.items()}}
            )

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(idp.exchange({name: values[0] for name, values in parse_qs(body).items()}))

        def _answer(self, data: dict[str, Any]) -> None:
            body = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    idp = FakeIdp(f"http://127.0.0.1:{server.server_port}")
    settings.OIDC_ISSUER = idp.issuer
    settings.OIDC_NAME = "Corporate sign-in"
    settings.SOCIALACCOUNT_PROVIDERS = oidc.providers(
        issuer=idp.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, name="Corporate sign-in"
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield idp
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
