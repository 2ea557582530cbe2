"""The main job as its users do it, over HTTP with a running worker and clock; what is claimed is checked in AWS with a
client that shares nothing with the portal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.connectors.aws.policy.evaluator import Outcome, evaluate
from tests.e2e.conftest import Browser, Demo, wait_for

SECONDS = 20  # how long the access is asked for


def account_named(demo: Demo, name: str) -> str:
    accounts = demo.aws("organizations").list_accounts()["Accounts"]
    return next(account["Id"] for account in accounts if name in account["Name"])


class Held:
    """What AWS itself says about one person and one permission set in one account."""

    def __init__(self, demo: Demo, email: str, permission_set: str, account: str) -> None:
        self.demo, self.account = demo, account
        sso = demo.aws("sso-admin")
        instance = sso.list_instances()["Instances"][0]
        self.instance = instance["InstanceArn"]
        users = demo.aws("identitystore").list_users(IdentityStoreId=instance["IdentityStoreId"])["Users"]
        self.user = next(user["UserId"] for user in users if user["UserName"] == email)
        sets = sso.list_permission_sets(InstanceArn=self.instance)["PermissionSets"]
        self.arn = next(
            arn
            for arn in sets
            if sso.describe_permission_set(InstanceArn=self.instance, PermissionSetArn=arn)["PermissionSet"]["Name"]
            == permission_set
        )

    def is_assigned(self) -> bool:
        found = self.demo.aws("sso-admin").list_account_assignments(
            InstanceArn=self.instance, AccountId=self.account, PermissionSetArn=self.arn
        )["AccountAssignments"]
        return any(one["PrincipalId"] == self.user for one in found)

    def guard(self) -> dict[str, Any]:
        iam = self.demo.aws("iam", self.account)
        arn = f"arn:aws:iam::{self.account}:policy/jit/jit-guard"
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]

    def is_denied_at(self, at: datetime, permission_set: str) -> bool:
        """By the guard as it stands in AWS, even for somebody whom everything is allowed."""
        path = f"arn:aws:iam::{self.account}:role/aws-reserved/sso.amazonaws.com/eu-west-1"
        role = f"{path}/AWSReservedSSO_{permission_set}_0a"
        everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        decision = evaluate(
            [self.guard(), everything],
            action="s3:GetObject",
            resource="arn:aws:s3:::anything",
            context={"identitystore:UserId": self.user, "aws:PrincipalArn": role},
            now=at,
        )
        return decision.outcome is Outcome.DENY


def offer_briefly(demo: Demo, entitlement: str, account: str) -> int:
    """Put a permission set on offer for SECONDS only, so that a test need not wait half an hour."""
    code = f"""
from datetime import timedelta
from apps.access.models import Offer
from apps.access.services import offers
from apps.inventory.models import Entitlement
from apps.users.models import User
erin = User.objects.get(email__startswith='erin')
row = Entitlement.objects.select_related('connection').get(name='{entitlement}', resource__external_id='{account}')
for old in Offer.objects.filter(entitlement=row, withdrawn_at=None):
    offers.withdraw_offer(old, by=erin)
