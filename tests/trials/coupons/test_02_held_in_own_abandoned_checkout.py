"""02: a coupon that the shopper's own earlier checkout holds."""

from typing import Any

import pytest

from core.models import Program
from tests.api.client import Api
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, hold, quote

pytestmark = pytest.mark.django_db


def of(checkout: Any, name: str) -> Any:
    (found,) = (one for one in checkout["price"]["coupons"]["refused"] if one["code"] == name)
    return found


def test_a_code_tells_which_checkout_holds_it_until_when_and_can_be_had_after_its_release(
    shop: Program, api: Api
) -> None:
    publish(shop, "once", how="code", per_member=1)
    assert api.post("coupons/once/codes", {"code": "ONCE"}).status == 201
    held = hold(api, codes=["ONCE"])
    told = of(quote(api, codes=["ONCE"]), "ONCE")
    assert (told["reason"], told["details"]["checkout"]) == ("held_in_checkout", held["id"])
    assert held["id"] in told["text"]
    assert "13:15" in told["text"], "London's time"
    assert api.post(f"checkouts/{told['details']['checkout']}/release").status == 200
    assert applied(quote(api, codes=["ONCE"])) == {"once"}


def test_a_claimed_coupon_tells_it_too(shop: Program, api: Api) -> None:
    publish(shop, "once", per_member=1)
    assert api.post("members/ada/coupons", {"coupon": "once"}, key="k").status == 201
    held = hold(api)
    told = of(quote(api), "once")
    assert (told["reason"], told["details"]["checkout"]) == ("held_in_checkout", held["id"])
    assert told["claim"] == held["price"]["coupons"]["applied"][0]["claim"]
    assert api.post(f"checkouts/{held['id']}/release").status == 200
    assert applied(quote(api)) == {"once"}
