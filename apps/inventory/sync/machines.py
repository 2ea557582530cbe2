"""What kind of machine a principal is, and the facts in AWS that say so.

The classes and their signs are those of AWS's trust policies and credentials. A role can show several: then the one to
worry about most is its class, and all of them are kept, each with how sure it is, the statement it comes from and what is
wrong with it. Nothing here is trusted: whoever runs an account writes these documents.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from apps.connectors.aws.policy.documents import MalformedPolicy, Statement, parse
from apps.connectors.base import CredentialRecord, PrincipalRecord
from apps.inventory.models.concerns import Concern
from apps.inventory.models.holders import Classification, Confidence
from apps.inventory.sync import trusts
from apps.inventory.sync.rows import text

ACCOUNT_ID = re.compile(r"^(?:arn:[^:]*:(?:iam|sts)::)?(\d{12})(?::|$)")
UNIQUE_ID = re.compile(r"^A(?:ROA|IDA)[A-Z0-9]{12,}$")  # AWS shows it in place of an ARN once the principal is deleted
WHOLE_ACCOUNT = re.compile(r"^(?:\d{12}|arn:[^:]*:iam::\d{12}:root)$")
SERVICE_NAME = re.compile(r"^(.+?)(?:\.[a-z]{2}(?:-[a-z]+)+-\d)?\.amazonaws\.com(?:\.cn)?$")

PODS = "pods.eks.amazonaws.com"
CERTIFICATES = "rolesanywhere.amazonaws.com"
ACCOUNT_ACCESS = "account-access.amazonaws.com"
# Services whose guides show aws:SourceAccount or aws:SourceArn in the trust policy of the role they are given ("cross-
# service confused deputy"). The others send neither or are not known to, and nobody is blamed for what cannot be written.
SAYING_THEIR_SOURCE = frozenset(
    {
        *("bedrock", "cloudtrail", "codebuild", "config", "ecs-tasks", "events", "firehose", "monitoring.rds"),
        *("pipes", "sagemaker", "scheduler", "ssm", "states", "transfer", "vpc-flow-logs"),
    }
)
# what the provider's ARN contains, the first that fits
FEDERATIONS = (
    (":saml-provider/", Classification.SAML),
    ("token.actions.githubusercontent.com", Classification.GITHUB),
    ("/oidc.eks.", Classification.IRSA),
    ("", Classification.OIDC),
)
COGNITO = re.compile(r"cognito-identity[\w.-]*\.amazonaws\.com(\.cn)?")
# Providers of the public, for whom AWS asks to name the app in place of a person (IAM user guide, "Available keys for AWS
# web identity federation"): the end of the key that does.
APPS = {"accounts.google.com": ":aud", "graph.facebook.com": ":app_id", "www.amazon.com": ":app_id"}
AUDIENCES = frozenset({"sts.amazonaws.com", "sts.amazonaws.com.cn"})
WORST_FIRST = tuple(Classification)
MOST_SIGNS = 12
MOST_LETTERS = 400  # of one sentence
MOST_NAMED = 5  # subjects, namespaces or certificates in one sentence
HIGH, MEDIUM, LOW = Confidence.HIGH, Confidence.MEDIUM, Confidence.LOW


class Sign(NamedTuple):
    """One thing that says what a machine is; `statement` is the trust statement it comes from, by Sid or number."""

    classification: Classification
    evidence: str
    confidence: Confidence = HIGH
    concerns: tuple[Concern, ...] = ()
    statement: str = ""

    def as_json(self) -> dict[str, Any]:
        more = f" ({_word_for(self.evidence)})" if len(self.evidence) > MOST_LETTERS else ""
        return {
            "classification": self.classification.value,
            "confidence": self.confidence.value,
            "evidence": text(self.evidence, MOST_LETTERS) + more,
            "statement": text(self.statement, 130),
            "concerns": [concern.value for concern in self.concerns],
        }


@dataclass(frozen=True)
class Classified:
    """All the signs of a machine, the one to worry about most first."""

    signs: tuple[Sign, ...]

    @property
    def classification(self) -> Classification:
        return self.signs[0].classification

    @property
    def confidence(self) -> Confidence:
        return self.signs[0].confidence

    @property
    def evidence(self) -> str:
        return " ".join(sign.evidence for sign in self.signs)


def classify(
    record: PrincipalRecord, credentials: Sequence[CredentialRecord], known_accounts: Collection[str]
) -> Classified:
    """What an IAM user, a role or a root user is. `known_accounts` are the connection's own account ids."""
    if record.kind == "iam_root":
        return Classified((Sign(Classification.ROOT, "It is the root user of its account."),))
    if record.kind == "iam_user":
        return Classified((_of_user(credentials),))
    return Classified(_bounded(_of_role(record, known_accounts)))


