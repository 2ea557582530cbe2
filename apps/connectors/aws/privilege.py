"""How much somebody may do with a set of policies, why, and which statement says so.

The answer is an upper bound, because it is shown to people who decide about risk. A condition counts as met, except a
date that has passed, which no request can meet again. A Deny takes something away only when it has no condition and is
about every resource. What the catalogue of actions does not know counts as write. What cannot be read is unknown, never
none. Bounds that are not in the policies (service control policies, trusts) are left to others.

The levels: *admin*, can do everything or can make itself able to; *privileged*, can act as other roles, open
resources to others, undo what forbids, blind the log, or read every secret; *write*; *read* (reads and lists only);
*none*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.escalation import SENSITIVE_READS, On, Rule, rules
from apps.connectors.aws.policy.documents import Document, MalformedPolicy, parse
from apps.connectors.aws.policy.reach import Reach, allowing, effective, may_allow, reach_of, within
from apps.connectors.aws.policy.windows import without_the_past

Level = Literal["admin", "privileged", "write", "read", "none", "unknown"]

MAX_NAME = 128  # of a policy, in a sentence; what IAM allows


@dataclass(frozen=True, slots=True)
class NamedDocument:
    """A policy document and the name people know it by, such as `AdministratorAccess` or `inline deploy`."""

    name: str
    document: str | Mapping[str, Any] | Document


@dataclass(frozen=True, slots=True)
class Cause:
    """The statement that gives somebody their level: in which document, the how manieth (from 0), its Sid, and itself
    as JSON.
    """

    document: str
    index: int
    sid: str
    statement: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Privilege:
    """What a set of policies amounts to. `reason` is one sentence, `statement` what causes it (None when nothing is
    allowed).

    `can_escalate` says that the level rests on a way to become more powerful than the policies say, `escalation_id`
    on which ("" when not). Whoever may do everything outright has no need to, so it is false for them.
    `sensitive_read`: can read data or secrets on every resource of a kind. `malformed` has a sentence for each
    document that could not be read; with one among them the level is "unknown", unless the others make it "admin"
    already. A boundary that cannot be read bounds nothing and is named there too.
    """

    level: Level
    reason: str
    statement: Cause | None = None
    can_escalate: bool = False
    escalation_id: str = ""
    sensitive_read: bool = False
    malformed: tuple[str, ...] = ()


def privilege_of(
    documents: Sequence[NamedDocument], *, boundary: NamedDocument | None = None, now: datetime | None = None
) -> Privilege:
    """The privilege of whoever holds all these identity policies at once, within a permission boundary or without, at
    `now` (this instant unless given).

    Answers are kept by content, so that the same policies in a thousand accounts are assessed once. Never raises for
    what a document holds.
    """
    malformed: list[str] = []
    now = now or datetime.now(UTC)
    read = [(named, _read(named, malformed, now)) for named in documents]
    names = [named.name for named, document in read if document is not None]
    readable = tuple(document for _, document in read if document is not None)
    unread = len(malformed)
    found = _assess(readable, _read(boundary, malformed, now) if boundary is not None else None)
    if unread and found.level != "admin":
        return Privilege(
            level="unknown",
            reason=malformed[0],
            can_escalate=found.can_escalate,
            escalation_id=found.escalation_id,
            sensitive_read=found.sensitive_read,
            malformed=tuple(malformed),
        )
    return Privilege(
        level=found.level,
        reason=found.reason,
        statement=_cause(names, readable, found.where),
        can_escalate=found.can_escalate,
        escalation_id=found.escalation_id,
        sensitive_read=found.sensitive_read,
        malformed=tuple(malformed),
    )


def _read(named: NamedDocument, malformed: list[str], now: datetime) -> Document | None:
    try:
        return without_the_past(parse(named.document), now)
    except MalformedPolicy as error:
        malformed.append(f"The policy {named.name[:MAX_NAME]} cannot be read: {error}")
        return None


def _cause(names: list[str], documents: tuple[Document, ...], where: tuple[int, int] | None) -> Cause | None:
    if where is None:
        return None
    statement = documents[where[0]].statements[where[1]]
    return Cause(document=names[where[0]], index=statement.index, sid=statement.sid, statement=statement.raw)


@dataclass(frozen=True, slots=True)
class _Finding:
    """A Privilege before the names of the documents are known; `where` is (document, statement)."""

    level: Level
    reason: str
    where: tuple[int, int] | None = None
    can_escalate: bool = False
    escalation_id: str = ""
    sensitive_read: bool = False


@lru_cache(maxsize=16_384)
def _assess(documents: tuple[Document, ...], boundary: Document | None) -> _Finding:
    known = catalogue()
    reach = effective(documents) if boundary is None else within(documents, boundary)
    sensitive = bool(reach.broad & _sensitive())
    if reach.broad == known.everything:
        where = _first(documents, On.BROAD, known.everything)
        says = "Can do everything in the account."
        return _Finding("admin", _sentence(says, documents, where), where, sensitive_read=sensitive)
    if reach.broad & _iam_writes() == _iam_writes():
        says = "Can change every user, role and policy in IAM, which makes it an administrator."
        where = _first(documents, On.BROAD, _iam_writes())
        return _Finding("admin", _sentence(says, documents, where), where, True, "gh-iam-000", sensitive)
    of_interest = _of_interest()
    hit = _first_rule(reach.any & of_interest, reach.others & of_interest, reach.broad & of_interest)
    if hit is not None:
        where = _first(documents, hit.rule.on, hit.first)
        escalation_id = hit.rule.id if hit.rule.is_escalation else ""
        reason = _sentence(hit.says, documents, where)
        return _Finding(hit.rule.level, reason, where, hit.rule.is_escalation, escalation_id, sensitive)
    return _plain(documents, reach, sensitive)


def _plain(documents: tuple[Document, ...], reach: Reach, sensitive: bool) -> _Finding:
    """Write, read or none."""
    known = catalogue()
    if changing := reach.writes:
        example = changing & -changing
        where = _first(documents, On.ANY, example)
        says = f"Can change things in {_places(changing)}, for example {next(known.actions(example))}."
        return _Finding("write", _sentence(says, documents, where), where, sensitive_read=sensitive)
    unknown = sorted(reach.unknown, key=lambda pattern: (known.is_harmless_relic(pattern), pattern))
    if unknown and not known.is_harmless_relic(unknown[0]):
        where, pattern = _naming(documents, unknown[0]), unknown[0][:MAX_NAME]
        says = f"Allows {pattern}, which the catalogue of AWS actions does not know, so it counts as write."
        return _Finding("write", _sentence(says, documents, where), where, sensitive_read=sensitive)
    if reach.any:
        where = _first(documents, On.ANY, reach.any)
        says = f"Can read in {_places(reach.any)}."
        return _Finding("read", _sentence(says, documents, where), where, sensitive_read=sensitive)
    if unknown:
        where = _naming(documents, unknown[0])
        return _Finding("read", "Can read, in services that AWS has shut down.", where)
    return _Finding("none", "No policy allows anything.")


def _naming(documents: tuple[Document, ...], pattern: str) -> tuple[int, int] | None:
    """The first statement that allows an unknown pattern."""
    return next(((n, one.index) for n, one in allowing(documents) if may_allow(one, pattern)), None)


def _places(actions: int) -> str:
    """The services of a set of actions, in words: at most three by name."""
    services = list(catalogue().services(actions))
    named, more = services[:3], len(services) - 3
    if more > 0:
        return f"{', '.join(named)} and {more} more service{'s' if more > 1 else ''}"
    return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))


def _sentence(says: str, documents: tuple[Document, ...], where: tuple[int, int] | None) -> str:
    """Adds what bounds the statement that causes it. The bound is told and not counted."""
    if where is None:
        return says
    statement = documents[where[0]].statements[where[1]]
    exceptions = ", except on listed resources" if statement.is_not_resource else ""
    conditions = ", under a condition" if statement.conditions else ""
    return f"{says[:-1]}{exceptions}{conditions}."


def _first(documents: tuple[Document, ...], on: On, wanted: int) -> tuple[int, int] | None:
    """The statement that allows most of the wanted actions, the first of them when there are several."""
    best, most = None, 0
    for n, statement in allowing(documents):
        count = (reach_of(statement).on(on) & wanted).bit_count()
        if count > most:
            best, most = (n, statement.index), count
    return best


@dataclass(frozen=True, slots=True)
class _Hit:
    """A rule that is met, its sentence, and the action that its first need found."""

    rule: Rule
    says: str
    first: int


@lru_cache(maxsize=8192)
def _first_rule(any_: int, others: int, broad: int) -> _Hit | None:
    """The most serious rule that is met. Takes only the actions that rules name: those are few different sets."""
    on = {On.ANY: any_, On.OTHERS: others, On.BROAD: broad}
    for rule, needs in _compiled_rules():
        allowed = on[rule.on]
        if all(allowed & need for need in needs):
            found = [allowed & need for need in needs]
            broadly = bool(broad & found[0])
            says = rule.says.format(
                any="any" if broadly else "a listed",
                makes="makes" if broadly else "can make",
                action=_named(rule.needs[-1], found[-1]),
            )
            return _Hit(rule, says, found[0] & -found[0])
    return None


def _named(need: str, found: int) -> str:
    """The action to tell people: of those found, the one that the need names first."""
    known = catalogue()
    return next(action for one in need.split("|") for action in known.actions(known.expand(one) & found))


@lru_cache(maxsize=1)
def _compiled_rules() -> tuple[tuple[Rule, tuple[int, ...]], ...]:
    known = catalogue()
    return tuple((rule, tuple(known.select(need.split("|")) for need in rule.needs)) for rule in rules())


@lru_cache(maxsize=1)
def _of_interest() -> int:
    found = 0
    for _, needs in _compiled_rules():
        for need in needs:
            found |= need
    return found


@lru_cache(maxsize=1)
def _sensitive() -> int:
    return catalogue().select(SENSITIVE_READS)


@lru_cache(maxsize=1)
def _iam_writes() -> int:
    known = catalogue()
    return known.expand("iam:*") & known.writes
