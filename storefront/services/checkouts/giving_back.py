"""Refunds of orders that were paid in points, or with coupons: what goes back in money, what in points.

Of each line floor(points x refunded / paid) have gone back after a refund, counted from its first one: the parts of any
sequence of refunds add up to exactly what was paid. A refund without lines is money alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from core.models import Program
from coupons.services import redemptions
from membership.models import OrderLine
from points.services import holds
from storefront.models import Checkout

_LINES = """
    SELECT r.id, rl.id, l.order_id, l.member_id, l.external_id, rl.amount_minor,
        CASE WHEN r.currency = o.currency THEN l.paid_in_points_minor
             WHEN rl.program_amount_minor = 0 THEN 0
             ELSE div(l.program_paid_in_points_minor::numeric * rl.amount_minor, rl.program_amount_minor)::bigint END,
        least(rl.returned_minor - rl.program_amount_minor, l.program_amount_minor),
        least(rl.returned_minor, l.program_amount_minor), l.program_amount_minor
    FROM membership_refund r
    JOIN membership_refundline rl ON rl.refund_id = r.id
    JOIN membership_orderline l ON l.id = rl.order_line_id
    JOIN membership_order o ON o.id = l.order_id
    WHERE r.id = ANY(%(refunds)s) AND (l.paid_in_points_minor > 0 OR EXISTS (
        SELECT FROM storefront_checkout c WHERE c.order_id = l.order_id AND c.member_id = l.member_id))
    ORDER BY r.refunded_at, r.external_id, rl.id"""


class Returned(NamedTuple):
    """A refund line with its order line: the program amount that had come back before and after it, of that paid.

    paid_in_points_minor: of the order line, in the currency of the refund and at its rate.
    """

    refund_id: int
    refund_line_id: int
    order_id: int
    member_id: int | None
    line: str
    amount_minor: int
    paid_in_points_minor: int
    before: int
    after: int
    paid: int

    def part_of(self, total: int) -> int:
        """Return the part of a line's total that goes back with this refund line."""
        return total * self.after // self.paid - total * self.before // self.paid if self.paid else 0


@dataclass(frozen=True, slots=True)
class Split:
    """How what a refund line gives back splits. `points`: None where the storefront settles points by itself."""

    money_minor: int
    in_points_minor: int
    points: int | None


def split_refunds(refund_ids: Sequence[int]) -> dict[int, Split]:
    """Return the splits of refund lines by id, of those whose order lines were paid in points or by a checkout."""
    returns, splits = read_returns(refund_ids), {}
    for each in returns.lines:
        in_points = min(each.amount_minor, each.part_of(each.paid_in_points_minor))
        checkout = returns.checkouts.get(each.order_id)
        given = each.part_of(_line_points(checkout)[each.line]) if checkout else None
        splits[each.refund_line_id] = Split(each.amount_minor - in_points, in_points, given)
    return splits


@dataclass(frozen=True, slots=True)
class Returns:
    """What new refunds bring back, and the checkouts that had paid for it, by order."""

    lines: Sequence[Returned]
    checkouts: Mapping[int, Checkout]


def read_returns(refund_ids: Sequence[int]) -> Returns:
    """Return what refunds bring back of orders that were paid by a checkout."""
    lines = _read(refund_ids)
    return Returns(lines, _checkouts_of({line.order_id for line in lines}) if lines else {})


def return_coupons(*, program: Program, returns: Returns, is_cancelled: bool, at: datetime) -> None:
    """Take back what coupons gave off the lines that new refunds bring back.

    is_cancelled: the shop cancelled the orders.

    Locks: of several orders the counters, ascending; as `redemptions.reverse`, by ascending member.
    """
    with_coupons = {pk for pk, checkout in returns.checkouts.items() if checkout.price["coupons"]["applied"]}
    back: dict[tuple[int, int], dict[str, tuple[int, int]]] = defaultdict(dict)
    for line in OrderLine.objects.filter(order__in=with_coupons) if with_coupons else ():
        share = (line.returned_units, line.units)
        # What a coupon made free has come back with its units alone.
        is_by_units = line.returned_units or (line.discount_minor and not line.program_amount_minor)
        if not is_by_units:
            share = (min(line.returned_minor, line.program_amount_minor), line.program_amount_minor)
        back[line.member_id or 0, line.order_id][line.external_id] = share
    if len(back) > 1:
        redemptions.lock_counters(orders=back)
    for (member_id, order_id), lines in sorted(back.items()):
        redemptions.reverse(
            program=program, member_id=member_id, order_id=order_id, lines=lines, is_cancelled=is_cancelled, at=at
        )


def return_points(*, program: Program, returns: Returns, at: datetime) -> None:
    """Give back the points by which what new refunds bring back was paid.

    Locks: the accounts of their members, one by one.
    Idempotency: a refund gives back once for each checkout.
    """
    given: dict[tuple[int, int, int], int] = defaultdict(int)
    for each in returns.lines:
        checkout = returns.checkouts.get(each.order_id)
        if checkout and checkout.points and each.member_id is not None:
            given[each.member_id, each.order_id, each.refund_id] += each.part_of(_line_points(checkout)[each.line])
    for (member_id, order_id, refund_id), points in sorted(given.items()):
        checkout = returns.checkouts[order_id]
        if points and checkout.wallet_id is not None:
            holds.give_back(
                program=program,
                member_id=member_id,
                wallet_id=checkout.wallet_id,
                reference=str(checkout.public_id),
                points=points,
                refund_id=refund_id,
                at=at,
            )


def _read(refund_ids: Sequence[int]) -> list[Returned]:
    if not refund_ids:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_LINES, {"refunds": list(refund_ids)})
        return [Returned(*row) for row in cursor.fetchall()]


def _checkouts_of(order_ids: set[int]) -> dict[int, Checkout]:
    found = Checkout.objects.filter(order__in=order_ids)
    return {checkout.order_id: checkout for checkout in found if checkout.order_id is not None}


def _line_points(checkout: Checkout) -> Mapping[str, int]:
    """Return how many points each line of a checkout took; a line that an edit added took none."""
    return defaultdict(int, {line["external_id"]: line["points"] for line in checkout.price["lines"]})
