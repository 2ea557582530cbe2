"""The templates give each role exactly what the code calls as that role: nothing is missing, nothing is left over."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from apps.connectors.aws import needs
from apps.connectors.aws.policy.matcher import matches
from apps.inventory.models import Connection
from tests.deploy import calls
from tests.deploy.templates import HUB, MEMBER, documents, read

ROLES = ("reader_role", "provisioner_role", "remover_role", "ender_role", "broker_role", "feed_role")
HUB_ROLES = ("broker_role", "feed_role")  # of which no other account has one
# Services that are called in the hub alone, so that no other account gives rights to them.
HUB_ONLY = ("identitystore", "lambda", "organizations", "sqs", "sso", "sts")


def _allowed(role: str, account_id: str) -> set[str]:
    listed = [
        one["Action"]
        for document in documents(_name(role), account_id)
        for one in document["Statement"]
        if one["Effect"] == "Allow"
    ]
    return {action for one in listed for action in ([one] if isinstance(one, str) else one)}


def _name(role: str) -> str:
    return str(Connection(name="aws").config[role])


def _is_of_the_hub(action: str) -> bool:
    return action.partition(":")[0] in HUB_ONLY


@pytest.mark.parametrize("role", ROLES)
def test_the_code_calls_nothing_that_its_role_may_not(role: str) -> None:
    needed = calls.needed().get(role, {})
    missing = [
        f"{_name(role)} in deploy/aws/{'hub' if _is_of_the_hub(action) else 'member'}.yaml lacks {action}, "
        f"which {', '.join(sorted(lines))} calls"
        for action, lines in sorted(needed.items())
        if action not in _allowed(role, HUB if _is_of_the_hub(action) else MEMBER)
    ]
    assert missing == []


@pytest.mark.parametrize("role", [role for role in ROLES if role not in HUB_ROLES])
def test_no_role_may_what_the_code_never_calls_as_it(role: str) -> None:
    needed = set(calls.needed().get(role, {}))
    assert sorted(_allowed(role, HUB) - needed) == [], f"{_name(role)} in hub.yaml or member.yaml has too much"
    at_home = {action for action in needed if not _is_of_the_hub(action)}
    assert sorted(_allowed(role, MEMBER) - at_home) == [], f"{_name(role)} in member.yaml has too much"


def test_a_test_of_a_connection_tries_exactly_what_reading_needs() -> None:
    needed = set(calls.needed()["reader_role"]) - {"kms:Decrypt"}  # S3 asks for it; only a file that is there tries it
    in_hub = {right.action for right in needs.IN_HUB}
    tried = in_hub | {right.action for right in (*needs.IN_ACCOUNTS, *needs.TRAIL)}
    assert sorted(needed - tried) == [], "add a line for each to apps/connectors/aws/needs.py"
    assert sorted(tried - needed) == [], "nobody calls these as the reader any more: take them out of needs.py"
    assert in_hub == set(filter(_is_of_the_hub, needed))


def test_only_tests_of_connections_call_what_a_table_says() -> None:
    """What comes from a table cannot be followed to its action; the test above holds that table to the templates."""
    folder = calls.PROJECT / "apps" / "connectors"
    using = [path.name for path in folder.rglob("*.py") if ".attempt(" in path.read_text().replace("self.attempt(", "")]
    assert using == ["rights.py"]


def test_the_broker_may_only_make_sessions() -> None:
    assert _allowed("broker_role", HUB) == set(calls.needed()["broker_role"])


def test_the_feed_may_only_be_emptied_and_looked_at() -> None:
    assert _allowed("feed_role", HUB) == set(calls.needed()["feed_role"]) == {right.action for right in needs.FEED}


def test_aws_scheduler_may_exactly_what_schedules_call() -> None:
    wanted = calls.scheduled(calls.program())
    at_home = {action for action in wanted if not _is_of_the_hub(action)} | {"sqs:SendMessage"}
    assert _allowed("schedule_role", MEMBER) == at_home
    assert _allowed("schedule_role", HUB) == at_home | wanted | {"lambda:InvokeFunction"}


def test_no_statement_of_ours_denies_what_the_code_needs() -> None:
    for role in ROLES:
        for document in documents(_name(role), HUB):
            for statement in document["Statement"]:
                if statement["Effect"] == "Deny" and statement.get("Resource") == "*" and "Condition" not in statement:
                    denied = _listed(statement["Action"])
                    needed = calls.needed().get(role, {})
                    assert not [one for one in needed if any(matches(d.lower(), one.lower()) for d in denied)], (
                        statement
                    )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


# ---- the reader of the code itself


def test_every_call_in_the_code_is_followed_to_its_role_and_operation() -> None:
    assert calls.program().unreached() == [], "nobody calls these, or in a way that tests/deploy/calls.py cannot follow"


def test_only_sessions_make_clients() -> None:
    """Whoever reached AWS past `Api` would be in no test of this file."""
    found = []
    for path in sorted((calls.PROJECT / "apps").rglob("*.py")):
        is_own = path.name == "session.py" and path.parent.name == "aws"
        if is_own or "demo" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        found += [f"{path.name}:{node.lineno}" for node in ast.walk(tree) if _imports_boto3(node) or _asks_client(node)]
    assert found == []


def _imports_boto3(node: ast.AST) -> bool:
    names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return any(name.split(".")[0] == "boto3" for name in names)


def _asks_client(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("client", "_make")


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """A program made of one module."""

    def made(text: str) -> calls.Program:
        (tmp_path / "connectors").mkdir(exist_ok=True)
        (tmp_path / "connectors" / "things.py").write_text(text)
        return calls.Program([tmp_path])

    return made


def test_a_call_is_followed_through_parameters_inheritance_and_patterns(program: Any) -> None:
    found = program(
        """
