"""The shapes the demo company is written in: what a row of it means in AWS, before AWS has given out any id.

Documents, ARNs and tag values may hold tokens, which the seeder replaces: `<self>` is the id of the account that the
thing lives in, `<production>` (any account key) the id of that account, `<org>` the organization's id and `<region>`
the company's home Region.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Account:
    """One AWS account of the organization, in the organizational unit at `ou` (empty: the root). `owner` is the e-mail
    of the person who answers for it."""

    key: str
    name: str
    ou: tuple[str, ...]
    environment: str
    owner: str
    purpose: str
    criticality: str

    @property
    def is_management(self) -> bool:
        return self.key == "management"


@dataclass(frozen=True)
class Person:
    """Somebody who works at the company. The e-mail is the user name too; `manager` is an e-mail, None at the top and
    for those whose manager nobody wrote down."""

    email: str
    given_name: str
    family_name: str
    title: str
    department: str
    manager: str | None = None
    is_contractor: bool = False

    @property
    def name(self) -> str:
        return f"{self.given_name} {self.family_name}"


@dataclass(frozen=True)
class Group:
    """An Identity Center group. Owner and members are e-mails; who owns it is known to the portal, not to AWS."""

    name: str
    description: str
    owner: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class PermissionSet:
    """An Identity Center permission set. `session` is an ISO 8601 duration. One that can be had just in time refers to
    the guard policy in each account, which is where its access is ended."""

    name: str
    description: str
    session: str
    is_jit: bool
    attached: tuple[str, ...] = ()
    inline: Document | None = None


@dataclass(frozen=True)
class Assignment:
    """`permission_set` held standing in the account by one group (its name) or by one person (an e-mail)."""

    account: str
    permission_set: str
    group: str | None = None
    person: str | None = None


@dataclass(frozen=True)
class Policy:
    """A customer-managed policy; the last of its versions is the default one."""

    account: str
    name: str
    versions: tuple[Document, ...]
    path: str = "/"
    description: str = ""

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::<self>:policy{self.path}{self.name}"


@dataclass(frozen=True)
class Role:
    """An IAM role. `service_linked` is the service that owns it; AWS then gives it its name, path and trust itself."""

    account: str
    name: str
    trust: Document = field(default_factory=dict)
    path: str = "/"
    description: str = ""
    inline: Mapping[str, Document] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    boundary: str = ""
    max_session: int = 3600
    service_linked: str = ""


@dataclass(frozen=True)
class SecurityGroup:
    """A security group of the account's first network, which lets nobody in until somebody adds a rule."""

    account: str
    name: str
    description: str


@dataclass(frozen=True)
class IamGroup:
    """An IAM group with the policies attached to it."""

    account: str
    name: str
    attached: tuple[str, ...]


@dataclass(frozen=True)
class IamUser:
    """An IAM user with `keys` access keys, of which the last `inactive_keys` are switched off."""

    account: str
    name: str
    keys: int = 1
    inactive_keys: int = 0
    has_password: bool = False
    has_mfa: bool = False
    path: str = "/"
    groups: tuple[str, ...] = ()
    inline: Mapping[str, Document] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OidcProvider:
    """An OpenID Connect issuer that the account trusts, by its URL without the scheme."""

    account: str
    issuer: str


@dataclass(frozen=True)
class SamlProvider:
    """A SAML identity provider that the account trusts."""

    account: str
    name: str


@dataclass(frozen=True)
class Company:
    """All of it. What AWS cannot know (org chart, owners, who audits and who administers) is for the portal's side."""

    name: str
    domain: str
    region: str
    accounts: tuple[Account, ...]
    people: tuple[Person, ...]
    groups: tuple[Group, ...]
    permission_sets: tuple[PermissionSet, ...]
    assignments: tuple[Assignment, ...]
    policies: tuple[Policy, ...]
    portal_roles: tuple[Role, ...]
    roles: tuple[Role, ...]
    iam_groups: tuple[IamGroup, ...]
    iam_users: tuple[IamUser, ...]
    oidc_providers: tuple[OidcProvider, ...]
    saml_providers: tuple[SamlProvider, ...]
    security_groups: tuple[SecurityGroup, ...]
    auditors: tuple[str, ...]
    administrators: tuple[str, ...]

    def person(self, email: str) -> Person:
        """The person with this e-mail. Raises KeyError when nobody has it."""
        return {person.email: person for person in self.people}[email]

    def account(self, key: str) -> Account:
        """The account with this key. Raises KeyError when there is none."""
        return {account.key: account for account in self.accounts}[key]

    def trimmed(self, *, people: int, roles_per_account: int) -> "Company":
        """A small copy for tests: the first `people` people (the cast and their managers come first), what they are
        assigned, and as many roles in each account. Accounts, groups, permission sets and policies stay whole."""
        kept = self.people[:people]
        emails = {person.email for person in kept}
        groups = tuple(
            replace(group, members=tuple(email for email in group.members if email in emails)) for group in self.groups
        )
        return replace(
            self,
            people=tuple(person if person.manager in emails else replace(person, manager=None) for person in kept),
            groups=groups,
            assignments=tuple(row for row in self.assignments if row.person is None or row.person in emails),
            roles=tuple(
                role
                for account in self.accounts
                for role in [role for role in self.roles if role.account == account.key][:roles_per_account]
            ),
        )
