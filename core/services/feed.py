"""The events feed: what happened, told to the world in the order of commits, with webhooks for those who asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Min

from core import locks
from core.event_types import EventType
from core.models import Event, EventFeed

_MAKE_DELIVERIES = """
    INSERT INTO core_webhookdelivery (endpoint_id, event_id, attempts, next_attempt_at)
    SELECT w.id, e.id, 0, %s
    FROM core_event e
    JOIN core_webhookendpoint w ON w.program_id = e.program_id AND w.disabled_at IS NULL
        AND (w.event_types = '{}' OR e.type = ANY (w.event_types))
    WHERE e.program_id = %s AND e.number BETWEEN %s AND %s
    ORDER BY e.number, w.id"""


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell. `subject`: the member's external id, where it is about one. `data` is JSON."""

    type: EventType
    subject: str
    data: dict[str, Any]
    occurred_at: datetime


class EventsGone(Exception):
    """What follows the number asked for is no longer kept in full; `first_kept` is the oldest event there is."""

    def __init__(self, first_kept: int) -> None:
        super().__init__(f"events before {first_kept} are no longer kept")
        self.first_kept = first_kept


class EventsAhead(Exception):
    """The number asked for has not been reached."""

    def __init__(self, last_number: int) -> None:
        super().__init__(f"the last event is {last_number}")
        self.last_number = last_number


@transaction.atomic
def announce(*, program_id: int, news: Sequence[News], at: datetime) -> None:
    """Append events to the feed, in the order given, and make the deliveries of every endpoint that wants them.

    Locks: the feed of the program until the transaction ends, so that numbers have no gap and commit in their order.
    """
    if news:
        first, last = _append(program_id, news, at)
        with connection.cursor() as cursor:
            cursor.execute(_MAKE_DELIVERIES, [at, program_id, first, last])


@transaction.atomic
def announce_test(*, program_id: int, data: dict[str, Any], at: datetime) -> Event:
    """Append an event of type `webhook.test`, which goes to no endpoint by itself, and return it.

    Locks: as `announce`.
    """
    number, _ = _append(program_id, [News(EventType.WEBHOOK_TEST, "", data, at)], at)
    return Event.objects.get(program_id=program_id, number=number)


def _append(program_id: int, news: Sequence[News], at: datetime) -> tuple[int, int]:
    feed = locks.lock_feed(program_id)
    first = feed.last_number + 1
    Event.objects.bulk_create(
        Event(
            program_id=program_id,
            number=number,
            type=item.type.value,
            subject=item.subject,
            data=item.data,
            occurred_at=item.occurred_at,
            recorded_at=at,
        )
        for number, item in enumerate(news, first)
    )
    feed.last_number += len(news)
    feed.save(update_fields=["last_number"])
    return first, feed.last_number


def list_events(
    *, program_id: int, after: int | None, limit: int, type_: str = "", subject: str = ""
) -> tuple[list[Event], int]:
    """Return the events that follow a number (None: from the oldest kept), and the number to go on after.

    Raises: EventsGone if some of what follows is no longer kept; EventsAhead if the feed has not come so far.
    """
    # Read first: whatever is appended meanwhile is for the next call.
    last = EventFeed.objects.filter(pk=program_id).values_list("last_number", flat=True).first() or 0
    kept = Event.objects.filter(program_id=program_id, number__lte=last)
    wanted = {name: value for name, value in (("type", type_), ("subject", subject)) if value}
    events = list(kept.filter(number__gt=after or 0, **wanted).order_by("number")[:limit])
    # Read last: what the clean-up takes meanwhile is not passed over.
    first_kept = kept.aggregate(first=Min("number"))["first"] or last + 1
    if after is not None and after < first_kept - 1:
        raise EventsGone(first_kept)
    if after is not None and after > last:
        raise EventsAhead(last)
    return events, events[-1].number if len(events) == limit else last


def show(event: Event) -> dict[str, Any]:
    """Return an event as the feed and the webhooks show it."""
    return {
        "id": str(event.public_id),
        "number": event.number,
        "type": event.type,
        "timestamp": utc_text(event.occurred_at),
        "recorded_at": utc_text(event.recorded_at),
        "subject": event.subject or None,
        "data": event.data,
    }


def utc_text(at: datetime) -> str:
    """Return an instant as JSON has it: RFC 3339, UTC, with Z."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
