"""Testing a connection: what is missing is named with its place, its cause and what to do."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from apps.connectors.aws import needs, organizations, rights
from apps.connectors.aws.errors import translated
from apps.connectors.aws.session import Api, Hub, Session
from apps.connectors.base import AccountRecord, Checkup, Finding
from apps.connectors.errors import Denied
from tests.connectors.conftest import CONFIG, HUB, QUIET
from tests.plugins.aws import Aws

ACCOUNT, OTHER = "111122223333", "444455556666"
INSTANCE = {"InstanceArn": "arn:aws:sso:::instance/ssoins-1111111111111111", "IdentityStoreId": "d-1111111111"}
FILE = f"AWSLogs/{ACCOUNT}/CloudTrail/eu-west-1/2031/01/31/{ACCOUNT}_CloudTrail_eu-west-1_1.json.gz"
SETTINGS = {**CONFIG, "feed_role": "portal/PortalFeed"}


def denial(action: str, end: str = "because no identity-based policy allows the action") -> ClientError:
    said = f"User: arn:aws:sts::1:assumed-role/PortalReader/x is not authorized to perform: {action} {end}"
    return ClientError({"Error": {"Code": "AccessDenied", "Message": said}}, action)


class Fake(Session):
    """An AWS that answers everything, but for what a test denies."""

    def __init__(self, **config: Any) -> None:
        super().__init__({**SETTINGS, **config})
        self._hub = Hub(HUB, f"arn:aws:sts::{HUB}:assumed-role/PortalHub/x")
        self.shut: dict[str, ClientError] = {}  # by account
        self.closed: dict[str, ClientError] = {}  # by role
        self.denied: dict[tuple[str, str], ClientError] = {}
        self.answers: dict[str, Any] = {
            "list_instances": {"Instances": [INSTANCE]},
            "list_objects_v2": {"Contents": [{"Key": FILE}]},
            "get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessages": "0"}},
        }
        self.asked: list[tuple[str, str, str]] = []

    def client(self, account_id: str, service: str, role: str) -> Any:
        refused = self.shut.get(account_id) or self.closed.get(role)
        if refused:
            with translated("sts:AssumeRole"):
                raise refused
        return Client(self, account_id, service)


class Client:
    meta = SimpleNamespace(endpoint_url="https://sqs.us-east-1.amazonaws.com")

    def __init__(self, aws: Fake, account_id: str, service: str) -> None:
        self.aws, self.account_id, self.service = aws, account_id, service

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**params: Any) -> dict[str, Any]:
            self.aws.asked.append((self.account_id, self.service, operation))
            error = self.aws.denied.get((self.account_id, operation)) or self.aws.denied.get(("*", operation))
            if error:
                raise error
            return self.aws.answers.get(operation, {})

        return call


def checkup(aws: Session, *ids: str) -> Checkup:
    accounts = [AccountRecord(one, f"account {one[0]}") for one in ids or (HUB, ACCOUNT)]
    with patch.object(organizations, "list_accounts", return_value=accounts):
        return rights.checkup(aws, QUIET)


def wrong(found: Checkup) -> list[Finding]:
    return [finding for finding in found.findings if finding.state != "ok"]


def test_a_connection_that_has_everything_says_so_for_each_right_and_place() -> None:
    found = checkup(Fake())
    assert wrong(found) == []
    tried = [(finding.account_id, finding.action) for finding in found.findings]
    assert len(tried) == len(set(tried))
    assert {(HUB, right.action) for right in (*needs.IN_HUB, *needs.IN_ACCOUNTS)} <= set(tried)
    assert {(ACCOUNT, right.action) for right in needs.IN_ACCOUNTS} <= set(tried)
    assert (found.sampled, found.accounts) == (2, 2)


def test_the_bucket_of_the_audit_trail_is_tried_where_the_connection_names_one() -> None:
    aws = Fake(trail_bucket="company-trail", trail_account=ACCOUNT)
    found = checkup(aws)
    assert wrong(found) == []
    of_trail = {finding.action for finding in found.findings if finding.account_id == ACCOUNT}
    assert {"s3:ListBucket", "s3:GetObject"} <= of_trail
    aws.denied[ACCOUNT, "get_object"] = denial("s3:GetObject")
    [finding] = wrong(checkup(aws))
    assert (finding.account_id, finding.action, finding.state) == (ACCOUNT, "s3:GetObject", "missing")


def test_whether_files_may_be_read_is_told_by_a_file_and_never_by_one_that_is_not_there() -> None:
    """S3 denies what does not exist to whoever may not list the whole bucket, and our role may not."""
    aws = Fake(trail_bucket="company-trail", trail_account=ACCOUNT)
    aws.denied[ACCOUNT, "get_object"] = denial("s3:ListBucket")  # as S3 says it of a file that is not there
    aws.answers["list_objects_v2"] = {}
    [finding] = wrong(checkup(aws))
    assert (finding.action, finding.state) == ("s3:GetObject", "unknown")
    assert "no file under AWSLogs/ yet" in finding.why
    aws.denied[ACCOUNT, "list_objects_v2"] = denial("s3:ListBucket")
    listing, reading = wrong(checkup(aws))
    assert (listing.action, listing.state) == ("s3:ListBucket", "missing")
    assert (reading.action, reading.state) == ("s3:GetObject", "unknown")
    no_bucket = {"Error": {"Code": "NoSuchBucket", "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
    aws.denied[ACCOUNT, "list_objects_v2"] = ClientError(no_bucket, "ListObjectsV2")
    [finding] = wrong(checkup(aws))
    assert (finding.action, finding.state) == ("s3:GetObject", "unknown")
    assert "NoSuchBucket" in finding.why
    assert (ACCOUNT, "s3", "get_object") not in aws.asked


@pytest.mark.parametrize(
    ("code", "message", "wrongs"),
    [
        ("InvalidObjectState", "The operation is not valid for the object's storage class", []),
        ("InvalidRange", "The requested range is not satisfiable", []),
        ("AccessDenied", "x is not authorized to perform: kms:Decrypt on this resource", [("kms:Decrypt", "missing")]),
    ],
)
def test_what_s3_says_of_a_file_is_about_rights_only_where_it_says_so(
    code: str, message: str, wrongs: list[tuple[str, str]]
) -> None:
    aws = Fake(trail_bucket="company-trail", trail_account=ACCOUNT)
    status = {"InvalidRange": 416}.get(code, 403)
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    aws.denied[ACCOUNT, "get_object"] = ClientError(answer, "GetObject")
    assert [(finding.action, finding.state) for finding in wrong(checkup(aws))] == wrongs


def test_what_s3_hands_out_is_let_go_at_once() -> None:
    aws, body = Fake(trail_bucket="company-trail", trail_account=ACCOUNT), Mock()
    aws.answers["get_object"] = {"Body": body}
    assert wrong(checkup(aws)) == []
    body.close.assert_called_once_with()


def test_a_missing_right_is_named_with_the_statement_that_gives_it() -> None:
    aws = Fake()
    aws.denied[ACCOUNT, "get_credential_report"] = denial("iam:GetCredentialReport")
    [finding] = wrong(checkup(aws))
    assert (finding.account_id, finding.action, finding.state) == (ACCOUNT, "iam:GetCredentialReport", "missing")
    assert "portal/PortalReader lacks the right" in finding.why
    assert "member.yaml" in finding.next
    assert finding.statement == {"Effect": "Allow", "Action": "iam:GetCredentialReport", "Resource": "*"}


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (
            "with an explicit deny in a service control policy: arn:aws:organizations::1:policy/o-1/p-1",
            "service control",
        ),
        ("because no service control policy allows the action", "service control"),
        ("with an explicit deny in a resource control policy", "resource control"),
        ("because no permissions boundary allows the action", "boundary"),
        ("with an explicit deny in an identity-based policy", "Take the Deny out"),
    ],
)
def test_what_no_statement_mends_is_said_without_one(end: str, said: str) -> None:
    aws = Fake()
    aws.denied[ACCOUNT, "get_role"] = denial("iam:GetRole", end)
    [finding] = wrong(checkup(aws))
    assert said in f"{finding.why} {finding.next}"
    assert finding.statement is None


def test_something_that_does_not_exist_or_is_refused_says_that_the_right_is_there() -> None:
    aws = Fake()
    for code, operation in (("NoSuchEntity", "get_role"), ("ValidationError", "get_user")):
        aws.denied["*", operation] = ClientError({"Error": {"Code": code, "Message": "no"}}, operation)
    assert wrong(checkup(aws)) == []


def test_a_passing_fault_is_unknown_and_not_missing() -> None:
    aws = Fake()
    aws.denied["*", "list_roles"] = ClientError({"Error": {"Code": "Throttling", "Message": "slow"}}, "ListRoles")
    assert {finding.state for finding in wrong(checkup(aws))} == {"unknown"}


def test_what_an_endpoint_does_not_offer_is_asked_once_and_not_in_every_account() -> None:
    aws = Fake()
    aws.denied["*", "get_role"] = ClientError(
        {"Error": {"Code": "500"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "GetRole"
    )
    found = wrong(checkup(aws, HUB, ACCOUNT, OTHER))
    assert [finding.state for finding in found] == ["unknown"] * 3
    assert [asked[2] for asked in aws.asked].count("get_role") == 1


def test_an_account_that_lets_nobody_in_lacks_the_role_where_others_let_us_in() -> None:
    aws = Fake()
    aws.shut[OTHER] = denial("sts:AssumeRole", "")
    [finding] = wrong(checkup(aws, HUB, ACCOUNT, OTHER))
    assert (finding.account_id, finding.action) == (OTHER, "sts:AssumeRole")
    assert "most likely lacks member.yaml" in finding.next
    assert not [asked for asked in aws.asked if asked[0] == OTHER]


def test_where_no_account_lets_us_in_the_external_id_is_named() -> None:
    aws = Fake()
    aws.shut = {one: denial("sts:AssumeRole", "") for one in (ACCOUNT, OTHER)}
    found = wrong(checkup(aws, HUB, ACCOUNT, OTHER))
    assert [finding.account_id for finding in found] == [ACCOUNT, OTHER]
    assert all("external id" in finding.next for finding in found)


def test_a_worker_that_is_not_the_hub_is_told_apart() -> None:
    aws = Fake()
    aws.shut[HUB] = denial("sts:AssumeRole")
    found = checkup(aws)
    [finding] = found.findings
    assert "run the worker as PortalHub" in finding.next
    assert finding.statement and finding.statement["Resource"].endswith(f"{HUB}:role/portal/PortalReader")


def test_a_worker_without_credentials_cannot_test_at_all() -> None:
    aws = Fake()
    aws.shut[HUB] = ClientError({"Error": {"Code": "InvalidClientTokenId", "Message": "no"}}, "AssumeRole")
    with pytest.raises(Denied, match="credentials"):
        checkup(aws)


def test_a_region_without_identity_center_is_named_and_its_rights_are_not_guessed() -> None:
    aws = Fake()
    aws.answers["list_instances"] = {"Instances": []}
    finding, *others = wrong(checkup(aws))
    assert (finding.action, finding.state) == ("sso:ListInstances", "missing")
    assert "us-east-1" in finding.why
    assert "home Region" in finding.next
    assert {(one.action, one.state) for one in others} == {(right.action, "unknown") for right in needs.DIRECTORY}


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (denial("sso:ListInstances"), "missing"),
        (ClientError({"Error": {"Code": "Throttling", "Message": "slow"}}, "ListInstances"), "unknown"),
    ],
)
def test_what_cannot_be_tried_without_the_instance_is_listed_with_what_it_waits_for(
    error: ClientError, first: str
) -> None:
    aws = Fake()
    aws.denied[HUB, "list_instances"] = error
    finding, *others = wrong(checkup(aws))
    assert (finding.action, finding.state) == ("sso:ListInstances", first)
    assert [one.action for one in others] == [right.action for right in needs.DIRECTORY]
    assert {one.state for one in others} == {"unknown"}
    assert all(one.why.startswith("Not tried:") and "once sso:ListInstances works" in one.next for one in others)
    assert not [asked for asked in aws.asked if asked[1] == "identitystore"], (
        "an instance that is made up tells nothing"
    )


def of_the_queue(found: Checkup) -> list[tuple[str, str]]:
    return [(one.action, one.state) for one in found.findings if one.name == rights.QUEUE]


def test_whoever_empties_the_queue_of_changes_may_look_take_and_delete() -> None:
    found = checkup(Fake(change_queue="gatehouse-changes"))
    assert wrong(found) == []
    actions = ["sts:AssumeRole", "sqs:GetQueueAttributes", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
    assert of_the_queue(found) == [(action, "ok") for action in actions]


@pytest.mark.parametrize("right", needs.FEED, ids=lambda right: right.action)
def test_a_right_to_the_queue_that_is_missing_is_named_with_the_role_and_the_queue(right: needs.Right) -> None:
    aws = Fake(change_queue="gatehouse-changes")
    aws.denied[HUB, right.call[1]] = denial(right.action.lower())  # as SQS writes it
    finding, *others = wrong(checkup(aws))
    assert (finding.account_id, finding.action, finding.state) == (HUB, right.action, "missing")
    assert "portal/PortalFeed lacks the right" in finding.why
    assert "feed.yaml" in finding.next
    arn = f"arn:aws:sqs:us-east-1:{HUB}:gatehouse-changes"
    assert finding.statement == {"Effect": "Allow", "Action": right.action, "Resource": arn}
    is_blind = right is needs.LOOK_AT_QUEUE  # whether messages wait is not known then
    assert [(one.action, one.state) for one in others] == [("sqs:ReceiveMessage", "unknown")] * is_blind


def test_a_receipt_that_sqs_never_gave_deletes_nothing_and_says_that_the_right_is_there() -> None:
    aws = Fake(change_queue="gatehouse-changes")
    aws.denied[HUB, "delete_message"] = ClientError({"Error": {"Code": "ReceiptHandleIsInvalid"}}, "DeleteMessage")
    assert wrong(checkup(aws)) == []


@pytest.mark.parametrize("attributes", [{"ApproximateNumberOfMessages": "3"}, {}])
def test_no_message_is_taken_where_one_may_wait(attributes: dict[str, str]) -> None:
    """Taking it counts: the sixth time it would be put aside unread."""
    aws = Fake(change_queue="gatehouse-changes")
    aws.answers["get_queue_attributes"] = {"Attributes": attributes}
    [finding] = wrong(checkup(aws))
    assert (finding.action, finding.state) == ("sqs:ReceiveMessage", "unknown")
    assert "Not tried: messages may wait" in finding.why
    assert (HUB, "sqs", "receive_message") not in aws.asked


def test_a_message_that_comes_while_the_queue_is_tried_is_there_for_the_worker_at_once(aws: Aws) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="gatehouse-changes")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    trying = rights._Trying(Session({**SETTINGS, "change_queue": "gatehouse-changes"}), QUIET)
    place = needs.Place(trying.hub, "aws", SETTINGS, queue_url=url)
    for right in needs.FEED:
        assert trying.attempt(right, place, rights.QUEUE, "feed.yaml", Api(trying.session, "feed_role"))
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1


def test_a_queue_that_is_not_there_is_named_and_nothing_is_tried_at_it() -> None:
    aws = Fake(change_queue="gatehouse-changes")
    aws.denied[HUB, "get_queue_attributes"] = ClientError(
        {"Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue", "Message": "no"}}, "GetQueueAttributes"
    )
    finding, *others = wrong(checkup(aws))
    assert "There is no queue gatehouse-changes" in finding.why
    assert [(one.action, one.state) for one in others] == [
        ("sqs:DeleteMessage", "unknown"),
        ("sqs:ReceiveMessage", "unknown"),
    ]


def test_a_role_of_the_feed_that_lets_nobody_in_is_named_with_what_was_not_tried() -> None:
    aws = Fake(change_queue="gatehouse-changes")
    aws.closed["feed_role"] = denial("sts:AssumeRole", "")
    finding, *others = wrong(checkup(aws))
    assert (finding.name, finding.action, finding.state) == (rights.QUEUE, "sts:AssumeRole", "missing")
    assert "become portal/PortalFeed" in finding.why
    assert [(one.action, one.state) for one in others] == [(right.action, "unknown") for right in needs.FEED]
    assert not [asked for asked in aws.asked if asked[1] == "sqs"]


def test_of_many_accounts_a_sample_is_tried_that_is_always_the_same_and_has_the_hub() -> None:
    many = [AccountRecord(f"{100000000000 + n}", f"a{n}", path=f"Unit {n % 7}") for n in range(1_000)]
    first = rights.sample([*many, AccountRecord(HUB, "hub")], HUB)
    assert first == rights.sample([AccountRecord(HUB, "hub"), *reversed(many)], HUB)
    assert len(first) == rights.MOST_ACCOUNTS
    assert first[0].external_id == HUB
    assert len({account.path for account in first}) == 8, "every unit of the tree, and the hub's"


def test_every_call_is_one_that_aws_would_understand() -> None:
    models = botocore.session.get_session()
    config = {**SETTINGS, "trail_bucket": "company-trail"}
    place = needs.Place(ACCOUNT, "aws", config, INSTANCE["InstanceArn"], INSTANCE["IdentityStoreId"], FILE)
    for right in (*needs.IN_ACCOUNTS, *needs.IN_HUB, *needs.TRAIL, *needs.FEED):
        service, operation = right.call
        name = {"s3:ListBucket": "ListObjectsV2"}.get(right.action) or right.action.partition(":")[2]
        shape = models.get_service_model(service).operation_model(name).input_shape
        params = dict(right.params(place))
        if shape is None:
            assert params == {}
            continue
        report = ParamValidator().validate(params, shape)
        assert not report.has_errors(), f"{right.action}: {report.generate_report()}"
        assert botocore.xform_name(name) == operation
