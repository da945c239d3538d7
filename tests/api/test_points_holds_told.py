"""Holds, points given back and grants as a statement shows them and as sentences tell them."""

from typing import Any

import pytest

from core.models import Program
from membership.fact_inputs import OrderInput, OrderLineInput
from membership.models import Refund
from points.models import SourceKind
from points.services import grants, holds
from tests.api.buyers import ANN, account_of, enroll
from tests.api.client import Api
from tests.api.test_points_explain import explain, of_order
from tests.storefront.shop import DAY, START, order, refund, tell

pytestmark = pytest.mark.django_db
LATE = START + 400 * DAY


@pytest.fixture
def who(program: Program) -> dict[str, Any]:
    """Ann has 80 points that expire, and who she is."""
    enroll(program, "ann")
    tell(program, order("o1", (4, 8_000), member="ann"))
    return {"program": program, **account_of(program)}


def hold(who: dict[str, Any], points: int = 60) -> None:
    holds.hold(**who, points=points, reference="c", held_until=START + DAY, at=START + DAY)


def test_a_hold_a_capture_and_a_release_explain_themselves(who: dict[str, Any], api: Api) -> None:
    hold(who)
    assert explain(api, "hold") == [
        "On 2026-01-11, 60 points were set aside for a purchase.",
        "It took 60 points from those of order o1, usable until the end of 2027-01-10.",
    ]
    row = api.get(f"{ANN}/points/statement", kind="hold").json["results"][0]
    assert (row["points"], row["changes"]) == (0, {"available": -60, "held": 60})
    holds.capture(**who, reference="c", points=45, at=START + DAY)
    assert explain(api, "capture") == [
        f"On 2026-01-11, a purchase used 45 points that transaction {row['seq']} had set aside.",
        "After that, 15 points were still set aside.",
    ]
    captured = api.get(f"{ANN}/points/statement", kind="capture").json["results"][0]
    assert (captured["points"], captured["source"]["kind"], captured["source"]["seq"]) == (
        -45, "transaction", row["seq"],
    )  # fmt: skip
    holds.release(**who, reference="c", at=START + 2 * DAY)
    first = f"On 2026-01-12, 15 points that transaction {row['seq']} had set aside came back"
    assert explain(api, "release") == [f"{first} to where they had been taken from."]


def test_points_given_back_name_the_refund_and_what_expires_at_once(who: dict[str, Any], api: Api) -> None:
    hold(who)
    holds.capture(**who, reference="c", at=START + DAY)
    tell(who["program"], refund("r1", ("o1.1", 1, 2_000), member="ann"))
    refund_id = Refund.objects.get().pk
    holds.give_back(**who, reference="c", points=10, refund_id=refund_id, at=START + 30 * DAY)
    assert explain(api, "give_back") == [
        "On 2026-02-09, refund r1 gave back 10 points that a purchase had used.",
        "10 points went back to those of order o1, usable until the end of 2027-01-10.",
    ]
    holds.give_back(**who, reference="c", points=20, refund_id=refund_id + 1, at=LATE)
    assert explain(api, "expire") == [
        "What was left of order o1 expired: 20 points, usable until the end of 2027-01-10.",
        "That came back on 2027-02-14, later than that day, and so expired at once.",
    ]


def test_what_is_released_repays_debt_first_and_says_so(who: dict[str, Any], api: Api) -> None:
    hold(who)
    tell(who["program"], refund("r1", ("o1.1", 4, 8_000), member="ann"))
    assert api.get(ANN).json["wallets"][0]["balance"]["debt"] == 60
    holds.release(**who, reference="c", at=START + 30 * DAY)
    assert explain(api, "release")[-1] == "First of all, 60 points of them repaid debt."


def test_a_grant_explains_who_gave_it_and_why(who: dict[str, Any], api: Api) -> None:
    reward = SourceKind.REFERRAL_REWARD
    grants.grant(**who, points=50, source_kind=reward, source_id=1, reason="Ben bought", at=START + DAY)
    assert explain(api, "earn") == [
        "On 2026-01-11, a referral reward gave 50 points.",
        "The points can be used from 2026-01-11 until the end of 2027-01-11.",
        "Reason given: Ben bought",
    ]
    row = api.get(f"{ANN}/points/statement", kind="earn").json["results"][0]
    assert row["source"] == {"kind": "referral_reward", "external_id": None, "seq": None}
    detail = api.get(f"{ANN}/points/transactions/{row['seq']}").json
    assert (detail["accruals"], detail["opened"][0]["points"]) == ([], 50)


def test_a_grant_that_is_taken_back_explains_its_share(who: dict[str, Any], api: Api) -> None:
    reward: dict[str, Any] = {**who, "source_kind": SourceKind.REFERRAL_REWARD, "source_id": 1}
    grants.grant(**reward, points=50, reason="", at=START + DAY)
    grants.claw_back(**reward, returned=2_500, whole=7_500, cause_id=1, at=START + 2 * DAY)
    assert explain(api, "clawback") == [
        "On 2026-01-12, 16 points of a referral reward were taken back.",
        ("It had given 50 points; 1/3 of what it was given for is gone. The share of that is 16, rounded down."),
        "It took 16 points from those of a referral reward, usable until the end of 2027-01-11.",
    ]
    grants.claw_back(**reward, returned=7_500, whole=7_500, cause_id=2, at=START + 3 * DAY)
    assert explain(api, "clawback")[1] == (
        "It had given 50 points; nothing is left of what it was given for. "
        "Earlier refunds had asked for 16 of them, which leaves 34 points."
    )
    row = api.get(f"{ANN}/points/statement", kind="clawback").json["results"][0]
    back = api.get(f"{ANN}/points/transactions/{row['seq']}").json["returns"][0]
    assert (back["order"], back["rule"], back["points_due"], back["points_taken"]) == (None, None, 34, 34)


def test_what_was_paid_in_points_explains_that_it_earned_nothing(who: dict[str, Any], api: Api) -> None:
    line = OrderLineInput(external_id="1", units=1, amount_minor=5_000, paid_in_points_minor=1_250)
    paid = OrderInput(
        external_id="o2", member="ann", paid_at=START + DAY, currency="GBP", amount_minor=5_000, lines=(line,)
    )
    tell(who["program"], paid)
    sentences, lines = of_order(api, "o2")
    assert sentences == ["The order earned 37 points."]
    assert lines["1"][0] == "Of line 1, GBP 50.00, GBP 12.50 was paid in points and earns nothing."
    assert lines["1"][1].startswith("Line 1, GBP 37.50: ")
