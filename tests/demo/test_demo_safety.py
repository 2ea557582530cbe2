"""A demo reaches nothing but the AWS that it started itself."""

import os

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.demo import safety

REGION = "eu-west-1"
LOCAL = "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://iam.amazonaws.com",
        "http://10.0.0.8:4566",
        "http://localhost.evil.example:4566",
        "http://127.0.0.1@evil.example",
        "https://127.0.0.1:5000",
        "127.0.0.1:5000",
        "nonsense",
    ],
)
def test_another_machines_aws_is_refused(endpoint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="AWS_ENDPOINT_URL"):
        safety.keep_to_this_machine({"AWS_ENDPOINT_URL": endpoint}, region=REGION)


@pytest.mark.parametrize("endpoint", [LOCAL, "http://localhost:4566", "http://[::1]:5000"])
def test_an_aws_on_this_machine_is_kept(endpoint: str) -> None:
    environ = {"AWS_ENDPOINT_URL": endpoint}
    safety.keep_to_this_machine(environ, region=REGION)
    assert environ["AWS_ENDPOINT_URL"] == endpoint


def test_nothing_of_the_callers_own_aws_stays() -> None:
    """Each of these would lead past AWS_ENDPOINT_URL, or carry real credentials to the demo."""
    own = {
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_PROFILE": "production",
        "AWS_ENDPOINT_URL_IAM": "https://iam.amazonaws.com",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_CONFIG_FILE": "/somewhere/config",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials",
        "AWS_REGION": "us-east-1",
    }
    environ = {**own, "PATH": "/usr/bin"}
    safety.keep_to_this_machine(environ, region=REGION)
    assert environ["PATH"] == "/usr/bin"
    assert [name for name, value in own.items() if environ.get(name) == value] == []
    assert environ["AWS_CONFIG_FILE"] == environ["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert environ["AWS_REGION"] == REGION


def test_before_its_aws_is_started_a_demo_has_none() -> None:
    environ: dict[str, str] = {}
    safety.keep_to_this_machine(environ, region=REGION)
    assert environ["AWS_ENDPOINT_URL"] == safety.NOWHERE


@pytest.mark.parametrize(
    ("endpoint", "is_refused"),
    [(LOCAL, False), (safety.NOWHERE, True), ("", True), ("https://iam.amazonaws.com", True)],
)
def test_commands_in_demo_mode_want_the_demos_aws(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, is_refused: bool
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert bool(safety.check()) is is_refused
