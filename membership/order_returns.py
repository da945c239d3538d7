"""Reads orders with the refunds that touch them, for `membership/returns.py`: two statements, however many they are."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from membership.returns import OrderReturned, PaidLine, PaidOrder, RefundPart, work_out

_ORDERS = """
    SELECT o.id, o.external_id, o.member_id, o.currency, o.paid_at, o.amount_minor, o.program_amount_minor,
        o.returned_at, l.program_amount_minor, l.edit_id,
        l.id, l.external_id, l.units, l.amount_minor, l.paid_in_points_minor, coalesce(e.edited_at, o.paid_at)
    FROM membership_order o
    JOIN membership_orderline l ON l.order_id = o.id
    LEFT JOIN membership_orderedit e ON e.id = l.edit_id
    WHERE o.id = ANY(%s) ORDER BY o.id, l.position"""

# Refunds of the orders or of their lines, and those that have one of the external ids.
_REFUNDS = """
    SELECT r.id, r.external_id, r.member_id, r.content_digest, r.refunded_at, r.currency, r.order_id, r.amount_minor,
        r.program_amount_minor, r.counted_minor,
        b.id, b.external_id, b.order_line_id, l.order_id, b.units, b.amount_minor, b.program_amount_minor,
        b.counted_minor
    FROM membership_refund r
    LEFT JOIN membership_refundline b ON b.refund_id = r.id
    LEFT JOIN membership_orderline l ON l.id = b.order_line_id
    WHERE r.id IN (
        SELECT id FROM membership_refund WHERE order_id = ANY(%(orders)s)
        UNION SELECT b.refund_id FROM membership_orderline l JOIN membership_refundline b ON b.order_line_id = l.id
            WHERE l.order_id = ANY(%(orders)s)
        UNION SELECT id FROM membership_refund
            WHERE program_id = %(program)s AND external_id = ANY(%(names)s))
    ORDER BY r.refunded_at, r.external_id, b.id"""

# A refund's external id and its member's id: what makes it unique in its program.
Key = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class ToldLine:
    """What a refund tells of an order line, or of none. Its id is None until it is written."""

    external_id: str
    amount_minor: int
    units: int | None = None
    order_id: int | None = None
    line_id: int | None = None
    id: int | None = None
    recorded_minor: int = 0
    counted_minor: int = 0


@dataclass(frozen=True, slots=True)
class ToldRefund:
    """A refund with its lines, as told, in its own currency. Its id is None until it is written."""

    external_id: str
    member_id: int | None
    refunded_at: datetime
    currency: str
    amount_minor: int
    order_id: int | None
    lines: tuple[ToldLine, ...]
    id: int | None = None
    recorded_minor: int = 0
    counted_minor: int = 0

    def parts(self, orders: Mapping[int, PaidOrder]) -> Iterator[tuple[int, RefundPart]]:
        """Yield what this tells of some orders, with their ids: of each line, and what is above the lines.

        Lines that name no order line are no part of the lines' sum: what they tell is the refund's own order's. Those
        that name one come first, for what is above them is what they leave.
        """
        above = max(0, self.amount_minor - sum(line.amount_minor for line in self.lines if line.line_id))
        for line in sorted(self.lines, key=lambda line: (line.line_id is None, line.units is None)):
            order_id, amount = line.order_id, line.amount_minor
            if line.line_id is None:
                order_id, amount = self.order_id, min(amount, above)
                above -= amount if order_id else 0
            if order_id is not None and order_id in orders:
                yield order_id, self._part(orders[order_id], line, amount)
        if self.order_id is not None and self.order_id in orders and (above or not self.lines):
            counted = self.counted_minor - sum(line.counted_minor for line in self.lines)
            recorded = self.recorded_minor - sum(line.recorded_minor for line in self.lines)
            rest = ToldLine("", above, recorded_minor=recorded, counted_minor=counted)
            yield self.order_id, self._part(orders[self.order_id], rest, above)

    def _part(self, order: PaidOrder, line: ToldLine, amount: int) -> RefundPart:
        if self.currency != order.currency:
            # Such refunds are refused; those recorded before they were count at the rate of their order.
            paid = order.program_amount_minor
            amount = line.recorded_minor * order.amount_minor // paid if paid else 0
        return RefundPart(
            refunded_at=self.refunded_at,
            refund=self.external_id,
            refund_line=line.external_id,
            amount_minor=amount,
            line_id=line.line_id,
            units=line.units if line.line_id else None,
            has_lines=bool(self.lines),
            is_priced=bool(self.amount_minor),
            refund_id=self.id,
            refund_line_id=line.id,
            recorded_minor=line.recorded_minor,
            counted_minor=line.counted_minor,
        )


@dataclass(slots=True)
class OrderRefunds:
    """An order with the parts of its refunds in the order of their dates, and what came back by them."""

    order: PaidOrder
    returned_at: datetime | None
    parts: list[RefundPart] = field(default_factory=list)

    def work_out(self) -> OrderReturned:
        """Return what came back of the order by all its refunds."""
        return work_out(self.order, self.parts)


@dataclass(frozen=True, slots=True)
class Found:
    """Orders by id with their refunds, and the digests of refunds by key."""

    orders: dict[int, OrderRefunds]
    digests: dict[Key, bytes]


def read(order_ids: Iterable[int]) -> dict[int, OrderRefunds]:
    """Return orders with the refunds that touch them, by id."""
    return find(order_ids=order_ids, program_id=0, names=()).orders


def find(*, order_ids: Iterable[int], program_id: int, names: Collection[str]) -> Found:
    """Return orders with the refunds that touch them, and the digests of the program's refunds of some external ids."""
    ids = list(order_ids)
    orders = _read_orders(ids) if ids else {}
    paid = {order_id: state.order for order_id, state in orders.items()}
    digests: dict[Key, bytes] = {}
    for refund, digest in _read_refunds(ids, program_id, names) if ids or names else ():
        digests[refund.external_id, refund.member_id] = digest
        for order_id, part in refund.parts(paid):
            orders[order_id].parts.append(part)
    return Found(orders, digests)


