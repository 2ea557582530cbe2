"""A policy that cannot be read says nothing about what was found in it: such a finding neither closes nor is new."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.insights.models import Finding
from apps.inventory.models import Assignment, Entitlement, Identity, Principal
from tests.factories.inventory import EntitlementFactory
from tests.insights.test_findings import Estate

Kind = Finding.Kind

pytestmark = pytest.mark.django_db


def policy(estate: Estate, **facts: object) -> Entitlement:
    """What the role of the estate holds all the time."""
    row: Entitlement = EntitlementFactory(connection=estate.connection, resource=estate.account, **facts)
    began_at = timezone.now() - timedelta(days=3)
    estate.role.assignments.create(
        connection=estate.connection, entitlement=row, period=(began_at, None), is_standing=True
    )
    return row


def cannot_be_read(row: Entitlement) -> None:
    Entitlement.objects.filter(pk=row.pk).update(privilege="unknown", can_escalate=False)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"privilege": "admin"}, Kind.STANDING_ADMIN),
        ({"privilege": "privileged", "can_escalate": True}, Kind.ESCALATION),
    ],
)
def test_a_finding_whose_policy_cannot_be_read_any_more_is_kept(facts: dict[str, object], kind: Kind) -> None:
    estate = Estate()
    row = policy(estate, **facts)
    assert estate.look() == [kind]
    cannot_be_read(row)
    estate.scan()
    assert estate.look() == [kind]
    Entitlement.objects.filter(pk=row.pk).update(privilege="read")
    assert estate.look() == []


def test_it_closes_when_nobody_holds_it_any_more_whatever_it_says() -> None:
    estate = Estate()
    row = policy(estate, privilege="admin")
    other = policy(estate, privilege="read")
    assert estate.look() == [Kind.STANDING_ADMIN]
    cannot_be_read(row)
    now = timezone.now()
    Assignment.objects.filter(entitlement=row).update(period=(now - timedelta(days=3), now))
    cannot_be_read(other)  # something else of theirs
    estate.scan()
    assert estate.look() == []


def test_what_a_principals_policies_add_up_to_is_kept_while_one_of_them_cannot_be_read() -> None:
    estate = Estate()
    row = policy(estate, privilege="read")
    values = {"connection": estate.connection, "severity": 3, "name": "etl", "what": "x"}
    earlier = timezone.now() - timedelta(hours=1)
    for key in (f"together:{estate.role.pk}", f"way:principal:{estate.role.pk}", "identity:1:deleted"):
        kind = Kind.ORPHAN if key.startswith("identity") else Kind.ESCALATION
        Finding.objects.create(kind=kind, key=key, resource=estate.account, first_seen_at=earlier, **values)
    cannot_be_read(row)
    estate.scan()
    assert estate.look() == [Kind.ESCALATION, Kind.ESCALATION]
    Entitlement.objects.filter(pk=row.pk).update(privilege="read")
    assert estate.look() == []


def open_door(estate: Estate, concern: str = "anybody") -> None:
    sign = {"classification": "anybody", "evidence": "Anybody.", "statement": "1", "concerns": [concern]}
    Identity.objects.filter(pk=estate.machine.pk).update(classification="anybody", signs=[sign])


@pytest.mark.parametrize(("concern", "kind"), [("anybody", Kind.OPEN_TRUST), ("deleted", Kind.ORPHAN)])
def test_an_open_door_is_kept_while_the_trust_policy_cannot_be_read(concern: str, kind: Kind) -> None:
    estate = Estate()
    machine = Identity.objects.filter(pk=estate.machine.pk)
    open_door(estate, concern)
    assert estate.look() == [kind]
    machine.update(classification="unreadable", signs=[])
    estate.scan()
    assert estate.look() == [kind]
    machine.update(classification="closed")
    assert estate.look() == []


def test_an_open_door_closes_with_its_machine_whatever_its_trust_policy_says() -> None:
    estate = Estate()
    open_door(estate)
    assert estate.look() == [Kind.OPEN_TRUST]
    now = timezone.now()
    Identity.objects.filter(pk=estate.machine.pk).update(classification="unreadable", signs=[], ended_at=now)
    Principal.objects.filter(pk=estate.role.pk).update(ended_at=now)
    estate.scan()
    assert estate.look() == []


def test_other_findings_of_a_machine_close_though_its_trust_policy_cannot_be_read() -> None:
    estate = Estate()
    row = policy(estate, privilege="admin")
    assert estate.look() == [Kind.STANDING_ADMIN]
    Identity.objects.filter(pk=estate.machine.pk).update(classification="unreadable")
    Entitlement.objects.filter(pk=row.pk).update(privilege="read")
    estate.scan()
    assert estate.look() == []
