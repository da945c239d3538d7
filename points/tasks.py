"""The clock's way into points."""

import logging
from datetime import UTC, datetime
from typing import Any

from celery import shared_task

from core.models import Program
from points.services.checks import check_ledger

logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


@shared_task(name="points.check_ledgers", soft_time_limit=14_000, time_limit=14_400)
def check_ledgers(**_kwargs: Any) -> None:
    """Start the check of every program's ledger, each as a task of its own."""
    for program_id in Program.objects.order_by("pk").values_list("pk", flat=True):
        check_program.delay(program_id=program_id)


@shared_task(name="points.check_program", soft_time_limit=14_000, time_limit=14_400)
def check_program(*, program_id: int, **_kwargs: Any) -> None:
    """Verify one ledger. Reads only, so it may run twice and side by side; each run keeps its own outcome."""
    check = check_ledger(program=Program.objects.get(pk=program_id), now=_now)
    if check.findings:
        logger.error("the ledger of program %s has %s finding(s)", program_id, check.findings)
