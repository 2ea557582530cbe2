"""What a smaller policy says about itself before somebody takes it over."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.inventory import baselines
from apps.inventory.models import AccessReport, LastAccess
from tests.factories.inventory import AssignmentFactory, PrincipalFactory
from tests.inventory.test_usage import Deployer

pytestmark = pytest.mark.django_db


@pytest.fixture
def deployer() -> Deployer:
    deployer = Deployer()
    deployer.reads(100)
    return deployer


def reported(deployer: Deployer, days: int) -> None:
    """AWS said so many days ago that S3 was never accessed; the role was used today."""
    at = timezone.now() - timedelta(days=days)
    AccessReport.objects.create(principal=deployer.principal, read_at=at, tried_at=at, used_at=at)
    LastAccess.objects.create(principal=deployer.principal, service="s3", last_at=None)


def proposed(deployer: Deployer) -> baselines.Proposal:
    [one] = baselines.propose(deployer.identity).proposals
    return one


def test_a_policy_that_others_hold_says_so(deployer: Deployer) -> None:
    assert not any("hold" in note for note in proposed(deployer).notes)
    other = PrincipalFactory(connection=deployer.connection, resource=deployer.account, iam_role=True)
    AssignmentFactory(connection=deployer.connection, principal=other, entitlement=deployer.policy)
    assert proposed(deployer).notes[0].startswith("One other holds this policy too")


def test_a_report_takes_whole_services_away_and_says_until_when_it_speaks(deployer: Deployer) -> None:
    reported(deployer, days=6)
    one = proposed(deployer)
    assert one.smaller and "s3:GetObject" in one.smaller.removed
    assert any(f"{timezone.now() - timedelta(days=6):%d %B %Y}" in note for note in one.notes)


def test_a_report_that_is_no_longer_read_takes_nothing_away(deployer: Deployer) -> None:
    reported(deployer, days=15)
    one = proposed(deployer)
    assert one.smaller and "s3:GetObject" not in one.smaller.removed


def test_an_old_report_on_somebody_idle_since_still_tells(deployer: Deployer) -> None:
    reported(deployer, days=15)
    AccessReport.objects.update(used_at=deployer.principal.last_used_at)
    one = proposed(deployer)
    assert one.smaller and "s3:GetObject" in one.smaller.removed
