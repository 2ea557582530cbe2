"""Whose grant a call belongs to, how surely, and what that says about what was needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection as database
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.connectors.trail import Outcome, TrailEvent
from apps.grants import attribution, closing
from apps.grants.models import Activity, Grant, Minting, TracedSession
from apps.inventory.models import Assignment, TrailDay
from tests.factories.inventory import EntitlementFactory, PrincipalFactory
from tests.grants.system import ACCOUNT, System

ROLE = "AROAEXAMPLE0000000001"


def event(at: datetime | None = None, **fields: Any) -> TrailEvent:
    """A call that nothing says whose it is."""
    values: dict[str, Any] = {
        "event_id": "e",
        "at": at or timezone.now(),
        "account_id": ACCOUNT,
        "region": "us-east-1",
        "service": "ec2",
        "name": "DescribeInstances",
        "action": "ec2:DescribeInstances",
        "outcome": Outcome.DONE,
        "is_data_event": False,
        **dict.fromkeys(("actor_kind", "actor_arn", "actor_id", "actor_account_id", "issuer_arn", "issuer_id"), ""),
        **dict.fromkeys(("session_name", "source_identity", "access_key_id", "on_behalf_of", "invoked_by"), ""),
        "session_began_at": None,
        "source_address": "192.0.2.1",
    }
    return TrailEvent(**{**values, **fields})


def in_center(name: str = "alice", entitlement: str = "Read", **fields: Any) -> TrailEvent:
    """A call of an Identity Center session that began now."""
    role = f"arn:aws:iam::{ACCOUNT}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_{entitlement}_0123456789abcdef"
    return event(**{"issuer_arn": role, "session_name": name, "session_began_at": timezone.now(), **fields})


def strengths(grant: Grant) -> set[str]:
    return {*Activity.objects.filter(grant=grant).values_list("strength", flat=True)}


def read(system: System, *events: TrailEvent) -> None:
    attribution.read(system.connection, events)


# ---- by which sign


def test_the_role_that_was_made_for_a_grant_is_certain(system: System) -> None:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(made_as=ROLE)
    read(system, event(issuer_id=ROLE), event(issuer_id="AROAOTHER"))
    assert strengths(grant) == {"exact"}
    assert Activity.objects.get().done == 1


def test_the_key_of_a_session_that_the_broker_made_is_certain_also_along_a_chain(system: System) -> None:
    grant, now = system.active(), timezone.now()
    Minting.objects.create(
        grant=grant, kind="cli", access_key_id="ASIA1", session_name="alice", minted_at=now, expires_at=now
    )
    chained = event(now + timedelta(seconds=1), access_key_id="ASIA1", name="AssumeRole", made_access_key_id="ASIA2")
    read(system, event(now + timedelta(seconds=2), access_key_id="ASIA2"), chained)  # files are not in order
    assert sum(row.done for row in Activity.objects.filter(grant=grant, strength="exact")) == 2
    read(system, event(now + timedelta(seconds=3), access_key_id="ASIA2"))  # another batch
    assert sum(row.done for row in Activity.objects.filter(grant=grant)) == 3
    assert TracedSession.objects.get().access_key_id == "ASIA2"


def test_a_session_that_was_refused_is_not_followed(system: System) -> None:
    grant, now = system.active(), timezone.now()
    Minting.objects.create(
        grant=grant, kind="cli", access_key_id="ASIA1", session_name="alice", minted_at=now, expires_at=now
    )
    read(system, event(access_key_id="ASIA1", made_access_key_id="ASIA2", outcome=Outcome.DENIED))
    assert not TracedSession.objects.exists()


def test_a_tag_is_certain_only_from_our_own_broker(system: System) -> None:
    grant = system.active()
    broker = f"arn:aws:iam::{ACCOUNT}:role/portal/PortalBroker"
    tagged = {"tags": {"jit-grant": grant.reference}, "name": "AssumeRole"}
    read(system, event(issuer_arn=broker, made_access_key_id="ASIA1", **tagged))
    assert strengths(grant) == {"exact"}
    forged = f"arn:aws:iam::{ACCOUNT}:role/mine/PortalBroker"  # the same name under another path
    read(system, event(issuer_arn=forged, action="sts:TagSession", **tagged))
    assert strengths(grant) == {"exact", "probable"}


def test_an_identity_center_session_is_certain_where_there_was_no_other_way(system: System) -> None:
    grant = system.active()
    read(system, in_center(name="ALICE"))
    assert strengths(grant) == {"exact"}


@pytest.mark.parametrize("way", ["standing", "by group"])
def test_where_there_was_another_way_it_is_only_probable(system: System, way: str) -> None:
    grant = system.active()
    if way == "standing":
        Assignment.objects.filter(principal=system.alice).update(is_standing=True)
    else:
        group = PrincipalFactory(connection=system.connection, kind="idc_group", name="readers")
        membership = EntitlementFactory(connection=system.connection, kind="idc_group", group=group, name="readers")
        since = DateTimeTZRange(timezone.now() - timedelta(days=9), None)
        for principal, held in ((group, system.read), (system.alice, membership)):
            Assignment.objects.create(connection=system.connection, principal=principal, entitlement=held, period=since)
    read(system, in_center())
    assert strengths(grant) == {"probable"}


def test_a_way_that_was_gone_before_changes_nothing(system: System) -> None:
    grant = system.active()
    past = DateTimeTZRange(timezone.now() - timedelta(days=9), timezone.now() - timedelta(days=1))
    Assignment.objects.create(
        connection=system.connection, principal=system.alice, entitlement=system.read, period=past, is_standing=True
    )
    read(system, in_center())
    assert strengths(grant) == {"exact"}


def test_a_session_that_began_before_the_grant_or_is_somebody_elses_is_not_its(system: System) -> None:
    system.active()
    long_ago = timezone.now() - timedelta(hours=3)
    read(system, in_center(session_began_at=long_ago), in_center(name="bob"), in_center(entitlement="Admin"))
    read(system, in_center(account_id="999999999999"))
    read(system, in_center(issuer_arn=f"arn:aws:iam::{ACCOUNT}:role/mine/AWSReservedSSO_Read_0123456789abcdef"))
    assert not Activity.objects.exists()


def test_what_a_login_did_under_a_dated_policy_is_only_possible(system: System) -> None:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(provisioner="iam_timeboxed_policy")
    read(system, event(actor_arn=system.alice.external_id))
    assert strengths(grant) == {"possible"}


def test_calls_count_until_an_hour_after_the_end(system: System) -> None:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(made_as=ROLE)
    ends_at = grant.ends_at
    assert ends_at is not None
    for minutes in (-61, 59, 61):
        read(system, event(ends_at + timedelta(minutes=minutes), issuer_id=ROLE, outcome=Outcome.DENIED))
    assert Activity.objects.get().denied == 1


def test_another_organizations_events_are_not_this_ones(system: System) -> None:
    grant, other = system.active(), System()
    Grant.objects.filter(pk=grant.pk).update(made_as=ROLE)
    read(other, event(issuer_id=ROLE))
    assert not Activity.objects.exists()


# ---- what is counted


def test_done_refused_failed_and_what_services_did_are_told_apart(system: System) -> None:
    grant = system.active()
    Grant.objects.filter(pk=grant.pk).update(made_as=ROLE)
    mine = {"issuer_id": ROLE}
    calls = [
        event(**mine),
        event(**mine),
        event(**mine, outcome=Outcome.DENIED),
        event(**mine, outcome=Outcome.FAILED),
        event(**mine, invoked_by="cloudformation.amazonaws.com"),
    ]
    read(system, *calls)
    row = Activity.objects.get()
    assert (row.done, row.denied, row.failed, row.by_services) == (2, 1, 1, 1)


def test_a_batch_costs_the_same_however_many_grants_it_is_about(system: System) -> None:
    def statements(events: list[TrailEvent]) -> int:
        with CaptureQueriesContext(database) as queries:
            read(system, *events)
        return len(queries)

    system.active()
    few = statements([in_center()])
    for number in range(5):
        system.active(system.person(f"p{number}"))
    assert statements([in_center(name=f"p{number}") for number in range(5)]) == few
    assert Activity.objects.count() == 6


# ---- the close-out


ALLOWS = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["ec2:DescribeInstances", "ec2:RunInstances", "sqs:CreateQueue"], "Resource": "*"}
    ],
}


@pytest.fixture
def used(system: System) -> Grant:
    """A grant of three actions under which one was called and one was refused."""
    system.read.documents = [{"name": "Operate", "document": ALLOWS}]
    system.read.save()
    grant = system.active()
    refused = {"service": "sqs", "name": "CreateQueue", "action": "sqs:CreateQueue", "outcome": Outcome.DENIED}
    read(system, in_center(), in_center(**refused))
    return grant


def whole(grant: Grant, *, at: datetime | None) -> None:
    """The trail of the grant's days was read, to the end if `at` says when."""
    today = timezone.now().astimezone(UTC).date()
    for day in (today, today + timedelta(days=1)):
        TrailDay.objects.create(
            connection=grant.connection, account_id=ACCOUNT, region="us-east-1", day=day, whole_at=at
        )