def _read_orders(order_ids: list[int]) -> dict[int, OrderRefunds]:
    heads: dict[int, tuple[Any, ...]] = {}
    lines: dict[int, list[PaidLine]] = defaultdict(list)
    added: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    with connection.cursor() as cursor:
        cursor.execute(_ORDERS, [order_ids])
        for *head, program_amount, edit_id, line_id, name, units, amount, in_points, since in cursor.fetchall():
            order_id = head[0]
            heads[order_id] = tuple(head)
            lines[order_id].append(PaidLine(line_id, name, units, amount, in_points, since))
            if edit_id is not None:
                added[order_id][0] += amount
                added[order_id][1] += program_amount
    found = {}
    for pk, name, member_id, currency, paid_at, amount, program_amount, returned_at in heads.values():
        whole = (amount + added[pk][0], program_amount + added[pk][1])
        found[pk] = OrderRefunds(
            PaidOrder(pk, name, member_id, currency, paid_at, *whole, tuple(lines[pk])), returned_at
        )
    return found


def _read_refunds(order_ids: list[int], program_id: int, names: Collection[str]) -> Iterator[tuple[ToldRefund, bytes]]:
    """Yield refunds in the order of their dates, each with its digest."""
    heads: dict[int, tuple[Any, ...]] = {}
    lines: dict[int, list[ToldLine]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_REFUNDS, {"orders": order_ids, "program": program_id, "names": list(names)})
        for row in cursor.fetchall():
            heads[row[0]] = row[:10]
            pk, name, line_id, order_id, units, amount, recorded, counted = row[10:]
            if pk is not None:
                lines[row[0]].append(ToldLine(name, amount, units, order_id, line_id, pk, recorded, counted))
    for pk, name, member_id, digest, refunded_at, currency, order_id, amount, recorded, counted in heads.values():
        told = ToldRefund(
            *(name, member_id, refunded_at, currency, amount, order_id, tuple(lines[pk]), pk, recorded, counted)
        )
        yield told, bytes(digest)