class _Base:
    role = "remover_role"

    def __init__(self, config):
        self._reader = Api(session(config), "reader_role")
        self._writer = Api(session(config), self.role)

    def close(self, holder):
        self._write("id", f"detach_{holder.word}_policy")

    def _write(self, account_id, operation):
        self._writer.call(account_id, "iam", operation)


class First(_Base):
    def look(self):
        return listed(self._reader)


class Second(_Base):
    role = "provisioner_role"

    def close(self, holder):
        pass

    def open(self):
        self._write("id", operation="create_role")


def listed(api, operation="list_roles"):
    return api.items("id", "iam", operation, "Roles")
"""
    ).calls()
    assert {(one.role, one.action) for one in found} == {
        ("reader_role", "iam:ListRoles"),
        ("remover_role", "iam:DetachUserPolicy"),
        ("remover_role", "iam:DetachRolePolicy"),
        ("remover_role", "iam:DetachGroupPolicy"),
        ("provisioner_role", "iam:CreateRole"),
    }


def test_classes_and_functions_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "connectors"
    folder.mkdir()
    ending = 'def end(api): api.call("id", "iam", "delete_role")'
    making = 'def end(api): api.call("id", "iam", "create_role")'
    using = 'class _Of:\n    def go(self): end(Api(s, "{role}"))'
    (folder / "ending.py").write_text(ending)
    (folder / "making.py").write_text(making)
    (folder / "one.py").write_text("from connectors.ending import end\n" + using.format(role="remover_role"))
    (folder / "two.py").write_text("from connectors.making import end\n" + using.format(role="provisioner_role"))
    found = {(one.role, one.action) for one in calls.Program([folder]).calls()}
    assert found == {("remover_role", "iam:DeleteRole"), ("provisioner_role", "iam:CreateRole")}


@pytest.mark.parametrize(
    "text",
    [
        'def read(api, word): api.call("id", "iam", f"get_{word.kind}")\ndef go(): read(Api(s, "reader_role"), 1)',
        'def read(things): things[0].call("id", "iam", "get_role")',
        'def read(api): api.call("id", "iam", ("get_role", "get_user")[0])\ndef go(): read(Api(s, "reader_role"))',
    ],
)
def test_a_call_that_cannot_be_followed_is_an_error_that_names_the_line(program: Any, text: str) -> None:
    with pytest.raises(calls.CannotFollow, match=r"things\.py:1"):
        program(text).calls()


def test_a_call_that_nobody_makes_is_told(program: Any) -> None:
    assert program('def read(api): api.call("id", "iam", "get_role")').unreached() == ["things.py:1"]


def test_an_operation_that_aws_does_not_have_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no operation get_rolle"):
        calls.action_of("iam", "get_rolle")


def test_the_function_that_ends_memberships_may_exactly_what_it_calls() -> None:
    code = read("hub.yaml")["Resources"]["PortalEnderFunction"]["Properties"]["Code"]["ZipFile"]
    names = {
        node.func.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.endswith(("_id", "ship"))
    }
    wanted = {calls.action_of("identitystore", name) for name in names}
    allowed = {
        action
        for document in documents("portal/PortalEnderFunction", HUB)
        for statement in document["Statement"]
        for action in _listed(statement["Action"])
    }
    assert wanted == {one for one in allowed if one.startswith("identitystore:")}
    assert allowed - wanted == {"logs:CreateLogStream", "logs:PutLogEvents"}
