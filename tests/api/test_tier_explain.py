"""Why a tier is held and why another one is not, in sentences and in numbers, from the facts that count."""

from typing import Any

import pytest
from django.utils.translation import override as language

from core.models import Program
from core.versions import publish
from membership import explain
from membership.fact_inputs import MemberInput
from membership.models import Ladder, Member
from membership.services import members
from membership.services.tiers import apply_dirty, evaluate, list_due
from membership.stories import find_story
from tests.api.client import Api
from tests.api.conftest import NOW, Clock
from tests.storefront.shop import DAY, order, refund, review, tell

pytestmark = pytest.mark.django_db

JOINED = NOW - 100 * DAY
EXPLAIN = "members/ada/tiers/main/explain"


@pytest.fixture
def ada(program: Program) -> int:
    told = MemberInput(external_id="ada", joined_at=JOINED)
    return members.enroll_members(program=program, members=[told], at=JOINED).ids["ada"]


def told(api: Api, **query: Any) -> dict[str, Any]:
    reply = api.get(EXPLAIN, **query)
    assert reply.status == 200, reply.text
    return dict(reply.json)


def close(program: Program, at: Any) -> None:
    ladder = Ladder.objects.select_related("program").get(program=program)
    apply_dirty(ladder=ladder, at=at)
    for instant in list_due(ladder=ladder, until=at):
        ladder.refresh_from_db()
        evaluate(ladder=ladder, instant=instant, at=at)


def test_why_not_gold_names_the_nearest_way_first(api: Api, ada: int, program: Program) -> None:
    tell(program, order("o1", (1, 148_800), at=NOW - 10 * DAY, member="ada"))
    found = told(api, tier="gold")
    assert (found["tier"], found["is_held"], found["standing"]["tier"]) == ("gold", False, "silver")
    spend, *others = found["sentences"]
    assert spend == (
        "Gold needs GBP 1,500.00 net spend in the last 365 days; you have GBP 1,488.00: "
        "GBP 12.00 short, until 2027-05-21."
    )
    assert others == [
        "Another way: Gold needs 8 orders in the last 365 days; you have 1 order: 7 orders short, until 2027-05-21.",
        "The order or activity that brings what is missing moves you up at once.",
    ]
    assert found["step"]["nearest"] == 0
    assert found["step"]["any_of"][0][0]["missing"] == 1_200
    assert (found["ladder_version"], found["upgrade"], found["language"]) == (1, "immediate", "en")
    assert found["standing"]["next_evaluation_at"] == "2026-06-30T23:00:00Z"
    assert found["facts"] == [
        {"kind": "order", "external_id": "o1", "at": "2026-05-22T12:00:00Z", "value": 148_800}
    ]  # fmt: skip


def test_the_latest_facts_that_count_are_named(api: Api, ada: int, program: Program) -> None:
    tell(program, *(order(f"o{n}", (1, 1_000), at=NOW - n * DAY, member="ada") for n in range(1, 8)))
    tell(program, order("old", (1, 1_000), at=NOW - 400 * DAY, member="ada"))
    tell(program, refund("r1", ("o7.1", 1, 1_000), at=NOW - 3 * DAY, member="ada"))
    tell(program, review("v1", at=NOW - DAY, member="ada"))
    found = told(api, tier="diamond")
    assert [(fact["kind"], fact["external_id"]) for fact in found["facts"]] == [
        ("order", "o1"), ("order", "o2"), ("order", "o3"), ("refund", "r1"), ("order", "o4"), ("order", "o5"),
    ]  # fmt: skip


def test_why_this_tier_names_what_decided(api: Api, ada: int, program: Program) -> None:
    tell(program, order("o1", (1, 20_000), at=NOW - 10 * DAY, member="ada"))
    tell(program, order("o2", (1, 1_000), at=NOW - 9 * DAY, member="ada"))
    found = told(api)
    assert found["is_held"]
    assert found["sentences"] == [
        "You have been in Bronze since 2026-05-22.",
        "Bronze needs GBP 150.00 net spend in the last 365 days; you had GBP 200.00 then.",
        "Version 1 of the ladder Aurora tiers decided.",
        "What Bronze needs at the evaluation of 2026-07-01 is there already.",
    ]
    assert [fact["external_id"] for fact in found["facts"]] == ["o1"]
    assert found["standing"]["since"] == "2026-05-22T12:00:00.000001Z"


def test_a_lower_tier_is_left_for_a_higher_one(api: Api, ada: int, program: Program) -> None:
    tell(program, order("o1", (1, 60_000), at=NOW - 10 * DAY, member="ada"))
    assert told(api, tier="bronze")["sentences"] == ["You have Silver, which is above Bronze."]
    assert told(api, tier="bronze")["step"] is None


