"""What people type about findings."""

from __future__ import annotations

from django import forms

DAYS = [(30, "30 days"), (90, "90 days"), (180, "180 days"), (365, "A year")]


class AcceptForm(forms.Form):
    """How long it may stay, and why."""

    days = forms.TypedChoiceField(label="For", choices=DAYS, coerce=int, initial=90, widget=forms.RadioSelect)
    reason = forms.CharField(label="Why it may stay", max_length=1000, widget=forms.Textarea(attrs={"rows": 2}))


class ResolveForm(forms.Form):
    """What was done about it."""

    reason = forms.CharField(label="What was done", max_length=1000, widget=forms.Textarea(attrs={"rows": 2}))
