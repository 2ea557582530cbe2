"""How we reach AWS: a client for every (account, service, role), through AssumeRole, with the settings of aws.md §3.3.

The process's own credentials come from the ordinary chain (environment, instance role) and are used for two calls only:
`sts:GetCallerIdentity` and `sts:AssumeRole`. Everything else runs as the reader, provisioner or remover role of an
account, also in the account that Gatehouse itself stands in, which must be the management account or the delegated
administrator of Organizations and Identity Center. Endpoints come from the environment (`AWS_ENDPOINT_URL`) alone.

A connection's `config` has: `region` (of Identity Center), `reader_role`, `provisioner_role`, `remover_role` (path
and name, "portal/PortalReader", the same in every account), `ender_role` (the separate ender's), `broker_role` (mints
sessions, in the hub only), `feed_role` (empties the queue of changes, in the hub only), `external_id` and
`source_identity` (asked for by the roles' trust; empty ones are not sent), `guard_policy` and `boundary_policy` (path
and name, "/jit/jit-guard"), `schedule_group`, `schedule_role` (assumed by EventBridge Scheduler) and `ender_function`
(a Lambda function of the hub that ends memberships by name) for what AWS's scheduler ends, `entry_permission_set`
(whose sessions may assume the role of a grant), `start_url` (the address of the access portal,
"https://example.awsapps.com/start"; empty where nobody set it) and `stop_policy` (the name of the service control
policy of the emergency stop). `widest_ipv4` and `widest_ipv6` (the shortest prefix that a network opening may let
in), `rules_per_group` (where AWS raised its quota) and `schedule_dlq` (the name of a queue in every account that
takes what the scheduler could not end) may be set. The audit trail's `trail_bucket`, `trail_prefix` and
`trail_account` are described in `trail_files.py`.
"""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import boto3
from botocore.config import Config

from apps.connectors import budget, journal
from apps.connectors.aws import clock, pacing
from apps.connectors.aws.errors import CREDENTIAL_CODES, code_of, request_id_of, translated
from apps.connectors.errors import ConnectorError, Denied, Refused, Unproven

Role = Literal["reader_role", "provisioner_role", "remover_role", "ender_role", "broker_role", "feed_role"]

MOST_CLIENTS = 256
SESSION_FOR = timedelta(hours=1)  # role chaining allows no more
RENEW_BEFORE = timedelta(minutes=5)

_ACCOUNT_ID = re.compile(r"\d{12}")
_OPERATION = re.compile(r"(?:^|_)([a-z0-9])")


@dataclass(frozen=True, slots=True)
class Hub:
    """Where Gatehouse's own credentials live."""

    account_id: str
    arn: str

    @property
    def partition(self) -> str:
        """aws, aws-us-gov, aws-cn: the second word of every ARN."""
        return self.arn.split(":")[1]


@dataclass(frozen=True, slots=True)
class _Credentials:
    keys: Mapping[str, str]
    expires_at: datetime

    @property
    def is_fresh(self) -> bool:
        return datetime.now(UTC) < self.expires_at - RENEW_BEFORE


