"""Referral codes, and vanity codes by operators."""

from __future__ import annotations

from django import forms
from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from core.admin import pages
from core.models import Program
from core.typed_codes import BadCode, key
from membership.admin import OfMemberAdmin
from membership.selectors import find_member
from referrals.models import ReferralCode
from referrals.services import codes

ADD_VANITY = "referrals.add_vanity_code"


class VanityForm(pages.ReasonForm):
    """Whose code, and which."""

    program = forms.ModelChoiceField(Program.objects.all(), label=_("Program"), widget=UnfoldAdminSelectWidget)
    member = forms.CharField(label=_("Member id"), max_length=200, widget=UnfoldAdminTextInputWidget)
    code = forms.CharField(
        label=_("Code"),
        widget=UnfoldAdminTextInputWidget,
        help_text=_("4 to 24 letters and digits. Case, separators and look-alikes such as 0 and O do not count."),
    )
    field_order = ("program", "member", "code", "reason")


@admin.register(ReferralCode)
class ReferralCodeAdmin(OfMemberAdmin):
    list_display = ("text", "member", "is_vanity", "created_at", "program")
    list_select_related = ("program", "member")
    list_filter = ("program", "is_vanity")
    search_help_text = _("Code, or the beginning of a member id")
    fields = ("text", "member", "program", "is_vanity", "created_at")
    actions_list = ("new_vanity_code",)

    def search_condition(self, term: str) -> Q:
        return super().search_condition(term) | Q(key=key(term))

    @pages.button(_("New vanity code"), url_path="new-vanity-code", permission=ADD_VANITY, icon="add")
    def new_vanity_code(self, request: HttpRequest) -> HttpResponse:
        """Ask whose and which, then make it."""
        form = VanityForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            told = form.cleaned_data
            member = find_member(program_id=told["program"].pk, external_id=told["member"])
            if member is None:
                form.add_error("member", gettext("The program has no member of this id."))
            else:
                user = pages.operator(request)
                try:
                    code = codes.add_vanity_code(
                        member=member, text=told["code"], reason=told["reason"], actor=user.get_username(), user=user,
                        at=timezone.now(),
                    )  # fmt: skip
                except codes.CodeTaken:
                    form.add_error("code", gettext("This code, or one that looks like it, is taken."))
                except BadCode as refused:
                    form.add_error("code", str(refused))
                else:
                    messages.success(request, gettext("The code is valid from now on; earlier ones stay so."))
                    return HttpResponseRedirect(pages.page_of(code))
        lines = [_("Friends can enter it at once. The member's earlier codes stay valid.")]
        title = _("New vanity code")
        return pages.ask(self, request, title=title, form=form, submit=_("Give code"), lines=lines)
