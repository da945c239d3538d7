"""27: a wrong coupon is out, and one act stops what is open."""

from datetime import timedelta

import pytest

from core.models import AuditEntry, Event, Program
from core.services import outbox
from coupons.tasks import revoke_recalled
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.trials.coupons.visits import applied, hold, pay, quote, refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(shop: Program, api: Api) -> Program:
    publish(shop, "nine", how="claimed", discount={"percent": "90%"})
    for code in ("NINE", "NEUN"):
        assert api.post("coupons/nine/codes", {"code": code}).status == 201
    for member in ("ada", "ben"):
        assert api.post(f"members/{member}/coupons", {"coupon": "nine"}, key=member).status == 201
    return shop


def states(api: Api, member: str = "ada") -> list[str]:
    return [one["state"] for one in api.get(f"members/{member}/coupons").json["results"]]


def test_one_act_stops_what_is_open(shop: Program, api: Api, clock: Clock) -> None:
    held, offered = hold(api, member="ben"), quote(api)
    assert applied(offered) == {"nine"}
    clock(NOW + timedelta(seconds=1))
    answer = api.post("coupons/nine/recall", {"reason": "90 % instead of 9 %"})
    assert (answer.status, answer.json["revoked"], answer.json["finished_at"]) == (200, 0, None)

    assert api.post(f"checkouts/{offered['id']}/hold").code == "quote_changed"
    stopped = quote(api, codes=["NINE", "NEUN"])
    assert (applied(stopped), refused(stopped)) == (set(), {"NINE": "unknown", "NEUN": "unknown"})
    assert api.post("members/ada/coupons", {"coupon": "nine"}, key="late").code == "unknown_coupon"
    pay(api, held)  # what a checkout holds can still be paid

    revoke_recalled()
    assert (states(api), states(api, "ben")) == (["revoked"], ["used"])
    assert api.get("coupons/nine/recall").json["revoked"] == 1
    assert api.get("coupons/nine/recall").json["finished_at"] is not None
    outbox.drain(at=NOW)
    assert [event.subject for event in Event.objects.filter(type="coupon.revoked")] == ["ada"]
    entry = AuditEntry.objects.get(action="coupon.recalled")
    assert (entry.reason, entry.actor.startswith("key ")) == ("90 % instead of 9 %", True)


def test_it_needs_a_reason_and_is_one_however_often_it_is_sent(shop: Program, api: Api, clock: Clock) -> None:
    clock(NOW + timedelta(seconds=1))
    assert_problem(api.post("coupons/nine/recall", {"reason": " "}), 422, "invalid_request", "/reason")
    assert_problem(api.get("coupons/nine/recall"), 404, "unknown_recall")
    assert_problem(api.post("coupons/none/recall", {"reason": "x"}), 404, "unknown_coupon")
    first, again = (api.post("coupons/nine/recall", {"reason": "wrong"}) for _ in range(2))
    assert first.json == again.json
    assert AuditEntry.objects.filter(action="coupon.recalled").count() == 1


def test_the_right_coupon_is_published_anew_and_its_codes_work_again(shop: Program, api: Api, clock: Clock) -> None:
    clock(NOW + timedelta(seconds=1))
    api.post("coupons/nine/recall", {"reason": "wrong"})
    publish(shop, "nine", at=NOW + timedelta(seconds=2), how="claimed", discount={"percent": "9%"})
    clock(NOW + timedelta(seconds=3))
    right = quote(api, codes=["NINE"])
    assert [one["discount_minor"] for one in right["price"]["coupons"]["applied"]] == [900]
