"""The portal that a benchmark measures: servers and databases made for it, and gone when it ends."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import quote


@contextmanager
def portal(keep: Path | None = None, **environment: str) -> Iterator[None]:
    """Django with migrated databases of its own. In `keep` they stay, and are used again the next time."""
    home = keep or Path(tempfile.mkdtemp(prefix="gatehouse-benchmark-"))
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    try:
        _start(home, environment)
        yield
    finally:
        from config import embedded

        embedded.leave(home)
        if not keep:
            shutil.rmtree(home, ignore_errors=True)


def _start(home: Path, environment: dict[str, str]) -> None:
    from config import embedded

    servers = embedded.ensure(home, durable=False)
    host, password = quote(str(servers.postgres_directory), safe=""), quote(servers.postgres_password, safe="")
    os.environ |= {
        "DATABASE_URL": f"postgres://postgres:{password}@{host}/gatehouse",
        "REDIS_URL": f"unix://{servers.valkey_socket}",
        "DATABASE_POOL": "0",
        "SECRET_KEY": "only-for-a-benchmark-" * 4,
        "EMAIL_URL": "memorymail://",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        **environment,
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    import_module("config.wsgi")  # as the server starts
