"""Reads the environment. One function per kind of value, so that settings stay a list of facts.

With no DATABASE_URL or REDIS_URL the project uses servers of its own (config/embedded.py), started by whatever loads
the settings first. Commands that need no server (`OFFLINE_COMMANDS`, or OFFLINE=1 for tools that only read the
settings, such as mypy) never start one.
"""

import os
import secrets
import sys
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from config import embedded

OFFLINE_COMMANDS = {"collectstatic", "findstatic", "help", "version", "--help", "--version"}
THIS_MACHINE = ["localhost", "127.0.0.1", "[::1]"]
AWS_BUDGETS = ["shared", "own", "none"]
# What the ender says to PostgreSQL at the start of each connection, in milliseconds. Whoever holds a table or a row, and a
# server that is gone without a word, cost it so much time; then it reads the ledger.
ENDERS_PATIENCE = {
    "options": "-c lock_timeout=5000 -c statement_timeout=20000 -c idle_in_transaction_session_timeout=60000",
    "connect_timeout": 5,
    "tcp_user_timeout": 20_000,
}
DEMO_REDIS = 3  # how many databases there are without the demo
TRUE, FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


def text(name: str, default: str = "") -> str:
    """A string. An empty variable counts as unset."""
    return os.environ.get(name, "").strip() or default


def flag(name: str, default: bool = False) -> bool:
    """A yes or no: 1, true, yes, on against 0, false, no, off."""
    value = text(name).lower()
    if not value:
        return default
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} is {value!r}. Use 1 or 0.")
    return value in TRUE


def number(name: str, default: int) -> int:
    """A whole number."""
    value = text(name)
    try:
        return int(value) if value else default
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {value!r}. Use a whole number.") from None


def words(name: str, default: list[str] | None = None) -> list[str]:
    """A list, separated by commas."""
    return [word.strip() for word in text(name).split(",") if word.strip()] or list(default or [])


def secret(name: str, default: str = "") -> str:
    """A string that must not be seen: from NAME, or from the file that NAME_FILE points to (a mounted secret)."""
    path = text(f"{name}_FILE")
    if not path:
        return text(name, default)
    if text(name):
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set. Keep one.")
    try:
        return Path(path).read_text().strip() or default
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error.strerror}.") from None


def secret_words(name: str) -> list[str]:
    """A list that must not be seen, separated by commas."""
    return [word.strip() for word in secret(name).split(",") if word.strip()]


def is_offline() -> bool:
    """Whether this process needs no database and no broker."""
    is_manage = Path(sys.argv[0]).name in {"manage.py", "django-admin"}
    is_offline_command = bool(OFFLINE_COMMANDS & set(sys.argv[1:2])) or is_from_ledger()
    return flag("OFFLINE") or (is_manage and is_offline_command)


def is_from_ledger() -> bool:
    """`manage.py revoke_all --from-ledger`: what it is for is that there is no database."""
    words = sys.argv[1:]
    return words[:1] == ["revoke_all"] and any(word.partition("=")[0] == "--from-ledger" for word in words)


def is_ender() -> bool:
    """The separate ender signs nothing and mails nobody, so it is given nothing to do that with."""
    return Path(sys.argv[0]).name == "manage.py" and sys.argv[1:2] == ["ender"]


def secret_key() -> str:
    """SECRET_KEY. Required, except where a laptop can make and keep its own: DEBUG, DEMO and tests."""
    key = secret("SECRET_KEY")
    if key:
        return key
    if is_offline() or is_ender():
        return secrets.token_urlsafe(50)
    if flag("DEBUG") or flag("DEMO"):
        return _kept_key()
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Set SECRET_KEY or SECRET_KEY_FILE to a long random string, "
        "or DEBUG=1 on your own machine."
    )


def _kept_key() -> str:
    path = embedded.LOCAL / "secret_key"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"secret_key.{os.getpid()}")
    if not path.exists():
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(draft, path)  # the first of several processes wins, and nobody reads half a key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()


def email() -> dict[str, Any]:
    """How mail leaves, from EMAIL_URL, as Django's EMAIL_ settings. One's own machine prints it."""
    url = secret("EMAIL_URL")
    if not url and not (flag("DEBUG") or flag("DEMO") or is_offline() or is_ender()):
        raise ImproperlyConfigured(
            "EMAIL_URL is not set. Set EMAIL_URL or EMAIL_URL_FILE, such as smtp+tls://user:password@host:587, "
            "or consolemail:// to print mails."
        )
    return dict(environ.Env.email_url_config(url or "consolemail://"))


