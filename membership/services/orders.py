"""Orders and their lines on their way in."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection

from core.calendar import local_date
from core.models import Program
from membership.fact_checks import Checked, Line, check_order
from membership.fact_inputs import OrderInput
from membership.field_checks import frame_of
from membership.models import Member, Order, OrderLine
from membership.refusals import Submitted, accept
from membership.services.batch import Batch, copy_rows

_CLAIM_KEYS = """
    INSERT INTO membership_orderkey (program_id, external_id, order_id)
    SELECT %s, external_id, nextval(pg_get_serial_sequence('membership_order', 'id'))
    FROM unnest(%s::text[]) AS told (external_id)
    ON CONFLICT (program_id, external_id) DO NOTHING
    RETURNING external_id, order_id"""

_KNOWN_DIGESTS = """
    SELECT k.external_id, o.content_digest
    FROM membership_orderkey k JOIN membership_order o ON o.id = k.order_id
    WHERE k.program_id = %s AND k.external_id = ANY(%s)"""

_ORDER_TEXTS = ("external_id", "currency", "market", "country", "channel", "device")
_ORDER_COLUMNS = (
    *("id", "program_id", "member_id", "paid_at", "local_date", "amount_minor", "program_amount_minor"),
    *("content_digest", "recorded_at", *_ORDER_TEXTS),
)
_LINE_COLUMNS = (
    *("order_id", "member_id", "edit_id", "returned_units", "external_id", "position", "sku"),
    *("category", "units", "amount_minor", "program_amount_minor", "discount_minor"),
    *("paid_in_points_minor", "program_paid_in_points_minor"),
)


def record_orders(batch: Batch, orders: Submitted[OrderInput]) -> None:
    """Write the orders that are new, in key order.

    Raises: RefusedFacts, with all that are refused.
    Locks: waits for another transaction that is writing one of these orders.
    """
    orders.check(batch.member_of)
    claimed, known = _claim(batch, list(dict.fromkeys(order.told.external_id for order in orders)))
    taken = [orders.take(key, known.get(key[0]), accept) for key in orders.contents]
    orders.raise_refusals()
    new = [
        (claimed[order.told.external_id], batch.member_of(order), order)
        for order in (found[0] for found in taken if found is not None)
    ]
    if not new:
        return
    batch.order_ids.extend(order_id for order_id, _, _ in new)
    batch.places |= {("order", order_id): orders.indexes(order) for order_id, _, order in new}
    copy_rows(
        "membership_order",
        _ORDER_COLUMNS,
        (_order_row(batch.program, order_id, member_id, order, batch.at) for order_id, member_id, order in new),
        texts=_ORDER_TEXTS,
    )
    for _, member_id, order in new:
        day = batch.note(member_id, order.told.paid_at)
        day.orders += 1
        day.spend_minor += order.program_amount_minor
    write_lines((order_id, member_id, None, line) for order_id, member_id, order in new for line in order.lines)


def write_lines(rows: Iterable[tuple[int, int | None, int | None, Line]]) -> None:
    """Write lines of orders: (order id, member id, edit id, checked line)."""
    copy_rows(
        "membership_orderline",
        _LINE_COLUMNS,
        (_line_row(*row) for row in rows),
        texts=("external_id", "sku", "category"),
    )


def get_new_order(
    *, program: Program, told: OrderInput, order_id: int, member_id: int | None, at: datetime
) -> tuple[Order, list[OrderLine]]:
    """Return an order that was recorded at an instant, and its lines, as they are stored, without reading them."""
    checked = check_order(told, frame_of(program))
    order = Order(**dict(zip(_ORDER_COLUMNS, _order_row(program, order_id, member_id, checked, at), strict=True)))
    order.member = Member(pk=member_id, external_id=told.member) if member_id else None
    lines = (zip(_LINE_COLUMNS, _line_row(order_id, member_id, None, line), strict=True) for line in checked.lines)
    return order, [OrderLine(**dict(line)) for line in lines]


def _claim(batch: Batch, names: list[str]) -> tuple[dict[str, int], dict[str, bytes]]:
    """Claim orders' external ids; return the ids of those that are new, and the digests of the others.

    The unique key decides between two connections: the second one waits here and then finds the order recorded.
    """
    digests: dict[str, bytes] = {}
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM_KEYS, [batch.program.pk, names])
        claimed: dict[str, int] = dict(cursor.fetchall())
        known = [name for name in names if name not in claimed]
        if known:
            cursor.execute(_KNOWN_DIGESTS, [batch.program.pk, known])
            digests = {name: bytes(digest) for name, digest in cursor.fetchall()}
    return claimed, digests


def _order_row(
    program: Program, order_id: int, member_id: int | None, order: Checked[OrderInput], at: datetime
) -> tuple[Any, ...]:
    told = order.told
    return (
        *(order_id, program.pk, member_id, told.paid_at, local_date(told.paid_at, program.time_zone)),
        *(told.amount_minor, order.program_amount_minor, rf"\x{order.digest.hex()}", at),
        *(told.external_id, told.currency, told.market, told.country, told.channel, told.device),
    )


def _line_row(order_id: int, member_id: int | None, edit_id: int | None, line: Line) -> tuple[Any, ...]:
    return (order_id, member_id, edit_id, 0, *line)
