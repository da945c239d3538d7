"""Edits and cancellations of paid orders over HTTP."""

from functools import partial
from typing import Any

import pytest

from core.models import Program
from membership.models import MemberDay, Order
from membership.services.rebuild import find_day_mismatches, find_line_mismatches
from points.models import LedgerTransaction, SourceKind
from tests.api.client import Api, in_parallel
from tests.api.shop import LATER, assert_problem, back, enroll, line, order, points_of, refund, written

pytestmark = pytest.mark.django_db

EDITED = "2026-05-05T10:00:00Z"


def edit(name: str = "e1", **more: Any) -> dict[str, Any]:
    """One line more for 20.00, and one of the three units of line a less."""
    return {
        "external_id": name, "edited_at": EDITED, "currency": "GBP", "lines": [line("c", 2, 2000)],
        "removed": [{"order_line": "a", "units": 1, "amount_minor": 1500}],
    } | more  # fmt: skip


@pytest.fixture(autouse=True)
def paid(api: Api, program: Program) -> None:
    enroll(program, "ada", "ben")
    assert api.post("orders", order()).status == 201


def assert_sound(program: Program) -> None:
    assert find_day_mismatches(program) == []
    assert find_line_mismatches(program) == []


def test_adds_lines_that_earn_and_takes_units_out(api: Api, program: Program) -> None:
    reply = api.post("orders/o1/edits", edit())
    assert reply.status == 201, reply.text
    assert reply.json["effect"]["points"] == [{"wallet": "points", "points": 5}]
    stored = reply.json["order"]
    assert [(one["external_id"], one["edit"], one["returned_units"]) for one in stored["lines"]] == [
        ("a", None, 1), ("b", None, 0), ("c", "e1", 0),
    ]  # fmt: skip
    assert [one["external_id"] for one in stored["edits"]] == ["e1"]
    assert [(one["external_id"], one["amount_minor"]) for one in stored["refunds"]] == [("o1:e1", 1500)]
    assert points_of(program) == 65
    day = MemberDay.objects.get(day="2026-05-05")
    assert (day.orders, day.spend_minor, day.refunds_minor) == (0, 2000, 1500)
    assert LedgerTransaction.objects.filter(source_kind=SourceKind.ORDER_EDIT).count() == 1
    assert_sound(program)


def test_an_added_line_earns_with_the_tier_held_then(api: Api) -> None:
    api.post("orders", order("o2", line("a", 1, 60_000), paid_at="2026-05-02T10:00:00Z"))  # silver: 1.25
    reply = api.post("orders/o1/edits", edit(lines=[line("c", 1, 10_000)], removed=[]))
    assert reply.json["effect"]["points"] == [{"wallet": "points", "points": 125}]
    assert reply.json["effect"]["tiers"] == [{"ladder": "main", "before": "silver", "after": "silver"}]


def test_what_an_edit_adds_can_move_the_tier_at_once(api: Api) -> None:
    reply = api.post("orders/o1/edits", edit(lines=[line("c", 1, 50_000)], removed=[]))
    assert reply.json["effect"]["tiers"] == [{"ladder": "main", "before": "ivory", "after": "silver"}]


def test_the_same_edit_again_is_repeated(api: Api) -> None:
    first = api.post("orders/o1/edits", edit())
    before = written()
    again = api.post("orders/o1/edits", edit())
    assert (again.status, {**again.json, "outcome": "recorded"}) == (200, first.json)
    assert_problem(api.post("orders/o1/edits", edit(lines=[])), 409, "fact_conflict")
    assert written() == before


def test_an_edit_that_gives_back_nothing_of_the_programs_is_not_one_that_does(api: Api) -> None:
    """What is taken out of an order in another currency may be worth nothing in the program's."""
    euros: dict[str, Any] = {"currency": "EUR", "program_amount_minor": 5000}
    assert api.post("orders", order("o2", line("a", 3, 4500, program_amount_minor=5000), **euros)).status == 201
    removed = {"order_line": "a", "units": 1, "amount_minor": 1500}
    told = edit(currency="EUR", lines=[], removed=[{**removed, "program_amount_minor": 0}])
    assert api.post("orders/o2/edits", told).status == 201
    told["removed"] = [{**removed, "program_amount_minor": 1500}]
    assert_problem(api.post("orders/o2/edits", told), 409, "fact_conflict")


