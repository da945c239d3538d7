"""Prices: every step hands on whole amounts that add up, none below zero, and says what it did to which line."""

from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coupons import rules as coupons
from coupons.definitions import CouponTerms
from points.definitions import WalletPolicy
from points.tender import Tender, tender
from storefront.pricing import Basket, Benefits, Line, Price, Stage, price

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
NOTHING = coupons.Evaluation((), (), exact=True, gap_minor=0, nodes=0)
GOLD = Benefits("gold", 500, has_free_shipping=True)


def coupon(code: str, discount: dict[str, Any], **terms: Any) -> coupons.Candidate:
    told = CouponTerms.model_validate({"name": code, "discount": discount, **terms}, context={"currency": "GBP"})
    return coupons.Candidate(code, hash(code), 1, code, told)


def evaluator(*candidates: coupons.Candidate) -> Any:
    return lambda basket: coupons.evaluate(basket, candidates, coupons.Shopper(), at=NOW)


def payer(step: int, worth: str, available: int, asked: int | None = None) -> Any:
    told = {"redemption": {"step": step, "worth": {"GBP": worth}}}
    policy = WalletPolicy.model_validate(told, context={"currency": "GBP"})
    return lambda payable: tender(policy, currency="GBP", payable_minor=payable, available=available, asked=asked)


def basket(*lines: Line, shipping: int = 0) -> Basket:
    return Basket("GBP", lines, shipping)


SOCKS = Line("a", 3, 3000, sku="SOCK", category="socks")
HAT = Line("b", 1, 2000, tax_minor=100, sku="HAT", category="hats")


def test_a_price_goes_through_its_steps_in_their_order() -> None:
    found = price(
        basket(SOCKS, HAT, shipping=499),
        benefits=Benefits("gold", 500),
        evaluate=evaluator(
            coupon("ship", {"free_shipping": True}),
            coupon("ten", {"amount": {"GBP": "10.00"}}),
            coupon("hats", {"percent": "10%"}, categories=["hats"]),
        ),
        tender=payer(100, "1.00", 730),
    )
    assert [(step.stage, step.code, step.line_minor, step.shipping_minor) for step in found.steps] == [
        (Stage.TIER_DISCOUNT, "gold", (-150, -100), 0),
        (Stage.LINE_COUPON, "hats", (0, -190), 0),
        (Stage.ORDER_COUPON, "ten", (-625, -375), 0),
        (Stage.SHIPPING_COUPON, "ship", (0, 0), -499),
        (Stage.TAX, "", (0, 100), 0),
        (Stage.POINTS, "", (-426, -274), 0),
    ]
    assert (found.amounts, found.discounts, found.in_points) == ((2225, 1435), (775, 665), (426, 274))
    assert found.points == (426, 274)
    assert (found.shipping_minor, found.amount_minor, found.money_minor) == (0, 3660, 2960)


def test_free_shipping_of_the_tier_leaves_nothing_to_a_shipping_coupon() -> None:
    ship = coupon("ship", {"free_shipping": True})
    found = price(basket(SOCKS, shipping=499), benefits=GOLD, evaluate=evaluator(ship), tender=None)
    assert [step.stage for step in found.steps] == [Stage.TIER_DISCOUNT, Stage.FREE_SHIPPING]
    assert [refused.candidate.code for refused in found.evaluation.refused] == ["ship"]


def test_coupons_read_list_prices_for_thresholds_and_what_the_tier_left_for_discounts() -> None:
    fifty = coupon("fifty", {"percent": "50%"}, threshold={"GBP": "30.00"})
    found = price(basket(SOCKS), benefits=Benefits("gold", 1000), evaluate=evaluator(fifty), tender=None)
    assert found.amounts == (1350,)


def test_points_pay_for_lines_and_their_tax_but_not_for_shipping() -> None:
    found = price(
        basket(HAT, shipping=499), benefits=Benefits(), evaluate=lambda _b: NOTHING, tender=payer(1, "0.01", 99_999)
    )
    assert (found.in_points, found.money_minor) == ((2100,), 499)


def test_a_basket_that_costs_nothing_uses_no_points() -> None:
    free = Line("a", 1, 0)
    found = price(basket(free), benefits=GOLD, evaluate=lambda _b: NOTHING, tender=payer(1, "0.01", 500))
    assert (found.amounts, found.points, found.steps) == ((0,), (0,), ())


