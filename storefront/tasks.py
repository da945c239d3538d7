"""The clock's way into storefront: the close of the local days of every program."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import shared_task
from django.conf import settings

from core.models import Program
from membership.tasks import evaluate_chunk
from storefront.services import day_close
from storefront.services.checkouts import holding

logger = logging.getLogger(__name__)

# Half of the broker's visibility timeout. A close that takes longer is interrupted, and goes on with the next tick.
CLOSE_SECONDS = 1_800


@shared_task(name="storefront.close_days", soft_time_limit=60, time_limit=90)
def close_days(**_kwargs: Any) -> None:
    """Start the close of each program that has a day due. Safe to run twice and side by side."""
    for program in day_close.list_due_programs(at=datetime.now(UTC)):
        close_program.delay(program_id=program.pk)


@shared_task(name="storefront.close_program", soft_time_limit=CLOSE_SECONDS, time_limit=CLOSE_SECONDS + 60)
def close_program(*, program_id: int, requested_by: str = day_close.CLOCK, **_kwargs: Any) -> None:
    """Close the oldest day that is due, then ask for the next. What fails is noted, and tried again by a later tick."""
    at = datetime.now(UTC)
    program = Program.objects.get(pk=program_id)
    due = day_close.list_due_days(program=program, at=at)
    if not due:
        return
    try:
        day_close.close_day(program=program, day=due[0], at=at, requested_by=requested_by, share=_share)
    except (day_close.CloseUnderWay, day_close.LeaseLost, day_close.DayNotDue) as reason:
        logger.info("%s is left to another worker: %s", program.code, reason)
        return
    if due[1:]:
        close_program.delay(program_id=program_id, requested_by=requested_by)


@shared_task(name="storefront.end_checkouts", soft_time_limit=50, time_limit=60)
def end_checkouts(**_kwargs: Any) -> None:
    """Free what lapsed checkouts hold, and forget those that ended long ago. Safe to run twice and side by side."""
    at = datetime.now(UTC)
    holding.end_lapsed(at=at)
    holding.forget_ended(
        before=at - timedelta(days=settings.CHECKOUT_DAYS),
        held_before=at - timedelta(days=settings.HELD_CHECKOUT_DAYS),
    )


def _share(evaluation_id: int) -> None:
    evaluate_chunk.delay(evaluation_id=evaluation_id)
