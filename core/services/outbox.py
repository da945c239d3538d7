"""The outbox: news written with the facts it tells of, delivered at least once, applied exactly once.

An event waits until `dispatch` has made one receipt per subscriber. `deliver` runs each receipt's handler in the
transaction that marks the receipt done: a worker that dies leaves neither the effect nor the mark. What it leaves is
the attempt, counted in a transaction of its own before the handler runs: a receipt that ends its workers steps aside
like one that fails. Receipts are delivered in the order of their events; one that waits for its next attempt may be
overtaken.
"""

import json
import logging
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from celery.exceptions import SoftTimeLimitExceeded
from django.contrib.auth.models import User
from django.db import connection, transaction

from core import events, locks
from core.models import OutboxEvent, OutboxReceipt
from core.services import audit

logger = logging.getLogger(__name__)

# Receipts are made for a batch of events in one short transaction.
DISPATCH_BATCH = 500
FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(hours=1)
# A traceback's last line says enough; the log has the rest.
ERROR_LENGTH = 1_000
NO_OUTCOME = "the worker ended before the handler did"

_PUBLISH = "INSERT INTO core_outboxevent (program_id, topic, payload, recorded_at) VALUES (%s, %s, %s, %s)"


class Delivery(NamedTuple):
    """How many receipts were marked done and how many failed and wait for another attempt."""

    done: int
    failed: int


def publish(*, program_id: int, topic: str, payload: dict[str, Any], at: datetime) -> None:
    """Write an event in the caller's transaction. The payload holds ids and scalars only."""
    with connection.cursor() as cursor:
        cursor.execute(_PUBLISH, [program_id, topic, json.dumps(payload), at])


@transaction.atomic(durable=True)
def dispatch(*, at: datetime, limit: int = DISPATCH_BATCH, wait: bool = False) -> int:
    """Make the receipts of the oldest waiting events, due at once, and return how many events that were.

    They are due since the event was recorded: whoever works at an earlier instant than this worker finds them too.
    Locks: those events; what another worker has locked is left to it, or waited for.
    """
    waiting = list(locks.lock_waiting_events(limit=limit, wait=wait))
    OutboxReceipt.objects.bulk_create(
        OutboxReceipt(event=event, subscriber=name, next_attempt_at=min(at, event.recorded_at))
        for event in waiting
        for name in events.list_subscribers(event.topic)
    )
    return OutboxEvent.objects.filter(pk__in=[event.pk for event in waiting]).update(dispatched_at=at)


def deliver(*, at: datetime, limit: int, wait: bool = False) -> Delivery:
    """Deliver up to `limit` due receipts, each in its own transaction; a failing one does not stop the rest.

    Locks: one receipt at a time, twice: to count the attempt, and to make it. What another worker has locked is left
    to it, or waited for, as what it is on its first attempt at.
    """
    outcomes: list[bool | None] = []
    while len(outcomes) < limit and (claimed := _claim_next(at=at, wait=wait)) is not None:
        outcomes.append(_deliver(claimed, at=at, wait=wait))
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
def _claim_next(*, at: datetime, wait: bool) -> OutboxReceipt | None:
    """Count an attempt of the receipt that is due longest and return it; None if none is due.

    It steps aside until its next attempt: no other worker claims what this one is about to make, and what ends its
    worker does not end the next at once.
    """
    receipt = locks.lock_due_receipt(at=at, wait=wait)
    if receipt is None:
        return None
    if receipt.attempts:
        receipt.last_error = receipt.last_error or NO_OUTCOME
    receipt.attempts += 1
    receipt.next_attempt_at = at + retry_delay(receipt.attempts)
    receipt.save(update_fields=["attempts", "next_attempt_at", "last_error"])
    return receipt


@transaction.atomic(durable=True)
def _deliver(claimed: OutboxReceipt, *, at: datetime, wait: bool) -> bool | None:
    """Run the handler of a claimed receipt: True if done, False if it failed, None if another worker has it.

    On the first attempt nobody else runs it, but who looked for a due one may hold its lock for an instant.
    """
    receipt = locks.lock_receipt(claimed.pk, wait=wait or claimed.attempts == 1)
    if receipt is None:
        return None
    event = receipt.event
    try:
        with transaction.atomic():
            handler = events.get_handler(event.topic, receipt.subscriber)
            handler(program_id=event.program_id, payload=event.payload, at=at)
    except SoftTimeLimitExceeded:
        raise  # the task's time is up, which says nothing about the subscriber
    except Exception as error:  # whatever a subscriber raises is its own: recorded, logged, tried again
        logger.exception("outbox event %s: %s failed", event.pk, receipt.subscriber)
        receipt.last_error = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
    else:
        receipt.done_at = at
    receipt.save(update_fields=["last_error", "done_at"])
    return receipt.done_at is not None


@transaction.atomic
def retry(*, at: datetime, user: User, event: OutboxEvent | None = None) -> int:
    """Make what has failed due at once, of one event or of all, and return how many receipts that were."""
    failed = OutboxReceipt.objects.filter(done_at=None, attempts__gt=0, next_attempt_at__gt=at)
    count = (failed if event is None else failed.filter(event=event)).update(next_attempt_at=at)
    if count:
        audit.record(
            action="outbox.retried",
            target=f"outbox {event.pk}" if event else "outbox",
            actor=user.get_username(),
            user=user,
            program=event.program if event else None,
            after={"receipts": count},
            at=at,
        )
    return count


def retry_delay(attempts: int) -> timedelta:
    """Return how long a receipt waits after so many failed attempts: doubling, up to an hour."""
    doublings = min(attempts - 1, 20)  # past the cap anyway, and no overflow
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)
