"""The outbox and the audit trail."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from core.admin import pages
from core.admin.filters import DayRangeFilter, ValueFilter
from core.admin.ground import ReadOnlyAdmin, ReadOnlyInline
from core.admin.pages import pretty
from core.models import AuditEntry, OutboxEvent, OutboxReceipt
from core.services import outbox

RETRY = "core.retry_receipt"


class ReceiptInline(ReadOnlyInline):
    model = OutboxReceipt
    fields = ("subscriber", "attempts", "next_attempt_at", "done_at", "last_error")
    tab = False


class StateFilter(admin.SimpleListFilter):
    """Offers what has not been handed on yet and what failed last time."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [("waiting", _("Waiting")), ("failing", _("Failing"))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        failing = OutboxReceipt.objects.filter(event=OuterRef("pk"), done_at=None, attempts__gt=0)
        match self.value():
            case "waiting":
                return queryset.filter(dispatched_at=None)
            case "failing":
                return queryset.filter(Exists(failing))
        return queryset


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ("id", "topic", "program", "recorded_at", "dispatched_at")
    list_select_related = ("program",)
    list_filter = (StateFilter,)
    search_fields = ("topic",)
    search_help_text = _("Topic, such as membership.facts_recorded")
    ordering = ("-id",)
    fields = ("id", "topic", "program", "recorded_at", "dispatched_at", "shown_payload")
    inlines = [ReceiptInline]
    actions_list = ("retry_all",)
    actions_detail = ("retry_now",)

    def audit_targets(self, row: Any) -> list[str]:
        return [f"outbox {row.pk}"]

    def search_condition(self, term: str) -> Q:
        return Q(topic__startswith=term.lower())

    @admin.display(description=_("Payload"))
    def shown_payload(self, event: OutboxEvent) -> SafeString | str:
        return pretty(event.payload)

    @pages.button(_("Retry what failed"), url_path="retry-all", permission=RETRY, icon="refresh")
    def retry_all(self, request: HttpRequest) -> HttpResponse:
        return self._retry(request, None)

    @pages.button(_("Retry now"), url_path="retry", permission=RETRY, icon="refresh")
    def retry_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._retry(request, pages.find_row(self, request, object_id))

    def _retry(self, request: HttpRequest, event: OutboxEvent | None) -> HttpResponse:
        if request.method != "POST":
            lines = [_("Deliveries that failed are tried again within seconds instead of at their next attempt.")]
            form = pages.QuestionForm()
            return pages.ask(self, request, title=_("Retry now"), form=form, submit=_("Retry"), row=event, lines=lines)
        count = outbox.retry(at=timezone.now(), user=pages.operator(request), event=event)
        text = ngettext("%(count)s delivery is due now.", "%(count)s deliveries are due now.", count)
        messages.success(request, text % {"count": count})
        return HttpResponseRedirect(pages.page_of(event) if event else pages.list_of(OutboxEvent))


class ActionFilter(ValueFilter):
    title = _("action")
    parameter_name = "action"


class ActorFilter(ValueFilter):
    title = _("actor")
    parameter_name = "actor"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("recorded_at", "actor", "action", "target", "program", "reason")
    list_select_related = ("program",)
    list_filter = (("recorded_at", DayRangeFilter), "program", ActionFilter, ActorFilter)
    list_filter_submit = True
    search_fields = ("target",)
    search_help_text = _("A whole target, such as ladder main; else part of a target, actor or action")
    fields = ("recorded_at", "actor", "user", "action", "target", "program", "reason", "shown_before", "shown_after")

    def search_condition(self, term: str) -> Q:
        """Find by the whole target, for which there is an index; else by a part of target, actor or action."""
        if AuditEntry.objects.filter(target=term).exists():
            return Q(target=term)
        return Q(target__icontains=term) | Q(actor__icontains=term) | Q(action__icontains=term)

    @admin.display(description=_("Before"))
    def shown_before(self, entry: AuditEntry) -> SafeString | str:
        return pretty(entry.before)

    @admin.display(description=_("After"))
    def shown_after(self, entry: AuditEntry) -> SafeString | str:
        return pretty(entry.after)
