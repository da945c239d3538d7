"""What came back of an order: one answer from the set of its refunds, in whatever order they arrived.

Pure arithmetic, in minor units of the order's currency. Everything that a refund changes reads this answer: the order's
state, what counts against spend, clawback, points paid, coupons, referrals, cancellations and what the API shows.

Named parts of refunds stand first, then come the parts that name no line (`_spread`). A line's amount was paid in money
and in points; so a line has a share of worth and a share of money, both cumulative and at most 1. What is told above
what is left of a line comes back of no other line and takes nothing.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Share(NamedTuple):
    """So much of a whole, which is at least 1; at most all of it."""

    part: int
    whole: int

    @property
    def is_all(self) -> bool:
        return self.part >= self.whole

    def of(self, total: int) -> int:
        """Return this share of a total, rounded down."""
        return total * self.part // self.whole

    def exceeds(self, other: "Share") -> bool:
        """Tell whether this share is the greater one."""
        return self.part * other.whole > other.part * self.whole


@dataclass(frozen=True, slots=True)
class PaidLine:
    """A line as it was paid. `since`: when it was paid, or added by an edit. Paid in points: part of the amount."""

    id: int
    external_id: str
    units: int
    amount_minor: int
    paid_in_points_minor: int
    since: datetime

    @property
    def paid_in_money_minor(self) -> int:
        return self.amount_minor - self.paid_in_points_minor


@dataclass(frozen=True, slots=True)
class PaidOrder:
    """An order as it was paid, with what edits added. What is no line's is shipping, paid in money."""

    id: int
    external_id: str
    member_id: int | None
    currency: str
    paid_at: datetime
    amount_minor: int
    program_amount_minor: int
    lines: tuple[PaidLine, ...]

    @property
    def shipping_minor(self) -> int:
        return max(0, self.amount_minor - sum(line.amount_minor for line in self.lines))

    def paid_by(self, at: datetime) -> int:
        """Return what had been paid by an instant, edits included."""
        return self.shipping_minor + sum(line.amount_minor for line in self.lines if line.since <= at)


@dataclass(frozen=True, slots=True)
class RefundPart:
    """What one refund tells of one order: a part for each of its lines, and one for what it tells above them.

    line_id: of the order line; None: of no line. has_lines: the refund has lines, so what is of none of them is
    shipping's first. is_priced: the refund tells an amount, for some line or for all. refund_id, refund_line_id: None
    until they are written. recorded_minor: in the program's currency as recorded; counted_minor: what counts against
    spend.
    """

    refunded_at: datetime
    refund: str
    refund_line: str
    amount_minor: int
    line_id: int | None = None
    units: int | None = None
    has_lines: bool = False
    is_priced: bool = True
    refund_id: int | None = None
    refund_line_id: int | None = None
    recorded_minor: int = 0
    counted_minor: int = 0

    @property
    def date(self) -> tuple[datetime, str]:
        """The order in which refunds count."""
        return self.refunded_at, self.refund


