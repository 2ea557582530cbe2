"""IAM policy documents: read them, compare them, say what is wrong with them.

The grammar is the one of the IAM user guide, "Grammar of the IAM JSON policy language". Reading is tolerant where AWS
is (a single statement or value in place of a list, numbers and booleans in conditions, url-encoding as IAM's API
returns it, unknown keys) and refuses the rest, because a document that is read wrongly would be shown with the wrong
privilege.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal
from urllib.parse import unquote

from apps.connectors.aws.policy.matcher import has_wildcard, matches

MAX_CHARS = 262_144  # AWS's own managed policies reach about a quarter of this; what customers can store is far smaller
MAX_STATEMENTS = 1_000
MAX_PATTERNS = 20_000  # actions and resources together

# Control characters and lone surrogates: no AWS policy can hold them, and no database column can keep them.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")

Effect = Literal["Allow", "Deny"]


class MalformedPolicy(ValueError):
    """A text that is not a policy document. Its message is one sentence for people: what is wrong, and where."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of a Condition block: the operator as written, the context key in lower case, the values as texts (any
    may match).
    """

    operator: str
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One statement. `actions` are in lower case; `is_not_action` and `is_not_resource`: the lists name exceptions.

    `index` counts from 0 in the document. A statement with a Principal and no Resource (a trust) is about everything.
    """

    index: int
    sid: str
    effect: Effect
    actions: tuple[str, ...]
    is_not_action: bool
    resources: tuple[str, ...]
    is_not_resource: bool
    conditions: tuple[Condition, ...]
    has_principal: bool
    raw: Mapping[str, Any]

    def is_about(self, action: str) -> bool:
        """Whether Action or NotAction is about an action such as `iam:PassRole`, in any letter case."""
        asked = action.lower()
        is_listed = asked in self.actions or any(has_wildcard(one) and matches(one, asked) for one in self.actions)
        return is_listed != self.is_not_action


@dataclass(frozen=True, eq=False)
class Document:
    """A policy document that was read in full. Documents are shared between callers: never change `raw`.

    Two reads of one text give the same object, so the object itself is a key for anything computed from it.
    """

    version: str
    statements: tuple[Statement, ...]
    raw: Mapping[str, Any]

    @cached_property
    def canonical(self) -> str:
        """The document as JSON in which everything that AWS treats alike is alike; see `canonical`."""
        body = {key: value for key, value in self.raw.items() if key != "Statement"}
        statements = [
            json.dumps(_canonical_statement(one.raw), sort_keys=True, separators=(",", ":")) for one in self.statements
        ]
        head = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return f'{{"Document":{head},"Statement":[{",".join(sorted(statements))}]}}'

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `canonical`, in hexadecimal."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def parse(document: str | Mapping[str, Any] | Document) -> Document:
    """Read a policy document from JSON text (url-encoded or not) or from decoded JSON.

    Raises MalformedPolicy. An empty text is malformed too: a policy that is not there is simply not passed.
    """
    if isinstance(document, Document):
        return document
    if isinstance(document, str):
        return _parse_text(document)
    if not isinstance(document, Mapping):
        raise MalformedPolicy(f"The document must be a JSON object, not {_kind(document)}.")
    try:
        return _parse_text(json.dumps(document, sort_keys=True, allow_nan=False))
    except TypeError as error:
        raise MalformedPolicy("The document holds a value that JSON cannot express.") from error
    except MalformedPolicy:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedPolicy("The document refers to itself, is nested too deeply or holds a bad number.") from error


def canonical(document: str | Mapping[str, Any] | Document) -> str:
    """A text that is equal for two documents that AWS treats alike, to compare a read-back with what was written.

    Lists that are sets (statements, actions, resources, principals, condition values) are sorted, a single value
    equals a list of one, and a number or boolean in a condition equals its text. Sid is left out. Letter case is
    kept.
    """
    return parse(document).canonical


def digest(document: str | Mapping[str, Any] | Document) -> str:
    """SHA-256 of `canonical(document)`, in hexadecimal."""
    return parse(document).digest


@lru_cache(maxsize=4096)
def _parse_text(text: str) -> Document:
    if len(text) > MAX_CHARS:
        raise MalformedPolicy(f"The document is longer than {MAX_CHARS:,} characters.")
    text = text.strip()
    if not text:
        raise MalformedPolicy("The document is empty.")
    raw = _decode(unquote(text) if text.startswith("%") else text)
    if not isinstance(raw, dict):
        raise MalformedPolicy(f"The document must be a JSON object, not {_kind(raw)}.")
    return _document(raw)


def _decode(text: str) -> Any:
    try:
        raw = _DECODER.decode(text)
        if "\\u" in text or _FORBIDDEN.search(text):
            _refuse_forbidden(raw)
    except json.JSONDecodeError as error:
        raise MalformedPolicy(f"The document is not JSON: line {error.lineno}, column {error.colno}.") from error
    except MalformedPolicy:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedPolicy("The document is nested too deeply or holds a number that is too long.") from error
    return raw


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses a key that is there twice (AWS does too), since which one counts would be a guess."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in {earlier for earlier, _ in pairs[:n]})
        raise MalformedPolicy(f"The key {_quote(twice)} is there twice in one object.")
    return found


