"""What people type about themselves and others."""

from __future__ import annotations

from allauth.mfa.adapter import get_adapter
from allauth.mfa.base import forms as mfa
from allauth.mfa.models import Authenticator
from django import forms

from apps.users import totp
from apps.users.models import PortalRole


class _CodeOnce(mfa.BaseAuthenticateForm):
    """allauth's form, except that a TOTP code that was used anywhere is refused."""

    def clean_code(self) -> str:
        code = super().clean_code()
        if self.authenticator.type == Authenticator.Type.TOTP and not totp.is_first_use(self.authenticator, code):
            raise get_adapter().validation_error("incorrect_code")
        return str(code)


class AuthenticateForm(_CodeOnce, mfa.AuthenticateForm):
    """The second step of signing in."""


class ReauthenticateForm(_CodeOnce, mfa.ReauthenticateForm):
    """Confirming who one is, before an authenticator changes."""


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=12,
        label="Code of your authenticator app",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True}),
    )


class PasskeyForm(forms.Form):
    credential = forms.JSONField(widget=forms.HiddenInput)


class ShortcutsForm(forms.Form):
    single_keys = forms.BooleanField(
        required=False,
        label="Single-key shortcuts",
        help_text="Keys such as / and j work outside fields. Ctrl K always works.",
    )


class InviteForm(forms.Form):
    email = forms.EmailField(max_length=254, label="E-mail address")
    name = forms.CharField(max_length=200, label="Name")

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


class RoleForm(forms.Form):
    role = forms.TypedChoiceField(choices=PortalRole.Role.choices, coerce=PortalRole.Role)
    give = forms.TypedChoiceField(choices=[("1", "give"), ("0", "take")], coerce=lambda value: value == "1")


class SwitchForm(forms.Form):
    """One thing about a person, on or off."""

    on = forms.TypedChoiceField(choices=[("1", "on"), ("0", "off")], coerce=lambda value: value == "1")