@dataclass(slots=True)
class LineReturned:
    """What came back of a line: what refund lines that name it tell, and what is spread over it.

    named_minor: of the amounts told, no more than was paid; with_units_minor: of them, those told with units.
    unpriced_units: of the units, those of refunds that tell no amount.
    """

    line: PaidLine
    units: int = 0
    unpriced_units: int = 0
    named_minor: int = 0
    with_units_minor: int = 0
    spread_money_minor: int = 0
    spread_points_minor: int = 0

    def add(self, part: RefundPart) -> int:
        """Add what one part names of this line, and return what of its amount is not excess."""
        taken = min(part.amount_minor, self.line.amount_minor - self.named_minor)
        self.named_minor += taken
        if part.units:
            self.units += part.units
            self.with_units_minor += taken
            self.unpriced_units += 0 if part.is_priced else part.units
        return taken

    @property
    def named_share(self) -> Share:
        """The share of worth that named parts give back in points: by amounts, by units where no amount was told.

        Units without an amount stand beside those with one; an amount told without units may be that of either.
        """
        amount, units = self.line.amount_minor, self.line.units
        if not amount:
            return Share(0, 1)
        by_amount = self.named_minor * units
        beside = self.with_units_minor * units + self.unpriced_units * amount
        return Share(min(max(by_amount, beside), amount * units), amount * units)

    @property
    def named_money_minor(self) -> int:
        """What the named parts give back in money: of the amounts told, what is not given back in points."""
        paid, told = self.line.amount_minor, self.named_minor
        return told - self.line.paid_in_points_minor * told // paid if told else 0

    @property
    def named_points_minor(self) -> int:
        """What the named parts give back in points, in money's worth."""
        return self.named_share.of(self.line.paid_in_points_minor)

    @property
    def money_minor(self) -> int:
        return self.named_money_minor + self.spread_money_minor

    @property
    def in_points_minor(self) -> int:
        return self.named_points_minor + self.spread_points_minor

    @property
    def returned_minor(self) -> int:
        """What of the line's amount came back, in money and in points."""
        return min(self.money_minor + self.in_points_minor, self.line.amount_minor)

    @property
    def left_minor(self) -> int:
        """What of the line's amount did not come back."""
        return self.line.amount_minor - self.returned_minor

    @property
    def worth(self) -> Share:
        """The share of the line that is back: by units or by what came back of its amount, the greater."""
        by_units = Share(min(self.units, self.line.units), self.line.units)
        if not self.line.amount_minor:
            return by_units
        by_amount = Share(self.returned_minor, self.line.amount_minor)
        return by_amount if by_amount.exceeds(by_units) else by_units

    @property
    def of_earned(self) -> Share:
        """The share of what the line earned that is taken back: the greatest of units, worth and money."""
        worth, paid = self.worth, self.line.paid_in_money_minor
        money = Share(self.money_minor, paid) if paid else worth
        return money if money.exceeds(worth) else worth

    def points_of(self, points: int) -> int:
        """Return how many of the points that paid for the line have been given back."""
        paid = self.line.paid_in_points_minor
        return max(self.named_share.of(points), points * self.in_points_minor // paid) if paid else 0


@dataclass(slots=True)
class OrderReturned:
    """What came back of an order, line by line and in sum. What floors leave is no line's, but it was given back.

    told_minor: what refunds tell, without what is above what was paid.
    """

    order: PaidOrder
    lines: dict[int, LineReturned]
    told_minor: int = 0
    shipping_minor: int = 0
    spread_money_minor: int = 0
    spread_points_minor: int = 0

    @property
    def money_minor(self) -> int:
        named = sum(line.named_money_minor for line in self.lines.values())
        return named + self.shipping_minor + self.spread_money_minor

    @property
    def in_points_minor(self) -> int:
        """In money's worth."""
        return sum(line.named_points_minor for line in self.lines.values()) + self.spread_points_minor

    @property
    def left_minor(self) -> int:
        """What is left to be told of what was paid."""
        paid = self.order.shipping_minor + sum(line.amount_minor for line in self.order.lines)
        return max(0, paid - self.told_minor)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is back: every line that cost something; of free lines alone, every unit."""
        priced = [line for line in self.lines.values() if line.line.amount_minor]
        return all(line.worth.is_all for line in priced or self.lines.values())

    def points_of(self, points: Mapping[str, int]) -> int:
        """Return how many points have been given back. `points`: those that paid, by the line's external id."""
        return sum(line.points_of(points.get(line.line.external_id, 0)) for line in self.lines.values())


@dataclass(frozen=True, slots=True)
class ReturnChange:
    """What came back of an order before and after a new refund became known."""

    refunded_at: datetime
    before: OrderReturned
    after: OrderReturned


def work_out(order: PaidOrder, parts: Iterable[RefundPart]) -> OrderReturned:
    """Return what came back of an order. `parts`: of all its refunds, in the order of their dates."""
    found = OrderReturned(order, {line.id: LineReturned(line) for line in order.lines})
    shipping, unnamed = order.shipping_minor, []
    for part in parts:
        if part.line_id is not None:
            found.told_minor += found.lines[part.line_id].add(part)
            continue
        of_shipping = min(part.amount_minor, shipping - found.shipping_minor) if part.has_lines else 0
        found.shipping_minor += of_shipping
        found.told_minor += of_shipping
        spread = max(0, min(part.amount_minor - of_shipping, order.paid_by(part.refunded_at) - found.told_minor))
        found.told_minor += spread
        unnamed.append((part.refunded_at, spread))
    if unnamed:
        _spread(found, shipping - found.shipping_minor, unnamed)
    return found


def _spread(found: OrderReturned, shipping_minor: int, unnamed: Sequence[tuple[datetime, int]]) -> None:
    """Spread sums that name no line over what the named parts leave of the lines paid by then, and of shipping.

    Money first, in proportion to the money left; what is told above that is given back in points, in proportion to what
    is left of the amounts paid in points. Sums between two edits count together, the oldest first. What floors leave of
    a sum is no line's, but it was given back: it is not there to be given back again. A sum for which named parts, told
    later, leave no room among its own lines is spread over those that came after it.
    """
    starts = sorted({line.since for line in found.order.lines})
    sums = [0] * len(starts)
    for at, amount in unnamed:
        sums[bisect_right(starts, at) - 1] += amount
    told = over = 0
    for since, amount in zip(starts, sums, strict=True):
        told += amount
        pool = [line for line in found.lines.values() if line.line.since <= since]
        paid = shipping_minor + sum(line.line.amount_minor - line.named_minor for line in pool)
        unplaced = amount + over - _spread_over(found, pool, shipping_minor, amount + over)
        over = min(unplaced, max(0, told - paid))


def _spread_over(found: OrderReturned, pool: Sequence[LineReturned], shipping_minor: int, amount: int) -> int:
    """Spread a sum over lines and shipping, and return how much of it they take."""
    money_left = shipping_minor - found.spread_money_minor
    money_left += sum(line.line.paid_in_money_minor - line.named_money_minor for line in pool)
    points_left = -found.spread_points_minor
    points_left += sum(line.line.paid_in_points_minor - line.named_points_minor for line in pool)
    money = min(amount, money_left)
    in_points = min(amount - money, points_left)
    for line in pool if money or in_points else ():
        of_money = line.line.paid_in_money_minor - line.money_minor
        of_points = line.line.paid_in_points_minor - line.in_points_minor
        line.spread_money_minor += money * of_money // money_left if money else 0
        line.spread_points_minor += in_points * of_points // points_left if in_points else 0
    found.spread_money_minor += money
    found.spread_points_minor += in_points
    return money + in_points


def left_for(order: PaidOrder, parts: Sequence[RefundPart], at: datetime) -> int:
    """Return how much a refund of an instant may still tell: no more than had been paid by then or by any later one.

    parts: those known of all refunds, in the order of their dates.
    """
    instants = {at, *(part.refunded_at for part in parts if part.refunded_at > at)}
    told = {instant: [part for part in parts if part.refunded_at <= instant] for instant in instants}
    return max(0, min(order.paid_by(instant) - work_out(order, by).told_minor for instant, by in told.items()))


def returned_since(order: PaidOrder, parts: Sequence[RefundPart]) -> datetime | None:
    """Return the instant of the refund from which on all of an order is back, None while it is not.

    parts: in the order of their dates.
    """
    ends = [end for end, part in enumerate(parts, 1) if end == len(parts) or parts[end].date != part.date]
    for end in reversed(ends):
        if not work_out(order, parts[:end]).is_whole:
            return parts[end].refunded_at if end < len(parts) else None
    return parts[0].refunded_at if parts else None


def count_against_spend(order: PaidOrder, parts: Iterable[RefundPart]) -> Iterator[int]:
    """Yield what each part counts against spend: its share of the order's program amount, so that the sums are exact.

    Units: minor units of the program's currency. What was told of an order that cost nothing counts as recorded.
    parts: in the order of their dates.
    """
    told = counted = 0
    for part in parts:
        if not order.amount_minor:
            yield part.recorded_minor
            continue
        told += part.amount_minor
        before, counted = counted, order.program_amount_minor * told // order.amount_minor
        yield counted - before
