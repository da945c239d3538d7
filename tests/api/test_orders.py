"""Orders over HTTP."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from membership.models import MemberDay, Order
from membership.services.rebuild import find_day_mismatches
from tests.api.client import Api, in_parallel
from tests.api.conftest import MakeKey
from tests.api.shop import assert_problem, enroll, line, order, points_of, refund, written

pytestmark = pytest.mark.django_db

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"member": "nobody"}, "unknown_member", "/member"),
    ({"currency": "EUR"}, "wrong_currency", "/currency"),
    ({"currency": "pounds"}, "invalid_request", "/currency"),
    ({"amount_minor": -1}, "invalid_request", "/amount_minor"),
    ({"amount_minor": 12.5}, "invalid_request", "/amount_minor"),
    ({"amount_minor": "100"}, "invalid_request", "/amount_minor"),
    ({"amount_minor": True}, "invalid_request", "/amount_minor"),
    ({"amount_minor": 2**53}, "invalid_request", "/amount_minor"),
    ({"lines": [line("a", -1, 100)]}, "invalid_request", "/lines/0/units"),
    ({"lines": [line("a", 0, 100)]}, "invalid_request", "/lines/0/units"),
    ({"lines": [line("a", 1, 100), line("a", 1, 100)]}, "duplicate_line", "/lines"),
    ({"lines": {"a": 1}}, "invalid_request", "/lines"),
    ({"paid_at": "2026-05-01T10:00:00"}, "invalid_request", "/paid_at"),
    ({"paid_at": "yesterday"}, "invalid_request", "/paid_at"),
    ({"paid_at": 1777629600}, "invalid_request", "/paid_at"),
    ({"paid_at": "0001-01-01T00:00:00+14:00"}, "invalid_request", "/paid_at"),
    ({"paid_at": "9999-12-31T23:59:59-14:00"}, "invalid_request", "/paid_at"),
    ({"paid_at": "2026-06-01T12:05:01Z"}, "in_future", "/paid_at"),
    ({"paid_at": "1800-01-01T00:00:00Z"}, "invalid_value", "/paid_at"),
    ({"external_id": ""}, "invalid_request", "/external_id"),
    ({"external_id": "x" * 201}, "invalid_request", "/external_id"),
    ({"external_id": "a\x00b"}, "invalid_request", "/external_id"),
    ({"status": "pending"}, "invalid_request", "/status"),
    ({"program_amount_minor": 1}, "invalid_value", "/program_amount_minor"),
]


@pytest.fixture(autouse=True)
def members(program: Program) -> None:
    enroll(program, "ada", "ben")


def test_records_an_order_and_says_what_followed(api: Api, program: Program) -> None:
    reply = api.post("orders", order(channel="web"))
    assert reply.status == 201, reply.text
    told = reply.json
    assert told["outcome"] == "recorded"
    assert told["effect"] == {
        "points": [{"wallet": "points", "points": 60}],
        "tiers": [{"ladder": "main", "before": "ivory", "after": "ivory"}],
    }
    stored = told["order"]
    assert (stored["external_id"], stored["member"], stored["status"]) == ("o1", "ada", "paid")
    assert (stored["paid_at"], stored["recorded_at"]) == ("2026-05-01T10:00:00Z", "2026-06-01T12:00:00Z")
    assert [one["external_id"] for one in stored["lines"]] == ["a", "b"]
    assert (stored["edits"], stored["refunds"]) == ([], [])
    assert api.get("orders/o1").json == stored
    assert points_of(program) == 60


def test_says_that_the_tier_moved(api: Api) -> None:
    reply = api.post("orders", order("o1", line("a", 1, 60_000)))
    assert reply.json["effect"]["tiers"] == [{"ladder": "main", "before": "ivory", "after": "silver"}]
    # It earned with the tier held before it.
    assert reply.json["effect"]["points"] == [{"wallet": "points", "points": 600}]


def test_the_same_order_again_is_repeated_with_the_same_answer(api: Api) -> None:
    first = api.post("orders", order())
    before = written()
    again = api.post("orders", order())
    assert (again.status, again.json["outcome"]) == (200, "repeated")
    assert {**again.json, "outcome": "recorded"} == first.json
    assert written() == before


def test_other_content_under_a_known_id_is_refused(api: Api) -> None:
    api.post("orders", order())
    before = written()
    assert_problem(api.post("orders", order(channel="shop")), 409, "fact_conflict")
    assert written() == before


def test_an_idempotency_key_replays_the_first_answer(api: Api) -> None:
    first = api.post("orders", order(), key="k-1")
    again = api.post("orders", order(), key="k-1")
    assert (again.status, again.json) == (201, first.json)
    assert_problem(api.post("orders", order("o2"), key="k-1"), 422, "idempotency_key_reused")
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_order_from_many_at_once_is_recorded_once(api: Api, program: Program) -> None:
    replies = in_parallel([lambda: api.post("orders", order())] * 8)
    assert sorted(reply.status for reply in replies) == [200] * 7 + [201]
    assert points_of(program) == 60
    assert find_day_mismatches(program) == []


def test_a_guests_order_is_kept_and_earns_nothing(api: Api) -> None:
    reply = api.post("orders", order(member=None))
    assert (reply.status, reply.json["order"]["member"]) == (201, None)
    assert reply.json["effect"] == {"points": [], "tiers": []}
    assert MemberDay.objects.count() == 0


def test_a_dry_run_tells_the_effect_and_writes_nothing(api: Api) -> None:
    before = written()
    reply = api.post("orders", order(), query={"dry_run": "true"})
    assert (reply.status, reply.json["outcome"]) == (200, "recorded")
    assert reply.json["effect"]["points"] == [{"wallet": "points", "points": 60}]
    assert written() == before
    assert api.post("orders", order()).status == 201


@pytest.mark.parametrize(("change", "code", "pointer"), BAD, ids=lambda told: str(told)[:40])
def test_refuses_bad_input_and_writes_nothing(api: Api, change: dict[str, Any], code: str, pointer: str) -> None:
    before = written()
    assert_problem(api.post("orders", order() | change), 422, code, pointer)
    assert written() == before


def test_refuses_what_is_not_json(api: Api) -> None:
    before = written()
    assert_problem(api.post("orders", raw=b"{"), 400, "invalid_json")
    assert_problem(api.post("orders", raw=b"[]"), 422, "invalid_request")
    assert_problem(api.post("orders", raw=b"a=1", content_type="text/plain"), 415, "unsupported_media_type")
    assert written() == before


def test_refuses_an_order_from_before_the_program(api: Api, program: Program) -> None:
    Program.objects.filter(pk=program.pk).update(start_date="2026-05-02")
    before = written()
    # The day begins at 23:00 UTC of the day before: the program is London's.
    assert_problem(api.post("orders", order(paid_at="2026-05-01T22:59:59Z")), 422, "before_program", "/paid_at")
    assert written() == before
    assert api.post("orders", order(paid_at="2026-05-01T23:00:00Z")).status == 201


def test_a_clock_that_is_a_little_ahead_is_accepted(api: Api) -> None:
    assert api.post("orders", order(paid_at="2026-06-01T12:05:00Z")).status == 201


def test_another_programs_member_and_order_are_unknown(api: Api, foreign_program: Program, make_key: MakeKey) -> None:
    enroll(foreign_program, "zoe")
    foreign = Api(make_key(program=foreign_program))
    assert foreign.post("orders", order("z1", member="zoe")).status == 201
    before = written()
    assert_problem(api.post("orders", order(member="zoe")), 422, "unknown_member", "/member")
    assert_problem(api.get("orders/z1"), 404, "unknown_order")
    assert_problem(api.post("orders/z1/cancel", {}), 404, "unknown_order")
    assert api.get("orders").json["results"] == []
    assert written() == before


def test_lists_orders_by_filters_and_pages(api: Api) -> None:
    api.post("orders", order("o1", market="uk", channel="web"))
    api.post("orders", order("o2", market="eu", channel="web", member="ben", paid_at="2026-05-03T10:00:00Z"))
    api.post("orders", order("o3", market="uk", channel="shop", paid_at="2026-05-05T10:00:00Z"))
    api.post("refunds", refund("r1", {**_all("a", 3, 4500)}, {**_all("b", 1, 1550)}))

    def names(**query: Any) -> list[str]:
        return [one["external_id"] for one in api.get("orders", **query).json["results"]]

    assert names() == ["o3", "o2", "o1"]
    assert names(member="ada") == ["o3", "o1"]
    assert names(member="nobody") == []
    assert names(market="uk", channel="web") == ["o1"]
    assert names(paid_from="2026-05-03T10:00:00Z") == ["o3", "o2"]
    assert names(paid_from="2026-05-01T10:00:00Z", paid_before="2026-05-03T11:00:00+01:00") == ["o1"]
    assert names(status="returned") == ["o1"]
    assert names(status="paid") == ["o3", "o2"]
    first = api.get("orders", limit=2).json
    assert [one["external_id"] for one in first["results"]] == ["o3", "o2"]
    following = api.call("GET", first["next"].removeprefix("http://testserver")).json
    assert ([one["external_id"] for one in following["results"]], following["next"]) == (["o1"], None)


def _all(name: str, units: int, minor: int) -> dict[str, Any]:
    return {"external_id": name, "order_line": name, "units": units, "amount_minor": minor}


@pytest.mark.parametrize(
    "query",
    [{"paid_from": "2026-05-01"}, {"paid_from": "2026-05-01T10:00:00"}, {"paid_from": "9999-12-31T23:59:59-14:00"},
     {"status": "open"}, {"colour": "red"}],
)  # fmt: skip
def test_refuses_filters_that_mean_nothing(api: Api, query: dict[str, str]) -> None:
    assert_problem(api.get("orders", **query), 400, "invalid_parameter")


def test_reading_takes_as_many_queries_for_many_rows_as_for_few(api: Api) -> None:
    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get(path).status == 200
        return len(queries)

    api.post("orders", order("o1"))
    api.post("refunds", refund("r1"))
    few = count("orders"), count("orders/o1"), count("refunds")
    for n in range(2, 8):
        api.post("orders", order(f"o{n}"))
        api.post("refunds", refund(f"r{n}", order=f"o{n}"))
    api.post("orders/o1/edits", _edit())
    api.post("refunds", refund("r9"))
    assert (count("orders"), count("orders/o1"), count("refunds")) == few


def _edit() -> dict[str, Any]:
    return {"external_id": "e1", "edited_at": "2026-05-02T10:00:00Z", "currency": "GBP", "lines": [line("c", 1, 100)]}