def _bounded(signs: Iterable[Sign]) -> tuple[Sign, ...]:
    """So many that they can be shown, and all that is wrong with any of them: names in a crowd hide no open door."""
    found = sorted(dict.fromkeys(signs), key=lambda sign: WORST_FIRST.index(sign.classification))
    if len(found) <= MOST_SIGNS:
        return tuple(found)
    first, *others = found
    others.sort(key=lambda sign: not sign.concerns)  # the first says what it is; then what is wrong with the rest
    shown, left = [first, *others[: MOST_SIGNS - 2]], others[MOST_SIGNS - 2 :]
    wrong = tuple(dict.fromkeys(concern for sign in left for concern in sign.concerns))
    sentence = f"It has {_more([repr(sign) for sign in left])} signs that are not listed."
    return *shown, Sign(left[0].classification, sentence, LOW, wrong)


# ---- users


def _of_user(credentials: Sequence[CredentialRecord]) -> Sign:
    keys = sum(1 for one in credentials if one.kind == "access_key" and one.is_active)
    has_password = any(one.kind == "password" and one.is_active for one in credentials)
    has_mfa = any(one.kind == "mfa" and one.is_active for one in credentials)
    said = {0: "no active access key", 1: "an active access key"}.get(keys, f"{keys} active access keys")
    no_mfa = () if has_mfa else (Concern.NO_MFA,)
    if keys and has_password:
        concerns = (Concern.PASSWORD_AND_KEY, *no_mfa)
        return Sign(Classification.MIXED_USER, f"It has {said} and a console password.", LOW, concerns)
    if keys:
        return Sign(Classification.USER_WITH_KEYS, f"It has {said}.")
    if has_password:
        also = "an MFA device" if has_mfa else "no MFA device"
        sentence = f"It has a console password, {also} and {said}."
        return Sign(Classification.CONSOLE_USER, sentence, HIGH if has_mfa else MEDIUM, no_mfa)
    return Sign(Classification.IDLE_USER, "It has neither a console password nor an active access key.", LOW)


# ---- roles


def _of_role(record: PrincipalRecord, known_accounts: Collection[str]) -> list[Sign]:
    path = str(record.attributes.get("path") or "")
    if path.startswith("/aws-service-role/"):
        return [Sign(Classification.SERVICE_LINKED, "AWS made it for one of its services, and only AWS can change it.")]
    if path.startswith("/aws-reserved/sso.amazonaws.com/"):
        return [Sign(Classification.IDENTITY_CENTER, "Identity Center made it for a permission set.")]
    try:
        statements = parse(record.attributes.get("trust") or "").statements
    except MalformedPolicy as error:
        return [Sign(Classification.UNREADABLE, f"Its trust policy cannot be read: {error}", LOW)]
    signs = [
        sign._replace(statement=statement.sid or f"statement {statement.index + 1}")
        for statement in statements
        if trusts.lets_in(statement)
        for sign in _signs(statement, statements, record.account_id, known_accounts)
    ]
    return signs or [Sign(Classification.CLOSED, "Its trust policy lets nobody assume it.")]


def _signs(
    statement: Statement, beside: Sequence[Statement], account_id: str, known_accounts: Collection[str]
) -> Iterator[Sign]:
    """What one statement shows, among those `beside` it, which may forbid what it allows."""
    if "NotPrincipal" in statement.raw:
        sentence = "Its trust policy names who may not assume it, so everybody else may"
        yield _of_anybody(sentence, account_id, known_accounts, statement, beside)
    principals = statement.raw.get("Principal")
    if isinstance(principals, str):
        principals = {"AWS": principals}
    if not isinstance(principals, Mapping):
        return
    for service in _listed(principals.get("Service")):
        yield _of_service(service, statement)
    for provider in _listed(principals.get("Federated")):
        yield _of_federation(provider, statement)
    for named in _listed(principals.get("AWS")):
        found = ACCOUNT_ID.match(named)
        if found or UNIQUE_ID.match(named):
            yield _of_aws(named, found, account_id, known_accounts, statement)
        else:
            sentence = "Its trust policy lets anybody in any AWS account assume it"
            yield _of_anybody(sentence, account_id, known_accounts, statement, beside)


