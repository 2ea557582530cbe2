"""What people type about the inventory, parsed and checked against the rows that it may be about."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

from django import forms
from django.db.models import Q
from django.utils import timezone

from apps.inventory.models import Connection, Identity, Principal
from apps.inventory.models.connections import FREE_OPTIONS, OPTIONS, is_region
from apps.inventory.models.holders import Classification
from apps.inventory.models.resources import Environment
from apps.users.models import User


class OwnerForm(forms.Form):
    """An owner by e-mail, within one connection. Empty: nobody, so that tags decide again."""

    owner = forms.EmailField(required=False, label="Owner's e-mail", help_text="Empty leaves it to the tags.")

    def __init__(self, *args: Any, connection: Connection, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.people = Identity.objects.present().human().filter(connection=connection)

    def clean_owner(self) -> Identity | None:
        email = self.cleaned_data["owner"]
        if not email:
            return None
        found = list(self.people.filter(email__iexact=email)[:2])
        if len(found) != 1:
            raise forms.ValidationError("Nobody, or more than one person, has this e-mail in the directory.")
        return found[0]


class SuccessorForm(OwnerForm):
    """Who answers for a machine once its owner has left. Empty: nobody."""

    owner = forms.EmailField(required=False, label="Successor's e-mail", help_text="Empty names nobody.")


class CorrectionForm(forms.Form):
    """What a machine really is. `PERSON`: this IAM user is somebody's login."""

    PERSON = "person"

    what = forms.ChoiceField(label="It is")
    reason = forms.CharField(
        label="Why",
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="The next person who looks at it reads this.",
    )

    def __init__(self, *args: Any, is_iam_user: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        person = [(self.PERSON, "A person's login")] if is_iam_user else []
        choice = self.fields["what"]
        assert isinstance(choice, forms.ChoiceField)
        choice.choices = [("", "Choose"), *person, *Classification.choices]

    @property
    def is_person(self) -> bool:
        return bool(self.cleaned_data["what"] == self.PERSON)

    @property
    def classification(self) -> Classification | None:
        return None if self.is_person else Classification(self.cleaned_data["what"])


class DescriptionForm(forms.Form):
    """What a machine is for, and who would notice if it stopped."""

    purpose = forms.CharField(
        required=False,
        max_length=1000,
        label="What it is for",
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    consumers = forms.CharField(
        required=False,
        max_length=1000,
        label="Who relies on it",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Teams, services or systems, in your words.",
    )


class LoginForm(forms.Form):
    """Whose login an IAM user is: what was pressed, and for another person than the proposed one their e-mail."""

    choice = forms.ChoiceField(choices=[(name, name) for name in ("proposed", "person", "machine", "later", "unlink")])
    person = forms.EmailField(
        required=False, label="Work e-mail", help_text="Of the person who signs in to AWS with it."
    )
    reason = forms.CharField(
        required=False,
        max_length=500,
        label="Why",
        widget=forms.TextInput,
        help_text="The next person who wonders reads this.",
    )

    def __init__(self, *args: Any, principal: Principal, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        theirs = Identity.objects.filter(
            correlations__principal=principal
        )  # a rule's word is confirmed of a leaver too
        here = Q(ended_at=None) | Q(pk__in=theirs)
        self.people = Identity.objects.human().filter(here, connection=principal.connection_id)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("choice") == "person" and "person" in cleaned:
            found = list(self.people.filter(email__iexact=cleaned["person"])[:2]) if cleaned["person"] else []
            if len(found) != 1:
                self.add_error("person", "Give the work e-mail of exactly one person of the directory.")
            else:
                cleaned["whose"] = found[0]
        return cleaned


class EnvironmentForm(forms.Form):
    """What an account is for. Empty: as the organization's tree says."""

    environment = forms.ChoiceField(
        required=False, choices=[("", "As the organization says"), *Environment.choices], label="Environment"
    )

    def clean_environment(self) -> Environment | None:
        value = self.cleaned_data["environment"]
        return Environment(value) if value else None


class HrFileForm(forms.Form):
    """The people team's file."""

    file = forms.FileField(label="CSV file", max_length=200)


class LinkForm(forms.Form):
    """The portal user that a person is."""

    user = forms.EmailField(label="Sign-in e-mail")

    def clean_user(self) -> User:
        found = User.objects.filter(email__iexact=self.cleaned_data["user"], is_active=True).first()
        if found is None:
            raise forms.ValidationError("Nobody signs in with this e-mail. Invite them first.")
        return found


class ConnectionForm(forms.Form):
    """Where a connection reads and as whom. Empty options are what deploy/aws makes. Never a key, never an address that
    we would call: those come from the environment of the worker."""

    OPTIONS = (
        *("reader_role", "provisioner_role", "remover_role", "change_queue", "start_url", "schedule_dlq"),
        *("trail_bucket", "trail_prefix", "trail_account"),
    )

    name = forms.SlugField(
        max_length=60, label="Name", help_text="Letters, digits and hyphens. It cannot be changed later."
    )
    region = forms.CharField(
        max_length=30, label="Home Region of Identity Center", validators=[is_region], initial="us-east-1"
    )
    drop_percent = forms.IntegerField(
        min_value=1,
        max_value=100,
        initial=30,
        label="Drop brake, in percent",
        help_text="A reading that would end more than this share of an account's assignments stops and asks a person.",
    )
    change_queue = forms.CharField(
        required=False, label="Change queue", help_text="The queue that feed.yaml made in the hub: gatehouse-changes."
    )
    start_url = forms.CharField(
        required=False,
        label="Access portal",
        help_text="Where people sign in to AWS, https://example.awsapps.com/start.",
    )
    trail_bucket = forms.CharField(
        required=False, label="Bucket of the audit trail", help_text="Where CloudTrail puts its files; its name only."
    )
    trail_account = forms.CharField(
        required=False, label="Account of that bucket", help_text="Empty: the hub. Its member.yaml lets us read it."
    )
    trail_prefix = forms.CharField(
        required=False, label="Prefix of its files", help_text="What stands before AWSLogs; empty for most."
    )
    reader_role = forms.CharField(required=False, label="Role that reads")
    provisioner_role = forms.CharField(required=False, label="Role that gives access for a time")
    remover_role = forms.CharField(required=False, label="Role that takes standing access away")
    schedule_dlq = forms.CharField(
        required=False, label="Queue of failed ends", help_text="The queue that region.yaml made: jit-failed-ends."
    )

    def __init__(self, *args: Any, connection: Connection | None = None, **kwargs: Any) -> None:
        self.connection = connection
        if connection:
            shown = {"region": connection.region, "drop_percent": connection.drop_percent, **connection.options}
            kwargs["initial"] = shown | kwargs.get("initial", {})
        super().__init__(*args, **kwargs)
        defaults = (connection or Connection()).config
        for option in self.OPTIONS:
            self.fields[option].max_length = 120  # type: ignore[attr-defined]
            self.fields[option].widget.attrs["placeholder"] = (
                defaults.get(option, "") if option.endswith("role") else ""
            )
        if connection:
            del self.fields["name"]
        if connection and connection.is_fixed:
            for field in ("region", *(set(self.OPTIONS) - {*FREE_OPTIONS})):
                self.fields[field].disabled = True

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        for option in self.OPTIONS:
            value, (shape, advice) = cleaned.get(option), OPTIONS[option]
            if value and not shape.fullmatch(value):
                self.add_error(option, advice)
        if "name" in self.fields and Connection.objects.filter(name=cleaned.get("name")).exists():
            self.add_error("name", "There is a connection of this name. Choose another.")
        return cleaned

    @property
    def has_role_errors(self) -> bool:
        """Whether something is wrong in the part that is folded away."""
        return bool({*self.errors} & {"reader_role", "provisioner_role", "remover_role", "schedule_dlq"})

    @property
    def options(self) -> dict[str, Any]:
        """Everything that is not left at its default, with what was set elsewhere and is not shown here."""
        kept = dict(self.connection.options) if self.connection else {}
        for option in self.OPTIONS:
            kept.pop(option, None)
        return kept | {option: self.cleaned_data[option] for option in self.OPTIONS if self.cleaned_data.get(option)}


class DateInput(forms.DateInput):
    """The browser's own, which phones show as a wheel."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__({"class": "form-control"}, "%Y-%m-%d")


class HistoryForm(forms.Form):
    """A day that has come, today where none is said, and perhaps an earlier one to compare it with. Days in UTC."""

    on = forms.DateField(required=False, label="On", widget=DateInput())
    since = forms.DateField(required=False, label="Compared with", widget=DateInput())

    def clean_on(self) -> date:
        chosen: date = self.cleaned_data["on"] or _today()
        if chosen > _today():
            raise forms.ValidationError("That day has not come yet. Choose today or an earlier one.")
        return chosen

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        on, since = cleaned.get("on"), cleaned.get("since")
        if on and since and since >= on:
            self.add_error("since", "Choose a day before the other one.")
        return cleaned


def _today() -> date:
    return timezone.now().astimezone(UTC).date()
