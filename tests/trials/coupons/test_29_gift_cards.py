"""29: gift cards left out of a discount."""

from typing import Any

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import line, off, quote

pytestmark = pytest.mark.django_db
GOODS: dict[str, Any] = line("goods", 6_000, category="books")


@pytest.mark.parametrize("category", ["gift", "Gift", "GIFT "])
def test_a_gift_card_is_not_discounted_however_its_category_is_written(shop: Program, api: Api, category: str) -> None:
    publish(shop, "tenth", how="automatic", exclude_categories=["gift"], discount={"percent": "10%"})
    quoted = quote(api, GOODS, line("card", 5_000, category=category))
    assert {one["external_id"]: one["discount_minor"] for one in quoted["price"]["lines"]} == {"goods": 600, "card": 0}


def test_a_gift_card_does_not_count_for_the_minimum_and_the_reason_says_so(shop: Program, api: Api) -> None:
    hundred = {"GBP": "100.00"}
    publish(shop, "big", how="automatic", exclude_categories=["gift"], threshold=hundred, discount={"percent": "10%"})
    quoted = quote(api, GOODS, line("card", 5_000, category="gift"))
    assert off(quoted) == 0
    (told,) = quoted["price"]["coupons"]["refused"]
    assert told["reason"] == "below_threshold"
    assert told["text"] == "“Big” (big) needs goods that it is for at GBP 100.00: the basket is GBP 40.00 short."
