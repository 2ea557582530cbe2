"""`manage.py revoke_all --from-ledger` as it runs at night: a process of its own, only AWS, and no database at all."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.idc_assignment import IdcAssignment
from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from apps.connectors.base import Target, Window
from apps.grants import ledger
from tests.connectors.conftest import CONFIG, HUB, QUIET, Org, whole

PROJECT = Path(__file__).resolve().parents[2]
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


@pytest.fixture
def alice(org: Org) -> Target:
    return someone_assigned(org)


def someone_assigned(org: Org) -> Target:
    """Alice and the permission set Admin, in an account with everything that a grant of it needs."""
    org.add_guard()
    org.add_scheduling(HUB)
    scan = whole(AwsConnector(CONFIG).scan_directory([org.account()], QUIET))
    who = next(one for one in scan.principals if one.name == "alice")
    what = next(one for one in scan.entitlements if one.name == "Admin")
    return Target(
        account_id=org.account_id,
        principal_kind=who.kind,
        principal_external_id=who.external_id,
        principal_name=who.name,
        entitlement_kind=what.kind,
        entitlement_external_id=what.external_id,
        entitlement_name=what.name,
        entitlement_attributes=dict(what.attributes),
    )


def written(path: Path, target: Target, end: datetime) -> None:
    """A ledger made from the file format alone."""
    key = IdcAssignment(CONFIG).shared_key(target)
    grant = {
        "line": "grant",
        "number": "G-1",
        "reference": "abcdefghijklmnop",
        "state": "active",
        "holder": "Alice",
        "connection": "org",
        "target": asdict(target),
        "provisioner": "idc_assignment",
        "remover": "",
        "shared_key": key,
        "is_alone": False,
        "claimed_at": None,
        "not_after": end.isoformat(),
        "ends_at": end.isoformat(),
        "revoking_at": None,
    }
    lines: list[dict[str, Any]] = [
        {"line": "ledger", "version": ledger.VERSION, "written_at": datetime.now(UTC).isoformat()},
        {"line": "connection", "name": "org", "kind": "aws", "config": CONFIG},
        grant,
    ]
    body = b"".join(ledger._json(line) for line in lines)
    path.write_bytes(body + ledger._json({"line": "end", "count": 1, "sha256": sha256(body).hexdigest()}))


def manage(*words: str) -> subprocess.CompletedProcess[str]:
    """In an environment with AWS credentials and nothing else: no SECRET_KEY, a database that is not there."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "PATH", "MOTO_"))}
    env = {**kept, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/gone", "REDIS_URL": "redis://127.0.0.1:1"}
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_ledger_and_aws_are_enough(org: Org, alice: Target, tmp_path: Path) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    org.assign("Admin", alice.principal_external_id)
    IdcAssignment(CONFIG).enforce(alice, [Window(alice, end)])
    path = tmp_path / "ledger.jsonl"
    written(path, alice, end)
    dry = manage("revoke_all", "--from-ledger", str(path))
    assert dry.returncode == 0, dry.stderr
    assert "Nothing was done" in dry.stdout
    assert org.assignments("Admin") == [alice.principal_external_id]
    done = manage("revoke_all", "--from-ledger", str(path), "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 of 1 are proven gone" in done.stdout
    assert org.assignments("Admin") == []
    for person in (alice.principal_external_id, "somebody-no-line-names"):
        role = (
            f"arn:aws:iam::{org.account_id}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Admin_0123456789abcdef"
        )
        context = {"identitystore:UserId": person, "aws:PrincipalArn": role}
        decision = evaluate(
            [EVERYTHING, org.guard()], action="s3:GetObject", resource="*", context=context, now=datetime.now(UTC)
        )
        assert decision.outcome == Outcome.DENY


def test_what_aws_refuses_is_exit_code_one(org: Org, alice: Target, tmp_path: Path) -> None:
    """The permission set is gone, and with it the guard's way in: nothing can be proven about the rest."""
    path = tmp_path / "ledger.jsonl"
    written(path, alice, datetime.now(UTC) + timedelta(hours=1))
    org.iam().delete_policy(PolicyArn=f"arn:aws:iam::{org.account_id}:policy/jit/jit-guard")
    done = manage("revoke_all", "--from-ledger", str(path), "--yes")
    assert done.returncode == 1
    assert "no guard policy" in done.stdout
    assert "Run it again" in done.stderr
