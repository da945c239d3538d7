"""21: discounts above the total, in any order of entry."""

from itertools import permutations

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import line, off, quote

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("coupons", "list_minor", "taken"),
    [
        ({"TENTH": {"percent": "10%"}, "FIFTY": {"amount": {"GBP": "50.00"}}}, 5_000, 5_000),
        ({"TENTH": {"percent": "10%"}, "FIFTY": {"amount": {"GBP": "50.00"}}}, 10_000, 6_000),
        ({"EIGHTY": {"amount": {"GBP": "80.00"}}, "FIFTY": {"amount": {"GBP": "50.00"}}}, 5_000, 5_000),
        ({"EIGHTY": {"amount": {"GBP": "80.00"}}, "FIFTY": {"amount": {"GBP": "50.00"}}}, 10_000, 10_000),
    ],
)
def test_never_below_zero_and_the_order_of_entry_has_no_effect(
    shop: Program, api: Api, coupons: dict[str, dict[str, object]], list_minor: int, taken: int
) -> None:
    for code, discount in coupons.items():
        publish(shop, code.lower(), how="code", discount=discount)
        assert api.post(f"coupons/{code.lower()}/codes", {"code": code}).status == 201
    prices = [quote(api, line(list_minor=list_minor), codes=codes) for codes in permutations(coupons)]
    assert [(off(one), one["price"]["to_pay_minor"]) for one in prices] == [(taken, list_minor - taken)] * 2
