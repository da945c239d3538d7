"""The operator's own page for logging in in two steps: switch it on, off, and be led there where it is required."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import segno
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import resolve, reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp import login as otp_login
from unfold.widgets import UnfoldAdminTextInputWidget

from core.admin.pages import QuestionForm, operator
from core.services import two_step

_WRONG = _("This code is wrong or has been used. Wait for the next one, and check your clock.")
_OPEN = {"two_step", "two_step_begin", "admin:login", "admin:logout", "admin:jsi18n", "set_language"}


class CodeForm(QuestionForm):
    """Asks for what the authenticator app shows."""

    code = forms.CharField(
        label=_("Code"),
        max_length=16,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )


class TwoStepMiddleware:
    """Lead operators to the second step where settings require it; end sessions from before it was switched on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._lead(request) or self.get_response(request)

    def _lead(self, request: HttpRequest) -> HttpResponse | None:
        user: Any = request.user
        if not request.path.startswith(reverse("admin:index")) or not user.is_authenticated or user.is_verified():
            return None
        if two_step.is_on(user):
            logout(request)
            return HttpResponseRedirect(reverse("admin:login"))
        if settings.REQUIRE_TWO_STEP and resolve(request.path_info).view_name not in _OPEN:
            return HttpResponseRedirect(reverse("two_step_begin"))
        return None


def show_state(request: HttpRequest) -> HttpResponse:
    """Say whether the second step is on, and offer the change."""
    is_on = two_step.is_on(operator(request))
    lines = [
        _("You log in with your password and a code of your authenticator app.")
        if is_on
        else _("You log in with your password only. A second step protects your account if the password gets known.")
    ]
    return _page(request, "core/two_step.html", is_on=is_on, is_required=settings.REQUIRE_TWO_STEP, lines=lines)


def begin(request: HttpRequest) -> HttpResponse:
    """Show the secret of a new device, and switch the second step on with its first code."""
    user = operator(request)
    if two_step.is_on(user):
        return HttpResponseRedirect(reverse("two_step"))
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            device, codes = two_step.confirm(user=user, code=form.cleaned_data["code"].strip(), at=timezone.now())
        except two_step.WrongCode:
            form.add_error("code", _WRONG)
        else:
            otp_login(request, device)
            return _page(request, "core/two_step_codes.html", codes=codes)
    device = two_step.begin(user)
    picture = segno.make(device.config_url).svg_inline(scale=4, border=3, dark="#000", light="#fff")
    secret = base64.b32encode(device.bin_key).decode().rstrip("=")
    return _page(request, "core/two_step_begin.html", form=form, picture=picture, secret=secret)


def end(request: HttpRequest) -> HttpResponse:
    """Switch the second step off, for whoever has a code."""
    user = operator(request)
    if settings.REQUIRE_TWO_STEP or not two_step.is_on(user):
        return HttpResponseRedirect(reverse("two_step"))
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            two_step.check(user=user, code=form.cleaned_data["code"].strip())
        except two_step.WrongCode:
            form.add_error("code", _WRONG)
        else:
            two_step.switch_off(user=user, actor=user, reason="", at=timezone.now())
            messages.success(request, _("You log in with your password only from now on."))
            return HttpResponseRedirect(reverse("two_step"))
    context = {"form": form, "submit_label": _("Switch off"), "is_grave": True, "back": reverse("two_step")}
    return _page(request, "core/question.html", **context)


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    frame = {**admin.site.each_context(request), "title": _("Two-step log-in")}
    return TemplateResponse(request, template, frame | context)
