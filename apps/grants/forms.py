"""What people type about emergency stops, and about differences that may stay."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.db.models import Q, QuerySet

from apps.grants.models import Scope
from apps.inventory.models import Entitlement, Identity, Resource

MOST_FOUND = 8  # candidates shown when what was typed fits several


class SubjectField(forms.CharField):
    """Whether it may stay empty is the form's to say, which knows the scope and the id. `required` is what a label says."""

    def validate(self, value: str) -> None:
        """Nothing to refuse here."""


class StopForm(forms.Form):
    """Whose access stops, or what. What was typed may fit several: then `candidates` says which, and one is picked by its
    `id`."""

    use_required_attribute = False  # the scope may change after the page was drawn

    scope = forms.ChoiceField(label="Stop", choices=Scope.choices, initial=Scope.PERSON)
    what = SubjectField(
        label="Who or what",
        max_length=200,
        help_text="A person's e-mail or name, an entitlement's name, an account's name or number. Empty for everything.",
    )
    id = forms.IntegerField(required=False, min_value=1, max_value=2**62, widget=forms.HiddenInput)

    _ROWS: ClassVar[dict[str, tuple[Any, tuple[str, ...]]]] = {
        Scope.PERSON: (Identity, ("email__iexact", "name__icontains")),
        Scope.ENTITLEMENT: (Entitlement, ("name__icontains",)),
        Scope.ACCOUNT: (Resource, ("external_id", "name__icontains")),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["what"].required = self["scope"].value() != Scope.ALL
        self.subject: Identity | Entitlement | Resource | None = None
        self.candidates: list[Any] = []

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        scope, what, key = cleaned.get("scope"), cleaned.get("what", ""), cleaned.get("id")
        if scope not in self._ROWS:
            return cleaned
        found = list(self._found(scope, what, key)[: MOST_FOUND + 1]) if what or key else []
        if not found:
            self.add_error("what", "Nothing fits this. Say an e-mail, a name or an account number.")
        elif len(found) > 1:
            self.candidates = found[:MOST_FOUND]
        else:
            self.subject = found[0]
        return cleaned

    @property
    def is_decided(self) -> bool:
        """It says exactly one thing to stop."""
        return self.is_valid() and not self.candidates

    def _found(self, scope: str, what: str, key: int | None) -> QuerySet[Any]:
        """By its id; else by what names it exactly; else by a part of its name. What ended in AWS can be stopped too."""
        model, ways = self._ROWS[scope]
        rows = model.objects.all()
        if model is Entitlement:
            rows = rows.filter(is_ours=False).select_related("resource")
        if key:
            return rows.filter(pk=key)
        typed = what.strip()
        number = typed.replace(" ", "").replace("-", "")
        for way in ways:
            value = number if way == "external_id" else typed
            found = rows.filter(Q(**{way: value}))
            if found.exists():
                return found.order_by("ended_at", "name", "pk")
        return rows.none()


class OrderForm(forms.Form):
    """The order itself."""

    reason = forms.CharField(label="Why", max_length=1000, strip=True, widget=forms.Textarea(attrs={"rows": 2}))
    attach_policy = forms.BooleanField(required=False, label="Also attach the organization's stop policy")


class AcceptForm(forms.Form):
    """Until when a difference to AWS may stay, and why."""

    days = forms.TypedChoiceField(
        label="For",
        coerce=int,
        choices=[(1, "1 day"), (7, "7 days"), (30, "30 days"), (90, "90 days")],
        initial=7,
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(label="Why", max_length=1000, widget=forms.Textarea(attrs={"rows": 3}))
