"""The clock's way into core."""

from datetime import UTC, datetime
from typing import Any

from celery import shared_task
from django.conf import settings

from core.services import cleanup, outbox, webhook_sending

# About five seconds of work: the next run, due by then, takes over what is left.
RECEIPTS_PER_RUN = 1_000


@shared_task(name="core.deliver_outbox", soft_time_limit=300, time_limit=330)
def deliver_outbox(**_kwargs: Any) -> None:
    """Dispatch and deliver what is waiting. Safe to run twice and side by side; what fails waits for its retry."""
    at = datetime.now(UTC)
    outbox.dispatch(at=at)
    outbox.deliver(at=at, limit=RECEIPTS_PER_RUN)


@shared_task(name="core.send_webhooks", soft_time_limit=120, time_limit=150)
def send_webhooks(**_kwargs: Any) -> None:
    """Send the webhooks that are due. Safe to run twice and side by side; what was not written down is sent again."""
    webhook_sending.send_due(clock=lambda: datetime.now(UTC))


@shared_task(name="core.clean_up", soft_time_limit=1_500, time_limit=1_560)
def clean_up(**_kwargs: Any) -> None:
    """Remove what has served its time. Safe to run twice and side by side."""
    cleanup.clean_up(keep=cleanup.Retention(**settings.RETENTION_DAYS), at=datetime.now(UTC))
