"""Puts a demo company into an empty local AWS, through the same calls that would build it in a real one.

Organization first, then IAM in every account (the guard policy must be there before a permission set can refer to it),
then Identity Center. About a thousand calls, one after the other: the demo's AWS serves them one at a time anyway.
"""

from __future__ import annotations

import base64
import json
import secrets
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from apps.demo.company import policies
from apps.demo.company.model import Account, Company, Document, IamUser, PermissionSet, Person, Policy, Role
from apps.demo.company.policies import GUARD_NAME, GUARD_PATH
from apps.demo.company.portal import ENDER_FUNCTION, PATH, SCHEDULE_GROUP

SEED = 42  # of moto's random numbers: account ids, user ids and ARNs come out the same in every run
ENTERPRISE = "aws:identitystore:enterprise"
KEYS = {"aws_access_key_id": "demo", "aws_secret_access_key": "demo"}  # never the caller's own
CONFIG = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60)


class CannotSeed(RuntimeError):
    """There is no empty demo AWS at the address. The message says what to do."""


@dataclass(frozen=True)
class Summary:
    """What AWS called the things that were made: ids by the names that `Company` uses for them."""

    region: str
    organization_id: str
    management_account_id: str
    accounts: Mapping[str, str]  # account key → account id
    instance_arn: str
    identity_store_id: str
    users: Mapping[str, str]  # e-mail → Identity Center user id
    groups: Mapping[str, str]  # name → Identity Center group id
    permission_sets: Mapping[str, str]  # name → ARN
    counts: Mapping[str, int]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def _say_nothing(line: str) -> None:
    """For callers who want to know only the end."""


def seed(endpoint_url: str, company: Company, *, say: Callable[[str], None] = _say_nothing) -> Summary:
    """Build `company` in the empty demo AWS at `endpoint_url`, calling `say` with a line for each stage.

    Ids are the same in every run. Nothing is built where an organization already exists, and only moto is ever
    seeded: any other AWS refuses the reset that comes first. Raises CannotSeed in both cases.
    """
    return _Seeding(endpoint_url, company, say).run()