def _of_service(service: str, statement: Statement) -> Sign:
    name = service.lower()
    if name == PODS:
        return _of_pods(statement)
    if name == CERTIFICATES:
        return _of_certificates(statement)
    if name == ACCOUNT_ACCESS:
        sentence = f"Its trust policy lets {service} assume it. No API says for which people."
        return Sign(Classification.ACCOUNT_ACCESS, sentence, MEDIUM)
    found = SERVICE_NAME.match(name)
    _, is_from_anywhere = trusts.narrowest(trusts.of_key(statement, *trusts.SOURCES), trusts.is_any_source)
    is_open = found and found[1] in SAYING_THEIR_SOURCE and is_from_anywhere
    concerns = (Concern.NO_SOURCE,) if is_open else ()
    return Sign(Classification.SERVICE, f"Its trust policy lets {service} assume it.", HIGH, concerns)


def _of_pods(statement: Statement) -> Sign:
    spaces, is_wide = trusts.narrowest(trusts.of_key(statement, trusts.NAMESPACE), trusts.has_wildcard)
    accounts, is_open = trusts.narrowest(trusts.of_key(statement, trusts.SERVICE_ACCOUNT), trusts.has_wildcard)
    said = [f"namespace {_named(spaces)}"] if spaces else []
    said += [f"service account {_named(accounts)}"] if accounts else []
    limit = " and ".join(said) or "whatever an association in the account names"
    concerns = (Concern.NO_POD,) if is_wide or is_open else ()
    sentence = f"Its trust policy lets {PODS} assume it for {limit}."
    return Sign(Classification.POD_IDENTITY, sentence, HIGH, concerns)


def _of_certificates(statement: Statement) -> Sign:
    anchors, any_anchor = trusts.narrowest(trusts.of_key(statement, *trusts.ANCHORS), trusts.has_wildcard)
    names, is_spiffe = _subjects_of_certificates(statement)
    concerns = [Concern.NO_ANCHOR] if any_anchor else []
    concerns += [] if names else [Concern.NO_CERTIFICATE]
    whose = f"certificates of {_named(names)}" if names else "every certificate"
    anchor = f" under {_named(anchors)}" if anchors else " under any trust anchor of the account"
    sentence = f"Its trust policy lets {CERTIFICATES} assume it for {whose}{anchor}."
    return Sign(Classification.SPIFFE if is_spiffe else Classification.ROLES_ANYWHERE, sentence, HIGH, tuple(concerns))


def _subjects_of_certificates(statement: Statement) -> tuple[Sequence[str], bool]:
    """Which certificates the statement names, without those that name them all; and whether by SPIFFE ids."""
    limits = trusts.beginning(statement, trusts.CERTIFICATES[0])
    fine = [values for values in limits if not any(value.strip("*?") == "" for value in values)]
    uris = trusts.of_key(statement, trusts.SPIFFE_ID)
    is_spiffe = any(value.lower().startswith("spiffe://") for values in uris for value in values)
    return (fine[0] if fine else ()), is_spiffe


def _of_federation(provider: str, statement: Statement) -> Sign:
    classification = next(found for part, found in FEDERATIONS if part in provider)
    issuer = provider.partition("-provider/")[2] or provider
    if classification == Classification.SAML:
        return Sign(classification, f"Its trust policy lets people sign in through {issuer}.")
    is_wide_subject = trusts.is_wide_repository if classification == Classification.GITHUB else trusts.has_wildcard
    subjects, is_wide = trusts.narrowest(trusts.ending(statement, ":sub"), is_wide_subject)
    concerns: list[Concern] = []
    if not subjects and (public := _of_the_public(provider, statement)):
        return public
    if not subjects:
        who = "anything"
        concerns.append(Concern.OPEN_SUBJECT)
    else:
        who = f"{'every ' if any(map(trusts.has_wildcard, subjects)) else ''}{_named(subjects)}"
        concerns += [Concern.WIDE_SUBJECT] if is_wide else []
    sure = MEDIUM if classification == Classification.OIDC else HIGH
    by = f"that {issuer} vouches for" if not subjects else f"of {issuer}"
    concerns += [] if classification == Classification.OIDC else _about_audience(statement)
    return Sign(classification, f"Its trust policy lets {who} {by} assume it.", sure, tuple(concerns))


