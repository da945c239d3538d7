"""The facts of `tests/oracle/returns.py`: orders with the lines of their edits, and refunds.

Sentences in quotation marks are the issue's. Amounts are minor units of the order's currency, instants anything that
compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """An order line, or one that an edit added: `paid_at` is then the edit's instant."""

    key: str
    units: int
    amount: int
    in_points: int = 0  # the part of the amount that was paid in points
    points_paid: int = 0
    earned: int = 0
    paid_at: int = 0

    @property
    def money(self) -> int:
        return self.amount - self.in_points


@dataclass(frozen=True)
class Order:
    """An order with the lines of its edits; `amount` is without the edits, with shipping; `program_amount` of all."""

    key: str
    amount: int
    lines: tuple[Line, ...]
    paid_at: int = 0
    program_amount: int | None = None  # None: in the program's currency
    currency: str = "GBP"

    @property
    def shipping(self) -> int:
        return self.amount - sum(line.amount for line in self.lines if line.paid_at <= self.paid_at)

    def paid(self, at: int | None = None) -> int:
        """What was paid of the "order and edits", by `at`."""
        return self.shipping + sum(line.amount for line in self.lines if at is None or line.paid_at <= at)


@dataclass(frozen=True)
class RefundLine:
    """`order` None: the refund's."""

    line: str | None
    units: int = 0
    amount: int = 0
    order: str | None = None


@dataclass(frozen=True)
class Refund:
    key: str
    at: int
    amount: int
    lines: tuple[RefundLine, ...] = ()
    order: str | None = None
    goodwill: int = 0  # "no part of `amount_minor`, takes no points, coupons or spend"

    @property
    def place(self) -> tuple[int, str]:
        """ "cumulative in the order (refunded_at, external_id)" """
        return self.at, self.key

    def of(self, order: str) -> Part:
        """What this refund says about one order.

        "of a refund whose lines name several orders each line counts at its own order's rate"; what is told above the
        lines, and a line's money without an order line, is the named order's. "A refund line that names neither order
        nor line takes nothing."
        """
        units: dict[str, int] = {}
        amounts: dict[str, int] = {}
        with_units: dict[str, int] = {}
        unpriced: dict[str, int] = {}
        of_lines = 0
        for line in self.lines:
            of_lines += line.amount if line.line is not None else 0
            if line.line is None or (line.order or self.order) != order:
                continue
            units[line.line] = units.get(line.line, 0) + line.units
            amounts[line.line] = amounts.get(line.line, 0) + line.amount
            if line.units and self.amount == 0:
                unpriced[line.line] = unpriced.get(line.line, 0) + line.units
            elif line.units:
                with_units[line.line] = with_units.get(line.line, 0) + line.amount
        above = self.amount - of_lines if self.order == order else 0
        return Part(self.place, units, amounts, with_units, unpriced, above, bool(self.lines))


@dataclass(frozen=True)
class Part:
    """What one refund says about one order. `unpriced` are units that came back without any amount being told."""

    place: tuple[int, str]
    units: Mapping[str, int]
    amounts: Mapping[str, int]
    with_units: Mapping[str, int]
    unpriced: Mapping[str, int]
    above: int
    has_lines: bool

    @property
    def says(self) -> bool:
        return bool(self.units or self.above)

    @property
    def told(self) -> int:
        return sum(self.amounts.values()) + self.above
