"""Values from the environment: read, refused with a reason, never guessed."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import embedded, env

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("value", "meaning"), [("1", True), ("Yes", True), ("0", False), ("off", False), ("", False)])
def test_flags(monkeypatch: pytest.MonkeyPatch, value: str, meaning: bool) -> None:
    monkeypatch.setenv("SWITCH", value)
    assert env.flag("SWITCH") is meaning


def test_values_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCH", "maybe")
    with pytest.raises(ImproperlyConfigured, match="SWITCH is 'maybe'"):
        env.flag("SWITCH")
    with pytest.raises(ImproperlyConfigured, match="SWITCH is 'maybe'"):
        env.number("SWITCH", 1)


def test_words_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTS", "a.example, b.example,,")
    assert env.words("HOSTS") == ["a.example", "b.example"]
    assert env.words("ABSENT", ["x"]) == ["x"]


@pytest.mark.parametrize(
    ("endpoint", "chosen", "kind"),
    [
        ("", "", "shared"),
        ("https://vpce-1.iam.us-east-1.vpce.amazonaws.com", "", "shared"),
        ("http://127.0.0.1:5000", "", "none"),
        ("http://localhost:5000", "shared", "shared"),
        ("", "own", "own"),
    ],
)
def test_only_a_local_aws_is_asked_without_a_limit(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, chosen: str, kind: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_BUDGET", chosen)
    assert env.aws_budget() == kind


@pytest.mark.parametrize(("chosen", "kind"), [("", "own"), ("shared", "own"), ("own", "own"), ("none", "none")])
def test_redis_has_no_say_in_what_the_ender_may_ask(monkeypatch: pytest.MonkeyPatch, chosen: str, kind: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/app/manage.py", "ender"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    monkeypatch.setenv("AWS_BUDGET", chosen)
    assert env.aws_budget() == kind
    assert "offline" in env.redis_url(0)


def test_the_ender_waits_for_no_lock_and_no_silent_server(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgres://gatehouse_ender@postgres/gatehouse?sslmode=require"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setattr(sys, "argv", ["/app/manage.py", "ender"])
    options = env.database()["OPTIONS"]
    said = dict(pair.split("=") for pair in options["options"].split() if "=" in pair)
    assert 0 < int(said["lock_timeout"]) < int(said["statement_timeout"]) <= 30_000
    assert options["sslmode"] == "require"
    assert options["connect_timeout"] and options["tcp_user_timeout"]
    monkeypatch.setattr(sys, "argv", ["/app/manage.py", "sweep"])
    assert "options" not in env.database()["OPTIONS"]


def test_a_budget_that_nobody_keeps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BUDGET", "all")
    with pytest.raises(ImproperlyConfigured, match="shared, own or none"):
        env.aws_budget()


def test_a_secret_comes_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hidden\n")
    monkeypatch.setenv("KEY_FILE", str(tmp_path / "key"))
    assert env.secret("KEY") == "hidden"
    monkeypatch.setenv("KEY", "also here")
    with pytest.raises(ImproperlyConfigured, match="both set"):
        env.secret("KEY")
    monkeypatch.delenv("KEY")
    monkeypatch.setenv("KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(ImproperlyConfigured, match="KEY_FILE cannot be read"):
        env.secret("KEY")


def test_production_does_not_start_without_a_secret_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECRET_KEY")
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY is not set"):
        env.secret_key()


def test_a_laptop_keeps_its_own_secret_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SECRET_KEY")
    monkeypatch.setenv("DEBUG", "1")
    monkeypatch.setattr(embedded, "LOCAL", tmp_path)
    key = env.secret_key()
    assert len(key) >= 50
    assert env.secret_key() == key
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_the_database_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://portal:p%40ss@db.internal:5433/access?sslmode=verify-full")
    monkeypatch.setenv("DATABASE_POOL", "5")
    found = env.database()
    assert (found["HOST"], found["PORT"], found["USER"], found["PASSWORD"]) == ("db.internal", 5433, "portal", "p@ss")
    assert found["NAME"] == "access"
    assert found["OPTIONS"]["sslmode"] == "verify-full"
    assert found["OPTIONS"]["pool"]["max_size"] == 5
    monkeypatch.setenv("GATEHOUSE_DB_NAME", "other")
    assert env.database()["NAME"] == "other"


def test_the_password_may_come_apart_from_the_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hidden\n")
    monkeypatch.setenv("DATABASE_URL", "postgres://portal@db.internal/access")
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "password"))
    assert env.database()["PASSWORD"] == "hidden"


def test_mail_is_not_printed_in_production_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails carry links that sign people in; a log is the wrong place for them."""
    monkeypatch.delenv("EMAIL_URL")
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL is not set"):
        env.email()
    monkeypatch.setenv("EMAIL_URL", "smtp+tls://portal:p%40ss@mail.example.com:587")
    found = env.email()
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == ("mail.example.com", 587, True)
    assert found["EMAIL_HOST_PASSWORD"] == "p@ss"
    monkeypatch.delenv("EMAIL_URL")
    monkeypatch.setenv("DEBUG", "1")
    assert env.email()["EMAIL_BACKEND"].endswith("console.EmailBackend")


