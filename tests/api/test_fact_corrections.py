"""Corrections of facts over HTTP."""

from typing import Any

import pytest

from core.models import AuditEntry, Program, Scope
from membership.models import FactCorrection
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.api.shop import LATER, PAID, activity, assert_problem, enroll, written

pytestmark = pytest.mark.django_db

PATH = "activities/v1/corrections"
KIND: dict[str, Any] = {
    "external_id": "c1", "member": "ada", "source": "web", "reason": "the till was wrong", "kind": "share"
}  # fmt: skip
VOID = {"external_id": "c1", "member": "ada", "source": "web", "reason": "a test", "void": True}


@pytest.fixture(autouse=True)
def told(program: Program, api: Api) -> None:
    enroll(program, "ada", "ben")
    assert api.post("activities", activity()).status == 201


def state() -> list[Any]:
    return [written(), FactCorrection.objects.count(), AuditEntry.objects.count()]


def test_corrects_an_activity_and_says_what_it_was(api: Api) -> None:
    reply = api.post(PATH, KIND)
    assert reply.status == 201, reply.text
    assert reply.json["outcome"] == "recorded"
    assert (reply.json["activity"]["kind"], reply.json["activity"]["voided_at"]) == ("share", None)
    (correction,) = reply.json["corrections"]
    assert (correction["number"], correction["external_id"]) == (1, "c1")
    assert correction["reason"] == "the till was wrong"
    assert [correction[when]["kind"] for when in ("before", "after")] == ["review", "share"]
    assert reply.json["effect"]["points"] == [{"wallet": "points", "points": 50}]  # the close takes them back
    assert api.get("activities").json["results"][0]["kind"] == "share"
    assert api.get("activities", kind="review").json["results"] == []


def test_says_that_it_never_happened(api: Api) -> None:
    reply = api.post(PATH, VOID)
    assert reply.status == 201, reply.text
    assert reply.json["activity"]["voided_at"] is not None
    assert api.get("activities").json["results"][0]["voided_at"] == reply.json["activity"]["voided_at"]


def test_told_again_it_is_repeated_and_other_content_refused(api: Api) -> None:
    first = api.post(PATH, KIND)
    before = state()
    again = api.post(PATH, KIND)
    assert (again.status, again.json | {"outcome": "recorded"}) == (200, first.json)
    assert_problem(api.post(PATH, KIND | {"kind": "visit"}), 409, "fact_conflict")
    assert state() == before


def test_with_an_idempotency_key_the_answer_is_the_first_one(api: Api) -> None:
    first = api.post(PATH, KIND, key="k")
    again = api.post(PATH, KIND, key="k")
    assert (again.status, again.text) == (first.status, first.text) == (201, first.text)


def test_a_dry_run_writes_nothing(api: Api) -> None:
    before = state()
    reply = api.post(PATH, KIND, query={"dry_run": "true"})
    assert (reply.status, reply.json["activity"]["kind"]) == (200, "share")
    assert state() == before


BAD: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"kind": None}, 422, "nothing_corrected", None),
    ({"kind": "review"}, 422, "nothing_corrected", None),
    ({"kind": None, "occurred_at": PAID}, 422, "nothing_corrected", None),
    ({"kind": ""}, 422, "invalid_request", "/kind"),
    ({"reason": " "}, 422, "invalid_request", "/reason"),
    ({"occurred_at": "2027-05-01T00:00:00Z"}, 422, "in_future", "/occurred_at"),
    ({"occurred_at": "2026-05-01"}, 422, "invalid_request", "/occurred_at"),
    ({"void": True}, 422, "invalid_value", "/void"),
    ({"void": "yes"}, 422, "invalid_request", "/void"),
    ({"quality": 3}, 422, "invalid_request", "/quality"),
    ({"member": "ben"}, 404, "unknown_activity", None),
    ({"source": ""}, 404, "unknown_activity", None),
]


@pytest.mark.parametrize(("change", "status", "code", "pointer"), BAD, ids=lambda told: str(told)[:40])
def test_refuses_what_cannot_be_right(
    api: Api, change: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    before = state()
    reply = api.post(PATH, KIND | change)
    if pointer is None:
        assert_problem(reply, status, code)
    else:
        assert_problem(reply, status, code, pointer)
    assert state() == before


def test_a_void_activity_is_not_corrected(api: Api) -> None:
    api.post(PATH, VOID)
    before = state()
    assert_problem(api.post(PATH, KIND | {"external_id": "c2", "occurred_at": LATER}), 422, "fact_void")
    assert state() == before


def test_a_key_without_the_scope_is_refused(make_key: MakeKey) -> None:
    reader = Api(make_key(Scope.FACTS_READ))
    before = state()
    assert reader.post(PATH, KIND).status == 403
    assert state() == before
