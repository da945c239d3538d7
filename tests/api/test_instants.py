"""Wherever an instant or a day comes in, it has one form; another is refused where it stands."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from core.models import Program
from membership.models import Member
from storefront.replay.files import Problem, iter_rows
from tests.api import shop
from tests.api.client import Api, Reply

NO_INSTANTS = [2026, 1772366400, "2026", "1772366400", "20260501T100000Z", "2026-05-01", "2026-05-01T10:00:00"]
NO_DAYS = [2000, 946684800, "2000", "20000101", "2000-01", "2000-01-01T00:00:00Z"]
REASON = "is not an instant of RFC 3339 with its zone"

Send = Callable[[Api, Any], Reply]


def order_with(value: Any) -> dict[str, Any]:
    return shop.order(paid_at=value)


BODIES: dict[str, tuple[Send, str]] = {
    "order": (lambda api, value: api.post("orders", order_with(value)), "/paid_at"),
    "refund": (lambda api, value: api.post("refunds", shop.refund(refunded_at=value)), "/refunded_at"),
    "activity": (lambda api, value: api.post("activities", shop.activity(occurred_at=value)), "/occurred_at"),
    "member": (lambda api, value: api.post("members", {"external_id": "eve", "joined_at": value}), "/joined_at"),
    "override": (
        lambda api, value: api.post(
            "members/ada/tiers/main/override", {"tier": "gold", "valid_until": value, "reason": "x"}, key="k"
        ),
        "/valid_until",
    ),
}
QUERIES: dict[str, str] = {
    "members/ada/tiers": "at",
    "members/ada/tiers/main/explain": "at",
    "members/ada/tiers/main/history": "known_at",
    "orders": "paid_from",
    "refunds": "refunded_before",
    "activities": "occurred_from",
    "members": "joined_before",
}


@pytest.fixture(autouse=True)
def ada(program: Program) -> None:
    shop.enroll(program, "ada")


@pytest.mark.django_db
@pytest.mark.parametrize("value", NO_INSTANTS)
@pytest.mark.parametrize("place", BODIES)
def test_a_body_with_another_form_of_instant_is_refused(api: Api, place: str, value: Any) -> None:
    send, pointer = BODIES[place]
    before = shop.written()
    reply = send(api, value)
    shop.assert_problem(reply, 422, "invalid_request", pointer)
    assert REASON in reply.json["errors"][0]["detail"]
    assert shop.written() == before
    assert not Member.objects.filter(external_id="eve").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("value", NO_DAYS)
def test_a_body_with_another_form_of_day_is_refused(api: Api, value: Any) -> None:
    for reply in (api.post("members", {"external_id": "eve", "birthday": value}),
                  api.patch("members/ada", {"birthday": value})):  # fmt: skip
        shop.assert_problem(reply, 422, "invalid_request", "/birthday")
        assert "is not a day such as 2026-03-01" in reply.json["errors"][0]["detail"]
    assert not Member.objects.filter(external_id="eve").exists()
    assert Member.objects.get().birthday is None


@pytest.mark.django_db
@pytest.mark.parametrize("value", [value for value in NO_INSTANTS if isinstance(value, str)])
@pytest.mark.parametrize("path", QUERIES)
def test_a_query_with_another_form_of_instant_is_refused(api: Api, path: str, value: str) -> None:
    name = QUERIES[path]
    reply = api.get(path, **{name: value})
    shop.assert_problem(reply, 400, "invalid_parameter", f"/{name}")
    assert "an instant of RFC 3339 with its zone" in reply.json["errors"][0]["detail"]


@pytest.mark.django_db
def test_in_a_batch_the_item_alone_is_refused(api: Api) -> None:
    reply = api.post("orders/batch", {"orders": [order_with("2026"), shop.order("o2")]})
    assert [result["outcome"] for result in reply.json["results"]] == ["refused", "recorded"]
    assert reply.json["results"][0]["problem"]["errors"][0]["pointer"] == "/paid_at"


@pytest.mark.parametrize("value", [str(value) for value in NO_INSTANTS])
def test_a_row_of_a_replay_with_another_form_of_instant_is_malformed(tmp_path: Path, value: str) -> None:
    with gzip.open(tmp_path / "orders.csv.gz", "wt", newline="") as out:
        csv.writer(out).writerows(
            [["order_id", "member_id", "ordered_at", "amount", "currency"], ["o", "m", value, "1", "GBP"]]
        )
    (problem,) = iter_rows(tmp_path, "orders")
    assert isinstance(problem, Problem)
    assert (problem.line, problem.column) == (2, "ordered_at")
    assert REASON in problem.reason


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["2026", "20260501", "2026-05-01T00:00:00Z", "yesterday"])
def test_a_command_refuses_another_form_of_day(value: str) -> None:
    with pytest.raises(CommandError, match=r"argument --day: '.*' is not a day such as 2026-03-01"):
        call_command("close_day", "--day", value)


ENDS = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]


@pytest.mark.django_db
@pytest.mark.parametrize("value", ENDS)
def test_the_ends_of_the_calendar_are_answered_or_refused_where_they_stand(api: Api, value: str) -> None:
    bodies = [send(api, value) for send, _pointer in BODIES.values()]
    queries = [api.get(path, **{name: value}) for path, name in (QUERIES | MORE_QUERIES).items()]
    line = {"external_id": "1", "sku": "mug", "units": 1, "amount_minor": 500}
    preview = api.post("members/ada/points/preview", {"at": value, "currency": "GBP", "lines": [line]})
    assert [reply.text for reply in (*bodies, *queries, preview) if reply.status >= 500] == []
    assert all(reply.status == 422 for reply in bodies if reply.status >= 400)


MORE_QUERIES = {"members/ada/points": "at"}


@pytest.mark.django_db
@pytest.mark.parametrize("months", [("0001-01", "0001-02"), ("9999-11", "9999-12"), ("0001-01", "9999-12")])
def test_months_at_the_ends_of_the_calendar_are_answered_or_refused(
    api: Api, months: tuple[str, str], program: Program
) -> None:
    since, until = months
    reports = ("active-rate", "cohorts", "day-n", "survival", "migration", "repurchase", "restatements")
    replies = [api.get(f"retention/{name}", **{"from": since, "to": until}) for name in reports]
    assert [reply.text for reply in replies if reply.status >= 500] == []
