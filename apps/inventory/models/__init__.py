"""The inventory's tables: where we look (connections, runs), what is governed (resources, entitlements), who holds it
(identities, principals, assignments, credentials)."""

from apps.inventory.models.access import Assignment, Credential, Entitlement, Path
from apps.inventory.models.changes import ChangeFeed, ChangeMark
from apps.inventory.models.connection_tests import ConnectionTest
from apps.inventory.models.connections import Connection, ScopeScan, SyncRun
from apps.inventory.models.corrections import Correction
from apps.inventory.models.correlations import Correlation
from apps.inventory.models.departures import Departure, Employment, HrFile
from apps.inventory.models.holders import Identity, Principal
from apps.inventory.models.resources import Resource
from apps.inventory.models.responsibilities import Responsibility
from apps.inventory.models.usage import (
    AccessReport,
    Actor,
    Creation,
    LastAccess,
    TrailDay,
    TrailHour,
    TrailRun,
    Usage,
)
from apps.inventory.models.ways import Escalation, Knock, Tracing, Trust

__all__ = [
    "AccessReport",
    "Actor",
    "Assignment",
    "ChangeFeed",
    "ChangeMark",
    "Connection",
    "ConnectionTest",
    "Correction",
    "Correlation",
    "Creation",
    "Credential",
    "Departure",
    "Employment",
    "Entitlement",
    "Escalation",
    "HrFile",
    "Identity",
    "Knock",
    "LastAccess",
    "Path",
    "Principal",
    "Resource",
    "Responsibility",
    "ScopeScan",
    "SyncRun",
    "Tracing",
    "TrailDay",
    "TrailHour",
    "TrailRun",
    "Trust",
    "Usage",
]
