"""Keeps the demo off the real AWS and off other machines.

A demo process forgets every AWS setting it was started with (credentials, profiles, endpoints of single services) except
the address of the demo's own AWS, which must be on this machine. boto3 prefers the environment to its configuration
files, and those are switched off too.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured

ENDPOINT = "AWS_ENDPOINT_URL"
NOWHERE = "http://127.0.0.1:9"  # the discard port: where the demo's AWS is before it is started


def keep_to_this_machine(environ: MutableMapping[str, str], *, region: str) -> None:
    """Leave nothing in `environ` that leads to the real AWS. Raises ImproperlyConfigured when AWS_ENDPOINT_URL names
    another machine: somebody meant something else than a demo."""
    endpoint = environ.get(ENDPOINT, "").strip() or NOWHERE
    if not is_local_url(endpoint):
        raise ImproperlyConfigured(
            f"{ENDPOINT} is {endpoint}, which is not on this machine. The demo works with an AWS of its own: "
            f"unset {ENDPOINT}, and start it with make demo."
        )
    for name in [name for name in environ if name.startswith("AWS_")]:
        del environ[name]
    environ.update(
        {
            ENDPOINT: endpoint,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )


def check(**_: Any) -> list[Error]:
    """Django's system check: commands in demo mode run beside the demo's AWS, or not at all."""
    endpoint = os.environ.get(ENDPOINT, "")
    if is_local_url(endpoint) and endpoint != NOWHERE:
        return []
    return [Error("DEMO is set, and the demo's AWS is not running.", hint="Start it with make demo.", id="demo.E001")]


def is_local_url(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and is_local(parts.hostname or "")


def is_local(host: str) -> bool:
    """Whether `host` is this machine, by its address or as localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
