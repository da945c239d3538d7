"""The clock's way into analytics."""

from datetime import UTC, datetime
from typing import Any

from celery import shared_task

from analytics.services import wallet_days
from core.models import Program


@shared_task(name="analytics.refresh_wallet_days", soft_time_limit=600, time_limit=660)
def refresh_wallet_days(**_kwargs: Any) -> None:
    """Bring the sums of every program's ledger up to date. Safe to run twice and side by side."""
    for program in Program.objects.order_by("pk"):
        wallet_days.refresh(program=program, at=datetime.now(UTC))
