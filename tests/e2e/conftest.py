"""The whole portal, as `make demo` runs it: web, worker, clock and AWS in processes of their own, with 13 of the people."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from django.conf import settings

ROOT = settings.BASE_DIR
CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


def wait_for(is_so: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Ask until it is so. Waits for other processes, never for a guess."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = is_so()
        if answer:
            return answer
        time.sleep(0.3)
    raise AssertionError(f"{what} did not happen within {seconds:.0f} s")


@dataclass
class Browser:
    """One person's browser without a screen: cookies, forms with their CSRF tokens, redirects."""

    demo: Demo
    name: str
    http: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str) -> str:
        answer = self.http.get(self.demo.url + path, timeout=30)
        assert answer.status_code == 200, f"{self.name} GET {path}: {answer.status_code}"
        return answer.text

    def post(self, path: str, page: str = "", **fields: Any) -> requests.Response:
        """Submit a form as it stands on `page`, and follow where it leads."""
        html = self.http.get(self.demo.url + (page or path), timeout=30).text
        token = CSRF.search(html)
        assert token, f"{self.name} finds no form on {page or path}"
        data = {"csrfmiddlewaretoken": token[1], **fields}
        headers = {"Referer": self.demo.url + (page or path)}
        return self.http.post(self.demo.url + path, data=data, headers=headers, timeout=30)

    def step_up(self) -> None:
        """Confirm with the code of the authenticator app."""
        answer = self.post("/settings/step-up/?next=/", code=self.demo.manage("demo_code", self.name))
        assert "/settings/step-up/" not in answer.url, answer.text


@dataclass
class Demo:
    url: str
    environ: dict[str, str]
    aws_url: str
    logs: Path

    def manage(self, *command: str) -> str:
        """Run a management command beside the demo and return what it prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=ROOT,
            env=self.environ,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.strip()

    def sign_in(self, name: str) -> Browser:
        browser = Browser(self, name)
        page = browser.get("/demo/people/")
        email = re.search(rf'name="email" value="({name}[^"]*)"', page)
        assert email, f"{name} is not on the sign-in page"
        browser.post("/demo/sign-in/", page="/demo/people/", email=email[1])
        return browser

    def aws(self, service: str, account: str = "") -> Any:
        """A boto3 client that shares nothing with the portal."""
        keys: dict[str, str] = {"aws_access_key_id": "independent", "aws_secret_access_key": "independent"}
        if account:
            role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
            got = self.aws("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
            keys = {
                "aws_access_key_id": got["AccessKeyId"],
                "aws_secret_access_key": got["SecretAccessKey"],
                "aws_session_token": got["SessionToken"],
            }
        return boto3.client(service, region_name="eu-west-1", endpoint_url=self.aws_url, **keys)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
    logs: Path = tmp_path_factory.mktemp("demo")
    left_out = {"AWS_ENDPOINT_URL", "SECRET_KEY", "EMAIL_URL"}
    environ = {name: value for name, value in os.environ.items() if name not in left_out}
    environ |= {"DEMO": "1", "DEBUG": "1", "PORT": str(port), "STATIC_FROM_SOURCE": "1", "SECRET_KEY": "end-to-end" * 6}
    with (logs / "said").open("w") as said:
        program = subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--people", "13", "--logs", str(logs)],
            cwd=ROOT,
            env=environ,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: program.poll() is not None or "Ready" in (logs / "said").read_text(), "the demo", 180)
        assert program.poll() is None, (logs / "said").read_text()
        yield Demo(f"http://localhost:{port}", environ, (logs / "aws.log").read_text().split()[0], logs)
    finally:
        program.send_signal(signal.SIGINT)
        program.wait(60)
