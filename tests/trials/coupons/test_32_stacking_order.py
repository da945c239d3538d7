"""32: a percentage and an amount together, typed in either order."""

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import off, quote

pytestmark = pytest.mark.django_db


def test_the_order_of_typing_decides_nothing(shop: Program, api: Api) -> None:
    publish(shop, "share", how="code", discount={"percent": "10%"})
    publish(shop, "amount", how="code", discount={"amount": {"GBP": "10.00"}})
    for coupon in ("share", "amount"):
        assert api.post(f"coupons/{coupon}/codes", {"code": coupon.upper()}).status == 201
    first, second = (quote(api, codes=codes) for codes in (["SHARE", "AMOUNT"], ["AMOUNT", "SHARE"]))
    assert first["price"] == second["price"]
    assert off(first) == 2_000
