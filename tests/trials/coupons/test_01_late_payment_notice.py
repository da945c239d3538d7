"""01: a payment made in time, told after the hold has ended."""

from datetime import timedelta
from pathlib import Path

import pytest

from core.models import Program
from storefront.services.checkouts import holding
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.storefront.checkout_worlds import balance, give_coupon, give_points, make_shop
from tests.trials.coupons.visits import hold, line, order_of

pytestmark = pytest.mark.django_db

PAID_AT = (NOW + timedelta(minutes=14)).isoformat()
TOLD_AT = NOW + timedelta(minutes=15, seconds=60)


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    """Ada has 1,000 points, which pay 10.00, and a coupon of 50.00 for everything."""
    shop = make_shop(tmp_path, "ada", coupons=[])
    publish(shop, "fifty", how="issued", discount={"amount": {"GBP": "50.00"}}, at=NOW - timedelta(days=30))
    give_points(shop, 1_000, "ada")
    give_coupon(shop, "fifty", "ada")
    return shop


@pytest.mark.parametrize("is_swept", [False, True])
def test_the_order_pays_the_checkout(shop: Program, api: Api, clock: Clock, is_swept: bool) -> None:
    held = hold(api, line(list_minor=10_000), redeem={"wallet": "points", "points": 1_000})
    assert held["price"]["to_pay_minor"] == 4_000
    clock(TOLD_AT)
    if is_swept:
        assert holding.end_lapsed(at=TOLD_AT) == 1
    order = order_of(held, paid_at=PAID_AT)
    answer = api.post("orders", order)
    assert (answer.status, answer.json["shortfall"]) == (201, None), answer.text
    (paid,) = answer.json["order"]["lines"]
    assert (paid["amount_minor"], paid["discount_minor"], paid["paid_in_points_minor"]) == (5_000, 5_000, 1_000)

    without = {name: value for name, value in order.items() if name != "checkout"}
    assert_problem(api.post("orders", without), 409, "fact_conflict")
    holding.end_lapsed(at=TOLD_AT + timedelta(days=1))
    assert (balance(shop, "ada").held, balance(shop, "ada").lifetime_redeemed) == (0, 1_000)
    (coupon,) = api.get("members/ada/coupons").json["results"]
    assert (coupon["coupon"], coupon["state"]) == ("fifty", "used")
