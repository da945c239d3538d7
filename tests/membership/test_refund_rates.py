"""Refunds count against spend at the rates of their orders."""

from dataclasses import replace

import pytest

from core.models import Program
from membership.fact_inputs import BadFact, OrderInput
from membership.models import MemberDay, Order, Refund, RefundLine
from membership.services.facts import record_facts
from tests.membership.test_facts_refunds import HOUR, NOW, ORDER, assert_reconciled, back, refund, returned_at, tell


@pytest.fixture
def order(program: Program, ada: int) -> Order:
    record_facts(program=program, orders=[ORDER], at=NOW)
    return Order.objects.get()


def in_dollars(name: str = "usd") -> OrderInput:
    """30.00 dollars, 21.01 pounds."""
    return replace(ORDER, external_id=name, currency="USD", program_amount_minor=2101)


@pytest.mark.parametrize("told", [None, 5])
def test_a_refund_counts_at_the_rate_of_its_order_whatever_is_told(
    program: Program, ada: int, told: int | None
) -> None:
    first = refund("r1", back("a", 1, 300), order="usd", program_amount_minor=told)
    rest = refund("r2", order="usd", amount_minor=2700, hours=2)
    tell(program, *(replace(one, currency="USD") for one in (first, rest)), orders=[in_dollars()])
    amounts = Refund.objects.order_by("external_id").values_list("program_amount_minor", "counted_minor")
    assert list(amounts) == [(told or 210, 210), (1891, 1891)]  # 2101 x 300 / 3000 is 210.1
    assert (MemberDay.objects.get().refunds_minor, returned_at("usd")) == (2101, NOW + 2 * HOUR)
    assert_reconciled(program)


def test_a_late_refund_moves_what_later_ones_count_and_since_when_the_order_is_back(program: Program, ada: int) -> None:
    late, early = (
        replace(refund(name, amount_minor=minor, order="usd", hours=hours), currency="USD")
        for name, minor, hours in (("late", 2999, 48), ("early", 1, 1))
    )
    tell(program, late, orders=[in_dollars()])
    assert (MemberDay.objects.get(day="2026-06-17").refunds_minor, returned_at("usd")) == (2100, None)
    recorded = tell(program, early)
    assert recorded.first_fact_at == {ada: NOW + HOUR}
    assert dict(Refund.objects.values_list("external_id", "counted_minor")) == {"early": 0, "late": 2101}
    days = MemberDay.objects.order_by("day").values_list("refunds_minor", "orders_returned")
    assert (list(days), returned_at("usd")) == ([(0, 0), (2101, 1)], NOW + 48 * HOUR)
    tell(program, replace(refund("all", back("a", 3, 900), back("b", 1, 2100), order="usd", hours=24), currency="USD"))
    days = MemberDay.objects.order_by("day").values_list("refunds_minor", "orders_returned")
    assert returned_at("usd") == NOW + 24 * HOUR
    assert list(days) == [(0, 0), (2101, 1), (2101, 0)]  # what is above what was paid counts against spend
    assert_reconciled(program)


def test_each_line_counts_at_the_rate_of_its_own_order(program: Program, order: Order) -> None:
    pounds, dollars = (replace(ORDER, external_id=name, currency="USD", program_amount_minor=minor) for name, minor in (
        ("half", 1500), ("usd", 3000)
    ))  # fmt: skip
    record_facts(program=program, orders=[pounds, dollars], at=NOW)
    told = refund("r1", back("a", 1, 300, "1", "half"), back("a", 1, 300, "2", "usd"), order="")
    tell(program, replace(told, currency="USD"))
    assert list(RefundLine.objects.order_by("external_id").values_list("counted_minor", flat=True)) == [150, 300]
    assert MemberDay.objects.get().refunds_minor == 450


def test_what_no_order_names_needs_its_amount_in_the_programs_currency(program: Program, order: Order) -> None:
    told = replace(refund("r1", amount_minor=300, order=""), currency="USD")
    with pytest.raises(BadFact) as refusal:
        tell(program, told)
    assert (refusal.value.code, refusal.value.field) == ("wrong_currency", "currency")
    tell(program, replace(told, program_amount_minor=250))
    assert MemberDay.objects.get().refunds_minor == 250