@pytest.mark.django_db(transaction=True)
def test_the_same_edit_from_many_at_once_counts_once(api: Api, program: Program) -> None:
    replies = in_parallel([lambda: api.post("orders/o1/edits", edit())] * 6)
    assert sorted(reply.status for reply in replies) == [200] * 5 + [201]
    assert points_of(program) == 65
    assert_sound(program)


def test_a_dry_run_writes_nothing(api: Api) -> None:
    before = written()
    for path, body in (("orders/o1/edits", edit()), ("orders/o1/cancel", {})):
        reply = api.post(path, body, query={"dry_run": "true"})
        assert (reply.status, reply.json["outcome"]) == (200, "recorded")
    assert written() == before


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"lines": [], "removed": []}, "invalid_value", "/lines"),
    ({"lines": [line("b", 1, 100)]}, "duplicate_line", "/lines/0/external_id"),
    ({"lines": [line("c", 1, 100), line("c", 1, 100)]}, "duplicate_line", "/lines"),
    ({"lines": [line("c", 0, 100)]}, "invalid_request", "/lines/0/units"),
    ({"lines": [line("c", 1, 2**53 - 1), line("d", 1, 1)]}, "invalid_value", "/lines"),
    ({"currency": "EUR"}, "wrong_currency", "/currency"),
    ({"removed": [{"order_line": "a", "units": 4, "amount_minor": 1}]}, "too_many_units", "/removed/0/units"),
    ({"removed": [{"order_line": "z", "units": 1, "amount_minor": 1}]}, "unknown_line", "/removed/0/order_line"),
    ({"removed": [{"order_line": "a", "units": -1, "amount_minor": 1}]}, "invalid_request", "/removed/0/units"),
    ({"edited_at": "2026-04-30T10:00:00Z"}, "before_order", "/edited_at"),
    ({"edited_at": "2026-06-30T10:00:00Z"}, "in_future", "/edited_at"),
    ({"edited_at": "2026-05-30T10:00:00"}, "invalid_request", "/edited_at"),
]


@pytest.mark.parametrize(("change", "code", "pointer"), BAD, ids=lambda told: str(told)[:40])
def test_refuses_bad_input_and_writes_nothing(api: Api, change: dict[str, Any], code: str, pointer: str) -> None:
    before = written()
    assert_problem(api.post("orders/o1/edits", edit() | change), 422, code, pointer)
    assert_problem(api.post("orders/o9/edits", edit()), 404, "unknown_order")
    assert written() == before


def test_an_added_line_cannot_come_back_before_it_was_added(api: Api) -> None:
    api.post("orders/o1/edits", edit())
    before = written()
    early = refund("r1", back("c", 1, 1000), refunded_at="2026-05-04T10:00:00Z")
    assert_problem(api.post("refunds", early), 422, "before_order", "/refunded_at")
    assert written() == before
    assert api.post("refunds", {**early, "refunded_at": LATER}).json["effect"]["points"][0]["points"] == -10


def test_an_order_is_back_when_its_added_lines_are(api: Api, program: Program) -> None:
    api.post("orders/o1/edits", edit())
    assert api.post("refunds", refund("r1", back("a", 2, 3000), back("b", 1, 1550))).status == 201
    assert Order.objects.get().returned_at is None
    api.post("refunds", refund("r2", back("c", 2, 2000), refunded_at="2026-05-11T10:00:00Z"))
    assert api.get("orders/o1").json["returned_at"] == "2026-05-11T10:00:00Z"
    assert points_of(program) == 0
    assert_sound(program)


def test_an_order_that_is_back_is_not_edited(api: Api) -> None:
    api.post("orders/o1/cancel", {"cancelled_at": "2026-05-04T10:00:00Z"})
    before = written()
    assert_problem(api.post("orders/o1/edits", edit()), 422, "order_returned")
    assert written() == before