def test_it_says_how_much_of_what_was_allowed_was_used(used: Grant) -> None:
    whole(used, at=timezone.now())
    found = closing.close_out(used)
    assert (found.used, found.allowed, found.missing) == (1, 3, ())
    [(name, smaller)] = found.smaller
    assert name == "Operate"
    assert smaller.after is not None
    assert smaller.after["Statement"][0]["Action"] == ["ec2:DescribeInstances"]


@pytest.mark.parametrize("is_read", [False, True])
def test_nothing_smaller_is_proposed_from_days_that_were_not_read_whole(used: Grant, is_read: bool) -> None:
    if is_read:
        whole(used, at=None)
    found = closing.close_out(used)
    assert found.missing
    assert found.smaller == []


def test_what_is_not_read_is_not_called_unused(used: Grant, system: System, client: Client) -> None:
    Activity.objects.all().delete()
    client.force_login(system.alice.identity.user)  # type: ignore[union-attr, arg-type]
    page = client.get(f"/grants/{used.pk}/used-for/").content.decode()
    assert "Not known yet what it was used for" in page
    assert "Used 0 of" not in page


def test_the_page_shows_it_to_those_who_may_see_the_grant(used: Grant, system: System, client: Client) -> None:
    client.force_login(system.alice.identity.user)  # type: ignore[union-attr, arg-type]
    page = client.get(f"/grants/{used.pk}/used-for/").content.decode()
    assert "Used 1 of 3 allowed actions" in page
    assert "The trail is not read to the end" in page
    client.force_login(system.person("mallory").identity.user)  # type: ignore[union-attr, arg-type]
    assert client.get(f"/grants/{used.pk}/used-for/").status_code == 404
