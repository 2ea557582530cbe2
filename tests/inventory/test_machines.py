"""What kind of machine an identity is, by its trust policy or its credentials: every class, how sure it is, and what is
wrong with it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.connectors.base import CredentialRecord, PrincipalRecord
from apps.inventory.models.concerns import HIGH, Concern
from apps.inventory.models.holders import Classification, Confidence
from apps.inventory.sync.machines import MOST_SIGNS, classify
from tests.inventory.conftest import PROD, SANDBOX

GITHUB = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
EKS = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC"
GITHUB_KEY, EKS_KEY = "token.actions.githubusercontent.com", "oidc.eks.eu-west-1.amazonaws.com/id/ABC"
AUD = {f"{GITHUB_KEY}:aud": "sts.amazonaws.com"}
COGNITO, COGNITO_KEY = {"Federated": "cognito-identity.amazonaws.com"}, "cognito-identity.amazonaws.com"
POOL = {f"{COGNITO_KEY}:aud": "eu-west-1:pool"}
PARTNER = {"AWS": "arn:aws:iam::999900001111:role/x"}
ANCHOR = {"ArnEquals": {"aws:SourceArn": "arn:aws:rolesanywhere:eu-west-1:111122223333:trust-anchor/a"}}
ROLES_ANYWHERE = {"Service": "rolesanywhere.amazonaws.com"}


def role(*statements: dict[str, Any], path: str = "/", trust: Any = None) -> PrincipalRecord:
    document = {"Version": "2012-10-17", "Statement": list(statements)} if statements else trust
    return PrincipalRecord("iam_role", "r", "r", PROD, attributes={"trust": document, "path": path})


def allow(principal: Any, condition: Any = None, **more: Any) -> dict[str, Any]:
    condition = {"Condition": condition} if condition else {}
    return {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal, **condition, **more}


def found(principal: Any, condition: Any = None) -> Any:
    return classify(role(allow(principal, condition)), [], {PROD, SANDBOX})


@pytest.mark.parametrize(
    ("principal", "condition", "classification", "confidence", "evidence"),
    [
        ({"Service": "ec2.amazonaws.com"}, {}, "service", "high", "ec2.amazonaws.com"),
        ({"Service": ["pods.eks.amazonaws.com"]}, {}, "pod_identity", "high", "whatever an association"),
        (
            {"Service": ["pods.eks.amazonaws.com"]},
            {
                "StringEquals": {
                    "aws:RequestTag/kubernetes-namespace": "shop",
                    "aws:RequestTag/kubernetes-service-account": "api",
                }
            },
            "pod_identity",
            "high",
            "namespace shop and service account api",
        ),
        (ROLES_ANYWHERE, ANCHOR, "roles_anywhere", "high", "every certificate under arn:aws:rolesanywhere"),
        (
            ROLES_ANYWHERE,
            {**ANCHOR, "StringEquals": {"aws:PrincipalTag/x509SAN/URI": "spiffe://shop.example/api"}},
            "spiffe",
            "high",
            "certificates of spiffe://shop.example/api",
        ),
        ({"Service": "account-access.amazonaws.com"}, {}, "account_access", "medium", "No API says for which people"),
        ({"Federated": "arn:aws:iam::111122223333:saml-provider/Okta"}, {}, "saml", "high", "sign in through Okta"),
        (
            {"Federated": GITHUB},
            {"StringEquals": {f"{GITHUB_KEY}:sub": "repo:shop/api:ref:refs/heads/main", **AUD}},
            "github_oidc",
            "high",
            "lets repo:shop/api:ref:refs/heads/main of token",
        ),
        (
            {"Federated": GITHUB},
            {"StringLike": {f"{GITHUB_KEY}:sub": ["repo:shop/*"]}},
            "github_oidc",
            "high",
            "lets every repo:shop/* of token",
        ),
        (
            {"Federated": GITHUB},
            {},
            "github_oidc",
            "high",
            "anything that token.actions.githubusercontent.com vouches for",
        ),
        (
            {"Federated": EKS},
            {"StringEquals": {f"{EKS_KEY}:sub": "system:serviceaccount:shop:api"}},
            "irsa",
            "high",
            "system:serviceaccount:shop:api",
        ),
        ({"Federated": "accounts.google.com"}, {}, "oidc", "medium", "accounts.google.com"),
        ({"AWS": "arn:aws:iam::111122223333:root"}, {}, "same_account", "low", "whom the policies of its own account"),
        ({"AWS": "arn:aws:iam::111122223333:role/x"}, {}, "same_account", "medium", "role/x of its own account"),
        ({"AWS": "444455556666"}, {}, "cross_account", "medium", "another of our accounts"),
        (PARTNER, {}, "third_party", "high", "without an external id"),
        (PARTNER, {"StringEquals": {"sts:ExternalId": "s"}}, "third_party", "high", "with an external id"),
        ({"AWS": "AROAEXAMPLEEXAMPLE123"}, {}, "orphan", "high", "was deleted"),
        ({"AWS": "*"}, {}, "anybody", "high", "anybody in any AWS account assume it."),
        ("*", {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, "anybody", "medium", "under conditions"),
        ({"Service": "ec2.amazonaws.com", "AWS": ["*"]}, {}, "anybody", "high", "ec2.amazonaws.com"),
    ],
)
def test_a_trust_policy_says_what_a_role_is(principal, condition, classification, confidence, evidence):
    sign = found(principal, condition)
    assert (sign.classification, sign.confidence) == (classification, confidence)
    assert evidence in sign.evidence


SUB = f"{GITHUB_KEY}:sub"


@pytest.mark.parametrize(
    ("principal", "condition", "concerns"),
    [
        ({"AWS": "*"}, {}, ["anybody"]),
        ("*", {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, []),
        (PARTNER, {}, ["no_external_id"]),
        (PARTNER, {"StringEquals": {"sts:ExternalId": "s"}}, []),
        (PARTNER, {"StringLike": {"sts:ExternalId": "*"}}, ["no_external_id"]),
        (PARTNER, {"StringNotEquals": {"sts:ExternalId": "s"}}, ["no_external_id"]),
        (PARTNER, {"StringEqualsIfExists": {"sts:ExternalId": "s"}}, ["no_external_id"]),
        (PARTNER, {"ForAllValues:StringEquals": {"sts:ExternalId": "s"}}, ["no_external_id"]),
        (PARTNER, {"ForAnyValue:StringEquals": {"sts:ExternalId": "s"}}, []),
        ({"AWS": "AIDAEXAMPLEEXAMPLE123"}, {}, ["deleted"]),
        # GitHub: one repository, any branch of it, an organization, a name that only begins so, none at all
        ({"Federated": GITHUB}, {"StringEquals": {SUB: "repo:shop/api:ref:refs/heads/main", **AUD}}, []),
        ({"Federated": GITHUB}, {"StringLike": {SUB: "repo:shop/api:*", **AUD}}, []),
        ({"Federated": GITHUB}, {"StringLike": {SUB: "repo:shop/*", **AUD}}, ["wide_subject"]),
        ({"Federated": GITHUB}, {"StringLike": {SUB: "repo:shop/api*:ref:refs/heads/main", **AUD}}, ["wide_subject"]),
        ({"Federated": GITHUB}, {"StringLike": {SUB: ["repo:shop/api:*", "*"], **AUD}}, ["wide_subject"]),
        ({"Federated": GITHUB}, {"StringEquals": AUD}, ["open_subject"]),
        ({"Federated": GITHUB}, {"StringNotEquals": {SUB: "repo:evil/x:*"}, "StringEquals": AUD}, ["open_subject"]),
        (
            {"Federated": GITHUB},  # both must hold, so the narrow one counts
            {"StringLike": {SUB: "repo:shop/*"}, "StringEquals": {SUB: "repo:shop/api:environment:prod", **AUD}},
            [],
        ),
        ({"Federated": GITHUB}, {"StringEquals": {SUB: "repo:shop/api:x"}}, ["no_audience"]),
        (
            {"Federated": GITHUB},
            {"StringEquals": {SUB: "repo:shop/api:x", f"{GITHUB_KEY}:aud": "https://other.example"}},
            ["other_audience"],
        ),
        # providers of the public: a pool or an app takes the place of a person
        (COGNITO, {"StringEquals": POOL, "ForAnyValue:StringLike": {f"{COGNITO_KEY}:amr": "authenticated"}}, []),
        (COGNITO, {"StringEquals": POOL, "ForAnyValue:StringLike": {f"{COGNITO_KEY}:amr": "unauth*"}}, ["guests"]),
        (COGNITO, {"StringEquals": {**POOL, f"{COGNITO_KEY}:amr": "unauthenticated"}}, ["guests"]),
        (COGNITO, {"StringEquals": POOL, "ForAllValues:StringLike": {f"{COGNITO_KEY}:amr": "auth"}}, ["guests"]),
        (COGNITO, {"StringEquals": POOL}, ["guests"]),
        (COGNITO, {"StringEquals": {f"{COGNITO_KEY}:amr": "authenticated"}}, ["open_subject"]),
        (COGNITO, {"StringLike": {f"{COGNITO_KEY}:aud": "*", f"{COGNITO_KEY}:amr": "authenticated"}}, ["open_subject"]),
        (COGNITO, {"StringEquals": {f"{COGNITO_KEY}:sub": "eu-west-1:person"}}, []),
        ({"Federated": "accounts.google.com"}, {"StringEquals": {"accounts.google.com:aud": "app"}}, ["app_users"]),
        ({"Federated": "graph.facebook.com"}, {"StringEquals": {"graph.facebook.com:app_id": "1"}}, ["app_users"]),
        ({"Federated": "www.amazon.com"}, {"StringEquals": {"www.amazon.com:app_id": "1"}}, ["app_users"]),
        ({"Federated": "www.amazon.com"}, {"StringLike": {"www.amazon.com:app_id": "*"}}, ["open_subject"]),
        ({"Federated": "accounts.google.com"}, {}, ["open_subject"]),
        ({"Federated": f"{EKS}2"}, {"StringEquals": {f"{EKS_KEY}2:aud": "sts.amazonaws.com"}}, ["open_subject"]),
        # Kubernetes
        (
            {"Federated": EKS},
            {"StringLike": {f"{EKS_KEY}:sub": "system:serviceaccount:*:*", f"{EKS_KEY}:aud": "sts.amazonaws.com"}},
            ["wide_subject"],
        ),
        ({"Federated": EKS}, {"StringEquals": {f"{EKS_KEY}:aud": "sts.amazonaws.com"}}, ["open_subject"]),
        ({"Service": "pods.eks.amazonaws.com"}, {}, ["no_pod"]),
        # certificates
        (ROLES_ANYWHERE, {}, ["no_anchor", "no_certificate"]),
        (ROLES_ANYWHERE, ANCHOR, ["no_certificate"]),
        (ROLES_ANYWHERE, {"StringEquals": {"aws:PrincipalTag/x509Subject/CN": "build"}}, ["no_anchor"]),
        (ROLES_ANYWHERE, {**ANCHOR, "StringLike": {"aws:PrincipalTag/x509Subject/CN": "*"}}, ["no_certificate"]),
        (ROLES_ANYWHERE, {**ANCHOR, "StringEquals": {"aws:PrincipalTag/x509Subject/CN": "build"}}, []),
        # services that can say on whose behalf they act, and one that cannot
        ({"Service": "states.amazonaws.com"}, {}, ["no_source"]),
        ({"Service": "states.eu-west-1.amazonaws.com"}, {}, ["no_source"]),
        ({"Service": "states.amazonaws.com"}, {"StringEquals": {"aws:SourceAccount": PROD}}, []),
        ({"Service": "states.amazonaws.com"}, {"ArnLike": {"aws:SourceArn": "*"}}, ["no_source"]),
        ({"Service": "states.amazonaws.com"}, {"ArnLike": {"aws:SourceArn": "arn:aws:states:*:*:*"}}, ["no_source"]),
        ({"Service": "states.amazonaws.com"}, {"ArnLike": {"aws:SourceArn": f"arn:aws:states:*:{PROD}:*"}}, []),
        ({"Service": "ec2.amazonaws.com"}, {}, []),
    ],
)
def test_what_is_wrong_with_a_trust_policy_is_said(principal, condition, concerns):
    said = [concern for sign in found(principal, condition).signs for concern in sign.concerns]
    assert said == concerns


LIMITS = [
    {"StringEquals": {"aws:PrincipalOrgID": "o-1"}},
    {"StringEquals": {"aws:PrincipalOrgID": "${aws:ResourceOrgID}"}},
    {"StringEqualsIgnoreCase": {"aws:PrincipalAccount": [PROD, SANDBOX]}},
    {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-1/r-1/ou-1/*"}},
    {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/*"}},
    {"StringLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/*"}},
    {"StringLike": {"aws:userid": "AROAEXAMPLEEXAMPLE123:*"}},
    {"StringEquals": {"aws:SourceVpce": "vpce-1"}},
    {"StringEquals": {"aws:SourceVpc": "vpc-1"}},
    {"StringEquals": {"aws:SourceAccount": PROD}},
    {"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "2001:db8::/32"]}},
    {"Bool": {"aws:MultiFactorAuthPresent": "true"}, "StringEquals": {"aws:PrincipalOrgID": "o-1"}},
]
LIMITS_OF_NOTHING = [
    {"Bool": {"aws:SecureTransport": "true"}},
    {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
    {"Null": {"aws:PrincipalOrgID": "false"}},
    {"StringNotEquals": {"aws:PrincipalAccount": "999988887777"}},
    {"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}},
    {"ForAllValues:StringLike": {"aws:PrincipalOrgPaths": "o-1/*"}},
    {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "*/ou-1/*"}},
    {"StringLike": {"aws:PrincipalOrgID": "*"}},
    {"StringLike": {"aws:PrincipalOrgID": ["o-1", "o-?*"]}},
    {"StringEquals": {"aws:PrincipalAccount": "${aws:PrincipalAccount}"}},
    {"StringEquals": {"aws:PrincipalAccount": []}},
    {"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/deploy"}},
    {"StringLike": {"aws:PrincipalArn": "arn:aws:iam::*111122223333:role/*"}},
    {"StringLike": {"aws:PrincipalArn": "*:111122223333:role/deploy"}},
    {"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/*"}},
    {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::bucket"}},
    {"StringLike": {"aws:userid": "*:alice"}},
    {"StringEquals": {"aws:PrincipalTag/team": "shop"}},
    {"StringEquals": {"aws:username": "alice"}},
    {"StringEquals": {"sts:ExternalId": "x"}},
    {"StringLike": {"sts:ExternalId": "*"}},
    {"StringEquals": {"sts:RoleSessionName": "x"}},
    {"IpAddress": {"aws:VpcSourceIp": "10.0.0.0/16"}},
    {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}},
    {"IpAddress": {"aws:SourceIp": ["0.0.0.0/1", "128.0.0.0/1"]}},
    {"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "::/0"]}},
    {"IpAddress": {"aws:SourceIp": "not an address"}},
    {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}},
]


@pytest.mark.parametrize("condition", LIMITS)
def test_a_condition_that_names_whom_to_let_in_keeps_strangers_out(condition):
    for principal in ("*", {"AWS": "*"}):
        sign = found(principal, condition)
        assert (sign.classification, sign.signs[0].concerns) == ("anybody", ())
        assert "under conditions" in sign.evidence


@pytest.mark.parametrize("condition", LIMITS_OF_NOTHING)
def test_a_condition_that_strangers_can_meet_is_no_limit(condition):
    not_me = {key: value for key, value in allow("*", condition).items() if key != "Principal"}
    not_me["NotPrincipal"] = {"AWS": PROD}
    for sign in (found("*", condition), found({"AWS": ["*"]}, condition), classify(role(not_me), [], {PROD})):
        assert (sign.classification, sign.signs[0].concerns) == ("anybody", (Concern.ANYBODY,))
        assert "name no organization, account or network" in sign.evidence


OURS = {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}


@pytest.mark.parametrize(
    ("keeps_out", "denial"),
    [
        (True, {"Condition": OURS}),
        (True, {"Condition": {**OURS, "BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}}),
        (True, {"Condition": {"StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}, "Action": "sts:*"}),
        (True, {"Condition": {**OURS, "ArnNotLike": {"aws:PrincipalArn": f"arn:aws:iam::{SANDBOX}:role/x"}}}),
        (True, {"Condition": {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, "Principal": {"AWS": ["*"]}}),
        (False, {"Condition": {**OURS, "Bool": {"aws:SecureTransport": "false"}}}),
        (False, {"Condition": {**OURS, "ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/x"}}}),
        (False, {"Condition": {"StringNotLike": {"aws:PrincipalOrgID": ["o-1", "*"]}}}),
        (False, {"Condition": {"ForAnyValue:StringNotLike": {"aws:PrincipalOrgPaths": "o-1/*"}}}),
        (False, {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}),
        (False, {"Condition": {"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}}),
        (False, {"Condition": OURS, "Principal": {"AWS": "999900001111"}}),
        (False, {"Condition": OURS, "Action": "sts:TagSession"}),
        (False, {"Condition": OURS, "Effect": "Allow"}),
    ],
)
def test_a_denial_of_everybody_else_keeps_strangers_out(keeps_out, denial):
    trust = role(allow("*"), {**allow("*"), "Effect": "Deny", **denial})
    concerns = {concern for sign in classify(trust, [], {PROD, SANDBOX}).signs for concern in sign.concerns}
    assert concerns == (set() if keeps_out else {Concern.ANYBODY})


@pytest.mark.parametrize(
    ("keeps_out", "denial"),
    [
        (True, {"NotPrincipal": {"AWS": f"arn:aws:iam::{PROD}:root"}}),
        (True, {"NotPrincipal": {"AWS": [PROD, f"arn:aws:iam::{PROD}:role/r"], "Service": "ec2.amazonaws.com"}}),
        (False, {"NotPrincipal": "*"}),
        (False, {"NotPrincipal": {"AWS": [PROD, "*"]}}),
        (False, {"NotPrincipal": {"Federated": GITHUB}}),
        (False, {"NotPrincipal": {"AWS": PROD}, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}),
        (False, {"NotPrincipal": {"AWS": PROD}, "Action": "sts:TagSession"}),
    ],
)
def test_a_denial_of_all_but_some_keeps_strangers_out(keeps_out, denial):
    trust = role(allow("*"), {"Effect": "Deny", "Action": "sts:AssumeRole", **denial})
    concerns = {concern for sign in classify(trust, [], {PROD}).signs for concern in sign.concerns}
    assert concerns == (set() if keeps_out else {Concern.ANYBODY})


THEIRS = "999900001111"
THEIR_ROLES = f"arn:aws:iam::{THEIRS}:role/*"


@pytest.mark.parametrize(
    ("named", "condition", "denial"),
    [
        (THEIRS, {"StringEquals": {"aws:PrincipalAccount": THEIRS}}, {}),
        (THEIRS, {"StringEqualsIgnoreCase": {"aws:PrincipalAccount": [PROD, THEIRS]}}, {}),
        (THEIR_ROLES, {"ArnLike": {"aws:PrincipalArn": THEIR_ROLES}}, {}),
        (THEIR_ROLES, {"ForAnyValue:StringLike": {"aws:PrincipalArn": THEIR_ROLES}}, {}),
        # a network or an organization does not tell one customer of theirs from another
        (THEIRS, {"StringEquals": {"aws:PrincipalAccount": THEIRS}, "IpAddress": {"aws:SourceIp": "203.0.113.9"}}, {}),
        (THEIRS, {}, {"Principal": "*", "Condition": {"StringNotEquals": {"aws:PrincipalAccount": THEIRS}}}),
        (
            THEIR_ROLES,
            {},
            {"Principal": "*", "Condition": {**OURS, "ArnNotLike": {"aws:PrincipalArn": THEIR_ROLES}}},
        ),
        (f"arn:aws:iam::{THEIRS}:root", {}, {"NotPrincipal": {"AWS": [PROD, f"arn:aws:iam::{THEIRS}:root"]}}),
        # a denial that spares a network too lets them in from there, whomever else it names
        (
            THEIRS,
            {"StringEquals": {"aws:PrincipalAccount": THEIRS}},
            {
                "Principal": "*",
                "Condition": {
                    "StringNotEquals": {"aws:PrincipalAccount": PROD},
                    "NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"},
                },
            },
        ),
        (
            THEIRS,
            {},
            {
                "Principal": "*",
                "Condition": {
                    "StringNotEquals": {"aws:PrincipalAccount": [PROD, THEIRS]},
                    "NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"},
                },
            },
        ),
    ],
)
def test_a_stranger_named_by_a_condition_is_a_third_party_as_one_named_by_the_principal(named, condition, denial):
    def signs(condition):
        denials = [{"Effect": "Deny", "Action": "sts:AssumeRole", **denial}] if denial else []
        return classify(role(allow("*", condition), *denials), [], {PROD, SANDBOX}).signs

    [sign] = signs(condition)
    assert (sign.classification, sign.concerns) == ("third_party", (Concern.NO_EXTERNAL_ID,))
    assert f"let in {named}, outside the organization, without an external id." in sign.evidence
    [sign] = signs({**condition, "StringEquals": {**condition.get("StringEquals", {}), "sts:ExternalId": "s"}})
    assert (sign.classification, sign.concerns) == ("third_party", ())
    assert f"let in {named}, outside the organization, with an external id." in sign.evidence


@pytest.mark.parametrize("account", [PROD, SANDBOX, "${aws:ResourceAccount}"])
def test_what_limits_a_trust_to_our_accounts_keeps_out_whoever_else_is_named(account):
    strangers = {"ArnLike": {"aws:PrincipalArn": [THEIR_ROLES, f"arn:aws:iam::{PROD}:role/*"]}}
    limited = found("*", {"StringEquals": {"aws:PrincipalAccount": account}, **strangers})
    assert (limited.classification, limited.signs[0].concerns) == ("anybody", ())


def test_a_role_trusts_its_own_account_though_no_list_of_ours_has_it():
    condition = {"StringEquals": {"aws:PrincipalAccount": PROD}}
    assert classify(role(allow("*", condition)), [], ()).classification == "anybody"


def test_every_class_that_a_role_shows_is_kept_with_its_statement():
    signs = classify(
        role(
            allow({"Service": "ec2.amazonaws.com"}, Sid="Servers"),
            allow(PARTNER),
            allow({"Service": "ec2.amazonaws.com"}, Sid="Servers"),
        ),
        [],
        {PROD},
    ).signs
    assert [(sign.classification, sign.statement) for sign in signs] == [
        ("third_party", "statement 2"),
        ("service", "Servers"),
    ]
    assert json.loads(json.dumps(signs[0].as_json())) == {
        "classification": "third_party",
        "confidence": "high",
        "evidence": signs[0].evidence,
        "statement": "statement 2",
        "concerns": ["no_external_id"],
    }


def test_what_only_tags_a_session_lets_nobody_in():
    tagging = allow("*", Action=["sts:TagSession", "sts:SetSourceIdentity"])
    assert classify(role(tagging), [], {PROD}).classification == "closed"
    assert classify(role(allow("*", Action="sts:*")), [], {PROD}).classification == "anybody"


@pytest.mark.parametrize(
    ("trust", "classification", "confidence"),
    [
        ({"Statement": [{"Effect": "Deny", "Action": "sts:AssumeRole", "Principal": "*"}]}, "closed", "high"),
        ("{broken", "unreadable", "low"),
        (None, "unreadable", "low"),
        (17, "unreadable", "low"),
        ("x" * 300_000, "unreadable", "low"),
        (
            {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "NotPrincipal": {"AWS": "x"}}]},
            "anybody",
            "high",
        ),
        ({"Statement": [allow({"AWS": {"odd": ["shape"]}})]}, "anybody", "high"),
        ({"Statement": [allow(["*"])]}, "closed", "high"),
        ({"Statement": [allow({"Service": [["nested"], None, 3]})]}, "service", "high"),
    ],
)
def test_a_trust_policy_that_is_closed_broken_or_odd(trust, classification, confidence):
    sign = classify(role(trust=trust), [], {PROD})
    assert (sign.classification, sign.confidence) == (classification, confidence)


@pytest.mark.parametrize(
    ("path", "classification"),
    [
        ("/aws-service-role/ecs.amazonaws.com/", "service_linked"),
        ("/aws-reserved/sso.amazonaws.com/eu-west-1/", "identity_center"),
    ],
)
def test_roles_that_aws_made_are_said_to_be(path, classification):
    assert (
        classify(role(allow({"Service": "ecs.amazonaws.com"}), path=path), [], {PROD}).classification == classification
    )


@pytest.mark.parametrize(
    ("credentials", "classification", "confidence", "concerns"),
    [
        ([("access_key", True)], "iam_user_with_keys", "high", []),
        ([("password", True), ("mfa", True)], "iam_user_console", "high", []),
        ([("password", True), ("access_key", False)], "iam_user_console", "medium", ["no_mfa"]),
        ([("access_key", True), ("password", True)], "iam_user_mixed", "low", ["password_and_key", "no_mfa"]),
        ([("access_key", True), ("password", True), ("mfa", True)], "iam_user_mixed", "low", ["password_and_key"]),
        ([("access_key", False), ("mfa", True)], "iam_user", "low", []),
    ],
)
def test_its_credentials_say_what_an_iam_user_is(credentials, classification, confidence, concerns):
    records = [CredentialRecord("u", kind, f"{n}", is_active) for n, (kind, is_active) in enumerate(credentials)]
    [sign] = classify(PrincipalRecord("iam_user", "u", "u", PROD), records, ()).signs
    assert (sign.classification, sign.confidence, [*sign.concerns]) == (classification, confidence, concerns)


def test_the_root_user_is_said():
    assert classify(PrincipalRecord("iam_root", "u", "u", PROD), [], ()).classification == Classification.ROOT


def test_a_role_with_a_thousand_principals_is_bounded_and_says_so():
    accounts = [f"{n:012}" for n in range(200000000000, 200000001000)]
    signs = classify(role(allow({"AWS": accounts})), [], {PROD}).signs
    assert len(signs) == MOST_SIGNS
    assert re.fullmatch(r"It has 989 more \([0-9a-f]{16}\) signs that are not listed\.", signs[-1].evidence)


@pytest.mark.parametrize("length", [2, 12, 100])
def test_another_door_among_those_not_shown_is_another_fact(length):
    """Accounts of strangers, and subjects in one sentence: too many to list, or too long to be written out."""

    def evidence(last):
        names = [f"{'0' * length}{n}" for n in (1, 2, 3, 4, 5, last)]
        vendors = [f"{n:012}" for n in range(200000000000, 200000000020)] + [f"2000000001{last:02}"]
        subjects = {"StringLike": {SUB: [f"repo:{name}/*" for name in names]}}
        documents = role(allow({"AWS": vendors})), role(allow({"Federated": GITHUB}, subjects))
        return [[sign.as_json()["evidence"] for sign in classify(one, [], {PROD}).signs] for one in documents]

    once, again, other = evidence(6), evidence(6), evidence(7)
    assert once == again
    assert all(a != b for a, b in zip(once, other, strict=True))
    assert all(len(sentence) <= 420 for said in once for sentence in said)


def test_every_concern_is_told_to_people_and_the_worst_are_known():
    assert {*HIGH} < {*Concern}
    assert all(concern.label.endswith(".") for concern in Concern)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["*", "Allow", "sts:AssumeRole"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["AWS", "Service", "Federated", "StringLike", "x:sub", "y"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
STATEMENT = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Deny"]), "Action": st.sampled_from(["sts:AssumeRole", "sts:*"]) | JSON},
    optional={"Principal": JSON, "Condition": JSON, "NotPrincipal": JSON, "Sid": st.text(max_size=5)},
)


@settings(max_examples=60, deadline=None)
@given(JSON | st.text(max_size=40) | st.fixed_dictionaries({"Statement": st.lists(STATEMENT, max_size=3)}))
def test_no_trust_document_crashes_a_reading_and_every_one_gets_a_class(document):
    found = classify(role(trust=document), [], {PROD})
    assert found.classification in Classification
    assert found.confidence in Confidence
    assert 1 <= len(found.signs) <= MOST_SIGNS
    assert all(len(json.dumps(sign.as_json())) < 5_000 for sign in found.signs)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["ec2.amazonaws.com", "states.amazonaws.com", "pods.eks.amazonaws.com"]), max_size=4))
def test_trusting_somebody_more_never_makes_the_headline_better(services):
    alone = [allow({"Service": service}) for service in services]
    with_anybody = classify(role(*alone, allow("*")), [], {PROD})
    assert with_anybody.classification == "anybody"
    assert Concern.ANYBODY in with_anybody.signs[0].concerns


@pytest.mark.parametrize("crowd", [12, 1000])
def test_a_crowd_of_principals_hides_no_open_door(crowd):
    strangers = [f"{n:012}" for n in range(200000000000, 200000000000 + crowd)]
    known = allow({"AWS": strangers}, {"StringEquals": {"sts:ExternalId": "ours"}})
    signs = classify(role(known, allow({"AWS": "999999999999"})), [], {PROD}).signs
    assert "no_external_id" in {concern for sign in signs for concern in sign.concerns}


def test_what_is_wrong_with_signs_that_are_not_listed_is_said():
    doors = [allow({"AWS": f"{n:012}"}) for n in range(200000000000, 200000000020)]
    provider = f"arn:aws:iam::{PROD}:oidc-provider/token.actions.githubusercontent.com"
    doors.append(allow({"Federated": provider}))
    *_, last = classify(role(*doors), [], {PROD}).signs
    assert "not listed" in last.evidence
    assert {"no_external_id", "open_subject"} <= {*last.concerns}
