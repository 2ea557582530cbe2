"""`manage.py demo_code` prints what a person's authenticator app shows, for exactly the person who is meant."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.management import CommandError, call_command

from apps.audit import services as audit
from apps.demo import cast
from apps.demo.management.commands.demo_code import Command
from apps.users import services, totp
from apps.users.models import User
from tests.factories.users import UserFactory


@pytest.fixture
def people(db: None) -> dict[str, User]:
    names = ["Alice Moreau", "Elena Marković", "Dan Petrov", "Daniela Costa", "Conor Byrne", "Conor Quinn"]
    found = {}
    for name in names:
        user = UserFactory(name=name, email=f"{cast._plain(name).replace(' ', '.')}@harbourline.example")
        services.seed_totp(user=user, secret=cast.totp_secret(user.email), by=audit.COMMAND)
        found[name] = user
    return found


def code_of(*words: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(Command(stdout=out, stderr=err), *words)
    return out.getvalue().strip(), err.getvalue()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["alice"], "Alice Moreau"),
        (["ALICE.MOREAU@harbourline.example"], "Alice Moreau"),
        (["alice.moreau"], "Alice Moreau"),
        (["elena", "markovic"], "Elena Marković"),
        (["Marković"], "Elena Marković"),
        (["dan"], "Dan Petrov"),
        (["conor quinn"], "Conor Quinn"),
    ],
)
def test_the_code_is_the_one_that_counts(people: dict[str, User], words: list[str], name: str) -> None:
    code, said = code_of(*words)
    assert totp.spend(Authenticator.objects.get(user=people[name]), code)
    assert name in said


def test_more_than_one_person_is_asked_about(people: dict[str, User]) -> None:
    with pytest.raises(CommandError, match="2 people match 'conor'") as error:
        code_of("conor")
    assert "conor.byrne@harbourline.example" in str(error.value)
    assert "Conor Quinn" in str(error.value)


@pytest.mark.parametrize("wanted", ["Zebedee", "", "@"])
def test_nobody_is_guessed(people: dict[str, User], wanted: str) -> None:
    with pytest.raises(CommandError, match="match"):
        code_of(wanted)


def test_secrets_differ_by_person_and_by_key(settings: pytest.FixtureRequest) -> None:
    secrets = {cast.totp_secret("alice@x.example"), cast.totp_secret("bob@x.example")}
    settings.SECRET_KEY = "another"  # type: ignore[attr-defined]
    secrets.add(cast.totp_secret("alice@x.example"))
    assert len(secrets) == 3
    assert cast.totp_secret("Alice@x.example") == cast.totp_secret("alice@x.example")


def test_without_a_demo_it_says_how_to_get_one() -> None:
    """A fresh terminal: no DEMO in it, and no demo in the database."""
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo_code", "alice"],
        cwd=settings.BASE_DIR,
        env={**environ, "GATEHOUSE_DB_NAME": "gatehouse_demo_that_is_not_there"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("There is no demo in this database. Start one: make demo")
