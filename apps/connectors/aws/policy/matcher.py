"""Patterns of policies: `*` stands for any text, `?` for one character.

Sources: IAM user guide, "IAM JSON policy elements: Action" (action names ignore letter case, so `documents` keeps them in
lower case) and "Resource" (ARNs do not).
"""

from __future__ import annotations

import re
from functools import lru_cache

LITERAL_STAR = (
    "\0"  # what a policy variable brings in is text, never a wildcard; no document may hold these two characters itself
)
LITERAL_QUESTION = "\1"

_WILDCARD = re.compile(r"[*?]")
_ONE = {"?": ".", LITERAL_STAR: r"\*", LITERAL_QUESTION: r"\?"}


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits the pattern, letter by letter. No pattern makes it backtrack."""
    return _compiled(pattern).fullmatch(text) is not None


def has_wildcard(pattern: str) -> bool:
    return _WILDCARD.search(pattern) is not None


def covers(pattern: str, other: str) -> bool:
    """Whether everything that fits `other` surely fits `pattern`. May say no where it is yes, never the reverse."""
    if has_wildcard(other) and "?" in pattern:
        return pattern == other
    return matches(pattern, other)


def may_overlap(pattern: str, other: str) -> bool:
    """Whether some text could fit both. May say yes where the answer is no, never the reverse."""
    head, other_head = (_WILDCARD.split(one, maxsplit=1)[0] for one in (pattern, other))
    if not has_wildcard(pattern):
        return matches(other, pattern)
    if not has_wildcard(other):
        return matches(pattern, other)
    return head.startswith(other_head) or other_head.startswith(head)


@lru_cache(maxsize=8192)
def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as an expression in which a piece between stars is taken where it fits first, for good."""
    first, *rest = ("".join(_ONE.get(char) or re.escape(char) for char in piece) for piece in re.split(r"\*+", pattern))
    if rest:
        *middle, last = rest
        first += "".join(f"(?>.*?{piece})" for piece in middle) + f".*{last}"
    return re.compile(first, re.DOTALL)
