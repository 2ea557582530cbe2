"""What people type about reviews, parsed and checked against the rows that it may be about."""

from __future__ import annotations

from datetime import datetime, time

from django import forms
from django.utils import timezone

from apps.inventory.models import Connection, Resource
from apps.inventory.models.resources import Environment
from apps.reviews.models import Choice, Holder
from apps.users.models import User


def somebody(email: str) -> User:
    """The user who signs in with this address."""
    found = User.objects.filter(email__iexact=email, is_active=True).first()
    if found is None:
        raise forms.ValidationError("Nobody signs in with this address. Look for a typing error.")
    return found


class DraftForm(forms.Form):
    """The scope of a campaign, its end and its fallback."""

    name = forms.CharField(max_length=120, label="Name")
    connection = forms.ModelChoiceField(
        Connection.objects.exclude(baselined_at=None), label="Where", empty_label=None, help_text="With a baseline."
    )
    holders = forms.MultipleChoiceField(
        choices=Holder.choices, label="Whose access", widget=forms.CheckboxSelectMultiple, initial=Holder.values
    )
    privileged_only = forms.BooleanField(
        required=False, initial=True, label="Only privileged access: admin, privileged, and what is unknown"
    )
    environments = forms.MultipleChoiceField(
        required=False,
        choices=[choice for choice in Environment.choices if choice[0] != Environment.UNKNOWN],
        label="Environments",
        widget=forms.CheckboxSelectMultiple,
        help_text="None picked means all. Production includes accounts that nobody classified.",
    )
    resource = forms.ModelChoiceField(
        Resource.objects.present().select_related("connection"),
        required=False,
        label="One account",
        empty_label="Every",
    )
    due_on = forms.DateField(
        label="Due on", widget=forms.DateInput(attrs={"type": "date"}), help_text="The end of this day, UTC."
    )
    fallback = forms.EmailField(
        label="Fallback reviewer",
        help_text="Their address. They review what has no manager or owner who can, never their own.",
    )
    instructions = forms.CharField(
        required=False,
        max_length=2000,
        label="What reviewers read first",
        widget=forms.Textarea(attrs={"rows": "3"}),
    )

    def clean_due_on(self) -> datetime:
        due_at = datetime.combine(self.cleaned_data["due_on"], time(23, 59, 59), tzinfo=timezone.get_default_timezone())
        if due_at <= timezone.now():
            raise forms.ValidationError("Choose today or a later day.")
        return due_at

    def clean_fallback(self) -> User:
        return somebody(self.cleaned_data["fallback"])


class DecisionForm(forms.Form):
    """Keep or revoke. Whether a reason is missing is for the service to say."""

    choice = forms.ChoiceField(choices=[(Choice.KEEP, "Keep"), (Choice.REVOKE, "Revoke")])
    reason = forms.CharField(required=False, max_length=1000)


def picked(values: list[str]) -> list[int]:
    """The ids of the rows somebody picked in a list; what is no id was not picked."""
    return [int(value) for value in values if value.isascii() and value.isdigit() and len(value) < 19]


def said_by(form: forms.Form) -> str:
    """Everything a form refuses, in one line."""
    return " ".join(str(error) for errors in form.errors.values() for error in errors)


class PassOnForm(forms.Form):
    """To whom, and why."""

    to = forms.EmailField(label="Address of the new reviewer")
    reason = forms.CharField(max_length=1000, label="Why")

    def clean_to(self) -> User:
        return somebody(self.cleaned_data["to"])


class CloseForm(forms.Form):
    """Closing with what is left as exceptions needs a note; the service says when."""

    force = forms.BooleanField(required=False)
    note = forms.CharField(required=False, max_length=1000)
