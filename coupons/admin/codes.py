"""Batches of codes with their progress, and single codes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.enums import ActionVariant

from core import typed_codes
from core.admin import ReadOnlyAdmin, StateColumn, link, pages
from core.models import Program
from coupons.admin.giving import MAKE_CODES
from coupons.models import CodeBatch, CouponCode
from coupons.services import code_batches
from membership.models import Member


@admin.register(CodeBatch)
class CodeBatchAdmin(StateColumn, ReadOnlyAdmin):
    list_display = ("number", "definition", "progress", "state", "requested_by", "requested_at")
    list_select_related = ("definition",)
    search_fields = ("definition__code",)
    search_help_text = _("Part of the coupon's code")
    fields = (
        *("definition", "prefix", "progress", "shown_state", "requested_by", "requested_at"),
        *("finished_at", "stopped_at"),
    )
    actions_detail = ("download", "stop")

    def audit_targets(self, row: Any) -> list[str]:
        return [f"coupon {row.definition.code}"]

    def search_condition(self, term: str) -> Q:
        return Q(definition__code__icontains=term)

    @admin.display(description=_("Batch"))
    def number(self, batch: CodeBatch) -> int:
        return batch.pk

    @admin.display(description=_("Progress"))
    def progress(self, batch: CodeBatch) -> str:
        share = 100 * batch.made // batch.requested
        told = {"made": f"{batch.made:,}", "requested": f"{batch.requested:,}", "share": share}
        return gettext("%(made)s of %(requested)s (%(share)s%%)") % told

    @display(description=_("State"), label={"made": "success", "making": "info", "stopped": "warning"})  # type: ignore[untyped-decorator]
    def state(self, batch: CodeBatch) -> tuple[str, str]:
        if batch.finished_at is not None:
            return "made", gettext("Made")
        if batch.stopped_at is not None:
            return "stopped", gettext("Stopped")
        return "making", gettext("Being made")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer to stop what is being made."""
        found = super().get_actions_detail(request, object_id)
        is_open = CodeBatch.objects.filter(pk=object_id, finished_at=None, stopped_at=None).exists()
        return [action for action in found if is_open or not action.action_name.endswith("_stop")]

    @pages.button(_("Download codes"), url_path="codes.csv", permission=MAKE_CODES, icon="download")
    def download(self, request: HttpRequest, object_id: str) -> Any:
        """Send the codes that are there, as CSV."""
        batch = pages.find_row(self, request, object_id)
        name = f"{batch.definition.code}-{batch.pk}.csv"
        return StreamingHttpResponse(
            code_batches.iter_csv(batch=batch),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    @pages.button(_("Stop"), url_path="stop", permission=MAKE_CODES, icon="block", variant=ActionVariant.DANGER)
    def stop(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, then stop."""
        batch, title = pages.find_row(self, request, object_id), _("Stop")
        if request.method == "POST":
            try:
                code_batches.stop_batch(batch=batch, actor=pages.operator(request).get_username(), at=timezone.now())
            except code_batches.BatchEnded:
                messages.info(request, gettext("All codes had been made."))
            else:
                messages.success(request, gettext("No more codes are made."))
            return HttpResponseRedirect(pages.page_of(batch))
        lines = [_("No more codes of this batch are made. Those that are there stay.")]
        form = pages.QuestionForm()
        return pages.ask(
            self, request, title=title, form=form, submit=title, row=batch, lines=lines, is_grave=True
        )  # fmt: skip


@admin.register(CouponCode)
class CouponCodeAdmin(ReadOnlyAdmin):
    list_display = ("shown_code", "definition", "is_shared", "is_claimed", "made_at", "disabled_at")
    list_select_related = ("definition",)
    search_fields = ("text",)
    search_help_text = _("The whole code, or its beginning")
    ordering = ("-id",)
    fields = ("program", "shown_code", "definition", "shown_batch", "is_shared", "claimant", "made_at", "disabled_at")
    actions_detail = ("disable",)

    def audit_targets(self, row: Any) -> list[str]:
        return [f"coupon {row.definition.code}"]

    def search_condition(self, term: str) -> Q:
        programs = list(Program.objects.values_list("id", flat=True))
        return Q(program__in=programs, text__startswith=typed_codes.key(term))

    @admin.display(description=_("Code"))
    def shown_code(self, code: CouponCode) -> str:
        return code.shown

    @admin.display(description=_("Claimed"), boolean=True)
    def is_claimed(self, code: CouponCode) -> bool:
        return code.claimed_by is not None

    @admin.display(description=_("Batch"))
    def shown_batch(self, code: CouponCode) -> SafeString | str:
        return link(code.batch, code.batch_id) if code.batch is not None else "-"

    @admin.display(description=_("Claimed by"))
    def claimant(self, code: CouponCode) -> SafeString | str:
        member = Member.objects.filter(pk=code.claimed_by).first() if code.claimed_by else None
        return link(member, member.external_id) if member else "-"

    @pages.button(_("Disable"), url_path="disable", permission=MAKE_CODES, icon="block", variant=ActionVariant.DANGER)
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, then let nobody claim by the code any more."""
        code, title = pages.find_row(self, request, object_id), _("Disable")
        if request.method == "POST":
            code_batches.disable_code(code=code, actor=pages.operator(request).get_username(), at=timezone.now())
            messages.success(request, gettext("The code is disabled."))
            return HttpResponseRedirect(pages.page_of(code))
        lines = [_("Nobody can claim by this code any more. What was claimed by it stays.")]
        form = pages.QuestionForm()
        return pages.ask(
            self, request, title=title, form=form, submit=title, row=code, lines=lines, is_grave=True
        )  # fmt: skip
