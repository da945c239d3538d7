"""What coupons took off and why others did not, in sentences."""

from dataclasses import replace
from typing import Any

import pytest
from django.utils import translation

from coupons.explain import describe_discount, explain_applied, explain_refused
from coupons.rules import Basket, Candidate, RefusalReason, Refused, Shopper, evaluate
from tests.coupons.baskets import NOW, SHOPPER, basket, candidate, terms

TEN_OFF = {"amount": {"GBP": "10.00"}}


@pytest.fixture(autouse=True)
def _english() -> Any:
    with translation.override("en"):
        yield


def _refused(coupon: Candidate, goods: Basket, shopper: Shopper = SHOPPER) -> str:
    (refused,) = evaluate(goods, [coupon], shopper, at=NOW).refused
    return explain_refused(refused, "Europe/London")


def test_a_shopper_reads_how_much_is_missing() -> None:
    text = _refused(candidate("welcome", TEN_OFF, threshold={"GBP": "50.00"}), basket(3_800))
    assert text == "“Test” (welcome) needs goods for GBP 50.00: the basket is GBP 12.00 short."


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"starts_at": "2026-06-01T00:00:00+01:00"}, "is valid from 2026-06-01 00:00:00 BST."),
        ({"ends_at": "2026-05-01T00:00:00+01:00"}, "was valid until 2026-05-01 00:00:00 BST."),
        ({"tiers": ["gold", "diamond"]}, "is for members of these tiers: gold, diamond."),
        ({"markets": ["uk"]}, "is for these markets: uk."),
        ({"first_order": True}, "is for a member's first order."),
        ({"new_member_days": 7}, "is for new members, up to day 7 after joining."),
        ({"threshold": {"EUR": "1.00"}}, "is for orders in EUR, not in GBP."),
        ({"skus": ["z"]}, "is for none of the goods in the basket."),
    ],
)
def test_each_reason_is_a_sentence(values: dict[str, Any], text: str) -> None:
    assert text in _refused(candidate("c", TEN_OFF, **values), basket(5_000))


def test_what_was_better_is_named() -> None:
    small = candidate("small", {"amount": {"GBP": "5.00"}}, stack_group="g")
    large = candidate("large", TEN_OFF, stack_group="g")
    (refused,) = evaluate(basket(5_000), [small, large], SHOPPER, at=NOW).refused
    assert explain_refused(refused) == "“Test” (small) cannot be used beside large, which is worth more."


def test_every_reason_has_its_sentence() -> None:
    details = {
        "valid_from": NOW.isoformat(), "expires_at": NOW.isoformat(), "markets": [], "tiers": [], "currency": "GBP",
        "currencies": [], "new_member_days": 1, "threshold_minor": 1, "missing_minor": 1, "with": ["other"],
        "checkout": "c1", "until": NOW.isoformat(),
    }  # fmt: skip
    for reason in RefusalReason:
        assert explain_refused(Refused(candidate("c", TEN_OFF), reason, details)).startswith("“Test” (c) ")


def test_what_came_off_is_told_with_its_discount() -> None:
    goods = basket(4_000, 1_000, shipping=399)
    coupons = [
        candidate("line", {"percent": "12.5%"}, skus=["b"]),
        candidate("order", {"percent": "20%", "at_most": {"GBP": "5.00"}}),
        candidate("post", {"free_shipping": True}),
    ]
    found = evaluate(goods, coupons, SHOPPER, at=NOW)
    assert [explain_applied(applied, "GBP") for applied in found.applied] == [
        "“Test” (line) takes GBP 1.25 off the lines it is for (12.5% off).",
        "“Test” (order) takes GBP 5.00 off the order (20% off, at most GBP 5.00).",
        "“Test” (post) takes GBP 3.99 off the shipping fee (free shipping).",
    ]
    other = replace(coupons[0], terms=terms({"amount": {"GBP": "10.00", "EUR": "12.00"}}))
    assert describe_discount(other.terms, "EUR") == "EUR 12.00 off"
    assert describe_discount(other.terms, "USD") == "EUR 12.00, GBP 10.00 off"
