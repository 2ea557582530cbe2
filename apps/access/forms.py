"""Parsing what people ask and decide."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import forms

from apps.access.models import Offer
from apps.access.services.offers import Way
from apps.connectors.aws.ingress import PROTOCOLS
from apps.core import words
from apps.inventory.models import Principal, Resource
from apps.rules.evaluation import CHOICES


class AskForm(forms.Form):
    """How long, why, for whom."""

    duration = forms.TypedChoiceField(label="How long", widget=forms.RadioSelect, coerce=int)
    principal = forms.TypedChoiceField(label="Who is to hold it", coerce=int)
    reason = forms.CharField(
        label="Why do you need it?", max_length=1000, widget=forms.Textarea(attrs={"rows": 2}), strip=True
    )
    ticket_ref = forms.CharField(label="Ticket", max_length=100, required=False, strip=True)

    def __init__(self, *args: Any, offer: Offer, holders: list[Principal], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spans = [choice for choice in CHOICES if choice <= offer.max_for] or [offer.max_for]
        self.fields["duration"].choices = [(int(span.total_seconds()), words.duration(span)) for span in spans]  # type: ignore[attr-defined]
        self.fields["principal"].choices = [(holder.pk, str(holder.identity or holder)) for holder in holders]  # type: ignore[attr-defined]
        self._holders = {holder.pk: holder for holder in holders}
        if len(holders) == 1:
            self.fields["principal"].widget = forms.HiddenInput()
            self.initial.setdefault("principal", holders[0].pk)

    def clean_duration(self) -> timedelta:
        return timedelta(seconds=self.cleaned_data["duration"])

    def clean_principal(self) -> Principal:
        return self._holders[self.cleaned_data["principal"]]


class ExtendForm(forms.Form):
    """How much longer, and why."""

    longer = forms.TypedChoiceField(label="How much longer", widget=forms.RadioSelect, coerce=int)
    reason = forms.CharField(
        label="Why do you need it longer?", max_length=1000, widget=forms.Textarea(attrs={"rows": 2}), strip=True
    )

    def __init__(self, *args: Any, spans: Iterable[timedelta], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["longer"].choices = [(int(span.total_seconds()), words.duration(span)) for span in spans]  # type: ignore[attr-defined]

    def clean_longer(self) -> timedelta:
        return timedelta(seconds=self.cleaned_data["longer"])


class DecideForm(forms.Form):
    """An approver's yes or no."""

    choice = forms.ChoiceField(choices=[("approve", "Approve"), ("deny", "Deny")])
    reason = forms.CharField(label="Reason", max_length=1000, required=False, strip=True)
    credential = forms.JSONField(required=False)  # the browser's answer, where a passkey signs


class PolicyForm(forms.Form):
    """Define a dated policy for IAM users and roles of one account, and offer it."""

    account = forms.ModelChoiceField(Resource.objects.present().order_by("name"), label="Account", empty_label=None)
    name = forms.CharField(label="Name", max_length=120, strip=True, help_text="Say what one can do with it.")
    slug = forms.SlugField(label="Short name", max_length=60, help_text="Small letters, digits and hyphens.")
    description = forms.CharField(label="Description", max_length=500, required=False, strip=True)
    actions = forms.CharField(
        label="Actions", widget=forms.Textarea(attrs={"rows": 3}), help_text="One a line, like s3:GetObject."
    )
    resources = forms.CharField(
        label="Resources", widget=forms.Textarea(attrs={"rows": 3}), help_text="One ARN a line, or *."
    )
    provisioner = forms.ChoiceField(
        label="Who can have it",
        choices=[
            ("iam_timeboxed_policy", "IAM users and roles of the account, in a policy of theirs"),
            ("iam_jit_role", "People of Identity Center, as a role of their own"),
        ],
        initial="iam_timeboxed_policy",
        required=False,
    )
    hours = forms.IntegerField(label="At most, hours at a time", min_value=1, max_value=12, initial=4)

    def clean_provisioner(self) -> str:
        return self.cleaned_data["provisioner"] or "iam_timeboxed_policy"

    def clean_actions(self) -> list[str]:
        return self.cleaned_data["actions"].split()

    def clean_resources(self) -> list[str]:
        return self.cleaned_data["resources"].split()

    def clean_hours(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["hours"])


class OpeningForm(forms.Form):
    """Define a network opening in one account, and offer it."""

    account = forms.ModelChoiceField(Resource.objects.present().order_by("name"), label="Account", empty_label=None)
    name = forms.CharField(label="Name", max_length=120, strip=True, help_text="Say what one can reach.")
    slug = forms.SlugField(label="Short name", max_length=60, help_text="Small letters, digits and hyphens.")
    description = forms.CharField(label="Description", max_length=500, required=False, strip=True)
    region = forms.CharField(label="Region", max_length=30, strip=True, help_text="Of the security group.")
    group_id = forms.CharField(
        label="Security group", max_length=30, strip=True, help_text="Its id, like sg-0123456789abcdef0."
    )
    protocol = forms.ChoiceField(label="Protocol", choices=[(one, one) for one in PROTOCOLS])
    from_port = forms.IntegerField(label="First port", min_value=1, max_value=65535)
    to_port = forms.IntegerField(
        label="Last port", min_value=1, max_value=65535, required=False, help_text="Empty: the same."
    )
    source = forms.CharField(
        label="Where from",
        max_length=60,
        strip=True,
        help_text="A network like 10.1.0.0/24, or the id of a security group of the same account.",
    )
    hours = forms.IntegerField(label="At most, hours at a time", min_value=1, max_value=12, initial=4)

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("to_port") is None and "from_port" in given:
            given["to_port"] = given["from_port"]
        return given

    def clean_hours(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["hours"])


class OfferForm(forms.Form):
    """Put one entitlement into the catalogue, opened and ended in one of the ways that fit it."""

    provisioner = forms.ChoiceField(label="Opened and ended by", widget=forms.RadioSelect)
    hours = forms.IntegerField(label="At most, hours at a time", min_value=1, max_value=12, initial=4)

    def __init__(self, *args: Any, ways: list[Way], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(way.name, way.title) for way in ways if not way.why_not]
        self.fields["provisioner"].choices = choices  # type: ignore[attr-defined]
        if len(choices) == 1:
            self.initial.setdefault("provisioner", choices[0][0])

    def clean_hours(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["hours"])
