"""Refunds and their lines on their way in, and what they bring back of the orders.

An order has come back when every unit of its lines has, or when the money refunded without units (of lines of
which no unit came back, and by refunds of the order that have no lines) reaches its amount. Lines and amounts that
edits added count too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from django.db import connection

from membership import locks
from membership.fact_checks import Checked, refuse_objections
from membership.fact_inputs import BadFact, FactConflict, RefundInput
from membership.models import OrderKey
from membership.services.batch import Batch, columns, copy_rows

_ORDER_STATES = """
    SELECT o.id, o.member_id, o.paid_at, o.program_amount_minor + coalesce((
            SELECT sum(e.program_amount_minor)::bigint FROM membership_orderedit e WHERE e.order_id = o.id), 0),
        o.returned_at, coalesce(lines.ahead, 0),
        coalesce(lines.minor, 0)::bigint + (
            SELECT coalesce(sum(r.program_amount_minor), 0)::bigint FROM membership_refund r
            WHERE r.order_id = o.id AND NOT EXISTS (SELECT FROM membership_refundline b WHERE b.refund_id = r.id)),
        greatest((
            SELECT max(r.refunded_at) FROM membership_refund r
            WHERE r.order_id = o.id AND NOT EXISTS (SELECT FROM membership_refundline b WHERE b.refund_id = r.id)
        ), back.at), back.units_at
    FROM membership_order o
    CROSS JOIN LATERAL (
        SELECT max(r.refunded_at) AS at, max(r.refunded_at) FILTER (WHERE b.units IS NOT NULL) AS units_at
        FROM membership_orderline l
        JOIN membership_refundline b ON b.order_line_id = l.id JOIN membership_refund r ON r.id = b.refund_id
        WHERE l.order_id = o.id) back
    LEFT JOIN (
        SELECT order_id, count(*) FILTER (WHERE returned_units < units) AS ahead,
            sum(returned_minor) FILTER (WHERE returned_units = 0) AS minor
        FROM membership_orderline WHERE order_id = ANY(%(ids)s) GROUP BY order_id
    ) lines ON lines.order_id = o.id
    WHERE o.id = ANY(%(ids)s)"""

_LINE_STATES = """
    SELECT l.order_id, l.external_id, l.id, l.units, l.returned_units, l.returned_minor,
        (SELECT e.edited_at FROM membership_orderedit e WHERE e.id = l.edit_id)
    FROM membership_orderline l
    JOIN unnest(%s::bigint[], %s::text[]) AS told (order_id, external_id) USING (order_id, external_id)"""

_INSERT_REFUNDS = """
    INSERT INTO membership_refund (program_id, recorded_at, member_id, order_id, external_id, refunded_at, local_date,
        currency, amount_minor, program_amount_minor, content_digest)
    SELECT %s, %s, told.* FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[], %s::date[],
        %s::text[], %s::bigint[], %s::bigint[], %s::bytea[]) AS told
    ON CONFLICT (program_id, external_id, member_id) DO NOTHING
    RETURNING external_id, member_id, id"""

_KNOWN_DIGESTS = """
    SELECT external_id, member_id, content_digest FROM membership_refund
    WHERE program_id = %s AND external_id = ANY(%s)"""

_RETURN_LINES = """
    UPDATE membership_orderline l SET returned_units = back.units, returned_minor = back.minor
    FROM unnest(%s::bigint[], %s::int[], %s::bigint[]) AS back (id, units, minor) WHERE l.id = back.id"""

_RETURN_ORDERS = """
    UPDATE membership_order o SET returned_at = back.returned_at
    FROM unnest(%s::bigint[], %s::timestamptz[]) AS back (id, returned_at) WHERE o.id = back.id"""

_REFUND_LINE_TEXTS = ("external_id", "sku")
_REFUND_LINE_COLUMNS = (
    *("refund_id", "member_id", "order_line_id", "units", "amount_minor", "program_amount_minor"),
    *("returned_units", "returned_minor", *_REFUND_LINE_TEXTS),
)

Refunds = dict[tuple[str, ...], Checked[RefundInput]]
# A refund's external id and its member's id: what makes it unique in its program.
Key = tuple[str, int | None]


@dataclass(slots=True)
class OrderState:
    """A locked order: how many of its lines are not back by units, how much money came back without units.

    `last_refund_at` is the latest instant of its refunds, `last_units_at` of those that brought back units; they need
    not arrive in the order of their dates.
    """

    id: int
    member_id: int | None
    paid_at: datetime
    amount_minor: int
    returned_at: datetime | None
    open_lines: int
    money_back_minor: int
    last_refund_at: datetime | None
    last_units_at: datetime | None

    @property
    def back_at(self) -> datetime | None:
        """Since when all of it is back: with its last unit or, where units did not come back, with its last money."""
        if self.open_lines == 0:
            return self.last_units_at
        return self.last_refund_at if self.money_back_minor >= self.amount_minor > 0 else None


@dataclass(slots=True)
class LineState:
    """A line of a locked order, with what has come back of it; `added_at`: when an edit added it."""

    order: OrderState
    id: int
    units: int
    returned_units: int
    returned_minor: int
    added_at: datetime | None

    @property
    def minor_without_units(self) -> int:
        return 0 if self.returned_units else self.returned_minor


def record_refunds(batch: Batch, refunds: Refunds) -> None:
    """Write the refunds that are new, and what came back of the orders they touch.

    Raises: BadFact, FactConflict.
    Locks: the orders touched, in ascending id; waits for another transaction that is writing one of these refunds.
    """
    told: dict[Key, Checked[RefundInput]] = {
        (r.told.external_id, batch.member_id(r.told.member, fact=r.told.external_id)): r for r in refunds.values()
    }
    orders = _lock_orders(batch, told.values())
    for (_, member_id), refund in told.items():
        _check_orders(refund, member_id, orders)
    new = _insert(batch, told, orders)
    refuse_objections(told[key] for key in new)
    batch.refund_ids.extend(sorted(new.values()))
    dated = sorted(new, key=lambda key: (told[key].told.refunded_at, key[0], key[1] or 0))
    returns = _Returns(batch, orders, _read_lines((told[key] for key in dated), orders))
    rows = [row for key in dated for row in returns.take(told[key], refund_id=new[key], member_id=key[1])]
    if rows:
        copy_rows("membership_refundline", _REFUND_LINE_COLUMNS, rows, texts=_REFUND_LINE_TEXTS)
    returns.write()


def _lock_orders(batch: Batch, refunds: Iterable[Checked[RefundInput]]) -> dict[str, OrderState]:
    """Lock the orders that refunds or their lines name, then read them: nothing comes back of them meanwhile."""
    names = {name for r in refunds for name in (r.told.order, *(line[1] for line in r.lines)) if name}
    if not names:
        return {}
    keys = OrderKey.objects.filter(program=batch.program, external_id__in=names)
    ids = dict(keys.values_list("order_id", "external_id"))
    list(locks.lock_orders(list(ids)).values_list("pk"))
    return {ids[state.id]: state for state in read_orders(list(ids))}


def read_orders(order_ids: Sequence[int]) -> list[OrderState]:
    """Return the states of orders that the caller has locked."""
    with connection.cursor() as cursor:
        cursor.execute(_ORDER_STATES, {"ids": list(order_ids)})
        return [OrderState(*row) for row in cursor.fetchall()]


def _check_orders(refund: Checked[RefundInput], member_id: int | None, orders: dict[str, OrderState]) -> None:
    """Refuse a refund of an order that is unknown, another member's, or not paid yet."""
    told, places = refund.told, {"order": refund.told.order}

    def refuse(field: str, reason: str, code: str) -> NoReturn:
        raise BadFact(field=field, external_id=told.external_id, reason=reason, code=code)

    places |= {f"lines.{index}.order": line[1] for index, line in enumerate(refund.lines)}
    for field, name in places.items():
        if not name:
            continue
        order = orders.get(name)
        if order is None:
            refuse(field, f"order {name} is not recorded", "unknown_order")
        if order.member_id != member_id:
            refuse(field, f"order {name} belongs to another member", "other_member")
        if told.refunded_at < order.paid_at:
            refuse("refunded_at", f"order {name} was paid later", "before_order")