def _refuse_forbidden(value: Any) -> None:
    """Looks at every text in a decoded document."""
    if isinstance(value, str):
        if _FORBIDDEN.search(value):
            raise MalformedPolicy(f"{_quote(value)} holds a character that no policy may hold.")
    elif isinstance(value, dict):
        for key, one in value.items():
            _refuse_forbidden(key)
            _refuse_forbidden(one)
    elif isinstance(value, list):
        for one in value:
            _refuse_forbidden(one)


def _no_constant(name: str) -> Any:
    raise MalformedPolicy(f"The document holds {name}, which is not JSON.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _document(raw: dict[str, Any]) -> Document:
    version = raw.get("Version", "2008-10-17")  # what AWS assumes when it is absent
    if not isinstance(version, str):
        raise MalformedPolicy(f"Version must be text, not {_kind(version)}.")
    if "Statement" not in raw:
        raise MalformedPolicy("The document has no Statement.")
    listed = raw["Statement"]
    if isinstance(listed, dict):
        listed = [listed]
    if not isinstance(listed, list):
        raise MalformedPolicy(f"Statement must be an object or a list of objects, not {_kind(listed)}.")
    if len(listed) > MAX_STATEMENTS:
        raise MalformedPolicy(f"The document has more than {MAX_STATEMENTS:,} statements.")
    statements = tuple(_statement(index, one) for index, one in enumerate(listed))
    if sum(len(one.actions) + len(one.resources) for one in statements) > MAX_PATTERNS:
        raise MalformedPolicy(f"The document names more than {MAX_PATTERNS:,} actions and resources.")
    return Document(version=version, statements=statements, raw=raw)


def _statement(index: int, raw: Any) -> Statement:
    where = f"Statement {index + 1}"
    if not isinstance(raw, dict):
        raise MalformedPolicy(f"{where} must be an object, not {_kind(raw)}.")
    effect = raw.get("Effect")
    if effect is None:
        raise MalformedPolicy(f"{where} has no Effect.")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicy(f"{where}: Effect must be Allow or Deny, not {_quote(effect)}.")
    has_principal = "Principal" in raw or "NotPrincipal" in raw
    actions, is_not_action = _listed(where, raw, "Action", "NotAction")
    names_resource = "Resource" in raw or "NotResource" in raw or not has_principal
    about = raw if names_resource else {"Resource": "*"}
    resources, is_not_resource = _listed(where, about, "Resource", "NotResource")
    sid = raw.get("Sid", "")
    return Statement(
        index=index,
        sid=_text(f"{where}: Sid", sid) if sid is not None else "",
        effect=effect,
        actions=tuple(action.lower() for action in actions),
        is_not_action=is_not_action,
        resources=resources,
        is_not_resource=is_not_resource,
        conditions=_conditions(where, raw.get("Condition")),
        has_principal=has_principal,
        raw=raw,
    )


def _listed(where: str, raw: dict[str, Any], name: str, negated: str) -> tuple[tuple[str, ...], bool]:
    """The values of Action or NotAction, of Resource or NotResource, and whether it was the negated one."""
    if (name in raw) == (negated in raw):
        fault = "has both" if name in raw else "has neither"
        raise MalformedPolicy(f"{where} {fault} {name} {'and' if name in raw else 'nor'} {negated}.")
    key = name if name in raw else negated
    value = raw[key]
    values = value if isinstance(value, list) else [value]
    for one in values:
        if not isinstance(one, str):
            _text(f"{where}: {key}", one)  # says what it is instead
    texts = tuple(values)
    if "" in texts:
        raise MalformedPolicy(f"{where}: {key} holds an empty text.")
    return texts, key == negated


def _conditions(where: str, block: Any) -> tuple[Condition, ...]:
    if block is None:
        return ()
    if not isinstance(block, dict):
        raise MalformedPolicy(f"{where}: Condition must be an object, not {_kind(block)}.")
    found = []
    for operator, tests in block.items():
        if not isinstance(tests, dict):
            raise MalformedPolicy(f"{where}: {_quote(operator)} in Condition must be an object, not {_kind(tests)}.")
        for key, value in tests.items():
            values = value if isinstance(value, list) else [value]
            label = f"{where}: {_quote(key)} in Condition"
            found.append(Condition(operator, key.lower(), tuple(_text(label, _scalar(one)) for one in values)))
    return tuple(found)


def _text(label: str, value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedPolicy(f"{label} must be text or a list of texts, not {_kind(value)}.")
    return value


def _scalar(value: Any) -> Any:
    """Quotation marks are optional for numbers and booleans in conditions: `true` and "true" are the same value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _canonical_statement(raw: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: _as_set(value) for key, value in raw.items() if key not in ("Sid", "Condition")}
    if raw.get("Condition"):
        plain["Condition"] = {operator: _as_set(tests) for operator, tests in raw["Condition"].items()}
    return plain


def _as_set(value: Any) -> Any:
    """A list or a single value as a sorted list of its distinct members; an object (Principal) member by member."""
    if isinstance(value, dict):
        return {key: _as_set(one) for key, one in value.items()}
    members = value if isinstance(value, list) else [value]
    if all(isinstance(one, str | int | float) for one in members):
        return sorted({str(_scalar(one)) for one in members})
    return members


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )


def _quote(value: Any) -> str:
    """A hostile value in a message: shortened, on one line."""
    return json.dumps(value if isinstance(value, str) else _kind(value))[:60]
