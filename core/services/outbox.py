"""The outbox: news written with the facts it tells of, delivered at least once, applied exactly once.

An event waits until `dispatch` has made one receipt per subscriber. `deliver` runs each receipt's handler in the
transaction that marks the receipt done: a worker that dies leaves neither the effect nor the mark. Receipts are
delivered in the order of their events; a failed one steps aside until its next attempt, and so may be overtaken.
"""

import logging
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction

from core import events, locks
from core.models import OutboxEvent, OutboxReceipt

logger = logging.getLogger(__name__)

# Receipts are made for a batch of events in one short transaction.
DISPATCH_BATCH = 500
FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(hours=1)
# A traceback's last line says enough; the log has the rest.
ERROR_LENGTH = 1_000


class Delivery(NamedTuple):
    """How many receipts were marked done and how many failed and wait for another attempt."""

    done: int
    failed: int


def publish(*, program_id: int, topic: str, payload: dict[str, Any], at: datetime) -> None:
    """Write an event in the caller's transaction. The payload holds ids and scalars only."""
    OutboxEvent.objects.create(program_id=program_id, topic=topic, payload=payload, recorded_at=at)


@transaction.atomic(durable=True)
def dispatch(*, at: datetime, limit: int = DISPATCH_BATCH, wait: bool = False) -> int:
    """Make the receipts of the oldest waiting events, due at once, and return how many events that were.

    Locks: those events; what another worker has locked is left to it, or waited for.
    """
    waiting = list(locks.lock_waiting_events(limit=limit, wait=wait))
    OutboxReceipt.objects.bulk_create(
        OutboxReceipt(event=event, subscriber=name, next_attempt_at=at)
        for event in waiting
        for name in events.list_subscribers(event.topic)
    )
    return OutboxEvent.objects.filter(pk__in=[event.pk for event in waiting]).update(dispatched_at=at)


def deliver(*, at: datetime, limit: int, wait: bool = False) -> Delivery:
    """Deliver up to `limit` due receipts, each in its own transaction; a failing one does not stop the rest.

    Locks: one receipt at a time; what another worker has locked is left to it, or waited for.
    """
    outcomes: list[bool] = []
    while len(outcomes) < limit and (outcome := _deliver_next(at=at, wait=wait)) is not None:
        outcomes.append(outcome)
    return Delivery(done=outcomes.count(True), failed=outcomes.count(False))


def drain(*, at: datetime) -> Delivery:
    """Dispatch and deliver until nothing is due, what the handlers publish and other workers hold included."""
    done = failed = 0
    while True:
        dispatched = dispatch(at=at, wait=True)
        delivery = deliver(at=at, limit=DISPATCH_BATCH, wait=True)
        if not dispatched and delivery == Delivery(0, 0):
            return Delivery(done, failed)
        done, failed = done + delivery.done, failed + delivery.failed


@transaction.atomic(durable=True)
def _deliver_next(*, at: datetime, wait: bool) -> bool | None:
    """Deliver the receipt that is due longest: True if done, False if it failed, None if none is due."""
    receipt = locks.lock_due_receipt(at=at, wait=wait)
    if receipt is None:
        return None
    receipt.attempts += 1
    event = receipt.event
    try:
        with transaction.atomic():
            handler = events.get_handler(event.topic, receipt.subscriber)
            handler(program_id=event.program_id, payload=event.payload, at=at)
    except Exception as error:  # whatever a subscriber raises is its own: recorded, logged, tried again
        logger.exception("outbox event %s: %s failed", event.pk, receipt.subscriber)
        receipt.next_attempt_at = at + retry_delay(receipt.attempts)
        receipt.last_error = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
    else:
        receipt.done_at = at
    receipt.save(update_fields=["attempts", "next_attempt_at", "last_error", "done_at"])
    return receipt.done_at is not None


def retry_delay(attempts: int) -> timedelta:
    """Return how long a receipt waits after so many failed attempts: doubling, up to an hour."""
    doublings = min(attempts - 1, 20)  # past the cap anyway, and no overflow
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)
