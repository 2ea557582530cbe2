"""Comparing what grants say with what AWS shows, and writing what a repair decided.

Reading is done without a lock; whatever seems to differ is read once more under the lock of its object, with the rows as
they are then, so that neither a stale answer nor a change under way is taken for a difference. What is read goes into
`Drift` rows as facts. What becomes of them is decided in `services.drift`, and only after a complete comparison.
"""

from apps.grants.reconciling.comparing import CannotCompare, compare
from apps.grants.reconciling.repairing import repair

__all__ = ["CannotCompare", "compare", "repair"]
