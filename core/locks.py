"""The row locks of core. Order: a program before what it owns, then ascending id; the outbox stands alone.

Every lock is FOR NO KEY UPDATE: it keeps writers out and lets rows that refer to the locked one come in.
"""

from datetime import datetime
from typing import TypeVar

from django.db.models import Model, QuerySet

from core.models import OutboxEvent, OutboxReceipt

M = TypeVar("M", bound=Model)


def lock_row(row: M) -> M:
    """Lock one row, such as the owner of versions, until the transaction ends, and return it as it is now."""
    return type(row)._base_manager.select_for_update(no_key=True).get(pk=row.pk)


def lock_waiting_events(*, limit: int, wait: bool) -> QuerySet[OutboxEvent]:
    """Lock the oldest events that have no receipts yet, leaving out those of another worker unless told to wait."""
    waiting = OutboxEvent.objects.filter(dispatched_at=None).order_by("id")
    return waiting.select_for_update(no_key=True, skip_locked=not wait)[:limit]


def lock_due_receipt(*, at: datetime, wait: bool) -> OutboxReceipt | None:
    """Lock the receipt that is due longest, leaving out those of another worker unless told to wait."""
    due = OutboxReceipt.objects.filter(done_at=None, next_attempt_at__lte=at).order_by("next_attempt_at", "id")
    locked = due.select_related("event").select_for_update(no_key=True, skip_locked=not wait, of=("self",))
    return locked.first()