amounts = st.integers(0, 20_000)
lines = st.lists(
    st.tuples(st.sampled_from(["x", "y", "z"]), amounts, st.integers(0, 500), st.integers(1, 9)), min_size=1, max_size=6
).map(lambda told: tuple(Line(str(n), units, minor, tax, sku) for n, (sku, minor, tax, units) in enumerate(told)))
discounts = st.one_of(
    st.integers(1, 10_000).map(lambda bps: {"percent": f"{bps // 100}.{bps % 100:02}%"}),
    st.integers(1, 9_999).map(lambda minor: {"amount": {"GBP": f"{minor // 100}.{minor % 100:02}"}}),
    st.just({"free_shipping": True}),
)
scopes: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"skus": ["x"]}, {"skus": ["y", "z"]}, {"threshold": {"GBP": "25.00"}}]
)
offers = st.lists(st.tuples(discounts, scopes), max_size=5).map(
    lambda told: [coupon(f"c{n}", discount, **scope) for n, (discount, scope) in enumerate(told)]
)
benefits = st.builds(Benefits, st.just("gold"), st.integers(0, 10_000), st.booleans())
payers = st.none() | st.builds(
    lambda step, worth, available, asked: payer(step, f"{worth // 100}.{worth % 100:02}", available, asked),
    st.integers(1, 500),
    st.integers(1, 999),
    st.integers(0, 50_000),
    st.none() | st.integers(0, 50_000),
)


@given(lines, amounts, benefits, offers, payers)
def test_every_step_adds_up_and_nothing_falls_below_zero(
    told: tuple[Line, ...], shipping: int, gives: Benefits, offered: list[coupons.Candidate], pays: Any
) -> None:
    found = price(basket(*told, shipping=shipping), benefits=gives, evaluate=evaluator(*offered), tender=pays)
    assert_sums(found)


def assert_sums(found: Price) -> None:
    stages = list(Stage)
    assert [step.stage for step in found.steps] == sorted((s.stage for s in found.steps), key=stages.index)
    for index, line in enumerate(found.basket.lines):
        left = list(accumulate((step.line_minor[index] for step in found.steps), initial=line.list_minor))
        assert min(left) >= 0
        assert left[-1] == found.amounts[index] - found.in_points[index]
        assert found.amounts[index] == line.list_minor - found.discounts[index] + line.tax_minor
        assert 0 <= found.in_points[index] <= found.amounts[index]
        assert (found.points[index] == 0) or found.in_points[index]
    paid = found.tender or Tender(0, 0)
    assert (sum(found.points), sum(found.in_points)) == (paid.points, paid.amount_minor)
    shipping = accumulate((step.shipping_minor for step in found.steps), initial=found.basket.shipping_minor)
    assert min(list(shipping)) >= 0
    taken = dict.fromkeys((step.code for step in found.steps), 0)
    for step in found.steps:
        taken[step.code] -= sum(step.line_minor) + step.shipping_minor
    for applied in found.evaluation.applied:
        assert taken[applied.candidate.code] == applied.discount_minor + applied.shipping_minor
    assert found.money_minor + found.in_points_minor == found.amount_minor == sum(found.amounts) + found.shipping_minor


@given(lines, benefits, st.data())
def test_the_order_of_the_lines_changes_nothing_but_ties(
    told: tuple[Line, ...], gives: Benefits, data: st.DataObject
) -> None:
    ten, pays = coupon("ten", {"amount": {"GBP": "10.00"}}), payer(1, "0.01", 4_321)
    shuffled = tuple(data.draw(st.permutations(told)))
    first, second = (
        price(basket(*each), benefits=gives, evaluate=evaluator(ten), tender=pays) for each in (told, shuffled)
    )
    assert (first.amount_minor, first.in_points_minor) == (second.amount_minor, second.in_points_minor)
    for one, two in ((first.amounts, second.amounts), (first.in_points, second.in_points)):
        by_key = dict(zip((line.key for line in shuffled), two, strict=True))
        # A tie moves one unit in each of the two splits that come before.
        assert all(abs(minor - by_key[line.key]) <= 2 for line, minor in zip(told, one, strict=True))
