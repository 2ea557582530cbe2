"""The ledger: everything needed to end all unfinished grants, in a file, for when the database is gone.

JSON lines. The first says the version and when it was written; then each connection with what a connector needs to reach
it (no secret: credentials come from the environment); then each grant; the last says how many grants there are and the
SHA-256 of all bytes before it, so that a file that was cut off or damaged is noticed. That is no signature: whoever can
write the file can write that line too, so it is kept where only the portal's own processes may write (mode 0600).

It is a memory of its own: what the file says and the database has forgotten (a dump was older, rows were taken out) stays
in the next one, and the last file of another database is put aside, as is the last from before this one was doubted.

Reading it touches neither the database nor the settings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from django.db.models import Model, Q

from apps.connectors import registry
from apps.connectors.base import Target, Window
from apps.connectors.errors import ConnectorError
from apps.grants import narrowing, warrants
from apps.grants.models import Grant, State
from apps.grants.models.grants import IN_AWS
from apps.grants.models.homes import name_here
from apps.grants.windows import target_of
from apps.inventory.models import Connection

logger = logging.getLogger(__name__)

VERSION = 1
_DATES = ("claimed_at", "not_after", "ends_at", "revoking_at")
KEPT_FOR = timedelta(days=7)  # what the database has forgotten, past its end
M = TypeVar("M", bound=Model)
T = TypeVar("T")


class Damaged(Exception):
    """The file is not what was written: cut off, changed, or no ledger. The text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One grant, with enough to end it without the database. `config` is its connection's."""

    number: str
    reference: str
    state: str
    holder: str
    connection: str
    kind: str
    config: Mapping[str, Any]
    target: Target
    provisioner: str = ""
    remover: str = ""  # for standing access that is being removed
    shared_key: str = ""
    is_alone: bool = False  # it shares nothing in the provider with other grants
    claimed_at: datetime | None = None
    not_after: datetime | None = None
    ends_at: datetime | None = None
    revoking_at: datetime | None = None
    forgotten_at: datetime | None = None  # when the database was first found not to know of it; None: it does

    @property
    def is_over(self) -> bool:
        """It ended; only the shared object still has to deny its last sessions."""
        return self.state == State.REVOKED

    @property
    def is_live(self) -> bool:
        return self.state in (State.PROVISIONING, State.ACTIVE)

    @property
    def is_ending(self) -> bool:
        return self.state == State.REVOKING

    @property
    def end(self) -> datetime | None:
        """When it should be over, by the earlier of what was agreed and what was written into the provider."""
        return min((at for at in (self.ends_at, self.not_after) if at is not None), default=None)

    @property
    def pair(self) -> tuple[str, str, str]:
        """What the provider shows one thing for."""
        return self.connection, self.target.principal_external_id, self.target.entitlement_external_id

    def closed(self, now: datetime) -> Window:
        """As what is denied at once."""
        return Window(self.target, self.revoking_at or now, is_open=False, lapses_at=self.not_after)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a file says. `problem` says what is wrong with it, where that was asked for instead of `Damaged`."""

    written_at: datetime
    entries: tuple[Entry, ...]
    problem: str = ""
    database: str = ""  # the name of the one that it was written from
    is_doubted: bool = False

    @property
    def connections(self) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """Name → kind and config, of those that have grants."""
        return {entry.connection: (entry.kind, entry.config) for entry in self.entries}


def entry_of(grant: Grant) -> Entry:
    """The ledger's word for a row loaded `with_names` and its warrant, which says what opens and ends it."""
    grant = copy(grant)
    grant.provisioner = warrants.provisioner_of(grant)
    return Entry(
        number=grant.number,
        reference=grant.reference,
        state=grant.state,
        holder=str(grant.identity or grant.principal),
        connection=grant.connection.name,
        kind=grant.connection.kind,
        config=grant.connection.config,
        target=target_of(grant),
        provisioner=grant.provisioner,
        remover=grant.remover,
        shared_key=grant.shared_key,
        is_alone=grant.is_alone_in_aws,
        **{name: getattr(grant, name) for name in _DATES},
    )