print(offers.offer(row, provisioner='idc_assignment', max_for=timedelta(seconds={SECONDS}), by=erin).pk)
"""
    return int(demo.manage("shell", "-v", "0", "-c", code).splitlines()[-1])


def ask(alice: Browser, offer: int) -> str:
    """Ask through the form, and return the address of the page it leads to."""
    page = alice.get(f"/request/{offer}/")
    principal = re.search(r'name="principal" value="(\d+)"', page)
    assert principal
    answer = alice.post(
        f"/request/{offer}/",
        duration=SECONDS,
        principal=principal[1],
        reason="Card payments are slow, looking into the queue.",
        ticket_ref="INC-2291",
    )
    assert answer.status_code == 200, answer.text[:2000]
    return answer.url.removeprefix(alice.demo.url)


@pytest.fixture(scope="module")
def production(demo: Demo) -> str:
    return account_named(demo, "production")


def test_ask_approve_use_and_lose_it_on_time(demo: Demo, production: str) -> None:
    alice, bob = demo.sign_in("alice"), demo.sign_in("bob")
    held = Held(demo, "alice.moreau@harbourline.example", "Deployer", production)
    assert not held.is_assigned()

    request = ask(alice, offer_briefly(demo, "Deployer", production))
    assert "Waiting for approval" in alice.get(request)
    assert not held.is_assigned()

    bob.step_up()
    bob.post(f"{request}decide/", page=request, choice="approve")
    grant = wait_for(lambda: re.search(r'href="(/grants/\d+/)"', alice.get(request)), "the grant")[1]

    wait_for(lambda: "Active" in alice.get(grant) and "End written before the start" in alice.get(grant), "the access")
    assert held.is_assigned()
    began = datetime.now(UTC)
    assert not held.is_denied_at(began - timedelta(seconds=SECONDS), "Deployer")
    assert held.is_denied_at(began + timedelta(seconds=SECONDS + 1), "Deployer")

    wait_for(lambda: "Removed and checked" in alice.get(grant), "the end", SECONDS + 60)
    assert not held.is_assigned()
    assert held.is_denied_at(datetime.now(UTC), "Deployer")
    assert "Its time was up" in alice.get(grant)


def test_i_am_done_takes_it_away_at_once(demo: Demo, production: str) -> None:
    alice = demo.sign_in("alice")
    staging = account_named(demo, "staging")
    held = Held(demo, "alice.moreau@harbourline.example", "SupportView", staging)
    offers = demo.manage(
        "shell",
        "-v",
        "0",
        "-c",
        "from apps.access.models import Offer;"
        "print(Offer.objects.open().filter(entitlement__name='SupportView',"
        f" entitlement__resource__external_id='{staging}').values_list('pk', flat=True).first())",
    )
    page = alice.get(f"/request/{offers}/")
    principal = re.search(r'name="principal" value="(\d+)"', page)[1]  # type: ignore[index]
    grant = alice.post(
        f"/request/{offers}/", duration=1800, principal=principal, reason="Helping a customer in staging."
    ).url.removeprefix(demo.url)
    assert grant.startswith("/grants/"), grant
    wait_for(lambda: "I’m done" in alice.get(grant) and held.is_assigned(), "the access")
    alice.post(f"{grant}end/", page=grant)
    wait_for(lambda: "Removed and checked" in alice.get(grant), "the end")
    assert not held.is_assigned()


def test_an_iam_user_gets_some_actions_for_a_time_in_one_dated_policy(demo: Demo) -> None:
    data = account_named(demo, "data")
    iam = demo.aws("iam", data)
    carol, alice = demo.sign_in("carol"), demo.sign_in("alice")
    waiting = re.search(
        r'<a class="gh-strong" href="(/requests/\d+/)">Query the data lake</a>', carol.get("/approvals/")
    )
    assert waiting, "Carol has no request to decide"

    carol.step_up()
    carol.post(f"{waiting[1]}decide/", page=waiting[1], choice="approve")
    grant = wait_for(lambda: re.search(r'href="(/grants/\d+/)"', alice.get(waiting[1])), "the grant")[1]
    wait_for(lambda: "I’m done" in alice.get(grant) and ">Active<" in alice.get(grant), "the access")

    document = iam.get_user_policy(UserName="alice.moreau", PolicyName="gatehouse-jit")["PolicyDocument"]
    call = {"action": "athena:StartQueryExecution", "context": {}}
    resource = f"arn:aws:athena:eu-west-1:{data}:workgroup/analysts"
    now = datetime.now(UTC)
    assert evaluate([document], resource=resource, now=now, **call).outcome is Outcome.ALLOW
    assert evaluate([document], resource=resource, now=now + timedelta(hours=2), **call).outcome is not Outcome.ALLOW

    alice.post(f"{grant}end/", page=grant)
    wait_for(lambda: "Removed and checked" in alice.get(grant), "the end")
    assert "gatehouse-jit" not in iam.list_user_policies(UserName="alice.moreau")["PolicyNames"]
