"""What came back of an order: the issue's examples, and the same as the oracle's model over random histories."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from membership.order_returns import ToldLine, ToldRefund
from membership.returns import (
    OrderReturned,
    PaidLine,
    PaidOrder,
    RefundPart,
    count_against_spend,
    left_for,
    returned_since,
    work_out,
)
from tests.oracle import returns as model
from tests.oracle.return_histories import make_order, make_refunds

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HISTORIES = 500


def order(*lines: PaidLine, shipping: int = 0, program_amount: int | None = None) -> PaidOrder:
    amount = sum(line.amount_minor for line in lines) + shipping
    return PaidOrder(1, "o", 1, "GBP", NOW, amount, amount if program_amount is None else program_amount, lines)


def line(pk: int, amount: int, *, units: int = 1, in_points: int = 0, hours: int = 0) -> PaidLine:
    return PaidLine(pk, f"l{pk}", units, amount, in_points, NOW + hours * HOUR)


def part(name: str, amount: int, *, of: int | None = None, hours: int = 1, **more: Any) -> RefundPart:
    return RefundPart(NOW + hours * HOUR, name, "", amount, line_id=of, **more)


def given(found: OrderReturned, points: int = 0) -> tuple[int, int]:
    """Return the money given back, and the points where so many paid for the first line."""
    return found.money_minor, found.points_of({"l1": points})


MIXED = order(line(1, 10_000, in_points=9_000))


def test_a_sum_without_lines_is_money_first_and_then_points() -> None:
    assert given(work_out(MIXED, [part("r", 10_000)]), 9_000) == (1_000, 9_000)
    after = work_out(MIXED, [part("r", 1_000)])
    assert (given(after, 9_000), after.lines[1].of_earned.is_all, after.is_whole) == ((1_000, 0), True, False)


def test_what_a_named_part_and_a_sum_give_back_does_not_depend_on_their_order() -> None:
    named, loose = part("n", 5_000, of=1), part("l", 1_000)
    assert given(work_out(MIXED, [named]), 9_000) == (500, 4_500)
    assert given(work_out(MIXED, [loose]), 9_000) == (1_000, 0)
    assert given(work_out(MIXED, [named, loose]), 9_000) == (1_000, 5_000)
    assert given(work_out(MIXED, [loose, named]), 9_000) == (1_000, 5_000)


def test_an_order_whose_shipping_is_kept_is_back() -> None:
    goods = order(line(1, 10_000), shipping=500)
    parts = [part("r", 4_000, of=1), part("s", 6_000, of=1, hours=2), part("t", 500, hours=3)]
    assert [returned_since(goods, parts[:n]) for n in range(4)] == [None, None, *[NOW + 2 * HOUR] * 2]
    assert not work_out(goods, [part("r", 10_000)]).is_whole  # a part of the sum is that of the shipping
    assert work_out(goods, [part("r", 10_500)]).is_whole


def test_an_order_of_free_lines_is_back_with_its_units() -> None:
    free = order(line(1, 0, units=2))
    assert returned_since(free, [part("r", 5)]) is None
    assert returned_since(free, [part("r", 0, of=1, units=2, is_priced=False)]) == NOW + HOUR


def test_what_is_told_above_a_line_comes_back_of_no_other() -> None:
    found = work_out(order(line(1, 100), line(2, 200)), [part("r", 300, of=1)])
    assert [one.returned_minor for one in found.lines.values()] == [100, 0]
    assert (found.money_minor, found.told_minor, found.left_minor) == (100, 100, 200)


def test_a_sum_is_spread_over_the_lines_of_its_own_instant() -> None:
    edited = order(line(1, 100), line(2, 100, hours=5))
    before, after = (work_out(edited, [part("r", 50, hours=hours)]) for hours in (4, 5))
    assert [[one.money_minor for one in found.lines.values()] for found in (before, after)] == [[50, 0], [25, 25]]


def test_spend_counts_the_share_of_the_program_amount_exactly() -> None:
    paid = order(line(1, 1_000), program_amount=877)
    parts = [part("r", 333), part("s", 333, of=1), part("t", 334), part("u", 1_000)]
    assert list(count_against_spend(paid, parts)) == [292, 292, 293, 877]
    assert list(count_against_spend(order(line(1, 0)), [part("r", 5, recorded_minor=4)])) == [4]


# --- the same as the oracle's model ------------------------------------------------------------------------------


def as_here(paid: model.Order, refunds: list[model.Refund]) -> tuple[PaidOrder, list[RefundPart]]:
    lines = [
        PaidLine(pk, one.key, one.units, one.amount, one.in_points, NOW + one.paid_at * HOUR)
        for pk, one in enumerate(paid.lines, 1)
    ]
    amount = paid.shipping + sum(one.amount for one in paid.lines)
    program_amount = amount if paid.program_amount is None else paid.program_amount
    here = PaidOrder(1, "o", 1, "GBP", NOW, amount, program_amount, tuple(lines))
    ids = {one.external_id: one.id for one in lines}
    parts = []
    for refund in refunds:
        told = tuple(
            ToldLine(str(n), one.amount, one.units or None, 1 if one.line else None, ids.get(one.line or ""))
            for n, one in enumerate(refund.lines)
        )
        whole = ToldRefund(refund.key, 1, NOW + refund.at * HOUR, "GBP", refund.amount, 1, told)
        parts += [found for _, found in whole.parts({1: here})]
    return here, sorted(parts, key=lambda one: one.date)


def check_history(random: Random) -> None:
    paid = make_order(random, with_edits=random.random() < 0.7)
    refunds = make_refunds(random, paid, by_api=random.random() < 0.6)
    here, parts = as_here(paid, refunds)
    found, expected = work_out(here, parts), model.answer(paid, refunds)
    for one in found.lines.values():
        state = expected.lines[one.line.external_id]
        assert (one.money_minor, one.in_points_minor) == (state.money, state.in_points)
        assert (Fraction(*one.worth), one.of_earned.of(state.line.earned)) == (state.worth, state.due)
        assert one.points_of(state.line.points_paid) == state.points
    assert (found.money_minor, found.is_whole) == (expected.money, expected.is_returned)
    since = model.returned_at(paid, refunds)
    assert returned_since(here, parts) == (None if since is None else NOW + since * HOUR)
    at = random.randint(0, 16)
    assert found.left_minor == model.left_of_order(paid, refunds)
    assert left_for(here, parts, NOW + at * HOUR) == model.left_for_refund(paid, refunds, at)


def test_the_answer_is_that_of_the_model() -> None:
    random = Random(8)
    for _ in range(HISTORIES):
        check_history(random)


@pytest.mark.deep
def test_the_answer_is_that_of_the_model_in_many_histories() -> None:
    random = Random(80)
    for _ in range(20 * HISTORIES):
        check_history(random)
