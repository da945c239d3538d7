"""What the subscribers of these tests do: one audit entry for each event, so that effects can be counted."""

from datetime import datetime
from typing import Any

from core.models import AuditEntry
from core.services import audit


def record_effect(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    audit.record(action="test.effect", target=f"event {payload['number']}", actor="test", at=at)


def list_effects() -> list[str]:
    """Return the targets of all effects in the order in which they were written."""
    return list(AuditEntry.objects.filter(action="test.effect").order_by("id").values_list("target", flat=True))