class Session:
    """The clients of one configured connection. Safe to share between threads."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self._lock = threading.RLock()
        self._boto = boto3.Session(region_name=config["region"])
        self._hub: Hub | None = None
        self._credentials: dict[tuple[str, Role], _Credentials] = {}
        self._clients: OrderedDict[tuple[str, str, Role], tuple[Any, _Credentials]] = OrderedDict()

    def hub(self) -> Hub:
        """Who we are before any role is assumed. One call, remembered."""
        if self._hub is None:
            budget.spending().calls += 1
            with translated("sts:GetCallerIdentity"):
                answer = self._make("sts").get_caller_identity()
            self._hub = Hub(answer["Account"], answer["Arn"])
        return self._hub

    def role_arn(self, account_id: str, role: Role) -> str:
        """The ARN of one of our roles in an account that Organizations listed."""
        if not _ACCOUNT_ID.fullmatch(account_id):
            raise Refused(f"{account_id[:40]!r} is not an AWS account id.")
        return f"arn:{self.hub().partition}:iam::{account_id}:role/{self.config[role]}"

    def client(self, account_id: str, service: str, role: Role) -> Any:
        """A client that acts as `role` in the account; made once, made again before its credentials lapse."""
        key = (account_id, service, role)
        with self._lock:
            if key in self._clients and self._clients[key][1].is_fresh:
                self._clients.move_to_end(key)
                return self._clients[key][0]
        credentials = self._assume(account_id, role)  # outside the lock: other accounts need not wait for this answer
        client = self._make(service, account_id, **credentials.keys)
        with self._lock:
            self._clients[key] = (client, credentials)
            while len(self._clients) > MOST_CLIENTS:
                self._clients.popitem(last=False)
        return client

    def drop(self, account_id: str, role: Role) -> None:
        """AWS no longer accepts these credentials: assume the role anew next time."""
        with self._lock:
            self._credentials.pop((account_id, role), None)
            for key in [key for key in self._clients if (key[0], key[2]) == (account_id, role)]:
                del self._clients[key]

    def _assume(self, account_id: str, role: Role) -> _Credentials:
        known = self._credentials.get((account_id, role))
        if known and known.is_fresh:
            return known
        arn = self.role_arn(account_id, role)
        optional = {"ExternalId": self.config.get("external_id"), "SourceIdentity": self.config.get("source_identity")}
        if role == "broker_role":  # what it makes carries a person's; AWS lets nobody change one along a chain
            del optional["SourceIdentity"]
        budget.spending().calls += 1
        try:
            with translated(f"sts:AssumeRole on {arn}"):
                answer = self._make("sts", account_id).assume_role(
                    RoleArn=arn,
                    RoleSessionName=f"gatehouse-{role.removesuffix('_role')}",
                    DurationSeconds=int(SESSION_FOR.total_seconds()),
                    **{name: value for name, value in optional.items() if value},
                )["Credentials"]
        except Denied as error:
            if code_of(error) in CREDENTIAL_CODES or not code_of(error):
                raise
            advice = "Deploy the role in this account, or check its trust, external id and source identity"
            raise Denied(f"Gatehouse may not assume {arn}. {advice}.") from error
        keys = {
            "aws_access_key_id": answer["AccessKeyId"],
            "aws_secret_access_key": answer["SecretAccessKey"],
            "aws_session_token": answer["SessionToken"],
        }
        self._credentials[account_id, role] = _Credentials(keys, answer["Expiration"].astimezone(UTC))
        return self._credentials[account_id, role]

    def _make(self, service: str, account_id: str = "", **keys: str) -> Any:
        make: Any = self._boto.client
        with self._lock, translated(f"a connection to {service}"):  # boto3 makes clients in one thread at a time only
            client = make(service, config=_client_config(), **keys)
        pacing.attach(client, account_id, service)
        return client


def _client_config() -> Config:
    """`standard` retries, as the SDK guide recommends; AWS_MAX_ATTEMPTS (the first try included) lowers them."""
    return Config(
        retries={"mode": "standard", "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", "8"))},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=32,
        user_agent_extra="gatehouse",
        tcp_keepalive=True,
    )


class Api:
    """Calls made as one of our roles: counted, paged to the end, errors in our words."""

    def __init__(self, session: Session, role: Role) -> None:
        self.session = session
        self.role = role
        self.spent = budget.spending()

    @property
    def calls(self) -> int:
        return self.spent.calls

    @property
    def hub_id(self) -> str:
        """The account that holds Organizations and Identity Center for us."""
        return self.session.hub().account_id

    def call(self, account_id: str, service: str, operation: str, **params: Any) -> dict[str, Any]:
        """One call, for example `call(id, "iam", "get_role", RoleName="x")`."""
        with budget.counting(self.spent):
            return self._call(account_id, service, operation, params)

    def _call(self, account_id: str, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        client = self.session.client(account_id, service, self.role)
        self.spent.calls += 1
        name = f"{service}:{_camel(operation)}"
        if self._opens:
            clock.require_right()
        try:
            with (
                pacing.room(account_id, service, operation) as answered,
                translated(f"{name} in account {account_id}"),
            ):
                answer: dict[str, Any] = getattr(client, operation)(**params)
                answered(answer)
        except ConnectorError as error:
            self._note(name, account_id, request_id_of(error), type(error).__name__)
            if code_of(error) in CREDENTIAL_CODES:
                self.session.drop(account_id, self.role)
            raise
        self._note(name, account_id, answer.get("ResponseMetadata", {}).get("RequestId", ""))
        return answer

    def enter(self, account_id: str) -> None:
        """Become our role in the account, and call nothing there."""
        self.session.client(account_id, "iam", self.role)

    def attempt(
        self, account_id: str, service: str, operation: str, params: Mapping[str, Any]
    ) -> ConnectorError | None:
        """Make a call for its refusal alone, which is given back. Only `rights` does, whose calls come from its table."""
        try:
            answer = self.call(account_id, service, operation, **params)
        except ConnectorError as refused:
            return refused
        if "Body" in answer:
            answer["Body"].close()
        return None

    def queue_url(self, name: str) -> str:
        """The address of a queue in the hub, at the endpoint that we call anyway."""
        return f"{self.session.client(self.hub_id, 'sqs', self.role).meta.endpoint_url}/{self.hub_id}/{name}"

    @property
    def _opens(self) -> bool:
        """Whether what is called now may open access."""
        return self.role == "broker_role" or (self.role == "provisioner_role" and budget.current() == "grant")

    def _note(self, *words: str) -> None:
        if self.role != "reader_role":
            journal.note(*words)

    def pages(self, account_id: str, service: str, operation: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every page, whichever way the service marks that there is another.

        An empty page is not the last one. A mark that came before would read for ever: `Unproven`.
        """
        seen: set[str] = set()
        while True:
            page = self.call(account_id, service, operation, **params)
            yield page
            mark = _next_mark(page)
            if mark is None:
                return
            name, value = mark
            if not value or value in seen:
                raise Unproven(f"{service}:{_camel(operation)} in account {account_id} repeats its pages. Scan again.")
            seen.add(value)
            params[name] = value

    def items(self, account_id: str, service: str, operation: str, key: str, **params: Any) -> Iterator[Any]:
        """The elements of `key` on every page."""
        for page in self.pages(account_id, service, operation, **params):
            yield from page.get(key, ())


def _next_mark(page: Mapping[str, Any]) -> tuple[str, str] | None:
    if page.get("NextToken"):
        return "NextToken", page["NextToken"]
    if page.get("IsTruncated"):
        return "Marker", page.get("Marker", "")
    return None


def _camel(operation: str) -> str:
    return _OPERATION.sub(lambda found: found.group(1).upper(), operation)


_sessions: dict[tuple[Any, ...], Session] = {}
_sessions_lock = threading.Lock()


def session(config: Mapping[str, Any]) -> Session:
    """The session of this configuration in this process. Another endpoint or other credentials make another session."""
    surroundings = sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
    key = (*sorted((name, str(value)) for name, value in config.items()), *surroundings)
    with _sessions_lock:
        if key not in _sessions:
            _sessions[key] = Session(config)
        return _sessions[key]


def forget_sessions() -> None:
    """Assume every role anew. For tests, whose AWS forgets."""
    with _sessions_lock:
        _sessions.clear()
