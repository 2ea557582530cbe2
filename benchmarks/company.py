"""A company to read: records like a provider's, made up as they are asked for, the same every time.

At the design size: 1,000 accounts, 40,000 people and 60,000 machines, 5,000 groups, 200 permission sets, and 1,000,000
assignments, of which 40 % are memberships, 40 % are permission sets held in accounts and 20 % are policies inside
accounts. Sizes are skewed as in real companies: the n-th largest account or group is about n^0.8 times smaller than the
largest. Other sizes shrink it all in proportion, but for the permission sets.

`generation` 1 is the same company later: one in a hundred of everything that is held is held by or of somebody else, one
in a hundred people has another title, and one in a hundred policies says something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import gcd
from typing import Any, NamedTuple

from apps.connectors.base import (
    AccountRecord,
    AssignmentRecord,
    ControlTotal,
    CredentialRecord,
    DocumentRecord,
    EntitlementRecord,
    PrincipalRecord,
    Progress,
    Scan,
    unwatched,
)

DESIGN_SIZE = 1_000_000
PERMISSION_SETS = 200
SKEW = 0.8
PART = 5_000  # records that the directory hands over together, as AWS's connector does
STORE, INSTANCE = "d-9067f0e1a2", "arn:aws:sso:::instance/ssoins-7223a1b2c3d4e5f6"
BORN = datetime(2024, 2, 5, 9, 30, tzinfo=UTC)
UNITS = ("Workloads/Production", "Workloads/Staging", "Workloads/Development", "Sandbox", "Security")
JOBS = ("Engineer", "Analyst", "Manager", "Designer", "Support agent", "Accountant")
SERVICES = ("s3", "ec2", "sqs", "sns", "dynamodb", "lambda", "logs", "kms", "rds", "ecs")
VERBS = ("Get*", "List*", "Describe*", "Put*", "Create*", "Delete*", "Update*")
AWS_OWNED = tuple(f"arn:aws:iam::aws:policy/{service}-{kind}" for service in SERVICES for kind in ("Read", "Full"))


class Sizes(NamedTuple):
    """How much of everything there is for so many assignments."""

    accounts: int
    people: int
    machines: int
    groups: int
    memberships: int
    in_accounts: int  # permission sets held in accounts
    policies: int  # policies held inside accounts


def sizes(assignments: int) -> Sizes:
    share = assignments / DESIGN_SIZE
    memberships = in_accounts = assignments * 2 // 5
    return Sizes(
        accounts=max(5, round(1_000 * share)),
        people=max(200, round(40_000 * share)),
        machines=max(100, round(60_000 * share)),
        groups=max(20, round(5_000 * share)),
        memberships=memberships,
        in_accounts=in_accounts,
        policies=assignments - memberships - in_accounts,
    )


def skewed(total: int, among: int) -> list[int]:
    """`total` in `among` parts, the n-th about n^SKEW times smaller than the first, that add up exactly."""
    weights = [(n + 1) ** -SKEW for n in range(among)]
    whole, done, parts, so_far = sum(weights), 0, [], 0.0
    for weight in weights:
        so_far += weight
        upto = round(total * so_far / whole)
        parts.append(upto - done)
        done = upto
    return parts


def mixed(number: int) -> int:
    """A number that looks like chance and is the same every time (Knuth's multiplicative hash, twice)."""
    return ((number * 2_654_435_761) & 0xFFFF_FFFF ^ (number >> 7)) * 2_246_822_519 & 0xFFFF_FFFF


def drawn(seed: int, count: int, among: int, generation: int) -> Iterator[int]:
    """`count` different numbers below `among`; in generation 1, one in a hundred of them is another one."""
    start, step = mixed(seed) % among, mixed(seed + 1) % among | 1
    while gcd(step, among) != 1:
        step += 2
    for n in range(min(count, among)):
        is_moved = generation and mixed(seed * 31 + n) % 100 == 0 and count + n < among
        yield (start + (count + n if is_moved else n) * step) % among


def is_changed(number: int, generation: int) -> bool:
    return bool(generation) and mixed(number + 77) % 100 == 0


def policy(number: int, generation: int = 0) -> dict[str, Any]:
    """A believable policy document, no two alike."""
    service, other = SERVICES[mixed(number) % 10], SERVICES[mixed(number + 3) % 10]
    verbs = [VERBS[mixed(number + n) % 7] for n in range(2)]
    team = f"team-{number}" if not is_changed(number, generation) else f"team-{number}-renamed"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Own",
                "Effect": "Allow",
                "Action": [f"{service}:{verb}" for verb in verbs],
                "Resource": [f"arn:aws:{service}:eu-west-1:*:thing/{team}", f"arn:aws:{service}:::{team}/*"],
            },
            {"Effect": "Allow", "Action": f"{other}:Describe*", "Resource": "*"},
        ],
    }


