"""Refunds, edits and cancellations dated a little before their order, by a clock that is behind."""

from typing import Any

import pytest

from core.models import Program
from membership.models import MemberDay, Refund
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from points.models import LedgerTransaction
from tests.api.client import Api
from tests.api.shop import PAID, assert_problem, back, enroll, line, order, points_of, refund, written

pytestmark = pytest.mark.django_db

SECONDS_EARLY, FIVE_EARLY, LONG_EARLY = "2026-05-01T09:59:57Z", "2026-05-01T09:55:00Z", "2026-05-01T09:54:59Z"
MIDNIGHT = "2026-05-01T00:00:01+01:00"  # the shop's day has begun
BEFORE_MIDNIGHT = "2026-04-30T23:59:58+01:00"


@pytest.fixture(autouse=True)
def paid(api: Api, program: Program) -> None:
    enroll(program, "ada", "ben")
    assert api.post("orders", order()).status == 201


def assert_sound(program: Program) -> None:
    assert (find_day_mismatches(program), find_line_mismatches(program)) == ([], [])


@pytest.mark.parametrize("at", [SECONDS_EARLY, FIVE_EARLY])
def test_a_refund_counts_at_the_instant_of_its_order(api: Api, program: Program, at: str) -> None:
    reply = api.post("refunds", refund(refunded_at=at))
    assert reply.status == 201, reply.text
    assert reply.json["refund"]["refunded_at"] == PAID
    assert points_of(program) == 45
    assert LedgerTransaction.objects.order_by("pk")[1].effective_at.isoformat() == "2026-05-01T10:00:00+00:00"
    assert api.post("refunds", refund(refunded_at=at)).json["outcome"] == "repeated"
    assert_problem(api.post("refunds", refund(refunded_at=PAID)), 409, "fact_conflict")
    assert_sound(program)


def test_a_sum_without_lines_is_spread_over_the_lines_of_its_order(api: Api, program: Program) -> None:
    told = refund(refunded_at=SECONDS_EARLY, lines=[], amount_minor=6050)
    assert api.post("refunds", told).status == 201
    assert (api.get("orders/o1").json["returned_at"], points_of(program)) == (PAID, 0)
    assert_sound(program)


def test_a_refund_counts_on_the_day_of_its_order(api: Api, program: Program) -> None:
    api.post("orders", order("o2", paid_at=MIDNIGHT))
    assert api.post("refunds", refund(order="o2", refunded_at=BEFORE_MIDNIGHT)).status == 201
    day = MemberDay.objects.get(refunds_minor__gt=0)
    assert (day.day, day.refunds_minor) == (Refund.objects.get().local_date, 1500)
    assert not MemberDay.objects.filter(day__lt=day.day).exists()
    assert_sound(program)


def test_a_line_comes_back_at_the_instant_at_which_it_was_added(api: Api, program: Program) -> None:
    added = {"external_id": "e1", "edited_at": "2026-05-02T10:00:00Z", "currency": "GBP", "lines": [line("c", 1, 1000)]}
    assert api.post("orders/o1/edits", added).status == 201
    early = refund("r1", back("c", 1, 1000), refunded_at="2026-05-02T09:59:00Z")
    assert api.post("refunds", early).json["refund"]["refunded_at"] == "2026-05-02T10:00:00Z"
    assert points_of(program) == 60
    assert_sound(program)


def test_an_edit_counts_at_the_instant_of_its_order(api: Api, program: Program) -> None:
    removed = [{"order_line": "a", "units": 1, "amount_minor": 1500}]
    told: dict[str, Any] = {"external_id": "e1", "edited_at": SECONDS_EARLY, "currency": "GBP", "removed": removed}
    told["lines"] = [line("c", 1, 1000)]
    reply = api.post("orders/o1/edits", told)
    assert reply.status == 201, reply.text
    assert [one["edited_at"] for one in reply.json["order"]["edits"]] == [PAID]
    assert points_of(program) == 60 + 10 - 15
    assert api.post("orders/o1/edits", told).json["outcome"] == "repeated"
    assert_sound(program)


def test_a_cancellation_counts_at_the_instant_of_its_order(api: Api, program: Program) -> None:
    told = {"cancelled_at": SECONDS_EARLY}
    assert api.post("orders/o1/cancel", told).status == 201
    assert (api.get("orders/o1").json["returned_at"], points_of(program)) == (PAID, 0)
    assert api.post("orders/o1/cancel", told).json["outcome"] == "repeated"
    assert_problem(api.post("orders/o1/cancel", {"cancelled_at": "2026-05-01T10:00:01Z"}), 409, "fact_conflict")
    assert_sound(program)


def test_what_is_dated_earlier_is_refused_and_writes_nothing(api: Api) -> None:
    before = written()
    assert_problem(api.post("refunds", refund(refunded_at=LONG_EARLY)), 422, "before_order", "/refunded_at")
    edit = {"external_id": "e1", "edited_at": LONG_EARLY, "currency": "GBP", "lines": [line("c", 1, 1000)]}
    assert_problem(api.post("orders/o1/edits", edit), 422, "before_order", "/edited_at")
    told = {"cancelled_at": LONG_EARLY}
    assert_problem(api.post("orders/o1/cancel", told), 422, "before_order", "/cancelled_at")
    assert written() == before