class _Seeding:
    """One run: the clients it works with, and the ids it has been given so far."""

    def __init__(self, endpoint_url: str, company: Company, say: Callable[[str], None]) -> None:
        self.endpoint_url = endpoint_url.rstrip("/")
        self.company = company
        self.say = say
        self.session = boto3.Session(region_name=company.region)
        self.ids: dict[str, str] = {}
        self.organization_id = ""
        self.counts: Counter[str] = Counter()

    def run(self) -> Summary:
        self._start_afresh()
        self.say(f"Organization: {len(self.company.accounts)} accounts")
        self._organization()
        for account in self.company.accounts:
            self.say(f"IAM in {account.name}")
            _AccountSeeding(self, account).run()
        self.say(f"Identity Center: {len(self.company.people)} people, {len(self.company.groups)} groups")
        return self._identity_center()

    def client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        keys = credentials or KEYS
        return self.session.client(service, endpoint_url=self.endpoint_url, config=CONFIG, **keys)  # type: ignore[call-overload]

    def fill(self, value: Any, account: str) -> Any:
        """Put ids where `value` has tokens (see `apps.demo.company.model`)."""
        text = json.dumps(value)
        tokens = {**self.ids, "self": self.ids[account], "org": self.organization_id, "region": self.company.region}
        for token, replacement in tokens.items():
            text = text.replace(f"<{token}>", replacement)
        return json.loads(text)

    def _start_afresh(self) -> None:
        try:
            found = self.client("organizations").describe_organization()["Organization"]["Id"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "AWSOrganizationsNotInUseException":
                raise CannotSeed(f"{self.endpoint_url} does not answer as an empty AWS: {error}") from error
        except BotoCoreError as error:
            raise CannotSeed(f"Nothing answers at {self.endpoint_url}. Start the demo's AWS first.") from error
        else:
            raise CannotSeed(
                f"{self.endpoint_url} already has an organization ({found}). Start the demo's AWS afresh, seed once."
            )
        for path in ("reset", f"seed?a={SEED}"):
            # the address is our own server's
            request = urllib.request.Request(f"{self.endpoint_url}/moto-api/{path}", method="POST")  # noqa: S310
            try:
                urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
            except urllib.error.URLError as error:
                raise CannotSeed(f"{self.endpoint_url} is not the demo's AWS ({error}).") from error

    # Organization -----------------------------------------------------------------------------------------------------

    def _organization(self) -> None:
        organizations = self.client("organizations")
        organization = organizations.create_organization(FeatureSet="ALL")["Organization"]
        self.organization_id = organization["Id"]
        root = organizations.list_roots()["Roots"][0]["Id"]
        units: dict[tuple[str, ...], str] = {(): root}
        for account in self.company.accounts:
            for depth in range(1, len(account.ou) + 1):
                path = account.ou[:depth]
                if path not in units:
                    created = organizations.create_organizational_unit(ParentId=units[path[:-1]], Name=path[-1])
                    units[path] = created["OrganizationalUnit"]["Id"]
            self._account(organizations, account, organization["MasterAccountId"], root, units[account.ou])
        organizations.create_policy(
            Name=policies.STOP_NAME,
            Description="Attached by an emergency stop, and to nothing before",
            Type="SERVICE_CONTROL_POLICY",
            Content=json.dumps(policies.STOP),
        )
        self.counts["organizational_units"] = len(units) - 1
        self.counts["accounts"] = len(self.ids)

    def _account(self, organizations: Any, account: Account, management: str, root: str, unit: str) -> None:
        tags = _tags(
            {
                "environment": account.environment,
                "owner": account.owner,
                "purpose": account.purpose,
                "criticality": account.criticality,
            }
        )
        if account.is_management:
            self.ids[account.key] = management
            organizations.tag_resource(ResourceId=management, Tags=tags)
            return
        created = organizations.create_account(
            AccountName=account.name, Email=f"aws+{account.key}@{self.company.domain}", Tags=tags
        )
        self.ids[account.key] = created["CreateAccountStatus"]["AccountId"]
        organizations.move_account(AccountId=self.ids[account.key], SourceParentId=root, DestinationParentId=unit)

    # Identity Center --------------------------------------------------------------------------------------------------

    def _identity_center(self) -> Summary:
        sso, store = self.client("sso-admin"), self.client("identitystore")
        instance = sso.list_instances()["Instances"][0]
        instance_arn, store_id = instance["InstanceArn"], instance["IdentityStoreId"]
        users = {person.email: self._user(store, store_id, person) for person in self.company.people}
        groups: dict[str, str] = {}
        for group in self.company.groups:
            created = store.create_group(
                IdentityStoreId=store_id, DisplayName=group.name, Description=group.description
            )
            groups[group.name] = created["GroupId"]
            for email in group.members:
                store.create_group_membership(
                    IdentityStoreId=store_id, GroupId=created["GroupId"], MemberId={"UserId": users[email]}
                )
            self.counts["group_memberships"] += len(group.members)
        self.say(f"Permission sets: {len(self.company.permission_sets)}, assignments: {len(self.company.assignments)}")
        sets = {one.name: self._permission_set(sso, instance_arn, one) for one in self.company.permission_sets}
        for row in self.company.assignments:
            principal = ("GROUP", groups[row.group]) if row.group else ("USER", users[row.person or ""])
            sso.create_account_assignment(
                InstanceArn=instance_arn,
                TargetId=self.ids[row.account],
                TargetType="AWS_ACCOUNT",
                PermissionSetArn=sets[row.permission_set],
                PrincipalType=principal[0],
                PrincipalId=principal[1],
            )
        for arn in sets.values():  # moto lists what is provisioned only after this call
            sso.provision_permission_set(
                InstanceArn=instance_arn, PermissionSetArn=arn, TargetType="ALL_PROVISIONED_ACCOUNTS"
            )
        self.counts.update(
            people=len(users), groups=len(groups), permission_sets=len(sets), assignments=len(self.company.assignments)
        )
        return Summary(
            region=self.company.region,
            organization_id=self.organization_id,
            management_account_id=self.ids["management"],
            accounts=self.ids,
            instance_arn=instance_arn,
            identity_store_id=store_id,
            users=users,
            groups=groups,
            permission_sets=sets,
            counts=dict(sorted(self.counts.items())),
        )

    def _user(self, store: Any, store_id: str, person: Person) -> str:
        created = store.create_user(
            IdentityStoreId=store_id,
            UserName=person.email,
            DisplayName=person.name,
            Name={"GivenName": person.given_name, "FamilyName": person.family_name, "Formatted": person.name},
            Emails=[{"Value": person.email, "Type": "work", "Primary": True}],
            Title=person.title,
            UserType="Contractor" if person.is_contractor else "Employee",
            Extensions={ENTERPRISE: {"department": person.department}},
        )
        return str(created["UserId"])

    def _permission_set(self, sso: Any, instance_arn: str, wanted: PermissionSet) -> str:
        created = sso.create_permission_set(
            InstanceArn=instance_arn,
            Name=wanted.name,
            Description=wanted.description,
            SessionDuration=wanted.session,
            Tags=_tags({"just-in-time": "yes" if wanted.is_jit else "no"}),
        )
        target = {"InstanceArn": instance_arn, "PermissionSetArn": created["PermissionSet"]["PermissionSetArn"]}
        for arn in wanted.attached:
            sso.attach_managed_policy_to_permission_set(**target, ManagedPolicyArn=arn)
        if wanted.inline:
            document = json.dumps(self.fill(wanted.inline, "management"))
            sso.put_inline_policy_to_permission_set(**target, InlinePolicy=document)
        if wanted.is_jit:
            sso.attach_customer_managed_policy_reference_to_permission_set(
                **target, CustomerManagedPolicyReference={"Name": GUARD_NAME, "Path": GUARD_PATH}
            )
        return str(target["PermissionSetArn"])


class _AccountSeeding:
    """IAM in one account. A member account is entered through the role that AWS makes in it for its organization."""

    def __init__(self, seeding: _Seeding, account: Account) -> None:
        self.seeding = seeding
        self.key = account.key
        self.company = seeding.company
        credentials = None if account.is_management else self._enter()
        self.iam = seeding.client("iam", credentials)
        self.scheduler = seeding.client("scheduler", credentials)
        self.is_management = account.is_management
        self.ec2 = seeding.client("ec2", credentials)

    def run(self) -> None:
        company = self.company
        self._identity_providers()
        for policy in _of(company.policies, self.key):
            self._policy(policy)
        for role in _of(company.portal_roles, self.key):
            self._role(role)
        self._scheduling()
        for group in _of(company.security_groups, self.key):
            self.ec2.create_security_group(GroupName=group.name, Description=group.description)
        for role in _of(company.roles, self.key):
            self._role(role)
            self.seeding.counts["roles"] += 1
        for iam_group in _of(company.iam_groups, self.key):
            self.iam.create_group(GroupName=iam_group.name)
            for arn in iam_group.attached:
                self.iam.attach_group_policy(GroupName=iam_group.name, PolicyArn=arn)
        for user in _of(company.iam_users, self.key):
            self._user(user)
            self.seeding.counts.update(iam_users=1, access_keys=user.keys)

    def _scheduling(self) -> None:
        """What the scheduler needs, and what it ends memberships of the directory with. That function is only there to be
        found: the demo's AWS stores schedules and never runs them."""
        self.scheduler.create_schedule_group(Name=SCHEDULE_GROUP)
        if not self.is_management:
            return
        self.seeding.client("lambda").create_function(
            FunctionName=ENDER_FUNCTION,
            Runtime="python3.13",
            Role=self._fill(f"arn:aws:iam::<self>:role{PATH}PortalScheduler"),
            Handler="index.handler",
            Code={"ZipFile": b"never run"},
        )

    def _enter(self) -> dict[str, str]:
        given = self.seeding.client("sts").assume_role(
            RoleArn=f"arn:aws:iam::{self.seeding.ids[self.key]}:role/OrganizationAccountAccessRole",
            RoleSessionName="demo-seed",
        )["Credentials"]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }

    def _fill(self, value: Any) -> Any:
        return self.seeding.fill(value, self.key)

    def _document(self, document: Document) -> str:
        return json.dumps(self._fill(document), separators=(",", ":"))

    def _identity_providers(self) -> None:
        company = self.company
        for oidc in _of(company.oidc_providers, self.key):
            self.iam.create_open_id_connect_provider(
                Url=f"https://{oidc.issuer}",
                ClientIDList=["sts.amazonaws.com"],
                ThumbprintList=["9e99a48a9960b14926bb7f3b02e22da2b0ab7280"],
            )
        for saml in _of(company.saml_providers, self.key):
            self.iam.create_saml_provider(Name=saml.name, SAMLMetadataDocument=_saml_metadata(company.domain))

    def _policy(self, policy: Policy) -> None:
        first, *later = policy.versions
        arn = self.iam.create_policy(
            PolicyName=policy.name,
            Path=policy.path,
            PolicyDocument=self._document(first),
            Description=policy.description,
        )["Policy"]["Arn"]
        for document in later:
            self.iam.create_policy_version(PolicyArn=arn, PolicyDocument=self._document(document), SetAsDefault=True)

    def _role(self, role: Role) -> None:
        if role.service_linked:
            self.iam.create_service_linked_role(AWSServiceName=role.service_linked)
            return
        boundary = {"PermissionsBoundary": self._fill(role.boundary)} if role.boundary else {}
        self.iam.create_role(
            RoleName=role.name,
            Path=role.path,
            AssumeRolePolicyDocument=self._document(role.trust),
            Description=role.description,
            MaxSessionDuration=role.max_session,
            Tags=_tags(role.tags),
            **boundary,
        )
        for name, document in role.inline.items():
            self.iam.put_role_policy(RoleName=role.name, PolicyName=name, PolicyDocument=self._document(document))
        for arn in role.attached:
            self.iam.attach_role_policy(RoleName=role.name, PolicyArn=self._fill(arn))

    def _user(self, user: IamUser) -> None:
        name = user.name
        self.iam.create_user(UserName=name, Path=user.path, Tags=_tags(user.tags))
        keys = [self.iam.create_access_key(UserName=name)["AccessKey"]["AccessKeyId"] for _ in range(user.keys)]
        for key in keys[len(keys) - user.inactive_keys :]:
            self.iam.update_access_key(UserName=name, AccessKeyId=key, Status="Inactive")
        if user.has_password:
            # never shown and never used: nobody signs in to the demo's AWS
            self.iam.create_login_profile(
                UserName=name, Password=secrets.token_urlsafe(24), PasswordResetRequired=False
            )
        if user.has_mfa:
            serial = self.iam.create_virtual_mfa_device(VirtualMFADeviceName=name)["VirtualMFADevice"]["SerialNumber"]
            self.iam.enable_mfa_device(
                UserName=name, SerialNumber=serial, AuthenticationCode1="123456", AuthenticationCode2="654321"
            )
        for group in user.groups:
            self.iam.add_user_to_group(GroupName=group, UserName=name)
        for policy, document in user.inline.items():
            self.iam.put_user_policy(UserName=name, PolicyName=policy, PolicyDocument=self._document(document))
        for arn in user.attached:
            self.iam.attach_user_policy(UserName=name, PolicyArn=self._fill(arn))


class _InAccount(Protocol):
    @property
    def account(self) -> str: ...


_Row = TypeVar("_Row", bound=_InAccount)


def _of(rows: Iterable[_Row], account: str) -> list[_Row]:
    return [row for row in rows if row.account == account]


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _saml_metadata(domain: str) -> str:
    """Metadata of the shape AWS takes (it wants at least a thousand characters), with a made-up certificate."""
    certificate = base64.b64encode(f"not a certificate, {domain} ".encode() * 30).decode()
    entity = f"https://adfs.{domain}/adfs/services/trust"
    return (
        f'<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{entity}">'
        '<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">'
        '<KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data>'
        f"<X509Certificate>{certificate}</X509Certificate></X509Data></KeyInfo></KeyDescriptor>"
        '<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" '
        f'Location="https://adfs.{domain}/adfs/ls/"/></IDPSSODescriptor></EntityDescriptor>'
    )
