"""Signs a demo company up in the portal, through the services that people would use, in the order they would.

What AWS cannot know is from `Company`: who administers and audits, who reports to whom, who owns which account and
group. Nothing is inserted past a service, so the audit log of the demo reads like that of a real first day; the one
exception is the dated policies, which no screen can define yet.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from django.db.models import QuerySet

from apps.access.models import Offer
from apps.access.services import offers
from apps.audit import services as audit
from apps.connectors.aws.session import Api, session
from apps.demo import cast
from apps.demo.company import tier_roles
from apps.demo.company.model import Company
from apps.inventory import services as inventory
from apps.inventory import sync
from apps.inventory.models import Connection, Entitlement, Identity, Principal, Resource, SyncRun
from apps.inventory.models.resources import Environment
from apps.users import services as users
from apps.users.models import PortalRole, User

NAME = "harbourline"
DEMO = replace(audit.COMMAND, name="The demo")  # who enrolled everybody's authenticator app
DIRECTORY = "Identity Center"  # where it is known from who a person is

# permission set → in which accounts it can be asked for, and for how many hours at most; the rules allow less
ON_OFFER: Mapping[str, tuple[tuple[str, ...], int]] = {
    "SupportView": (("production", "staging"), 8),
    "Deployer": (("production", "staging", "sandbox"), 8),
    "DataAnalyst": (("data",), 8),
    "DatabaseAdmin": (("production", "staging", "data"), 4),
    "NetworkOperator": (("production", "staging"), 4),
    "PowerUser": (("production", "staging", "data", "sandbox"), 4),
    "AdministratorAccess": (("production", "staging", "data", "security", "sandbox", "management"), 1),
}


class CannotSignUp(RuntimeError):
    """The portal could not be filled. The message says what went wrong."""


@dataclass(frozen=True)
class DatedPolicy:
    """Actions that somebody can have for a time in one account: a tagged IAM user or role of it, or a person as a role of
    their own."""

    account: str
    slug: str
    name: str
    description: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    provisioner: str = "iam_timeboxed_policy"


DATED_POLICIES = (
    DatedPolicy(
        "data",
        "query-the-lake",
        "Query the data lake",
        "Ask the analysts' workgroup, read its answers",
        ("athena:StartQueryExecution", "athena:GetQueryExecution", "athena:GetQueryResults"),
        ("arn:aws:athena:<region>:<self>:workgroup/analysts",),
    ),
    DatedPolicy(
        "production",
        "restart-a-service",
        "Restart a service",
        "Roll one of the services over while an incident lasts",
        ("ecs:UpdateService", "ecs:StopTask"),
        ("arn:aws:ecs:<region>:<self>:service/harbourline/*", "arn:aws:ecs:<region>:<self>:task/harbourline/*"),
    ),
    DatedPolicy(
        "production",
        "read-one-booking",
        "Read one booking",
        "Look a booking up while an incident lasts",
        ("dynamodb:GetItem",),
        ("arn:aws:dynamodb:<region>:<self>:table/bookings",),
    ),
    DatedPolicy(
        "production",
        "mend-one-booking",
        "Mend one booking",
        "Look a booking up and put it right, with a role of your own",
        ("dynamodb:GetItem", "dynamodb:UpdateItem"),
        ("arn:aws:dynamodb:<region>:<self>:table/bookings",),
        "iam_jit_role",
    ),
)


@dataclass(frozen=True)
class Opening:
    """A port of a security group that can be let in to for a time, from one network."""

    account: str
    slug: str
    name: str
    description: str
    group: str
    port: int
    source: str


OPENINGS = (
    Opening(
        "production",
        "reach-the-bookings-database",
        "Reach the bookings database",
        "From the office network, to look at a booking with your own sign-in to the database",
        "bookings-db",
        5432,
        "10.20.0.0/24",
    ),
)


class Portal:
    """One sign-up. Its steps are called in the order they are written in."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.accounts: dict[str, Resource] = {}
        self.people: dict[str, Identity] = {}

    # ---- connecting

    def connect(self) -> Connection:
        """The first two administrators, and the connection, which may only look so far."""
        erin, farid = (self.company.person(email) for email in self.company.administrators)
        self.erin = User.objects.create_superuser(erin.email, None, name=erin.name)
        self.farid = users.invite_user(email=farid.email, name=farid.name, by=self.erin)
        users.give_role(user=self.farid, role=PortalRole.Role.ADMINISTRATOR, by=self.erin)
        self.connection = inventory.add_connection(name=NAME, region=self.company.region, by=self.erin)
        return self.connection

    def read(self) -> SyncRun:
        """The first sync, here and now. Raises CannotSignUp when it is not complete."""
        run = sync.run(self.connection.pk, by=self.erin)
        if run.state != SyncRun.State.COMPLETE:
            problems = [problem for scope in run.scopes.all() for problem in scope.problems]
            raise CannotSignUp(
                "\n".join([f"The first sync is {run.get_state_display().lower()}.", run.problem, *problems])
            )
        keys = {account.name: account.key for account in self.company.accounts}
        self.accounts = {keys[found.name]: found for found in Resource.objects.filter(connection=self.connection)}
        human = Identity.objects.human().filter(connection=self.connection)
        self.people = {identity.email: identity for identity in human}
        return run

    # ---- who is who

    def sign_up(self) -> None:
        """A user for everybody, linked to who they are in the directory, with an authenticator app that counts."""
        for person in self.company.people:
            user = User.objects.filter(email=person.email).first()
            user = user or users.invite_user(email=person.email, name=person.name, by=self.erin)
            by = self.farid if user == self.erin else self.erin  # nobody links themselves
            source = f"{DIRECTORY} user {person.email}, linked by {by}"
            inventory.link_user(self.people[person.email], user, by=by, source=source)
            users.seed_totp(user=user, secret=cast.totp_secret(user.email), by=DEMO)
        for email in self.company.auditors:
            users.give_role(user=User.objects.get(email=email), role=PortalRole.Role.AUDITOR, by=self.erin)

    def name_managers(self) -> None:
        """The org chart, as the CSV that the people team would export."""
        chart = io.StringIO()
        writer = csv.writer(chart)
        writer.writerow(["email", "manager"])
        writer.writerows([person.email, person.manager or ""] for person in self.company.people)
        source = f"{self.company.name.lower()}-org-chart.csv"
        inventory.import_org_chart(self.connection, chart.getvalue().splitlines(), by=self.erin, source=source)

    def name_owners(self) -> None:
        """Who answers for each account and group, and what the accounts are for where the tree does not say it."""
        for account in self.company.accounts:
            resource = inventory.set_owner(self.accounts[account.key], self.people.get(account.owner), by=self.erin)
            if isinstance(resource, Resource) and resource.environment != account.environment:
                inventory.set_environment(resource, Environment(account.environment), by=self.erin)
        groups = Principal.objects.filter(connection=self.connection, kind=Principal.Kind.IDC_GROUP)
        for principal in groups.filter(name__in=[group.name for group in self.company.groups]):
            owner = next(group.owner for group in self.company.groups if group.name == principal.name)
            if owner in self.people:
                inventory.set_owner(principal, self.people[owner], by=self.erin)

    # ---- trusting it

    def open(self) -> None:
        """The baseline, and two people who let Gatehouse write."""
        inventory.baseline(self.connection, by=self.erin)
        inventory.propose_writing(self.connection, by=self.erin)
        inventory.approve_writing(self.connection, by=self.farid)
        self.connection.refresh_from_db()

    def offer(self) -> list[Offer]:
        """The catalogue: permission sets that can be had just in time, dated policies, network openings, and sessions in
        tier roles."""
        made = [
            offers.offer(entitlement, provisioner="idc_assignment", max_for=timedelta(hours=hours), by=self.erin)
            for entitlement, hours in self._permission_sets()
        ]
        for policy in DATED_POLICIES:
            entitlement = self._entitlement_for(policy)
            made.append(
                offers.offer(entitlement, provisioner=policy.provisioner, max_for=timedelta(hours=4), by=self.erin)
            )
        made += [
            offers.offer(
                self._opened_by(opening), provisioner="security_group_rule", max_for=timedelta(hours=2), by=self.erin
            )
            for opening in OPENINGS
        ]
        made += [
            offers.offer(entitlement, provisioner="sts_broker", max_for=timedelta(hours=hours), by=self.erin)
            for name, hours in tier_roles.HOURS.items()
            for entitlement in self._tier_roles().filter(name=name)
        ]
        return made

    def _tier_roles(self) -> QuerySet[Entitlement]:
        return Entitlement.objects.present().filter(connection=self.connection, kind=Entitlement.Kind.TIER_ROLE)

    def _permission_sets(self) -> Iterator[tuple[Entitlement, int]]:
        keys = {resource.pk: key for key, resource in self.accounts.items()}
        just_in_time = {one.name for one in self.company.permission_sets if one.is_jit}
        found = Entitlement.objects.present().filter(
            connection=self.connection, kind=Entitlement.Kind.PERMISSION_SET, name__in=just_in_time & set(ON_OFFER)
        )
        for entitlement in found.select_related("resource", "connection"):
            accounts, hours = ON_OFFER[entitlement.name]
            if keys[entitlement.resource_id or 0] in accounts:
                yield entitlement, hours

    def _opened_by(self, opening: Opening) -> Entitlement:
        """The security group is looked up by its name, as an administrator would in the console."""
        account = self.accounts[opening.account]
        found = Api(session(self.connection.config), "reader_role").call(
            account.external_id,
            "ec2",
            "describe_security_groups",
            Filters=[{"Name": "group-name", "Values": [opening.group]}],
        )
        return inventory.define_opening(
            account,
            slug=opening.slug,
            name=opening.name,
            description=opening.description,
            region=self.company.region,
            group_id=found["SecurityGroups"][0]["GroupId"],
            protocol="tcp",
            from_port=opening.port,
            to_port=opening.port,
            source=opening.source,
            by=self.erin,
        )

    def _entitlement_for(self, policy: DatedPolicy) -> Entitlement:
        account = self.accounts[policy.account]
        filled = {"<self>": account.external_id, "<region>": self.company.region}
        return inventory.define_policy(
            account,
            slug=policy.slug,
            name=policy.name,
            description=policy.description,
            actions=policy.actions,
            resources=[_fill(resource, filled) for resource in policy.resources],
            by=self.erin,
        )


def _fill(text: str, tokens: Mapping[str, str]) -> str:
    for token, value in tokens.items():
        text = text.replace(token, value)
    return text
