"""Balances, wallets, rules and previews over HTTP."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core import versions
from core.models import Program
from membership.models import Member
from points.models import EarnRule
from points.services import approvals, operations
from tests.api.buyers import ANN, account_of, buy, enroll, posted
from tests.api.client import Api
from tests.api.conftest import Clock
from tests.storefront.shop import DAY, NOW, START, order, review, tell

pytestmark = pytest.mark.django_db
PREVIEW = f"{ANN}/preview"


@pytest.fixture
def ann(program: Program) -> Program:
    enroll(program, "ann", "ben")
    return program


def test_a_member_reads_balances_next_expiry_and_open_lots(ann: Program, api: Api) -> None:
    tell(ann, order("o1", (1, 3_000), member="ann"), review("v1", member="ann"), review("v2", member="ann", at=NOW))
    read = api.get(ANN).json
    assert (read["member"], read["at"]) == ("ann", "2026-06-01T12:00:00Z")
    (wallet,) = read["wallets"]
    assert wallet["balance"] == {
        "available": 130, "pending": 0, "held": 0, "debt": 0, "lifetime_earned": 130, "lifetime_redeemed": 0,
    }  # fmt: skip
    # Two lots of one day expire together, at the end of that day.
    assert wallet["next_expiry"] == {
        "points": 80,
        "expires_at": "2027-01-11T00:00:00Z",
        "last_day": "2027-01-10",
    }
    assert [(lot["points"], lot["expires_at"]) for lot in wallet["lots"]] == [
        (30, "2027-01-11T00:00:00Z"),
        (50, "2027-01-11T00:00:00Z"),
        (50, "2027-06-01T23:00:00Z"),
    ]
    assert wallet["lot_count"] == 3


def test_what_fell_due_counts_as_done_though_nothing_posted_it(ann: Program, api: Api, clock: Clock) -> None:
    tell(ann, order("o1", (1, 3_000), member="ann"), review("v2", member="ann", at=NOW))
    clock(START + 366 * DAY)
    (wallet,) = api.get(ANN).json["wallets"]
    assert (wallet["balance"]["available"], wallet["lot_count"], wallet["next_expiry"]["points"]) == (50, 1, 50)


def test_debt_is_shown_positive(ann: Program, api: Api) -> None:
    buy(ann)
    balance = api.get(ANN).json["wallets"][0]["balance"]
    assert (balance["available"], balance["debt"], balance["lifetime_redeemed"]) == (0, 29, 70)


def test_a_member_without_points_stands_at_nothing(ann: Program, api: Api) -> None:
    (wallet,) = api.get("members/ben/points").json["wallets"]
    assert set(wallet["balance"].values()) == {0}
    assert (wallet["next_expiry"], wallet["lots"], wallet["lot_count"]) == (None, [], 0)


def test_standings_take_one_statement_and_show_the_first_lots_only(ann: Program, api: Api) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get(ANN).status == 200
        return len(queries)

    count()  # the first one notes the use of the key
    few = count()
    tell(ann, *(review(f"v{n}", member="ann", at=START + n * DAY) for n in range(25)))
    assert count() == few == 3  # key, member, standings
    (wallet,) = api.get(ANN).json["wallets"]
    assert (len(wallet["lots"]), wallet["lot_count"]) == (20, 25)


def test_another_programs_member_is_not_found(ann: Program, foreign_program: Program, api: Api) -> None:
    enroll(foreign_program, "eve")
    assert api.get("members/eve/points").code == "unknown_member"
    assert api.get("members/nobody/points").code == "unknown_member"


def test_wallets_and_rules_show_what_is_in_force(ann: Program, api: Api) -> None:
    (wallet,) = api.get("wallets").json["results"]
    assert (wallet["code"], wallet["name"], wallet["version"], wallet["effective_at"]) == (
        "points", "Aurora points", 1, None,
    )  # fmt: skip
    assert wallet["policy"].items() >= {"expiry_days": 365, "pending_days": 0, "clawback": "debt"}.items()
    rules = {rule["code"]: rule for rule in api.get("earn-rules").json["results"]}
    assert set(rules) == {"spend", "check-in", "review", "share"}
    assert rules["spend"]["definition"]["formula"] == {"points": 1, "per": "1.00"}
    assert rules["review"]["version"] == 1
    versions.end(EarnRule.objects.get(program=ann, code="review"), at=NOW)
    assert {rule["code"] for rule in api.get("earn-rules").json["results"]} == {"spend", "check-in", "share"}


# --- preview ---------------------------------------------------------------------------------------------------


def basket(*amounts: int, **more: Any) -> dict[str, Any]:
    return {"currency": "GBP", "lines": [{"amount_minor": amount} for amount in amounts], **more}


def test_a_preview_shows_what_each_line_would_earn(ann: Program, api: Api) -> None:
    answer = api.post(PREVIEW, basket(2_150, 90))
    assert answer.status == 200
    assert answer.json["tier"] == "ivory"
    (wallet,) = answer.json["wallets"]
    assert (wallet["wallet"], wallet["points"], wallet["expires_at"]) == ("points", 21, "2027-06-01T23:00:00Z")
    assert wallet["accruals"] == [
        {"line": 0, "rule": "spend", "rule_version": 1, "basis": 2_150, "multiplier_bps": 10_000, "points": 21,
         "reason": "earned"},
        {"line": 1, "rule": "spend", "rule_version": 1, "basis": 90, "multiplier_bps": 10_000, "points": 0,
         "reason": "below_one_point"},
    ]  # fmt: skip
    assert posted() == []


def test_a_preview_counts_the_tier_held_at_its_instant(ann: Program, api: Api) -> None:
    tell(ann, order("o1", (1, 60_000), member="ann"))
    assert api.post(PREVIEW, basket(10_000)).json["wallets"][0]["points"] == 125
    before = api.post(PREVIEW, basket(10_000, at="2026-01-09T00:00:00+01:00")).json
    assert (before["at"], before["wallets"][0]["points"]) == ("2026-01-08T23:00:00Z", 100)


def test_a_preview_in_another_currency_needs_the_programs_amount(ann: Program, api: Api) -> None:
    euros = basket(10_000) | {"currency": "EUR"}
    assert api.post(PREVIEW, euros).code == "wrong_currency"
    euros["lines"][0]["program_amount_minor"] = 8_700
    assert api.post(PREVIEW, euros).json["wallets"][0]["points"] == 87


@pytest.mark.parametrize(
    "change",
    [
        {"lines": []}, {"lines": [{"amount_minor": -1}]}, {"lines": [{"amount_minor": 1.5}]},
        {"lines": [{"amount_minor": 2**60}]}, {"lines": [{"amount_minor": "10"}]}, {"lines": [{}]},
        {"currency": "pounds"}, {"at": "2026-01-08T23:00:00"}, {"at": "9999-12-31T23:59:59Z"},
        {"at": "0001-01-01T00:00:00Z"}, {"basket": 1}, {"channel": "a\x00b"},
        {"lines": [{"amount_minor": 2**53 - 1}] * 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_preview_of_what_could_not_be_an_order_is_refused(ann: Program, api: Api, change: dict[str, Any]) -> None:
    answer = api.post(PREVIEW, basket(10_000) | change)
    assert (answer.status, answer.code in {"invalid_request", "invalid_value"}) == (422, True)


def test_an_adjustment_far_out_leaves_every_number_exact(ann: Program, api: Api) -> None:
    member = Member.objects.get(program=ann, external_id="ann")
    for n in range(3):
        asked = approvals.adjust(
            program=ann, member=member, wallet_id=account_of(ann)["wallet_id"], points=operations.MAX_ADJUSTMENT,
            reason="much", decided_by="test", idempotency_key=str(n), at=NOW,
        )  # fmt: skip
        approvals.approve(request_id=asked.pk, decided_by="another", at=NOW)  # type: ignore[union-attr]
    assert api.get(ANN).json["wallets"][0]["balance"]["available"] == 1_500_000_000
