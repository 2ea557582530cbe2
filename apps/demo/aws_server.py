"""The demo's AWS: moto, served on this machine only, one request at a time.

`python -m apps.demo.aws_server --port 5000` runs until SIGTERM or Ctrl-C. State is in memory and gone with the process.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from apps.demo.company.accounts import ACCOUNTS
from apps.demo.company.people import DOMAIN

HOST = "127.0.0.1"
MANAGEMENT_NAME = next(account.name for account in ACCOUNTS if account.is_management)
MANAGEMENT_EMAIL = f"aws+management@{DOMAIN}"

# What moto does not know, and what AWS answers where there is none of it (the demo has none). As X-Amz-Target.
ABSENT = {"SWBExternalService.GetPermissionsBoundaryForPermissionSet"}


def serve(port: int) -> None:
    """Answer AWS calls on 127.0.0.1:`port` (0 takes a free one) until SIGTERM or Ctrl-C. Prints its address once ready.

    Serial on purpose: moto's threaded server fails under parallel writers with "dictionary changed size during
    iteration". Connections are not kept alive either, since one idle client would then lock every other one out.

    Raises OSError when the port is taken.
    """
    application = fitted_moto()
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    with socket.create_server((HOST, port)) as listener:
        server = make_server(
            HOST, port, application, threaded=False, request_handler=MotoRequestHandler, fd=listener.fileno()
        )
        print(f"http://{HOST}:{listener.getsockname()[1]}", flush=True)
        server.serve_forever()


def fitted_moto() -> Any:
    """moto as a WSGI application, with AWS's own policies, a management account that has a name, and `ABSENT`."""
    # Read by moto while it is imported: without it no policy of AWS's own, such as ReadOnlyAccess, can be attached.
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    _load_policies_for_one_partition()
    _name_management_account()
    _keep_departments()
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("HTTP_X_AMZ_TARGET") not in ABSENT:
            return moto(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.1")])
        return [b'{"__type": "ResourceNotFoundException", "message": "There is none."}']

    return application


def _load_policies_for_one_partition() -> None:
    """An account costs moto a second and 50 MB, since it is given AWS's 1,582 policies once for each partition (China,
    GovCloud and so on). Ours is `aws` alone."""
    from moto.iam.models import IAMBackend

    load = IAMBackend._init_aws_policies

    def load_for_aws(backend: IAMBackend) -> list[Any]:
        return list(load(backend)) if backend.region_name == "aws" else []

    IAMBackend._init_aws_policies = load_for_aws  # type: ignore[method-assign,assignment]


def _name_management_account() -> None:
    """moto calls every management account "master" and no API renames it, so its answers are given the demo's name."""
    from moto.organizations.models import FakeAccount

    describe = FakeAccount.describe

    def describe_by_its_name(account: FakeAccount) -> dict[str, Any]:
        answer = describe(account)
        if account.id == account.master_account_id:
            answer.update(Name=MANAGEMENT_NAME, Email=MANAGEMENT_EMAIL)
        return answer

    FakeAccount.describe = describe_by_its_name  # type: ignore[method-assign,assignment]


def _keep_departments() -> None:
    """moto drops the extensions of a directory's users, where AWS keeps their departments and managers."""
    from moto.identitystore.responses import IdentityStoreResponse

    create, listed = IdentityStoreResponse.create_user, IdentityStoreResponse.list_users

    def create_with_extensions(call: IdentityStoreResponse) -> str:
        answer: str = create(call)
        _extensions(call)[json.loads(answer)["UserId"]] = call._get_param("Extensions") or {}
        return answer

    def list_with_extensions(call: IdentityStoreResponse) -> str:
        answer = json.loads(listed(call))
        wanted = call._get_param("Extensions") or []
        for user in answer["Users"]:
            kept = _extensions(call).get(user["UserId"], {})
            user["Extensions"] = {name: value for name, value in kept.items() if name in wanted}
        return json.dumps(answer)

    def _extensions(call: IdentityStoreResponse) -> dict[str, Any]:
        kept: dict[str, Any] = vars(call.identitystore_backend).setdefault("extensions", {})
        return kept

    IdentityStoreResponse.create_user = create_with_extensions  # type: ignore[method-assign,assignment]
    IdentityStoreResponse.list_users = list_with_extensions  # type: ignore[method-assign,assignment]


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m apps.demo.aws_server", description="Serve the demo's AWS.")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1; 0 takes a free one and prints it")
    port = parser.parse_args(arguments).port
    try:
        serve(port)
    except OSError as error:
        problem = os.strerror(error.errno or 0)
        print(f"The demo's AWS cannot listen on {HOST}:{port}: {problem}. Choose another port.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
