"""What people decide about the inventory: connections and how far to trust them, owners, environments, who is who."""

from apps.inventory.services.connections import (
    add_connection,
    approve_writing,
    baseline,
    confirm_drop,
    pause,
    propose_writing,
    request_sync,
    resume,
)
from apps.inventory.services.errors import NotPossible
from apps.inventory.services.openings import define_opening
from apps.inventory.services.org_chart import Imported, OrgChartError, import_org_chart
from apps.inventory.services.people import link_user, set_environment, set_owner, unlink_user
from apps.inventory.services.policies import define_policy

__all__ = [
    "Imported",
    "NotPossible",
    "OrgChartError",
    "add_connection",
    "approve_writing",
    "baseline",
    "confirm_drop",
    "define_opening",
    "define_policy",
    "import_org_chart",
    "link_user",
    "pause",
    "propose_writing",
    "request_sync",
    "resume",
    "set_environment",
    "set_owner",
    "unlink_user",
]
