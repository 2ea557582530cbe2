"""The README's table of environment variables is complete, and holds nothing that the code does not read."""

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
READERS = {"text", "flag", "number", "words", "secret", "secret_words"}
ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]+)`", re.MULTILINE)

# Read by others for us: boto3, and the shell that starts the image.
FROM_OUTSIDE = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_MAX_ATTEMPTS",
    "AWS_SIGNIN_URL",
}


def read_by_the_code() -> set[str]:
    """The first argument of every env.text(...), env.flag(...) and so on in config/."""
    names: set[str] = set()
    for path in (PROJECT / "config").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id=reader) | ast.Attribute(value=ast.Name(id="env"), attr=reader),
                    args=[ast.Constant(value=str() as name), *_],
                ) if reader in READERS:
                    names.add(name)
    return names


def test_the_table_is_what_the_code_reads() -> None:
    assert "SECRET_KEY" in read_by_the_code()
    table = set(ROW.findall((PROJECT / "README.md").read_text()))
    assert sorted(read_by_the_code() - table) == [], "missing from the table"
    assert sorted(table - read_by_the_code() - FROM_OUTSIDE) == [], "in the table, but nothing reads it"
