"""The clock's runs: each close of a day with its steps, and a way to start what is due."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget

from core.admin import ReadOnlyAdmin, ReadOnlyInline, StateColumn, pages
from core.models import Program
from storefront.models import DayClose, DayCloseStep
from storefront.services import day_close
from storefront.tasks import close_program

CLOSE = "storefront.close_day"


def _duration(started: Any, finished: Any) -> str:
    if finished is None:
        return "-"
    seconds = (finished - started).total_seconds()
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds) // 60} min {int(seconds) % 60} s"


class StepInline(ReadOnlyInline):
    model = DayCloseStep
    fields = ("shown_name", "started_at", "duration", "shown_counts")
    tab = False

    @admin.display(description=_("Step"))
    def shown_name(self, step: DayCloseStep) -> str:
        known = day_close.StepName
        return str(known(step.name).label) if step.name in known.values else step.name

    @admin.display(description=_("Duration"))
    def duration(self, step: DayCloseStep) -> str:
        return _duration(step.started_at, step.finished_at)

    @admin.display(description=_("Counts"))
    def shown_counts(self, step: DayCloseStep) -> SafeString | str:
        rows = ((name.replace("_", " "), f"{count:,}") for name, count in step.counts.items())
        return format_html_join("", '<div class="whitespace-nowrap">{}: {}</div>', rows) or "-"


class CloseForm(pages.ReasonForm):
    """Whose days to close."""

    program = forms.ModelChoiceField(Program.objects.all(), label=_("Program"), widget=UnfoldAdminSelectWidget)
    field_order = ("program", "reason")


@admin.register(DayClose)
class DayCloseAdmin(StateColumn, ReadOnlyAdmin):
    list_display = ("day", "program", "state", "started_at", "duration", "attempts", "requested_by")
    list_select_related = ("program",)
    list_filter = ("program", ("finished_at", admin.EmptyFieldListFilter))
    ordering = ("-day", "-id")
    fields = (
        *("program", "day", "through", "shown_state", "requested_by", "started_at", "finished_at", "duration"),
        *("attempts", "leased_until", "last_error"),
    )
    inlines = [StepInline]
    actions_list = ("close_now",)

    def audit_targets(self, row: Any) -> list[str]:
        return [f"close {row.program.code} {row.day}"]

    @display(description=_("State"), label={"finished": "success", "running": "info", "stopped": "danger"})  # type: ignore[untyped-decorator]
    def state(self, close: DayClose) -> tuple[str, str]:
        if close.finished_at is not None:
            return "finished", gettext("finished")
        is_held = close.leased_until > timezone.now()
        return ("running", gettext("running")) if is_held else ("stopped", gettext("to be continued"))

    @admin.display(description=_("Duration"))
    def duration(self, close: DayClose) -> str:
        return _duration(close.started_at, close.finished_at)

    @pages.button(
        _("Close due days now"), url_path="close", permission=CLOSE, icon="play_arrow", variant=ActionVariant.PRIMARY
    )
    def close_now(self, request: HttpRequest) -> HttpResponse:
        """Put the oldest due day on record and hand the work to the workers."""
        form = CloseForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            if _start(actor=pages.operator(request).get_username(), **form.cleaned_data):
                messages.success(request, gettext("The close is handed to the workers. Reload to see how it goes."))
            else:
                messages.info(request, gettext("No day is due: everything that has ended is closed."))
            return HttpResponseRedirect(pages.list_of(DayClose))
        lines = [
            _("Days close by themselves shortly after they end. This starts at once what is due."),
            _("Closing is safe to repeat: what is closed stays as it is."),
        ]
        return pages.ask(self, request, title=_("Close due days now"), form=form, submit=_("Start"), lines=lines)


def _start(*, program: Program, reason: str, actor: str) -> bool:
    """Put the oldest due day on record and hand it to the workers; False if none is due."""
    at = timezone.now()
    due = day_close.list_due_days(program=program, at=at)
    try:
        for day in due[:1]:
            day_close.request_close(program=program, day=day, actor=actor, reason=reason, at=at)
    except day_close.DayNotDue:
        return False  # closed a moment ago
    if due:
        with suppress(OperationalError):  # without Redis the clock's next tick finds it
            close_program.delay(program_id=program.pk, requested_by=actor)
    return bool(due)
