"""17: once per customer, evaded by a second account that has the same e-mail address, card and device."""

import pytest

from core.models import Program
from coupons.models import Claim
from tests.api.client import Api
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, hold, pay, quote, refused, try_to_hold

pytestmark = pytest.mark.django_db
SEEN = {"email": "a.da+shop@example.com", "payment": "card-4242", "device": "d-1"}


@pytest.fixture
def shop(shop: Program, api: Api) -> Program:
    for member in ("ada", "ben"):
        assert api.post(f"members/{member}/fingerprints", SEEN).status == 204
    return shop


def test_the_second_account_is_refused_what_a_person_has_once(shop: Program, api: Api) -> None:
    publish(shop, "once", how="claimed", per_member=1, once_per_person=True)
    assert api.post("members/ada/coupons", {"coupon": "once"}, key="a").status == 201
    assert_problem(api.post("members/ben/coupons", {"coupon": "once"}, key="b"), 422, "once_per_person")
    assert Claim.objects.count() == 1
    (offer,) = api.get("members/ben/coupons/offers").json["results"]
    assert (offer["state"], offer["reason"]) == ("unavailable", "once_per_person")


def test_the_second_account_is_refused_a_first_order_coupon(shop: Program, api: Api) -> None:
    publish(shop, "welcome", how="code", per_member=1, first_order=True, once_per_person=True)
    assert api.post("coupons/welcome/codes", {"code": "WELCOME"}).status == 201
    early = quote(api, member="ben", codes=["WELCOME"])
    assert applied(early) == {"welcome"}
    pay(api, hold(api, codes=["WELCOME"]))
    assert try_to_hold(api, early).code == "quote_changed"
    late = quote(api, member="ben", codes=["WELCOME"])
    assert (applied(late), refused(late)) == (set(), {"WELCOME": "once_per_person"})
    assert late["price"]["coupons"]["refused"][0]["text"] == (
        "This code is for one use per person: an account with the same e-mail address, card or device has had it."
    )
    told = api.post("members/ben/coupons/check", {"code": "WELCOME"}).json
    assert (told["state"], told["reason"]) == ("unavailable", "once_per_person")


def test_a_coupon_that_did_not_choose_it_is_had_by_both(shop: Program, api: Api) -> None:
    publish(shop, "free", how="claimed", per_member=1)
    for member in ("ada", "ben"):
        assert api.post(f"members/{member}/coupons", {"coupon": "free"}, key=member).status == 201
