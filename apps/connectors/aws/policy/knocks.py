"""Where policies let their holder knock: the statements about becoming somebody else, and whether they reach one ARN.

Four ways lead from one principal to another. *Assume*: become a role that lets one in. *Rewrite*: change whom a role lets
in. *Keys* (also *password*, *reset*): make a secret for a user. *Pass*: hand a role to a service that runs what one tells
it to.

The rest of a document is left out, so that who can become whom is answered from a few lines. Like everything about risk it
is an upper bound: a conditional Deny takes nothing away, a variable stands for any text, and both are said as conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from apps.connectors.aws.catalogue import catalogue
from apps.connectors.aws.escalation import rules
from apps.connectors.aws.policy.documents import Document, Statement
from apps.connectors.aws.policy.matcher import matches, may_overlap
from apps.connectors.aws.policy.reach import denied, effective, within
from apps.connectors.aws.policy.trusts import in_words
from apps.connectors.aws.policy.windows import without_the_past

ASSUME, REWRITE, PASS = "assume", "rewrite", "pass"
KEYS, PASSWORD, RESET = "keys", "password", "reset"

ACTIONS: Mapping[str, str] = {
    ASSUME: "sts:assumerole",
    REWRITE: "iam:updateassumerolepolicy",
    PASS: "iam:passrole",
    KEYS: "iam:createaccesskey",
    PASSWORD: "iam:createloginprofile",
    RESET: "iam:updateloginprofile",
}

MOST_PATTERNS = 1_000  # of all lines of a policy together; far more than AWS lets anybody store
TOO_MANY = "the policy lists more resources than are compared here"

_VARIABLE = re.compile(r"\$\{[^}]*\}")
_OF_IAM = "arn:*:iam::*:*"

# The service that acts as the role that a rule of the catalogue passes to it. Some run through another's principal.
_RUN_BY = {
    "apprunner": ("tasks.apprunner.amazonaws.com",),
    "batch": ("ecs-tasks.amazonaws.com",),
    "bedrock-agentcore": ("bedrock-agentcore.amazonaws.com",),
    "datapipeline": ("datapipeline.amazonaws.com", "ec2.amazonaws.com"),
    "ecs": ("ecs-tasks.amazonaws.com",),
    "eks": ("pods.eks.amazonaws.com",),
    "elasticmapreduce": ("elasticmapreduce.amazonaws.com", "ec2.amazonaws.com"),
    "imagebuilder": ("ec2.amazonaws.com",),
}
# Paths of the catalogue that our list leaves out because a shorter one holds without PassRole.
_ALSO = (
    ("codebuild:CreateProject", "codebuild:StartBuild"),
    ("codebuild:CreateProject", "codebuild:StartBuildBatch"),
    (
        "bedrock-agentcore:CreateCodeInterpreter",
        "bedrock-agentcore:StartCodeInterpreterSession",
        "bedrock-agentcore:InvokeCodeInterpreter",
    ),
)


@dataclass(frozen=True, slots=True)
class Knock:
    """One statement about becoming somebody else. `document` and `index` say which; `conditions` in words; `is_not`: the
    patterns are exceptions. `origin` is the reader's own name for the policy."""

    ways: tuple[str, ...]
    effect: str
    patterns: tuple[str, ...]
    is_not: bool = False
    conditions: tuple[str, ...] = ()
    document: int = 0
    index: int = 0
    origin: int = 0


class Permit(NamedTuple):
    """The statement that lets the holder do it, and what cannot be decided, in words."""

    knock: Knock
    conditions: tuple[str, ...] = ()


def asks(knocks: Iterable[Knock], way: str) -> list[str]:
    """The patterns that the holder is allowed to try `way` on, with wildcards for variables; "*" for exceptions."""
    found: dict[str, None] = {}
    for one in knocks:
        if one.effect == "Allow" and way in one.ways:
            found |= dict.fromkeys(["*"] if one.is_not else [_without_variables(pattern) for pattern in one.patterns])
    return list(found)


@dataclass(frozen=True, slots=True)
class Run:
    """Actions that, together with PassRole, make a service act as a role for whoever may do them."""

    services: tuple[str, ...]
    needs: tuple[str, ...]


def knocks_of(documents: Sequence[Document], now: datetime) -> tuple[Knock, ...]:
    """The lines of these documents that matter for becoming somebody else."""
    found: list[Knock] = []
    room = MOST_PATTERNS
    for n, document in enumerate(documents):
        for statement in without_the_past(document, now).statements:
            knock = _knock(statement, n)
            if knock is None:
                continue
            if len(knock.patterns) > room:
                # What is too long to compare counts as everything when it allows, and as nothing when it denies.
                if knock.effect == "Allow":
                    found.append(Knock(knock.ways, "Allow", ("*",), False, (TOO_MANY,), n, knock.index))
                continue
            room -= len(knock.patterns)
            found.append(knock)
    return tuple(found)


