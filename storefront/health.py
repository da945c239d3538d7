"""Whether what runs by itself keeps up: day closes, the outbox, webhooks."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db.models import Q

from core.calendar import day_start
from core.models import OutboxEvent, OutboxReceipt, Program, WebhookDelivery, WebhookEndpoint
from storefront.models import DayClose
from storefront.services.day_close import list_due_days, list_due_programs

# A close starts minutes after its day has ended; one that is not through by then needs a look.
LATE_AFTER = timedelta(hours=3)
# A worker that runs delivers within seconds.
OUTBOX_LATE_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class CloseHealth:
    """The last day that is closed, the days that have ended since, and what went wrong with one of them.

    late: how many of the days have waited longer than they should.
    """

    last: DayClose | None
    due: list[date]
    late: int
    failing: DayClose | None


@dataclass(frozen=True, slots=True)
class Health:
    """What an operator looks at when something seems stuck. The outbox is that of all programs."""

    close: CloseHealth
    outbox_waiting: int
    outbox_is_late: bool
    failing_receipts: int
    endpoints: int
    failing_endpoints: list[WebhookEndpoint]
    retried_deliveries: int


def read_health(*, program: Program, at: datetime) -> Health:
    """Return how the jobs of a program do at an instant; each figure from an index on what is not done."""
    waiting = OutboxEvent.objects.filter(dispatched_at=None)
    endpoints = list(WebhookEndpoint.objects.filter(program=program))
    failing = [one for one in endpoints if one.failing_since or one.disabled_at]
    deliveries = WebhookDelivery.objects.filter(endpoint__in=endpoints)
    return Health(
        close=_closes(program, at),
        outbox_waiting=waiting.count(),
        outbox_is_late=waiting.filter(recorded_at__lt=at - OUTBOX_LATE_AFTER).exists(),
        failing_receipts=OutboxReceipt.objects.filter(done_at=None, attempts__gt=0).count(),
        endpoints=len(endpoints),
        failing_endpoints=failing,
        retried_deliveries=deliveries.filter(~Q(next_attempt_at=None), attempts__gt=0).count(),
    )


def _closes(program: Program, at: datetime) -> CloseHealth:
    closes = DayClose.objects.filter(program=program)
    last = closes.filter(finished_at__isnull=False).order_by("-day").first()
    failing = closes.filter(finished_at=None).exclude(last_error="").order_by("day").first()
    is_due = program in list_due_programs(at=at)
    due = list_due_days(program=program, at=at) if is_due else []
    late = [day for day in due if day_start(day + timedelta(days=1), program.time_zone) + LATE_AFTER < at]
    return CloseHealth(last, due, len(late), failing)
