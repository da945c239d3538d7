"""04: a first-order coupon is checked at the hold, and another order is paid before it."""

from datetime import timedelta

import pytest

from core.models import Event, Program
from core.services import outbox
from coupons.models import Redemption
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, give_back, hold, off, order, pay, quote, refused, try_to_hold

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def shop(shop: Program) -> Program:
    publish(shop, "welcome", how="automatic", first_order=True, discount={"amount": {"GBP": "10.00"}})
    return shop


def flagged() -> list[tuple[str, str]]:
    """Drain the outbox; return the events that a coupon was used by an order that was not the first."""
    outbox.drain(at=NOW)
    events = Event.objects.filter(type="coupon.first_order_used").order_by("number")
    return [(event.data["order"], event.data["first_order"]) for event in events]


def test_what_was_paid_is_recorded_as_held_flagged_and_told(shop: Program, api: Api, clock: Clock) -> None:
    held = hold(api)
    order(api, "b", paid_at=(NOW + MINUTE).isoformat())
    clock(NOW + 2 * MINUTE)
    paid = pay(api, held, "a", paid_at=(NOW + 2 * MINUTE).isoformat())
    assert (paid["order"]["amount_minor"], off(held)) == (9_000, 1_000)
    assert Redemption.objects.values_list("state", "flag").get() == ("committed", "first_order_used")
    assert flagged() == [("a", "b")]
    assert flagged() == [("a", "b")], "once"


def test_a_member_has_one_open_hold_with_a_first_order_coupon(shop: Program, api: Api) -> None:
    first, second = quote(api), quote(api)
    assert applied(first) == applied(second) == {"welcome"}
    assert try_to_hold(api, first).status == 200
    late = try_to_hold(api, second)
    assert (late.status, late.code) == (409, "quote_changed")
    third = quote(api)
    assert (applied(third), refused(third)) == (set(), {"welcome": "first_order_held"})
    (told,) = third["price"]["coupons"]["refused"]
    assert f"checkout {first['id']} holds a coupon for it until 2026-06-01 13:15" in told["text"]
    assert api.post(f"checkouts/{first['id']}/release").status == 200
    assert applied(quote(api)) == {"welcome"}


def test_an_order_that_turns_out_to_be_the_second_is_flagged_when_the_first_is_told(shop: Program, api: Api) -> None:
    pay(api, hold(api), "a")
    assert flagged() == []
    order(api, "later", paid_at=(NOW + MINUTE).isoformat())
    assert flagged() == []
    order(api, "earlier", paid_at=(NOW - MINUTE).isoformat())
    assert flagged() == [("a", "earlier")]
    order(api, "earliest", paid_at=(NOW - 2 * MINUTE).isoformat())
    assert flagged() == [("a", "earlier")], "it was told"


def test_a_wholly_returned_order_was_no_first_order(shop: Program, api: Api, clock: Clock) -> None:
    kept = hold(api)
    pay(api, kept, "a")
    clock(NOW + MINUTE)
    assert applied(quote(api)) == set()
    give_back(api, "r1", kept, ("a", 1), order="a")
    again = hold(api)
    assert applied(again) == {"welcome"}
    clock(NOW + 2 * MINUTE)
    pay(api, again, "b", paid_at=(NOW + 2 * MINUTE).isoformat())
    assert flagged() == []


def test_after_a_return_the_first_order_is_the_first_one_paid_after_it(shop: Program, api: Api, clock: Clock) -> None:
    kept = hold(api)
    pay(api, kept, "a")
    order(api, "b", paid_at=(NOW + MINUTE).isoformat())
    clock(NOW + 2 * MINUTE)
    give_back(api, "r1", kept, ("a", 1), order="a")
    assert applied(quote(api)) == set(), "b was paid before the return, and stands"
    assert refused(quote(api)) == {"welcome": "not_first_order"}
