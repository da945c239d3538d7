"""What is back of an order, since when, and what it counts against spend equal the oracle's, after every fact."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from core.models import Program
from membership.fact_inputs import (
    MemberInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
)
from membership.models import Member, MemberDay, Order, OrderLine, Refund
from membership.services.edits import record_edit
from membership.services.facts import record_facts
from membership.services.members import enroll_members
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from tests.oracle import returns as model
from tests.oracle.return_histories import make_order, make_refunds

pytestmark = pytest.mark.django_db

START = datetime(2026, 5, 4, 9, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def instant(hours: int) -> datetime:
    """Four hours are one of the oracle's, so that days differ."""
    return START + timedelta(hours=4 * hours)


class History:
    """One random order with edits and refunds, told in any order to its own member."""

    def __init__(self, program: Program, number: int) -> None:
        self.program, self.random = program, Random(number)
        self.name = f"m{number}"
        by_api = self.random.random() < 0.7
        self.order = make_order(self.random, with_edits=by_api)
        self.refunds = make_refunds(self.random, self.order, by_api=by_api)
        edited = sorted({line.paid_at for line in self.order.lines if line.paid_at})
        costs = {at: sum(line.amount for line in self.order.lines if line.paid_at == at) for at in edited}
        self.worth = self._worth(costs)
        enroll_members(program=program, members=[MemberInput(external_id=self.name, joined_at=START)], at=START)
        self.member = Member.objects.get(program=program, external_id=self.name)
        self.comparisons = 0

    def _worth(self, costs: dict[int, int]) -> dict[int, int]:
        """What order and edits cost in the program's currency, by their instants; together the order's."""
        if self.order.program_amount is None:
            return {0: self.order.amount} | costs
        left, worth = self.order.program_amount, {}
        for at, amount in costs.items():
            worth[at] = min(left, self.random.randint(0, amount))
            left -= worth[at]
        return {0: left} | worth

    @property
    def currency(self) -> str:
        return "GBP" if self.order.program_amount is None else "USD"

    def lines(self, at: int) -> tuple[OrderLineInput, ...]:
        found = [line for line in self.order.lines if line.paid_at == at]
        parts = [self.worth[at], *[0] * (len(found) - 1)] if at and self.currency != "GBP" else [None] * len(found)
        return tuple(
            OrderLineInput(
                external_id=line.key, units=line.units, amount_minor=line.amount, program_amount_minor=part,
                paid_in_points_minor=line.in_points,
            )
            for line, part in zip(found, parts, strict=True)
        )  # fmt: skip

    def run(self) -> None:
        told = OrderInput(
            external_id=self.name, member=self.name, paid_at=START, currency=self.currency,
            amount_minor=self.order.amount, lines=self.lines(0),
            program_amount_minor=None if self.currency == "GBP" else self.worth[0],
        )  # fmt: skip
        record_facts(program=self.program, orders=[told], at=NOW)
        for at in sorted(self.worth)[1:]:
            self.edit(at)
        known: list[model.Refund] = []
        arrival = self.random.sample(self.refunds, len(self.refunds))
        while arrival:
            group = [arrival.pop() for _ in range(min(len(arrival), self.random.choice([1, 1, 2])))]
            record_facts(program=self.program, refunds=[self.refund(one) for one in group], at=NOW)
            known += group
            self.check(known)

    def edit(self, at: int) -> None:
        edit = OrderEditInput(
            order=self.name, external_id=f"e{at}", edited_at=instant(at), currency=self.currency, lines=self.lines(at)
        )
        record_edit(program=self.program, edit=edit, at=NOW)

    def refund(self, refund: model.Refund) -> RefundInput:
        lines = tuple(
            RefundLineInput(
                external_id=str(n), amount_minor=one.amount, units=one.units or None, order_line=one.line or ""
            )
            for n, one in enumerate(refund.lines)
        )
        return RefundInput(
            external_id=refund.key, member=self.name, refunded_at=instant(refund.at), currency=self.currency,
            amount_minor=refund.amount, order=self.name, lines=lines,
        )  # fmt: skip

    def check(self, known: list[model.Refund]) -> None:
        row = Order.objects.get(member=self.member)
        at = model.returned_at(self.order, known)
        self.same(known, "returned_at", row.returned_at, None if at is None else instant(at))
        lines = OrderLine.objects.filter(member=self.member).values_list("external_id", "returned_units")
        back = model.answer(self.order, known).lines
        self.same(known, "units", dict(lines), {key: state.units for key, state in back.items()})
        counts = {key: back.program_money for key, back in model.given_back(self.order, known).items()}
        expected = {one.key: counts.get(one.key, 0) for one in known}
        self.same(
            known,
            "counts",
            dict(Refund.objects.filter(member=self.member).values_list("external_id", "counted_minor")),
            expected,
        )
        days: dict[date, Counter[str]] = defaultdict(Counter)
        days[START.date()]["orders"] += 1
        for hours, amount in self.worth.items():
            days[instant(hours).date()]["spend_minor"] += amount
        for one in known:
            days[instant(one.at).date()]["refunds_minor"] += expected[one.key]
        if at is not None:
            days[instant(at).date()]["orders_returned"] += 1
        names = ("orders", "spend_minor", "refunds_minor", "orders_returned")
        found = {day[0]: day[1:] for day in MemberDay.objects.filter(member=self.member).values_list("day", *names)}
        self.same(
            known, "days", {day: sums for day, sums in found.items() if any(sums)},
            {day: tuple(sums[name] for name in names) for day, sums in days.items() if any(sums.values())},
        )  # fmt: skip

    def same(self, known: list[model.Refund], what: str, found: object, expected: object) -> None:
        self.comparisons += 1
        assert found == expected, f"history {self.name}: {what}: {found}, expected {expected}\n{self.order}\n{known}"


def check(program: Program, first: int, how_many: int) -> None:
    histories = [History(program, number) for number in range(first, first + how_many)]
    for history in histories:
        history.run()
    assert sum(history.comparisons for history in histories) > 4 * how_many
    assert (find_day_mismatches(program), find_line_mismatches(program)) == ([], [])


def test_two_hundred_orders_come_back_as_the_oracle_says(program: Program) -> None:
    check(program, 0, 200)


@pytest.mark.deep
def test_five_thousand_orders_come_back_as_the_oracle_says(program: Program) -> None:
    check(program, 200, 5_000)
