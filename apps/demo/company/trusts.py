"""Trust documents: who may assume a role."""

from typing import Any

from apps.demo.company.model import Document
from apps.demo.company.policies import document

GITHUB = "token.actions.githubusercontent.com"
# one EKS cluster in each of these accounts, by the id in its issuer
CLUSTERS = {
    "production": "oidc.eks.eu-west-1.amazonaws.com/id/5C0E8A1FD2B94E7790A6C3D41E8F2B76",
    "staging": "oidc.eks.eu-west-1.amazonaws.com/id/A91D3F60C7E24B18B5D2086F4E7A9C13",
    "data": "oidc.eks.eu-west-1.amazonaws.com/id/7F42B6E09A3C4D51863E1DC5F0A8B924",
}


def _trust(principal: Any, action: str | list[str] = "sts:AssumeRole", **conditions: Any) -> Document:
    statement: Document = {"Effect": "Allow", "Principal": principal, "Action": action}
    if conditions:
        statement["Condition"] = conditions
    return document(statement)


def service(name: str, **conditions: Any) -> Document:
    """An AWS service, by the first part of its principal (`lambda`, `ecs-tasks`)."""
    return _trust({"Service": f"{name}.amazonaws.com"}, **conditions)


def service_here(name: str) -> Document:
    """An AWS service on behalf of this account only, as AWS advises against confused deputies."""
    return service(name, StringEquals={"aws:SourceAccount": "<self>"})


def service_account(cluster: str, subject: str | None) -> Document:
    """A Kubernetes service account of this account's cluster (IRSA), by `namespace:name`; None trusts any of them."""
    provider = {"Federated": f"arn:aws:iam::<self>:oidc-provider/{cluster}"}
    conditions: Document = {"StringEquals": {f"{cluster}:aud": "sts.amazonaws.com"}}
    if subject:
        matcher = "StringLike" if "*" in subject else "StringEquals"
        conditions.setdefault(matcher, {})[f"{cluster}:sub"] = f"system:serviceaccount:{subject}"
    return _trust(provider, "sts:AssumeRoleWithWebIdentity", **conditions)


def pod_identity() -> Document:
    """EKS Pod Identity."""
    return _trust({"Service": "pods.eks.amazonaws.com"}, ["sts:AssumeRole", "sts:TagSession"])


def github(subject: str | None) -> Document:
    """GitHub Actions of the repositories that `subject` names; None trusts all of GitHub."""
    conditions: Document = {"StringEquals": {f"{GITHUB}:aud": "sts.amazonaws.com"}}
    if subject:
        matcher = "StringLike" if "*" in subject else "StringEquals"
        conditions.setdefault(matcher, {})[f"{GITHUB}:sub"] = subject
    provider = {"Federated": f"arn:aws:iam::<self>:oidc-provider/{GITHUB}"}
    return _trust(provider, "sts:AssumeRoleWithWebIdentity", **conditions)


def principal(arn: str, **conditions: Any) -> Document:
    """An AWS principal: an account's root, a role, the bare id that a deleted one leaves, or `*`."""
    return _trust({"AWS": arn}, **conditions)


def account(identifier: str, external_id: str = "") -> Document:
    """Everybody whom another account lets."""
    conditions = {"StringEquals": {"sts:ExternalId": external_id}} if external_id else {}
    return principal(f"arn:aws:iam::{identifier}:root", **conditions)


def saml(provider: str) -> Document:
    """People signed in at a SAML provider of this account."""
    return _trust(
        {"Federated": f"arn:aws:iam::<self>:saml-provider/{provider}"},
        "sts:AssumeRoleWithSAML",
        StringEquals={"SAML:aud": "https://signin.aws.amazon.com/saml"},
    )


def roles_anywhere(common_name: str | None) -> Document:
    """A machine with an X.509 certificate; None trusts any certificate of any trust anchor."""
    conditions: Document = {}
    if common_name:
        conditions = {
            "ArnEquals": {"aws:SourceArn": "arn:aws:rolesanywhere:<region>:<self>:trust-anchor/2f6c1b9e-8d0a-4c57"},
            "StringEquals": {"aws:PrincipalTag/x509Subject/CN": common_name},
        }
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    return _trust({"Service": "rolesanywhere.amazonaws.com"}, actions, **conditions)


def account_access_manager() -> Document:
    """People through account access manager, whose entitlements no public API lists yet."""
    actions = ["sts:AssumeRole", "sts:SetContext", "sts:TagSession"]
    return _trust({"Service": "account-access.amazonaws.com"}, actions)
