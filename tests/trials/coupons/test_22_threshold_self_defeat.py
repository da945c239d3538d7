"""22: a coupon lowers the basket below its own minimum, or another's."""

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, line, off, quote

pytestmark = pytest.mark.django_db


def test_list_prices_count_for_the_minimum(shop: Program, api: Api) -> None:
    fifty = {"GBP": "50.00"}
    publish(shop, "ten", how="automatic", threshold=fifty, discount={"amount": {"GBP": "10.00"}})
    publish(shop, "five", how="automatic", discount={"amount": {"GBP": "5.00"}})
    publish(shop, "ship", how="automatic", threshold=fifty, discount={"free_shipping": True})
    quoted = quote(api, line(list_minor=5_000), shipping_minor=499)
    assert (applied(quoted), off(quoted)) == ({"ten", "five", "ship"}, 1_999)
