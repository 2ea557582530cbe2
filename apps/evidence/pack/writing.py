"""Writes a pack: one zip on disk, a row in memory at a time, the same bytes for the same state."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.template.loader import render_to_string

from apps.core import sheets
from apps.evidence.pack.parts import PARTS
from apps.reviews.models import Campaign

VERIFY = Path(__file__).with_name("verify.py")
FIRST_INSTANT = (1980, 1, 1, 0, 0, 0)  # the earliest a zip knows; a real one would make every pack different


@dataclass(frozen=True)
class Written:
    """A finished pack. `content_digest` is the same for the same state of the campaign, `digest` is of this zip file."""

    content_digest: str
    digest: str
    size: int
    rows: dict[str, int]


def write(campaign: Campaign, file: IO[bytes], *, made_by: str, made_at: datetime) -> Written:
    """Write the pack of `campaign` into `file`. The caller holds a transaction in which every query sees one state."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        pack = _Pack(archive, f"gatehouse-review-{campaign.pk}")
        for part in PARTS:
            pack.add(f"{part.name}.csv", partial(sheets.write_csv, columns=part.columns, rows=part.rows(campaign)))
            pack.add(f"{part.name}.json", partial(sheets.write_json, rows=part.rows(campaign)))
        pack.add("README.txt", _text(_readme(campaign)))
        pack.add("verify.py", _text(VERIFY.read_text()))
        content = {"campaign": {"id": campaign.pk, "name": campaign.name}, "files": pack.files}
        content_digest = hashlib.sha256(sheets.canonical(content).encode()).hexdigest()
        handout = {"made_at": sheets.instant(made_at), "made_by": made_by, "code_sha256": code_digest()}
        manifest = {"content": content, "content_sha256": content_digest, "handout": handout}
        pack.add("manifest.json", _text(json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"))
    rows = {name.removesuffix(".json"): facts["rows"] for name, facts in pack.files.items() if name.endswith(".json")}
    rows.pop("manifest", None)
    return Written(content_digest, _digest(file), file.seek(0, 2), rows)


@dataclass
class _Pack:
    archive: zipfile.ZipFile
    folder: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, put: Callable[[sheets.Hashed], int | None]) -> None:
        with self._entry(name) as entry:
            out = sheets.Hashed(entry)
            rows = put(out)
        self.files[name] = {"sha256": out.digest, "bytes": out.size, "rows": rows}

    @contextmanager
    def _entry(self, name: str) -> Iterator[IO[bytes]]:
        info = zipfile.ZipInfo(f"{self.folder}/{name}", FIRST_INSTANT)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = 3  # as on Unix, wherever it is made
        info.external_attr = 0o100644 << 16
        with self.archive.open(info, "w", force_zip64=True) as entry:
            yield entry


def _text(text: str) -> Callable[[sheets.Hashed], None]:
    return lambda out: out.write(text.encode())


def _readme(campaign: Campaign) -> str:
    return render_to_string("evidence/pack_readme.txt", {"campaign": campaign, "parts": PARTS})


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    for block in iter(partial(file.read, 1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 over the programs of this installation, so that two packs can be told to come from the same code."""
    digest = hashlib.sha256()
    base = Path(settings.BASE_DIR)
    for path in sorted(base.glob("apps/**/*.py")):
        digest.update(f"{path.relative_to(base)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