def write(path: Path, now: datetime) -> int:
    """Write the ledger so that a reader sees the old one or the new one, never half of one. Says how many grants."""
    before = _before(path)
    here, is_doubted = name_here(), bool(narrowing.reason())
    kept = _forgotten(before.entries, now, is_doubted=is_doubted) if before else []
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # the last tick may still be at it
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            count = _write_lines(file.write, Ledger(now, tuple(kept), database=here, is_doubted=is_doubted), before)
            file.flush()
            os.fsync(file.fileno())
        if before and (before.database not in ("", here) or (is_doubted and not before.is_doubted)):
            _put_aside(path)
        draft.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _before(path: Path) -> Ledger | None:
    try:
        return read(path, accept_damage=True)
    except FileNotFoundError:
        return None


def _put_aside(path: Path) -> None:
    link = path.with_name(f".{path.name}.aside.{secrets.token_hex(4)}")
    link.hardlink_to(path)
    link.replace(path.with_name(f"{path.name}.before"))


def _forgotten(entries: Sequence[Entry], now: datetime, *, is_doubted: bool) -> list[Entry]:
    """What stays in the ledger though the database does not say it. A database that is doubted may also know an older
    state: that nothing was opened yet."""
    found = []
    for entry in entries:
        since = entry.forgotten_at or now
        if max(since, entry.end or since) + KEPT_FOR > now:
            found.append(replace(entry, forgotten_at=since))
    states = known(found)

    def is_forgotten(entry: Entry) -> bool:
        state = states.get(entry.reference)
        is_older = is_doubted or state == State.PENDING  # which no grant is ever again
        return state is None or (is_older and (entry.is_live or entry.is_ending) and state not in IN_AWS)

    return [entry for entry in found if is_forgotten(entry)]


def known(entries: Iterable[Entry]) -> dict[str, str]:
    """Reference → state, of those that the database has a row of. Rows of grants are never deleted, so any other was
    forgotten; a row of the same reference that is about somebody or something else is another grant, made up since."""
    about = {entry.reference: entry.pair[1:] for entry in entries}
    names = ("reference", "state", "principal__external_id", "entitlement__external_id")
    rows = Grant.objects.filter(reference__in=list(about)).values_list(*names)
    return {reference: state for reference, state, *pair in rows if about[reference] == tuple(pair)}


