"""An earn rule finds the goods that it names in whatever case they are written, as a coupon does."""

from typing import Any

import pytest

from core.names import fold
from points.definitions import EarnRuleDefinition
from points.rules import Context, Exclusion, Line, Rule, evaluate_order, excluded_line


def rule(**told: Any) -> EarnRuleDefinition:
    plain = {"wallet": "points", "name": "Hats", "trigger": "order_line", "formula": {"points": 1, "per": "1.00"}}
    return EarnRuleDefinition.model_validate(plain | told, context={"currency": "GBP"})


@pytest.mark.parametrize("named", ["hats", "Hats", " HATS ", "haTs"])
@pytest.mark.parametrize("sold", ["hats", "Hats", "HATS", "hats "])
def test_skus_and_categories_are_compared_without_case(named: str, sold: str) -> None:
    by_category, by_sku = rule(categories=[named]), rule(skus=[named])
    assert excluded_line(by_category, Line(1, 100, "x", sold)) is None
    assert excluded_line(by_sku, Line(1, 100, sold, "x")) is None
    (accrual,) = evaluate_order([Line(1, 1_000, "x", sold)], Rule(1, 1, by_category), Context())
    assert accrual.points == 10


def test_other_goods_stay_out() -> None:
    assert excluded_line(rule(categories=["Hats"]), Line(1, 100, "x", "socks")) is Exclusion.CATEGORY
    assert excluded_line(rule(skus=["HAT"]), Line(1, 100, "hat-2", "")) is Exclusion.SKU
    assert excluded_line(rule(), Line(1, 100, "x", "socks")) is None


def test_a_letter_with_two_small_forms_is_one() -> None:
    assert fold("Straße") == fold("STRASSE")
