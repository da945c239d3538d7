"""05: the count of uses comes back on release, lapse, cancellation and return, once."""

from datetime import timedelta

import pytest

from core.models import Program
from coupons.models import CounterShard
from storefront.services.checkouts import holding
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, give_back, hold, line, pay, quote

pytestmark = pytest.mark.django_db
LINES = [line("a", 6_000, units=3), line("b", 4_000)]


def used() -> int:
    return sum(CounterShard.objects.values_list("used", flat=True))


@pytest.fixture(params=[1, 7])
def shop(shop: Program, request: pytest.FixtureRequest) -> Program:
    publish(shop, "few", how="automatic", limit=request.param, on_refund="restore")
    return shop


def test_release_and_lapse_give_the_use_back(shop: Program, api: Api, clock: Clock) -> None:
    held = hold(api, *LINES)
    assert used() == 1
    for _ in range(2):
        assert api.post(f"checkouts/{held['id']}/release").status == 200
        assert used() == 0
    hold(api, *LINES)
    later = NOW + timedelta(hours=1)
    clock(later)
    for _ in range(2):
        holding.end_lapsed(at=later)
        assert used() == 0
    assert applied(quote(api, *LINES)) == {"few"}


def test_cancellation_gives_the_use_back(shop: Program, api: Api) -> None:
    pay(api, hold(api, *LINES))
    assert used() == 1
    for status in (201, 200):
        assert api.post("orders/o1/cancel", {}).status == status
        assert used() == 0


def test_a_return_in_parts_gives_the_use_back_with_the_last_one(shop: Program, api: Api) -> None:
    held = hold(api, *LINES)
    pay(api, held)
    for name, returned, count in (("r1", ("a", 1), 1), ("r2", ("b", 1), 1), ("r3", ("a", 2), 0)):
        give_back(api, name, held, returned)
        assert used() == count
    assert applied(quote(api, *LINES)) == {"few"}
