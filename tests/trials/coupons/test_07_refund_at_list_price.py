"""07: a discounted order refunded at its list price."""

from pathlib import Path
from typing import Any

import pytest

from core.models import Program
from tests.api.client import Api
from tests.api.conftest import NOW
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.storefront.checkout_worlds import give_coupon, give_points, make_shop
from tests.trials.coupons.visits import hold, line, pay

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    """Ada has a coupon of 50.00 and 5,000 points, which pay 50.00."""
    shop = make_shop(tmp_path, "ada", coupons=[])
    publish(shop, "fifty", how="issued", discount={"amount": {"GBP": "50.00"}})
    give_coupon(shop, "fifty", "ada")
    give_points(shop, 5_000, "ada")
    return shop


def refund(name: str, order_line: str, minor: int) -> dict[str, Any]:
    returned = {"external_id": "1", "order_line": order_line, "units": 1, "amount_minor": minor}
    told = {"external_id": name, "member": "ada", "order": "o1", "currency": "GBP", "refunded_at": NOW.isoformat()}
    return told | {"amount_minor": minor, "lines": [returned]}


def test_two_lines_give_back_what_was_paid_for_each_and_not_their_list_price(shop: Program, api: Api) -> None:
    pay(api, hold(api, line("a"), line("b")))
    for name in ("a", "b"):
        assert_problem(api.post("refunds", refund(name, name, 10_000)), 422, "more_than_paid", "/lines/0/amount_minor")
        answer = api.post("refunds", refund(name, name, 7_500))
        assert (answer.status, answer.json["refund"]["money_minor"]) == (201, 7_500), answer.text
        assert_problem(api.post("refunds", refund(f"{name}2", name, 1)), 422, "too_many_units", "/lines/0/units")


def test_of_a_line_paid_in_points_no_money_comes_back(shop: Program, api: Api) -> None:
    held = hold(api, line("a"), redeem={"wallet": "points", "points": 5_000})
    assert held["price"]["to_pay_minor"] == 0
    pay(api, held)
    for minor in (99_999, 10_000, 5_001):
        assert_problem(api.post("refunds", refund("r", "a", minor)), 422, "more_than_paid", "/lines/0/amount_minor")
    answer = api.post("refunds", refund("r", "a", 5_000)).json["refund"]
    assert (answer["money_minor"], answer["points"]) == (0, 5_000)
