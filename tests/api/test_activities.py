"""Activities over HTTP."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from tests.api.client import Api
from tests.api.shop import activity, assert_problem, enroll, points_of, written

pytestmark = pytest.mark.django_db

BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"member": "nobody"}, "unknown_member", "/member"),
    ({"member": None}, "invalid_request", "/member"),
    ({"kind": ""}, "invalid_request", "/kind"),
    ({"quality": 40_000}, "invalid_request", "/quality"),
    ({"occurred_at": "2026-05-01"}, "invalid_request", "/occurred_at"),
    ({"occurred_at": "2027-05-01T00:00:00Z"}, "in_future", "/occurred_at"),
]


@pytest.fixture(autouse=True)
def members(program: Program) -> None:
    enroll(program, "ada", "ben")


def test_records_an_activity_and_its_points(api: Api, program: Program) -> None:
    reply = api.post("activities", activity())
    assert reply.status == 201, reply.text
    assert reply.json["effect"]["points"] == [{"wallet": "points", "points": 50}]
    assert reply.json["activity"]["kind"] == "review"
    assert points_of(program) == 50


def test_the_same_activity_again_is_repeated(api: Api) -> None:
    first = api.post("activities", activity())
    before = written()
    again = api.post("activities", activity())
    assert (again.status, {**again.json, "outcome": "recorded"}) == (200, first.json)
    assert_problem(api.post("activities", activity(kind="share")), 409, "fact_conflict")
    assert written() == before


def test_its_key_is_the_members_and_the_sources(api: Api) -> None:
    api.post("activities", activity())
    assert api.post("activities", activity(member="ben")).status == 201
    assert api.post("activities", activity(source="app")).status == 201


def test_a_dry_run_writes_nothing(api: Api) -> None:
    before = written()
    reply = api.post("activities", activity(), query={"dry_run": "true"})
    assert (reply.status, reply.json["effect"]["points"]) == (200, [{"wallet": "points", "points": 50}])
    assert written() == before


@pytest.mark.parametrize(("change", "code", "pointer"), BAD, ids=lambda told: str(told)[:40])
def test_refuses_bad_input_and_writes_nothing(api: Api, change: dict[str, Any], code: str, pointer: str) -> None:
    before = written()
    assert_problem(api.post("activities", activity() | change), 422, code, pointer)
    assert written() == before


def test_lists_activities_by_filters_in_as_many_queries_for_many_as_for_few(api: Api) -> None:
    def read(**query: Any) -> tuple[list[str], int]:
        with CaptureQueriesContext(connection) as queries:
            rows = api.get("activities", **query).json["results"]
        return [one["external_id"] for one in rows], len(queries)

    api.post("activities", activity("v1"))
    _, few = read()
    api.post("activities", activity("v2", member="ben", kind="share"))
    api.post("activities", activity("v3", source="app", occurred_at="2026-05-02T00:00:00Z"))
    assert read() == (["v3", "v2", "v1"], few)
    assert read(member="ben")[0] == ["v2"]
    assert read(kind="review", source="app")[0] == ["v3"]
    assert read(occurred_from="2026-05-02T00:00:00Z")[0] == ["v3"]
