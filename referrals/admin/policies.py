"""Referral policies with their versions and drafts."""

from __future__ import annotations

from datetime import datetime

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from core.admin import DRAFT, DraftAdmin, ProgramAdmin, VersionedInline, VersionInline, pages
from core.admin.drafts import explain_refusal
from core.models import Program
from core.services.drafts import LONGEST_TEXT, DraftRefused
from referrals.models import ReferralPolicy, ReferralPolicyVersion
from referrals.program_section import POLICY
from referrals.services import policies

EXAMPLE = """\
name: Bring a friend
minimum_order: "20.00"
return_days: 14
referrer: {points: 500, wallet: points}
referee: {points: 200, wallet: points}
milestones:
  - {invitees: 3, reward: {points: 1000, wallet: points}}
"""


class PolicyVersionInline(VersionInline):
    model = ReferralPolicyVersion
    kind = POLICY


class NewPolicyForm(forms.Form):
    """The program and the first draft."""

    program = forms.ModelChoiceField(Program.objects.all(), label=_("Program"), widget=UnfoldAdminSelectWidget)
    text = forms.CharField(
        label=_("Definition"),
        strip=False,
        max_length=LONGEST_TEXT,
        initial=EXAMPLE,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "definition", "spellcheck": "false", "wrap": "off"}),
        help_text=_("YAML in the shape of program files. Amounts are text in the program's currency."),
    )


@admin.register(ReferralPolicy)
class ReferralPolicyAdmin(DraftAdmin):
    kind = POLICY
    list_display = ("code", "program")
    list_select_related = ("program",)
    list_before_template = "core/from_files.html"
    fields = ("program", "code")
    inlines = [PolicyVersionInline]
    actions_list = ("new_policy",)

    def get_effects(self, _owner: ReferralPolicy, at: datetime) -> list[str]:
        return [
            gettext("The version is in force from now on, %(at)s: whoever is brought from then on goes by it.")
            % {"at": date_format(at, "DATETIME_FORMAT")},
            gettext("Who has been brought before keeps the terms of that time, rewards included."),
        ]

    @pages.button(_("New referral policy"), url_path="new", permission=DRAFT, icon="add")
    def new_policy(self, request: HttpRequest) -> HttpResponse:
        """Ask for the program and a first draft."""
        form, problems = NewPolicyForm(request.POST or None), []
        if request.method == "POST" and form.is_valid():
            try:
                policy = policies.draft_policy(**form.cleaned_data, at=timezone.now(), user=pages.operator(request))
            except DraftRefused as refusal:
                problems = explain_refusal(refusal)
            else:
                messages.success(request, gettext("The draft is saved. It is not in force until it is published."))
                return HttpResponseRedirect(pages.page_of(policy))
        title = _("New referral policy")
        return pages.ask(self, request, title=title, form=form, submit=_("Save draft"), problems=problems)


class ReferralPolicyInline(VersionedInline):
    model = ReferralPolicy
    fields = ("shown_code", "published_version")


ProgramAdmin.inlines = [*ProgramAdmin.inlines, ReferralPolicyInline]
