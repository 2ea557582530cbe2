"""Whether one principal can become another, in one step: what its policies let it do, and whom the other lets in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from apps.connectors.aws.policy import knocks as knocking
from apps.connectors.aws.policy.knocks import ASSUME, KEYS, PASS, PASSWORD, RESET, REWRITE, Knock
from apps.connectors.aws.policy.trusts import Caller, Entry, Line, entries

UNREAD_BOUNDARY = "within a boundary that was not read"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who moves: the name AWS knows it by and all that its policies say about becoming somebody else. `boundary` is None
    without one; `runs` are the actions that make a service run something."""

    caller: Caller
    knocks: Sequence[Knock] = ()
    boundary: Sequence[Knock] | None = None
    is_boundary_unread: bool = False
    runs: Sequence[str] = ()


class Target(NamedTuple):
    """Who can be become: a role with its trust, or a user (no lines). `is_fixed`: AWS lets nobody change or pass it."""

    arn: str
    account_id: str
    lines: Sequence[Line] = ()
    services: Sequence[str] = ()
    is_user: bool = False
    is_fixed: bool = False


class Step(NamedTuple):
    """One way from a holder to a target. `conditions`: what must be so beside, in words; empty when nothing. `entry` is the
    line of the trust that lets it in, `knock` the statement that lets it try; either may be all that is needed."""

    way: str
    conditions: tuple[str, ...] = ()
    entry: Entry | None = None
    knock: Knock | None = None
    service: str = ""


def assume(holder: Holder, target: Target, now: datetime) -> Step | None:
    """The surest way for the holder to assume the role; None when there is surely none."""
    if target.is_user or target.arn == holder.caller.arn or knocking.is_denied(holder.knocks, ASSUME, target.arn):
        return None
    if holder.boundary and knocking.is_denied(holder.boundary, ASSUME, target.arn):
        return None
    found = [_enter(holder, target, entry) for entry in entries(target.lines, holder.caller, now)]
    return min(filter(None, found), key=lambda step: len(step.conditions), default=None)


def _enter(holder: Holder, target: Target, entry: Entry) -> Step | None:
    if entry.is_named and target.account_id == holder.caller.account_id:
        # The trust is enough. Only a role that is named is still limited by its boundary; a user and a session that is
        # named are not (IAM user guide: "Permissions boundaries", "Policy evaluation logic").
        is_free = holder.caller.kind == "User" or entry.is_session
        bounds = () if is_free else _bounds(holder, ASSUME, target.arn)
        return None if bounds is None else Step(ASSUME, (*entry.conditions, *bounds), entry)
    permit = _permit(holder, ASSUME, target.arn)
    if permit is None:
        return None
    return Step(ASSUME, tuple(dict.fromkeys((*entry.conditions, *permit.conditions))), entry, permit.knock)


def take_over(holder: Holder, target: Target) -> Iterator[Step]:
    """The ways to become the target without being let in: by changing it, or by handing it to a service. All of them are
    possible in the holder's own account only."""
    if target.is_fixed or target.account_id != holder.caller.account_id or target.arn == holder.caller.arn:
        return
    if target.is_user:
        yield from _changed(holder, target, KEYS, PASSWORD, RESET)
        return
    yield from _changed(holder, target, REWRITE)
    permit = _permit(holder, PASS, target.arn) if target.services and holder.runs else None
    if permit is not None:
        can_run = knocking.runnable(holder.runs)
        service = next((one for one in target.services if one in can_run), "")
        if service:
            yield Step(PASS, permit.conditions, knock=permit.knock, service=service)


def _changed(holder: Holder, target: Target, *ways: str) -> Iterator[Step]:
    for way in ways:
        permit = _permit(holder, way, target.arn)
        if permit is not None:
            yield Step(way, permit.conditions, knock=permit.knock)


def _permit(holder: Holder, way: str, arn: str) -> knocking.Permit | None:
    """What the policies allow within the boundary."""
    permit = knocking.permits(holder.knocks, way, arn)
    bounds = _bounds(holder, way, arn) if permit else None
    if permit is None or bounds is None:
        return None
    return knocking.Permit(permit.knock, (*permit.conditions, *bounds)) if bounds else permit


def _bounds(holder: Holder, way: str, arn: str) -> tuple[str, ...] | None:
    """The conditions that the boundary adds; None when it surely forbids."""
    if holder.boundary is None:
        return (UNREAD_BOUNDARY,) if holder.is_boundary_unread else ()
    permit = knocking.permits(holder.boundary, way, arn)
    return permit.conditions if permit else None
