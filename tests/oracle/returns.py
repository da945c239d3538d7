"""What came back of an order: an independent model, written from the words of issue 8, section A, alone.

Sentences in quotation marks are the issue's. Nothing here reads the product. Amounts are minor units of the order's
currency, instants anything that compares; every answer is one of the set of refunds, in whatever order they are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from tests.oracle.return_facts import Line, Order, Part, Refund, RefundLine

__all__ = [
    "Line",
    "Order",
    "Part",
    "Refund",
    "RefundLine",
    "answer",
    "cancellation",
    "given_back",
    "refusal",
    "returned_at",
]

SHIPPING = ""  # the key of what is no line, among the keys of lines


@dataclass
class LineState:
    """What is back of one line, as far as it has been worked out."""

    line: Line
    units: int = 0
    told: int = 0  # by refunds that name it, up to its amount
    told_with_units: int = 0
    unpriced: int = 0
    money: int = 0  # given back, of `line.money`
    in_points: int = 0  # minor units, of `line.in_points`

    @property
    def worth(self) -> Fraction:
        """ "of worth (units returned / units, or worth told / worth paid, the greater)"

        Worth told is what was given back for it, in money and in points: of a line that refunds tell in money the same.
        Points that units without an amount gave back count with it, else a later such unit would make the share less.
        """
        told = Fraction(self.money + self.in_points, self.line.amount) if self.line.amount else Fraction(0)
        return min(Fraction(1), max(Fraction(self.units, self.line.units), told))

    @property
    def money_share(self) -> Fraction:
        """ "of money (money given back / money paid of it)" """
        return Fraction(self.money, self.line.money) if self.line.money else Fraction(0)

    @property
    def due(self) -> int:
        """ "What is taken from the member for earning follows the greatest of units, worth and money" """
        return int(self.line.earned * max(self.worth, self.money_share))

    @property
    def named_share(self) -> Fraction:
        """The share by which refunds with lines give points back.

        "floor(points paid of the line x worth share told in money) is given back in points, by units only where no
        amount is told": units of which no amount is told stand beside those of which one is, and money told without
        units may be the money of either.
        """
        if not self.line.amount:
            return Fraction(0)
        beside = Fraction(self.told_with_units, self.line.amount) + Fraction(self.unpriced, self.line.units)
        return min(Fraction(1), max(Fraction(self.told, self.line.amount), beside))

    @property
    def points(self) -> int:
        """Points paid that are given back: of what named this line, and of what was spread over it."""
        if not self.line.in_points:
            return 0
        named = int(self.line.points_paid * self.named_share)
        return max(named, self.line.points_paid * self.in_points // self.line.in_points)


@dataclass
class Answer:
    """What came back of one order, by some set of its refunds."""

    lines: dict[str, LineState]
    shipping_paid: int
    shipping: int = 0  # counted as back
    money: int = 0  # given back in all; what floors leave of a spread sum is counted on no line

    @property
    def points(self) -> int:
        return sum(state.points for state in self.lines.values())

    @property
    def due(self) -> dict[str, int]:
        return {key: state.due for key, state in self.lines.items()}

    @property
    def is_returned(self) -> bool:
        """ "every line of amount > 0 has share 1; in an order of free lines only, all units" """
        priced = [state for state in self.lines.values() if state.line.amount]
        return all(state.worth == 1 for state in priced or self.lines.values())


def count_named(answer: Answer, parts: Sequence[Part], paid_by: Callable[[int], int]) -> list[tuple[int, int]]:
    """Count what refunds with lines tell; return what is left to be spread, with its instant.

    "Named units and money stand first". "Money told of a line above what is left of that line by named refunds is
    excess: it comes back of no other line." "What a refund with lines tells above their sum is shipping's as far as it
    goes, then lineless." What is above all that was paid by its instant "is kept as told [...] and takes nothing".
    """
    lineless = []
    told = 0
    for part in parts:
        for key, state in answer.lines.items():
            counted = min(part.amounts.get(key, 0), state.line.amount - state.told)
            state.told += counted
            state.told_with_units += min(counted, part.with_units.get(key, 0))
            state.units = min(state.line.units, state.units + part.units.get(key, 0))
            state.unpriced += part.unpriced.get(key, 0)
            told += counted
        to_shipping = min(part.above, answer.shipping_paid - answer.shipping) if part.has_lines else 0
        to_spread = max(0, min(part.above - to_shipping, paid_by(part.place[0]) - told - to_shipping))
        answer.shipping += to_shipping
        told += to_shipping + to_spread
        lineless.append((part.place[0], to_spread))
    for state in answer.lines.values():
        state.money = state.told - (state.line.in_points * state.told // state.line.amount if state.line.amount else 0)
        state.in_points = int(state.line.in_points * state.named_share)
    answer.money = answer.shipping + sum(state.money for state in answer.lines.values())
    return lineless


def floors(total: int, left: Mapping[str, int], of_all: int) -> dict[str, int]:
    """ "floor(sum x money left of it / money left of all)" """
    return {key: total * of_it // of_all if of_all else 0 for key, of_it in left.items()}


@dataclass
class Spreading:
    """Sums without lines, those before an edit first.

    What floors left of an earlier sum is given back, but counted on no line: `money left of all` is without it.
    """

    answer: Answer
    named_shipping: int
    lineless: int = 0
    money_uncounted: int = 0
    points_uncounted: int = 0
    over: int = 0

    def add(self, total: int, at: int) -> None:
        """Spread a sum "over the lines paid by its own instant (added lines from their edit's)".

        "money first, up to the money not yet given back [...]; only what is told above that is given back in points,
        spread by the points each line was paid with". A sum for which refunds that name lines leave no room among the
        lines of its instant is spread over those that came later: what the API took, it gives back.
        """
        states = {key: state for key, state in self.answer.lines.items() if state.line.paid_at <= at}
        money_left = {key: state.line.money - state.money for key, state in states.items()}
        money_left[SHIPPING] = self.answer.shipping_paid - self.answer.shipping
        points_left = {key: state.line.in_points - state.in_points for key, state in states.items()}
        money_of_all = sum(money_left.values()) - self.money_uncounted
        points_of_all = sum(points_left.values()) - self.points_uncounted

        self.lineless += total
        total += self.over
        in_money = min(total, money_of_all)
        in_points = min(total - in_money, points_of_all)
        self.over = min(total - in_money - in_points, self._told_above(states))
        self.answer.money += in_money

        counted = floors(in_money, money_left, money_of_all)
        self.money_uncounted += in_money - sum(counted.values())
        self.answer.shipping += counted.pop(SHIPPING)
        for key, amount in counted.items():
            states[key].money += amount
        counted = floors(in_points, points_left, points_of_all)
        self.points_uncounted += in_points - sum(counted.values())
        for key, amount in counted.items():
            states[key].in_points += amount

    def _told_above(self, states: Mapping[str, LineState]) -> int:
        told = self.named_shipping + self.lineless + sum(state.told for state in states.values())
        return max(0, told - self.answer.shipping_paid - sum(state.line.amount for state in states.values()))


def answer(order: Order, refunds: Iterable[Refund]) -> Answer:
    """ "One function of the **set** of an order's refunds (not of their arrival)" """
    parts = [part for refund in sorted(refunds, key=lambda one: one.place) if (part := refund.of(order.key)).says]
    result = Answer({line.key: LineState(line) for line in order.lines}, order.shipping)
    lineless = count_named(result, parts, order.paid)
    spreading = Spreading(result, result.shipping)
    stages = sorted({order.paid_at, *(line.paid_at for line in order.lines)})
    for since, until in pairwise([*stages, None]):
        assert since is not None
        spreading.add(sum(amount for at, amount in lineless if since <= at and (until is None or at < until)), since)
    return result


@dataclass(frozen=True)
class GivenBack:
    """What one refund gave back of one order: the difference that it makes in its place."""

    money: int
    points: int
    program_money: int


def given_back(order: Order, refunds: Iterable[Refund]) -> dict[str, GivenBack]:
    """By refund: "cumulative in the order (refunded_at, external_id)".

    "program money back = floor(order's program amount x cumulative order-currency money / order's amount)": of what was
    told, for "the excess is kept as told, counts against spend as now"; the order with its edits, so that nothing is
    left of its spend when all is back, whatever the rates of the edits were.
    """
    result = {}
    in_order = sorted((one for one in refunds if one.of(order.key).says), key=lambda one: one.place)
    before, told, program_before = answer(order, ()), 0, 0
    for count, refund in enumerate(in_order, start=1):
        after = answer(order, in_order[:count])
        told += refund.of(order.key).told
        program = told
        if order.program_amount is not None:
            program = order.program_amount * told // order.paid() if order.paid() else 0
        result[refund.key] = GivenBack(
            after.money - before.money, after.points - before.points, program - program_before
        )
        before, program_before = after, program
    return result


def returned_at(order: Order, refunds: Iterable[Refund]) -> int | None:
    """The instant of the refund with which everything in the order is back; `returned_at` follows "units or worth"."""
    in_order = sorted((one for one in refunds if one.of(order.key).says), key=lambda one: one.place)
    for count, refund in enumerate(in_order, start=1):
        if answer(order, in_order[:count]).is_returned:
            return refund.at
    return None


@dataclass(frozen=True)
class Refusal:
    code: str
    left: int | None = None
    line: str | None = None


def left_of_order(order: Order, refunds: Iterable[Refund], at: int | None = None) -> int:
    """ "what is left of what was paid of its order and edits"; "lineless money counts at the order" """
    parts = [part for refund in sorted(refunds, key=lambda one: one.place) if (part := refund.of(order.key)).says]
    scratch = Answer({line.key: LineState(line) for line in order.lines}, order.shipping)
    lineless = count_named(scratch, parts, order.paid)
    told = (
        scratch.shipping + sum(state.told for state in scratch.lines.values()) + sum(amount for _, amount in lineless)
    )
    return max(0, order.paid(at) - told)


def left_for_refund(order: Order, refunds: Sequence[Refund], at: int) -> int:
    """What a refund dated `at` may still tell: by then and by every later one no more is told than had been paid."""
    instants = {at, *(refund.at for refund in refunds if refund.at > at)}
    known = {instant: [refund for refund in refunds if refund.at <= instant] for instant in instants}
    return min(left_of_order(order, by, instant) for instant, by in known.items())


def left_of_line(order: Order, key: str, refunds: Iterable[Refund]) -> int:
    """ "of the line it names, where only what refunds named of that line counts" """
    line = next(line for line in order.lines if line.key == key)
    return max(0, line.amount - sum(refund.of(order.key).amounts.get(key, 0) for refund in refunds))


def refusal(orders: Mapping[str, Order], refunds: Sequence[Refund], new: Refund) -> Refusal | None:
    """Whether the API would refuse `new` beside `refunds`, and why."""
    of_lines = sum(line.amount for line in new.lines)
    if of_lines > new.amount:
        return Refusal("lines_above_refund")  # "lines summing above their refund are refused"
    if new.order is not None and any(line.line is None and line.units for line in new.lines):
        return Refusal("units_without_line")  # "a refund line with `units` but no order line [...] is refused"
    for key, order in orders.items():
        found = _refused_by_order(order, refunds, new.of(key))
        if found is not None:
            return found
    return None


def _refused_by_order(order: Order, refunds: Sequence[Refund], part: Part) -> Refusal | None:
    for line in order.lines:
        if part.units.get(line.key, 0) + sum(one.of(order.key).units.get(line.key, 0) for one in refunds) > line.units:
            return Refusal("too_many_units", line=line.key)
        left = left_of_line(order, line.key, refunds)
        if part.amounts.get(line.key, 0) > left:
            return Refusal("more_than_paid", left, line.key)
    left = left_for_refund(order, refunds, part.place[0])
    return Refusal("more_than_paid", left) if part.told > left else None


def cancellation(order: Order, refunds: Sequence[Refund], key: str, at: int) -> Refund | None:
    """A refund of "all that is left of it: the units, and the money of the order and its edits"; None: nothing is."""
    now = answer(order, refunds)
    left = total = left_of_order(order, refunds)
    lines = []
    for state in now.lines.values():
        amount = min(left, state.line.amount - max(state.told, state.money + state.in_points))
        units = state.line.units - state.units
        left -= amount
        if units or amount:
            lines.append(RefundLine(state.line.key, units, amount))
    return Refund(key, at, total, tuple(lines), order.key) if lines or total else None
