"""The removal of what has served its time: records that lapse, logs, and old entries of the feed and the audit trail.

What happened is kept for ever: facts, tiers, the ledger, months. Everything here can be run twice and side by side;
each batch is a transaction of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.sessions.models import Session
from django.db import connection, models, transaction
from django.db.models import Exists, Max, Min, OuterRef, Q, QuerySet

from core.models import (
    AuditEntry,
    Event,
    IdempotencyRecord,
    LoginTries,
    OutboxEvent,
    OutboxReceipt,
    Program,
    WebhookAttempt,
    WebhookDelivery,
)
from core.services import audit
from core.services.logins import WINDOW as LOGIN_WINDOW

# Rows per transaction: a fraction of a second.
BATCH_ROWS = 2_000
# Keys are promised to work for a day.
SHORTEST_IDEMPOTENCY = timedelta(days=1)
# The database itself refuses to forget what is younger than a year.
SHORTEST_AUDIT = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days each kind of record is kept. `audit` 0: for ever."""

    idempotency: int
    outbox: int
    events: int
    webhook_log: int
    audit: int


def clean_up(*, keep: Retention, at: datetime) -> dict[str, int]:
    """Remove what is older than it is kept, and return how many rows of each kind went.

    Idempotency: a second call finds nothing.
    Locks: the rows of one batch at a time.
    """
    return {
        "idempotency_records": _forget_keys(at - max(timedelta(keep.idempotency), SHORTEST_IDEMPOTENCY), at),
        "outbox_events": _forget_news(at - timedelta(keep.outbox)),
        "events": _forget_events(at - timedelta(keep.events)),
        "webhook_attempts": delete(WebhookAttempt.objects.filter(attempted_at__lt=at - timedelta(keep.webhook_log))),
        "login_tries": delete(LoginTries.objects.filter(since__lt=at - LOGIN_WINDOW)),
        "sessions": delete(Session.objects.filter(expire_date__lt=at)),
        "audit_entries": _forget_audit(at - max(timedelta(keep.audit), SHORTEST_AUDIT), at) if keep.audit else 0,
    }


def _forget_keys(before: datetime, at: datetime) -> int:
    """Remove old idempotency records, but for a write that is still under way."""
    return delete(IdempotencyRecord.objects.filter(Q(leased_until__lt=at) | ~Q(status=None), created_at__lt=before))


def _forget_news(before: datetime) -> int:
    """Remove outbox events that every subscriber has done."""
    waiting = OutboxReceipt.objects.filter(event=OuterRef("pk"), done_at=None)
    return delete(OutboxEvent.objects.filter(~Exists(waiting), dispatched_at__lt=before, recorded_at__lt=before))


def _forget_events(before: datetime) -> int:
    """Remove the old end of each program's feed, up to the first event that is still to be delivered.

    The feed stays without gaps, so that a reader who comes too late is told so.
    """
    gone = 0
    for program in Program.objects.all():
        events = Event.objects.filter(program=program)
        last = events.filter(recorded_at__lt=before).aggregate(last=Max("number"))["last"]
        due = WebhookDelivery.objects.filter(event__program=program, endpoint__disabled_at=None)
        first_due = due.exclude(next_attempt_at=None).aggregate(first=Min("event__number"))["first"]
        if last is not None:
            gone += delete(events.filter(number__lte=last if first_due is None else min(last, first_due - 1)))
    return gone


def delete(rows: QuerySet[models.Model]) -> int:
    """Delete rows with what is part of them, batch by batch, and return how many rows that was without the parts."""
    return sum(_delete_batch(rows.model, ids) for ids in _iter_batches(rows))


def _iter_batches(rows: QuerySet[models.Model]) -> Iterator[list[object]]:
    while ids := list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH_ROWS]):
        yield ids


@transaction.atomic
def _delete_batch(model: type[models.Model], ids: list[object]) -> int:
    """Another worker may have been faster: what it deleted counts there."""
    _, by_model = model._default_manager.filter(pk__in=ids).delete()
    return by_model.get(model._meta.label, 0)


@transaction.atomic
def _forget_audit(before: datetime, at: datetime) -> int:
    """Remove old audit entries, by the one function that may, and leave an entry that says so."""
    if not AuditEntry.objects.filter(recorded_at__lt=before).exists():
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT core_forget_audit(%s)", [before])
        gone = int(cursor.fetchone()[0])
    audit.record(
        action="audit.forgotten", target=f"entries before {before.isoformat()}", actor="the clock",
        after={"entries": gone}, at=at,
    )  # fmt: skip
    return gone
