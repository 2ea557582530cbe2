"""The company's audit trail: a bucket of the security account with CloudTrail's files, as an organization's trail delivers
them. What machines did in the last days, and what somebody did with access that was given this morning. Made up."""

from __future__ import annotations

import gzip
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import boto3
from django.utils import timezone

from apps.demo.company.portal import TRAIL_BUCKET
from apps.demo.seed_aws import CONFIG, KEYS
from apps.grants.models import Grant
from apps.inventory import services as inventory
from apps.inventory.models import Connection, Credential, Principal, Resource
from apps.users.models import User

HOME = "harbourline-security"  # the account that the bucket is in
DAYS = 10  # that the trail goes back
ENVIRON = {"TRAIL_BACKFILL_DAYS": str(DAYS), "TRAIL_EVERY_MINUTES": "1", "USAGE_PROPOSAL_DAYS": "7"}

Record = dict[str, Any]


@dataclass(frozen=True)
class Calls:
    """One call of an API, so often a day. Data events are only in trails that were told to keep them."""

    service: str
    name: str
    times: int = 1
    error: str = ""
    is_data: bool = False

    @property
    def is_read_only(self) -> bool:
        return self.name.startswith(("Get", "List", "Describe", "Filter", "Head", "Query"))


# account, role or IAM user, where its calls come from, what it does every day
HABITS: tuple[tuple[str, str, str, tuple[Calls, ...]], ...] = (
    (
        "harbourline-production",
        "github-payments-release",
        "140.82.112.33",
        (
            Calls("ecs", "DescribeServices", 4),
            Calls("ecs", "UpdateService", 2),
            Calls("codedeploy", "CreateDeployment"),
            Calls("codedeploy", "GetDeployment", 3),
            Calls("ecr", "GetAuthorizationToken", 1, "AccessDenied"),
        ),
    ),
    (
        "harbourline-production",
        "payments-api-production",
        "10.20.4.17",
        (
            Calls("secretsmanager", "GetSecretValue", 3),
            Calls("logs", "CreateLogStream", 2),
            Calls("dynamodb", "GetItem", 6, is_data=True),
            Calls("dynamodb", "UpdateItem", 3, is_data=True),
        ),
    ),
    (
        "harbourline-production",
        "ops-automation",
        "lambda.amazonaws.com",
        (Calls("ec2", "DescribeInstances", 4), Calls("ec2", "StopInstances"), Calls("ec2", "StartInstances")),
    ),
    (
        "harbourline-production",
        "backup-agent",
        "198.51.100.24",
        (Calls("s3", "PutObject", 6, is_data=True), Calls("s3", "ListBucket", 1, "AccessDenied")),
    ),
)
SESSION = (
    Calls("dynamodb", "DescribeTable"),
    Calls("dynamodb", "Query", 3, is_data=True),
    Calls("logs", "DescribeLogGroups"),
    Calls("logs", "FilterLogEvents", 2),
    Calls("dynamodb", "UpdateItem", 1, "AccessDenied", is_data=True),
)


def deliver(connection: Connection, *, by: User) -> int:
    """Make the bucket, fill it with what machines did, and name it in the connection. Returns with how many calls."""
    bucket = _Bucket(connection)
    bucket.make()
    count = bucket.put(_of_machines(connection))
    options = {**connection.options, "trail_bucket": TRAIL_BUCKET, "trail_account": bucket.account.external_id}
    inventory.change_connection(
        connection, region=connection.region, options=options, drop_percent=connection.drop_percent, by=by
    )
    return count


def use(grant: Grant) -> int:
    """Somebody signs in through Identity Center with what they were given, and works. Returns with how many calls."""
    if grant.claimed_at is None or grant.entitlement.resource is None:
        return 0
    account, person, began = grant.entitlement.resource, grant.principal.name, grant.claimed_at
    role = f"AWSReservedSSO_{grant.entitlement.name}_0c4f1b7a92d3e586"
    arn = f"arn:aws:iam::{account.external_id}:role/aws-reserved/sso.amazonaws.com/{grant.connection.region}/{role}"
    who = _session(account.external_id, arn, "AROADEMOSIGNEDINALICE", person, began)
    calls = [one for one in SESSION for _ in range(one.times)]
    step = max(timezone.now() - began, timedelta(seconds=1)) / (len(calls) + 1)
    records = [_record(account, who, one, began + step * n, "10.20.0.31") for n, one in enumerate(calls, start=1)]
    return _Bucket(grant.connection).put(records)


