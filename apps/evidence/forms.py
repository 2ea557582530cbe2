"""What an auditor asks for."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django import forms

from apps.evidence.selection import midnight
from apps.evidence.wording import AREAS


class DateInput(forms.DateInput):
    input_type = "date"

    def __init__(self) -> None:
        super().__init__({"class": "form-control"}, "%Y-%m-%d")


class PeriodForm(forms.Form):
    """Whole days in UTC, both included."""

    start = forms.DateField(label="From", widget=DateInput())
    end = forms.DateField(label="To", widget=DateInput(), help_text="This day is included. Days in UTC.")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        start, end = values.get("start"), values.get("end")
        if start and end and end < start:
            self.add_error("end", "This is before the first day.")
        if end and end >= date.max:
            self.add_error("end", "This day is too far away.")
        return values

    @property
    def period(self) -> tuple[datetime, datetime]:
        """From the first instant, included, to the last, excluded."""
        start, end = self.cleaned_data["start"], self.cleaned_data["end"]
        return midnight(start), midnight(end + timedelta(days=1))


class FilterForm(forms.Form):
    """The filters of the audit page; each may be left out."""

    start = forms.DateField(label="From", required=False, widget=DateInput())
    end = forms.DateField(label="To", required=False, widget=DateInput())
    kind = forms.ChoiceField(required=False, choices=[("", "Any"), *AREAS])
    actor = forms.CharField(required=False, max_length=64)
    ref = forms.CharField(required=False, max_length=120)
    q = forms.CharField(required=False, max_length=200)

    def clean_end(self) -> date | None:
        end: date | None = self.cleaned_data["end"]
        if end and end >= date.max:
            raise forms.ValidationError("This day is too far away.")
        return end