def _of_the_public(provider: str, statement: Statement) -> Sign | None:
    """Where AWS's guides limit a role to an identity pool or an app, and not to a person: what is left to worry about."""
    is_cognito = bool(COGNITO.fullmatch(provider))
    audience = ":aud" if is_cognito else APPS.get(provider)
    apps, is_any = trusts.narrowest(trusts.ending(statement, audience), trusts.has_wildcard) if audience else ((), True)
    if not apps or is_any:
        return None
    if not is_cognito:
        sentence = f"Its trust policy lets everybody who signs in to the app {_named(apps)} with {provider} assume it."
        return Sign(Classification.OIDC, sentence, MEDIUM, (Concern.APP_USERS,))
    ways, is_open = trusts.narrowest(trusts.ending(statement, ":amr"), _lets_guests_in)
    who = "whoever has signed in" if ways and not is_open else "guests and whoever has signed in"
    sentence = f"Its trust policy lets {who} to the identity pool {_named(apps)} assume it."
    return Sign(Classification.OIDC, sentence, MEDIUM, () if ways and not is_open else (Concern.GUESTS,))


def _lets_guests_in(way: str) -> bool:
    """What AWS writes in `amr` is "authenticated" and the provider, or "unauthenticated"."""
    return way == "unauthenticated" or trusts.has_wildcard(way)


def _about_audience(statement: Statement) -> list[Concern]:
    found = trusts.ending(statement, ":aud")
    if not found:
        return [Concern.NO_AUDIENCE]
    _, is_other = trusts.narrowest(found, lambda value: value not in AUDIENCES)
    return [Concern.OTHER_AUDIENCE] if is_other else []


def _of_aws(
    named: str, found: re.Match[str] | None, account_id: str, known_accounts: Collection[str], statement: Statement
) -> Sign:
    if found is None:
        sentence = f"Its trust policy names {named}, a principal that was deleted."
        return Sign(Classification.ORPHAN, sentence, HIGH, (Concern.DELETED,))
    is_whole = bool(WHOLE_ACCOUNT.match(named))
    if found[1] == account_id:
        who = "everybody whom the policies of its own account let" if is_whole else f"{named} of its own account"
        return Sign(Classification.SAME_ACCOUNT, f"Its trust policy lets {who} assume it.", LOW if is_whole else MEDIUM)
    if found[1] in known_accounts:
        sentence = f"Its trust policy lets {named}, in another of our accounts, assume it."
        return Sign(Classification.CROSS_ACCOUNT, sentence, MEDIUM if is_whole else HIGH)
    return _of_strangers(f"Its trust policy lets {named}, outside the organization, assume it", statement)


def _of_strangers(sentence: str, statement: Statement) -> Sign:
    _, is_open = trusts.narrowest(trusts.of_key(statement, trusts.EXTERNAL_ID), trusts.has_wildcard)
    asks, concerns = ("without", (Concern.NO_EXTERNAL_ID,)) if is_open else ("with", ())
    return Sign(Classification.THIRD_PARTY, f"{sentence} {asks} an external id.", HIGH, concerns)


def _of_anybody(
    sentence: str, account_id: str, known_accounts: Collection[str], statement: Statement, beside: Sequence[Statement]
) -> Sign:
    def is_a_strangers(named: str) -> bool:
        found = ACCOUNT_ID.match(named)
        return found is not None and found[1] != account_id and found[1] not in known_accounts

    limits = trusts.keeping_strangers_out(statement, beside)
    if not limits:
        none = " Its conditions name no organization, account or network." if statement.conditions else ""
        return Sign(Classification.ANYBODY, f"{sentence}.{none}", HIGH, (Concern.ANYBODY,))
    named, has_strangers = trusts.narrowest([limit for limit in limits if limit], is_a_strangers)
    if not named or not has_strangers:
        return Sign(Classification.ANYBODY, f"{sentence} under conditions.", MEDIUM)
    strangers = _named([*{one for limit in limits for one in limit if is_a_strangers(one)}])
    return _of_strangers(f"{sentence} under conditions that let in {strangers}, outside the organization,", statement)


def _named(values: Sequence[str]) -> str:
    first, left = sorted(values)[:MOST_NAMED], sorted(values)[MOST_NAMED:]
    return ", ".join(first) + (f" and {_more(left)}" if left else "")


def _more(left: Sequence[str]) -> str:
    return f"{len(left)} more ({_word_for(repr(sorted(left)))})"


def _word_for(left_out: str) -> str:
    """Stands for what is not shown: something else in its place is another fact, and nobody has accepted that."""
    return hashlib.blake2b(left_out.encode(errors="replace"), digest_size=8).hexdigest()


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []
