"""What every scan of AWS has in common: parts that may fail alone, progress, bounded text, a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from apps.connectors.aws.session import Api
from apps.connectors.base import AssignmentRecord, Progress, Scan
from apps.connectors.errors import ConnectorError, Denied, Throttled

LONGEST_NAME = 256
LONGEST_DESCRIPTION = 1000
PART = 5_000  # records that are handed over together, where a scan comes in parts


class Reading:
    """One scan being made. An error ends its part, becomes a problem, and lets the other parts go on.

    `scan` is what was read and not yet handed over; a scan that fits into memory is handed over once, by `finish`.
    """

    def __init__(self, api: Api, progress: Progress, parts: int) -> None:
        self.scan = Scan()
        self._api = api
        self._progress = progress
        self._done, self._of = 0, parts
        self._failures: list[ConnectorError] = []
        self._is_any = False
        self.assignments = 0  # read so far, each once within what is handed over together

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Read one part; `name` is what people see while it lasts."""
        self._progress(self._done, self._of, name)
        try:
            yield
        except ConnectorError as error:
            self._failures.append(error)
            self.scan.problems.append(f"Reading {name} stopped: {error}")
        self._done += 1

    @property
    def is_cut_off(self) -> bool:
        """AWS does not let us in or does not answer: asking for the next thousand accounts would only take time."""
        return any(isinstance(error, Denied | Throttled) for error in self._failures)

    def handed_over(self) -> Iterator[Scan]:
        """What was read since the last time, once it is enough for a part."""
        scan = self.scan
        if len(scan.principals) + len(scan.entitlements) + len(scan.assignments) >= PART:
            self._put_in_order(scan)
            self.scan = Scan()
            yield scan

    def finish(self) -> Scan:
        """The rest. Raises the first error when nothing at all could be read."""
        scan = self.scan
        self._put_in_order(scan)
        if self._failures and not self._is_any:
            raise self._failures[0]
        spent = self._api.spent
        scan.calls, scan.throttles, scan.waited = spent.calls, spent.throttles, spent.waited
        self._progress(self._of, self._of, "done")
        return scan

    def _put_in_order(self, scan: Scan) -> None:
        """A fixed one, so that two reads of one state are equal."""
        scan.principals.sort(key=lambda record: (record.kind, record.external_id))
        scan.entitlements.sort(key=lambda record: (record.kind, record.external_id))
        scan.credentials.sort(key=lambda record: (record.principal_external_id, record.kind, record.external_id))
        scan.assignments = _each_once(scan.assignments)
        self.assignments += len(scan.assignments)
        self._is_any = self._is_any or bool(scan.principals or scan.entitlements or scan.assignments)


def _each_once(assignments: Sequence[AssignmentRecord]) -> list[AssignmentRecord]:
    """Sorted, and none twice: a page that shifts while it is read can show one assignment again."""
    found = {(record.principal_external_id, record.entitlement_external_id): record for record in assignments}
    return [found[key] for key in sorted(found)]


def have_shifted(pages: Iterable[Iterable[str]]) -> bool:
    """Whether a page shows again what an earlier one showed: something changed while they were read, and what moved the
    other way was on none. Twice on one page is merely said twice."""
    seen: set[str] = set()
    for page in pages:
        if not seen.isdisjoint(found := {*page}):
            return True
        seen |= found
    return False


def shifted(what: str) -> str:
    """What people are told of that."""
    return (
        f"{what} shifted from page to page while they were read, so one may be missing. The next reading looks again."
    )


def written(text: Any) -> str:
    """A name as somebody outside wrote it, bounded and no more: the inventory cleans and cuts it, and counts that."""
    return str(text or "")[:LONGEST_DESCRIPTION]


def name(text: Any) -> str:
    """A name as somebody outside wrote it: one line, bounded."""
    return _bounded(text, LONGEST_NAME)


def description(text: Any) -> str:
    """A description as somebody outside wrote it: one line, bounded."""
    return _bounded(text, LONGEST_DESCRIPTION)


def tags(pairs: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """AWS's list of Key and Value as a mapping in a fixed order. A key that only looks like another one is not it."""
    found = sorted(pairs or (), key=lambda pair: (pair["Key"].isprintable(), pair["Key"]))  # what is said last, counts
    return {name(pair["Key"]): name(pair.get("Value")) for pair in found}


def _bounded(text: Any, longest: int) -> str:
    if not text:
        return ""
    plain = "".join(letter if letter.isprintable() else " " for letter in str(text)[: longest + 1])
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"
