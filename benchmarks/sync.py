"""How long it takes to read a company into the inventory, and how much memory: `python -m benchmarks.sync [assignments]`.

By default the design size, 1,000,000 assignments (`benchmarks/company.py` says of what), and before it a hundredth and a
tenth of that, to see whether memory grows. Records go through the same sync as AWS's; only the calls are left out. Each
sync is a process of its own, so that its peak memory is its own, on a database made for this run and removed after it:

- the first sync, and how many times as long it takes as a plain COPY of the same rows into the same tables with the same
  indexes, which reads, compares, digests, assesses and links nothing, and checks no foreign key;
- a sync that finds nothing new;
- one that finds one in a hundred things changed.

The ratio says how much of the tightest limit is used, and more than 1 is a failure. `making up the records` is what the
benchmark itself takes for them, without any sync; it is part of all times.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.portal import portal

ASSIGNMENTS = 1_000_000
NO_CHANGE_SECONDS = 60.0  # for 1,000,000 assignments
MEMORY_MB = 400.0  # at any size
GROWTH = 2.0  # peak memory against that of a tenth of the size; the largest account grows with it
FIRST_SECONDS = 300.0  # for 1,000,000 assignments, once in a connection's life
TABLES = ("resource", "identity", "principal", "entitlement", "assignment", "credential")


def main() -> int:
    if len(sys.argv) > 2:
        made = _at(int(sys.argv[1])) if sys.argv[2] == "all" else _one_sync(int(sys.argv[1]), sys.argv[2])
        _say(json.dumps(made))
        return 0
    size = int(sys.argv[1]) if len(sys.argv) > 1 else ASSIGNMENTS
    peaks: dict[int, float] = {}
    ratio = 0.0
    for assignments in dict.fromkeys(max(1_000, size // part) for part in (100, 10, 1)):
        found = _in_a_process(assignments, "all")
        peaks[assignments] = max(found[phase]["peak"] for phase in ("first", "nothing new", "one in a hundred"))
        ratio = max(ratio, _report(assignments, found))
    growth = peaks[size] / peaks[max(1_000, size // 10)]
    _say(f"peak memory against that of a tenth of the size: {growth:.2f} times (limit {GROWTH})")
    ratio = max(ratio, growth / GROWTH, peaks[size] / MEMORY_MB)
    _say(f"assignments {size:,}, ratio {ratio:.2f}")
    return int(ratio > 1)


def _report(assignments: int, found: dict[str, dict[str, Any]]) -> float:
    """Prints what one size took. Returns the ratio of what has a limit that holds at any size."""
    first, again, later = (found[phase] for phase in ("first", "nothing new", "one in a hundred"))
    against = first["seconds"] / first["copy"]
    share = max(0.1, assignments / ASSIGNMENTS)
    limit, first_limit = NO_CHANGE_SECONDS * share, FIRST_SECONDS * share
    _say(f"{assignments:,} assignments, {first['rows']:,} rows in all:")
    _say(f"  making up the records: {again['making up']:.1f} s")
    rate = first["rows"] / first["seconds"]
    took = f"{first['seconds']:.1f} s (limit {first_limit:.0f} s)"
    _say(f"  first sync: {took}, {rate:,.0f} rows/s, peak {first['peak']:.0f} MB")
    _say(f"  COPY of the same rows: {first['copy']:.1f} s, so {against:.1f} times")
    _say(f"  nothing new: {again['seconds']:.1f} s (limit {limit:.0f} s), peak {again['peak']:.0f} MB")
    _say(f"  one in a hundred: {later['seconds']:.1f} s, peak {later['peak']:.0f} MB, {later['changes']}")
    return max(first["seconds"] / first_limit, again["seconds"] / limit)


def _at(assignments: int) -> dict[str, dict[str, Any]]:
    """What each sync of a company of this size took."""
    with portal():
        from django.db import connection

        _connection(assignments)
        found = {"first": _in_a_process(assignments, "0")}
        found["first"] |= _copied()
        found["nothing new"] = _in_a_process(assignments, "0")
        assert found["nothing new"]["changes"] == {}, found["nothing new"]["changes"]
        found["one in a hundred"] = _in_a_process(assignments, "1")
        connection.close()
    return found


def _in_a_process(assignments: int, what: str) -> dict[str, Any]:
    made = [sys.executable, "-m", "benchmarks.sync", str(assignments), what]
    answer = subprocess.run(made, check=True, stdout=subprocess.PIPE, env=os.environ, text=True)
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _one_sync(assignments: int, generation: str) -> dict[str, Any]:
    """What one sync took, in this process."""
    import django

    django.setup()
    from apps.audit import services as audit
    from apps.connectors import registry
    from apps.inventory import sync
    from apps.inventory.models import Connection
    from benchmarks.company import CompanyConnector

    registry.CONNECTORS["bench"] = "benchmarks.company:CompanyConnector"
    org = Connection.objects.get()
    org.options = {"assignments": assignments, "generation": generation}
    org.save()
    started = time.perf_counter()
    run = sync.run(org.pk, by=audit.WORKER)
    took = time.perf_counter() - started
    assert run.state == "complete", (run.state, run.problem, [scan.problems for scan in run.scopes.all()])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    _drain(CompanyConnector(org.config))
    alone = time.perf_counter() - started
    return {"seconds": took, "peak": peak, "changes": run.changes, "making up": alone}


def _drain(connector: Any) -> None:
    accounts = connector.accounts()
    for _ in connector.scan_directory(accounts, _quiet):
        pass
    for account in accounts:
        connector.scan_account(account, _quiet)


def _quiet(done: int, of: int, what: str) -> None:
    """Progress that nobody watches."""


def _connection(assignments: int) -> None:
    from apps.inventory.models import Connection

    Connection.objects.create(name="company", kind="bench", options={"assignments": assignments})


def _copied() -> dict[str, Any]:
    """How long a plain COPY takes for the rows that the first sync wrote, into the same tables with the same indexes and
    constraints, and how many rows they are."""
    from django.db import connection

    rows, data = 0, Path(tempfile.mkdtemp(prefix="gatehouse-rows-"))
    try:
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"CREATE TABLE plain_{table} (LIKE inventory_{table} INCLUDING ALL)")
                cursor.execute(f"SELECT count(*) FROM inventory_{table}")  # noqa: S608  our own names
                rows += cursor.fetchone()[0]
                with (data / table).open("wb") as file, cursor.copy(f"COPY inventory_{table} TO STDOUT") as copy:
                    for block in copy:
                        file.write(block)
            started = time.perf_counter()
            for table in TABLES:
                with (data / table).open("rb") as file, cursor.copy(f"COPY plain_{table} FROM STDIN") as copy:
                    while block := file.read(1 << 16):
                        copy.write(block)
            took = time.perf_counter() - started
            for table in TABLES:
                cursor.execute(f"DROP TABLE plain_{table}")
            cursor.execute("ANALYZE")
    finally:
        shutil.rmtree(data, ignore_errors=True)
    return {"copy": took, "rows": rows}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
