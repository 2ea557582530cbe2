"""Deciding about grants: `grants` issues, ends and takes standing access away. Each verb is one transaction with one audit
event; workers carry it out afterwards and AWS's own answer settles the state."""

from apps.core.refusals import NotPossible
from apps.grants.services.extensions import can_extend, extend, whole_time
from apps.grants.services.grants import (
    Authority,
    can_remove,
    end,
    end_many,
    how_it_ends,
    issue,
    owner_of,
    remove_standing,
    settle_task,
    standing_path,
    ways_in,
    why_stopped,
)

__all__ = [
    "Authority",
    "NotPossible",
    "can_extend",
    "can_remove",
    "end",
    "end_many",
    "extend",
    "how_it_ends",
    "issue",
    "owner_of",
    "remove_standing",
    "settle_task",
    "standing_path",
    "ways_in",
    "whole_time",
    "why_stopped",
]
