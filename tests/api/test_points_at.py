"""`points?at=` answers that instant, whether it lies before or after what has been posted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.models import Program
from tests.api import shop
from tests.api.client import Api
from tests.api.conftest import NOW, Clock

pytestmark = pytest.mark.django_db


def standing(api: Api, **query: str) -> tuple[int, int, int, int, list[int]]:
    """Return what is available, debt, earned and redeemed in all, and what is left of each lot."""
    reply = api.get("members/ada/points", **query)
    assert reply.status == 200
    wallet: dict[str, Any] = reply.json["wallets"][0]
    one = wallet["balance"]
    assert wallet["lot_count"] == len(wallet["lots"])
    return (
        *(one["available"], one["debt"], one["lifetime_earned"], one["lifetime_redeemed"]),
        [lot["points"] for lot in wallet["lots"]],
    )


def test_each_instant_has_its_own_answer(api: Api, program: Program, clock: Clock) -> None:
    shop.enroll(program, "ada")
    api.post("orders", shop.order())  # 60 points on 1 May
    clock(NOW + timedelta(days=1))
    api.post("members/ada/points/points/redemptions", {"points": 25}, key="k")
    clock(NOW + timedelta(days=2))
    api.post("refunds", shop.refund())  # of 10 May: 15 points of line a
    now = (20, 0, 60, 25, [20])
    assert standing(api) == now
    assert standing(api, at="2026-06-03T12:00:00Z") == now
    assert standing(api, at="2026-04-30T00:00:00Z") == (0, 0, 0, 0, [])
    assert standing(api, at="2026-05-01T10:00:00Z") == (60, 0, 60, 0, [60])
    assert standing(api, at="2026-05-09T00:00:00Z") == (60, 0, 60, 0, [60])
    assert standing(api, at="2026-05-11T00:00:00Z") == (45, 0, 60, 0, [45])
    assert standing(api, at="2027-05-02T00:00:00Z") == (0, 0, 60, 25, [])
    assert api.get("members/ada/points", at="2026-05-09T00:00:00Z").json["at"] == "2026-05-09T00:00:00Z"


def test_where_a_late_refund_took_more_than_there_was_it_was_debt(api: Api, program: Program, clock: Clock) -> None:
    shop.enroll(program, "ada")
    api.post("orders", shop.order())
    api.post("members/ada/points/points/redemptions", {"points": 60}, key="k")
    clock(datetime(2026, 6, 10, tzinfo=UTC))
    api.post("refunds", shop.refund(refunded_at="2026-06-05T00:00:00Z"))
    assert standing(api) == standing(api, at="2026-06-06T00:00:00Z") == (0, 15, 60, 60, [])
    assert standing(api, at="2026-06-02T00:00:00Z") == (0, 0, 60, 60, [])


@pytest.mark.parametrize("at", ["2026", "yesterday", "", "2026-05-01"])
def test_what_is_no_instant_is_refused(api: Api, program: Program, at: str) -> None:
    shop.enroll(program, "ada")
    reply = api.get("members/ada/points", at=at)
    assert (reply.status, reply.code) == (400, "invalid_parameter")
