"""Testing a connection: every right of `needs` is tried, and what is missing is named with who denies it and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from apps.connectors.aws import identity_center, organizations
from apps.connectors.aws.errors import CREDENTIAL_CODES, code_of, denied_action, who_denies
from apps.connectors.aws.needs import (
    DELETE_MESSAGE,
    DIRECTORY,
    FEED,
    IN_ACCOUNTS,
    LIST_INSTANCES,
    LIST_TRAIL,
    LOOK_AT_QUEUE,
    ORGANIZATION,
    READ_TRAIL,
    RECEIVE_MESSAGE,
    Place,
    Right,
)
from apps.connectors.aws.session import Api, Session
from apps.connectors.base import AccountRecord, Checkup, Finding, Progress
from apps.connectors.errors import ConnectorError, Denied, Gone, Throttled

QUEUE = "Change feed"  # as people know the place
MOST_ACCOUNTS = 25  # tested one by one; of more, a sample that is the same every time
ARCHIVED = "InvalidObjectState"  # a file that S3 would hand out, if it were not in an archive

_BY = {
    "identity": ("{role} lacks the right", "Update the stack of {template}, or add the statement to {role}."),
    "scp": (
        "A service control policy denies it",
        "Ask who manages the organization's policies to leave {action} to {role}; no policy of the role helps.",
    ),
    "rcp": (
        "A resource control policy denies it",
        "Ask who manages the organization's policies to leave {action} to {role}; no policy of the role helps.",
    ),
    "boundary": (
        "The permissions boundary of {role} denies it",
        "Take the boundary off the role; {template} sets none.",
    ),
    "explicit": ("A policy of {role} denies it", "Take the Deny out; {template} has none for reading."),
    "": ("AWS denies it and does not say which policy does", "Update the stack of {template}; then look for a Deny."),
}


def checkup(session: Session, progress: Progress) -> Checkup:
    """Try every right in the hub and in the accounts that Organizations lists now, or in a sample of many. Raises when
    there is nothing to start from: the worker's own credentials."""
    return _Trying(session, progress).go()


