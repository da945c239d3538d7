"""What an operator watches, read from the database when it is asked for."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_OUTBOX = """
    SELECT (SELECT extract(epoch FROM %(at)s - min(recorded_at)) FROM core_outboxevent WHERE dispatched_at IS NULL),
        (SELECT extract(epoch FROM %(at)s - min(next_attempt_at)) FROM core_outboxreceipt WHERE done_at IS NULL),
        (SELECT count(*) FROM core_outboxreceipt WHERE done_at IS NULL AND last_error <> '')"""

# What waits for a disabled endpoint is not due. Attempts are counted before they are made.
_WEBHOOKS = """
    SELECT extract(epoch FROM %(at)s - min(due.since)), coalesce(sum(due.failing), 0),
        count(*) FILTER (WHERE w.disabled_reason <> '')
    FROM core_webhookendpoint w
    LEFT JOIN LATERAL (
        SELECT min(next_attempt_at) AS since,
            count(*) FILTER (WHERE attempts > (leased_until IS NOT NULL)::int) AS failing
        FROM core_webhookdelivery
        WHERE endpoint_id = w.id AND next_attempt_at IS NOT NULL) due ON w.disabled_at IS NULL"""

# The last close that finished, and how long it took; the oldest one after it, which has not.
_CLOSES = """
    SELECT p.code, extract(epoch FROM %(at)s - done.through), extract(epoch FROM done.finished_at - done.started_at),
        extract(epoch FROM %(at)s - open.started_at)
    FROM core_program p
    LEFT JOIN LATERAL (SELECT * FROM storefront_dayclose c WHERE c.program_id = p.id AND c.finished_at IS NOT NULL
        ORDER BY c.day DESC LIMIT 1) done ON true
    LEFT JOIN LATERAL (SELECT * FROM storefront_dayclose c WHERE c.program_id = p.id AND c.finished_at IS NULL
        AND (done.day IS NULL OR c.day > done.day) ORDER BY c.day LIMIT 1) open ON true
    ORDER BY p.code"""

_CHECKS = """
    SELECT DISTINCT ON (p.code) p.code, c.findings, extract(epoch FROM %(at)s - c.finished_at)
    FROM points_ledgercheck c JOIN core_program p ON p.id = c.program_id
    WHERE c.finished_at IS NOT NULL ORDER BY p.code, c.id DESC"""


class Gauge(NamedTuple):
    """A figure's name and what it means."""

    name: str
    meaning: str


_OUTBOX_GAUGES = (
    Gauge("perennial_outbox_waiting_seconds", "Age of the oldest event that no worker has dispatched"),
    Gauge("perennial_outbox_due_seconds", "How long the receipt that is due longest has been due"),
    Gauge("perennial_outbox_failing_receipts", "Receipts that have failed at least once and are tried again"),
)
_WEBHOOK_GAUGES = (
    Gauge("perennial_webhook_due_seconds", "How long the delivery that is due longest has been due"),
    Gauge("perennial_webhook_failing_deliveries", "Deliveries that have failed at least once and are tried again"),
    Gauge("perennial_webhook_disabled_endpoints", "Endpoints that were disabled because they kept failing"),
)
_CLOSE_GAUGES = (
    Gauge("perennial_day_close_age_seconds", "Time since the end of the last local day that is closed"),
    Gauge("perennial_day_close_duration_seconds", "How long the last finished close took"),
    Gauge("perennial_day_close_running_seconds", "Age of the oldest close that has begun and not finished"),
)
_CHECK_GAUGES = (
    Gauge("perennial_verify_mismatches", "Findings of the last check of the ledger; anything but 0 is an alarm"),
    Gauge("perennial_verify_age_seconds", "Time since the last check of the ledger"),
)


class DatabaseCollector(Collector):
    """One gauge for each figure as of an instant; those of a program carry its code. Ages that are not there are 0."""

    def __init__(self, *, at: datetime) -> None:
        self._at = at

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, from four statements."""
        yield from _plain(_OUTBOX_GAUGES, _OUTBOX, self._at)
        yield from _plain(_WEBHOOK_GAUGES, _WEBHOOKS, self._at)
        yield from _by_program(_CLOSE_GAUGES, _CLOSES, self._at)
        yield from _by_program(_CHECK_GAUGES, _CHECKS, self._at)


def _plain(gauges: tuple[Gauge, ...], sql: str, at: datetime) -> Iterator[Metric]:
    values = _read(sql, at)[0]
    for gauge, value in zip(gauges, values, strict=True):
        yield GaugeMetricFamily(gauge.name, gauge.meaning, value=max(0.0, float(value or 0)))


def _by_program(gauges: tuple[Gauge, ...], sql: str, at: datetime) -> Iterator[Metric]:
    rows = _read(sql, at)
    for place, gauge in enumerate(gauges):
        family = GaugeMetricFamily(gauge.name, gauge.meaning, labels=["program"])
        for code, *values in rows:
            if (value := values[place]) is not None:
                family.add_metric([code], float(value))
        yield family


def _read(sql: str, at: datetime) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"at": at})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
