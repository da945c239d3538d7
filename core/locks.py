"""The row locks of core. Order: a program before what it owns, then ascending id; the outbox stands alone.

Every lock is FOR NO KEY UPDATE: it keeps writers out and lets rows that refer to the locked one come in.
"""

from datetime import datetime
from typing import TypeVar

from django.db import connection
from django.db.models import Model, Q, QuerySet

from core.models import EventFeed, OutboxEvent, OutboxReceipt

M = TypeVar("M", bound=Model)


def lock_row(row: M) -> M:
    """Lock one row, such as the owner of versions, until the transaction ends, and return it as it is now."""
    return type(row)._base_manager.select_for_update(no_key=True).get(pk=row.pk)


def lock_waiting_events(*, limit: int, wait: bool) -> QuerySet[OutboxEvent]:
    """Lock the oldest events that have no receipts yet, leaving out those of another worker unless told to wait."""
    waiting = OutboxEvent.objects.filter(dispatched_at=None).order_by("id")
    return waiting.select_for_update(no_key=True, skip_locked=not wait)[:limit]


def lock_due_receipt(*, at: datetime, wait: bool) -> OutboxReceipt | None:
    """Lock the receipt that is due longest.

    Those of another worker are left out unless told to wait; then what somebody is on its first attempt at is due too.
    """
    due_now = Q(next_attempt_at__lte=at)
    if wait:
        due_now |= Q(attempts=1, last_error="")
    due = OutboxReceipt.objects.filter(due_now, done_at=None).order_by("next_attempt_at", "id")
    locked = due.select_related("event").select_for_update(no_key=True, skip_locked=not wait, of=("self",))
    return locked.first()


def lock_receipt(receipt_id: int, *, wait: bool) -> OutboxReceipt | None:
    """Lock a receipt that is not done; None if it is, or another worker has it and there is no waiting."""
    open_ones = OutboxReceipt.objects.filter(pk=receipt_id, done_at=None).select_related("event")
    return open_ones.select_for_update(no_key=True, skip_locked=not wait, of=("self",)).first()


def lock_feed(program_id: int) -> EventFeed:
    """Lock the number of a program's last event until the transaction ends: who holds it announces alone."""
    feeds = EventFeed.objects.select_for_update(no_key=True)
    feed = feeds.filter(pk=program_id).first()
    if feed is None:
        EventFeed.objects.bulk_create([EventFeed(program_id=program_id)], ignore_conflicts=True)
        feed = feeds.get(pk=program_id)
    return feed


# A common table expression is worked out once, so that the limits hold whatever the plan.
_CLAIM_DELIVERIES = """
    WITH picked AS MATERIALIZED (
        SELECT due.id FROM core_webhookendpoint w
        CROSS JOIN LATERAL (
            SELECT count(*) AS n FROM core_webhookdelivery
            WHERE endpoint_id = w.id AND next_attempt_at <= %(at)s AND leased_until > %(at)s) flying
        CROSS JOIN LATERAL (
            SELECT id, next_attempt_at FROM core_webhookdelivery
            WHERE endpoint_id = w.id AND next_attempt_at <= %(at)s AND (leased_until IS NULL OR leased_until <= %(at)s)
            ORDER BY next_attempt_at, id LIMIT greatest(0, %(per_endpoint)s - flying.n)
            FOR NO KEY UPDATE SKIP LOCKED) due
        WHERE w.disabled_at IS NULL
        ORDER BY flying.n + row_number() OVER (PARTITION BY w.id ORDER BY due.next_attempt_at, due.id), w.id
        LIMIT %(limit)s)
    UPDATE core_webhookdelivery d SET leased_until = %(until)s, attempts = attempts + 1
    FROM picked WHERE d.id = picked.id RETURNING d.id"""


def claim_deliveries(*, at: datetime, until: datetime, limit: int, per_endpoint: int) -> list[int]:
    """Lease due deliveries of enabled endpoints until an instant and return their ids; others' are left out.

    Endpoints take turns, and one has at most `per_endpoint` under way (a little more while two senders claim at once).
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_DELIVERIES, {"at": at, "until": until, "limit": limit, "per_endpoint": per_endpoint})
        return [delivery_id for (delivery_id,) in cursor.fetchall()]
