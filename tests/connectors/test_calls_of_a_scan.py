"""How many calls a reading makes, against the formulas of what AWS needs (people / 100 and so on), without any AWS: the
pages are counted, and made up as they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from types import SimpleNamespace
from typing import Any

import pytest

from apps.connectors.aws import iam, identity_center, managed_policies
from apps.connectors.aws.managed_policies import ManagedPolicies
from apps.connectors.aws.session import Api, Hub
from apps.connectors.base import AccountRecord, Scan
from apps.connectors.errors import Unproven
from tests.connectors.conftest import HUB, QUIET, READ, whole

INSTANCE = "arn:aws:sso:::instance/ssoins-1"
OWNED = "arn:aws:iam::aws:policy/ReadOnlyAccess"
ACCOUNT = "111122223333"


@dataclass
class Company:
    """So many of everything; `page` maps an operation to how many AWS gives at a time."""

    people: int = 0
    members: Sequence[int] = ()  # of each group
    sets: int = 0
    accounts: int = 0
    provisioned: int = 0  # permission sets in each account
    holders: int = 1  # of each provisioned one
    users: int = 0
    roles: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.calls[operation] += 1
        return getattr(self, operation)(asked)

    # ---- the directory

    def list_instances(self, _: Any) -> dict[str, Any]:
        return {"Instances": [{"InstanceArn": INSTANCE, "IdentityStoreId": "d-1"}]}

    def list_users(self, asked: Any) -> dict[str, Any]:
        return paged(asked, "Users", [{"UserId": f"u{n}", "UserName": f"u{n}"} for n in range(self.people)], 100)

    def list_groups(self, asked: Any) -> dict[str, Any]:
        return paged(asked, "Groups", [{"GroupId": f"g{n}"} for n in range(len(self.members))], 100)

    def list_group_memberships(self, asked: Any) -> dict[str, Any]:
        group = asked["GroupId"]
        found = [
            {"GroupId": group, "MembershipId": f"{group}-{n}", "MemberId": {"UserId": f"u{n}"}}
            for n in range(self.members[int(group[1:])])
        ]
        return paged(asked, "GroupMemberships", found, 100)

    def list_permission_sets(self, asked: Any) -> dict[str, Any]:
        return paged(asked, "PermissionSets", [f"ps-{n:04}" for n in range(self.sets)], 100)

    def describe_permission_set(self, asked: Any) -> dict[str, Any]:
        return {"PermissionSet": {"Name": asked["PermissionSetArn"]}}

    def get_inline_policy_for_permission_set(self, _: Any) -> dict[str, Any]:
        return {}

    def list_managed_policies_in_permission_set(self, _: Any) -> dict[str, Any]:
        return {"AttachedManagedPolicies": [{"Arn": OWNED}]}

    def list_customer_managed_policy_references_in_permission_set(self, _: Any) -> dict[str, Any]:
        return {"CustomerManagedPolicyReferences": []}

    def get_permissions_boundary_for_permission_set(self, _: Any) -> dict[str, Any]:
        return {}

    def list_permission_sets_provisioned_to_account(self, asked: Any) -> dict[str, Any]:
        return paged(asked, "PermissionSets", [f"ps-{n:04}" for n in range(self.provisioned)], 100)

    def list_account_assignments(self, asked: Any) -> dict[str, Any]:
        found = [{"PrincipalId": f"u{n}", "PrincipalType": "USER"} for n in range(self.holders)]
        return paged(asked, "AccountAssignments", found, 100)

    # ---- an account

    def get_policy(self, _: Any) -> dict[str, Any]:
        return {"Policy": {"DefaultVersionId": "v1"}}

    def get_policy_version(self, _: Any) -> dict[str, Any]:
        return {"PolicyVersion": {"Document": READ}}

    def get_account_authorization_details(self, asked: Any) -> dict[str, Any]:
        users = [_holder("User", n) for n in range(self.users)]
        roles = [_holder("Role", n) for n in range(self.roles)]
        page = paged(asked, "All", [*users, *roles], asked["MaxItems"], "Marker")
        found = page.pop("All")
        split = {
            "UserDetailList": [one for one in found if "UserName" in one],
            "RoleDetailList": [one for one in found if "RoleName" in one],
        }
        return {**page, **split}

    def list_roles(self, asked: Any) -> dict[str, Any]:
        return paged(
            asked, "Roles", [_holder("Role", n) for n in range(self.roles)], asked.get("MaxItems", 100), "Marker"
        )

    def generate_credential_report(self, _: Any) -> dict[str, Any]:
        return {"State": "COMPLETE"}

    def get_credential_report(self, _: Any) -> dict[str, Any]:
        lines = ["user,arn,access_key_1_active,access_key_2_active"]
        lines += [
            f"User{n},{_holder('User', n)['Arn']},{'true' if n == 0 else 'false'},false" for n in range(self.users)
        ]
        return {"Content": "\n".join(lines).encode()}

    def list_access_keys(self, _: Any) -> dict[str, Any]:
        return {"AccessKeyMetadata": []}

    def get_account_summary(self, _: Any) -> dict[str, Any]:
        return {"SummaryMap": {"Users": self.users, "Roles": self.roles, "Groups": 0, "Policies": 0}}


def _holder(kind: str, n: int) -> dict[str, Any]:
    return {
        f"{kind}Name": f"{kind}{n}",
        f"{kind}Id": f"A{kind}{n}",
        "Arn": f"arn:aws:iam::{ACCOUNT}:{kind.lower()}/{n}",
        "Path": "/",
        "AttachedManagedPolicies": [{"PolicyArn": OWNED, "PolicyName": "ReadOnlyAccess"}],
    }


def paged(asked: dict[str, Any], key: str, found: list[Any], size: int, mark: str = "NextToken") -> dict[str, Any]:
    start = int(asked.get(mark) or 0)
    is_more = start + size < len(found)
    more: dict[str, Any] = {mark: str(start + size)} if is_more else {}
    return {key: found[start : start + size], "IsTruncated": is_more, **more}


class MadeUp(Api):
    """Calls that a company answers."""

    def __init__(self, company: Company) -> None:
        session: Any = SimpleNamespace(hub=lambda: Hub(HUB, f"arn:aws:iam::{HUB}:user/x"), config={"region": "r"})
        super().__init__(session, "reader_role")
        self.company = company

    def call(self, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        self.spent.calls += 1
        return self.company.answer(operation, params)


@pytest.fixture(autouse=True)
def _nothing_is_known() -> Iterator[None]:
    managed_policies.forget()
    yield
    managed_policies.forget()


def directory(company: Company) -> Scan:
    accounts = [AccountRecord(f"{n:012}", f"account {n}") for n in range(company.accounts)]
    return whole(identity_center.scan_directory(MadeUp(company), "/jit/jit-guard", accounts, QUIET))


def test_a_directory_costs_what_its_pages_cost_and_not_every_pair() -> None:
    company = Company(people=250, members=(0, 100, 101, 350), sets=120, accounts=8, provisioned=7, holders=101)
    scan = directory(company)
    assert company.calls == {
        "list_instances": 1,
        "list_users": ceil(250 / 100),
        "list_groups": 1,
        "list_group_memberships": 1 + 1 + 2 + 4,  # by group, never by person
        "list_permission_sets": ceil(120 / 100),
        "describe_permission_set": 120,
        "get_inline_policy_for_permission_set": 120,
        "list_managed_policies_in_permission_set": 120,
        "list_customer_managed_policy_references_in_permission_set": 120,
        "get_permissions_boundary_for_permission_set": 120,
        "get_policy": 1,  # the same one of AWS's is in every set
        "get_policy_version": 1,
        "list_permission_sets_provisioned_to_account": 8,
        "list_account_assignments": 8 * 7 * ceil(101 / 100),  # not 8 x 120 pairs
    }
    assert scan.calls == company.calls.total()
    assert len(scan.assignments) == 0 + 100 + 101 + 350 + 8 * 7 * 101
    assert scan.is_complete


class Shifting(Company):
    """Somebody is shown again on the second page of one operation, in the place of somebody else."""

    operation = ""

    def answer(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        page = super().answer(operation, asked)
        if operation == self.operation and asked.get("NextToken"):
            key = next(key for key, value in page.items() if isinstance(value, list))
            page[key][0] = super().answer(operation, {**asked, "NextToken": None})[key][0]
        return page


@pytest.mark.parametrize(
    "operation",
    ["list_group_memberships", "list_account_assignments", "list_permission_sets_provisioned_to_account"],
)
def test_pages_that_shift_make_a_directory_incomplete(operation: str) -> None:
    company = Shifting(members=(101,), sets=501, accounts=1, provisioned=101, holders=101)
    company.operation = operation
    scan = directory(company)
    assert not scan.is_complete
    assert "shifted from page to page" in scan.problems[0]


def test_holders_whose_pages_shift_are_not_believed() -> None:
    company = Shifting(holders=101)
    company.operation = "list_account_assignments"
    named = {"instance_arn": INSTANCE, "permission_set_arn": "ps-1"}
    with pytest.raises(Unproven, match="may be missing"):
        identity_center.read_holders(MadeUp(company), "permission_set", f"ps-1@{ACCOUNT}", named)


def test_an_account_costs_what_its_pages_cost() -> None:
    company = Company(users=3, roles=2_500)
    scan = iam.scan_account(MadeUp(company), [], AccountRecord(ACCOUNT, "production"), QUIET)
    assert company.calls == {
        "get_account_authorization_details": ceil(2_503 / 1_000),
        "list_roles": ceil(2_500 / 1_000),
        "generate_credential_report": 2,
        "get_credential_report": 1,
        "get_policy": 1,
        "get_policy_version": 1,
        "get_account_summary": 1,
        "list_access_keys": 1,  # only where the report shows an active key
    }
    assert scan.is_complete


def test_accounts_that_are_read_at_once_share_what_aws_owns() -> None:
    company = Company()
    policies = [ManagedPolicies(MadeUp(company)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: one.document(ACCOUNT, OWNED), policies))
    assert company.calls == {"get_policy": 1, "get_policy_version": 1}
    assert all(record is found[0] for record in found)


def test_a_version_that_is_still_in_force_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    company = Company()
    monkeypatch.setattr(managed_policies, "KEEP_FOR", managed_policies.KEEP_FOR * 0)
    for _ in range(3):
        ManagedPolicies(MadeUp(company)).document(ACCOUNT, OWNED)
    assert company.calls == {"get_policy": 3, "get_policy_version": 1}


def test_a_large_directory_is_handed_over_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.connectors.aws.reading.PART", 100)
    company = Company(people=250, members=(150, 20), sets=501, accounts=1, provisioned=2, holders=50)
    parts = list(identity_center.scan_directory(MadeUp(company), "/jit/guard", [AccountRecord(ACCOUNT, "a")], QUIET))
    held_in = max(len(p.principals) + len(p.entitlements) + len(p.assignments) for p in parts)
    assert len(parts) > 5 and held_in <= 300
    assert [total.name for part in parts for total in part.totals] == [
        "People",
        "Groups",
        "Permission sets",
        "Assignments",
    ]
    assert parts[-1].totals[-1].read == sum(len(part.assignments) for part in parts) == 270
