"""The clock's way into membership."""

from datetime import UTC, datetime, timedelta
from typing import Any

from celery import shared_task
from django.conf import settings

from membership.models import Ladder
from membership.services import evaluations, fingerprints, overrides


@shared_task(name="membership.evaluate_chunk", soft_time_limit=600, time_limit=660)
def evaluate_chunk(*, evaluation_id: int, **_kwargs: Any) -> None:
    """Help with an evaluation: decide for one range of members that nobody has taken yet.

    Safe to run twice and side by side. Whoever runs the evaluation waits for its chunks and finishes it.
    """
    evaluations.run_chunk(evaluation_id=evaluation_id, at=datetime.now(UTC))


@shared_task(name="membership.end_overrides", soft_time_limit=240, time_limit=270)
def end_overrides(**_kwargs: Any) -> None:
    """Give members whose override has ended the tier that follows from the facts, minutes after it and not at midnight.

    Safe to run twice and side by side; the close of the day does the same for what is left.
    """
    at = datetime.now(UTC)
    for ladder in Ladder.objects.select_related("program").order_by("pk"):
        overrides.end_overrides(ladder=ladder, at=at)


@shared_task(name="membership.forget_fingerprints", soft_time_limit=1_500, time_limit=1_560)
def forget_fingerprints(**_kwargs: Any) -> None:
    """Remove old fingerprints. Safe to run twice and side by side."""
    fingerprints.forget(before=datetime.now(UTC) - timedelta(days=settings.FINGERPRINT_DAYS))
