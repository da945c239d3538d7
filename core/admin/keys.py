"""API keys: issued, rotated and revoked by administrators. A key's text is shown once."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from core.admin import pages
from core.admin.ground import ReadOnlyAdmin, StateColumn
from core.models import ApiKey, Program, Scope
from core.services import api_keys

ISSUE = "core.issue_key"

SCOPE_HELP: dict[str, Any] = {
    Scope.PROGRAMS_READ: _("read the program, its ladders, wallets and earn rules"),
    Scope.MEMBERS_READ: _("read members"),
    Scope.MEMBERS_WRITE: _("enroll members and change their profiles"),
    Scope.FACTS_READ: _("read orders, refunds and activities"),
    Scope.FACTS_WRITE: _("record orders, refunds and activities"),
    Scope.TIERS_READ: _("read tiers, their history and the way to the next one"),
    Scope.TIERS_OVERRIDE: _("give a member a tier by hand, and end that"),
    Scope.POINTS_READ: _("read balances and statements"),
    Scope.POINTS_REDEEM: _("redeem points"),
    Scope.POINTS_ADJUST: _("add and take points by hand, and reverse postings"),
    Scope.COUPONS_READ: _("read coupons, what members have of them, and quote baskets"),
    Scope.COUPONS_CLAIM: _("let members take coupons"),
    Scope.COUPONS_ISSUE: _("issue coupons to members, make codes and revoke claims"),
    Scope.REFERRALS_READ: _("read referrals"),
    Scope.REFERRALS_WRITE: _("make referral codes, record touches and bind referees"),
    Scope.REFERRALS_REVIEW: _("approve, reject and reopen referrals, which takes back what was paid"),
    Scope.CHECKOUTS_WRITE: _("quote, hold and release checkouts"),
    Scope.RETENTION_READ: _("read the retention figures"),
    Scope.EVENTS_READ: _("read the events feed"),
    Scope.WEBHOOKS_MANAGE: _("manage webhook endpoints"),
    Scope.TOKENS_ISSUE: _("issue tokens with which a member's browser reads and redeems"),
}


class IssueForm(pages.OnceForm, pages.ReasonForm):
    """What the new key is for and what it may do."""

    program = forms.ModelChoiceField(Program.objects.all(), label=_("Program"), widget=UnfoldAdminSelectWidget)
    name = forms.CharField(
        label=_("Name"),
        max_length=100,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("What the key is for, such as the shop's server."),
    )
    scopes = forms.MultipleChoiceField(
        label=_("Scopes"),
        choices=[(value, f"{value}") for value in Scope.values],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    allowed_origins = forms.CharField(
        label=_("Allowed origins"),
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text=_(
            "Web origins whose pages may use member tokens of this key, one on each line: https://shop.example"
        ),
    )
    rate_per_minute = forms.IntegerField(
        label=_("Requests per minute"),
        required=False,
        min_value=1,
        max_value=1_000_000,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text=_("Empty: as the installation is set."),
    )
    expires_at = forms.SplitDateTimeField(
        label=_("Expires at"),
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget,
        help_text=_("In UTC. Empty: never."),
    )
    field_order = ("program", "name", "scopes", "allowed_origins", "rate_per_minute", "expires_at", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scopes: Any = self.fields["scopes"]
        scopes.choices = [(value, f"{value}: {SCOPE_HELP[value]}") for value in Scope.values]

    def clean_allowed_origins(self) -> list[str]:
        return str(self.cleaned_data["allowed_origins"]).split()


@admin.register(ApiKey)
class ApiKeyAdmin(StateColumn, ReadOnlyAdmin):
    list_display = ("name", "prefix", "program", "state", "last_used_at", "expires_at", "created_at")
    list_select_related = ("program",)
    list_filter = ("program", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("prefix",)
    search_help_text = _("Prefix, or part of the name")
    fields = (
        *(
            "program",
            "name",
            "prefix",
            "shown_state",
            "shown_scopes",
            "shown_origins",
            "rate_per_minute",
            "rotated_from",
        ),
        *("created_at", "last_used_at", "expires_at", "revoked_at"),
    )
    actions_list = ("issue",)
    actions_detail = ("rotate", "revoke")

    def audit_targets(self, row: Any) -> list[str]:
        return [f"api_key {row.prefix}"]

    def search_condition(self, term: str) -> Q:
        return Q(prefix=term.lower()) | Q(name__icontains=term)

    @display(description=_("State"), label={"active": "success", "expired": "warning", "revoked": "danger"})  # type: ignore[untyped-decorator]
    def state(self, key: ApiKey) -> tuple[str, str]:
        if key.revoked_at is not None:
            return "revoked", gettext("revoked")
        if not api_keys.is_valid(key, timezone.now()):
            return "expired", gettext("expired")
        return "active", gettext("active")

    @admin.display(description=_("Scopes"))
    def shown_scopes(self, key: ApiKey) -> SafeString:
        return format_html_join("", "<div>{}: {}</div>", ((scope, SCOPE_HELP.get(scope, "")) for scope in key.scopes))

    @admin.display(description=_("Allowed origins"))
    def shown_origins(self, key: ApiKey) -> SafeString | str:
        return format_html_join("", "<div>{}</div>", ((origin,) for origin in key.allowed_origins)) or "-"

    @pages.button(_("Issue key"), url_path="issue", permission=ISSUE, icon="add", variant=ActionVariant.PRIMARY)
    def issue(self, request: HttpRequest) -> HttpResponse:
        form = IssueForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            at, user, told = timezone.now(), pages.operator(request), form.cleaned_data
            by: dict[str, Any] = {"actor": user.get_username(), "user": user, "at": at}
            try:
                issued = pages.do_once(
                    told.pop("once"), user, told["program"], at, lambda: api_keys.issue(**told, **by)
                )
            except (api_keys.KeyRefused, pages.SentBefore) as refused:
                form.add_error(None, str(refused))
            else:
                return self._show_text(request, issued)
        return pages.ask(self, request, title=_("Issue key"), form=form, submit=_("Issue key"))

    @pages.button(_("Rotate"), url_path="rotate", permission=ISSUE, icon="autorenew")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            user = pages.operator(request)
            try:
                issued = api_keys.rotate(
                    key=key, actor=user.get_username(), user=user, at=timezone.now(), **form.cleaned_data
                )
            except api_keys.KeyRefused as refused:
                form.add_error(None, str(refused))
            else:
                return self._show_text(request, issued)
        lines = [
            _("A new key with the same rights is issued and shown once."),
            _("The present key keeps working for a day, so that the storefront can change over without a gap."),
        ]
        return pages.ask(self, request, title=_("Rotate key"), form=form, submit=_("Rotate"), row=key, lines=lines)

    @pages.button(_("Revoke"), url_path="revoke", permission=ISSUE, icon="block", variant=ActionVariant.DANGER)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            user = pages.operator(request)
            if api_keys.revoke(key=key, actor=user.get_username(), user=user, at=timezone.now(), **form.cleaned_data):
                messages.success(request, gettext("The key is revoked and opens nothing any more."))
            else:
                messages.info(request, gettext("The key was revoked before."))
            return HttpResponseRedirect(pages.page_of(key))
        return pages.ask(
            self,
            request,
            title=_("Revoke key"),
            form=form,
            submit=_("Revoke"),
            row=key,
            lines=[_("Every request with this key is refused from now on. This cannot be undone.")],
            is_grave=True,
        )

    def _show_text(self, request: HttpRequest, issued: api_keys.IssuedKey) -> HttpResponse:
        lines = [_("This is the only time that the key is shown. Copy it to where it is used.")]
        return pages.show_secret(self, request, title=_("New key"), row=issued.key, secret=issued.text, lines=lines)
