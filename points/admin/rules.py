"""Wallets and earn rules with their versions and drafts."""

from __future__ import annotations

from datetime import datetime

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from core.admin import DRAFT, PUBLISH, DraftAdmin, ProgramAdmin, VersionedInline, VersionInline, pages
from core.admin.drafts import explain_refusal
from core.models import Program
from core.services import drafts
from core.services.drafts import LONGEST_TEXT, DraftRefused
from core.versions import VersionOverlap
from points.models import EarnRule, EarnRuleVersion, Wallet, WalletVersion
from points.program_section import EARN_RULE, WALLET

EXAMPLE = """\
wallet: points
name: One point per whole unit of currency
trigger: order_line
formula: {points: 1, per: "1.00", whole_steps: true}
tier_multiplier: false
"""


class WalletVersionInline(VersionInline):
    model = WalletVersion
    kind = WALLET


class EarnRuleVersionInline(VersionInline):
    model = EarnRuleVersion
    kind = EARN_RULE


@admin.register(Wallet)
class WalletAdmin(DraftAdmin):
    kind = WALLET
    list_display = ("code", "name", "program")
    list_select_related = ("program",)
    list_filter = ("program",)
    list_before_template = "core/from_files.html"
    fields = ("program", "code", "name")
    inlines = [WalletVersionInline]

    def get_effects(self, _owner: Wallet, at: datetime) -> list[str]:
        return [
            gettext("The version is in force from now on, %(at)s: points earned from then on live by it.")
            % {"at": date_format(at, "DATETIME_FORMAT")},
            gettext("Points that members have already keep their dates."),
        ]


class NewRuleForm(forms.Form):
    """A rule's program and code, which stay, and its first draft."""

    program = forms.ModelChoiceField(Program.objects.all(), label=_("Program"), widget=UnfoldAdminSelectWidget)
    code = forms.CharField(
        label=_("Code"),
        max_length=63,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Lower-case letters, digits, - and _. It names the rule for good."),
    )
    text = forms.CharField(
        label=_("Definition"),
        strip=False,
        max_length=LONGEST_TEXT,
        initial=EXAMPLE,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "definition", "spellcheck": "false", "wrap": "off"}),
        help_text=_("YAML in the shape of program files. Amounts are text in the program's currency."),
    )


@admin.register(EarnRule)
class EarnRuleAdmin(DraftAdmin):
    kind = EARN_RULE
    list_display = ("code", "program")
    list_select_related = ("program",)
    list_filter = ("program",)
    actions_list = ("new_rule",)
    actions_detail = (*DraftAdmin.actions_detail, "end_rule")
    fields = ("program", "code")
    inlines = [EarnRuleVersionInline]

    def get_effects(self, owner: EarnRule, at: datetime) -> list[str]:
        keep = gettext("What was earned before keeps the version it was earned by, refunds included.")
        if not owner.versions.exclude(status="draft").exists():
            begins = gettext("This is the rule's first version: whatever is recorded from now on earns by it.")
            return [begins, keep]
        begins = gettext(
            "The version is in force from now on, %(at)s: orders and activities of earlier instants "
            "that come in late still earn by the version of their time."
        )
        return [begins % {"at": date_format(at, "DATETIME_FORMAT")}, keep]

    @pages.button(_("New earn rule"), url_path="new", permission=DRAFT, icon="add")
    def new_rule(self, request: HttpRequest) -> HttpResponse:
        """Ask for a code and a first draft."""
        form, problems = NewRuleForm(request.POST or None), []
        if request.method == "POST" and form.is_valid():
            try:
                rule = drafts.draft_new(
                    kind=EARN_RULE,
                    owners=EarnRule,
                    **form.cleaned_data,
                    at=timezone.now(),
                    user=pages.operator(request),
                )
            except DraftRefused as refusal:
                problems = explain_refusal(refusal)
            else:
                messages.success(request, gettext("The draft is saved. It is not in force until it is published."))
                return HttpResponseRedirect(pages.page_of(rule))
        return pages.ask(self, request, title=_("New earn rule"), form=form, submit=_("Save draft"), problems=problems)

    @pages.button(_("End rule"), url_path="end", permission=PUBLISH, icon="block", variant=ActionVariant.DANGER)
    def end_rule(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, then end what is published."""
        rule, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                was_published = drafts.end_published(
                    kind=EARN_RULE, owner=rule, at=timezone.now(), user=pages.operator(request), **form.cleaned_data
                )
            except VersionOverlap as refused:
                form.add_error(None, str(refused))
            else:
                done = gettext("The rule has ended.") if was_published else gettext("Nothing of it is in force.")
                messages.success(request, done)
                return HttpResponseRedirect(pages.page_of(rule))
        lines = [
            _("What happens from now on earns nothing by this rule. What was earned stays."),
            _("Orders and activities of earlier instants that come in late still earn by it."),
        ]
        return pages.ask(
            self,
            request,
            title=_("End rule"),
            form=form,
            submit=_("End rule"),
            row=rule,
            lines=lines,
            is_grave=True,
        )


class WalletInline(VersionedInline):
    model = Wallet
    fields = ("shown_code", "name", "published_version")


class EarnRuleInline(VersionedInline):
    model = EarnRule
    fields = ("shown_code", "published_version")


ProgramAdmin.inlines = [*ProgramAdmin.inlines, WalletInline, EarnRuleInline]
