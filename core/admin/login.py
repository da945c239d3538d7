"""The log-in of operators: password, then the code of those who log in in two steps; every try counts."""

from __future__ import annotations

import math
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.forms import AuthenticationForm
from unfold.widgets import BASE_INPUT_CLASSES

from core.client_address import client_address
from core.services import logins, two_step


class LoginForm(AuthenticationForm):  # type: ignore[misc]
    """Asks for name, password and, of those who log in in two steps, the code."""

    code = forms.CharField(
        label=_("Code"),
        required=False,
        max_length=16,
        help_text=_(
            "Of your authenticator app, or a recovery code. Leave it empty if you log in with a password only."
        ),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "text", "class": " ".join(BASE_INPUT_CLASSES)}
        ),
    )

    def clean(self) -> dict[str, Any]:
        """Let the operator in, or say why not; a try is taken before the password is looked at."""
        account, at = self.cleaned_data.get("username"), timezone.now()
        if not account or not self.cleaned_data.get("password"):
            cleaned: dict[str, Any] = super().clean()
            return cleaned
        place = {"account": account, "address": client_address(self.request)}
        try:
            logins.take_try(**place, at=at)
            cleaned = super().clean()
            self._check_code(self.get_user(), self.cleaned_data["code"])
        except logins.TooManyTries as error:
            minutes = max(1, math.ceil((error.until - at).total_seconds() / 60))
            text = ngettext(
                "Too many tries. Try again in %(count)s minute.",
                "Too many tries. Try again in %(count)s minutes.",
                minutes,
            )
            raise forms.ValidationError(text % {"count": minutes}, code="too_many_tries") from error
        except forms.ValidationError:
            logins.record(action="operator.login_failed", **place, at=at)
            raise
        logins.give_back(**place)
        logins.record(action="operator.logged_in", **place, at=at)
        return cleaned

    def _check_code(self, user: User, code: str) -> None:
        """Ask for the second step where it is on; log-in remembers the device that is attached to the user."""
        if not two_step.is_on(user):
            return
        if not code:
            raise forms.ValidationError(gettext("Enter the code of your authenticator app too."), code="code_missing")
        try:
            user.otp_device = two_step.check(user=user, code=code)  # type: ignore[attr-defined]
        except two_step.WrongCode as error:
            raise forms.ValidationError(gettext("This code is wrong or has been used."), code="wrong_code") from error


admin.site.login_form = LoginForm
admin.site.login_template = "core/login.html"
