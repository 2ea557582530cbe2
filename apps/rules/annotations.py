"""What the annotations of a rule say, read strictly: whatever is not understood is an error, never a default."""

import re
from dataclasses import dataclass
from datetime import timedelta

APPROVERS = ("manager", "owner", "administrator")

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1)}
_DURATION = re.compile(r"([1-9][0-9]{0,3})([mh])")
LONGEST = timedelta(hours=24)


class AnnotationError(ValueError):
    """An annotation that cannot be read. The message says what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a person must bring before an offer can be taken: `ticket`, or a step-up (`mfa`) not older than `fresh_for`.

    A ticket is checked by the evaluation, because it belongs to the question; a step-up by whoever acts on the verdict.
    """

    kind: str
    fresh_for: timedelta | None = None

    def __str__(self) -> str:
        return self.kind if self.fresh_for is None else f"{self.kind} {in_short(self.fresh_for)}"


def in_short(duration: timedelta) -> str:
    """The duration as rules write it: `4h`, `90m`."""
    minutes = int(duration.total_seconds() // 60)
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def parse_duration(text: str) -> timedelta:
    """Read `30m` or `4h`: one whole number and one unit, at most 24 hours.

    Raises AnnotationError for anything else, zero, a sign or spaces included.
    """
    match = _DURATION.fullmatch(text)
    duration = int(match[1]) * _UNITS[match[2]] if match else None
    if duration is None or duration > LONGEST:
        raise AnnotationError(f'"{text}" is not a duration: write minutes or hours as "30m" or "4h", at most "24h"')
    return duration


def parse_approvers(text: str) -> tuple[str, ...]:
    """Read `manager, owner`: who may say yes, any one of them. In the order written.

    Raises AnnotationError for an empty list, an unknown word or a word said twice.
    """
    names = _words(text)
    for name in names:
        if name not in APPROVERS:
            raise AnnotationError(f'"{name}" is not an approver: choose from {", ".join(APPROVERS)}')
    return names


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """Read `mfa 15m, ticket`: everything listed is needed.

    Raises AnnotationError for an empty list, an unknown word, a step-up without its freshness, or a word said twice.
    """
    requirements = tuple(_requirement(word) for word in _words(text))
    if len({requirement.kind for requirement in requirements}) != len(requirements):
        raise AnnotationError(f'"{text}" asks for the same thing twice')
    return requirements


def _requirement(text: str) -> Requirement:
    if text == "ticket":
        return Requirement("ticket")
    kind, _, fresh_for = text.partition(" ")
    if kind == "mfa" and fresh_for:
        return Requirement("mfa", parse_duration(fresh_for))
    raise AnnotationError(f'"{text}" is not a requirement: write "ticket", or "mfa 15m" with how fresh it must be')


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise AnnotationError(f'"{text}" is not a list: write words with a comma between two of them')
    if len(set(words)) != len(words):
        raise AnnotationError(f'"{text}" says the same word twice')
    return words
