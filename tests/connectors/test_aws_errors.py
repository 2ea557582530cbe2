"""What AWS answers becomes words that the portal understands; and how sessions are made and made again."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
import time_machine
from botocore import exceptions as sdk
from botocore.stub import Stubber

from apps.connectors import errors
from apps.connectors.aws import session as aws_session
from apps.connectors.aws.connector import AwsConnector
from apps.connectors.aws.errors import code_of, translate, translated
from apps.connectors.aws.session import Api, Session, session
from apps.connectors.errors import Busy, ConnectorError, Denied, Gone, Refused, Throttled, Unreachable
from tests.connectors.conftest import CONFIG, HUB, Org

DOING = "iam:GetRole in account 111122223333"


def answer(code: str, status: int = 400, message: str = "so AWS says") -> sdk.ClientError:
    return sdk.ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetRole"
    )


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("Throttling", 400, Throttled),
        ("ThrottlingException", 400, Throttled),
        ("TooManyRequestsException", 429, Throttled),
        ("InternalServerException", 500, Throttled),
        ("ServiceUnavailable", 503, Throttled),
        ("500", 500, Throttled),
        ("ConflictException", 400, Busy),
        ("ConcurrentModification", 409, Busy),
        ("EntityTemporarilyUnmodifiable", 409, Busy),
        ("AccessDenied", 403, Denied),
        ("AccessDeniedException", 400, Denied),
        ("ExpiredToken", 403, Denied),
        ("InvalidClientTokenId", 403, Denied),
        ("UnrecognizedClientException", 400, Denied),
        ("SomethingNew", 403, Denied),
        ("NoSuchEntity", 404, Gone),
        ("ResourceNotFoundException", 400, Gone),
        ("SomethingNew", 404, Gone),
        ("LimitExceeded", 400, Refused),
        ("ServiceQuotaExceededException", 402, Refused),
        ("MalformedPolicyDocument", 400, Refused),
        ("ValidationException", 400, Refused),
        ("EntityAlreadyExists", 400, Refused),
        ("SomethingNew", 400, Refused),
    ],
)
def test_every_code_has_a_class(code: str, status: int, kind: type[ConnectorError]) -> None:
    error = translate(answer(code, status), DOING)
    assert type(error) is kind
    assert code in str(error)
    assert DOING in str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sdk.EndpointConnectionError(endpoint_url="http://x"), Unreachable),
        (sdk.ConnectTimeoutError(endpoint_url="http://x"), Unreachable),
        (sdk.ReadTimeoutError(endpoint_url="http://x"), Unreachable),
        (sdk.ConnectionClosedError(endpoint_url="http://x"), Unreachable),
        (sdk.NoCredentialsError(), Denied),
        (sdk.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), Denied),
        (sdk.CredentialRetrievalError(provider="x", error_msg="y"), Denied),
        (sdk.ParamValidationError(report="RoleName too long"), Refused),
    ],
)
def test_every_failure_without_an_answer_has_a_class(error: Exception, kind: type[ConnectorError]) -> None:
    assert type(translate(error, DOING)) is kind


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_credentials_that_lapsed_say_what_to_do(code: str) -> None:
    assert "Renew them where Gatehouse runs." in str(translate(answer(code), DOING))


def test_what_happened_to_an_unanswered_call_is_not_guessed() -> None:
    assert "may have happened" in str(translate(sdk.ReadTimeoutError(endpoint_url="http://x"), DOING))


def test_awss_own_words_are_bounded_and_on_one_line() -> None:
    sentence = str(translate(answer("ValidationException", message="a\n\x1b[31m" + "x" * 5000), DOING))
    assert len(sentence) < 500
    assert sentence.isprintable()


def test_an_error_page_is_not_quoted() -> None:
    assert "<" not in str(translate(answer("502", 502, "<!doctype html><p>Bad gateway"), DOING))


def test_the_code_survives_the_translation() -> None:
    with pytest.raises(Denied) as caught, translated(DOING):
        raise answer("AccessDenied")
    assert code_of(caught.value) == "AccessDenied"
    assert code_of(ConnectorError("no cause")) == ""


def test_all_that_may_pass_is_tried_again_by_one_name() -> None:
    assert issubclass(errors.Busy, errors.Throttled)
    assert issubclass(errors.Unreachable, errors.Throttled)
    assert not any(issubclass(kind, errors.Throttled) for kind in (Denied, Gone, Refused, errors.Unproven))


# ---- sessions


def test_an_endpoint_that_nobody_listens_at_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Unreachable, match="endpoint"):
            AwsConnector(CONFIG).check()


def test_missing_credentials_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(Denied, match="Renew them"):
        AwsConnector(CONFIG).check()


@pytest.mark.parametrize("account_id", ["", "1234", "1111222233334", "111122223333/x", "arn:aws:iam::111122223333:"])
def test_only_account_ids_become_role_arns(org: Org, account_id: str) -> None:
    with pytest.raises(Refused, match="account id"):
        Api(session(CONFIG), "reader_role").call(account_id, "iam", "list_users")


class StubbedSts:
    """Answers AssumeRole as written down and remembers what it was asked."""

    def __init__(self, made: Session) -> None:
        self.client: Any = boto3.client("sts", region_name="us-east-1")
        self.stubber = Stubber(self.client)
        self.stubber.activate()
        original, made_by = made._make, self.client

        def make(service: str, account_id: str, **keys: str) -> Any:
            return made_by if service == "sts" else original(service, account_id, **keys)

        made._make = make  # type: ignore[method-assign]
        made._hub = aws_session.Hub(HUB, f"arn:aws-us-gov:iam::{HUB}:user/gatehouse")

    def give(self, expires_at: datetime, asked: dict[str, Any] | None = None) -> None:
        keys = {"AccessKeyId": "ASIAEXAMPLEEXAMPLE", "SecretAccessKey": "secret", "SessionToken": "token"}
        self.stubber.add_response("assume_role", {"Credentials": {**keys, "Expiration": expires_at}}, asked)


def test_roles_are_assumed_with_all_that_their_trust_asks_for() -> None:
    made = Session(CONFIG)
    sts = StubbedSts(made)
    sts.give(
        datetime.now(UTC) + timedelta(hours=1),
        {
            "RoleArn": "arn:aws-us-gov:iam::111122223333:role/portal/PortalProvisioner",
            "RoleSessionName": "gatehouse-provisioner",
            "DurationSeconds": 3600,
            "ExternalId": "an-external-id",
            "SourceIdentity": "portal-gatehouse",
        },
    )
    made.client("111122223333", "iam", "provisioner_role")
    sts.stubber.assert_no_pending_responses()


def test_a_role_is_assumed_once_and_again_before_it_lapses() -> None:
    made = Session(CONFIG)
    sts = StubbedSts(made)
    now = datetime(2031, 1, 1, 12, 0, tzinfo=UTC)
    sts.give(now + timedelta(hours=1))
    with time_machine.travel(now, tick=False):
        first = made.client("111122223333", "iam", "reader_role")
        assert made.client("111122223333", "iam", "reader_role") is first
        made.client("111122223333", "sts", "reader_role")
    sts.give(now + timedelta(hours=2))
    with time_machine.travel(now + timedelta(minutes=56), tick=False):
        assert made.client("111122223333", "iam", "reader_role") is not first
    sts.stubber.assert_no_pending_responses()


def test_credentials_that_aws_no_longer_accepts_are_dropped() -> None:
    made = Session(CONFIG)
    sts = StubbedSts(made)
    for _ in range(2):
        sts.give(datetime.now(UTC) + timedelta(hours=1))
    first = made.client("111122223333", "iam", "reader_role")
    with Stubber(first) as refusing:
        refusing.add_client_error("list_users", "ExpiredToken", http_status_code=403)
        with pytest.raises(Denied):
            Api(made, "reader_role").call("111122223333", "iam", "list_users")
    assert made.client("111122223333", "iam", "reader_role") is not first


def test_a_role_that_may_not_be_assumed_names_it_and_what_to_do() -> None:
    made = Session(CONFIG)
    StubbedSts(made).stubber.add_client_error("assume_role", "AccessDenied", http_status_code=403)
    with pytest.raises(Denied, match=r"role/portal/PortalReader\. Deploy the role"):
        made.client("111122223333", "iam", "reader_role")


def test_clients_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_session, "MOST_CLIENTS", 2)
    made = Session(CONFIG)
    sts = StubbedSts(made)
    for number in range(4):
        sts.give(datetime.now(UTC) + timedelta(hours=1))
        made.client(f"{number:012d}", "iam", "reader_role")
    assert len(made._clients) == 2


def test_one_configuration_is_one_session_and_another_endpoint_another(monkeypatch: pytest.MonkeyPatch) -> None:
    first = session(CONFIG)
    assert session(dict(CONFIG)) is first
    assert session({**CONFIG, "region": "eu-west-1"}) is not first
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:10")
    assert session(CONFIG) is not first


def test_calls_are_counted(org: Org) -> None:
    api = Api(session(CONFIG), "reader_role")
    for _ in range(3):
        api.call(org.account_id, "iam", "list_users")
    assert api.calls == 5  # who we are and becoming the role count too, once each
