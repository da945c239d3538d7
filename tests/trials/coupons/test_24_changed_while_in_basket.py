"""24: terms that changed between basket and payment."""

from datetime import timedelta

import pytest

from core.models import Program
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.trials.coupons.visits import hold, off, pay, quote, try_to_hold

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(shop: Program) -> Program:
    publish(shop, "share", how="automatic", discount={"percent": "20%"})
    return shop


def change(shop: Program, clock: Clock) -> None:
    publish(shop, "share", at=NOW + timedelta(minutes=1), how="automatic", discount={"percent": "5%"})
    clock(NOW + timedelta(minutes=2))


def test_what_was_quoted_and_changed_is_refused_with_the_difference(shop: Program, api: Api, clock: Clock) -> None:
    quoted = quote(api)
    change(shop, clock)
    answer = try_to_hold(api, quoted)
    assert_problem(answer, 409, "quote_changed", "/lines/0/amount_minor")
    assert "was GBP 80.00, is GBP 95.00" in answer.text


def test_what_was_held_is_paid_as_held(shop: Program, api: Api, clock: Clock) -> None:
    held = hold(api)
    change(shop, clock)
    assert off(held) == 2_000
    assert pay(api, held)["order"]["amount_minor"] == 8_000
