"""Corrections of orders over HTTP."""

from typing import Any

import pytest

from core.models import AuditEntry, Program, Scope
from membership.models import FactCorrection
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.api.shop import PAID, assert_problem, enroll, line, order, refund, written

pytestmark = pytest.mark.django_db

PATH = "orders/o1/corrections"
RIGHT: dict[str, Any] = {
    "external_id": "c1", "reason": "the till was wrong", "paid_at": "2026-04-30T10:00:00Z", "amount_minor": 6550,
    "lines": [{"external_id": "b", "amount_minor": 2050}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def told(program: Program, api: Api) -> None:
    enroll(program, "ada")
    assert api.post("orders", order()).status == 201
    assert api.post("refunds", refund()).status == 201


def state() -> list[Any]:
    return [written(), FactCorrection.objects.count(), AuditEntry.objects.count()]


def test_corrects_an_order_and_says_what_it_was(api: Api) -> None:
    reply = api.post(PATH, RIGHT)
    assert reply.status == 201, reply.text
    shown = reply.json["order"]
    assert (shown["paid_at"], shown["amount_minor"]) == ("2026-04-30T10:00:00Z", 6550)
    assert [one["amount_minor"] for one in shown["lines"]] == [4500, 2050]
    (correction,) = reply.json["corrections"]
    assert [correction[when]["amount_minor"] for when in ("before", "after")] == [6050, 6550]
    assert correction["before"]["lines"][1]["amount_minor"] == 1550
    again = api.post(PATH, RIGHT)
    assert (again.status, again.json | {"outcome": "recorded"}) == (200, reply.json)
    assert api.post("orders", order()).json["outcome"] == "repeated"
    assert AuditEntry.objects.filter(action="fact.corrected", target="member ada").count() == 1


def test_a_dry_run_writes_nothing(api: Api) -> None:
    before = state()
    reply = api.post(PATH, RIGHT, query={"dry_run": "true"})
    assert (reply.status, reply.json["order"]["amount_minor"]) == (200, 6550)
    assert state() == before


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"paid_at": PAID, "amount_minor": 6050, "lines": []}, 422, "nothing_corrected"),
    ({"amount_minor": 1000}, 422, "invalid_value"),
    ({"lines": [{"external_id": "z", "units": 1}]}, 422, "unknown_line"),
    ({"lines": [{"external_id": "a", "amount_minor": 1499}]}, 422, "more_than_paid"),
    ({"paid_at": "2026-05-11T00:00:00Z"}, 422, "before_order"),
    ({"paid_at": "2027-05-11T00:00:00Z"}, 422, "in_future"),
    ({"member": "ben"}, 422, "invalid_request"),
    ({"currency": "EUR"}, 422, "invalid_request"),
]


@pytest.mark.parametrize(("change", "status", "code"), BAD, ids=lambda told: str(told)[:40])
def test_refuses_what_cannot_be_right(api: Api, change: dict[str, Any], status: int, code: str) -> None:
    before = state()
    assert_problem(api.post(PATH, RIGHT | change), status, code)
    assert state() == before


def test_an_order_that_there_is_not_is_refused(api: Api) -> None:
    assert_problem(api.post("orders/o9/corrections", RIGHT), 404, "unknown_order")


def test_an_edited_order_is_not_corrected(api: Api) -> None:
    edit = {"external_id": "e1", "edited_at": PAID, "currency": "GBP", "lines": [line("c", 1, 100)]}
    assert api.post("orders/o1/edits", edit).status == 201
    before = state()
    assert_problem(api.post(PATH, RIGHT), 422, "order_edited")
    assert state() == before


def test_an_order_of_a_checkout_is_not_corrected(api: Api) -> None:
    basket = {"currency": "GBP", "lines": [{"external_id": "a", "units": 1, "list_minor": 500}]}
    checkout = api.post("checkouts", basket).json["id"]
    assert api.post(f"checkouts/{checkout}/hold").status == 200
    paid = order("o2", line("a", 1, 500), member=None, checkout=checkout, paid_at="2026-06-01T12:00:00Z")
    told = api.post("orders", paid)
    assert told.status == 201, told.text
    before = state()
    assert_problem(api.post("orders/o2/corrections", RIGHT | {"lines": []}), 422, "order_of_checkout")
    assert state() == before


def test_a_guests_order_is_corrected(api: Api) -> None:
    assert api.post("orders", order("o3", member=None)).status == 201
    assert api.post("orders/o3/corrections", RIGHT).status == 201


def test_a_key_without_the_scope_is_refused(make_key: MakeKey) -> None:
    reader = Api(make_key(Scope.FACTS_READ))
    before = state()
    assert reader.post(PATH, RIGHT).status == 403
    assert state() == before
