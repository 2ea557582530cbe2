"""Makes sessions in tier roles, as the broker's role in our own account (aws.md §1.3, b3).

AWS keeps a session alive for 900 seconds at least and, by role chaining, an hour at most. Its end to the second is the
session policy: everything that the role may do, until the date. (The same policy ends a console session, which AWS would
let live on its own clock.) A session is the intersection of role and session policy, so this gives nothing.

`AWS_SIGNIN_URL` names the federation endpoint where it is not AWS's own. With another AWS (`AWS_ENDPOINT_URL`) and no
such address there is no console: credentials are never sent to an AWS that did not make them.

Sources: STS API reference, AssumeRole; IAM user guide, "Enabling custom identity broker access to the AWS console".
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from apps.connectors.aws.guard import size, stamp
from apps.connectors.aws.session import Api, session
from apps.connectors.aws.sts_broker import SESSION_SECONDS, TAG
from apps.connectors.base import Target, whole_second
from apps.connectors.errors import Refused, Unreachable
from apps.connectors.minting import Minted

SHORTEST_SECONDS = 900
POLICY_LIMIT = 2048  # characters of a session policy
NAME_LIMIT = 64  # of a session name and of a source identity
SIGN_IN_WITHIN = 10  # seconds
LONGEST_ANSWER = 100_000  # bytes

# Partition → where a session becomes a sign-in, and the console it leads to.
CONSOLES = {
    "aws": ("https://signin.aws.amazon.com/federation", "https://console.aws.amazon.com/"),
    "aws-us-gov": ("https://signin.amazonaws-us-gov.com/federation", "https://console.amazonaws-us-gov.com/"),
    "aws-cn": ("https://signin.amazonaws.cn/federation", "https://console.amazonaws.cn/"),
}

_OTHER = re.compile(r"[^\w+=,.@-]", re.ASCII)


def session_policy(not_after: datetime) -> dict[str, Any]:
    """All that the role gives, until `not_after`, and then nothing that anything gives."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": {"DateGreaterThanEquals": {"aws:CurrentTime": stamp(not_after)}},
            },
        ],
    }


def session_name(person: str, reference: str) -> str:
    """Who and by which grant, as AWS's log will say it. The name is cut where it is too long, the grant never is."""
    room = NAME_LIMIT - len(reference) - 1
    return f"{_plain(person)[:room] or 'somebody'}-{reference}"


class TierSessions:
    """Sessions of one organization's tier roles."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._api = Api(session(config), "broker_role")

    def mint(self, target: Target, not_after: datetime, *, person: str, now: datetime) -> Minted:
        end = whole_second(not_after)
        remaining = int((end - whole_second(now)).total_seconds())
        if remaining <= 0:
            raise Refused("The grant is over, so no session is made.")
        policy = session_policy(end)
        if size(policy) > POLICY_LIMIT:
            raise Refused("The session policy is longer than AWS takes.")
        who = _plain(person)[:NAME_LIMIT]
        answer = self._api.call(
            self._api.hub_id,
            "sts",
            "assume_role",
            RoleArn=target.entitlement_external_id.removeprefix("tier:"),
            RoleSessionName=session_name(person, target.reference),
            SourceIdentity=who if len(who) > 1 else target.reference,
            Tags=[{"Key": TAG, "Value": target.reference}],
            TransitiveTagKeys=[TAG],
            DurationSeconds=min(SESSION_SECONDS, max(SHORTEST_SECONDS, remaining)),
            Policy=json.dumps(policy, separators=(",", ":")),
        )
        made = answer["Credentials"]
        return Minted(
            access_key_id=made["AccessKeyId"],
            secret_access_key=made["SecretAccessKey"],
            session_token=made["SessionToken"],
            expires_at=min(end, made["Expiration"].astimezone(UTC)),
            session_name=session_name(person, target.reference),
            endpoint_url=os.environ.get("AWS_ENDPOINT_URL", ""),
        )

    def require_console(self) -> None:
        self._console()

    def console_url(self, minted: Minted) -> str:
        endpoint, console = self._console()
        given = {
            "sessionId": minted.access_key_id,
            "sessionKey": minted.secret_access_key,
            "sessionToken": minted.session_token,
        }
        token = _sign_in_token(f"{endpoint}?{urlencode({'Action': 'getSigninToken', 'Session': json.dumps(given)})}")
        return f"{endpoint}?{urlencode({'Action': 'login', 'Destination': console, 'SigninToken': token})}"

    def _console(self) -> tuple[str, str]:
        known = CONSOLES.get(self._api.session.hub().partition)
        other = os.environ.get("AWS_SIGNIN_URL", "")
        if other:
            if urlsplit(other).scheme != "https" and urlsplit(other).hostname not in ("127.0.0.1", "localhost"):
                raise Refused("AWS_SIGNIN_URL must begin with https://")
            return other, known[1] if known else ""
        if known is None or any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS")):
            raise Refused("This AWS has no console. Use the credentials for the command line.")
        return known


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Credentials go to the address that was configured and to no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _sign_in_token(url: str) -> str:
    """Ask the federation endpoint. `url` holds the session, so no error may quote it, or be chained to one that does."""
    token = None
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(url, timeout=SIGN_IN_WITHIN) as answer:
            token = json.loads(answer.read(LONGEST_ANSWER)).get("SigninToken")
    except (urllib.error.URLError, OSError, ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not token:
        raise Unreachable("AWS did not sign this session in to its console. Try again, or use the command line.")
    return token


def _plain(person: str) -> str:
    """The name in the letters that AWS takes, without the colon of a name that begins with `aws:`."""
    return _OTHER.sub("_", person)