def _insert(batch: Batch, told: dict[Key, Checked[RefundInput]], orders: dict[str, OrderState]) -> dict[Key, int]:
    """Insert the refunds and return the ids of those that are new."""
    rows = [
        (
            *(member_id, orders[fact.order].id if fact.order else None, name, fact.refunded_at),
            *(batch.local_date(fact.refunded_at), fact.currency, fact.amount_minor),
            *(refund.program_amount_minor, refund.digest),
        )
        for (name, member_id), refund in told.items()
        for fact in [refund.told]
    ]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT_REFUNDS, [batch.program.pk, batch.at, *columns(rows)])
        new: dict[Key, int] = {(name, member_id): refund_id for name, member_id, refund_id in cursor.fetchall()}
        known = [key[0] for key in told if key not in new]
        if known:
            cursor.execute(_KNOWN_DIGESTS, [batch.program.pk, known])
            for name, member_id, digest in cursor.fetchall():
                key = (name, member_id)
                if key in told and key not in new and bytes(digest) != told[key].digest:
                    raise FactConflict(kind="refund", external_id=name)
    return new


def _read_lines(
    refunds: Iterable[Checked[RefundInput]], orders: dict[str, OrderState]
) -> dict[tuple[int, str], LineState]:
    """Read the order lines that refund lines name, by order id and external id."""
    wanted = sorted({(orders[line[1]].id, line[2]) for refund in refunds for line in refund.lines if line[2]})
    if not wanted:
        return {}
    by_id = {order.id: order for order in orders.values()}
    with connection.cursor() as cursor:
        cursor.execute(_LINE_STATES, columns(wanted))
        return {(order_id, name): LineState(by_id[order_id], *rest) for order_id, name, *rest in cursor.fetchall()}


