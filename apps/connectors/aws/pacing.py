"""How fast we may ask AWS for what (aws.md §3), and how every request of ours keeps to it.

A rate is kept for each *attempt*, botocore's own retries included: that is what AWS counts. Room for what AWS does later
(assignments) and requests at a time are kept for each call. The numbers of sso-admin are AWS's, which cannot be raised;
the others are ours, since AWS publishes none. What is left of them is for other tools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from apps.connectors import budget
from apps.connectors.aws import clock
from apps.connectors.aws.errors import THROTTLED_CODES
from apps.connectors.errors import Unreachable
from apps.connectors.leases import Pool, Purpose

RATES = {
    "sso-admin": Pool("sso-admin", {"sync": 10, "grant": 15, "revoke": 20}),  # AWS: 20 for all of it together
    "identitystore": Pool("identitystore", {"sync": 6, "grant": 8, "revoke": 10}),
    "organizations": Pool("organizations", {"sync": 3, "grant": 4, "revoke": 5}),
    "iam": Pool("iam", {"sync": 10, "grant": 15, "revoke": 20}),
    "scheduler": Pool("scheduler", {"sync": 50, "grant": 75, "revoke": 100}),
    "s3": Pool("s3", {"sync": 200, "grant": 300, "revoke": 400}),  # AWS: 5,500 reads for each prefix of a bucket
}
OTHERS = Pool("other", {"sync": 20, "grant": 30, "revoke": 40})

# Assignments that AWS works on: at most 10, of which openings leave some for removals. One that nobody asked about
# again (its worker died) counts for two minutes.
OUTSTANDING = Pool("outstanding", {"sync": 7, "grant": 7, "revoke": 10}, lasts_for=120, is_counted=False)
AT_ONCE = Pool("at once", {"sync": 2}, lasts_for=120, is_counted=False)  # requests of one reading in one account's IAM

STARTS = {"create_account_assignment", "delete_account_assignment"}
ASKS = {"describe_account_assignment_creation_status", "describe_account_assignment_deletion_status"}

# These end access, or make room for what does, whoever calls them.
FIRST = {
    "DeleteAccountAssignment",
    "DescribeAccountAssignmentCreationStatus",
    "DescribeAccountAssignmentDeletionStatus",
    "DeleteGroupMembership",
}

PAUSE = 1.0  # seconds, when AWS does not say for how long

_Answer = Mapping[str, Any]


def attach(client: Any, account_id: str, service: str) -> None:
    """Let every attempt of this client wait for its turn, and learn from every answer."""
    pool = RATES.get(service, OTHERS)

    def before(event_name: str, **_: Any) -> None:
        is_first = event_name.rpartition(".")[2] in FIRST
        budget.here().take(pool, account_id, "revoke" if is_first else None)

    def after(response_dict: _Answer | None, parsed_response: _Answer | None, **_: Any) -> None:
        if response_dict is not None:
            clock.note(response_dict.get("headers", {}).get("date", ""))
        code = (parsed_response or {}).get("Error", {}).get("Code", "")
        if code in THROTTLED_CODES:
            budget.spending().throttles += 1
            budget.here().pause(pool, account_id, _asked_to_wait(response_dict or {}))

    client.meta.events.register("before-send", before)
    client.meta.events.register("response-received", after)


def _asked_to_wait(response: _Answer) -> float:
    try:
        return float(response.get("headers", {}).get("retry-after", PAUSE))
    except ValueError:
        return PAUSE


# ---- room for one call --------------------------------------------------------------------------------------------


@contextmanager
def room(account_id: str, service: str, operation: str) -> Iterator[Callable[[_Answer], None]]:
    """Keep room for one call; hand its answer to what is yielded.

    What AWS accepted and still works on keeps its room until somebody asks and hears that it is through. So does what
    got no answer, for it may have arrived.
    """
    pool = _room_of(service, operation)
    lease = budget.here().take(pool, account_id, _purpose_of(operation)) if pool else ""
    is_left = True

    def answered(answer: _Answer) -> None:
        nonlocal is_left
        if operation not in STARTS | ASKS:
            return
        number, state = _status_of(answer)
        if operation in STARTS and state == "IN_PROGRESS":
            budget.here().rename(OUTSTANDING, account_id, lease, number)
            is_left = False
        if operation in ASKS and state != "IN_PROGRESS":
            budget.here().give_back(OUTSTANDING, account_id, number)

    try:
        yield answered
    except Unreachable:
        if pool is OUTSTANDING:
            is_left = False
        raise
    finally:
        if pool and is_left:
            budget.here().give_back(pool, account_id, lease)


def _room_of(service: str, operation: str) -> Pool | None:
    if operation in STARTS:
        return OUTSTANDING
    return AT_ONCE if service == "iam" else None


def _purpose_of(operation: str) -> Purpose | None:
    return "revoke" if operation == "delete_account_assignment" else None


def _status_of(answer: _Answer) -> tuple[str, str]:
    """The number and the state of an assignment that AWS works on."""
    status: _Answer = next((value for name, value in answer.items() if name.endswith("Status")), {})
    return str(status.get("RequestId", "")), str(status.get("Status", ""))
