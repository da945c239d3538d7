"""Over HTTP a refund gives back no more than is left of what was paid, unless it says so."""

from datetime import timedelta
from typing import Any

import pytest

from core.models import Program
from core.versions import publish
from membership.models import MemberDay
from points.models import EarnRule
from tests.api.client import Api, Reply
from tests.api.conftest import NOW
from tests.api.shop import JOINED, assert_problem, back, enroll, line, order, points_of, refund, written

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def paid(api: Api, program: Program) -> None:
    """An order over 65.50: lines of 45.00 and 15.50, shipping of 5.00."""
    enroll(program, "ada", "ben")
    assert api.post("orders", order(amount_minor=6550)).status == 201


def reasons(reply: Reply) -> list[str]:
    return [one["detail"] for one in reply.json["errors"]]


@pytest.mark.parametrize(
    ("told", "place", "reason"),
    [
        (
            refund("r", amount_minor=6551, lines=[]),
            "/amount_minor",
            "6551 come back, but only 6550 are left of order o1",
        ),
        (refund("r", back("a", 3, 4501)), "/lines/0/amount_minor", "4501 come back, but only 4500 are left of line a"),
        (
            refund("r", back("a", 1, 4000), {**back("a", 1, 501), "external_id": "2"}),
            *("/lines/1/amount_minor", "501 come back, but only 500 are left of line a"),
        ),
        (
            refund("r", back("a", None, 4500), back("b", None, 1550), amount_minor=6551),
            *("/amount_minor", "6551 come back, but only 6550 are left of order o1"),
        ),
    ],
)
def test_more_than_was_paid_is_refused_and_says_what_is_left(
    api: Api, told: dict[str, Any], place: str, reason: str
) -> None:
    before = written()
    refused = api.post("refunds", told)
    assert_problem(refused, 422, "more_than_paid", place)
    assert reasons(refused) == [f"{reason}; what is given on top is goodwill_minor"]
    assert written() == before


def test_sums_without_lines_count_at_the_order_and_not_at_its_lines(api: Api) -> None:
    assert api.post("refunds", refund("r1", amount_minor=3000, lines=[])).status == 201
    assert api.post("refunds", refund("r2", back("a", 1, 3551))).code == "more_than_paid"
    assert api.post("refunds", refund("r2", back("a", 1, 3550))).status == 201
    assert api.post("refunds", refund("r3", amount_minor=1, lines=[])).code == "more_than_paid"
    assert api.post("refunds", refund("r3", back("b", 1, 0))).status == 201


def test_what_an_edit_added_can_be_refunded_from_then_on(api: Api) -> None:
    edit = {"external_id": "e1", "edited_at": NOW.isoformat(), "currency": "GBP", "lines": [line("c", 1, 1000)]}
    assert api.post("orders/o1/edits", edit).status == 201
    early = refund("r1", amount_minor=6551, lines=[])
    assert_problem(api.post("refunds", early), 422, "more_than_paid", "/amount_minor")
    assert api.post("refunds", early | {"refunded_at": NOW.isoformat()}).status == 201
    more = {"external_id": "e2", "edited_at": NOW.isoformat(), "currency": "GBP"}
    removed = [{"order_line": "c", "units": 1, "amount_minor": 1001}]
    assert_problem(
        api.post("orders/o1/edits", more | {"removed": removed}), 422, "more_than_paid", "/removed/0/amount_minor"
    )


