"""What is said about an identity's use, and when a smaller policy is proposed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from html import escape, unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.connectors import registry
from apps.connectors.errors import Denied
from apps.connectors.trail import LastUse
from apps.core import words
from apps.inventory import baselines
from apps.inventory.models import (
    AccessReport,
    Actor,
    Connection,
    Entitlement,
    Identity,
    LastAccess,
    Principal,
    TrailDay,
    TrailRun,
    Usage,
)
from apps.inventory.sync import last_accessed
from apps.inventory.views import usage as pages
from tests.factories.inventory import (
    AssignmentFactory,
    ConnectionFactory,
    EntitlementFactory,
    PrincipalFactory,
    ResourceFactory,
)
from tests.factories.users import UserFactory
from tests.trail import ACCOUNT, ROLE_ID

pytestmark = pytest.mark.django_db

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["ec2:DescribeInstances", "ec2:RunInstances", "s3:GetObject", "sqs:CreateQueue"],
            "Resource": "*",
        }
    ],
}


class Deployer:
    """A role with one policy, and what the trail shows of it."""

    def __init__(self) -> None:
        self.connection: Connection = ConnectionFactory(options={"trail_bucket": "trail"})
        self.account = ResourceFactory(connection=self.connection, external_id=ACCOUNT, name="prod")
        self.principal: Principal = PrincipalFactory(
            connection=self.connection,
            resource=self.account,
            iam_role=True,
            external_id=f"arn:aws:iam::{ACCOUNT}:role/deploy",
            name="deploy",
            attributes={"unique_id": ROLE_ID},
            last_used_at=timezone.now(),
        )
        identity = self.principal.identity
        assert identity
        identity.name = "deploy"
        identity.save()
        self.identity: Identity = identity
        self.policy = EntitlementFactory(
            connection=self.connection,
            resource=self.account,
            kind=Entitlement.Kind.IAM_POLICY,
            name="DeployEverything",
            documents=[{"name": "DeployEverything", "document": POLICY}],
        )
        AssignmentFactory(connection=self.connection, principal=self.principal, entitlement=self.policy)
        now = timezone.now()
        self.actor = Actor.objects.create(
            connection=self.connection, external_id=ROLE_ID, principal=self.principal, first_at=now, last_at=now
        )

    def reads(self, days: int = 100, *, but: tuple[int, ...] = ()) -> None:
        """The trail of so many days was read whole, but for some days ago."""
        today = timezone.now().date()
        TrailDay.objects.bulk_create(
            TrailDay(
                connection=self.connection,
                account_id=ACCOUNT,
                region="eu-west-1",
                day=today - timedelta(days=n),
                files=12,
                events=40,
                whole_at=None if n in but or n == 0 else timezone.now(),
            )
            for n in range(days + 1)
        )

    def does(self, action: str, *, days_ago: int = 3, **counts: Any) -> Usage:
        day = timezone.now().date() - timedelta(days=days_ago)
        return Usage.objects.create(
            actor=self.actor,
            day=day,
            action=action,
            last_at=datetime.combine(day, time(12), UTC),
            **{"networks": ["203.0.113.0/24"], "regions": ["eu-west-1"], **(counts or {"done": 1})},
        )


@pytest.fixture
def deployer() -> Deployer:
    return Deployer()


@pytest.fixture
def dan(client: Client) -> Client:
    client.force_login(UserFactory(name="Dan", auditor=True))
    return client


# ---- how much is known


def test_what_was_not_read_is_missing_and_not_unused(deployer: Deployer) -> None:
    assert baselines.coverage(deployer.identity).why_not.startswith("No day")
    deployer.reads(100, but=(20, 21))
    covered = baselines.coverage(deployer.identity)
    assert covered.whole == 98
    assert [(timezone.now().date() - day).days for day in covered.missing] == [21, 20]
    assert "2 of the last 90 days" in covered.why_not


def test_a_day_that_was_never_listed_is_a_gap(deployer: Deployer) -> None:
    deployer.reads(100)
    TrailDay.objects.filter(day=timezone.now().date() - timedelta(days=40)).delete()
    assert len(baselines.coverage(deployer.identity).missing) == 1


def test_a_day_counts_only_when_the_trail_of_every_account_of_an_identity_was_read(deployer: Deployer) -> None:
    deployer.reads()
    assert baselines.coverage(deployer.identity).is_enough
    dark = ResourceFactory(connection=deployer.connection, external_id="444455556666", name="dark")
    PrincipalFactory(connection=deployer.connection, resource=dark, iam_role=True, identity=deployer.identity)
    assert baselines.coverage(deployer.identity).whole == 0
    assert baselines.propose(deployer.identity).proposals == []


def test_a_short_window_and_an_old_one_propose_nothing(deployer: Deployer) -> None:
    deployer.reads(30)
    assert "90 are needed" in baselines.coverage(deployer.identity).why_not
    TrailDay.objects.filter(day__gte=timezone.now().date() - timedelta(days=10)).delete()
    assert "Read it up to now" in baselines.coverage(deployer.identity).why_not


# ---- proposals


def test_a_smaller_policy_keeps_what_was_used_and_what_nothing_could_show(deployer: Deployer) -> None:
    deployer.reads()
    deployer.does("ec2:DescribeInstances", done=4)
    deployer.does("ec2:RunInstances", denied=2)
    [proposal] = baselines.propose(deployer.identity).proposals
    assert proposal.smaller
    assert proposal.smaller.removed == ("ec2:RunInstances", "sqs:CreateQueue")
    assert proposal.smaller.unseen == ("s3:GetObject",)


def test_a_failed_call_and_one_by_a_service_are_kept_and_only_the_first_is_a_need(deployer: Deployer) -> None:
    deployer.reads()
    deployer.does("ec2:RunInstances", failed=1)
    deployer.does("sqs:CreateQueue", by_services=1, services=["cloudformation.amazonaws.com"])
    known = baselines.evidence(deployer.identity, timezone.now().date() - timedelta(days=90))
    assert known.used == {"ec2:RunInstances"}
    assert known.for_services == {"sqs:CreateQueue"}
    [proposal] = baselines.propose(deployer.identity).proposals
    assert proposal.smaller
    assert proposal.smaller.removed == ("ec2:DescribeInstances",)


def test_use_before_the_window_does_not_count(deployer: Deployer) -> None:
    deployer.reads(150)
    deployer.does("ec2:RunInstances", days_ago=120)
    [proposal] = baselines.propose(deployer.identity).proposals
    assert proposal.smaller
    assert "ec2:RunInstances" in proposal.smaller.removed


def test_awss_own_report_lets_a_whole_service_go(deployer: Deployer) -> None:
    deployer.reads()
    last_accessed.keep(deployer.principal, [LastUse("s3"), LastUse("ec2", at=timezone.now())])
    [proposal] = baselines.propose(deployer.identity).proposals
    assert proposal.smaller
    assert "s3:GetObject" in proposal.smaller.removed


@pytest.mark.parametrize(
    ("kind", "holder", "said"),
    [
        (Entitlement.Kind.IAM_INLINE_POLICY, Principal.Kind.IAM_USER, "inline policies of this user have 2,"),
        (Entitlement.Kind.IAM_INLINE_POLICY, Principal.Kind.IAM_ROLE, ""),
        (Entitlement.Kind.IAM_POLICY, Principal.Kind.IAM_USER, ""),
    ],
)
def test_an_inline_policy_is_told_when_its_holder_has_no_room_for_it(
    kind: str, holder: str, said: str, deployer: Deployer
) -> None:
    deployer.reads()
    deployer.does("s3:CreateBucket")
    Principal.objects.update(kind=holder)
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*", "sts:*"], "Resource": "*"}]}
    Entitlement.objects.update(kind=kind, documents=[{"name": "wide", "document": wide}])
    [proposal] = baselines.propose(deployer.identity).proposals
    assert said in " ".join(proposal.notes)
    assert bool(said) == bool(proposal.notes)


def test_inline_policies_of_one_holder_are_counted_together(deployer: Deployer) -> None:
    deployer.reads()
    deployer.does("s3:CreateBucket")
    Entitlement.objects.update(
        kind=Entitlement.Kind.IAM_INLINE_POLICY,
        documents=[
            {"name": str(n), "document": {**POLICY, "Statement": [{**POLICY["Statement"][0], "Action": actions}]}}
            for n, actions in enumerate((["s3:*", "sts:*"], ["s3:CreateBucket" for _ in range(500)]))
        ],
    )
    wide, long = baselines.propose(deployer.identity).proposals
    assert "inline policies of this role have 1" in wide.notes[0]
    assert long.notes == (), "there is nothing to write out"


def test_a_policy_that_cannot_be_read_says_so(deployer: Deployer) -> None:
    deployer.reads()
    Entitlement.objects.update(documents=[{"name": "Broken", "document": "{"}])
    [proposal] = baselines.propose(deployer.identity).proposals
    assert proposal.smaller is None
    assert "not JSON" in proposal.problem


# ---- pages


def test_the_usage_page_counts_apart_and_narrows(deployer: Deployer, dan: Client) -> None:
    deployer.reads()
    deployer.does("ec2:DescribeInstances", done=4)
    deployer.does("ec2:RunInstances", denied=2)
    deployer.does("signin:ConsoleLogin", done=1, is_mapped=False)
    url = reverse("inventory:usage", args=[deployer.identity.pk])
    text = dan.get(url).content.decode()
    assert "ec2:RunInstances" in text
    assert "203.0.113.0/24" in text
    assert "no permission of that name" in text
    assert "sqs" in text
    assert "Allowed services without a call" in text
    narrowed = dan.get(url, {"only": "denied"}).content.decode()
    assert "ec2:RunInstances" in narrowed
    assert "ec2:DescribeInstances" not in narrowed
    assert "Nothing matches" in dan.get(url, {"q": "<script>"}, headers={"HX-Request": "true"}).content.decode()


def test_no_data_is_said(deployer: Deployer, dan: Client) -> None:
    text = unescape(dan.get(reverse("inventory:usage", args=[deployer.identity.pk])).content.decode())
    assert "No day of its account's trail was read whole" in text
    assert "which is not unused" in text
    assert "Allowed services whose use is unknown" in text
    assert "without a call" not in text
    proposal = dan.get(reverse("inventory:usage_proposal", args=[deployer.identity.pk])).content.decode()
    assert "Nothing is proposed yet" in proposal


def test_a_proposal_shows_a_difference_and_comes_as_json(deployer: Deployer, dan: Client) -> None:
    deployer.reads()
    deployer.does("ec2:DescribeInstances")
    text = dan.get(reverse("inventory:usage_proposal", args=[deployer.identity.pk])).content.decode()
    assert "gh-diff-del" in text
    answer = dan.get(reverse("inventory:usage_proposal_json", args=[deployer.identity.pk]))
    body = json.loads(answer.content)
    assert body["policies"][0]["proposed"]["Statement"][0]["Action"] == ["ec2:DescribeInstances", "s3:GetObject"]
    assert "attachment" in answer["Content-Disposition"]


def test_a_person_without_iam_has_no_usage_page(dan: Client) -> None:
    person = PrincipalFactory().identity
    assert dan.get(reverse("inventory:usage", args=[person.pk])).status_code == 404


def test_usage_pages_cost_the_same_however_much_was_done(
    deployer: Deployer, dan: Client, django_assert_max_num_queries: Any
) -> None:
    deployer.reads()
    url = reverse("inventory:usage", args=[deployer.identity.pk])
    for n in range(20):
        deployer.does("ec2:DescribeInstances", days_ago=n + 1)
        deployer.does(f"ec2:Thing{n}")
    with django_assert_max_num_queries(30):
        dan.get(url)


def test_the_trails_page_says_what_was_skipped_and_where_nothing_is_known(deployer: Deployer, dan: Client) -> None:
    deployer.reads(10, but=(5,))
    ResourceFactory(connection=deployer.connection, name="dark-account")
    TrailRun.objects.create(
        connection=deployer.connection,
        state=TrailRun.State.INCOMPLETE,
        skipped=[{"file": "AWSLogs/x.json.gz", "reason": "The compressed file ends in the middle.", "count": 1}],
        skipped_count=1,
    )
    text = dan.get(reverse("inventory:trail", args=[deployer.connection.name])).content.decode()
    assert "ends in the middle" in text
    assert "dark-account" in text
    assert words.account_id(ACCOUNT) in text
    assert "the inventory does not know" not in text


def test_the_trails_page_names_actors_that_are_not_known(deployer: Deployer, dan: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(pages, "MOST_STRANGERS", 2)
    arns = [f"arn:aws:iam::{ACCOUNT}:role/<b>{name}" for name in ("gone", "older", "oldest")]
    of, at = deployer.connection, timezone.now()
    for n, arn in enumerate(arns):
        Actor.objects.create(connection=of, external_id=f"AROA{n}", arn=arn, first_at=at, last_at=at)
    text = dan.get(reverse("inventory:trail", args=[deployer.connection.name])).content.decode()
    assert 'the inventory does not know <b class="gh-num">3</b>' in text
    assert [escape(arn) in text for arn in arns] == [True, True, False]
    assert "And 1 more." in text and "<b>gone" not in text


# ---- AWS's own reports


class Reports:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None

    def of(self, _account_id: str, arn: str) -> list[LastUse]:
        self.asked.append(arn)
        if self.error:
            raise self.error
        return [LastUse("s3", at=timezone.now()), LastUse("s3", "s3:ListBucket")]


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Reports:
    made = Reports()
    monkeypatch.setitem(registry.ACCESS_REPORTS, "fake", "unused:unused")
    monkeypatch.setattr(registry, "access_reports", lambda _kind, _config: made)
    return made


def test_a_report_is_read_once_until_the_principal_is_used_again(deployer: Deployer, reports: Reports) -> None:
    assert last_accessed.read(deployer.connection.pk) == 1
    assert set(LastAccess.objects.values_list("service", "action")) == {("s3", ""), ("s3", "s3:ListBucket")}
    AccessReport.objects.update(read_at=timezone.now() - timedelta(days=8), tried_at=timezone.now() - timedelta(days=8))
    assert last_accessed.read(deployer.connection.pk) == 0
    Principal.objects.update(last_used_at=timezone.now())
    assert last_accessed.read(deployer.connection.pk) == 1


def test_a_report_that_is_denied_says_so_and_is_not_asked_for_again_at_once(
    deployer: Deployer, reports: Reports
) -> None:
    other = PrincipalFactory(
        connection=deployer.connection, resource=deployer.account, iam_role=True, last_used_at=timezone.now()
    )
    reports.error = Denied("AWS denies it.")
    assert last_accessed.read(deployer.connection.pk) == 0
    assert len(reports.asked) == 1, "the account's other principals need not be denied one by one"
    noted = AccessReport.objects.values_list("principal", "problem")
    assert set(noted) == {(one.pk, "AWS denies it.") for one in (deployer.principal, other)}
    reports.error = None
    assert last_accessed.read(deployer.connection.pk) == 0
    AccessReport.objects.update(tried_at=timezone.now() - last_accessed.AGAIN * 2)
    assert last_accessed.read(deployer.connection.pk) == 2


def test_an_account_that_denies_reports_does_not_keep_others_waiting(
    deployer: Deployer, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_accessed, "MOST", 2)
    open_account = ResourceFactory(connection=deployer.connection, external_id="444455556666", name="zulu")
    for account in (*[deployer.account] * 3, open_account):
        PrincipalFactory(connection=deployer.connection, resource=account, iam_role=True, last_used_at=timezone.now())
    reports.error = Denied("AWS denies it.")
    assert last_accessed.read(deployer.connection.pk) == 0
    reports.error = None
    assert last_accessed.read(deployer.connection.pk) == 1, "the next turn is the other account's"


def test_a_principal_that_was_never_used_is_not_asked_about(deployer: Deployer, reports: Reports) -> None:
    Principal.objects.update(last_used_at=None)
    assert last_accessed.read(deployer.connection.pk) == 0
    assert reports.asked == []
