"""AWS CloudTrail's files: what a record says, and reading a file of any size in bounded memory.

Shapes: "CloudTrail record contents" and "CloudTrail log file examples" of the user guide; reference/aws.md §4 for what is
kept. A file is gzip JSON, `{"Records": [...]}`. Whatever is in it was written about somebody by somebody outside: a file
may be cut off, huge, or not what it claims to be, and a record may be anything.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

from apps.connectors.aws.trail_actions import action_of, service_of
from apps.connectors.trail import Outcome, TrailEvent, Unreadable

CHUNK = 256 * 1024  # bytes read at once
MOST_OF_RECORD = 2 * 1024 * 1024  # characters; CloudTrail itself stores at most 1 MB of an event
MOST_OF_FILE = 4 * 1024**3  # bytes after decompression: real files have some tens of megabytes

LONGEST = 256
LONGEST_ARN = 700
MOST_RESOURCES = 10
MOST_TAGS = 50

NO_CALL = "A record is no call that can be understood: it lacks an id, a time, a source or a name"
NO_OBJECT = "A record is not an object"

_DENIED = re.compile(
    r"(?:AccessDenied|UnauthorizedOperation|UnauthorizedAccess|AuthorizationError|NotAuthorized|Unauthorized|Forbidden)"
    r"(?:Exception|Fault)?$"
)
_STARTS_SESSION = {"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot"}
_CONSOLE = "signin.amazonaws.com"  # a person at the console, which older records name as if it were a service
_MAKES = {"CreateRole": "role", "CreateUser": "user", "CreateServiceLinkedRole": "role"}

# What a change of access names, by service: ids and names alone, since other parameters can hold secrets.
_NAMED = {
    "iam": ("userName", "roleName", "groupName", "policyArn", "policyName"),
    "sso": ("permissionSetArn", "targetId", "principalId"),
    "identitystore": ("groupId", "memberId"),
    "sso-directory": ("groupId", "memberId"),
}


# ---- one record ---------------------------------------------------------------------------------------------------


def parse(document: Mapping[str, Any]) -> TrailEvent | None:
    """What one record says, in bounded and printable text. None for what is no call (an Insight, a fragment)."""
    at = _instant(document.get("eventTime"))
    event_id, source = _text(document.get("eventID"), 64), _text(document.get("eventSource"))
    name = _text(document.get("eventName"))
    if at is None or not event_id or not source or not name or document.get("eventCategory") == "Insight":
        return None
    who = _mapping(document.get("userIdentity"))
    context = _mapping(who.get("sessionContext"))
    issuer = _mapping(context.get("sessionIssuer"))
    asked, answered = _mapping(document.get("requestParameters")), _mapping(document.get("responseElements"))
    service = service_of(source)
    is_assume = name in _STARTS_SESSION and service == "sts"
    invoked_by = _text(who.get("invokedBy")).removeprefix(_CONSOLE)
    actor_id = _text(who.get("principalId"))
    actor_kind = _text(who.get("type"), 40) or ("AWSService" if invoked_by else "")
    made = _mapping(answered.get(_MAKES[name])) if name in _MAKES and service == "iam" else {}
    return TrailEvent(
        event_id=event_id,
        at=at,
        account_id=_text(document.get("recipientAccountId"), 64),
        region=_text(document.get("awsRegion"), 40),
        service=service,
        name=name,
        action=action_of(service, name),
        outcome=_outcome(document, name, answered),
        is_data_event=document.get("eventCategory") == "Data" or document.get("managementEvent") is False,
        actor_kind=actor_kind,
        actor_arn=_text(who.get("arn"), LONGEST_ARN),
        actor_id=actor_id,
        actor_account_id=_text(who.get("accountId"), 64),
        issuer_arn=_text(issuer.get("arn"), LONGEST_ARN),
        issuer_id=_text(issuer.get("principalId")),
        session_name=actor_id.partition(":")[2] if actor_kind == "AssumedRole" else "",
        session_began_at=_instant(_mapping(context.get("attributes")).get("creationDate")),
        source_identity=_text(context.get("sourceIdentity")),
        access_key_id=_text(who.get("accessKeyId"), 128),
        on_behalf_of=_text(_mapping(who.get("onBehalfOf")).get("userId")),
        invoked_by=invoked_by,
        source_address=_text(document.get("sourceIPAddress"), 128),
        resources=_arns(document.get("resources")),
        made_access_key_id=_text(_mapping(answered.get("credentials")).get("accessKeyId"), 128) if is_assume else "",
        tags=_tags(asked) if is_assume else {},
        made_arn=_text(made.get("arn"), LONGEST_ARN),
        made_id=_text(made.get("roleId") or made.get("userId")),
        named=_named(service, asked) if document.get("readOnly") is False else {},
    )


def _named(service: str, asked: Mapping[str, Any]) -> dict[str, str]:
    """Who and what a write names. Identity stores wrap a member's id once more."""
    found = {key: asked.get(key) for key in _NAMED.get(service, ())}
    plain = {key: value.get("userId") if isinstance(value, Mapping) else value for key, value in found.items()}
    return {key: text for key, value in plain.items() if (text := _text(value, LONGEST_ARN))}


def _outcome(document: Mapping[str, Any], name: str, answered: Mapping[str, Any]) -> Outcome:
    code = _text(document.get("errorCode"), 128)
    if name == "ConsoleLogin" and answered.get("ConsoleLogin") == "Failure":
        return Outcome.DENIED
    if not code:
        return Outcome.FAILED if document.get("errorMessage") else Outcome.DONE
    return Outcome.DENIED if _DENIED.search(code) else Outcome.FAILED


