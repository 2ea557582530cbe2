"""What no file of the repository may contain."""

import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

# Pieces, so that this file does not contain what it looks for.
REGISTRY_HOSTS = ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "npmjs" + ".com", "yarnpkg" + ".com"]
MACHINE_PATHS = [  # patterns
    "/work" + "/main",
    "/work" + "/shared",
    "/root" + "/",
    "/home" + "/",
    "/Users" + r"/\w",  # and not SCIM's address of somebody: there comes a brace
    "/tmp" + "/clone",
]
LOCKS = ["package-lock.json", "requirements/run.txt", "requirements/demo.txt", "requirements/dev.txt"]


def tracked_text() -> list[tuple[str, str]]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, names.split("\0")):
        try:
            found.append((name, (PROJECT / name).read_text()))
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture; a file that somebody is just removing
    return found


def mentions(words: list[str]) -> list[str]:
    pattern = re.compile("|".join(words))
    return [f"{name}: {match.group()}" for name, text in tracked_text() if (match := pattern.search(text))]


@pytest.fixture(autouse=True)
def _a_checkout() -> None:
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")


def test_no_address_of_a_package_registry() -> None:
    assert mentions([*map(re.escape, REGISTRY_HOSTS)]) == []


def test_no_path_of_somebodys_machine() -> None:
    assert mentions(MACHINE_PATHS) == []


@pytest.mark.parametrize("name", LOCKS)
def test_locks_pin_by_hash(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert '"resolved"' not in text
    assert "sha512-" in text or "--hash=sha256:" in text


def test_no_conflict_marker() -> None:
    assert mentions(["<" * 7 + " ", ">" * 7 + " "]) == []
