"""What is wrong with how a machine may be used, as far as its trust policy and its credentials show."""

from __future__ import annotations

from django.db import models


class Concern(models.TextChoices):
    """One weakness of a trust policy or of a login. The word is kept on the identity; the sentence is for people."""

    ANYBODY = "anybody", "Anybody with an AWS account can try it."
    NO_EXTERNAL_ID = (
        "no_external_id",
        "A third party uses it without an external id, so another customer of theirs could.",
    )
    OPEN_SUBJECT = "open_subject", "It does not say whose token it takes: everybody the provider vouches for is let in."
    APP_USERS = "app_users", "Everybody with an account at the provider who signs in to the app is let in."
    GUESTS = "guests", "It does not ask for a sign-in: guests of the identity pool are let in, if the pool has guests."
    WIDE_SUBJECT = "wide_subject", "The subject has a wildcard where it should name one repository or service account."
    NO_AUDIENCE = "no_audience", "It does not check that the token was made for AWS (aud)."
    OTHER_AUDIENCE = "other_audience", "It takes tokens that were made for something else than sts.amazonaws.com."
    NO_ANCHOR = "no_anchor", "It names no trust anchor (aws:SourceArn), so certificates of every anchor open it."
    NO_CERTIFICATE = "no_certificate", "It does not say which certificate, so every certificate of the anchor opens it."
    NO_SOURCE = "no_source", "It does not say on whose behalf the service acts (aws:SourceAccount or aws:SourceArn)."
    NO_POD = (
        "no_pod",
        "It does not say which namespace and service account: every association in the account can use it.",
    )
    DELETED = "deleted", "Who it trusts was deleted, so nobody can use this any more. Clean it up."
    PASSWORD_AND_KEY = "password_and_key", "One login for a person and a program: nobody can tell who acted."
    NO_MFA = "no_mfa", "A password without a second factor."


# Of the worst first; the rest is worth knowing.
HIGH = (
    Concern.ANYBODY,
    Concern.NO_EXTERNAL_ID,
    Concern.OPEN_SUBJECT,
    Concern.WIDE_SUBJECT,
    Concern.NO_ANCHOR,
    Concern.NO_CERTIFICATE,
)
