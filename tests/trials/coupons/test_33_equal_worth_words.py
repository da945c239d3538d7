"""33: what is said of a coupon of a group that is worth as much as the one that is used."""

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import line, quote, refused

pytestmark = pytest.mark.django_db


def test_equals_are_said_to_be_worth_the_same(shop: Program, api: Api) -> None:
    publish(shop, "share", how="automatic", discount={"percent": "10%"}, stack_group="one")
    publish(shop, "nine", how="automatic", discount={"amount": {"GBP": "9.00"}}, stack_group="one")
    equal, more = quote(api, line(list_minor=9_000)), quote(api, line(list_minor=9_010))
    assert refused(equal) == {"share": "worth_the_same"}
    assert "is worth the same as nine" in equal["price"]["coupons"]["refused"][0]["text"]
    assert refused(more) == {"nine": "stacks_with_better"}
    assert "share, which is worth more" in more["price"]["coupons"]["refused"][0]["text"]
