"""What kind of machine a principal is, and the fact in AWS that says so.

The classes and their signs are those of AWS's trust policies; a role can show several, and then the one to worry about
most is its class, and all of them are in the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from apps.connectors.aws.policy.documents import MalformedPolicy, parse
from apps.connectors.base import CredentialRecord, PrincipalRecord
from apps.inventory.models.holders import Classification

ACCOUNT_ID = re.compile(r"^(?:arn:[^:]*:(?:iam|sts)::)?(\d{12})(?::|$)")
UNIQUE_ID = re.compile(r"^A(?:ROA|IDA)[A-Z0-9]{12,}$")  # AWS shows it in place of an ARN once the principal is deleted

SERVICES = {
    "pods.eks.amazonaws.com": Classification.POD_IDENTITY,
    "rolesanywhere.amazonaws.com": Classification.ROLES_ANYWHERE,
    "account-access.amazonaws.com": Classification.ACCOUNT_ACCESS,
}
# what the provider's ARN contains, the first that fits
FEDERATIONS = (
    (":saml-provider/", Classification.SAML),
    ("token.actions.githubusercontent.com", Classification.GITHUB),
    ("/oidc.eks.", Classification.IRSA),
    ("", Classification.OIDC),
)
WORST_FIRST = tuple(Classification)


class Sign(NamedTuple):
    """One thing that says what a machine is."""

    classification: Classification
    evidence: str


def classify(record: PrincipalRecord, credentials: Sequence[CredentialRecord], known_accounts: Collection[str]) -> Sign:
    """The class of an IAM user, a role or a root user. `known_accounts` are the connection's own account ids."""
    if record.kind == "iam_root":
        return Sign(Classification.ROOT, "It is the root user of its account.")
    if record.kind == "iam_user":
        return _of_user(credentials)
    return _of_role(record, known_accounts)


def _of_user(credentials: Sequence[CredentialRecord]) -> Sign:
    keys = sum(1 for one in credentials if one.kind == "access_key" and one.is_active)
    has_password = any(one.kind == "password" and one.is_active for one in credentials)
    said = {0: "no active access key", 1: "an active access key"}.get(keys, f"{keys} active access keys")
    if keys:
        also = " and a console password" if has_password else ""
        return Sign(Classification.USER_WITH_KEYS, f"It has {said}{also}.")
    if has_password:
        return Sign(Classification.CONSOLE_USER, f"It has a console password and {said}.")
    return Sign(Classification.IDLE_USER, "It has neither a console password nor an active access key.")


def _of_role(record: PrincipalRecord, known_accounts: Collection[str]) -> Sign:
    try:
        statements = parse(record.attributes.get("trust") or "").statements
    except MalformedPolicy as error:
        return Sign(Classification.UNREADABLE, f"Its trust policy cannot be read: {error}")
    allowed = [statement.raw for statement in statements if statement.effect == "Allow"]
    signs = [sign for raw in allowed for sign in _signs(raw, record.account_id, known_accounts)]
    if not signs:
        return Sign(Classification.CLOSED, "Its trust policy lets nobody assume it.")
    signs = sorted(dict.fromkeys(signs), key=lambda sign: WORST_FIRST.index(sign.classification))
    return Sign(signs[0].classification, " ".join(sign.evidence for sign in signs))


def _signs(statement: Mapping[str, Any], account_id: str, known_accounts: Collection[str]) -> Iterator[Sign]:
    if "NotPrincipal" in statement:
        yield Sign(Classification.ANYBODY, "Its trust policy names who may not assume it, so everybody else may.")
    principals = statement.get("Principal")
    if isinstance(principals, str):
        principals = {"AWS": principals}
    if not isinstance(principals, Mapping):
        return
    for service in _listed(principals.get("Service")):
        yield Sign(SERVICES.get(service, Classification.SERVICE), f"Its trust policy lets {service} assume it.")
    for provider in _listed(principals.get("Federated")):
        yield _of_federation(provider, statement)
    for named in _listed(principals.get("AWS")):
        yield _of_aws(named, account_id, known_accounts, statement)


def _of_federation(provider: str, statement: Mapping[str, Any]) -> Sign:
    classification = next(found for part, found in FEDERATIONS if part in provider)
    issuer = provider.partition("-provider/")[2] or provider
    if classification == Classification.SAML:
        return Sign(classification, f"Its trust policy lets people sign in through {issuer}.")
    subjects = sorted(_values(statement, ":sub"))
    if not subjects:
        return Sign(classification, f"Its trust policy lets anything that {issuer} vouches for assume it.")
    if any("*" in subject or "?" in subject for subject in subjects):
        return Sign(classification, f"Its trust policy lets every {', '.join(subjects)} of {issuer} assume it.")
    return Sign(classification, f"Its trust policy lets {', '.join(subjects)} of {issuer} assume it.")


def _of_aws(named: str, account_id: str, known_accounts: Collection[str], statement: Mapping[str, Any]) -> Sign:
    if UNIQUE_ID.match(named):
        return Sign(Classification.ORPHAN, f"Its trust policy names {named}, a principal that was deleted.")
    found = ACCOUNT_ID.match(named)
    if found is None:
        limit = " under conditions" if statement.get("Condition") else ""
        return Sign(Classification.ANYBODY, f"Its trust policy lets anybody in any AWS account assume it{limit}.")
    if found[1] == account_id:
        return Sign(Classification.SAME_ACCOUNT, f"Its trust policy lets {named} of its own account assume it.")
    if found[1] in known_accounts:
        return Sign(
            Classification.CROSS_ACCOUNT, f"Its trust policy lets {named}, in another of our accounts, assume it."
        )
    asks = "with" if _values(statement, "sts:externalid") else "without"
    return Sign(
        Classification.THIRD_PARTY,
        f"Its trust policy lets {named}, outside the organization, assume it {asks} an external id.",
    )


def _values(statement: Mapping[str, Any], key_ending: str) -> set[str]:
    """What the statement's conditions ask of the keys that end so."""
    condition = statement.get("Condition")
    operators = condition.values() if isinstance(condition, Mapping) else ()
    return {
        value
        for block in operators
        if isinstance(block, Mapping)
        for key, values in block.items()
        if str(key).lower().endswith(key_ending)
        for value in _listed(values)
    }


def _listed(value: Any) -> Iterable[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []
