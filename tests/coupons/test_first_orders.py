"""Coupons for the first order: one hold at a time, and what turns out to be no first order is flagged once."""

from datetime import timedelta
from typing import Any

import pytest

from core.models import OutboxEvent, Program
from coupons.models import Redemption
from coupons.published import list_offers
from coupons.services import first_orders, redemptions
from membership.first_orders import find_order_before, has_ordered
from membership.models import Order
from tests.coupons.giving import BASKET, DAY, HELD_UNTIL, NOW, id_of, make_shop, publish, without_claim, written

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None) -> Program:
    shop = make_shop("shop", "ada", "ben")
    publish(shop, "hello", how="automatic", first_order=True)
    publish(shop, "again", how="automatic")
    return shop


def hold(shop: Program, reference: str, *codes: str, at: Any = NOW, member: str = "ada") -> None:
    redemptions.hold(
        program=shop, member_id=id_of(shop, member), reference=reference, currency="GBP", basket=BASKET, at=at,
        applied=[without_claim(shop, code) for code in codes], held_until=HELD_UNTIL,
    )  # fmt: skip


def paid(shop: Program, name: str, days: int, returned: int | None = None) -> Order:
    return Order.objects.create(
        program=shop, member_id=id_of(shop), external_id=name, paid_at=NOW + days * DAY, local_date=NOW.date(),
        currency="GBP", amount_minor=1, program_amount_minor=1, content_digest=b"", recorded_at=NOW,
        returned_at=None if returned is None else NOW + returned * DAY,
    )  # fmt: skip


def test_one_checkout_at_a_time_holds_coupons_for_the_first_order(shop: Program) -> None:
    publish(shop, "ship", how="automatic", first_order=True, discount={"free_shipping": True})
    hold(shop, "c1", "hello", "ship")
    before = written()
    with pytest.raises(redemptions.CouponUnavailable):
        hold(shop, "c2", "hello")
    assert written() == before
    hold(shop, "c2", "again")
    hold(shop, "c3", "hello", member="ben")
    assert Redemption.objects.count() == 4
    assert first_orders.find_first_order_hold(id_of(shop), at=HELD_UNTIL) is None, "it has lapsed"
    hold(shop, "c4", "hello", at=HELD_UNTIL)


def test_an_order_that_came_back_whole_counts_for_nothing_from_then_on(shop: Program) -> None:
    first = paid(shop, "a", 0, returned=2)
    second, third = paid(shop, "b", 1), paid(shop, "c", 3)
    assert [has_ordered(member_id=id_of(shop), at=NOW + day * DAY) for day in (1, 3)] == [True, True]
    assert [find_order_before(order) for order in (first, second, third)] == [None, first, second]
    second.delete()
    assert find_order_before(third) is None
    third.delete()
    assert [has_ordered(member_id=id_of(shop), at=NOW + day * DAY) for day in (1, 2)] == [True, False]


def test_of_two_paid_at_one_instant_the_smaller_id_is_the_first(shop: Program) -> None:
    later, first = paid(shop, "b", 0), paid(shop, "a", 0)
    assert (find_order_before(later), find_order_before(first)) == (first, None)


def test_what_was_used_by_another_order_is_flagged_once(shop: Program) -> None:
    hold(shop, "c1", "hello", "again")
    order = paid(shop, "b", 1)
    redemptions.commit(program=shop, member_id=id_of(shop), reference="c1", order_id=order.pk, at=NOW)
    told: dict[str, Any] = {"program": shop, "member_ids": [id_of(shop)], "at": NOW}
    assert first_orders.flag_used_first_orders(**told) == 0
    first = paid(shop, "a", 0)
    assert [first_orders.flag_used_first_orders(**told) for _ in range(2)] == [1, 0]
    flags = dict(Redemption.objects.values_list("claim__definition__code", "flag"))
    assert flags == {"hello": "first_order_used", "again": ""}
    event = OutboxEvent.objects.get(topic="coupons.first_order_used")
    assert event.payload == {"redemption": Redemption.objects.get(flag="first_order_used").pk, "first_order": first.pk}


def test_a_program_without_such_coupons_asks_nothing(shop: Program) -> None:
    assert list_offers(shop).has_first_order
    plain = make_shop("plain")
    publish(plain, "again", how="automatic")
    assert not list_offers(plain).has_first_order


def test_a_hold_that_lapsed_long_ago_is_none(shop: Program) -> None:
    hold(shop, "c1", "hello")
    assert first_orders.find_first_order_hold(id_of(shop), at=HELD_UNTIL - timedelta(microseconds=1)) is not None
