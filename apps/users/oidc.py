"""What follows from the address of the identity provider. The settings read it, so it imports no models.

An account at an identity provider is named by two things together, its issuer and its subject (OpenID Connect Core 1.0
§5.7). allauth keys accounts by a provider id and a subject, so the provider id is made from the issuer: another issuer
in the environment can never make old subjects mean somebody else.
"""

import hashlib
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def provider_id(issuer: str) -> str:
    """The allauth provider id of an issuer: its host, for people, and a digest of the whole address."""
    issuer = issuer.rstrip("/")
    return f"{urlsplit(issuer).hostname}-{hashlib.sha256(issuer.encode()).hexdigest()[:10]}"


def origin(issuer: str) -> str:
    """Scheme, host and port of an issuer, as a Content-Security-Policy spells it. Only loopback may do without TLS:
    allauth takes the identity token over this connection without checking its signature (Core 1.0 §3.1.3.7, rule 6)."""
    parts = urlsplit(issuer)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ImproperlyConfigured("OIDC_ISSUER must begin with https://")
    if not parts.hostname:
        raise ImproperlyConfigured("OIDC_ISSUER must be the issuer's address, such as https://login.example.com/tenant")
    return f"{parts.scheme}://{parts.netloc}"


def providers(*, issuer: str, client_id: str, client_secret: str, name: str) -> dict[str, Any]:
    """SOCIALACCOUNT_PROVIDERS for one issuer; nothing without one."""
    if not issuer:
        return {}
    if not client_id:
        raise ImproperlyConfigured("OIDC_ISSUER is set, so OIDC_CLIENT_ID must be too.")
    app = {
        "provider_id": provider_id(issuer),
        "name": name,
        "client_id": client_id,
        "secret": client_secret,
        # Only the identity token counts: it is bound to the issuer and to us, and carries auth_time.
        "settings": {"server_url": issuer.rstrip("/"), "fetch_userinfo": False, "oauth_pkce_enabled": True},
    }
    return {"openid_connect": {"APPS": [app]}}
