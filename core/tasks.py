"""The clock's way into core."""

from datetime import UTC, datetime
from typing import Any

from celery import shared_task

from core.services import outbox

# About five seconds of work: the next run, due by then, takes over what is left.
RECEIPTS_PER_RUN = 1_000


@shared_task(name="core.deliver_outbox", soft_time_limit=300, time_limit=330)
def deliver_outbox(**_kwargs: Any) -> None:
    """Dispatch and deliver what is waiting. Safe to run twice and side by side; what fails waits for its retry."""
    at = datetime.now(UTC)
    outbox.dispatch(at=at)
    outbox.deliver(at=at, limit=RECEIPTS_PER_RUN)
