"""Qualifying credits by the API: they move tiers, once for each key, and are in the audit trail."""

from typing import Any

import pytest

from core.models import AuditEntry, Program
from core.versions import publish
from membership.models import Ladder, QualifyingCredit
from membership.services.rebuild import find_day_mismatches
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.api.shop import JOINED, PAID, assert_problem, enroll, written

pytestmark = pytest.mark.django_db

CREDIT = {"source": "event:42", "rule": "host", "credits": 3, "effective_at": PAID}


@pytest.fixture(autouse=True)
def ladder(program: Program) -> Ladder:
    """Three credits in a year give silver."""
    enroll(program, "ada")
    ladder = Ladder.objects.get(program=program, code="main")
    definition = ladder.versions.latest("number").definition
    for rank, tier in enumerate(definition["tiers"][1:], 1):
        needs = {"metric": "credits", "at_least": 3 * rank, "window": {"rolling_days": 365}}
        tier["entry"], tier["stay"] = {"any_of": [{"all_of": [needs]}]}, None
    publish(ladder, definition, at=JOINED)
    return ladder


def held(api: Api) -> Any:
    return api.get("members/ada/tiers").json["ladders"][0]["tier"]


def test_credits_give_the_tier_that_asks_for_them(api: Api, program: Program) -> None:
    before = held(api)
    told = api.post("members/ada/credits", CREDIT)
    assert (told.status, told.json["outcome"], told.json["credit"]["credits"]) == (201, "recorded", 3)
    (effect,) = [one for one in told.json["effect"]["tiers"] if one["ladder"] == "main"]
    assert effect["before"] == before != effect["after"] == held(api)
    assert find_day_mismatches(program) == []
    assert [one["source"] for one in api.get("members/ada/credits").json["results"]] == ["event:42"]


def test_the_same_credits_count_once_and_others_under_their_key_are_refused(api: Api) -> None:
    api.post("members/ada/credits", CREDIT)
    before = written()
    again = api.post("members/ada/credits", CREDIT)
    assert (again.status, again.json["outcome"]) == (200, "repeated")
    assert_problem(api.post("members/ada/credits", CREDIT | {"credits": 4}), 409, "fact_conflict")
    assert written() == before
    assert QualifyingCredit.objects.get().credits == 3
    assert AuditEntry.objects.filter(action="credit.recorded").count() == 1


def test_credits_are_in_the_trail(api: Api) -> None:
    api.post("members/ada/credits", CREDIT)
    entry = AuditEntry.objects.get(action="credit.recorded")
    assert (entry.target, (entry.after or {})["credits"]) == ("member ada", 3)
    assert entry.actor.startswith("key ")


def test_a_dry_run_of_credits_writes_nothing(api: Api) -> None:
    before = written()
    tried = api.post("members/ada/credits", CREDIT, query={"dry_run": "true"})
    assert (tried.status, tried.json["outcome"]) == (200, "recorded")
    assert written() == before
    assert not QualifyingCredit.objects.exists()


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"credits": 2**31}, "invalid_request", "/credits"),
        ({"credits": "3"}, "invalid_request", "/credits"),
        ({"source": ""}, "invalid_request", "/source"),
        ({"effective_at": "2026-07-01T12:00:00Z"}, "in_future", "/effective_at"),
        ({"kind": "x"}, "invalid_request", "/kind"),
    ],
)
def test_what_cannot_be_is_refused(api: Api, change: dict[str, Any], code: str, pointer: str) -> None:
    assert_problem(api.post("members/ada/credits", CREDIT | change), 422, code, pointer)
    assert not QualifyingCredit.objects.exists()


def test_only_who_may_record_facts_gives_credits(program: Program, make_key: MakeKey) -> None:
    assert Api(make_key("points:adjust")).post("members/ada/credits", CREDIT).status == 403
    assert Api(make_key("facts:write")).post("members/zoe/credits", CREDIT).code == "unknown_member"
