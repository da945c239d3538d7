"""How what refunds gave back splits into money and points: read from the facts, the same whenever it is asked.

A refund gives back what the answer of its orders says with it, less what it says without it, refunds being counted in
the order of their dates.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from core.money import allocate
from membership.models import Refund, RefundLine
from membership.order_returns import OrderRefunds, read
from membership.returns import LineReturned, OrderReturned, RefundPart, work_out
from storefront.models import Checkout
from storefront.services.checkouts.giving_back import checkouts_of, line_points


@dataclass(frozen=True, slots=True)
class Split:
    """How what is given back splits. `points`: None where the storefront settles points by itself."""

    money_minor: int = 0
    in_points_minor: int = 0
    points: int | None = 0

    def plus(self, other: "Split", sign: Literal[1, -1] = 1) -> "Split":
        """Return the sum, or the difference."""
        points = None if self.points is None or other.points is None else self.points + sign * other.points
        return Split(
            self.money_minor + sign * other.money_minor, self.in_points_minor + sign * other.in_points_minor, points
        )


@dataclass(frozen=True, slots=True)
class RefundSplit:
    """What a refund gives back in all, and of it what is of the order lines that its lines name, by refund line."""

    whole: Split
    lines: Mapping[int, Split]


@dataclass(frozen=True, slots=True)
class Splits:
    """The orders that some refunds touch, with all their refunds, and the checkouts that they paid."""

    orders: Mapping[int, OrderRefunds] = field(default_factory=dict)
    checkouts: Mapping[int, Checkout] = field(default_factory=dict)

    def of(self, refund: Refund) -> RefundSplit:
        """Return how a refund splits; its lines are prefetched with their order lines."""
        lines = list(refund.lines.all())
        parts = [self._of_order(state, refund.pk) for state in self.orders.values()]
        by_line = {line_id: split for _, found in parts for line_id, split in found.items()}
        whole = Split()
        for split, _ in parts:
            whole = whole.plus(split)
        if given := sum(split.points or 0 for split, _ in parts):
            whole = replace(whole, points=given)  # beside an order whose points the storefront settles by itself, too
        if refund.order_id is None:
            # What no order names is given back as told.
            of_none = refund.amount_minor - sum(line.amount_minor for line in lines if line.order_line_id)
            whole = whole.plus(Split(of_none))
        return RefundSplit(whole, {line.pk: by_line.get(line.pk, Split(line.amount_minor)) for line in lines})

    def find_order(self, order_id: int) -> OrderReturned | None:
        """Return what came back of an order, None where no refund touches it."""
        return self.orders[order_id].work_out() if order_id in self.orders else None

    def _of_order(self, state: OrderRefunds, refund_id: int) -> tuple[Split, dict[int, Split]]:
        """Return what a refund gives back of one order, and of what its lines name there."""
        own = [index for index, part in enumerate(state.parts) if part.refund_id == refund_id]
        if not own:
            return Split(), {}
        before = work_out(state.order, state.parts[: own[0]])
        after = work_out(state.order, state.parts[: own[-1] + 1])
        checkout = self.checkouts.get(state.order.id)
        points = line_points(checkout) if checkout else None
        whole = Split(
            after.money_minor - before.money_minor,
            after.in_points_minor - before.in_points_minor,
            _difference(before, after, points),
        )
        return whole, _of_lines(before, after, [state.parts[index] for index in own], whole, points)


def read_splits(refunds: Sequence[Refund]) -> Splits:
    """Read what tells how refunds split; their lines are prefetched with their order lines."""
    orders = {refund.order_id for refund in refunds if refund.order_id}
    lines: list[RefundLine] = [line for refund in refunds for line in refund.lines.all()]
    orders |= {line.order_line.order_id for line in lines if line.order_line}
    if not orders:
        return Splits()
    return Splits(read(orders), checkouts_of(orders))


def _difference(before: OrderReturned, after: OrderReturned, points: Mapping[str, int] | None) -> int | None:
    if points is not None:
        return after.points_of(points) - before.points_of(points)
    return None if any(line.paid_in_points_minor for line in after.order.lines) else 0


def _of_lines(
    before: OrderReturned,
    after: OrderReturned,
    parts: Iterable[RefundPart],
    whole: Split,
    points: Mapping[str, int] | None,
) -> dict[int, Split]:
    """Return what goes back of the order lines that refund lines name; those that name none share the rest."""
    named: dict[int | None, list[RefundPart]] = defaultdict(list)
    for part in parts:
        named[part.line_id].append(part)
    unnamed, rest = named.pop(None, []), whole
    found: list[tuple[RefundPart, Split]] = []
    for line_id, own in named.items():
        split = _of_line(before.lines[line_id or 0], after.lines[line_id or 0], points)
        rest = rest.plus(split, -1)
        found += zip(own, _share_out(split, own), strict=True)
    found += zip(unnamed, _share_out(rest, unnamed), strict=True)
    return {part.refund_line_id: split for part, split in found if part.refund_line_id is not None}


def _of_line(before: LineReturned, after: LineReturned, points: Mapping[str, int] | None) -> Split:
    paid = after.line
    given: int | None = None if paid.paid_in_points_minor else 0
    if points is not None:
        of_line = points.get(paid.external_id, 0)
        given = after.points_of(of_line) - before.points_of(of_line)
    return Split(after.money_minor - before.money_minor, after.in_points_minor - before.in_points_minor, given)


def _share_out(split: Split, parts: Sequence[RefundPart]) -> list[Split]:
    """Split what goes back of one order line over the refund lines that name it, nearly always one."""
    if len(parts) < 2:
        return [split] * len(parts)
    weights = [part.amount_minor for part in parts]
    money, in_points = allocate(split.money_minor, weights), allocate(split.in_points_minor, weights)
    points = [None] * len(parts) if split.points is None else allocate(split.points, weights)
    return [Split(*three) for three in zip(money, in_points, points, strict=True)]
