"""What people decide about the inventory: connections and how far to trust them, owners, environments, who is who."""

from apps.core.refusals import NotPossible
from apps.inventory.services.connections import (
    add_connection,
    approve_writing,
    baseline,
    change_connection,
    confirm_drop,
    pause,
    propose_writing,
    request_sync,
    request_test,
    resume,
)
from apps.inventory.services.hr_files import Imported, import_org_chart
from apps.inventory.services.logins import accept_proposals, put_off, say_machine, say_whose, unlink_login
from apps.inventory.services.machines import correct, describe, set_successor, take_correction_back
from apps.inventory.services.openings import define_opening
from apps.inventory.services.org_chart import OrgChartError
from apps.inventory.services.people import link_user, set_environment, set_owner, unlink_user
from apps.inventory.services.policies import define_policy

__all__ = [
    "Imported",
    "NotPossible",
    "OrgChartError",
    "accept_proposals",
    "add_connection",
    "approve_writing",
    "baseline",
    "change_connection",
    "confirm_drop",
    "correct",
    "define_opening",
    "define_policy",
    "describe",
    "import_org_chart",
    "link_user",
    "pause",
    "propose_writing",
    "put_off",
    "request_sync",
    "request_test",
    "resume",
    "say_machine",
    "say_whose",
    "set_environment",
    "set_owner",
    "set_successor",
    "take_correction_back",
    "unlink_login",
    "unlink_user",
]
