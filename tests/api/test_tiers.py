"""Ladders and members' tiers over HTTP: held now and then, known now and then, the way up, decisions of the shop."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import AuditEntry, IdempotencyRecord, Program, Scope
from membership.fact_inputs import MemberInput
from membership.models import Ladder, TierOverride, TierPeriod
from membership.services import members
from membership.services.tiers import evaluate, list_due
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW, Clock, MakeKey
from tests.storefront.shop import DAY, order, tell

pytestmark = pytest.mark.django_db

JOINED = NOW - 100 * DAY
GOLD = {"tier": "gold", "valid_until": "2026-09-01T00:00:00Z", "reason": "a complaint"}
OVERRIDE = "members/ada/tiers/main/override"


@pytest.fixture
def ada(program: Program) -> int:
    told = MemberInput(external_id="ada", joined_at=JOINED)
    return members.enroll_members(program=program, members=[told], at=JOINED).ids["ada"]


@pytest.fixture
def token(api: Api, ada: int) -> Api:
    return Api(api.post("members/ada/tokens").json["token"])


def standing(api: Api, **query: Any) -> dict[str, Any]:
    reply = api.get("members/ada/tiers", **query)
    assert reply.status == 200, reply.text
    (found,) = reply.json["ladders"]
    return dict(found)


def test_a_ladder_says_what_its_tiers_need_and_give(api: Api) -> None:
    (listed,) = api.get("ladders").json["results"]
    ladder = api.get("ladders/main").json
    assert listed == ladder
    assert (ladder["code"], ladder["version"], ladder["upgrade"], ladder["effective_at"]) == (
        "main",
        1,
        "immediate",
        None,
    )
    assert ladder["next_evaluation_at"] == "2026-06-30T23:00:00Z"
    assert [tier["code"] for tier in ladder["tiers"]][:3] == ["ivory", "bronze", "silver"]
    ivory, *_, diamond = ladder["tiers"]
    assert (ivory["entry"], ivory["benefits"]) == (
        [],
        {"points_multiplier_bps": 10_000, "discount_bps": None, "free_shipping": False},
    )
    assert [need["text"] for need in diamond["entry"][1]] == [
        "32 orders in the last 365 days",
        "GBP 5,000.00 net spend in the last 365 days",
    ]
    assert diamond["entry"][0][0] == {
        "metric": "net_spend", "window": "rolling_365", "at_least": 1_000_000, "currency": "GBP",
        "text": "GBP 10,000.00 net spend in the last 365 days",
    }  # fmt: skip


def test_a_member_sees_the_way_up(api: Api, ada: int, program: Program) -> None:
    tell(program, order("o1", (1, 13_800), at=NOW - 10 * DAY, member="ada"))
    found = standing(api)
    assert (found["ladder"], found["tier"], found["name"], found["cause"]) == ("main", "ivory", "Ivory", "enrolled")
    assert (found["since"], found["guaranteed_until"]) == ("2026-02-21T12:00:00Z", None)
    assert found["next_evaluation_at"] == "2026-06-30T23:00:00Z"
    assert found["stay"] == {"tier": "ivory", "name": "Ivory", "is_met": True, "any_of": [], "nearest": None}
    bronze = found["above"][0]
    assert (bronze["tier"], bronze["name"], bronze["is_met"], bronze["nearest"]) == ("bronze", "Bronze", False, 0)
    ((spend,), (orders,)) = bronze["any_of"]
    assert spend == {
        "metric": "net_spend", "window": "rolling_365", "currency": "GBP", "has": 13_800, "at_least": 15_000,
        "missing": 1_200, "by": "2027-05-21", "text": "GBP 12.00 by 2027-05-21",
    }  # fmt: skip
    assert (orders["missing"], orders["currency"], orders["text"]) == (1, None, "1 order by 2027-05-21")
    assert [step["tier"] for step in found["above"]] == ["bronze", "silver", "gold", "platinum", "diamond"]


def test_a_member_without_facts_has_a_way_too(api: Api, ada: int) -> None:
    ((spend,), _) = standing(api)["above"][0]["any_of"]
    assert (spend["has"], spend["by"], spend["text"]) == (0, None, "GBP 150.00")


def test_tiers_are_read_as_of_then_and_as_known_then(api: Api, ada: int, program: Program) -> None:
    tell(program, order("o1", (1, 20_000), at=NOW - 10 * DAY, member="ada"))
    assert standing(api)["tier"] == "bronze"
    before = standing(api, at=(NOW - 11 * DAY).isoformat().replace("+00:00", "Z"))
    assert (before["tier"], before["stay"], before["above"], before["next_evaluation_at"]) == (
        "ivory",
        None,
        None,
        None,
    )
    assert standing(api, at="2026-05-22T13:00:00Z")["tier"] == "bronze"
    assert standing(api, at="2026-05-22T13:00:00Z", known_at="2026-05-31T00:00:00Z")["tier"] == "ivory"
    assert api.get("members/ada/tiers", at="2020-01-01T00:00:00Z").json["ladders"] == []


def test_the_history_says_when_why_and_by_which_version(api: Api, ada: int, program: Program) -> None:
    tell(program, order("o1", (1, 20_000), at=NOW - 10 * DAY, member="ada"))
    latest, first = api.get("members/ada/tiers/main/history").json["results"]
    assert (latest["tier"], latest["cause"], latest["valid_from"]) == (
        "bronze",
        "upgraded",
        "2026-05-22T12:00:00.000001Z",
    )
    assert (latest["valid_to"], latest["version"], latest["evidence"]["net_spend:rolling_365"]) == (None, 1, 20_000)
    assert (first["tier"], first["valid_to"]) == ("ivory", latest["valid_from"])
    known = api.get("members/ada/tiers/main/history", known_at="2026-05-31T00:00:00Z").json["results"]
    assert [(row["tier"], row["valid_to"]) for row in known] == [("ivory", None)]
    page = api.get("members/ada/tiers/main/history", limit=1).json
    following = api.get(page["next"].removeprefix("http://testserver")).json
    assert [row["tier"] for row in page["results"] + following["results"]] == ["bronze", "ivory"]
    assert following["results"][0]["valid_to"] == latest["valid_from"]


def test_reading_tiers_costs_the_same_few_queries_whatever_the_ladder_asks(
    api: Api, ada: int, program: Program
) -> None:
    tell(program, order("o1", (1, 20_000), at=NOW - 10 * DAY, member="ada"))
    standing(api)
    with CaptureQueriesContext(connection) as queries:
        standing(api)
    texts = [query["sql"] for query in queries if "membership_" in query["sql"]]
    assert len(texts) == 3, texts  # the member, the periods, the metrics


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("members/eve/tiers", {}, 404, "unknown_member"),
        ("members/ada/tiers", {"at": "2026-05-01"}, 400, "invalid_parameter"),
        ("members/ada/tiers", {"at": "2026-05-01T00:00:00"}, 400, "invalid_parameter"),
        ("members/ada/tiers", {"at": "0001-01-01T00:00:00+14:00"}, 400, "invalid_parameter"),
        ("members/ada/tiers", {"when": "now"}, 400, "invalid_parameter"),
        ("members/ada/tiers/club/history", {}, 404, "unknown_ladder"),
        ("members/ada/tiers/main/history", {"known_at": "2026-05-01T00:00:00"}, 400, "invalid_parameter"),
        ("members/ada/tiers/main/history", {"at": "2026-05-01T00:00:00Z"}, 400, "invalid_parameter"),
        ("ladders/club", {}, 404, "unknown_ladder"),
    ],
)
def test_what_cannot_be_read_is_refused(
    api: Api, ada: int, path: str, query: dict[str, str], status: int, code: str
) -> None:
    reply = api.get(path, **query)
    assert (reply.status, reply.code) == (status, code)


def test_a_token_reads_its_members_tiers_and_decides_nothing(api: Api, token: Api, program: Program) -> None:
    members.enroll_members(program=program, members=[MemberInput(external_id="ben", joined_at=JOINED)], at=NOW)
    assert token.get("members/ada/tiers").status == token.get("ladders/main").status == 200
    assert token.get("members/ada/tiers/main/history").status == 200
    assert token.get("members/ben/tiers").code == "unknown_member"
    assert token.post(OVERRIDE, GOLD, key="k").status == 403
    assert not TierOverride.objects.exists()


def test_an_override_holds_until_its_end(api: Api, ada: int, clock: Clock) -> None:
    reply = api.post(OVERRIDE, GOLD, key="k1")
    assert (reply.status, reply.json["outcome"]) == (201, "recorded")
    override = reply.json["override"]
    assert (override["tier"], override["valid_from"], override["lifted_at"]) == ("gold", "2026-06-01T12:00:00Z", None)
    found = standing(api)
    assert (found["tier"], found["cause"], found["guaranteed_until"]) == ("gold", "overridden", "2026-09-01T00:00:00Z")
    entry = AuditEntry.objects.get(action="tier.overridden")
    assert (entry.reason, entry.actor) == ("a complaint", override["decided_by"])
    clock(NOW + timedelta(seconds=1))
    lifted = api.delete(OVERRIDE, query={"reason": "settled"})
    assert (lifted.status, lifted.json["lifted_at"]) == (200, "2026-06-01T12:00:01Z")
    assert (standing(api)["tier"], standing(api)["cause"]) == ("ivory", "restored")
    again = api.delete(OVERRIDE, query={"reason": "settled"})
    assert (again.status, again.code) == (404, "no_override")


def test_an_override_ends_with_the_next_close(api: Api, ada: int, clock: Clock, program: Program) -> None:
    api.post(OVERRIDE, GOLD, key="k1")
    ladder = Ladder.objects.select_related("program").get(program=program)
    closed_at = NOW + 93 * DAY
    for instant in list_due(ladder=ladder, until=closed_at):
        ladder.refresh_from_db()
        evaluate(ladder=ladder, instant=instant, at=closed_at)
    clock(closed_at)
    assert (standing(api)["tier"], standing(api)["since"]) == ("ivory", "2026-09-01T00:00:00Z")
    assert standing(api, at="2026-08-31T23:59:59Z")["tier"] == "gold"


def test_a_decision_sent_twice_is_one(api: Api, ada: int) -> None:
    first = api.post(OVERRIDE, GOLD, key="k1")
    second = api.post(OVERRIDE, GOLD, key="k1")
    assert (first.text, second.headers["Idempotent-Replayed"]) == (second.text, "true")
    other = api.post(OVERRIDE, GOLD | {"tier": "silver"}, key="k1")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert TierOverride.objects.count() == 1


def test_a_dry_run_decides_nothing(api: Api, ada: int) -> None:
    reply = api.post(OVERRIDE, GOLD, key="k1", query={"dry_run": "true"})
    assert (reply.status, reply.json["outcome"]) == (200, "recorded")
    assert not TierOverride.objects.exists()
    assert standing(api)["tier"] == "ivory"


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no reason": ({"reason": " "}, "invalid_request", "/reason"),
    "no zone": ({"valid_until": "2026-09-01T00:00:00"}, "invalid_request", "/valid_until"),
    "ended already": ({"valid_until": "2026-06-01T12:00:00Z"}, "invalid_value", "/valid_until"),
    "never ends": ({"valid_until": "9999-01-01T00:00:00Z"}, "invalid_value", "/valid_until"),
    "no such tier": ({"tier": "tin"}, "unknown_tier", "/tier"),
    "an unknown field": ({"ladder": "main"}, "invalid_request", "/ladder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_decision_that_makes_no_sense_is_refused_and_writes_nothing(api: Api, ada: int, name: str) -> None:
    changes, code, pointer = REFUSED[name]
    reply = api.post(OVERRIDE, GOLD | changes, key="k1")
    assert (reply.status, reply.code, reply.json["errors"][0]["pointer"]) == (422, code, pointer)
    assert (TierOverride.objects.count(), TierPeriod.objects.count(), AuditEntry.objects.filter(
        action__startswith="tier.").count(), IdempotencyRecord.objects.count()) == (0, 1, 0, 0)  # fmt: skip


def test_a_decision_needs_key_scope_and_an_address(api: Api, ada: int, make_key: MakeKey) -> None:
    assert api.post(OVERRIDE, GOLD).code == "idempotency_key_missing"
    assert api.post("members/ada/tiers/club/override", GOLD, key="k").code == "unknown_ladder"
    assert api.post("members/eve/tiers/main/override", GOLD, key="k").code == "unknown_member"
    assert api.delete(OVERRIDE).code == "invalid_parameter"
    scopes = [scope for scope in Scope.values if scope != Scope.TIERS_OVERRIDE]
    under_scoped = Api(make_key(*scopes))
    assert under_scoped.post(OVERRIDE, GOLD, key="k").code == "scope_missing"
    assert under_scoped.delete(OVERRIDE, query={"reason": "r"}).code == "scope_missing"
    assert not TierOverride.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_decisions_at_once_leave_one_in_force(api: Api, ada: int) -> None:
    def decide(key: str, tier: str) -> int:
        return api.post(OVERRIDE, GOLD | {"tier": tier}, key=key).status

    statuses = in_parallel([lambda n=n: decide(f"k{n}", "gold") for n in range(4)])  # type: ignore[misc]
    # All of them are dated at the same instant: the first stands, the others are told of it.
    assert sorted(statuses) == [201, 409, 409, 409]
    assert TierOverride.objects.count() == TierPeriod.objects.filter(cause="overridden").count() == 1