def test_the_past_is_explained_by_what_counted_then(api: Api, ada: int, program: Program) -> None:
    tell(program, order("o1", (1, 20_000), at=NOW - 10 * DAY, member="ada"))
    at = "2026-05-21T12:00:00Z"
    assert told(api, at=at)["sentences"] == [
        "You have been in Ivory since 2026-02-21.",
        "Everyone begins in Ivory.",
    ]
    why_not = told(api, at=at, tier="bronze")
    assert why_not["sentences"][0] == (
        "Bronze needs GBP 150.00 net spend in the last 365 days; you have GBP 0.00: GBP 150.00 short."
    )
    assert why_not["facts"] == []


def test_a_lost_tier_names_what_was_short(api: Api, ada: int, program: Program, clock: Clock) -> None:
    tell(program, order("o1", (1, 20_000), at=NOW - 10 * DAY, member="ada"))
    clock(NOW + 400 * DAY)
    close(program, NOW + 400 * DAY)
    sentences = told(api)["sentences"]
    assert sentences[:2] == [
        "You have been in Ivory since 2027-06-01.",
        "Bronze needs GBP 150.00 net spend in the last 365 days; you had GBP 0.00 then: GBP 150.00 short.",
    ]


def test_a_decision_of_the_shop_is_told_without_its_reason(api: Api, ada: int, program: Program, clock: Clock) -> None:
    body = {"tier": "gold", "valid_until": "2026-09-01T00:00:00Z", "reason": "very private"}
    assert api.post("members/ada/tiers/main/override", body, key="k").status == 201
    assert told(api)["sentences"] == [
        "You have been in Gold since 2026-06-01.",
        "The shop decided to give you Gold until 2026-09-01, whatever you buy meanwhile.",
    ]
    assert "Until 2026-09-01 a decision of the shop holds you in Gold." in told(api, tier="diamond")["sentences"]
    assert "very private" not in api.get(EXPLAIN).text + api.get("members/ada/tiers").text
    clock(NOW + 100 * DAY)
    close(program, NOW + 100 * DAY)
    assert told(api)["sentences"][1] == (
        "On that day a decision of the shop about your tier ended; Ivory is what your purchases gave."
    )


def test_an_undone_upgrade_says_so(api: Api, ada: int, program: Program, clock: Clock) -> None:
    tell(program, order("o1", (1, 20_000), at=NOW - 10 * DAY, member="ada"))
    tell(program, refund("r1", ("o1.1", 1, 20_000), at=NOW - 5 * DAY, member="ada"))
    close(program, NOW)
    assert told(api)["sentences"][1] == "An upgrade was undone, because orders that it counted came back."


def test_where_only_evaluations_move_the_next_one_decides(ada: int, program: Program) -> None:
    ladder = Ladder.objects.select_related("program").get(program=program)
    definition = ladder.versions.get().definition | {"upgrade": "at_evaluation", "minimum_stay_days": 90}
    publish(ladder, definition, at=NOW - 90 * DAY)
    program.refresh_from_db()
    tell(program, order("o1", (1, 20_000), at=NOW - 80 * DAY, member="ada"))
    story = find_story(program=program, member_id=ada, ladder="main", at=NOW - 79 * DAY)
    assert story is not None
    assert explain.explain_not_held(story, "bronze") == [
        "Bronze needs GBP 150.00 net spend in the last 365 days; you have GBP 200.00, which is enough.",
        "Another way: Bronze needs 2 orders in the last 365 days; you have 1 order: 1 order short, until 2026-03-31.",
        "The evaluation of 2026-04-01 decides.",
    ]
    close(program, NOW)
    story = find_story(program=program, member_id=ada, ladder="main", at=NOW)
    assert story is not None
    assert "Until 2026-06-30 nothing takes it away but the return of the orders that gave it." in explain.explain_held(
        story
    )
    assert "Version 2 of the ladder Aurora tiers decided." in explain.explain_held(story)


def test_sentences_are_made_in_the_language_asked_for(api: Api, ada: int, program: Program) -> None:
    reply = api.call("GET", EXPLAIN, headers={"Accept-Language": "zh-hans"})
    assert (reply.status, reply.json["language"]) == (200, "zh-hans")
    story = find_story(program=program, member_id=ada, ladder="main", at=NOW)
    assert story is not None
    with language("zh-hans"):
        assert explain.show_day(NOW.date()) == "2026年6月1日"


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        (EXPLAIN, {"tier": "tin"}, 400, "unknown_tier"),
        (EXPLAIN, {"tier": "No Code"}, 400, "invalid_parameter"),
        (EXPLAIN, {"at": "yesterday"}, 400, "invalid_parameter"),
        (EXPLAIN, {"at": "9999-12-31T23:59:59Z"}, 400, "invalid_parameter"),
        (EXPLAIN, {"at": "2020-01-01T00:00:00Z"}, 404, "no_tier"),
        ("members/ada/tiers/club/explain", {}, 404, "unknown_ladder"),
        ("members/eve/tiers/main/explain", {}, 404, "unknown_member"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    api: Api, ada: int, path: str, query: dict[str, str], status: int, code: str
) -> None:
    reply = api.get(path, **query)
    assert (reply.status, reply.code) == (status, code)
    assert Member.objects.count() == 1
