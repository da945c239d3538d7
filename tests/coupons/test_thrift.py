"""Which of the combinations that take off as much is used: the one that gives up least; what is said of others."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coupons import thrift
from coupons.explain import explain_refused
from coupons.rules import NODE_BUDGET, Basket, Candidate, Evaluation, RefusalReason, evaluate
from tests.coupons.baskets import NOW, SHOPPER, basket, best_and_least, candidate, random_case

DAY = timedelta(days=1)


def amount(code: str, pounds: str, **values: Any) -> Candidate:
    return candidate(code, {"amount": {"GBP": pounds}}, **values)


def ending(coupon: Candidate, days: int) -> Candidate:
    return replace(coupon, expires_at=NOW + days * DAY)


def evaluated(goods: Basket, *coupons: Candidate, **options: Any) -> Evaluation:
    return evaluate(goods, coupons, SHOPPER, at=NOW, **options)


def used(goods: Basket, *coupons: Candidate) -> list[str]:
    return sorted(applied.candidate.code for applied in evaluated(goods, *coupons).applied)


def said(goods: Basket, *coupons: Candidate) -> dict[str, str]:
    return {one.candidate.code: explain_refused(one) for one in evaluated(goods, *coupons).refused}


@pytest.mark.parametrize(
    ("coupons", "expected"),
    [
        # The amount, or the maximum, that gives up least.
        ([amount("gift50", "50.00"), ending(amount("grab", "5.00"), 7)], ["grab"]),
        ([amount("grab", "5.00"), ending(amount("gift50", "50.00"), 1)], ["grab"]),
        ([amount("a", "6.00"), candidate("b", {"percent": "100%", "at_most": {"GBP": "5.00"}})], ["b"]),
        # A percentage without maximum could take off any amount.
        ([candidate("a", {"percent": "100%"}), amount("b", "9000.00")], ["b"]),
        ([candidate("a", {"percent": "100%"}), candidate("b", {"percent": "100%"})], ["a"]),
        # What ends first, also if it is one of two.
        ([amount("a", "5.00"), ending(amount("b", "5.00"), 9)], ["b"]),
        ([ending(amount("a", "5.00"), 9), ending(amount("b", "5.00"), 8)], ["b"]),
        ([ending(amount("a", "5.00"), 9), ending(amount("b", "2.00"), 8), amount("c", "3.00")], ["b", "c"]),
        # Fewer coupons; the smaller priority; the smaller code.
        ([amount("a", "2.00"), amount("b", "3.00"), amount("c", "5.00")], ["c"]),
        ([amount("a", "5.00", priority=2), amount("b", "5.00", priority=1)], ["b"]),
        ([amount("b", "5.00"), amount("a", "5.00")], ["a"]),
        # One of a group, and one that stands alone, likewise.
        ([amount("a", "50.00", stack_group="g"), amount("b", "5.00", stack_group="g")], ["b"]),
        ([amount("a", "50.00", exclusive=True), amount("b", "2.00"), amount("c", "3.00")], ["b", "c"]),
        ([amount("a", "5.00", exclusive=True), amount("b", "2.00"), amount("c", "3.00")], ["a"]),
    ],
)
def test_of_combinations_that_take_off_as_much_the_one_that_gives_up_least_is_used(
    coupons: list[Candidate], expected: list[str]
) -> None:
    assert used(basket(500), *coupons) == expected
    assert used(basket(500), *reversed(coupons)) == expected


def test_what_takes_off_more_is_used_whatever_it_gives_up() -> None:
    assert used(basket(501), amount("gift50", "50.00"), amount("grab", "5.00")) == ["gift50"]


def test_free_shipping_gives_up_more_than_an_amount_unless_it_has_a_maximum() -> None:
    goods = basket(500, shipping=300)
    capped = candidate("b", {"free_shipping": True, "at_most": {"GBP": "3.00"}}, stack_group="g")
    free = candidate("a", {"free_shipping": True}, stack_group="g")
    assert used(goods, free, amount("z", "3.00", stack_group="g")) == ["z"]
    assert used(goods, free, capped) == ["b"]


def test_of_two_claims_of_one_coupon_the_one_that_gives_up_least_is_used() -> None:
    first = ending(amount("c", "50.00"), 1)
    second = replace(amount("c", "5.00", definition_id=first.definition_id), key="second")
    assert [one.candidate.key for one in evaluated(basket(500), first, second).applied] == ["second"]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**9), coupons=st.integers(0, 8), lines=st.integers(1, 4))
def test_it_is_the_least_of_all_sets_that_take_off_most(seed: int, coupons: int, lines: int) -> None:
    goods, offered = _with_ends(seed, *random_case(seed, coupons=coupons, lines=lines))
    found = evaluated(goods, *offered)
    best, least = best_and_least(goods, offered)
    assert sum(one.discount_minor + one.shipping_minor for one in found.applied) == best
    # With them counts the fraction of a coupon whose part comes to nothing: it is not used up.
    assert {one.code for one in found.combined} == {one.code for one in least}


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_least_of_all_sets_of_eleven(seed: int) -> None:
    goods, offered = _with_ends(seed, *random_case(seed, coupons=11, lines=3))
    assert {one.code for one in evaluated(goods, *offered).combined} == {
        one.code for one in best_and_least(goods, offered)[1]
    }


def _with_ends(seed: int, goods: Basket, offered: Sequence[Candidate]) -> tuple[Basket, list[Candidate]]:
    source = random.Random(seed)
    return goods, [ending(one, source.randint(1, 3)) if source.random() < 0.6 else one for one in offered]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9), nodes=st.integers(0, 3))
def test_cut_short_it_still_uses_no_coupon_without_which_as_much_comes_off(seed: int, nodes: int) -> None:
    goods, offered = random_case(seed, coupons=20)
    found = evaluated(goods, *offered, node_budget=nodes)
    combined = [one for one in offered if one.code in {used.code for used in found.combined}]
    total = sum(one.discount_minor + one.shipping_minor for one in found.applied)
    for left_out in combined:
        again = evaluated(goods, *(one for one in combined if one is not left_out))
        assert sum(one.discount_minor + one.shipping_minor for one in again.applied) < total


def test_many_equal_coupons_are_settled_without_trying_their_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    expand = thrift._Thrift.expand

    def count(run: thrift._Thrift, node: Any) -> Any:
        looked_at.append(node)
        return expand(run, node)

    monkeypatch.setattr(thrift._Thrift, "expand", count)
    coupons = [ending(amount(f"c{n:02}", "5.00"), 60 - n) for n in range(40)]
    assert used(basket(2_000), *coupons) == ["c36", "c37", "c38", "c39"]
    assert len(looked_at) < 100 < NODE_BUDGET


# --- no coupon is used up for nothing --------------------------------------------------------------------------


def test_what_comes_to_fractions_alone_is_credited_or_kept() -> None:
    """Of the line 7 pence are left: 13% and 9% of them are 0.91 and 0.63, together one penny."""
    line = amount("line", "9.93", skus=["a"])
    shares = [candidate("p13", {"percent": "13%"}), candidate("p9", {"percent": "9%"})]
    found = evaluated(basket(1_000), line, *shares)
    assert sum(one.discount_minor for one in found.applied) == 994
    assert all(one.discount_minor for one in found.applied)
    (kept,) = found.refused
    assert kept.reason is RefusalReason.NO_EFFECT
    assert {one.code for one in found.combined} == {"line", "p13", "p9"}
    again = evaluated(basket(1_000), *found.combined)
    assert again.applied == found.applied


def test_the_first_in_order_is_not_left_with_nothing_of_what_all_take_off_together() -> None:
    """Of the order 14 pence are left: 5% of them are 0.70, 90% are 12.60, together 13."""
    line = amount("line", "9.86", skus=["a"])
    found = evaluated(
        basket(1_000), line, candidate("a5", {"percent": "5%"}), candidate("b90", {"percent": "90%"}, priority=1)
    )
    assert [(one.candidate.code, one.discount_minor) for one in found.applied] == [
        ("line", 986), ("a5", 1), ("b90", 12),
    ]  # fmt: skip


# --- what is said of those that are left out -------------------------------------------------------------------


def test_equals_of_a_group_are_said_to_be_worth_the_same() -> None:
    nine = amount("nine", "9.00", stack_group="g")
    ten = candidate("ten", {"percent": "10%"}, stack_group="g")
    sentence = "“Test” (ten) is worth the same as nine here, and is kept for another order."
    assert said(basket(9_000), nine, ten) == {"ten": sentence}
    assert said(basket(9_010), nine, ten) == {"nine": "“Test” (nine) cannot be used beside ten, which is worth more."}


def test_equals_without_a_group_and_alone_are_said_to_be_worth_the_same() -> None:
    grab, gift = amount("grab", "5.00"), amount("gift50", "50.00")
    alone = amount("alone", "60.00", exclusive=True)
    assert said(basket(500), grab, gift, alone) == {
        code: f"“Test” ({code}) is worth the same as grab here, and is kept for another order."
        for code in ("gift50", "alone")
    }


def test_a_group_is_compared_beside_the_others_that_are_used() -> None:
    """By itself `big` takes off more; beside `line`, which both may use, it takes off less than `other`."""
    line = amount("line", "8.00", skus=["a"])
    big, other = (
        amount("big", "9.00", skus=["a"], stack_group="g"),
        amount("other", "7.00", skus=["b"], stack_group="g"),
    )
    found = evaluated(basket(1_000, 1_000), line, big, other)
    assert [one.candidate.code for one in found.applied] == ["line", "other"]
    assert [(one.candidate.code, one.reason) for one in found.refused] == [("big", RefusalReason.STACKS_WITH_BETTER)]


def test_what_finds_nothing_left_is_no_equal() -> None:
    found = evaluated(basket(1_000), amount("some", "5.00"), amount("whole", "10.00"))
    assert [(one.candidate.code, one.reason) for one in found.refused] == [("some", RefusalReason.NO_EFFECT)]
