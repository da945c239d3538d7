"""11: which coupon is used up when several would do, and declining one."""

from datetime import timedelta

import pytest

from core.models import Program
from tests.api.client import Api
from tests.api.conftest import NOW
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, hold, line, off, pay, quote, refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(shop: Program, api: Api) -> Program:
    publish(shop, "gift50", how="issued", discount={"amount": {"GBP": "50.00"}})
    publish(shop, "grab", how="issued", valid_days=7)
    assert api.post("members/ada/coupons/issue", {"coupon": "gift50", "source": "s"}).status == 201
    return shop


def give_grab(api: Api) -> None:
    assert api.post("members/ada/coupons/issue", {"coupon": "grab", "source": "s"}).status == 201


def test_the_one_that_gives_up_least_is_used(shop: Program, api: Api) -> None:
    give_grab(api)
    held = hold(api, line(list_minor=500))
    assert (applied(held), off(held), refused(held)) == ({"grab"}, 500, {"gift50": "worth_the_same"})
    pay(api, held)
    states = {one["coupon"]: one["state"] for one in api.get("members/ada/coupons").json["results"]}
    assert states == {"gift50": "open", "grab": "used"}


def test_of_equals_the_one_that_ends_first_is_used(shop: Program, api: Api) -> None:
    publish(shop, "soon", how="issued", ends_at=(NOW + timedelta(days=3)).isoformat())
    give_grab(api)
    assert api.post("members/ada/coupons/issue", {"coupon": "soon", "source": "s"}).status == 201
    assert applied(quote(api, line(list_minor=500))) == {"soon"}


def test_the_shopper_leaves_a_coupon_out(shop: Program, api: Api) -> None:
    assert applied(quote(api, line(list_minor=300))) == {"gift50"}
    kept = hold(api, line(list_minor=300), without=["gift50"])
    assert (applied(kept), off(kept), refused(kept)) == (set(), 0, {"gift50": "not_chosen"})
    assert pay(api, kept)["order"]["amount_minor"] == 300
    assert off(quote(api, line(list_minor=300), only=[])) == 0
