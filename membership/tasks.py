"""The clock's way into membership."""

from datetime import UTC, datetime
from typing import Any

from celery import shared_task

from membership.services import evaluations


@shared_task(name="membership.evaluate_chunk", soft_time_limit=600, time_limit=660)
def evaluate_chunk(*, evaluation_id: int, **_kwargs: Any) -> None:
    """Help with an evaluation: decide for one range of members that nobody has taken yet.

    Safe to run twice and side by side. Whoever runs the evaluation waits for its chunks and finishes it.
    """
    evaluations.run_chunk(evaluation_id=evaluation_id, at=datetime.now(UTC))
