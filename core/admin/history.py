"""The page History: what the audit trail says of a row, whoever did it and by whichever way."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse

from core.admin import pages
from core.models import AuditEntry, Program

ENTRIES_SHOWN = 200


class HistoryMixin:
    """Shows the audit trail instead of Django's own log, which knows nothing of services, keys and commands."""

    def audit_targets(self, row: Any) -> list[str]:
        """Return how the audit trail names the row, and what belongs to it."""
        return [f"{row._meta.model_name} {row.pk}"]

    def audit_condition(self, row: Any) -> Q:
        """Return which entries are about the row."""
        program = row if isinstance(row, Program) else getattr(row, "program", None)
        if program is None and getattr(row, "member", None) is not None:
            program = row.member.program
        own = Q(program=None) if program is None else Q(program=program) | Q(program=None)
        return own & Q(target__in=self.audit_targets(row))

    def history_view(self, request: HttpRequest, object_id: str, _extra: Any = None) -> HttpResponse:
        """Show the latest entries to those who may see the audit trail."""
        row = pages.find_row(self, request, object_id)
        may_see = request.user.has_perm("core.view_auditentry")
        entries = list_entries(self.audit_condition(row)) if may_see else []
        shown = [_show(entry) for entry in entries[:ENTRIES_SHOWN]]
        context = {"entries": shown, "has_more": len(entries) > ENTRIES_SHOWN, "may_see": may_see}
        return pages.show(self, request, "core/history.html", title=pages.HISTORY, row=row, **context)


def list_entries(condition: Q) -> list[AuditEntry]:
    """Return the latest entries that a condition is true of, newest first; one more than are shown."""
    found = AuditEntry.objects.filter(condition).order_by("-recorded_at", "-id")
    return list(found[: ENTRIES_SHOWN + 1])


def _show(entry: AuditEntry) -> dict[str, Any]:
    names = ("recorded_at", "actor", "action", "target", "reason")
    shown = {name: getattr(entry, name) for name in names}
    return shown | {"shown_before": pages.pretty(entry.before), "shown_after": pages.pretty(entry.after)}
