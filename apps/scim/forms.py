"""What administrators type about identity providers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from apps.inventory.models import Connection, Identity

DAYS = [("90", "90 days"), ("180", "180 days"), ("365", "A year"), ("", "Never")]


class SourceForm(forms.Form):
    name = forms.CharField(max_length=60, label="Name", help_text="As people here call it, for example Okta.")
    connection = forms.ModelChoiceField(
        Connection.objects.all(),
        label="Whose people",
        empty_label=None,
        help_text="The connection they have access in.",
    )
    subject_is_external_id = forms.BooleanField(
        required=False,
        label="Its external ids are the subjects that people sign in with",
        help_text="So with Okta: both are the user id. Whoever signs in with one is then linked by it too.",
    )


class TokenForm(forms.Form):
    expires = forms.ChoiceField(choices=DAYS, required=False, initial="365", label="Expires after")

    def clean_expires(self) -> datetime | None:
        days = self.cleaned_data["expires"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class LinkForm(forms.Form):
    """The person that a user is, by e-mail: an administrator looks somebody up by it, and then says that it is they."""

    person = forms.EmailField(label="E-mail in the directory")

    def __init__(self, *args: Any, connection: Connection, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.people = Identity.objects.human().filter(connection=connection)

    def clean_person(self) -> Identity:
        found = list(self.people.filter(email__iexact=self.cleaned_data["person"])[:2])
        if len(found) != 1:
            raise forms.ValidationError("Nobody, or more than one person, has this e-mail in the directory.")
        return found[0]
