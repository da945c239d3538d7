"""The list of referrals, the review of suspicious ones, the tree around a member, and K."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.enums import ActionVariant

from core.admin import ReadOnlyAdmin, ReadOnlyInline, link, pages
from core.models import Program
from membership.admin import MEMBERS_PER_SEARCH, find_members
from membership.models import Member
from referrals.k_factor import horizon_days, list_cohorts
from referrals.models import Referral, ReferralReward, ReferralState
from referrals.selectors import WAITING_FOR_REVIEW, find_version, terms_of
from referrals.services import reviews
from referrals.tree import read_tree

REVIEW = "referrals.review_referral"
VIEW = "referrals.view_referral"

COLORS = {
    "pending": "info", "flagged": "warning", "qualified": "success", "rejected": "danger", "reversed": "danger",
}  # fmt: skip
# What speaks against a referral, in words.
SIGNALS = {
    "refused_before": _("was refused before as one person with a referrer"),
    "shared_with_referrer": _("shares an e-mail address, card or device with the referrer"),
    "shared_with_friends": _("shares an e-mail address, card or device with other friends of the referrer"),
    "connected_farm": _("is one of a group of accounts that bring each other and share cards or devices"),
    "fan_out": _("uses a card or device of many accounts"),
    "shared_address": _("shares an address with the referrer or other friends"),
    "velocity": _("came in a burst of friends"),
    "shared_ip": _("shares an IP address and browser, which alone says nothing"),
}


class ReviewFilter(admin.SimpleListFilter):
    """Those that a person has to look at: before they are paid, or at new evidence afterwards."""

    title = _("Review")
    parameter_name = "review"

    def lookups(self, _request: HttpRequest, _admin: Any) -> list[tuple[str, Any]]:
        return [("waiting", _("Waiting for review"))]

    def queryset(self, _request: HttpRequest, rows: QuerySet[Referral]) -> QuerySet[Referral]:
        return rows.filter(WAITING_FOR_REVIEW) if self.value() else rows


class RewardInline(ReadOnlyInline):
    model = ReferralReward
    fields = ("member", "level", "event", "points", "coupon", "state", "reason", "paid_at", "moved_at")
    related = ("member",)
    tab = False


@admin.register(Referral)
class ReferralAdmin(ReadOnlyAdmin):
    list_display = ("number", "member", "referrer", "state_label", "source", "score", "bound_at", "due_at")
    list_select_related = ("program", "member", "code__member")
    list_filter = ("state", ReviewFilter, "program")
    search_fields = ("member__external_id",)
    search_help_text = _("Member id of either side, or its beginning")
    ordering = ("-id",)
    fields = (
        *("program", "shown_member", "shown_referrer", "source", "code", "shown_version", "bound_at", "touched_at"),
        *("shown_state", "due_at", "decided_at", "qualified_at", "suspected_at", "score", "shown_signals"),
        *("reason", "reviewed_by", "reopened_at"),
    )
    inlines = [RewardInline]
    actions_list = ("k_factor",)
    actions_detail = ("approve", "reject", "reopen", "settle_again", "tree")

    def audit_targets(self, row: Any) -> list[str]:
        return [f"referral {row.pk}", f"member {row.member.external_id}"]

    def search_condition(self, term: str) -> Q:
        found = list(find_members(term).order_by("external_id").values_list("id", flat=True)[:MEMBERS_PER_SEARCH])
        return Q(member_id__in=found) | Q(referrer_id__in=found)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer what can be decided about the referral as it is."""
        found: list[Any] = super().get_actions_detail(request, object_id)
        referral = Referral.objects.filter(pk=object_id).first()
        if referral is None:
            return found
        is_rejected = referral.state == ReferralState.REJECTED
        offered = {"approve": reviews.is_waiting_for_review(referral), "reject": not is_rejected, "reopen": is_rejected}
        return [one for one in found if offered.get(one.method.original_function_name, True)]

    @admin.display(description=_("Referral"))
    def number(self, referral: Referral) -> str:
        return str(referral.pk)

    @admin.display(description=_("Referrer"))
    def referrer(self, referral: Referral) -> str:
        return referral.code.member.external_id

    @admin.display(description=_("Member"))
    def shown_member(self, referral: Referral) -> SafeString:
        return link(referral.member, referral.member.external_id)

    @admin.display(description=_("Referrer"))
    def shown_referrer(self, referral: Referral) -> SafeString:
        return link(referral.code.member, referral.code.member.external_id)

    @admin.display(description=_("Terms"))
    def shown_version(self, referral: Referral) -> str:
        return f"v{referral.version.number}"

    @display(description=_("State"), label=COLORS)  # type: ignore[untyped-decorator]
    def state_label(self, referral: Referral) -> tuple[str, str]:
        return referral.state, referral.get_state_display()

    @admin.display(description=_("State"))
    def shown_state(self, referral: Referral) -> str:
        return referral.get_state_display()

    @admin.display(description=_("Signals"))
    def shown_signals(self, referral: Referral) -> SafeString | str:
        rows = ((SIGNALS.get(one["signal"], one["signal"]), one["points"]) for one in referral.signals)
        return format_html_join("", "<div>{}: {}</div>", rows) or "-"

    @pages.button(_("Approve"), url_path="approve", permission=REVIEW, icon="check", variant=ActionVariant.PRIMARY)
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        lines = [_("The referral passes: what is due to both sides is paid within seconds, the rest when it is due.")]
        done = _("Approved.")
        return self._review(request, object_id, _("Approve referral"), lines, reviews.approve, done=done)

    @pages.button(_("Reject"), url_path="reject", permission=REVIEW, icon="block", variant=ActionVariant.DANGER)
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        lines = [_("Nobody has anything for this referral. What was paid is taken back within seconds.")]
        done = _("Rejected.")
        return self._review(request, object_id, _("Reject referral"), lines, reviews.reject, done=done, is_grave=True)

    @pages.button(_("Reopen"), url_path="reopen", permission=REVIEW, icon="undo")
    def reopen(self, request: HttpRequest, object_id: str) -> HttpResponse:
        lines = [_("The referral is decided anew, and orders from before it no longer speak against it.")]
        done = _("Reopened.")
        return self._review(request, object_id, _("Reopen referral"), lines, reviews.reopen, done=done)

    def _review(
        self,
        request: HttpRequest,
        object_id: str,
        title: Any,
        lines: list[Any],
        review: Callable[..., Referral],
        *,
        done: Any,
        is_grave: bool = False,
    ) -> HttpResponse:
        referral, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            user = pages.operator(request)
            try:
                review(referral=referral, actor=user.get_username(), user=user, at=timezone.now(), **form.cleaned_data)
            except reviews.WrongState:
                messages.error(request, gettext("The referral has changed meanwhile; nothing was done."))
            else:
                messages.success(request, done)
            return HttpResponseRedirect(pages.page_of(referral))
        return pages.ask(
            self, request, title=title, form=form, submit=title, row=referral, lines=lines, is_grave=is_grave
        )

    @pages.button(_("Settle rewards again"), url_path="settle-again", permission=REVIEW, icon="refresh")
    def settle_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Try again what could not be paid."""
        referral, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            user = pages.operator(request)
            reviews.settle_again(
                referral=referral, actor=user.get_username(), user=user, at=timezone.now(), **form.cleaned_data
            )
            messages.success(request, gettext("What is due is paid within seconds; what is paid stays as it is."))
            return HttpResponseRedirect(pages.page_of(referral))
        lines = [_("A coupon that could not be issued is tried again. What is paid is not paid twice.")]
        title = _("Settle rewards again")
        return pages.ask(self, request, title=title, form=form, submit=title, row=referral, lines=lines)

    @pages.button(_("Tree"), url_path="tree", permission=VIEW, icon="account_tree")
    def tree(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show who brought whom around the referrer, or around another member of the program."""
        referral = pages.find_row(self, request, object_id)
        asked = request.GET.get("member", "")
        chosen = int(asked) if asked.isdecimal() else referral.referrer_id
        member = Member.objects.filter(pk=chosen, program_id=referral.program_id).first()
        if member is None:
            raise Http404
        title = _("Who brought whom")
        return pages.show(self, request, "referrals/tree.html", title=title, row=referral, tree=read_tree(member))

    @pages.button(_("K-factor"), url_path="k-factor", permission=VIEW, icon="monitoring")
    def k_factor(self, request: HttpRequest) -> HttpResponse:
        """Show how many customers a member brings, by the month of the invite."""
        at, tables = timezone.now(), []
        for program in Program.objects.order_by("code"):
            version = find_version(program, at=at)
            if version is not None:
                terms = terms_of(version, program.currency)
                cohorts = list_cohorts(program=program, terms=terms, at=at)
                tables.append({"program": program, "days": horizon_days(terms), "cohorts": cohorts})
        return pages.show(self, request, "referrals/k_factor.html", title=_("K-factor"), tables=tables)
