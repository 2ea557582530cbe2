"""One way into an account: how it begins, the roles after that, and what it is in words."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from apps.connectors.aws.policy import steps
from apps.core import words
from apps.inventory.callers import Node
from apps.inventory.doors import Role
from apps.inventory.holdings import Light, Order
from apps.inventory.models.access import weight_of

Tie = tuple[object, ...]  # something that can go: ("held", assignment), ("hop", who, the role that lets them in)


class Hop(NamedTuple):
    """One step of a chain: the role that is become, and why that is possible."""

    source: Node
    source_name: str
    source_account: str
    role: Role
    step: steps.Step

    @property
    def tie(self) -> Tie:
        return ("hop", self.source, self.role.pk)

    @property
    def conditions(self) -> str:
        """What must be so that cannot be decided here: "with MFA and from listed addresses". Empty when nothing."""
        return " and ".join(self.step.conditions)

    @property
    def is_foreign(self) -> bool:
        """The role lets in somebody of another account."""
        return self.role.account_id != self.source_account

    @property
    def why(self) -> str:
        """One sentence: whom the trust names, and whether a policy was needed too."""
        entry = self.step.entry
        if entry is not None and entry.is_anybody:
            trusted = "anybody"
        elif entry is not None and entry.is_named:
            trusted = self.source_name
        else:
            trusted = f"the account {words.account_id(self.source_account)}" if self.is_foreign else "its whole account"
        allowed = f", and a policy lets {self.source_name} assume it" if self.step.knock is not None else ""
        return f"{self.role.name} trusts {trusted}{allowed}."


@dataclass(slots=True)
class AccessPath:
    """One way into an account. `held` is how it begins (None: the machine itself); `hops` are the roles after that."""

    start: Node
    held: Light | None
    hops: tuple[Hop, ...] = ()

    @property
    def key(self) -> str:
        """Names the path in an address, as long as it is the same."""
        held = (self.held.pk, self.held.via_id or 0) if self.held else ()
        parts = (*self.start, *held, *(hop.role.pk for hop in self.hops))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def order(self) -> Order:
        """The most powerful first, then the sure and the short. Asked of thousands."""
        if not self.hops:
            return self._held.order
        role = self.hops[-1].role
        return (weight_of(role.privilege), self.is_conditional, len(self.hops), role.name.lower(), 0, role.pk)

    @property
    def resource_id(self) -> int | None:
        return self.hops[-1].role.resource_id if self.hops else self._held.resource_id

    @property
    def account_name(self) -> str:
        return self.hops[-1].role.account_name if self.hops else self._held.account_name or ""

    @property
    def privilege(self) -> str:
        return self.hops[-1].role.privilege if self.hops else self._held.privilege

    @property
    def reason(self) -> str:
        return self.hops[-1].role.reason if self.hops else self._held.reason

    @property
    def can_escalate(self) -> bool:
        return not self.hops and self._held.can_escalate

    @property
    def name(self) -> str:
        """What it ends in: a role, or what is held."""
        return self.hops[-1].role.name if self.hops else self._held.name

    @property
    def is_conditional(self) -> bool:
        return any(hop.step.conditions for hop in self.hops)

    @property
    def words(self) -> str:
        """The whole path in one line, for a receipt or a screen reader."""
        line = " → ".join([*self._beginning, *(hop.role.name for hop in self.hops)])
        said = dict.fromkeys(hop.conditions for hop in self.hops if hop.conditions)
        return f"{line} (may, {'; '.join(said)})" if said else line

    @property
    def _beginning(self) -> list[str]:
        if self.held is None:
            return []
        return [f"{self.held.name}, {f'through {self.held.via_name}' if self.held.via_id else 'held directly'}"]

    @property
    def taken(self) -> str:
        """What would have to go for this path to go: "the membership of Engineers", "deployer letting Deploy in"."""
        if self.hops:
            return f"{self.hops[-1].role.name} letting {self.hops[-1].source_name} in"
        return f"the membership of {self._held.via_name}" if self._held.via_id else self._held.name

    def needs(self, gone: Collection[Tie]) -> bool:
        """Whether this path goes when those go."""
        if self.held is not None and ("held", self.held.removable_id) in gone:
            return True
        return any(hop.tie in gone for hop in self.hops)

    @property
    def _held(self) -> Light:
        assert self.held is not None  # a machine's own chain has hops
        return self.held


class Own(NamedTuple):
    """A user or role that somebody is themselves, with the steps it takes. `brought_by`: for each policy, the assignments
    (its own, or memberships) any of which is enough to have it."""

    holder: steps.Holder
    hops: Sequence[Hop]
    brought_by: Mapping[int, Collection[int]]

    def lost_with(self, gone: Collection[int], now: datetime) -> Iterator[Tie]:
        """The steps it cannot take any more, by whatever policy is left, when these assignments end."""
        lost = {policy for policy, brought_by in self.brought_by.items() if {*brought_by} <= {*gone}}
        left = [knock for knock in self.holder.knocks if knock.origin not in lost]
        if len(left) < len(self.holder.knocks):
            holder = replace(self.holder, knocks=left)
            yield from (hop.tie for hop in self.hops if steps.assume(holder, hop.role.target, now) is None)
