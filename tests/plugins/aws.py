"""The fixture `aws`: moto's server on a loopback port, one for each test process, empty at the start of every test."""

import copy
import os
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest


@dataclass(frozen=True)
class Aws:
    """Where the test's AWS listens. `AWS_ENDPOINT_URL` points there, for child processes too."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget everything, and number accounts and ids the same way every time."""
        self._post("reset")
        self._post("seed?a=42")

    def enforce(self, enforced: bool = True) -> None:
        """Whether calls are checked against IAM policies (moto ignores their conditions)."""
        self._post("reset-auth", b"0" if enforced else b"inf")

    def client(self, service: str, **options: str) -> "boto3.client":  # type: ignore[valid-type]
        """An independent client, for what a test must see for itself."""
        return boto3.client(service, endpoint_url=self.url, **{"region_name": "us-east-1", **options})  # type: ignore[call-overload]

    def _post(self, path: str, body: bytes = b"") -> None:
        request = urllib.request.Request(
            f"{self.url}/moto-api/{path}", data=body, headers={"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()


def _parse_aws_policies_once(patch: pytest.MonkeyPatch) -> None:
    """moto parses AWS's 1,582 policies anew for every account and partition after every reset, which is most of what a
    test of AWS costs. Here each set of them is parsed once (a test may have a few only, or none), and every account of
    partition `aws` gets copies."""
    from moto.iam import models
    from moto.iam.models import AWSManagedPolicy, IAMBackend

    load, parsed = IAMBackend._init_aws_policies, {}

    def copies(backend: IAMBackend) -> list[AWSManagedPolicy]:
        if backend.region_name != "aws" or os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] != "true":
            return []
        source = models.aws_managed_policies_data
        if source not in parsed:
            parsed[source] = load(backend)
        own = [copy.copy(policy) for policy in parsed[source]]
        for policy in own:
            policy.account_id = backend.account_id
        return own

    patch.setattr(IAMBackend, "_init_aws_policies", copies)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Aws]:
    """Serves one call at a time: threaded, moto fails now and then under concurrent writers (reference/stack.md §2)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        _parse_aws_policies_once(patch)

        class Quiet(WSGIRequestHandler):
            def log_request(self, *_: object) -> None: ...

        server = make_server(
            "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False, request_handler=Quiet
        )
        thread = threading.Thread(target=server.serve_forever, name="aws", daemon=True)
        thread.start()
        yield Aws(server.server_port)
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def aws(aws_server: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server.url)
    aws_server.enforce(enforced=False)
    aws_server.reset()
    return aws_server
