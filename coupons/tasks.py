"""The clock's way into coupons."""

from datetime import UTC, datetime, timedelta
from typing import Any

from celery import shared_task
from django.conf import settings

from coupons.services import code_batches, guessing, persons, recalls, redemptions


@shared_task(name="coupons.release_lapsed", soft_time_limit=120, time_limit=150)
def release_lapsed(**_kwargs: Any) -> None:
    """Release what checkouts held for too long. Safe to run twice and side by side."""
    redemptions.release_lapsed(at=datetime.now(UTC))


@shared_task(name="coupons.revoke_recalled", soft_time_limit=600, time_limit=660)
def revoke_recalled(**_kwargs: Any) -> None:
    """Revoke the open claims of coupons that were called back. Safe to run twice and side by side."""
    for recall_id in recalls.list_unfinished():
        recalls.revoke_recalled(recall_id=recall_id, at=datetime.now(UTC))


@shared_task(name="coupons.forget_persons", soft_time_limit=1_500, time_limit=1_560)
def forget_persons(**_kwargs: Any) -> None:
    """Remove old notes of who has had a coupon once per person. Safe to run twice and side by side."""
    persons.forget(before=datetime.now(UTC) - timedelta(days=settings.FINGERPRINT_DAYS))


@shared_task(name="coupons.make_codes", soft_time_limit=600, time_limit=660)
def make_codes(*, batch_id: int, **_kwargs: Any) -> None:
    """Make the codes of a batch. Safe to run twice and side by side; one that is killed is taken over."""
    code_batches.make_codes(batch_id=batch_id, at=datetime.now(UTC))


@shared_task(name="coupons.start_batches", soft_time_limit=60, time_limit=90)
def start_batches(**_kwargs: Any) -> None:
    """Ask for a worker for each batch that has none. Safe to run twice and side by side."""
    for batch_id in code_batches.list_waiting():
        make_codes.delay(batch_id=batch_id)


@shared_task(name="coupons.tell_of_guessing", soft_time_limit=60, time_limit=90)
def tell_of_guessing(*, program_id: int, wrong_codes: int, **_kwargs: Any) -> None:
    """Publish that many wrong codes were tried within a minute. Twice, it is told twice."""
    guessing.publish_alarm(program_id=program_id, wrong_codes=wrong_codes, at=datetime.now(UTC))