class _Trying:
    def __init__(self, session: Session, progress: Progress) -> None:
        self.session, self.progress = session, progress
        self.api = Api(session, "reader_role")
        self.hub = self.api.hub_id
        self.findings: list[Finding] = []
        # Action → what was said: an endpoint that lacks a call lacks it everywhere.
        self.unanswered: dict[str, str] = {}

    def go(self) -> Checkup:
        self.progress(0, 1, "the hub")
        refused = self.entered(self.hub)
        if refused:
            if isinstance(refused, Throttled):
                raise refused
            return Checkup([self.not_entered(self.hub, "Hub", refused, anywhere=False)], 0, 0)
        self.found(self.hub, "Hub", "sts:AssumeRole")
        self.try_hub()
        readable = [account for account in self.listed() if account.state == "active"]
        chosen = sample(readable, self.hub)
        self.try_accounts(chosen)
        return Checkup(self.findings, len(chosen), len(readable))

    def listed(self) -> list[AccountRecord]:
        try:
            return organizations.list_accounts(self.api, lambda *_: self.progress(0, 1, "the list of accounts"))
        except ConnectorError:  # the hub's lines say what is missing for it
            return [AccountRecord(self.hub, "Hub")]

    # ---- the hub

    def try_hub(self) -> None:
        place = Place(self.hub, self.session.hub().partition, self.session.config)
        for right in ORGANIZATION:
            self.attempt(right, place, "Hub", "hub.yaml")
        self.try_directory(place)
        if self.session.config.get("change_queue"):
            self.try_feed(place)
        if self.session.config.get("trail_bucket"):
            self.try_trail()

    def try_directory(self, place: Place) -> None:
        """Every call names the instance of Identity Center, so nothing is tried before it is found."""
        why = f"Not tried: what it asks for is named by {LIST_INSTANCES.action}."
        if self.attempt(LIST_INSTANCES, place, "Hub", "hub.yaml"):
            try:
                instance = identity_center.find_instance(self.api)
            except Gone as nothing:
                self.found(
                    self.hub,
                    "Hub",
                    LIST_INSTANCES.action,
                    "missing",
                    str(nothing),
                    "Set the home Region of the connection, and make the hub the delegated administrator of "
                    "Identity Center.",
                )
            except ConnectorError as error:
                why = f"{why} {error}"
            else:
                place = replace(place, instance_arn=instance.arn, store_id=instance.store_id)
                for right in DIRECTORY:
                    self.attempt(right, place, "Hub", "hub.yaml")
                return
        self.not_tried(DIRECTORY, self.hub, "Hub", why, f"It can be tried once {LIST_INSTANCES.action} works.")

    def try_trail(self) -> None:
        account_id = str(self.session.config.get("trail_account") or self.hub)
        refused = self.entered(account_id)
        if refused:
            self.findings.append(self.not_entered(account_id, "Audit trail", refused, anywhere=False))
            return
        place = Place(account_id, self.session.hub().partition, self.session.config)
        why = "Which files there are could not be listed"
        if self.attempt(LIST_TRAIL, place, "Audit trail", "member.yaml"):
            try:
                listed = self.api.call(account_id, "s3", "list_objects_v2", **LIST_TRAIL.params(place))
            except ConnectorError as error:  # no such bucket, or a passing fault
                why = str(error).rstrip(".")
            else:
                files = [one["Key"] for one in listed.get("Contents", ())]
                if files:
                    place = replace(place, trail_file=files[0])
                    self.attempt(READ_TRAIL, place, "Audit trail", "member.yaml")
                    return
                why = f"There is no file under {LIST_TRAIL.params(place)['Prefix']} yet"
        self.found(
            account_id,
            "Audit trail",
            READ_TRAIL.action,
            "unknown",
            f"{why}, and only a file that is there tells whether files may be read.",
            "Compare the bucket, its account and its prefix with the trail's, and test again once it has a file.",
        )

    def try_feed(self, place: Place) -> None:
        """As the role that empties the queue. A message is received only where none waits: see `RECEIVE_MESSAGE`."""
        feed, queue = Api(self.session, "feed_role"), str(self.session.config["change_queue"])
        role = self.session.config["feed_role"]
        arn = f"arn:{place.partition}:sqs:{self.session.config['region']}:{self.hub}:{queue}"
        try:
            place = replace(place, queue_url=feed.queue_url(queue), resource=arn)
        except Denied:
            why = (
                f"AWS does not let the worker become {role}: the role is not there, or does not trust this connection."
            )
            advice = "Deploy feed.yaml in the hub, with this connection's external id as ExternalId."
            self.found(self.hub, QUEUE, "sts:AssumeRole", "missing", why, advice)
        except ConnectorError as error:
            self.found(self.hub, QUEUE, "sts:AssumeRole", "unknown", str(error), "Test again in a while.")
        else:
            self.found(self.hub, QUEUE, "sts:AssumeRole")
            self.try_queue(feed, place, queue)
            return
        why, advice = f"Not tried: it is tried as {role}.", "It can be tried once sts:AssumeRole works."
        self.not_tried(FEED, self.hub, QUEUE, why, advice)

    def try_queue(self, feed: Api, place: Place, queue: str) -> None:
        waiting, refused = None, None
        try:
            said = feed.call(self.hub, "sqs", "get_queue_attributes", **LOOK_AT_QUEUE.params(place))
            waiting = said.get("Attributes", {}).get("ApproximateNumberOfMessages")
        except ConnectorError as error:
            refused = error
        if isinstance(refused, Gone) or code_of(refused).endswith(("NonExistentQueue", "QueueDoesNotExist")):
            why, advice = f"There is no queue {queue} in the hub.", "Deploy feed.yaml there, or correct the name."
            self.found(self.hub, QUEUE, LOOK_AT_QUEUE.action, "missing", why, advice)
            why, advice = "Not tried: there is no queue.", "It can be tried once there is one."
            self.not_tried((DELETE_MESSAGE, RECEIVE_MESSAGE), self.hub, QUEUE, why, advice)
            return
        self.judge(LOOK_AT_QUEUE, place, QUEUE, "feed.yaml", refused, feed)
        self.attempt(DELETE_MESSAGE, place, QUEUE, "feed.yaml", feed)
        if waiting == "0":
            self.attempt(RECEIVE_MESSAGE, place, QUEUE, "feed.yaml", feed)
            return
        why = (
            "Not tried: messages may wait in the queue, and taking one counts against the times that it may be taken "
            "before it is put aside."
        )
        advice = (
            "Test again when the queue is empty. If it never is, nobody empties it: compare the role with feed.yaml."
        )
        self.not_tried((RECEIVE_MESSAGE,), self.hub, QUEUE, why, advice)

    # ---- accounts

    def try_accounts(self, accounts: Sequence[AccountRecord]) -> None:
        refused = {account.external_id: self.entered(account.external_id) for account in accounts}
        others = [account_id for account_id in refused if account_id != self.hub]
        anywhere = any(refused[account_id] is None for account_id in others)
        for done, account in enumerate(accounts):
            self.progress(done, len(accounts), account.name)
            why = refused[account.external_id]
            if why is not None:
                self.findings.append(self.not_entered(account.external_id, account.name, why, anywhere=anywhere))
                continue
            if account.external_id != self.hub:
                self.found(account.external_id, account.name, "sts:AssumeRole")
            place = Place(account.external_id, self.session.hub().partition, self.session.config)
            for right in IN_ACCOUNTS:
                self.attempt(right, place, account.name, "member.yaml")

    def entered(self, account_id: str) -> ConnectorError | None:
        """Whether the reader's role lets us in. What is wrong with the worker's own credentials is raised."""
        try:
            self.api.enter(account_id)
        except Denied as error:
            if code_of(error) in CREDENTIAL_CODES or not code_of(error):
                raise
            return error
        except ConnectorError as error:
            return error
        return None

    def not_entered(self, account_id: str, name: str, refused: ConnectorError, *, anywhere: bool) -> Finding:
        """AWS answers the same for a role that is not there and for one that asks for another external id, so what other
        accounts say decides what is told."""
        role, arn = self.session.config["reader_role"], self.session.role_arn(account_id, "reader_role")
        if not isinstance(refused, Denied):
            return Finding(account_id, name, "sts:AssumeRole", "unknown", str(refused), "Test again in a while.")
        by = who_denies(refused)
        if by == "identity":
            why = f"What the worker runs as may not assume {role}."
            advice = "Update the stack of hub.yaml, and run the worker as PortalHub."
            return Finding(
                account_id, name, "sts:AssumeRole", "missing", why, advice, _statement("sts:AssumeRole", arn)
            )
        if by in ("scp", "rcp"):
            why, advice = (text.format(role=role, action="sts:AssumeRole", template="") for text in _BY[by])
            return Finding(account_id, name, "sts:AssumeRole", "missing", f"{why}.", advice)
        why = f"AWS does not let the worker become {role}: the role is not there, or does not trust this connection."
        if anywhere:
            advice = (
                "Other accounts let it in, so this one most likely lacks member.yaml: add it to the StackSet. "
                "If the stack is there, compare its parameters HubAccountId and ExternalId with theirs."
            )
        else:
            advice = (
                "No account lets it in. Deploy hub.yaml and member.yaml, with this connection's external id as "
                f"ExternalId and {self.hub} as HubAccountId; the worker runs as {self.session.hub().arn}."
            )
        return Finding(account_id, name, "sts:AssumeRole", "missing", why, advice)

    # ---- one right

    def attempt(self, right: Right, place: Place, name: str, template: str, api: Api | None = None) -> bool:
        """Whether the right is there, for all we know. As the reader, or as the role of another `api`."""
        api = api or self.api
        if right.action in self.unanswered:
            said = self.unanswered[right.action]
            self.found(place.account_id, name, right.action, "unknown", said, "Test again in a while.")
            return True
        refused = api.attempt(place.account_id, *right.call, right.params(place))
        return self.judge(right, place, name, template, refused, api)

    def judge(
        self, right: Right, place: Place, name: str, template: str, refused: ConnectorError | None, api: Api
    ) -> bool:
        """What the answer to a call says of the right to make it."""
        if isinstance(refused, Denied) and code_of(refused) != ARCHIVED:
            by, action = who_denies(refused), denied_action(refused)
            if action.lower() in ("", right.action.lower()):  # SQS writes them small
                action = right.action
            words = {"role": self.session.config[api.role], "template": template, "action": action}
            why, advice = (text.format(**words) for text in _BY[by])
            statement = _statement(action, place.resource) if by in ("identity", "") else None
            self.found(place.account_id, name, action, "missing", f"{why}.", advice, statement)
            return False
        if isinstance(refused, Throttled):
            self.found(place.account_id, name, right.action, "unknown", str(refused), "Test again in a while.")
            if code_of(refused) in ("", identity_center.NOT_OFFERED):
                self.unanswered[right.action] = str(refused)
            return True
        self.found(place.account_id, name, right.action)
        return True

    def not_tried(self, rights: Sequence[Right], account_id: str, name: str, why: str, advice: str) -> None:
        """A right that is not mentioned would look as if it were there."""
        for right in rights:
            self.found(account_id, name, right.action, "unknown", why, advice)

    def found(self, *words: Any) -> None:
        self.findings.append(Finding(*words))


def sample(accounts: Sequence[AccountRecord], hub: str) -> list[AccountRecord]:
    """All, or the hub and accounts spread evenly over the organization's tree, the same at every test."""
    ordered = sorted(accounts, key=lambda account: (account.external_id != hub, account.path, account.external_id))
    if len(ordered) <= MOST_ACCOUNTS:
        return ordered
    step = len(ordered) / MOST_ACCOUNTS
    return [ordered[int(place * step)] for place in range(MOST_ACCOUNTS)]


def _statement(action: str, resource: str) -> Mapping[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource}