def _latest(known: datetime | None, at: datetime) -> datetime:
    return at if known is None else max(known, at)


class _Returns:
    """Add up what comes back, refund by refund in the order of their dates."""

    def __init__(self, batch: Batch, orders: dict[str, OrderState], lines: dict[tuple[int, str], LineState]) -> None:
        self._batch = batch
        self._orders = orders
        self._lines = lines
        self._touched: dict[int, LineState] = {}
        self._returned: dict[int, datetime] = {}

    def take(self, refund: Checked[RefundInput], *, refund_id: int, member_id: int | None) -> list[tuple[Any, ...]]:
        """Count one refund and return the rows of its lines."""
        told = refund.told
        day = self._batch.note(member_id, told.refunded_at)
        day.refunds_minor += refund.program_amount_minor
        rows, touched = [], []
        for index, (name, order, order_line, sku, units, minor, program_minor) in enumerate(refund.lines):
            after: tuple[int | None, int | None, int | None] = (None, None, None)
            if order_line:
                line = self._line(told, index, order, order_line)
                self._bring_back(line, units, program_minor, fact=told.external_id, field=f"lines.{index}.units")
                after = (line.id, line.returned_units, line.returned_minor)
                touched.append(line.order)
                if units is not None:
                    line.order.last_units_at = _latest(line.order.last_units_at, told.refunded_at)
            rows.append((refund_id, member_id, after[0], units, minor, program_minor, *after[1:], name, sku))
        if told.order and not refund.lines:
            order_state = self._orders[told.order]
            order_state.money_back_minor += refund.program_amount_minor
            touched.append(order_state)
        for order_state in touched:
            order_state.last_refund_at = _latest(order_state.last_refund_at, told.refunded_at)
            back_at = order_state.back_at
            if order_state.returned_at is None and back_at is not None:
                self._returned[order_state.id] = order_state.returned_at = back_at
                self._batch.day(member_id, back_at).orders_returned += 1
        return rows

    def _line(self, told: RefundInput, index: int, order: str, order_line: str) -> LineState:
        line = self._lines.get((self._orders[order].id, order_line))
        fact = told.external_id
        if line is None:
            reason = f"order {order} has no line {order_line}"
            raise BadFact(field=f"lines.{index}.order_line", external_id=fact, reason=reason, code="unknown_line")
        if line.added_at is not None and told.refunded_at < line.added_at:
            reason = f"line {order_line} of order {order} was added later"
            raise BadFact(field="refunded_at", external_id=fact, reason=reason, code="before_order")
        return line

    def _bring_back(self, line: LineState, units: int | None, minor: int, *, fact: str, field: str) -> None:
        left = line.units - line.returned_units
        if units is not None and units > left:
            reason = f"{units} come back, but only {left} are left"
            raise BadFact(field=field, external_id=fact, reason=reason, code="too_many_units")
        order, before = line.order, line.minor_without_units
        line.returned_units += units or 0
        line.returned_minor += minor
        order.money_back_minor += line.minor_without_units - before
        order.open_lines -= units == left
        self._touched[line.id] = line

    def write(self) -> None:
        """Write the lines' totals and the orders that are back; the orders' locks cover both."""
        lines = [(line.id, line.returned_units, line.returned_minor) for line in self._touched.values()]
        with connection.cursor() as cursor:
            if lines:
                cursor.execute(_RETURN_LINES, columns(lines))
            if self._returned:
                cursor.execute(_RETURN_ORDERS, columns(list(self._returned.items())))
