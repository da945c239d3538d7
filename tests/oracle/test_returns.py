"""The model of what came back, by itself: the issue's examples, and what must hold of every history."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.oracle import returns
from tests.oracle.return_histories import broken_properties
from tests.oracle.returned_points import Wallet
from tests.oracle.returns import Line, Order, Refund, RefundLine, answer, cancellation, given_back, refusal, returned_at

HISTORIES = 5_000

MIXED = Order("o", 10_000, (Line("a", 1, 10_000, in_points=9_000, points_paid=9_000, earned=10),))


def lineless(key: str, at: int, amount: int) -> Refund:
    return Refund(key, at, amount, order="o")


def named(key: str, at: int, amount: int, units: int = 0, line: str = "a") -> Refund:
    return Refund(key, at, amount, (RefundLine(line, units, amount),), "o")


def split(order: Order, *refunds: Refund) -> dict[str, tuple[int, int]]:
    return {key: (one.money, one.points) for key, one in given_back(order, refunds).items()}


def test_without_lines_money_comes_first_and_points_above_it() -> None:
    assert split(MIXED, lineless("r", 1, 10_000)) == {"r": (1_000, 9_000)}


def test_when_all_money_is_back_all_earned_points_go_and_a_cancel_gives_the_points_paid() -> None:
    first = lineless("r", 1, 1_000)
    assert answer(MIXED, [first]).due == {"a": 10}
    cancel = cancellation(MIXED, [first], "o:cancel", 2)
    assert cancel is not None
    assert split(MIXED, first, cancel) == {"r": (1_000, 0), "o:cancel": (0, 9_000)}


def test_a_line_after_a_lineless_sum_gives_what_is_left_by_each() -> None:
    assert split(MIXED, lineless("r", 1, 1_000), named("s", 2, 5_000)) == {"r": (1_000, 0), "s": (0, 5_000)}
    assert split(MIXED, named("s", 1, 5_000), lineless("r", 2, 1_000)) == {"s": (500, 4_500), "r": (500, 500)}


def test_goods_back_and_shipping_kept_is_a_returned_order() -> None:
    order = Order("o", 10_500, (Line("a", 1, 10_000, earned=100),))
    assert returned_at(order, [named("r", 7, 10_000, 1)]) == 7
    assert returned_at(order, [lineless("r", 7, 10_000)]) is None
    assert returned_at(order, [lineless("r", 7, 10_500)]) == 7


def test_an_order_of_free_lines_is_returned_by_its_units() -> None:
    order = Order("o", 0, (Line("a", 2, 0), Line("b", 1, 0)))
    units = Refund("r", 1, 0, (RefundLine("a", 2), RefundLine("b", 1)), "o")
    assert returned_at(order, []) is None
    assert returned_at(order, [units]) == 1
    priced = Order("o", 100, (Line("a", 1, 100), Line("free", 1, 0)))
    assert returned_at(priced, [named("r", 1, 100)]) == 1


def test_a_sum_without_lines_is_spread_over_lines_and_shipping() -> None:
    order = Order("o", 10_000, (Line("a", 2, 6_000, earned=60), Line("b", 1, 4_000, earned=40)))
    assert sum(answer(order, [lineless("r", 1, 2_000)]).due.values()) == 20  # trial 1
    with_shipping = Order("o", 301, (Line("a", 1, 100), Line("b", 1, 100)))
    spread = answer(with_shipping, [lineless("r", 1, 100)])
    assert [state.money for state in spread.lines.values()] == [33, 33]
    assert spread.money == 100


def test_units_and_money_of_one_line_take_all_it_earned_in_either_order() -> None:
    order = Order("o", 200, (Line("a", 2, 200, earned=2),))
    for first, second in [((100, 0), (100, 1)), ((100, 1), (100, 0))]:  # trial 2
        assert answer(order, [named("r", 1, *first), named("s", 2, *second)]).due == {"a": 2}


def test_what_is_told_of_a_line_above_its_amount_comes_back_of_no_other() -> None:
    order = Order("o", 300, (Line("a", 1, 100, earned=1), Line("b", 1, 200, earned=2)))
    assert answer(order, [named("r", 1, 300)]).due == {"a": 1, "b": 0}
    assert given_back(order, [named("r", 1, 300)])["r"] == returns.GivenBack(100, 0, 300)
    assert refusal({"o": order}, [], named("r", 1, 300)) == returns.Refusal("more_than_paid", 100, "a")


def test_what_lines_leave_of_their_refund_is_shipping_then_lineless() -> None:
    order = Order("o", 250, (Line("a", 1, 100), Line("b", 1, 100)))
    back = answer(order, [Refund("r", 1, 180, (RefundLine("a", 1, 100),), "o")])
    assert (back.shipping, {key: state.money for key, state in back.lines.items()}) == (50, {"a": 100, "b": 30})


def test_added_lines_are_spread_over_from_their_edit_on() -> None:
    order = Order("o", 100, (Line("a", 1, 100), Line("b", 1, 100, paid_at=5)))
    before, after = lineless("r", 4, 50), lineless("s", 5, 50)
    assert {key: state.money for key, state in answer(order, [before]).lines.items()} == {"a": 50, "b": 0}
    assert {key: state.money for key, state in answer(order, [after]).lines.items()} == {"a": 25, "b": 25}
    pushed = [lineless("r", 4, 60), named("s", 6, 80)]
    assert {key: state.money for key, state in answer(order, pushed).lines.items()} == {"a": 100, "b": 40}
    assert split(order, *pushed) == {"r": (60, 0), "s": (80, 0)}


def test_excess_takes_nothing_of_lines_that_come_later() -> None:
    order = Order("o", 100, (Line("a", 1, 100), Line("b", 1, 100, paid_at=5)))
    assert {key: state.money for key, state in answer(order, [lineless("r", 4, 150)]).lines.items()} == {
        "a": 100,
        "b": 0,
    }


def test_units_without_an_amount_give_points_by_units() -> None:
    order = Order("o", 10_000, (Line("a", 2, 10_000, in_points=9_000, points_paid=9_000, earned=10),))
    assert split(order, named("r", 1, 0, 1)) == {"r": (0, 4_500)}
    assert split(order, named("r", 1, 0, 1), named("s", 2, 5_000)) == {"r": (0, 4_500), "s": (500, 0)}
    assert split(order, named("r", 1, 0, 1), named("s", 2, 5_000, 1)) == {"r": (0, 4_500), "s": (500, 4_500)}


def test_a_refund_counts_at_its_orders_rate_and_the_sum_is_exact() -> None:
    order = Order("o", 1_000, (Line("a", 3, 1_000),), program_amount=877, currency="EUR")
    parts = [named("r", 1, 333), named("s", 2, 333), named("t", 3, 334)]
    assert [one.program_money for one in given_back(order, parts).values()] == [292, 292, 293]


def test_refusals_name_what_is_left() -> None:
    assert refusal({"o": MIXED}, [lineless("r", 1, 1_000)], lineless("s", 2, 9_001)) == returns.Refusal(
        "more_than_paid", 9_000
    )
    assert refusal({"o": MIXED}, [lineless("r", 1, 1_000)], named("s", 2, 9_001)) == returns.Refusal(
        "more_than_paid", 9_000
    )
    assert refusal({"o": MIXED}, [], Refund("s", 2, 10, (RefundLine("a", 0, 11),), "o")) == returns.Refusal(
        "lines_above_refund"
    )
    assert refusal({"o": MIXED}, [], Refund("s", 2, 10, (RefundLine(None, 1),), "o")) == returns.Refusal(
        "units_without_line"
    )
    assert refusal({"o": MIXED}, [], Refund("s", 2, 99_999)) is None


def test_what_expired_is_forgiven_and_what_was_spent_is_not() -> None:
    wallet = Wallet()
    wallet.earn("o", 100, 0, expires_at=10)
    assert wallet.pay("b", 60, 5)
    assert wallet.claw_back("o", 50, 11) == 10
    assert wallet.claw_back("o", 100, 12) == 50
    assert wallet.debt == 60


def test_no_order_of_spending_and_expiry_takes_back_what_expired() -> None:
    """Of one lot: taken + expired is never above what it had and what was spent; nothing expired, all due is taken."""
    generator = random.Random(8)
    for _ in range(HISTORIES):
        wallet, points, end = Wallet(), generator.randint(1, 100), generator.choice([5, None])
        wallet.earn("o", points, 0, end)
        wallet.earn("other", generator.randint(0, 50), 0, None)
        due = at = spent = 0
        for _ in range(5):
            at += generator.randint(0, 2)
            more, use = generator.randint(0, points - due), generator.randint(0, 60)
            due += more
            wallet.claw_back("o", due, at)
            spent += use if wallet.pay(f"p{at}{use}", use, at) else 0
        lot = wallet.lots["o"]
        assert lot.taken == lot.asked <= due
        assert lot.asked >= due - lot.expired
        assert not (wallet.debt and wallet.available)
        assert end is not None or lot.taken == due
        assert wallet.available + spent + lot.expired + lot.taken - wallet.debt == sum(
            one.points for one in wallet.lots.values()
        )


def test_every_history_has_the_properties() -> None:
    generator = random.Random(8)
    broken = [broken_properties(returns, generator) for _ in range(HISTORIES // 5)]
    assert [one for one in broken if one] == []


@pytest.mark.deep
def test_every_one_of_many_histories_has_the_properties() -> None:
    generator = random.Random(88)
    broken = [broken_properties(returns, generator) for _ in range(HISTORIES)]
    assert [one for one in broken if one] == []


PLANTED = {
    "the share of money takes no earned points": ("max(self.worth, self.money_share)", "self.worth"),
    "the sum is rounded up": ("total * of_it // of_all if", "-(-total * of_it // of_all) if"),
    "named refunds do not stand first": ("state.line.money - state.money for", "state.line.money for"),
    "excess of a line is another line's": (
        "min(part.above - to_shipping,",
        "min(part.above + max(0, sum(part.amounts.values()) - 100) - to_shipping,",
    ),
    "refunds are counted as they arrived": ("sorted(refunds, key=lambda one: one.place) if", "refunds if"),
    "half of a sum is points although money is left": (
        "in_money = min(total, money_of_all)",
        "in_money = min(total // 2, money_of_all)",
    ),
    "what floors left is forgotten at an edit": (
        "self.money_uncounted += in_money - sum",
        "self.money_uncounted += 0 * sum",
    ),
    "what the API took before an edit is lost": ("self.over = min(", "self.over = 0 * min("),
    "points are rounded up": (
        "named = int(self.line.points_paid * self.named_share)",
        "named = -(-self.line.points_paid * self.named_share // 1)",
    ),
}


@pytest.mark.parametrize("mistake", sorted(PLANTED))
def test_a_planted_mistake_is_seen(mistake: str) -> None:
    right, wrong = PLANTED[mistake]
    source = Path(returns.__file__).read_text()
    assert right in source
    planted = ModuleType("planted")
    sys.modules["planted"] = planted
    exec(compile(source.replace(right, wrong), "planted", "exec"), planted.__dict__)  # noqa: S102
    generator = random.Random(8)
    assert any(broken_properties(planted, generator) for _ in range(HISTORIES))
