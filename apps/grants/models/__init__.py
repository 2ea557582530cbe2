"""Our intents, what they rest on, and how AWS differs from them."""

from apps.grants.models.activity import Activity, OutsideChange, Strength, TracedSession
from apps.grants.models.drift import Drift, Reconciliation
from apps.grants.models.grants import COMMITTED, IN_AWS, LIVE, EndReason, Grant, GrantQuerySet, State, new_reference
from apps.grants.models.homes import Home
from apps.grants.models.leaving import Exodus, Leaving
from apps.grants.models.mintings import Minting
from apps.grants.models.stops import Scope, Stop, StopWrite
from apps.grants.models.warrants import Authorization, Extension, Warrant

__all__ = [
    "COMMITTED",
    "IN_AWS",
    "LIVE",
    "Activity",
    "Authorization",
    "Drift",
    "EndReason",
    "Exodus",
    "Extension",
    "Grant",
    "GrantQuerySet",
    "Home",
    "Leaving",
    "Minting",
    "OutsideChange",
    "Reconciliation",
    "Scope",
    "State",
    "Stop",
    "StopWrite",
    "Strength",
    "TracedSession",
    "Warrant",
    "new_reference",
]