def trust(number: int, account_id: str) -> dict[str, Any]:
    """Who may assume a role: mostly services, some workflows, some other accounts."""
    kind = mixed(number) % 10
    named: dict[str, Any] = {"Service": f"{SERVICES[kind]}.amazonaws.com"}
    if kind == 8:
        named = {"AWS": f"arn:aws:iam::{account_id}:root"}
    if kind == 9:
        named = {"Federated": f"arn:aws:iam::{account_id}:oidc-provider/token.actions.githubusercontent.com"}
    statement: dict[str, Any] = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": named}
    if kind == 9:
        subject = f"repo:example/service-{number}:ref:refs/heads/main"
        statement["Condition"] = {"StringEquals": {"token.actions.githubusercontent.com:sub": subject}}
    return {"Version": "2012-10-17", "Statement": [statement]}


class CompanyConnector:
    """Reads it, as `AwsConnector` reads an organization. `config`: {"assignments": so many, "generation": 0 or 1}."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.sizes = sizes(int(config["assignments"]))
        self.generation = int(config.get("generation", 0))
        self.in_accounts = skewed(self.sizes.in_accounts, self.sizes.accounts)
        self.machines = skewed(self.sizes.machines, self.sizes.accounts)
        self.policies = skewed(self.sizes.policies, self.sizes.accounts)

    def check(self) -> str:
        return "Reading a company that is made up."

    def accounts(self, progress: Progress = unwatched) -> list[AccountRecord]:
        progress(0, 1, "all of them")
        return [
            AccountRecord(
                external_id=_account_id(n),
                name=f"account-{n}",
                email=f"aws+{n}@example.com",
                path=f"{UNITS[n % 5]}/Unit {n % 40}",
                tags={"owner": f"person{mixed(n) % self.sizes.people}@example.com", "cost-center": str(n % 90)},
                is_management=n == 0,
            )
            for n in range(self.sizes.accounts)
        ]

    # ---- the directory

    def scan_directory(self, accounts: Sequence[AccountRecord], progress: Progress) -> Iterator[Scan]:
        for first in range(0, self.sizes.people, PART):
            upto = min(first + PART, self.sizes.people)
            yield Scan(principals=[self._person(n) for n in range(first, upto)])
        yield from self._groups()
        part = Scan()
        sets = [_permission_set(n, self.generation) for n in range(PERMISSION_SETS)]
        for n, account in enumerate(accounts):
            progress(n, len(accounts), f"assignments in {account.name}")
            self._held_in(n, account, sets, part)
            if len(part.assignments) + len(part.entitlements) >= PART:
                yield part
                part = Scan()
        yield part

    def _person(self, n: int) -> PrincipalRecord:
        return PrincipalRecord(
            kind="idc_user",
            external_id=_person_id(n),
            name=f"person{n}",
            display_name=f"Person Number {n}",
            email=f"person{n}@example.com",
            title=f"Senior {JOBS[n % 6]}" if is_changed(n, self.generation) else JOBS[n % 6],
            department=f"Department {n % 60}",
            manager_external_id=_person_id(n // 8),
            is_externally_owned=True,
            created_at=BORN + timedelta(minutes=n),
            attributes={
                "identity_store_id": STORE,
                "status": "enabled",
                "user_type": "Employee",
                "external_ids": [f"00u{n:017x}"],
            },
        )

    def _groups(self) -> Iterator[Scan]:
        part = Scan()
        for n, members in enumerate(skewed(self.sizes.memberships, self.sizes.groups)):
            group_id = _group_id(n)
            facts = {"identity_store_id": STORE, "group_id": group_id}
            part.principals.append(
                PrincipalRecord("idc_group", group_id, f"team-{n}", is_externally_owned=True, attributes=facts)
            )
            part.entitlements.append(
                EntitlementRecord(
                    kind="idc_group",
                    external_id=f"membership:{group_id}",
                    name=f"team-{n}",
                    makes_external_id=group_id,
                    attributes={**facts, "is_externally_owned": True},
                )
            )
            part.assignments.extend(
                AssignmentRecord(
                    _person_id(person),
                    f"membership:{group_id}",
                    {"membership_id": f"94482488-{n:04x}-7074-8c5b-{person:012x}", "created_by": "SCIM/1234567890"},
                )
                for person in drawn(1_000_003 + n, members, self.sizes.people, self.generation)
            )
            if len(part.assignments) >= PART:
                yield part
                part = Scan()
        yield part

    def _held_in(self, n: int, account: AccountRecord, sets: Sequence[_PermissionSet], scan: Scan) -> None:
        holders, provisioned = self.sizes.people + self.sizes.groups, 20
        scan.entitlements.extend(_in_account(one, account) for one in sets)
        per_set = skewed(self.in_accounts[n], provisioned)
        for place, chosen in enumerate(drawn(n, provisioned, len(sets), 0)):
            external_id = f"{sets[chosen].arn}@{account.external_id}"
            for holder in drawn(n * 1_009 + place, per_set[place], holders, self.generation):
                is_person = holder < self.sizes.people
                who = _person_id(holder) if is_person else _group_id(holder - self.sizes.people)
                scan.assignments.append(
                    AssignmentRecord(who, external_id, {"principal_type": "USER" if is_person else "GROUP"})
                )

    # ---- one account

    def scan_account(self, account: AccountRecord, progress: Progress) -> Scan:
        n = int(account.external_id) - 100_000_000_000
        progress(0, 1, "everything")
        scan = Scan()
        arns = [self._machine(scan, account, n * 100_003 + number) for number in range(self.machines[n])]
        for number in range(0, len(arns), 2):
            self._inline(scan, account, arns[number], n * 100_003 + number)
        attached = self.policies[n] - len(scan.assignments)
        self._attach(scan, account, arns, attached, n)
        scan.totals.append(ControlTotal("Users and roles", len(arns), len(arns)))
        return scan

    def _machine(self, scan: Scan, account: AccountRecord, number: int) -> str:
        is_user = mixed(number) % 100 < 15
        kind, word = ("iam_user", "user") if is_user else ("iam_role", "role")
        arn = f"arn:aws:iam::{account.external_id}:{word}/service-{number}"
        facts: dict[str, Any] = {
            "arn": arn,
            "unique_id": f"{'AIDA' if is_user else 'AROA'}{number:017d}",
            "path": "/",
            "tags": {"team": f"team-{number % 500}", "owner": f"person{mixed(number) % self.sizes.people}@example.com"},
            "boundary": "",
        }
        if is_user:
            born = BORN + timedelta(hours=number % 9_000)
            scan.credentials.append(CredentialRecord(arn, "access_key", f"AKIA{number:016d}", True, born, born))
            if number % 3 == 0:
                scan.credentials.append(CredentialRecord(arn, "password", "password", True, born))
        else:
            facts |= {
                "trust": trust(number, account.external_id),
                "max_session": 3600,
                "is_reserved": False,
                "is_service_linked": False,
                "is_portal": False,
            }
        used = BORN + timedelta(days=number % 700)
        scan.principals.append(
            PrincipalRecord(
                kind=kind,
                external_id=arn,
                name=f"service-{number}",
                account_id=account.external_id,
                created_at=BORN,
                last_used_at=used,
                attributes=facts,
            )
        )
        return arn

    def _inline(self, scan: Scan, account: AccountRecord, arn: str, number: int) -> None:
        external_id = f"{arn}#inline/deploy"
        document = DocumentRecord("deploy", policy(number, self.generation))
        scan.entitlements.append(
            EntitlementRecord(
                kind="iam_inline_policy",
                external_id=external_id,
                name="deploy",
                account_id=account.external_id,
                documents=(document,),
                attributes={"policy_name": "deploy", "holder_arn": arn},
            )
        )
        scan.assignments.append(AssignmentRecord(arn, external_id, {}))

    def _attach(self, scan: Scan, account: AccountRecord, arns: Sequence[str], count: int, n: int) -> None:
        """AWS's policies and the account's own, each attached to some of its machines."""
        own = max(5, len(arns) // 2, -(-count // max(1, len(arns))))
        policies = [*AWS_OWNED, *(f"arn:aws:iam::{account.external_id}:policy/own-{place}" for place in range(own))]
        for place, arn in enumerate(policies):
            is_aws = place < len(AWS_OWNED)
            document = policy(place) if is_aws else policy(n * 50_021 + place, self.generation)
            scan.entitlements.append(
                EntitlementRecord(
                    kind="iam_policy",
                    external_id=f"{arn}@{account.external_id}",
                    name=arn.rpartition("/")[2],
                    account_id=account.external_id,
                    documents=(DocumentRecord(arn.rpartition("/")[2], document),),
                    attributes={"policy_arn": arn, "is_aws_owned": is_aws},
                )
            )
        pairs = len(arns) * len(policies)
        for pair in drawn(n + 5, count, pairs, self.generation) if pairs else ():
            external_id = f"{policies[pair % len(policies)]}@{account.external_id}"
            scan.assignments.append(AssignmentRecord(arns[pair // len(policies)], external_id, {}))


class _PermissionSet(NamedTuple):
    arn: str
    name: str
    documents: tuple[DocumentRecord, ...]


def _permission_set(n: int, generation: int) -> _PermissionSet:
    name = f"PermissionSet{n}"
    documents = (DocumentRecord("inline policy", policy(900_000_000 + n, generation)), DocumentRecord("own", policy(n)))
    return _PermissionSet(f"{INSTANCE.replace('instance', 'permissionSet')}/ps-{n:016x}", name, documents)


def _in_account(one: _PermissionSet, account: AccountRecord) -> EntitlementRecord:
    return EntitlementRecord(
        kind="permission_set",
        external_id=f"{one.arn}@{account.external_id}",
        name=one.name,
        account_id=account.external_id,
        description=f"What {one.name} is for.",
        documents=one.documents,
        session_for=timedelta(hours=8),
        attributes={
            "instance_arn": INSTANCE,
            "identity_store_id": STORE,
            "permission_set_arn": one.arn,
            "permission_set_name": one.name,
            "has_guard": True,
            "missing_policies": [],
        },
    )


def _account_id(n: int) -> str:
    return f"{100_000_000_000 + n}"


def _person_id(n: int) -> str:
    return f"94482488-3041-7074-8c5b-{n:012x}"


def _group_id(n: int) -> str:
    return f"94482488-50a1-7074-9d6c-{n:012x}"
