"""Harbourline put together."""

from apps.demo.company import access, accounts, iam_users, irregular, people, portal, tier_roles, trusts, workloads
from apps.demo.company.model import Company, OidcProvider, SamlProvider, SecurityGroup

_KEYS = tuple(account.key for account in accounts.ACCOUNTS)

HARBOURLINE = Company(
    name="Harbourline",
    domain=people.DOMAIN,
    region=accounts.REGION,
    accounts=accounts.ACCOUNTS,
    people=people.PEOPLE,
    groups=access.GROUPS,
    permission_sets=access.PERMISSION_SETS,
    assignments=access.ASSIGNMENTS,
    policies=(
        *(portal.guard(key) for key in _KEYS),
        *(tier_roles.boundary(key) for key in _KEYS),
        *irregular.POLICIES,
    ),
    portal_roles=(*(role for key in _KEYS for role in portal.roles(key)), *tier_roles.roles()),
    roles=(*workloads.roles(), *irregular.roles()),
    iam_groups=iam_users.GROUPS,
    iam_users=iam_users.USERS,
    oidc_providers=(
        *(OidcProvider(account, issuer) for account, issuer in trusts.CLUSTERS.items()),
        OidcProvider("production", trusts.GITHUB),
        OidcProvider("staging", trusts.GITHUB),
    ),
    saml_providers=(SamlProvider("production", "corporate-adfs"), SamlProvider("management", "corporate-adfs")),
    security_groups=(SecurityGroup("production", "bookings-db", "Who may connect to the bookings database"),),
    auditors=(people.CAST["dan"],),
    administrators=(people.CAST["erin"], people.CAST["farid"]),
)