def _text(value: Any, longest: int = LONGEST) -> str:
    """One printable line, never longer than `longest`. What is not text is nothing."""
    if not isinstance(value, str) or not value:
        return ""
    value = value[: 4 * longest]
    if not value.isprintable():
        value = " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
    return value if len(value) <= longest else f"{value[: longest - 1]}…"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _instant(value: Any) -> datetime | None:
    """An ISO 8601 instant; whatever has no time zone is UTC, as CloudTrail writes it."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _arns(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else []
    named = (_mapping(one) for one in listed[:MOST_RESOURCES])
    return tuple(arn for arn in (_text(one.get("ARN") or one.get("arn"), LONGEST_ARN) for one in named) if arn)


def _tags(asked: Mapping[str, Any]) -> dict[str, str]:
    """Session tags: a list of key and value in AssumeRole, an object where they came with a token."""
    passed, found = asked.get("tags"), dict[str, str]()
    for one in passed[:MOST_TAGS] if isinstance(passed, list) else ():
        found[_text(_mapping(one).get("key"))] = _text(_mapping(one).get("value"))
    for key, value in list(_mapping(asked.get("principalTags")).items())[:MOST_TAGS]:
        found[_text(key)] = _text(value)
    found.pop("", None)
    return found


# ---- one file -----------------------------------------------------------------------------------------------------


def read(stream: BinaryIO, skipped: Counter[str], *, most: int = MOST_OF_FILE) -> Iterator[TrailEvent]:
    """The events of one file, one after another, in memory that does not grow with the file.

    `skipped` counts the records that were left out, by reason. Raises `Unreadable` where the file cannot be read further;
    what was yielded until then stands. `most` bounds how many bytes it may unfold to.
    """
    for record in _Records(_characters(stream, most)):
        if not isinstance(record, dict):
            skipped[NO_OBJECT] += 1
            continue
        event = parse(record)
        if event is None:
            skipped[NO_CALL] += 1
            continue
        yield event


def _characters(stream: BinaryIO, most: int) -> Iterator[str]:
    """The file's text in pieces, unpacked where it is gzip, whatever its name says."""
    buffered: Any = _Peekable(stream)  # reads as gzip needs it, and as a file of plain JSON
    is_packed = buffered.peek(2)[:2] == b"\x1f\x8b"
    plain: Any = gzip.GzipFile(fileobj=buffered, mode="rb") if is_packed else buffered
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    total = 0
    while True:
        try:
            chunk = plain.read(CHUNK)
        except EOFError:
            raise Unreadable("The compressed file ends in the middle.") from None
        except (gzip.BadGzipFile, zlib.error):
            raise Unreadable("The file is damaged: it cannot be unpacked.") from None
        if not chunk:
            yield decoder.decode(b"", final=True)
            return
        total += len(chunk)
        if total > most:
            raise Unreadable(f"The file unfolds to more than {most // 1024**2:,} MB.")
        yield decoder.decode(chunk)


class _Peekable:
    """Any readable body as something that shows its first bytes before they are read."""

    def __init__(self, body: BinaryIO) -> None:
        self._body, self._head = body, b""

    def peek(self, size: int) -> bytes:
        while len(self._head) < size and (more := self._body.read(size - len(self._head))):
            self._head += more
        return self._head

    def read(self, size: int = -1) -> bytes:
        if self._head:
            head, self._head = self._head[:size] if size >= 0 else self._head, self._head[size:] if size >= 0 else b""
            return head
        return self._body.read(size)


class _Records:
    """The elements of `Records`, each decoded as soon as all of it has been read."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces, self._text, self._at, self._is_over = pieces, "", 0, False
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[Any]:
        yield from self._document()
        self._at += 1
        if self._next_or_end():
            raise Unreadable("Something follows the file's first document, which alone was read.")

    def _document(self) -> Iterator[Any]:
        if self._next() != "{":
            raise Unreadable("The file is not a JSON object.")
        self._at += 1
        has_records = False
        while (letter := self._next()) != "}":
            if letter == ",":
                self._at += 1
                continue
            name = self._value()
            if not isinstance(name, str) or self._next() != ":":
                raise Unreadable("The file is not JSON.")
            self._at += 1
            if name != "Records":
                self._value()
                continue
            has_records = True
            if self._next() != "[":
                raise Unreadable("Its Records are not a list.")
            self._at += 1
            yield from self._elements()
        if not has_records:
            raise Unreadable("The file holds no Records.")

    def _elements(self) -> Iterator[Any]:
        while (letter := self._next()) != "]":
            if letter == ",":
                self._at += 1
                continue
            yield self._value()
        self._at += 1

    def _next(self) -> str:
        """The next character that means something; the place stays on it."""
        letter = self._next_or_end()
        if not letter:
            raise Unreadable("The file ends in the middle.")
        return letter

    def _next_or_end(self) -> str:
        """The same; nothing where the file ends."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n\ufeff":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _value(self) -> Any:
        """Decode one value, reading on while it is not whole."""
        self._next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise Unreadable("A record is nested too deeply.") from None
            except ValueError:
                end = -1
            # A number at the very end of what was read may go on.
            if end >= 0 and (end < len(self._text) or self._is_over or self._text[end - 1] in '}]"'):
                self._at = end
                return value
            if len(self._text) - self._at > MOST_OF_RECORD:
                raise Unreadable("A record is broken, or longer than any that CloudTrail writes.")
            if not self._more():
                raise Unreadable("The file ends in the middle of a record.")

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            self._is_over = True
            return False
        self._text, self._at = self._text[self._at :] + piece, 0
        return True