def read(path: Path, *, accept_damage: bool = False) -> Ledger:
    """What the file says. Raises `Damaged` unless it is whole; with `accept_damage` every line that can be read counts,
    and `problem` says what is wrong."""
    body, _, last = path.read_bytes().rstrip(b"\n").rpartition(b"\n")
    body += b"\n"
    problem = _problem_of(body, last)
    if problem and not accept_damage:
        raise Damaged(problem)
    connections: dict[str, dict[str, Any]] = {}
    entries: list[Entry] = []
    written_at, header = datetime.fromtimestamp(path.stat().st_mtime, UTC), {}
    for line in (*body.splitlines(), last):
        try:
            row = json.loads(line)
            kind = row.pop("line")
            if kind == "ledger":
                written_at, header = datetime.fromisoformat(row["written_at"]), row
            elif kind == "connection":
                connections[row["name"]] = row
            elif kind == "grant":
                entries.append(_entry(row, connections[row["connection"]]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if not accept_damage:
                raise Damaged("A line of it cannot be read.") from error
    database, is_doubted = str(header.get("database", "")), bool(header.get("is_doubted"))
    return Ledger(written_at, tuple(entries), problem, database, is_doubted)


def _problem_of(body: bytes, last: bytes) -> str:
    try:
        first, end = json.loads(body.partition(b"\n")[0]), json.loads(last)
        if first["line"] != "ledger" or end["line"] != "end":
            return "It was cut off, or is no ledger: its first or last line is missing."
        if first["version"] != VERSION:
            return f"It is of version {first['version']}, and this program reads version {VERSION}."
        if end["sha256"] != hashlib.sha256(body).hexdigest():
            return "It was changed or damaged: its checksum is another one."
        count = sum(line.startswith(b'{"line":"grant"') for line in body.splitlines())
        return "" if end["count"] == count else f"It names {count} grants and says that there are {end['count']}."
    except (KeyError, TypeError, ValueError):
        return "It was cut off, or is no ledger: its first or last line cannot be read."


def _write_lines(put: Any, begun: Ledger, last: Ledger | None) -> int:
    digest, count = hashlib.sha256(), 0
    for line in _lines(begun, last):
        put(line)
        digest.update(line)
        count += line.startswith(b'{"line":"grant"')
    put(_json({"line": "end", "count": count, "sha256": digest.hexdigest()}))
    return count


def _lines(begun: Ledger, last: Ledger | None) -> Iterator[bytes]:
    """What the database says, behind the entries of `begun` that it has forgotten. For a row that breaks stands what the
    `last` ledger said of it: whoever may write one keeps no other out."""
    header = {"database": begun.database, "is_doubted": begun.is_doubted}
    yield _json({"line": "ledger", "version": VERSION, "written_at": begun.written_at.isoformat(), **header})
    connections = dict(last.connections) if last else {}
    for row in Connection.objects.all():
        config = _unless_broken(lambda row: row.config, row)
        if config is not None:
            connections[row.name] = (row.kind, config)
    for name, (kind, config) in connections.items():
        said = {key: value for key, value in config.items() if value is not None}
        yield _json({"line": "connection", "name": name, "kind": kind, "config": said})
    for entry in begun.entries:
        yield _json({"line": "grant", **_plain(entry)})
    said_already = list(known(begun.entries))
    before = {entry.reference: entry for entry in last.entries} if last else {}
    for grant in _to_write().exclude(reference__in=said_already).iterator(chunk_size=500):
        found = _unless_broken(_entry_now, grant) or before.get(grant.reference)
        if found and found.connection in connections:
            yield _json({"line": "grant", **_plain(found)})


def _entry_now(grant: Grant) -> Entry:
    entry = entry_of(grant)
    if entry.shared_key or not entry.provisioner:
        return entry
    try:  # a worker may begin it after this was written
        provisioner = registry.provisioner(entry.kind, entry.provisioner, entry.config)
        return replace(entry, shared_key=provisioner.shared_key(entry.target))
    except ConnectorError:
        return entry


def _unless_broken(read: Callable[[M], T], row: M) -> T | None:
    try:
        return read(row)
    except Exception:
        logger.exception("%s cannot be written into the ledger as it is", row)
        return None


def _to_write() -> Any:
    """Every grant that is not at its end, and those that a shared object still has to deny. What an owner removes by hand
    cannot be ended from here."""
    said = Q(state__in=[State.PENDING, State.PROVISIONING, State.ACTIVE, State.REVOKING])
    said |= Q(state=State.REVOKED, cleared_at=None, shared_key__gt="")
    rows = Grant.objects.filter(said).exclude(remover=Grant.BY_OWNER)
    rows = rows.with_names().select_related("principal__resource", "assignment", "warrant")
    return rows.defer("warrant__approvals", "warrant__verdict").order_by("pk")


def _plain(entry: Entry) -> dict[str, Any]:
    row = {name: value for name, value in asdict(entry).items() if name not in ("kind", "config")}
    if entry.forgotten_at is None:
        del row["forgotten_at"]
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _entry(row: dict[str, Any], connection: Mapping[str, Any]) -> Entry:
    known = {
        **row,
        "kind": connection["kind"],
        "config": connection["config"],
        "target": Target(**row["target"]),
        **{name: datetime.fromisoformat(row[name]) if row[name] else None for name in _DATES},
        "forgotten_at": datetime.fromisoformat(row["forgotten_at"]) if row.get("forgotten_at") else None,
    }
    entry = Entry(**known)
    if entry.provisioner and (entry.kind, entry.provisioner) not in registry.PROVISIONERS:
        raise ValueError(entry.provisioner)
    return entry


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
