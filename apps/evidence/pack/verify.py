"""Checks an evidence pack of Gatehouse. Needs Python 3.9 or newer and nothing else; reads only the files beside it.

    python3 verify.py             check everything, print the digest to compare with Gatehouse's page Evidence
    python3 verify.py DIGEST      the same, and the digest must be this one

It checks that
 1. the files are the ones of the manifest, byte for byte;
 2. each CSV says what its JSON says;
 3. the numbers add up: every item has one reviewer and one answer, the population has the digest of the launch, every
    signature covers exactly the decisions it was given for, every revocation is accounted for, nobody decided about
    their own access, and the audit events tell the same.
It ends with 0 when all of that holds, and with 1 and a list of what does not.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
MOST_SHOWN = 20
Row = dict


def main(folder: Path, wanted: str = "") -> int:
    csv.field_size_limit(2**31 - 1)
    problems = []
    for problem in check(folder, wanted):
        problems.append(problem)
        if len(problems) <= MOST_SHOWN:
            say(f"WRONG  {problem}")
    if problems:
        say(f"{len(problems)} things are wrong with this pack. It is not what was handed out, or it is incomplete.")
        return 1
    manifest = read_manifest(folder)
    items = manifest["content"]["files"]["population.json"]["rows"]
    say(f"OK     {len(manifest['content']['files'])} files are unchanged and {items} items add up.")
    say(f"Digest {manifest['content_sha256']}")
    if not wanted:
        say("Compare this digest with the one that Gatehouse shows for this pack.")
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def check(folder: Path, wanted: str) -> Iterator[str]:
    steps = (
        (check_files, check_csv, Sums)
        if not wanted
        else (lambda f: check_digest(f, wanted), check_files, check_csv, Sums)
    )
    for step in steps:
        try:
            yield from step(folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield f"The pack cannot be read any further: {type(error).__name__} {error}"
            return


# ---- 1. the files


def read_manifest(folder: Path) -> Row:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def check_digest(folder: Path, wanted: str) -> Iterator[str]:
    found = read_manifest(folder)["content_sha256"]
    if found != wanted.strip().lower():
        yield f"The digest is {found}, and you expect {wanted}"


def check_files(folder: Path) -> Iterator[str]:
    manifest = read_manifest(folder)
    content = manifest["content"]
    if sha256(canonical(content)) != manifest["content_sha256"]:
        yield "manifest.json: its digest is not that of its content"
    names = set(content["files"]) | {"manifest.json"}
    for extra in sorted(path.name for path in folder.iterdir() if path.name not in names | {"__pycache__"}):
        yield f"{extra}: not in the manifest"
    for name, facts in sorted(content["files"].items()):
        path = folder / name
        if path.name != name or not path.is_file():
            yield f"{name}: missing"
            continue
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
        if (digest.hexdigest(), size) != (facts["sha256"], facts["bytes"]):
            yield f"{name}: changed since it was handed out"


# ---- 2. CSV and JSON


def rows_of(folder: Path, name: str) -> Iterator[Row]:
    """The rows of a JSON file, one a line, so that a large file needs little memory."""
    with (folder / f"{name}.json").open(encoding="utf-8", newline="\n") as file:
        for line in file:
            text = line.strip("\n")
            if text not in ("[", "]", ""):
                yield json.loads(text.removesuffix(","))


def check_csv(folder: Path) -> Iterator[str]:
    files = read_manifest(folder)["content"]["files"]
    for name in sorted(name[:-5] for name in files if name.endswith(".json")):
        count = 0
        with (folder / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            columns = next(lines)
            for count, (cells, row) in enumerate(zip_longest(lines, rows_of(folder, name)), 1):
                if cells is None or row is None:
                    yield f"{name}: the CSV and the JSON have different numbers of rows"
                    break
                if cells != [cell(row[column]) for column in columns]:
                    yield f"{name}: row {count} of the CSV is not that of the JSON"
        for ending in ("csv", "json"):
            if files[f"{name}.{ending}"]["rows"] != count:
                yield f"{name}.{ending}: has {count} rows, the manifest says {files[f'{name}.{ending}']['rows']}"


def cell(value: Any) -> str:
    """A JSON value as the CSV shows it: text that a spreadsheet could run has an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        return cell(canonical(value))
    start = value.lstrip(" \u00a0")[:1]
    return "'" + value if value[:1] in FORMULA or start in FORMULA else value


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- 3. the numbers