class _Bucket:
    """The bucket, through the role that AWS makes in a member account for its organization."""

    def __init__(self, connection: Connection) -> None:
        self.account = Resource.objects.get(connection=connection, name=HOME)
        self.region = connection.region
        given = self._client("sts", KEYS).assume_role(
            RoleArn=f"arn:aws:iam::{self.account.external_id}:role/OrganizationAccountAccessRole",
            RoleSessionName="demo-trail",
        )["Credentials"]
        self.s3 = self._client(
            "s3",
            {
                "aws_access_key_id": given["AccessKeyId"],
                "aws_secret_access_key": given["SecretAccessKey"],
                "aws_session_token": given["SessionToken"],
            },
        )

    def make(self) -> None:
        self.s3.create_bucket(Bucket=TRAIL_BUCKET, CreateBucketConfiguration={"LocationConstraint": self.region})

    def put(self, records: Iterable[Record]) -> int:
        """One file for each account and day. Returns how many records there were."""
        organization = self._client("organizations", KEYS).describe_organization()["Organization"]["Id"]
        files: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            files[record["recipientAccountId"], record["eventTime"][:10]].append(record)
        for (account, day), content in files.items():
            folder = f"AWSLogs/{organization}/{account}/CloudTrail/{self.region}/{day.replace('-', '/')}"
            name = f"{account}_CloudTrail_{self.region}_{day.replace('-', '')}T2359Z_{uuid.uuid4().hex[:16]}.json.gz"
            body = gzip.compress(json.dumps({"Records": content}).encode())
            self.s3.put_object(Bucket=TRAIL_BUCKET, Key=f"{folder}/{name}", Body=body)
        return sum(map(len, files.values()))

    def _client(self, service: str, keys: dict[str, str]) -> Any:
        return boto3.client(service, region_name=self.region, config=CONFIG, **keys)  # type: ignore[call-overload]


def _of_machines(connection: Connection) -> Iterator[Record]:
    accounts = {account.name: account for account in Resource.objects.filter(connection=connection)}
    now = timezone.now().astimezone(UTC)
    for account_name, name, address, habit in HABITS:
        account = accounts[account_name]
        machine = Principal.objects.filter(
            resource=account, name=name, kind__in=(Principal.Kind.IAM_ROLE, Principal.Kind.IAM_USER)
        ).first()
        if machine is None:  # a small demo has few roles
            continue
        for day in (now.date() - timedelta(days=n) for n in range(DAYS)):
            for call, at in _spread(habit, day):
                if at < now:
                    yield _record(account, _identity(machine, account, at), call, at, address)


def _spread(habit: tuple[Calls, ...], day: date) -> Iterator[tuple[Calls, datetime]]:
    """Over the day, from three in the morning on."""
    calls = [one for one in habit for _ in range(one.times)]
    first = datetime.combine(day, time(3), UTC)
    yield from ((one, first + timedelta(minutes=67 * n)) for n, one in enumerate(calls))


def _identity(machine: Principal, account: Resource, at: datetime) -> Record:
    unique_id = machine.attributes.get("unique_id", "")
    if machine.kind == Principal.Kind.IAM_ROLE:
        return _session(account.external_id, machine.external_id, unique_id, f"{machine.name}-{at:%m%d}", at)
    key = machine.credentials.filter(kind=Credential.Kind.ACCESS_KEY, is_active=True, ended_at=None).first()
    return {
        "type": "IAMUser",
        "principalId": unique_id,
        "arn": machine.external_id,
        "accountId": account.external_id,
        "userName": machine.name,
        **({"accessKeyId": key.external_id} if key else {}),
    }


def _session(account_id: str, role: str, role_id: str, name: str, began: datetime) -> Record:
    short = role.rpartition("/")[2]
    issuer = {"type": "Role", "principalId": role_id, "arn": role, "accountId": account_id, "userName": short}
    return {
        "type": "AssumedRole",
        "principalId": f"{role_id}:{name}",
        "arn": f"arn:aws:sts::{account_id}:assumed-role/{short}/{name}",
        "accountId": account_id,
        "sessionContext": {
            "sessionIssuer": issuer,
            "attributes": {"creationDate": _text(began), "mfaAuthenticated": "false"},
        },
    }


def _record(account: Resource, who: Record, call: Calls, at: datetime, address: str) -> Record:
    return {
        "eventVersion": "1.11",
        "userIdentity": who,
        "eventTime": _text(at),
        "eventSource": f"{call.service}.amazonaws.com",
        "eventName": call.name,
        "awsRegion": "eu-west-1",
        "sourceIPAddress": address,
        "userAgent": "aws-sdk",
        "requestParameters": None,
        "responseElements": None,
        **({"errorCode": call.error, "errorMessage": "Not allowed."} if call.error else {}),
        "eventID": str(uuid.uuid4()),
        "readOnly": call.is_read_only,
        "eventType": "AwsApiCall",
        "managementEvent": not call.is_data,
        "recipientAccountId": account.external_id,
        "eventCategory": "Data" if call.is_data else "Management",
    }


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