def aws_budget() -> str:
    """Who keeps count of what we ask of AWS: shared, own or none. A local AWS (moto) has no limits to keep. The ender
    never shares: whoever can write to Redis could keep it waiting for ever."""
    is_local = urlsplit(text("AWS_ENDPOINT_URL")).hostname in THIS_MACHINE
    kind = text("AWS_BUDGET", "none" if is_local else "own" if is_offline() else "shared")
    if kind not in AWS_BUDGETS:
        raise ImproperlyConfigured(f"AWS_BUDGET is {kind!r}. Use shared, own or none.")
    return "own" if is_ender() and kind == "shared" else kind


def base_url() -> str:
    """BASE_URL without a slash at its end. Plain http is for one's own machine only."""
    url = text("BASE_URL", f"http://localhost:{number('PORT', 8000)}").rstrip("/")
    parts = urlsplit(url)
    is_exempt = hosts(url) == THIS_MACHINE or is_offline()
    if parts.scheme != "https" and not (parts.scheme == "http" and is_exempt):
        raise ImproperlyConfigured("BASE_URL must begin with https://. Only localhost may do without.")
    if not parts.hostname or parts.path:
        raise ImproperlyConfigured("BASE_URL must be a scheme and a host, such as https://gatehouse.example.com")
    return url


def hosts(url: str) -> list[str]:
    """The names a request for this address may carry, as ALLOWED_HOSTS spells them."""
    name = urlsplit(url).hostname or ""
    name = f"[{name}]" if ":" in name else name
    return THIS_MACHINE if name in THIS_MACHINE else [name]


def database() -> dict[str, Any]:
    """Django's database. The name is DATABASE_URL's, or GATEHOUSE_DB_NAME, or gatehouse.

    The demo starts its database over, so it never takes the name from DATABASE_URL.
    """
    if is_offline():
        return {"ENGINE": "django.db.backends.dummy"}
    url = secret("DATABASE_URL")
    name = database_name()
    if url:
        settings = environ.Env.db_url_config(url)
        if "postgresql" not in settings["ENGINE"]:
            raise ImproperlyConfigured("DATABASE_URL must be a PostgreSQL address: postgres://user:password@host/name")
        settings["NAME"] = name or settings["NAME"]
        settings["PASSWORD"] = secret("DATABASE_PASSWORD") or settings["PASSWORD"]
        settings["HOST"] = unquote(settings["HOST"])  # a socket's directory: postgres://user@%2Frun%2Fpostgresql/name
    else:
        servers = _servers()
        settings = {
            "HOST": str(servers.postgres_directory),
            "USER": "postgres",
            "PASSWORD": servers.postgres_password,
            "NAME": name or "gatehouse",
        }
    options = {**settings.get("OPTIONS", {}), **_pool(), **(ENDERS_PATIENCE if is_ender() else {})}
    return {**settings, "ENGINE": "config.postgresql", "CONN_HEALTH_CHECKS": True, "OPTIONS": options}


def database_name() -> str:
    """The database to use whatever DATABASE_URL says; empty to use that of DATABASE_URL."""
    return text("GATEHOUSE_DB_NAME", "gatehouse_demo" if flag("DEMO") else "")


def _pool() -> dict[str, Any]:
    """Connections are kept and shared by the threads of a process, up to DATABASE_POOL of them; 0 switches that off."""
    size = number("DATABASE_POOL", 8)
    return {"pool": {"min_size": 0, "max_size": size, "timeout": 10}} if size else {}


def redis_url(index: int) -> str:
    """The address of one of our Redis databases, as redis-py and Django's cache spell it.

    REDIS_URL may name the first of them (redis://host/4, unix:///path?db=4); `index` counts from there. The demo has
    others, as it has another PostgreSQL database.
    """
    parts = urlsplit(_redis())
    first = parse_qs(parts.query).get("db", ["0"])[0] if parts.scheme == "unix" else parts.path.strip("/") or "0"
    if not first.isdigit():
        raise ImproperlyConfigured("REDIS_URL must name a database by its number, such as redis://host/0")
    number = int(first) + index + (DEMO_REDIS if flag("DEMO") else 0)
    if parts.scheme == "unix":
        return f"unix://{parts.path}?db={number}"
    return urlunsplit(parts._replace(path=f"/{number}"))


def celery_url(index: int) -> str:
    """The same address, as Celery spells it."""
    parts = urlsplit(redis_url(index))
    if parts.scheme == "unix":
        return f"redis+socket://{parts.path}?virtual_host={parts.query.removeprefix('db=')}"
    return urlunsplit(parts)


def _redis() -> str:
    if is_offline() or is_ender():
        return "redis://offline.invalid:6379"
    url = secret("REDIS_URL")
    if not url:
        return f"unix://{_servers().valkey_socket}"
    if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise ImproperlyConfigured("REDIS_URL must begin with redis://, rediss:// or unix://")
    return url


@cache
def _servers() -> embedded.Servers:
    try:
        return embedded.ensure(database=database_name() or "gatehouse")
    except embedded.Unavailable as error:
        raise ImproperlyConfigured(str(error)) from None
