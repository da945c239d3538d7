"""Adjustments that wait for a second person."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.enums import ActionVariant

from core.admin import StateColumn, pages
from membership.admin import OfMemberAdmin
from points.models import AdjustmentRequest, RequestState
from points.services import approvals
from points.services.posting import InsufficientPoints

APPROVE = "points.approve_adjustment"
_COLORS = {RequestState.WAITING: "info", RequestState.APPROVED: "success", RequestState.REJECTED: "warning"}


@admin.register(AdjustmentRequest)
class AdjustmentRequestAdmin(StateColumn, OfMemberAdmin):
    list_display = ("id", "member", "wallet", "points", "reason", "requested_by", "requested_at", "state")
    list_select_related = ("member", "wallet")
    list_filter = ("state",)
    fields = (
        *("member", "wallet", "points", "debt", "reason", "requested_by", "requested_at", "shown_state"),
        *("decided_by", "decided_at", "decision_reason"),
    )
    actions_detail = ("approve", "reject")

    @display(description=_("State"), label={state.value: color for state, color in _COLORS.items()})  # type: ignore[untyped-decorator]
    def state(self, request: AdjustmentRequest) -> tuple[str, str]:
        return request.state, str(RequestState(request.state).label).capitalize()

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer to decide what waits, to somebody else than who asked."""
        waits = AdjustmentRequest.objects.filter(pk=object_id, state=RequestState.WAITING)
        is_open = waits.exclude(requested_by=pages.operator(request).get_username()).exists()
        return super().get_actions_detail(request, object_id) if is_open else []

    @pages.button(_("Approve"), url_path="approve", permission=APPROVE, icon="check")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, then post what was asked for."""
        asked = pages.find_row(self, request, object_id)
        if request.method == "POST":
            user = pages.operator(request)
            return self._decide(
                request,
                asked,
                lambda: approvals.approve(
                    request_id=asked.pk, decided_by=user.get_username(), user=user, at=timezone.now()
                ),
            )
        told = {"points": f"{asked.points:,}", "member": asked.member, "wallet": asked.wallet}
        lines = [
            gettext("%(points)s points for member %(member)s (%(wallet)s), dated now.") % told,
            gettext("Asked for by %(by)s: %(reason)s") % {"by": asked.requested_by, "reason": asked.reason},
        ]
        form, submit = pages.QuestionForm(), _("Approve")
        return pages.ask(self, request, title=submit, form=form, submit=submit, row=asked, lines=lines)

    @pages.button(_("Reject"), url_path="reject", permission=APPROVE, icon="block", variant=ActionVariant.DANGER)
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask why, then refuse."""
        asked = pages.find_row(self, request, object_id)
        form, submit = pages.ReasonForm(request.POST or None), _("Reject")
        if request.method == "POST" and form.is_valid():
            user, reason = pages.operator(request), form.cleaned_data["reason"]
            return self._decide(
                request,
                asked,
                lambda: approvals.reject(
                    request_id=asked.pk, decided_by=user.get_username(), reason=reason, user=user, at=timezone.now()
                ),
            )
        return pages.ask(self, request, title=submit, form=form, submit=submit, row=asked, is_grave=True)

    def _decide(self, request: HttpRequest, asked: AdjustmentRequest, decide: Any) -> HttpResponse:
        try:
            decide()
        except approvals.AlreadyDecided:
            messages.info(request, gettext("This has been decided before."))
        except approvals.SamePerson:
            messages.error(request, gettext("Somebody else decides on an adjustment than who asked for it."))
        except InsufficientPoints as error:
            text = gettext("Only %(points)s points are available; the request waits on.")
            messages.error(request, text % {"points": f"{error.available:,}"})
        return HttpResponseRedirect(pages.page_of(asked))
