"""The clock's way into membership. Every task is safe to run twice and side by side."""

from datetime import UTC, datetime
from typing import Any

from celery import shared_task
from django.db import OperationalError

from membership.models import Ladder
from membership.services import evaluations

# The barrier gives up after the lock timeout when a long intake holds it back: it is tried again.
_RETRY: dict[str, Any] = {"autoretry_for": (OperationalError,), "retry_backoff": True, "max_retries": 5}


@shared_task(name="membership.evaluate_due", soft_time_limit=60, time_limit=90)
def evaluate_due(**_kwargs: Any) -> None:
    """Start the oldest evaluation of each ladder that has not finished; the next one follows when it has."""
    now = datetime.now(UTC)
    for ladder in Ladder.objects.select_related("program"):
        for instant in evaluations.list_due(ladder=ladder, until=now)[:1]:
            evaluate_ladder.delay(ladder_id=ladder.pk, instant=instant.isoformat())


@shared_task(name="membership.evaluate_ladder", soft_time_limit=600, time_limit=660, **_RETRY)
def evaluate_ladder(*, ladder_id: int, instant: str, **_kwargs: Any) -> None:
    """Apply the late facts, begin an evaluation and hand the open chunks to the workers."""
    at = datetime.now(UTC)
    ladder = Ladder.objects.select_related("program").get(pk=ladder_id)
    evaluations.apply_dirty(ladder=ladder, at=at)
    evaluation = evaluations.begin(ladder=ladder, instant=datetime.fromisoformat(instant), at=at)
    for _ in range(max(1, evaluation.chunks.filter(done_at=None).count())):
        evaluate_chunk.delay(evaluation_id=evaluation.pk)


@shared_task(name="membership.evaluate_chunk", soft_time_limit=600, time_limit=660, **_RETRY)
def evaluate_chunk(*, evaluation_id: int, **_kwargs: Any) -> None:
    """Decide for one range of members; whoever does the last one closes the evaluation and looks for the next."""
    at = datetime.now(UTC)
    evaluations.run_chunk(evaluation_id=evaluation_id, at=at)
    if evaluations.finish(evaluation_id=evaluation_id, at=at):
        evaluate_due.delay()