def test_a_refund_told_late_has_what_was_left_at_its_own_instant_and_later(api: Api) -> None:
    """6,550 were paid, 6,000 more were added after the first refund; both are known before the earliest is told."""
    hours = [(NOW + timedelta(hours=n)).isoformat() for n in range(-4, 0)]
    told = {"external_id": "e1", "edited_at": hours[2], "currency": "GBP", "lines": [line("c", 1, 6_000)]}
    assert api.post("orders/o1/edits", told).status == 201
    assert api.post("refunds", refund("r2", amount_minor=4_000, lines=[], refunded_at=hours[1])).status == 201
    assert api.post("refunds", refund("r3", amount_minor=5_000, lines=[], refunded_at=hours[3])).status == 201
    late = refund("r1", amount_minor=2_551, lines=[], refunded_at=hours[0])
    refused = api.post("refunds", late)
    assert_problem(refused, 422, "more_than_paid", "/amount_minor")
    assert reasons(refused)[0].startswith("2551 come back, but only 2550 are left of order o1")
    assert api.post("refunds", late | {"amount_minor": 2_550}).status == 201
    last = refund("r4", amount_minor=1_001, lines=[], refunded_at=hours[3])
    assert reasons(api.post("refunds", last))[0].startswith("1001 come back, but only 1000 are left")
    assert api.post("refunds", last | {"amount_minor": 1_000}).status == 201
    assert api.get("orders/o1").json["status"] == "returned"


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(minutes=2)])
def test_a_cancellation_comes_after_the_refunds_of_its_instant(api: Api, ahead: timedelta) -> None:
    """Ids would put `o1:cancel` before `r1`, which would then have given back something else."""
    first = refund("r1", amount_minor=6_000, lines=[], refunded_at=(NOW + ahead).isoformat())
    assert api.post("refunds", first).status == 201
    for status in (201, 200):
        assert api.post("orders/o1/cancel", {}).status == status
    told = [(one["external_id"], one["money_minor"]) for one in api.get("orders/o1").json["refunds"]]
    assert told == [("r1", 6_000), ("o1:cancel", 550)]


def test_goodwill_is_recorded_and_takes_nothing(api: Api, program: Program) -> None:
    told = refund("r1", back("b", 1, 1550), goodwill_minor=900)
    reply = api.post("refunds", told)
    assert reply.status == 201, reply.text
    stored = reply.json["refund"]
    assert [stored[name] for name in ("amount_minor", "goodwill_minor", "money_minor", "points")] == [
        1550,
        900,
        1550,
        0,
    ]
    assert MemberDay.objects.get(refunds_minor__gt=0).refunds_minor == 1550
    assert points_of(program) == 45
    assert api.post("refunds", told).json["outcome"] == "repeated"
    assert_problem(api.post("refunds", told | {"goodwill_minor": 901}), 409, "fact_conflict")
    assert api.post("refunds", refund("r2", amount_minor=5000, lines=[])).status == 201
    assert api.get("orders/o1").json["status"] == "returned"


def test_goodwill_alone_is_a_refund_too(api: Api, program: Program) -> None:
    reply = api.post("refunds", refund("r1", amount_minor=0, lines=[], goodwill_minor=500))
    assert (reply.status, reply.json["refund"]["money_minor"]) == (201, 0)
    assert points_of(program) == 60


def test_a_batch_takes_the_refunds_that_fit_and_refuses_the_others_at_once(
    api: Api, django_assert_max_num_queries: Any
) -> None:
    refunds = [refund(f"r{n:02}", back("a", None, 900)) for n in range(60)]
    with django_assert_max_num_queries(90):
        results = api.post("refunds/batch", {"refunds": refunds}).json["results"]
    assert [one["outcome"] for one in results] == ["recorded"] * 5 + ["refused"] * 55
    assert {one["problem"]["code"] for one in results[5:]} == {"more_than_paid"}


def test_guests_and_refunds_of_no_order_are_facts_of_any_sum(api: Api) -> None:
    guest = order("g1", member=None)
    assert api.post("orders", guest).status == 201
    loose = refund("r1", amount_minor=9_999_999, lines=[], order=None)
    assert api.post("refunds", loose).status == 201
    assert api.post("refunds", refund("r2", order="g1", member=None)).status == 201


def test_lines_may_not_sum_above_their_order(api: Api) -> None:
    before = written()
    refused = api.post("orders", order("o2", line("a", 1, 20_000), amount_minor=9_000))
    assert_problem(refused, 422, "invalid_value", "/lines")
    assert "the lines cost 20000, the order 9000" in reasons(refused)[0]
    assert written() == before


def test_points_that_no_account_can_hold_are_the_refusal_of_their_order_alone(api: Api, program: Program) -> None:
    rule = EarnRule.objects.create(program=program, code="generous")
    formula = {"points": 10_000, "per": "0.01"}
    definition = {"wallet": "points", "name": "Generous", "trigger": "order_line", "formula": formula}
    publish(rule, definition, at=JOINED)
    huge = [order(f"h{n}", line("a", 1, 2**53 - 1)) for n in range(3)]
    results = api.post("orders/batch", {"orders": [order("s1"), *huge, order("s2")]}).json["results"]
    assert [one["outcome"] for one in results] == ["recorded", "refused", "refused", "refused", "recorded"]
    assert {one["problem"]["code"] for one in results[1:4]} == {"points_overflow"}
    assert api.post("orders", huge[0]).code == "points_overflow"
