"""09: an order paid in money and points, refunded as an amount only."""

from pathlib import Path
from typing import Any

import pytest

from core.models import Program
from tests.api.client import Api, Reply
from tests.api.conftest import NOW, Clock
from tests.coupons.giving import DAY, publish
from tests.storefront.checkout_worlds import balance, give_coupon, give_points, make_shop
from tests.trials.coupons.visits import hold, line, pay

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    """Ada has 9,000 points, which pay 90.00, and a coupon of 5.00 that comes back with its order."""
    shop = make_shop(tmp_path, "ada", coupons=[])
    publish(shop, "five", how="issued", discount={"amount": {"GBP": "5.00"}}, on_refund="restore")
    give_coupon(shop, "five", "ada")
    give_points(shop, 9_000, "ada")
    return shop


@pytest.fixture(params=[False, True], ids=["bare", "coupon"])
def with_coupon(request: pytest.FixtureRequest, shop: Program, api: Api) -> bool:
    """An order over 100.00: 10.00 in money, the rest in points; with or without the coupon."""
    given: bool = request.param
    basket = hold(
        api, line("a", 10_500 if given else 10_000), redeem={"wallet": "points", "points": 9_000},
        **({} if given else {"without": ["five"]}),
    )  # fmt: skip
    assert basket["price"]["to_pay_minor"] == 1_000
    pay(api, basket)
    return given


def refund(api: Api, minor: int) -> Reply:
    told: dict[str, Any] = {"external_id": "r", "member": "ada", "order": "o1", "currency": "GBP"}
    return api.post("refunds", told | {"refunded_at": NOW.isoformat(), "amount_minor": minor})


def given_back(answer: Reply) -> tuple[int, int]:
    assert answer.status == 201, answer.text
    told = answer.json.get("refund") or answer.json["order"]["refunds"][-1]
    return told["money_minor"], told["points"]


def coupon(api: Api) -> str:
    (one,) = api.get("members/ada/coupons").json["results"]
    state: str = one["state"]
    return state


def test_all_of_it_gives_the_money_first_and_then_the_points(shop: Program, api: Api, with_coupon: bool) -> None:
    assert coupon(api) == ("used" if with_coupon else "open")
    assert balance(shop, "ada").lifetime_earned > 0
    assert given_back(refund(api, 10_000)) == (1_000, 9_000)
    assert (balance(shop, "ada").available, balance(shop, "ada").pending) == (9_000, 0)
    assert coupon(api) == "open"


@pytest.mark.usefixtures("with_coupon")
def test_the_money_first_and_a_cancellation_gives_the_points(shop: Program, api: Api, clock: Clock) -> None:
    assert given_back(refund(api, 1_000)) == (1_000, 0)
    clock(NOW + DAY)
    assert (balance(shop, "ada").available, balance(shop, "ada").pending) == (0, 0)
    assert given_back(api.post("orders/o1/cancel", {})) == (0, 9_000)
    assert (balance(shop, "ada").available, balance(shop, "ada").pending) == (9_000, 0)
