"""A wallet's statement over HTTP: what was posted, in pages, each row with its source, in one statement."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from points.services import operations
from points.services.expiry import settle_due
from tests.api.buyers import ANN, account_of, buy, enroll
from tests.api.client import Api
from tests.storefront.shop import DAY, NOW, START, order, review, tell

pytestmark = pytest.mark.django_db
STATEMENT = f"{ANN}/points/statement"


@pytest.fixture
def ann(program: Program) -> Program:
    enroll(program, "ann", "ben")
    buy(program)
    return program


def test_a_statement_shows_each_transaction_with_its_source_newest_first(ann: Program, api: Api) -> None:
    tell(ann, order("o2", (1, 2_500), member="ann", at=START + 30 * DAY))
    page = api.get(STATEMENT).json
    assert page["next"] is page["previous"] is None
    earned, refunded, redeemed, first = page["results"]
    assert first == {
        "seq": 1,
        "kind": "earn",
        "points": 101,
        "changes": {"available": 101},
        "balances_after": {"available": 101},
        "effective_at": "2026-01-10T09:30:00Z",
        "recorded_at": "2026-06-01T12:00:00Z",
        "source": {"kind": "order", "external_id": "o1", "seq": None},
        "reason": None,
    }
    assert (redeemed["kind"], redeemed["points"], redeemed["reason"]) == ("redeem", -70, "a mug")
    assert redeemed["balances_after"] == {"available": 31}
    assert (refunded["kind"], refunded["points"]) == ("clawback", -60)
    assert refunded["changes"] == {"available": -31, "debt": 29}
    assert refunded["balances_after"] == {"available": 0, "debt": 29}
    assert refunded["source"] == {"kind": "refund", "external_id": "r1", "seq": None}
    assert (earned["points"], earned["changes"]) == (25, {"available": 0, "debt": -25})
    assert earned["balances_after"] == {"available": 0, "debt": 4}


def test_an_expiry_names_the_transaction_that_brought_the_points(ann: Program, api: Api) -> None:
    tell(ann, review("v1", member="ann", at=START + 25 * DAY))
    settle_due(program=ann, through=START + 500 * DAY, at=NOW)
    newest, before, *_ = api.get(STATEMENT).json["results"]
    assert (newest["kind"], newest["points"]) == ("expire", -21)
    assert newest["source"] == {"kind": "lot", "external_id": None, "seq": before["seq"]}
    assert before["source"] == {"kind": "activity", "external_id": "v1", "seq": None}


def test_what_is_due_and_not_posted_is_not_in_the_statement_but_in_the_balance(ann: Program, api: Api) -> None:
    operations.adjust(
        program=ann, **account_of(ann), points=40, reason="sorry", decided_by="test", idempotency_key="a",
        at=NOW - 400 * DAY,
    )  # fmt: skip
    # It paid the debt of 29; what was left of it expired 34 days ago.
    newest = api.get(STATEMENT).json["results"][0]
    assert (newest["kind"], newest["balances_after"]) == ("adjust", {"available": 11, "debt": 0})
    assert api.get(ANN).json["wallets"][0]["balance"]["available"] == 0
    settle_due(program=ann, through=NOW, at=NOW)
    newest = api.get(STATEMENT).json["results"][0]
    assert (newest["kind"], newest["points"], newest["balances_after"]) == ("expire", -11, {"available": 0})


def test_a_statement_comes_in_pages_that_stay_put_while_rows_are_added(ann: Program, api: Api) -> None:
    tell(ann, *(review(f"v{n}", member="ann", at=START + timedelta(days=30, hours=n)) for n in range(7)))
    everything = [row["seq"] for row in api.get(STATEMENT).json["results"]]
    first = api.get(STATEMENT, limit=4).json
    tell(ann, review("late", member="ann", at=NOW))
    seen, page = [row["seq"] for row in first["results"]], first
    while page["next"]:
        page = api.call("GET", page["next"].removeprefix("http://testserver")).json
        seen += [row["seq"] for row in page["results"]]
    assert seen == everything
    assert len(seen) == 10


def test_a_statement_can_be_narrowed_by_kind_and_instants(ann: Program, api: Api) -> None:
    def kinds(**query: str) -> list[str]:
        return [row["kind"] for row in api.get(STATEMENT, **query).json["results"]]

    assert kinds(kind="redeem") == ["redeem"]
    assert kinds(effective_from="2026-01-15T09:30:00Z") == ["clawback", "redeem"]
    assert kinds(effective_before="2026-01-15T09:30:00Z") == ["earn"]
    assert kinds(effective_from="2026-01-15T09:30:00Z", kind="earn") == []


@pytest.mark.parametrize(
    "query",
    [
        {"kind": "burn"}, {"effective_from": "yesterday"}, {"effective_from": "2026-01-15T09:30:00"}, {"sort": "seq"},
        {"limit": "0"}, {"limit": "201"}, {"cursor": "nonsense"},
    ],
    ids=str,
)  # fmt: skip
def test_a_filter_that_cannot_be_read_is_refused(ann: Program, api: Api, query: dict[str, str]) -> None:
    assert api.get(STATEMENT, **query).status == 400


def test_a_statement_takes_the_same_number_of_statements_however_long_it_is(ann: Program, api: Api) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get(STATEMENT).status == 200
        return len(queries)

    count()  # the first one notes the use of the key
    few = count()
    tell(ann, *(review(f"v{n}", member="ann", at=START + (30 + n) * DAY) for n in range(40)))
    assert count() == few == 4  # key, member, wallet, page


def test_a_member_without_an_account_has_an_empty_statement(ann: Program, api: Api) -> None:
    assert api.get("members/ben/points/points/statement").json["results"] == []


def test_a_statement_of_nobody_or_of_no_wallet_is_not_found(ann: Program, foreign_program: Program, api: Api) -> None:
    enroll(foreign_program, "eve")
    assert api.get("members/eve/points/points/statement").code == "unknown_member"
    assert api.get(f"{ANN}/gems/statement").code == "unknown_wallet"
    assert api.get(f"{ANN}/points/transactions/2").code == "unknown_transaction"
    assert api.get(f"{ANN}/points/transactions/{2**24}").code == "unknown_transaction"
    assert api.get(f"{ANN}/points/transactions/{2**80}").code == "unknown_transaction"


def test_a_transaction_shows_rules_lots_and_returns(ann: Program, api: Api) -> None:
    first = api.get(f"{ANN}/points/transactions/1").json
    assert [(a["order_line"], a["basis"], a["points"], a["reason"]) for a in first["accruals"]] == [
        ("o1.1", 8_000, 80, "earned"),
        ("o1.2", 2_150, 21, "earned"),
        ("o1.3", 90, 0, "below_one_point"),
    ]
    assert {(a["rule"], a["rule_version"], a["multiplier_bps"]) for a in first["accruals"]} == {("spend", 1, 10_000)}
    assert [(lot["points"], lot["expires_at"]) for lot in first["opened"]] == [(101, "2027-01-11T00:00:00Z")]
    refunded = api.get(STATEMENT, kind="clawback").json["results"][0]
    detail = api.get(f"{ANN}/points/transactions/{refunded['seq']}").json
    assert detail.items() >= refunded.items()
    (back,) = detail["returns"]
    assert back == {
        "order": "o1", "order_line": "o1.1", "rule": "spend", "rule_version": 1, "unit": "units", "returned": 3,
        "whole": 4, "points_due": 60, "points_taken": 60,
    }  # fmt: skip
    (part,) = detail["allocations"]
    assert (part["points"], part["lot"]["source"]["external_id"]) == (31, "o1")
