"""Load a staged data set through the services, in the order of time, evaluation by evaluation."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from django.db import connection

from core.models import Program
from membership.models import Ladder
from membership.services.facts import OrderInput, OrderLineInput, RefundInput, RefundLineInput
from membership.services.members import MemberInput, enroll_members
from membership.services.tiers import apply_dirty, evaluate, list_due
from points.services.expiry import settle_due
from storefront.replay.staging import Progress
from storefront.services import intake

# Events per transaction: large enough for set-based statements, small enough to bound memory and lost work.
BATCH_EVENTS = 1_000
MEMBERS_PER_BATCH = 5_000

_MEMBERS = """
    SELECT member_id, min(at) FROM (
        SELECT member_id, ordered_at AS at FROM replay_orders
        UNION ALL SELECT member_id, refunded_at FROM replay_refunds) x
    WHERE member_id <> '' GROUP BY member_id ORDER BY member_id"""


def load(*, program: Program, at: datetime, settle_through: datetime | None, progress: Progress) -> None:
    """Enroll the members, take in the events, evaluate every ladder when it is due, settle the points.

    Every step is safe to repeat: a killed load is completed by the next one into the same program.
    """
    _enroll(program, at, progress)
    total = _scalar("SELECT count(*) FROM replay_events")
    done = 0
    for instant, ladder in [*_list_evaluations(program), (None, None)]:
        for orders, refunds, seen in _iter_batches(program, after=done, before=instant):
            intake.record(program=program, orders=orders, refunds=refunds, at=at)
            done = seen
            progress("loading orders and refunds", done, total)
        if instant is not None and ladder is not None:
            ladder.refresh_from_db()
            evaluate(ladder=ladder, instant=instant, at=at)
    for ladder in Ladder.objects.filter(program=program).select_related("program"):
        apply_dirty(ladder=ladder, through=find_last_event(), at=at)
    if settle_through is not None:
        settle_due(
            program=program,
            through=settle_through,
            at=at,
            on_progress=lambda fallen: progress("expiring points", sum(fallen), 0),
        )


def find_last_event() -> datetime | None:
    """Return the instant of the last staged event."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(at) FROM replay_events")
        last: datetime | None = cursor.fetchone()[0]
        return last


def _enroll(program: Program, at: datetime, progress: Progress) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_MEMBERS)
        rows = cursor.fetchall()
    for start in range(0, len(rows), MEMBERS_PER_BATCH):
        part = [
            MemberInput(external_id=name, joined_at=joined) for name, joined in rows[start : start + MEMBERS_PER_BATCH]
        ]
        enroll_members(program=program, members=part, at=at)
        progress("enrolling members", min(start + MEMBERS_PER_BATCH, len(rows)), len(rows))


def _list_evaluations(program: Program) -> list[tuple[datetime, Ladder]]:
    """Return every evaluation that is due by the last event, in order of time."""
    last = find_last_event()
    if last is None:
        return []
    found = [
        (instant, ladder)
        for ladder in Ladder.objects.filter(program=program).select_related("program")
        for instant in list_due(ladder=ladder, until=last)
    ]
    return sorted(found, key=lambda item: (item[0], item[1].pk))


def _iter_batches(
    program: Program, *, after: int, before: datetime | None
) -> Iterator[tuple[list[OrderInput], list[RefundInput], int]]:
    """Yield the events after number `after` and before an instant, batch by batch, with the last number."""
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT kind, id, n FROM replay_events"
                " WHERE n > %s AND n <= %s AND at < coalesce(%s, 'infinity'::timestamptz) ORDER BY n",
                [after, after + BATCH_EVENTS, before],
            )
            events = cursor.fetchall()
        if not events:
            return
        after = events[-1][2]
        orders = _orders([event[1] for event in events if event[0] == 0])
        yield orders, _refunds([event[1] for event in events if event[0] == 1], program.currency), after


def _orders(ids: list[str]) -> list[OrderInput]:
    lines: dict[str, list[OrderLineInput]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT order_id, line_id, qty, amount, sku, category FROM replay_order_lines WHERE order_id = ANY(%s)"
            " ORDER BY line",
            [ids],
        )
        for order_id, line_id, qty, amount, sku, category in cursor.fetchall():
            lines[order_id].append(
                OrderLineInput(external_id=line_id, units=qty, amount_minor=amount, sku=sku, category=category)
            )
        cursor.execute(
            "SELECT order_id, member_id, ordered_at, amount, currency, country, channel FROM replay_orders"
            " WHERE order_id = ANY(%s) ORDER BY ordered_at, order_id",
            [ids],
        )
        return [
            OrderInput(
                external_id=order_id,
                member=member_id,
                paid_at=ordered_at.astimezone(UTC),
                currency=currency,
                amount_minor=amount,
                country=country,
                channel=channel,
                lines=tuple(lines[order_id]),
            )
            for order_id, member_id, ordered_at, amount, currency, country, channel in cursor.fetchall()
        ]


def _refunds(ids: list[str], currency: str) -> list[RefundInput]:
    if not ids:
        return []
    lines: dict[str, list[RefundLineInput]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.refund_id, l.line_id, l.qty, l.amount, l.sku, coalesce(b.order_id, ''), l.matched_line_id"
            " FROM replay_refund_lines l LEFT JOIN replay_order_lines b ON b.line_id = l.matched_line_id"
            " WHERE l.refund_id = ANY(%s) ORDER BY l.line",
            [ids],
        )
        for refund_id, line_id, qty, amount, sku, order_id, matched in cursor.fetchall():
            lines[refund_id].append(
                RefundLineInput(
                    external_id=line_id, units=qty, amount_minor=amount, sku=sku, order=order_id, order_line=matched
                )
            )
        cursor.execute(
            "SELECT refund_id, member_id, refunded_at, amount, order_id FROM replay_refunds WHERE refund_id = ANY(%s)"
            " ORDER BY refunded_at, refund_id",
            [ids],
        )
        return [
            RefundInput(
                external_id=refund_id,
                member=member_id,
                refunded_at=refunded_at.astimezone(UTC),
                currency=currency,
                amount_minor=amount,
                order=order_id,
                lines=tuple(lines[refund_id]),
            )
            for refund_id, member_id, refunded_at, amount, order_id in cursor.fetchall()
        ]


def _scalar(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])
