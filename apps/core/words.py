"""How instants, durations, people and account ids are said, on screens and in mails alike."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils import timezone

MINUTE, HOUR, DAY = 60, 3600, 86400

# where the name of a person or a machine may be found, best first: an identity, a user, anything with a name
NAME_SOURCES = ("display_name", "name", "get_full_name", "username", "email")


def seconds_of(span: timedelta | float) -> int:
    """Whole seconds, never below zero."""
    return max(0, int(span.total_seconds() if isinstance(span, timedelta) else span))


def duration(span: timedelta | float | None) -> str:
    """A span (or seconds) in its two largest units: 41 s, 12 min, 1 h 47 min, 3 days 4 h."""
    if span is None:
        return "unknown"
    seconds = seconds_of(span)
    if seconds < MINUTE:
        return f"{seconds} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE} min"
    if seconds < DAY:
        return _two(f"{seconds // HOUR} h", seconds % HOUR // MINUTE, "min")
    days = seconds // DAY
    return _two("1 day" if days == 1 else f"{days} days", seconds % DAY // HOUR, "h")


def _two(first: str, rest: int, unit: str) -> str:
    return f"{first} {rest} {unit}" if rest else first


def time_left(ends_at: datetime, now: datetime) -> str:
    """What a countdown shows. static/js/clock.js says the same words."""
    left = seconds_of(ends_at - now)
    if left == 0:
        return "Time is up"
    return "under 1 min" if left < MINUTE else duration(left)


def moment(at: datetime, now: datetime, style: str = "") -> str:
    """An instant in words, in the current time zone. Styles: "" (4 min ago, today 13:20), "clock" (today 13:20),
    "date" (today), "time" (13:20:05), "full" (24 November 2026, 13:20)."""
    local, today = timezone.localtime(at), timezone.localtime(now)
    if style == "time":
        return f"{local:%H:%M:%S}"
    if style == "full":
        return f"{local.day} {local:%B %Y, %H:%M}"
    day = _day(local, today)
    if style == "date":
        return day
    seconds = int((at - now).total_seconds())
    if not style and abs(seconds) < HOUR:
        return _near(seconds)
    return f"{day} {local:%H:%M}"


def _near(seconds: int) -> str:
    minutes = abs(seconds) // MINUTE
    if seconds > 0:
        return f"in {minutes} min" if minutes else "in under 1 min"
    return f"{minutes} min ago" if minutes else "just now"


def _day(local: datetime, today: datetime) -> str:
    names = {-1: "yesterday", 0: "today", 1: "tomorrow"}
    away = (local.date() - today.date()).days
    if away in names:
        return names[away]
    return f"{local.day} {local:%b}" if local.year == today.year else f"{local.day} {local:%b %Y}"


def shortened(text: str, most: int = 160) -> str:
    """At most so many characters of a sentence, cut at a word's end; within a word only where that is half of it."""
    if len(text) <= most:
        return text
    kept = text[: most - 1]
    whole = text[:most].rpartition(" ")[0]
    return f"{(whole if len(whole) > most // 2 else kept).rstrip(' ,;:')}…"


def account_id(value: str) -> str:
    """An AWS account id in groups of four: 4412-0937-5518. Anything else stays as it is."""
    if len(value) == 12 and value.isascii() and value.isdigit():
        return f"{value[:4]}-{value[4:8]}-{value[8:]}"
    return value


def name_of(who: object) -> str:
    """The name to show for an identity or a user."""
    return next(_names(who), "") or str(who)


def _names(who: object) -> Iterator[str]:
    for source in NAME_SOURCES:
        value = getattr(who, source, "")
        if value := value() if callable(value) else value:
            yield str(value)


def initials(name: str) -> str:
    """At most two letters: Priya Raman is PR, alice@example.com is A."""
    words = [word for word in name.partition("@")[0].replace(".", " ").split() if word[0].isalnum()]
    return "".join(word[0] for word in (words[:1] + words[-1:] if len(words) > 1 else words)).upper() or "?"
