"""Reading a governed system into the inventory: claim a run, read each scope with no transaction open, write each
scope in one transaction with set-based SQL, and end what is gone only when the scope was read completely.

`reading` drives a run, `writing` writes one scope, `people` says who the principals are and who answers for them,
`environments` where an account stands, `machines` what kind of machine a role is, `rows` turns records into rows."""

from apps.inventory.sync.claims import CannotRun
from apps.inventory.sync.reading import run
from apps.inventory.sync.seen import note

__all__ = ["CannotRun", "note", "run"]