class Sums:
    """Reads every list once and compares what follows from it. Iterating gives what does not add up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.choices: dict[int, str] = {}
        self.signed: dict[int, Any] = {}  # sign-off → digest over its decisions so far
        self.counts: dict[int, Counter] = {}
        self.rules: Counter = Counter()
        self.outcomes: Counter = Counter()
        self.open: set[int] = set()  # not decided, not signed, or not proven gone

    def __iter__(self) -> Iterator[str]:
        [self.campaign] = rows_of(self.folder, "campaign")
        yield from self.items()
        yield from self.answers()
        yield from self.sign_offs()
        yield from self.remediation()
        yield from self.equations()
        yield from self.sync_runs()
        yield from self.events()

    def items(self) -> Iterator[str]:
        """Population, reviewers and decisions, side by side: one of each for every item, in the same order."""
        lines = []
        lists = [rows_of(self.folder, name) for name in ("population", "assignments", "decisions")]
        for facts, assignment, decision in zip_longest(*lists, fillvalue={}):
            item = facts.get("item_id")
            if item is None or {assignment.get("item_id"), decision.get("item_id")} != {item}:
                yield f"Item {item}: not the same in population, assignments and decisions"
                return
            lines.append((facts["assignment_id"], sha256(f"{facts['assignment_id']}|{as_jsonb(facts['frozen'])}")))
            if any(facts[name] != value for name, value in facts["frozen"].items() if name in facts):
                yield f"Item {item}: a column is not what was frozen"
            self.rules[assignment["rule"]] += 1
            yield from self.decision(item, assignment, decision)
        population = len(lines)
        if population != self.campaign["population"]:
            yield f"The population has {population} items, {self.campaign['population']} were frozen at launch"
        if sha256("".join(digest for _, digest in sorted(lines))) != self.campaign["population_sha256"]:
            yield "The population is not the one that was frozen at launch"

    def decision(self, item: int, assignment: Row, decision: Row) -> Iterator[str]:
        choice, sign_off = decision["choice"], decision["sign_off_id"]
        self.choices[item] = choice
        if (choice == "undecided") != (decision["decided_by_id"] is None and decision["decided_at"] is None):
            yield f"Item {item}: has an answer without somebody who gave it, or the other way round"
        subject = assignment["subject_user_id"]
        if subject is not None and subject in (assignment["reviewer_id"], decision["decided_by_id"]):
            yield f"Item {item}: somebody reviews their own access"
        if choice == "revoke" and not decision["reason"]:
            yield f"Item {item}: revoked without a reason"
        if choice == "undecided" or sign_off is None:
            self.open.add(item)
        if sign_off is not None:
            line = f"{item}|{choice}|{decision['reason']}|{decision['decided_at']}"
            self.signed.setdefault(sign_off, hashlib.sha256()).update(sha256(line).encode())
            self.counts.setdefault(sign_off, Counter()).update(
                ["items", choice, *(["bulk"] if decision["is_bulk"] else [])]
            )

    def answers(self) -> Iterator[str]:
        """The last answer in the history is the one that stands."""
        last = {row["item_id"]: row["choice"] for row in rows_of(self.folder, "history")}
        for item, choice in self.choices.items():
            if last.pop(item, "undecided") != choice:
                yield f"Item {item}: the history ends with another answer"
        if last:
            yield f"The history has answers about {len(last)} items that are not in the population"

    def sign_offs(self) -> Iterator[str]:
        rows = {row["sign_off_id"]: row for row in rows_of(self.folder, "sign_offs")}
        for key in rows.keys() | self.signed.keys():
            if key not in rows or key not in self.signed:
                yield f"Sign-off {key}: covers nothing, or is missing"
                continue
            if self.signed[key].hexdigest() != rows[key]["decisions_sha256"]:
                yield f"Sign-off {key}: the decisions are not those that were signed"
            if any(self.counts[key][name] != rows[key][name] for name in ("items", "keep", "revoke", "bulk")):
                yield f"Sign-off {key}: covers other numbers than it says"
        self.digests = {row["decisions_sha256"] for row in rows.values()}

    def remediation(self) -> Iterator[str]:
        revoked = [item for item, choice in self.choices.items() if choice == "revoke"]
        found = []
        for row in rows_of(self.folder, "remediation"):
            found.append(row["item_id"])
            self.outcomes[row["outcome"]] += 1
            is_gone = row["outcome"] == "removed"
            if is_gone != bool(row["gone_at"] and row["proofs"]):
                yield f"Item {row['item_id']}: gone without a proof, or a proof of what is not gone"
            if not is_gone:
                self.open.add(row["item_id"])
        if found != revoked:
            yield "Not every revocation has exactly one line in remediation"
        if {row["item_id"] for row in rows_of(self.folder, "exceptions")} != self.open:
            yield "The exceptions are not what is left open"

    def equations(self) -> Iterator[str]:
        now = {}
        for row in rows_of(self.folder, "sums"):
            if row["off_by"] or row["total"] != sum(row["parts"].values()):
                yield f"{row['name']} ({row['when']}): off by {row['total'] - sum(row['parts'].values())}"
            if row["when"] == "in this pack":
                now[row["name"]] = row["parts"]
        choices, out = Counter(self.choices.values()), self.outcomes
        decided = choices["keep"] + choices["revoke"]
        signed = sum(count["items"] for count in self.counts.values())
        rules = {"manager": "by managers", "owner": "by owners", "fallback": "by the fallback"}
        rules.update({"launcher": "by who launched it", "passed": "passed on"})
        expected = {
            "Everything has a reviewer": {rules.get(rule, rule): count for rule, count in self.rules.items()},
            "Everything has one answer": {
                "keep": choices["keep"],
                "revoke": choices["revoke"],
                "not decided": choices["undecided"],
            },
            "Decisions are signed": {"signed": signed, "not signed": decided - signed},
            "Removals are proven": {
                "gone": out["removed"],
                "being removed": out["removing"],
                "with their owners": out["owner_task"],
                "not started": out["not_started"],
            },
        }
        for name, parts in expected.items():
            if now.get(name) != parts:
                yield f"{name}: the lists give {canonical(parts)}, the sums say {canonical(now.get(name))}"

    def sync_runs(self) -> Iterator[str]:
        scopes = list(rows_of(self.folder, "sync_runs"))
        if any(row["state"] != "complete" or row["run_state"] != "complete" for row in scopes):
            yield "The population was read from a sync that was not complete"
        if any(row["run_id"] != self.campaign["sync_run_id"] for row in scopes):
            yield "The sync is not the one the population was frozen from"
        for row in scopes:
            for total in row["control_totals"]:
                if total["expected"] is not None and total["read"] != total["expected"]:
                    yield f"{row['scope']}: {total['read']} of {total['expected']} {total['name']} were read"

    def events(self) -> Iterator[str]:
        """The audit log was written at the time, by itself: it must tell the same."""
        told: dict[str, dict[str, Row]] = {}  # event → subject → its last facts
        for row in rows_of(self.folder, "events"):
            told.setdefault(row["event"], {})[row["subject"]] = row["data"]
        decided = told.get("reviews.review_item.decided", {})
        for item, choice in self.choices.items():
            if decided.get(f"reviews.reviewitem:{item}", {"choice": "undecided"})["choice"] != choice:
                yield f"Item {item}: the audit events end with another answer"
        if {data["digest"] for data in told.get("reviews.sign_off.submitted", {}).values()} != self.digests:
            yield "The audit events have other sign-offs"
        launched = [(data["population"], data["digest"]) for data in told.get("reviews.campaign.launched", {}).values()]
        if launched != [(self.campaign["population"], self.campaign["population_sha256"])]:
            yield "The audit event of the launch has another population"


def as_jsonb(value: Any) -> str:
    """JSON as PostgreSQL writes jsonb: keys by their length in bytes, then by their bytes."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{as_jsonb(key)}: {as_jsonb(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_jsonb, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent, *sys.argv[1:2]))
