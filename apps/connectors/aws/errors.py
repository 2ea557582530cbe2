"""The one place that knows AWS error codes (aws.md §1.7): each becomes a class of `apps.connectors.errors`.

Codes are those of the botocore service models and of the AWS "common errors" pages. An unknown code is judged by its
HTTP status; an unknown 4xx is `Refused`: AWS understood us and said no.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from apps.connectors.errors import Busy, ConnectorError, Denied, Gone, Refused, Throttled, Unreachable

LONGEST_MESSAGE = 300  # of AWS's own words, which can repeat what an outsider wrote

_CLASSES: dict[type[ConnectorError], str] = {
    Throttled: """
        Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException
        TooManyRequestsException RequestLimitExceeded SlowDown PriorRequestNotComplete
        ProvisionedThroughputExceededException InternalFailure InternalError InternalServerError
        InternalServerException ServiceFailure ServiceFailureException ServiceUnavailable
        ServiceUnavailableException ServiceException ReportInProgress
    """,
    Busy: """
        ConflictException ConcurrentModification ConcurrentModificationException EntityTemporarilyUnmodifiable
        EntityTemporarilyUnmodifiableException ConcurrentModificationError InvalidPermission.Duplicate
    """,
    Denied: """
        AccessDenied AccessDeniedException UnauthorizedOperation UnauthorizedException AuthFailure NotAuthorized
        OptInRequired RegionDisabledException AccountAccessDeniedException
    """,
    Gone: """
        NoSuchEntity NoSuchEntityException ResourceNotFound ResourceNotFoundException NotFoundException
        AccountNotFoundException OrganizationalUnitNotFoundException ParentNotFoundException
        TargetNotFoundException ReportNotPresent ReportExpired
        InvalidPermission.NotFound InvalidGroup.NotFound InvalidSecurityGroupRuleId.NotFound
    """,
}
_CLASS_OF = {code: kind for kind, codes in _CLASSES.items() for code in codes.split()}

_CREDENTIALS_REFUSED = """
    ExpiredToken ExpiredTokenException RequestExpired InvalidClientTokenId UnrecognizedClientException
    InvalidAccessKeyId SignatureDoesNotMatch IncompleteSignature MissingAuthenticationToken
    MissingAuthenticationTokenException InvalidToken InvalidSignatureException
"""
CREDENTIAL_CODES = frozenset(_CREDENTIALS_REFUSED.split())

_TOO_MUCH = """
    Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException
    TooManyRequestsException RequestLimitExceeded SlowDown
"""
THROTTLED_CODES = frozenset(_TOO_MUCH.split())  # of the passing faults, those that say we ask too much

_ADVICE: dict[type[ConnectorError], str] = {
    Throttled: "{doing} did not work just now{code}. It will be tried again.",
    Busy: "{doing} has to wait: another change to the same object is under way{code}. It will be tried again.",
    Denied: "AWS denies {doing}{code}. Give Gatehouse's role there this right.",
    Gone: "{doing} found nothing of that name{code}.",
    Refused: "AWS refused {doing}{code}.",
}
_RENEW = "AWS does not accept Gatehouse's credentials for {doing}{code}. Renew them where Gatehouse runs."
_NO_ANSWER = (
    "No answer from AWS for {doing}{code}. Check the network and the endpoint; what was asked may have happened."
)
_SIGN_IN_FAILURES = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.CredentialRetrievalError,
    sdk.TokenRetrievalError,
    sdk.SSOTokenLoadError,
    sdk.UnauthorizedSSOTokenError,
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what botocore raises inside into a `ConnectorError`. `doing` is like "iam:GetRole in account 1111…"."""
    try:
        yield
    except (sdk.ClientError, sdk.BotoCoreError, ResponseParserError) as error:
        raise translate(error, doing) from error


def translate(error: Exception, doing: str) -> ConnectorError:
    """The `ConnectorError` for what botocore raised while doing `doing`."""
    if isinstance(error, sdk.ClientError):
        return _of_answer(error, doing)
    name = type(error).__name__
    if isinstance(error, _SIGN_IN_FAILURES):
        return Denied(_RENEW.format(doing=doing, code=f" ({name})"))
    if isinstance(error, sdk.ParamValidationError | sdk.InvalidRegionError | sdk.NoRegionError):
        return Refused(f"{_ADVICE[Refused].format(doing=doing, code='')} {_bounded(str(error))}")
    return Unreachable(_NO_ANSWER.format(doing=doing, code=f" ({name})"))


def code_of(error: BaseException | None) -> str:
    """AWS's error code behind a `ConnectorError` (or of botocore's own error), or nothing."""
    return str(_answer_of(error).get("Error", {}).get("Code", ""))


def request_id_of(error: BaseException | None) -> str:
    """AWS's own number of the request that failed, or nothing when no answer came."""
    return str(_answer_of(error).get("ResponseMetadata", {}).get("RequestId", ""))


# What AWS says at the end of a denial, and who that is. "with an explicit deny in a service control policy", or "because
# no identity-based policy allows the iam:GetRole action" (IAM user guide, "Troubleshoot access denied error messages").
_WHO = (
    ("service control policy", "scp"),
    ("resource control policy", "rcp"),
    ("permissions boundary", "boundary"),
    ("explicit deny in an identity-based policy", "explicit"),
    ("no identity-based policy allows", "identity"),
)
_DENIED = re.compile(r"not authorized to perform: ([a-z0-9-]{1,63}:\w{1,128})", re.ASCII)


def who_denies(error: BaseException | None) -> str:
    """Which kind of policy stands in the way: identity, explicit (a Deny there), boundary, scp, rcp; "" when AWS does not
    say, or names another."""
    message = str(_answer_of(error).get("Error", {}).get("Message", ""))
    return next((who for words, who in _WHO if words in message), "")


def denied_action(error: BaseException | None) -> str:
    """Which action AWS says it denies, where it names one: not always the one that was called, since S3 also asks for the
    key of a file."""
    message = str(_answer_of(error).get("Error", {}).get("Message", ""))
    named = _DENIED.search(message)
    return named[1] if named else ""


def _answer_of(error: BaseException | None) -> Mapping[str, Any]:
    """What AWS answered, behind a `ConnectorError` or botocore's own; empty when no answer came."""
    while error is not None and not isinstance(error, sdk.ClientError):
        error = error.__cause__
    return error.response if error else {}


def _of_answer(error: sdk.ClientError, doing: str) -> ConnectorError:
    answer = error.response.get("Error", {})
    code = str(answer.get("Code", ""))
    shown = f" ({_bounded(code)})" if code else ""
    message = _bounded(str(answer.get("Message", "")))
    if message.startswith("<"):  # the error page of a proxy or a test server
        message = ""
    if code in CREDENTIAL_CODES:
        return Denied(_RENEW.format(doing=doing, code=shown))
    kind = _CLASS_OF.get(code) or _by_status(error)
    sentence = _ADVICE[kind].format(doing=doing, code=shown)
    return kind(f"{sentence} AWS says: {message}" if message else sentence)


def _by_status(error: sdk.ClientError) -> type[ConnectorError]:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    if status >= 500 or status == 429:
        return Throttled
    return {401: Denied, 403: Denied, 404: Gone, 409: Busy}.get(status, Refused)


def _bounded(text: str) -> str:
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return plain if len(plain) <= LONGEST_MESSAGE else plain[: LONGEST_MESSAGE - 1] + "…"
