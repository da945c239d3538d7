"""18: a limit under twenty threads."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from core.models import Program, Scope
from core.services import api_keys
from coupons.models import Claim, CounterShard, CouponCode
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW
from tests.coupons.giving import enroll, publish
from tests.trials.coupons.visits import give_back, hold, order_of, quote, try_to_hold

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 20


@pytest.fixture
def api(shop: Program) -> Api:
    enroll(shop, *(f"m{n}" for n in range(THREADS)))
    key = api_keys.issue(program=shop, scopes=Scope.values, name="trial", actor="trial", at=NOW, rate_per_minute=10**6)
    return Api(key.text)


def together(call: Callable[[int], Any]) -> list[Any]:
    return in_parallel([partial(call, n) for n in range(THREADS)])


@pytest.mark.parametrize("limit", [1, 7])
def test_holds_of_an_automatic_coupon_are_exactly_the_limit(shop: Program, api: Api, limit: int) -> None:
    publish(shop, "few", how="automatic", limit=limit)
    checkouts = [quote(api, member=f"m{n}") for n in range(THREADS)]
    said = Counter(reply.status for reply in together(lambda n: try_to_hold(api, checkouts[n])))
    assert said == {200: limit, 409: THREADS - limit}
    assert CounterShard.objects.get().used == limit


def test_one_member_claims_as_many_as_one_may(shop: Program, api: Api) -> None:
    publish(shop, "once", how="claimed", per_member=1)
    said = Counter(
        reply.status for reply in together(lambda n: api.post("members/ada/coupons", {"coupon": "once"}, key=f"k{n}"))
    )
    assert said == {201: 1, 422: THREADS - 1}
    assert Claim.objects.count() == 1


def test_a_single_code_is_one_members(shop: Program, api: Api) -> None:
    publish(shop, "lucky", how="code")
    assert api.post("coupons/lucky/codes", {"code": "LUCKY", "is_shared": False}).status == 201
    said = Counter(
        reply.status for reply in together(lambda n: api.post(f"members/m{n}/coupons", {"code": "LUCKY"}, key="k"))
    )
    assert said == {201: 1, 422: THREADS - 1}
    assert CouponCode.objects.get().claimed_by == Claim.objects.get().member_id


def test_pay_and_release_at_once_have_one_outcome(shop: Program, api: Api) -> None:
    publish(shop, "few", how="automatic", limit=1)
    held = hold(api)
    body = order_of(held)
    paid, released = in_parallel(
        [lambda: api.post("orders", body), lambda: api.post(f"checkouts/{held['id']}/release")]
    )
    assert (paid.status, released.status) in {(201, 409), (409, 200), (422, 200)}
    assert CounterShard.objects.get().used == (paid.status == 201)


def test_cancel_and_refund_at_once_give_the_use_back_once(shop: Program, api: Api) -> None:
    publish(shop, "few", how="automatic", limit=3, on_refund="restore")
    held = hold(api)
    assert api.post("orders", order_of(held)).status == 201

    def refund() -> None:
        try:
            give_back(api, "r1", held, ("a", 1))
        except AssertionError:
            assert Claim.objects.get().state == "revoked", "the cancellation came first"

    in_parallel([refund, lambda: api.post("orders/o1/cancel", {})])
    assert (CounterShard.objects.get().used, Claim.objects.get().state) == (0, "revoked")
