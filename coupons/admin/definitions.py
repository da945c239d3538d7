"""Coupons with their versions and drafts, and what is given out by them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant

from core.admin import DRAFT, PUBLISH, DraftAdmin, ProgramAdmin, VersionedInline, VersionInline, pages
from core.admin.drafts import explain_refusal
from core.admin.versions import published_versions
from core.models import VersionStatus
from core.services import drafts
from core.services.drafts import DraftRefused
from core.versions import VersionOverlap
from coupons.admin.giving import GivingActions
from coupons.admin.wizard import CouponForm, preview_draft
from coupons.models import Claim, ClaimState, CounterShard, CouponDefinition, CouponDefinitionVersion
from coupons.program_section import COUPON
from coupons.services import recalls


class CouponVersionInline(VersionInline):
    model = CouponDefinitionVersion
    kind = COUPON


@admin.register(CouponDefinition)
class CouponDefinitionAdmin(GivingActions, DraftAdmin):
    kind = COUPON
    list_display = ("code", "name", "state", "given_out", "program")
    list_select_related = ("program",)
    list_filter = ("program",)
    ordering = ("-id",)
    fields = ("program", "code", "name", "state", "given_out", "recalled")
    inlines = [CouponVersionInline]
    actions_list = ("new_coupon",)
    actions_detail = (
        *DraftAdmin.actions_detail,
        *GivingActions.actions_detail,
        "claims",
        "end_coupon",
        "recall_coupon",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found: QuerySet[Any] = super().get_queryset(request)
        return found.prefetch_related(published_versions(CouponDefinition), "shards")

    @admin.display(description=_("Name"))
    def name(self, coupon: Any) -> str:
        return coupon.published[-1].definition.get("name", "-") if coupon.published else "-"

    @admin.display(description=_("State"))
    def state(self, coupon: Any) -> str:
        if not coupon.published:
            return gettext("Draft")
        latest, at = coupon.published[-1], timezone.now()
        starts_at, ends_at = (latest.definition.get(name) for name in ("starts_at", "ends_at"))
        if latest.status != VersionStatus.PUBLISHED:
            return gettext("Ended")
        if ends_at and datetime.fromisoformat(ends_at) <= at:
            return gettext("Expired")
        return gettext("Not yet") if starts_at and datetime.fromisoformat(starts_at) > at else gettext("In force")

    @admin.display(description=_("Given out"))
    def given_out(self, coupon: Any) -> str:
        """Show what the counters say; without a limit nothing is counted."""
        shards: list[CounterShard] = list(coupon.shards.all())
        if not shards:
            return gettext("No limit")
        told = {"used": f"{sum(s.used for s in shards):,}", "limit": f"{sum(s.limit for s in shards):,}"}
        return gettext("%(used)s of %(limit)s") % told

    @admin.display(description=_("Called back"))
    def recalled(self, coupon: CouponDefinition) -> str:
        """Show the last recall, and how far it is."""
        last = coupon.recalls.order_by("-id").first()
        if last is None:
            return "-"
        told = {"at": date_format(last.recalled_at, "DATETIME_FORMAT"), "count": f"{last.revoked:,}"}
        if last.finished_at is None:
            return gettext("%(at)s, %(count)s claims revoked so far") % told
        return gettext("%(at)s, %(count)s claims revoked") % told

    def get_effects(self, owner: CouponDefinition, at: datetime) -> list[str]:
        lines = [
            gettext("The version is in force from now on, %(at)s: what members get from then on says what it says.")
            % {"at": date_format(at, "DATETIME_FORMAT")},
            gettext("What members have already keeps the version it was given out by."),
        ]
        used = CounterShard.objects.filter(definition=owner).aggregate(used=Sum("used"))["used"]
        if used:
            lines.append(gettext("Given out so far: %(used)s. A new limit counts them.") % {"used": f"{used:,}"})
        return lines

    @pages.button(_("New coupon"), url_path="new", permission=DRAFT, icon="add")
    def new_coupon(self, request: HttpRequest) -> HttpResponse:
        """Ask what the coupon is, show its definition, save it as a draft."""
        form, problems, preview = CouponForm(request.POST or None), [], ""
        if request.method == "POST" and form.is_valid():
            told: dict[str, Any] = {
                "program": form.cleaned_data["program"], "code": form.cleaned_data["code"], "text": form.text(),
            }  # fmt: skip
            try:
                if request.POST.get("do") == "save":
                    coupon = drafts.draft_new(
                        kind=COUPON, owners=CouponDefinition, **told, at=timezone.now(), user=pages.operator(request)
                    )
                    messages.success(request, gettext("The draft is saved. It is not in force until it is published."))
                    return HttpResponseRedirect(pages.page_of(coupon))
                preview = preview_draft(**told)
            except DraftRefused as refusal:
                problems = form.place(explain_refusal(refusal))
        return pages.show(
            self, request, "coupons/wizard.html", title=_("New coupon"), form=form, problems=problems, preview=preview
        )

    @pages.button(_("Claims"), url_path="claims", permission="coupons.view_claim", icon="redeem")
    def claims(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Go to what members have of it."""
        coupon = pages.find_row(self, request, object_id)
        return HttpResponseRedirect(f"{pages.list_of(Claim)}?definition__id__exact={coupon.pk}")

    @pages.button(_("End coupon"), url_path="end", permission=PUBLISH, icon="block", variant=ActionVariant.DANGER)
    def end_coupon(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, then end what is published."""
        coupon, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                was_published = drafts.end_published(
                    kind=COUPON, owner=coupon, at=timezone.now(), user=pages.operator(request), **form.cleaned_data
                )
            except VersionOverlap as refused:
                form.add_error(None, str(refused))
            else:
                done = gettext("The coupon has ended.") if was_published else gettext("Nothing of it is in force.")
                messages.success(request, done)
                return HttpResponseRedirect(pages.page_of(coupon))
        lines = [_("Nobody gets it any more."), _("What members have already stays theirs and can be used.")]
        title = _("End coupon")
        return pages.ask(
            self, request, title=title, form=form, submit=title, row=coupon, lines=lines, is_grave=True
        )  # fmt: skip

    @pages.button(_("Call back"), url_path="recall", permission=PUBLISH, icon="undo", variant=ActionVariant.DANGER)
    def recall_coupon(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, then end what is published and call back what members have."""
        coupon, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                recalls.recall(
                    program=coupon.program, definition=coupon, reason=form.cleaned_data["reason"], at=timezone.now(),
                    user=pages.operator(request),
                )  # fmt: skip
            except VersionOverlap as refused:
                form.add_error(None, str(refused))
            else:
                messages.success(request, gettext("The coupon is called back: nothing of it can be used any more."))
                return HttpResponseRedirect(pages.page_of(coupon))
        lines = [
            _("Nobody gets it any more."),
            gettext("Members can no longer use what they have: open claims, %(count)s now, are revoked.")
            % {"count": f"{_count_open(coupon):,}"},
            _("What a checkout holds can still be paid."),
        ]
        title = _("Call back")
        return pages.ask(
            self, request, title=title, form=form, submit=title, row=coupon, lines=lines, is_grave=True
        )  # fmt: skip


def _count_open(coupon: CouponDefinition) -> int:
    return Claim.objects.filter(definition=coupon, state=ClaimState.OPEN).count()


class CouponInline(VersionedInline):
    model = CouponDefinition
    fields = ("shown_code", "published_version")


ProgramAdmin.inlines = [*ProgramAdmin.inlines, CouponInline]