def test_a_late_edit_makes_an_order_count_again(api: Api, program: Program) -> None:
    api.post("orders/o1/cancel", {"cancelled_at": LATER})
    assert api.post("orders/o1/edits", edit(removed=[])).status == 201
    assert api.get("orders/o1").json["status"] == "paid"
    assert_sound(program)
    # What is left since is another cancellation.
    assert_problem(api.post("orders/o1/cancel", {}), 409, "fact_conflict")
    assert api.post("orders/o1/cancel", {"external_id": "again"}).status == 201
    assert points_of(program) == 0
    assert_sound(program)


# --- cancellations ----------------------------------------------------------------------------------------------


def test_cancels_all_that_is_left(api: Api, program: Program) -> None:
    api.post("orders/o1/edits", edit())
    api.post("refunds", refund("r1", back("a", 1, 1000)))  # 5.00 less than was paid for it
    reply = api.post("orders/o1/cancel", {})
    assert reply.status == 201, reply.text
    assert reply.json["effect"]["points"] == [{"wallet": "points", "points": -50}]
    cancelled = reply.json["order"]["refunds"][-1]
    assert (cancelled["external_id"], cancelled["amount_minor"]) == ("o1:cancel", 6050 + 2000 - 1500 - 1000)
    assert [(one["order_line"], one["units"], one["amount_minor"]) for one in cancelled["lines"]] == [
        ("a", 1, 2000), ("b", 1, 1550), ("c", 2, 2000),
    ]  # fmt: skip
    assert (reply.json["order"]["status"], points_of(program)) == ("returned", 0)
    assert sum(day.spend_minor - day.refunds_minor for day in MemberDay.objects.all()) == 0
    assert_sound(program)


def test_a_refusal_names_the_order_as_the_storefront_does(api: Api) -> None:
    api.post("orders", order("Web-7"))
    api.post("orders/Web-7/cancel", {})
    refused = api.post("orders/Web-7/cancel", {"external_id": "other"})
    assert refused.json["detail"] == "Nothing is left of order Web-7."


def test_a_cancellation_sent_again_is_repeated(api: Api) -> None:
    first = api.post("orders/o1/cancel", {})
    before = written()
    again = api.post("orders/o1/cancel", {})
    assert (again.status, {**again.json, "outcome": "recorded"}) == (200, first.json)
    told = {"cancelled_at": "2026-05-20T10:00:00Z"}
    assert_problem(api.post("orders/o1/cancel", told), 409, "fact_conflict")
    assert_problem(api.post("orders/o1/cancel", {"external_id": "other"}), 422, "nothing_left")
    assert_problem(api.post("orders/o1/cancel", {"cancelled_at": "2026-05-20"}), 422, "invalid_request")
    assert_problem(api.post("orders/o9/cancel", {}), 404, "unknown_order")
    assert written() == before


def test_refuses_a_cancellation_from_before_the_order(api: Api) -> None:
    before = written()
    told = {"cancelled_at": "2026-05-01T09:00:00Z"}
    assert_problem(api.post("orders/o1/cancel", told), 422, "before_order", "/cancelled_at")
    assert written() == before


def test_a_guests_order_is_cancelled_too(api: Api, program: Program) -> None:
    api.post("orders", order("g1", member=None))
    assert api.post("orders/g1/cancel", {}).json["order"]["status"] == "returned"
    assert_sound(program)


@pytest.mark.django_db(transaction=True)
def test_cancellations_and_refunds_at_once_take_back_no_more_than_was_bought(api: Api, program: Program) -> None:
    calls = [partial(api.post, "refunds", refund(f"r{n}", back("a", 1, 1500))) for n in range(4)]
    calls += [partial(api.post, "orders/o1/cancel", {})] * 2
    replies = in_parallel(calls)
    assert {reply.status for reply in replies} <= {200, 201, 422}
    assert sorted(reply.status for reply in replies[4:]) == [200, 201]
    assert {reply.code for reply in replies if reply.status == 422} <= {"too_many_units"}
    assert points_of(program) == 0
    assert sum(day.spend_minor - day.refunds_minor for day in MemberDay.objects.all()) == 0
    assert_sound(program)
