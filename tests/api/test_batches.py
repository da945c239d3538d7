"""Batches of facts: each item has a result of its own."""

from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from membership.models import Activity, Order, Refund
from membership.services.rebuild import find_day_mismatches
from tests.api.client import Api, in_parallel
from tests.api.shop import activity, assert_problem, back, enroll, line, order, points_of, refund, written

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def members(program: Program) -> None:
    enroll(program, "ada", "ben")


def outcomes(results: list[dict[str, Any]]) -> list[tuple[str | None, str, str | None]]:
    return [(one["external_id"], one["outcome"], one["problem"]["code"] if one["problem"] else None) for one in results]


def send(api: Api, kind: str, items: list[Any], **query: str) -> list[tuple[str | None, str, str | None]]:
    reply = api.post(f"{kind}/batch", {kind: items}, query=query)
    assert reply.status == 200, reply.text
    return outcomes(reply.json["results"])


def test_the_good_ones_are_kept_and_each_bad_one_says_why(api: Api, program: Program) -> None:
    api.post("orders", order("o0"))
    items: list[Any] = [
        order("o1"),
        order("o2", line("a", -1, 100)),
        order("o3", member="nobody"),
        order("o0"),
        "no order",
        order("o4", currency="EUR"),
        order("o1"),
        order("o0", channel="shop"),
        order("o5", paid_at="2026-05-01T10:00:00"),
        order("o6", member="ben"),
        order("o6"),
    ]
    assert send(api, "orders", items) == [
        ("o1", "recorded", None),
        ("o2", "refused", "invalid_request"),
        ("o3", "refused", "unknown_member"),
        ("o0", "repeated", None),
        (None, "refused", "invalid_request"),
        ("o4", "refused", "wrong_currency"),
        ("o1", "repeated", None),
        ("o0", "refused", "fact_conflict"),
        ("o5", "refused", "invalid_request"),
        ("o6", "recorded", None),
        ("o6", "refused", "fact_conflict"),
    ]
    assert sorted(Order.objects.values_list("external_id", "member__external_id")) == [
        ("o0", "ada"), ("o1", "ada"), ("o6", "ben"),
    ]  # fmt: skip
    assert points_of(program, "ben") == 60
    assert find_day_mismatches(program) == []


def test_a_refused_item_names_the_place_within_itself(api: Api) -> None:
    reply = api.post("orders/batch", {"orders": [order("o1"), order("o2", line("a", 1, 5), line("b", 0, 5))]})
    problem = reply.json["results"][1]["problem"]
    assert (problem["status"], problem["errors"][0]["pointer"]) == (422, "/lines/1/units")


def test_the_same_batch_again_is_repeated(api: Api) -> None:
    items = [order(f"o{n}") for n in range(5)]
    assert {status for _, status, _ in send(api, "orders", items)} == {"recorded"}
    before = written()
    assert {status for _, status, _ in send(api, "orders", items)} == {"repeated"}
    assert written() == before


def test_refunds_in_a_batch(api: Api) -> None:
    api.post("orders", order("o1"))
    items = [
        refund("r1", back("a", 2, 3000)),
        refund("r2", back("a", 2, 3000)),
        refund("r3", order="o9"),
        refund("r4", back("a", 1, 1500)),
        refund("r1", back("a", 2, 3000)),
    ]
    assert send(api, "refunds", items) == [
        ("r1", "recorded", None),
        ("r2", "refused", "too_many_units"),
        ("r3", "refused", "unknown_order"),
        ("r4", "recorded", None),
        ("r1", "repeated", None),
    ]
    assert sorted(Refund.objects.values_list("external_id", flat=True)) == ["r1", "r4"]


def test_activities_in_a_batch(api: Api) -> None:
    items = [activity("v1"), activity("v1", source="app"), activity("v1", kind="share"), activity("v2", member="zoe")]
    assert send(api, "activities", items) == [
        ("v1", "recorded", None),
        ("v1", "recorded", None),
        ("v1", "refused", "fact_conflict"),
        ("v2", "refused", "unknown_member"),
    ]
    assert Activity.objects.count() == 2


def test_a_dry_run_writes_nothing(api: Api) -> None:
    before = written()
    items = [order("o1"), order("o2", member="nobody"), order("o3")]
    assert [status for _, status, _ in send(api, "orders", items, dry_run="true")] == [
        "recorded",
        "refused",
        "recorded",
    ]
    assert written() == before


@pytest.mark.parametrize("items", [[], [{}] * 1001, "x", None])
def test_refuses_a_batch_that_is_none(api: Api, items: Any) -> None:
    assert_problem(api.post("orders/batch", {"orders": items}), 422, "invalid_request", "/orders")


def test_a_good_batch_takes_as_many_queries_whatever_its_size(api: Api) -> None:
    def count(first: int, last: int) -> int:
        items = [order(f"o{n}", member="ada" if n % 2 else "ben") for n in range(first, last)]
        with CaptureQueriesContext(connection) as queries:
            assert api.post("orders/batch", {"orders": items}).status == 200
        return len(queries)

    count(0, 40)  # from here on no tier moves
    few = count(40, 42)
    assert count(42, 62) == few


@pytest.mark.django_db(transaction=True)
def test_batches_that_overlap_count_each_fact_once(api: Api, program: Program) -> None:
    names = [f"o{n:02}" for n in range(20)]
    batches = [[order(name) for name in names[n : n + 14]] for n in (0, 3, 6)]
    batches.append(list(reversed(batches[1])))
    replies = in_parallel([partial(send, api, "orders", items) for items in batches])
    assert sum(status == "recorded" for results in replies for _, status, _ in results) == 20
    assert Order.objects.count() == 20
    assert find_day_mismatches(program) == []