def runs_of(documents: Sequence[Document], now: datetime, boundary: Document | None = None) -> tuple[str, ...]:
    """The actions that can make a service run something, of those that a `Run` needs, allowed on something, also within
    the boundary, and not denied everywhere."""
    current = [without_the_past(document, now) for document in documents]
    reach = effective(current) if boundary is None else within(current, without_the_past(boundary, now))
    return tuple(catalogue().actions(reach.any & _run_actions()))


def denied_runs_of(documents: Sequence[Document]) -> tuple[str, ...]:
    """Those of these actions that the documents deny everywhere and without condition: no other policy gives them back."""
    return tuple(catalogue().actions(denied(documents) & _run_actions()))


def is_denied(knocks: Iterable[Knock], way: str, arn: str) -> bool:
    """Whether a Deny surely stands in the way, whoever else allows it."""
    return any(one.effect == "Deny" and way in one.ways and _reaches(one, arn) == () for one in knocks)


def permits(knocks: Iterable[Knock], way: str, arn: str) -> Permit | None:
    """Whether the holder of all these may do `way` to `arn`; None when surely not."""
    best: Permit | None = None
    doubts: tuple[str, ...] = ()
    for knock in knocks:
        if way not in knock.ways:
            continue
        answer = _reaches(knock, arn)
        if answer is None:
            continue
        if knock.effect == "Deny":
            if not answer:
                return None
            doubts += tuple(f"unless denied {words}" for words in answer)
        elif best is None or len(answer) < len(best.conditions):
            best = Permit(knock, answer)
    return Permit(best.knock, tuple(dict.fromkeys((*best.conditions, *doubts)))) if best and doubts else best


def runnable(actions: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The services that whoever may do these actions can make act as a role, each with the actions that do it."""
    held = set(actions)
    found: dict[str, tuple[str, ...]] = {}
    for run in runs():
        if held.issuperset(run.needs):
            for service in run.services:
                found.setdefault(service, run.needs)
    return found


@lru_cache(maxsize=1)
def runs() -> tuple[Run, ...]:
    """Every way to make a service act as a role that is passed to it, from the catalogue of escalations."""
    passing = [rule.needs[1:] for rule in rules() if rule.needs[0] == "iam:PassRole"]
    each = [one for needs in passing for one in product(*(need.split("|") for need in needs))]
    return tuple(Run(_services(needs[0]), needs) for needs in (*each, *_ALSO))


def as_json(knock: Knock) -> dict[str, Any]:
    """For a database column; `from_json` reads it back."""
    return {
        "ways": list(knock.ways),
        "e": knock.effect,
        "on": list(knock.patterns),
        "not": knock.is_not,
        "if": list(knock.conditions),
        "doc": knock.document,
        "n": knock.index,
    }


def from_json(stored: Mapping[str, Any], origin: int = 0) -> Knock:
    ways, patterns, conditions = (tuple(stored[key]) for key in ("ways", "on", "if"))
    return Knock(ways, stored["e"], patterns, stored["not"], conditions, stored["doc"], stored["n"], origin)


def _knock(statement: Statement, document: int) -> Knock | None:
    ways = tuple(way for way, action in ACTIONS.items() if statement.is_about(action))
    patterns = statement.resources
    if not statement.is_not_resource:
        patterns = tuple(one for one in patterns if may_overlap(_without_variables(one), _OF_IAM))
    if not ways or not (patterns or statement.is_not_resource):
        return None
    conditions = in_words(statement.conditions)
    return Knock(ways, statement.effect, patterns, statement.is_not_resource, conditions, document, statement.index)


def _reaches(knock: Knock, arn: str) -> tuple[str, ...] | None:
    """The conditions under which the statement is about `arn`; None when it surely is not."""
    conditions = knock.conditions
    hits = [one for one in knock.patterns if matches(_without_variables(one), arn)]
    sure = any(one == _without_variables(one) for one in hits)
    if knock.is_not:
        if sure:
            return None
        return (*conditions, "where a variable fits") if hits else conditions
    if not hits:
        return None
    return conditions if sure else (*conditions, "where a variable fits")


@lru_cache(maxsize=8192)
def _without_variables(pattern: str) -> str:
    """The pattern with a wildcard in the place of each variable."""
    return _VARIABLE.sub("*", pattern)


@lru_cache(maxsize=1)
def _run_actions() -> int:
    return catalogue().select(action for run in runs() for action in run.needs)


def _services(action: str) -> tuple[str, ...]:
    service = action.partition(":")[0]
    return _RUN_BY.get(service, (f"{service}.amazonaws.com",))
