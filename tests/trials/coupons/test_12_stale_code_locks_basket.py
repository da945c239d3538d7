"""12: a code in the basket that became invalid, while the storefront quotes anew at each change of quantity."""

from datetime import timedelta

import pytest

from core import versions
from core.models import Program
from coupons.models import CouponDefinition
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, line, quote, refused

pytestmark = pytest.mark.django_db
QUOTES = 25


@pytest.fixture
def shop(shop: Program, api: Api) -> Program:
    for coupon, code in (("spring", "SPRING"), ("summer", "SUMMER")):
        publish(shop, coupon, how="code")
        assert api.post(f"coupons/{coupon}/codes", {"code": code}).status == 201
    return shop


def test_a_wrong_code_beside_a_right_one_never_locks_the_basket(shop: Program, api: Api) -> None:
    for units in range(1, QUOTES):
        quoted = quote(api, line(units=units, list_minor=1000 * units), codes=["SPRING", "SPRNG"])
        assert (applied(quoted), refused(quoted)) == ({"spring"}, {"SPRNG": "unknown"})
    assert refused(quote(api, codes=["ANOTHER"])) == {"ANOTHER": "unknown"}, "that was one try"


def test_a_code_whose_coupon_was_ended_never_locks_the_basket(shop: Program, api: Api, clock: Clock) -> None:
    assert applied(quote(api, codes=["SPRING", "SUMMER"])) == {"spring", "summer"}
    versions.end(CouponDefinition.objects.get(code="summer"), at=NOW + timedelta(seconds=1))
    clock(NOW + timedelta(seconds=2))
    for _ in range(QUOTES):
        quoted = quote(api, codes=["SPRING", "SUMMER"])
        assert (applied(quoted), refused(quoted)) == ({"spring"}, {"SUMMER": "unknown"})