def test_a_socket_directory_can_be_named_in_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://portal@%2Frun%2Fpostgresql/access")
    assert env.database()["HOST"] == "/run/postgresql"


def test_the_demo_never_takes_the_database_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts its database over, and must not do that to a real one."""
    monkeypatch.setenv("DEMO", "1")
    monkeypatch.setenv("DATABASE_URL", "postgres://portal@db.internal/production")
    assert env.database()["NAME"] == "gatehouse_demo"


def test_only_postgresql_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///db.sqlite3")
    with pytest.raises(ImproperlyConfigured, match="must be a PostgreSQL address"):
        env.database()


@pytest.mark.parametrize(
    ("url", "for_redis", "for_celery"),
    [
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock?db=2", "redis+socket:///run/valkey.sock?virtual_host=2"),
        ("unix:///run/v.sock?db=3", "unix:///run/v.sock?db=5", "redis+socket:///run/v.sock?virtual_host=5"),
        ("redis://cache:6379", "redis://cache:6379/2", "redis://cache:6379/2"),
        ("rediss://:pw@cache/4", "rediss://:pw@cache/6", "rediss://:pw@cache/6"),
    ],
)
def test_redis_addresses(monkeypatch: pytest.MonkeyPatch, url: str, for_redis: str, for_celery: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert env.redis_url(2) == for_redis
    assert env.celery_url(2) == for_celery


@pytest.mark.parametrize("url", ["amqp://cache", "redis://cache/name"])
def test_a_redis_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL"):
        env.redis_url(0)


@pytest.mark.parametrize("url", ["http://gatehouse.example.com", "gatehouse.example.com", "https://x.example/portal"])
def test_people_reach_the_portal_over_https_only(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match="BASE_URL"):
        env.base_url()


def settings_of(**environment: str) -> dict[str, str]:
    """What a fresh process makes of an environment."""
    names = "SESSION_COOKIE_SECURE CSRF_COOKIE_SECURE SECURE_SSL_REDIRECT SECURE_HSTS_SECONDS ALLOWED_HOSTS DEBUG"
    script = f"""
from django.conf import settings
for name in {names.split()!r} + ["SECURE_PROXY_SSL_HEADER", "SESSION_COOKIE_NAME"]:
    print(name, getattr(settings, name))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_production_is_closed_by_default() -> None:
    found = settings_of(BASE_URL="https://gatehouse.example.com")
    assert found["DEBUG"] == "False"
    assert found["SESSION_COOKIE_SECURE"] == found["CSRF_COOKIE_SECURE"] == found["SECURE_SSL_REDIRECT"] == "True"
    assert found["SESSION_COOKIE_NAME"].startswith("__Host-")
    assert int(found["SECURE_HSTS_SECONDS"]) >= 31_536_000
    assert found["ALLOWED_HOSTS"] == "['gatehouse.example.com']"
    assert found["SECURE_PROXY_SSL_HEADER"] == "None"


def test_a_proxy_is_believed_only_when_it_is_announced() -> None:
    found = settings_of(BASE_URL="https://gatehouse.example.com", TRUSTED_PROXY_COUNT="1")
    assert found["SECURE_PROXY_SSL_HEADER"] == "('HTTP_X_FORWARDED_PROTO', 'https')"


def test_commands_without_a_database_start_no_server(tmp_path: Path) -> None:
    """An image is built with `collectstatic`, where there is neither a key nor a database."""
    environment = {k: v for k, v in os.environ.items() if k not in {"DATABASE_URL", "REDIS_URL", "SECRET_KEY"}}
    done = subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--dry-run", "--noinput"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "static file" in done.stdout
