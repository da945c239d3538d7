"""The clock's way into referrals: orders whose return window is over, and clicks that have served their time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from celery import shared_task
from django.conf import settings

from core.models import Program
from referrals.models import ReferralPolicy
from referrals.services import cleanup, qualification, rewards


@shared_task(name="referrals.mature", soft_time_limit=240, time_limit=270)
def mature(**_kwargs: Any) -> None:
    """Decide what is due in each program, batch by batch, and look again at what was decided.

    Safe to run twice and side by side.
    """
    at = datetime.now(UTC)
    for program in Program.objects.filter(pk__in=ReferralPolicy.objects.values("program")):
        while qualification.mature(program=program, at=at) == qualification.BATCH:
            pass
        while qualification.recheck(program=program, at=at) == qualification.BATCH:
            pass
        rewards.lapse_waiting(program=program, at=at)


@shared_task(name="referrals.forget_touches", soft_time_limit=1_500, time_limit=1_560)
def forget_touches(**_kwargs: Any) -> None:
    """Remove old clicks. Safe to run twice and side by side."""
    cleanup.forget_touches(before=datetime.now(UTC) - timedelta(days=settings.TOUCH_DAYS))
