"""Refunds over HTTP."""

from typing import Any

import pytest

from core.models import Program
from membership.models import Order
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.api.shop import assert_problem, back, enroll, order, points_of, refund, written

pytestmark = pytest.mark.django_db

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"member": "nobody"}, "unknown_member", "/member"),
    ({"member": "ben"}, "other_member", "/order"),
    ({"member": None}, "other_member", "/order"),
    ({"order": "o9"}, "unknown_order", "/order"),
    ({"lines": [back("a", 1, 100, order="o9")]}, "unknown_order", "/lines/0/order"),
    ({"lines": [back("z", 1, 100)]}, "unknown_line", "/lines/0/order_line"),
    ({"lines": [back("b", 1, 100), back("a", 4, 100)]}, "too_many_units", "/lines/1/units"),
    ({"lines": [back("a", -1, 100)]}, "invalid_request", "/lines/0/units"),
    ({"order": None, "lines": [back("a", 1, 100)]}, "invalid_value", "/lines/0/order"),
    ({"currency": "USD"}, "wrong_currency", "/currency"),
    ({"amount_minor": -5}, "invalid_request", "/amount_minor"),
    ({"refunded_at": "2026-05-01T09:54:59Z"}, "before_order", "/refunded_at"),
    ({"refunded_at": "2026-05-10 10:00"}, "invalid_request", "/refunded_at"),
    ({"refunded_at": "2026-06-02T00:00:00Z"}, "in_future", "/refunded_at"),
]


@pytest.fixture(autouse=True)
def paid(api: Api, program: Program) -> None:
    enroll(program, "ada", "ben")
    assert api.post("orders", order()).status == 201


def test_records_a_refund_and_takes_its_points_back(api: Api, program: Program) -> None:
    reply = api.post("refunds", refund())
    assert reply.status == 201, reply.text
    assert reply.json["outcome"] == "recorded"
    assert reply.json["effect"] == {
        "points": [{"wallet": "points", "points": -15}],
        "tiers": [{"ladder": "main", "before": "ivory", "after": "ivory"}],
    }
    stored = reply.json["refund"]
    assert (stored["order"], stored["lines"][0]["order"], stored["lines"][0]["order_line"]) == ("o1", "o1", "a")
    assert api.get("refunds/r1").json == stored
    assert api.get("orders/o1").json["refunds"] == [stored]
    assert api.get("orders/o1").json["lines"][0]["returned_units"] == 1
    assert points_of(program) == 45


def test_the_same_refund_again_is_repeated(api: Api) -> None:
    first = api.post("refunds", refund())
    before = written()
    again = api.post("refunds", refund())
    assert (again.status, {**again.json, "outcome": "recorded"}) == (200, first.json)
    assert_problem(api.post("refunds", refund() | {"amount_minor": 1}), 409, "fact_conflict")
    assert written() == before


def test_a_dry_run_writes_nothing(api: Api) -> None:
    before = written()
    reply = api.post("refunds", refund(), query={"dry_run": "true"})
    assert (reply.status, reply.json["effect"]["points"]) == (200, [{"wallet": "points", "points": -15}])
    assert written() == before
    assert Order.objects.get().returned_at is None


@pytest.mark.parametrize(("change", "code", "pointer"), BAD, ids=lambda told: str(told)[:40])
def test_refuses_bad_input_and_writes_nothing(api: Api, change: dict[str, Any], code: str, pointer: str) -> None:
    before = written()
    assert_problem(api.post("refunds", refund() | change), 422, code, pointer)
    assert written() == before


def test_units_that_came_back_do_not_come_back_again(api: Api) -> None:
    api.post("refunds", refund("r1", back("a", 2, 3000)))
    before = written()
    assert_problem(api.post("refunds", refund("r2", back("a", 2, 3000))), 422, "too_many_units", "/lines/0/units")
    assert written() == before


def test_a_refund_that_comes_before_its_order_is_refused_and_accepted_later(api: Api) -> None:
    early = refund("r5", order="o5")
    assert_problem(api.post("refunds", early), 422, "unknown_order", "/order")
    api.post("orders", order("o5"))
    assert api.post("refunds", early).status == 201


def test_lists_refunds_by_filters(api: Api) -> None:
    api.post("refunds", refund("r1"))
    api.post("refunds", {**refund("r2", {"external_id": "1", "amount_minor": 10}, order=None), "member": "ben"})

    def names(**query: Any) -> list[str]:
        return [one["external_id"] for one in api.get("refunds", **query).json["results"]]

    assert names() == ["r2", "r1"]
    assert names(member="ben") == ["r2"]
    assert names(order="o1") == ["r1"]
    assert names(refunded_from="2026-05-10T10:00:00Z", refunded_before="2026-05-10T10:00:01Z") == ["r2", "r1"]


def test_one_id_of_two_members_is_told_apart_by_the_member(api: Api) -> None:
    for member in ("ada", "ben", None):
        told = refund("r1", {"external_id": "1", "amount_minor": 10}, order=None, member=member)
        assert api.post("refunds", told).status == 201
    assert_problem(api.get("refunds/r1"), 400, "ambiguous_refund")
    assert api.get("refunds/r1", member="ben").json["member"] == "ben"
    assert api.get("refunds/r1", member="").json["member"] is None
    assert_problem(api.get("refunds/r1", member="cyd"), 404, "unknown_refund")


def test_another_programs_refund_is_unknown(api: Api, foreign_program: Program, make_key: MakeKey) -> None:
    api.post("refunds", refund())
    foreign = Api(make_key(program=foreign_program))
    assert_problem(foreign.get("refunds/r1"), 404, "unknown_refund")
    assert_problem(foreign.post("refunds", refund() | {"member": None}), 422, "unknown_order", "/order")
