"""What people type about the inventory, parsed and checked against the rows that it may be about."""

from __future__ import annotations

from typing import Any

from django import forms

from apps.inventory.models import Connection, Identity
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


class EnvironmentForm(forms.Form):
    """What an account is for. Empty: as the organization's tree says."""

    environment = forms.ChoiceField(
        required=False, choices=[("", "As the organization says"), *Environment.choices], label="Environment"
    )

    def clean_environment(self) -> Environment | None:
        value = self.cleaned_data["environment"]
        return Environment(value) if value else None


class LinkForm(forms.Form):
    """The portal user that a person is."""

    user = forms.EmailField(label="Sign-in e-mail")

    def clean_user(self) -> User:
        found = User.objects.filter(email__iexact=self.cleaned_data["user"], is_active=True).first()
        if found is None:
            raise forms.ValidationError("Nobody signs in with this e-mail. Invite them first.")
        return found
