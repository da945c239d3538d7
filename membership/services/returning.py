"""What refunds and edits change of the orders they touch: one answer, and what is kept beside it.

Kept are the instant since which an order is back, its lines' units and what each refund counts against spend: a new
fact may change any of them, those of later refunds too.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from membership.order_returns import Key, OrderRefunds, ToldRefund, read
from membership.returns import OrderReturned, RefundPart, ReturnChange, count_against_spend, returned_since
from membership.services.batch import Batch

_RETURN_LINES = """
    UPDATE membership_orderline l SET returned_units = back.units
    FROM unnest(%s::bigint[], %s::int[]) AS back (id, units) WHERE l.id = back.id"""

_RETURN_ORDERS = """
    UPDATE membership_order o SET returned_at = back.returned_at
    FROM unnest(%s::bigint[], %s::timestamptz[]) AS back (id, returned_at) WHERE o.id = back.id"""

_COUNT_REFUNDS = """
    UPDATE membership_refund r SET counted_minor = r.counted_minor + more.minor
    FROM unnest(%s::bigint[], %s::bigint[]) AS more (id, minor) WHERE r.id = more.id"""

_COUNT_LINES = """
    UPDATE membership_refundline l SET counted_minor = l.counted_minor + more.minor
    FROM unnest(%s::bigint[], %s::bigint[]) AS more (id, minor) WHERE l.id = more.id"""

# What a part of a new refund counts against spend, by the refund's key and its line ("": what is above its lines).
Counted = dict[tuple[Key, str], int]


@dataclass(slots=True)
class Returning:
    """What one call changes of orders that it has locked. `orders`: by id, as they were read after the lock."""

    batch: Batch
    orders: dict[int, OrderRefunds]
    _found: dict[int, OrderReturned] = field(default_factory=dict)
    _changes: list[tuple[Key, ReturnChange]] = field(default_factory=list)
    _units: dict[int, int] = field(default_factory=dict)

    def found(self, order_id: int) -> OrderReturned:
        """Return what has come back of an order, with what was added so far."""
        if order_id not in self._found:
            self._found[order_id] = self.orders[order_id].work_out()
        return self._found[order_id]

    def parts_of(self, refund: ToldRefund) -> Iterator[tuple[int, RefundPart]]:
        """Yield what a refund tells of these orders, with their ids."""
        return refund.parts({order_id: state.order for order_id, state in self.orders.items()})

    def add(self, refund: ToldRefund) -> None:
        """Add a new refund to the orders it touches."""
        parts: dict[int, list[RefundPart]] = defaultdict(list)
        for order_id, part in self.parts_of(refund):
            parts[order_id].append(part)
        for order_id, new in parts.items():
            state, before = self.orders[order_id], self.found(order_id)
            state.parts = sorted([*state.parts, *new], key=lambda part: part.date)
            after = self._found[order_id] = state.work_out()
            key = (refund.external_id, refund.member_id)
            self._changes.append((key, ReturnChange(refund.refunded_at, before, after)))
            named = {part.line_id for part in new if part.line_id is not None and part.units}
            self._units |= {line_id: after.lines[line_id].units for line_id in named}

    def count(self) -> Counted:
        """Return what the parts of new refunds count against spend; those of others are corrected, with their days."""
        new: Counted = {}
        refunds: dict[int, int] = defaultdict(int)
        lines: dict[int, int] = {}
        for state in self.orders.values():
            member_id = state.order.member_id
            for part, counted in zip(state.parts, count_against_spend(state.order, state.parts), strict=True):
                more = counted - part.counted_minor
                if part.refund_id is None:
                    new[(part.refund, member_id), part.refund_line] = counted
                elif more:
                    refunds[part.refund_id] += more
                    self.batch.change(member_id, part.refunded_at).refunds_minor += more
                    if part.refund_line_id is not None:
                        lines[part.refund_line_id] = more
        _update(_COUNT_REFUNDS, refunds)
        _update(_COUNT_LINES, lines)
        return new

    def write(self, refund_ids: Mapping[Key, int]) -> None:
        """Write the lines' units and since when orders are back, with their days; note the changes of new refunds.

        The orders' locks cover both.
        """
        _update(_RETURN_LINES, self._units)
        since = {order_id: self._since(order_id) for order_id in self.orders}
        moved = {pk: at for pk, at in since.items() if at != self.orders[pk].returned_at}
        for order_id, at in moved.items():
            state = self.orders[order_id]
            for instant, orders in ((state.returned_at, -1), (at, 1)):
                if instant is not None:
                    self.batch.change(state.order.member_id, instant).orders_returned += orders
        _update(_RETURN_ORDERS, moved)
        self.batch.returns.extend((refund_ids[key], change) for key, change in self._changes)

    def _since(self, order_id: int) -> datetime | None:
        state = self.orders[order_id]
        return returned_since(state.order, state.parts) if self.found(order_id).is_whole else None


def recount(batch: Batch, order_id: int) -> None:
    """Work out anew what is kept of an order that the caller has locked: an edit has added to it."""
    returning = Returning(batch, read([order_id]))
    returning.count()
    returning.write({})


def _update(statement: str, values: Mapping[int, Any]) -> None:
    if values:
        with connection.cursor() as cursor:
            cursor.execute(statement, [list(values), list(values.values())])
