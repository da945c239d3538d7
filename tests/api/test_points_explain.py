"""Why points came and went, in sentences, and why an order earned nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from core.models import Program
from membership.fact_inputs import MemberInput, OrderEditInput, OrderLineInput
from membership.services.members import enroll_members
from points.models import LedgerNote
from points.services import operations
from points.services.expiry import settle_due
from storefront.services import intake, program_file
from tests.api.buyers import ANN, account_of, buy, enroll
from tests.api.client import Api
from tests.api.conftest import MakeKey
from tests.storefront.shop import DAY, NOW, START, definition, order, refund, review, tell

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(program: Program) -> Program:
    enroll(program, "ann", "ben")
    return program


def explain(api: Api, kind: str, *, wallet: str = "points", member: str = "ann") -> list[str]:
    """The sentences of the newest transaction of a kind."""
    base = f"members/{member}/points/{wallet}"
    row = api.get(f"{base}/statement", kind=kind).json["results"][0]
    answer = api.get(f"{base}/transactions/{row['seq']}/explain")
    assert answer.status == 200
    sentences: list[str] = answer.json["sentences"]
    return sentences


def test_an_order_explains_rule_basis_multiplier_floor_and_life(ann: Program, api: Api) -> None:
    tell(ann, order("o0", (1, 60_000), member="ann"))
    tell(ann, order("o1", (1, 8_050), (1, 2_000), (1, 50), member="ann", at=START + DAY))
    assert explain(api, "earn") == [
        "On 2026-01-11, order o1 earned 125 points.",
        (
            "Line o1.1, GBP 80.50: the rule “One point per pound” (version 1) gives 1 point for each GBP 1.00. "
            "It counts 1.25 times for the tier Silver, which was held then. "
            "That is 100.625, rounded down to 100 points."
        ),
        (
            "Line o1.2, GBP 20.00: the rule “One point per pound” (version 1) gives 1 point for each GBP 1.00. "
            "It counts 1.25 times for the tier Silver, which was held then. That is 25 points."
        ),
        (
            "Line o1.3, GBP 0.50: the rule “One point per pound” (version 1) gives 1 point for each GBP 1.00. "
            "It counts 1.25 times for the tier Silver, which was held then. That is 0.625, less than one point, so it "
            "earned nothing."
        ),
        "The points can be used from 2026-01-11 until the end of 2027-01-11.",
    ]


def test_an_activity_a_redemption_and_a_reversal_explain_themselves(ann: Program, api: Api) -> None:
    tell(ann, review("v1", member="ann"), order("o1", (1, 3_000), member="ann", at=START + DAY))
    assert explain(api, "earn")[0] == "On 2026-01-11, order o1 earned 30 points."
    seq = api.get(f"{ANN}/points/statement").json["results"][-1]["seq"]
    assert api.get(f"{ANN}/points/transactions/{seq}/explain").json["sentences"] == [
        "On 2026-01-10, activity v1 earned 50 points.",
        "By the rule “Product review” (version 1): 50 points each time. That is 50 points.",
        "The points can be used from 2026-01-10 until the end of 2027-01-10.",
    ]
    posted = api.post(f"{ANN}/points/redemptions", {"points": 70, "reason": "a mug"}, key="k").json["transaction"]
    assert explain(api, "redeem") == [
        "On 2026-06-01, a redemption used 70 points.",
        "It took 50 points from those of activity v1, usable until the end of 2027-01-10.",
        "It took 20 points from those of order o1, usable until the end of 2027-01-11.",
        "Points that expire first are used first.",
        "Reason given: a mug",
    ]
    api.post(f"{ANN}/points/reversals", {"seq": posted["seq"], "reason": "returned"}, key="r")
    assert explain(api, "reverse") == [
        (
            f"On 2026-06-01, transaction {posted['seq']} was reversed: "
            "70 points came back to where they had been taken from."
        ),
        "Reason given: returned",
    ]


def test_a_refund_explains_share_lot_and_debt(ann: Program, api: Api) -> None:
    buy(ann)
    assert explain(api, "clawback") == [
        "On 2026-01-30, refund r1 took back 60 points.",
        (
            "Of line o1.1 of order o1, 3 of 4 units have come back. It had earned 80 points by the rule “One point per "
            "pound” (version 1); the share of that is 60, rounded down."
        ),
        "It took 31 points from those of order o1, usable until the end of 2027-01-10.",
        "29 points had been spent and became debt, which new points repay first.",
    ]
    tell(ann, refund("r2", ("o1.1", 1, 2_000), member="ann", at=START + 21 * DAY))
    assert explain(api, "clawback")[1].endswith("Earlier refunds had asked for 60 of them, which leaves 20 points.")
    tell(ann, order("o2", (1, 5_500), member="ann", at=START + 30 * DAY))
    assert explain(api, "earn")[-1] == "First of all, 49 points of them repaid debt."


def test_a_refund_of_money_and_one_after_the_expiry_explain_themselves(ann: Program, api: Api) -> None:
    tell(ann, order("o1", (2, 8_000), member="ann"), refund("r1", ("o1.1", None, 1_000), member="ann"))
    assert explain(api, "clawback")[1].startswith(
        "Of line o1.1 of order o1, GBP 10.00 of GBP 80.00 have been refunded."
    )
    settle_due(program=ann, through=START + 400 * DAY, at=NOW)
    assert explain(api, "expire") == [
        "What was left of order o1 expired: 70 points, usable until the end of 2027-01-10.",
        "The lot began with 80 points; use and refunds had taken 10 points before.",
    ]
    tell(ann, refund("r2", ("o1.1", 2, 7_000), member="ann", at=START + 401 * DAY))
    assert explain(api, "clawback")[0] == "On 2027-02-15, refund r2 took back 0 points."
    assert explain(api, "clawback")[2] == "It took none of them: they had expired at the end of 2027-01-10."


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Any:
    """Make shops whose wallet has another policy, with the member ann."""

    def make(code: str = "shop", rules: list[dict[str, Any]] | None = None, **policy: Any) -> Program:
        told = definition(code, policy)
        told["earn_rules"] += rules or []
        path = tmp_path / f"{code}.yaml"
        path.write_text(json.dumps(told))
        program = program_file.apply(program_file.load(path), at=NOW, actor="test")
        joined = [MemberInput(external_id="ann", joined_at=START - DAY)]
        enroll_members(program=program, members=joined, at=NOW)
        return program

    return make


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("write_off", "It took 10 of 30 points: the rest had been spent, and this wallet writes it off."),
        ("own_lot", "It took 10 of 30 points: this wallet takes back only what is left of the same points."),
    ],
)
def test_a_refund_explains_why_it_took_less(shop: Any, make_key: MakeKey, policy: str, why: str) -> None:
    program = shop(clawback=policy)
    api = Api(make_key(program=program))
    tell(program, order("o1", (3, 3_000), member="ann"))
    account: Any = {"program": program, **account_of(program)}
    operations.redeem(**account, points=20, idempotency_key="k", at=START + DAY)
    tell(program, refund("r1", ("o1.1", 3, 3_000), member="ann"))
    assert explain(api, "clawback")[2] == why


def test_a_refund_after_the_expiry_explains_what_is_forgiven_and_what_is_not(shop: Any, make_key: MakeKey) -> None:
    program = shop(expiry_days=10)
    api = Api(make_key(program=program))
    tell(program, order("o1", (3, 3_000), member="ann"))
    account: Any = {"program": program, **account_of(program)}
    operations.redeem(**account, points=20, idempotency_key="k", at=START + DAY)
    tell(program, refund("r1", ("o1.1", 3, 3_000), member="ann", at=START + 20 * DAY))
    assert explain(api, "clawback")[2:] == [
        "Of them, 10 points had expired at the end of 2026-01-20: that much is forgiven.",
        "20 points had been spent and became debt, which new points repay first.",
    ]


def test_pending_points_and_order_rounding_explain_themselves(shop: Any, make_key: MakeKey) -> None:
    program = shop(pending_days=3)
    api = Api(make_key(program=program))
    tell(program, order("o1", (1, 150), (1, 150), member="ann"))
    assert explain(api, "earn")[-1] == "The points can be used from 2026-01-13 until the end of 2026-03-11."
    assert explain(api, "earn", wallet="gems")[1].endswith(
        "That is 1.5; the sum of the order is rounded down; the part of this line is 2 points."
    )
    assert explain(api, "earn", wallet="gems")[-1] == "The points can be used from 2026-01-10 on and do not expire."
    settle_due(program=program, through=START + 10 * DAY, at=NOW)
    assert explain(api, "vest") == ["On 2026-01-13, 2 points that had been pending became usable."]


def test_an_adjustment_explains_itself_and_an_erased_reason_is_gone(ann: Program, api: Api) -> None:
    adjust = f"{ANN}/points/adjustments"
    api.post(adjust, {"points": 1, "reason": "sorry"}, key="k1")
    assert explain(api, "adjust") == [
        "On 2026-06-01, a decision gave 1 point.",
        "The points can be used from 2026-06-01 until the end of 2027-06-01.",
        "Reason given: sorry",
    ]
    api.post(adjust, {"points": -1, "reason": "after all"}, key="k2")
    LedgerNote.objects.all().delete()
    assert explain(api, "adjust") == [
        "On 2026-06-01, a decision took off 1 point.",
        "It took 1 point from those of transaction 1, usable until the end of 2027-06-01.",
    ]


def test_a_rule_that_changed_since_is_explained_as_it_was(shop: Any, make_key: MakeKey, tmp_path: Path) -> None:
    program = shop()
    tell(program, order("o1", (1, 3_000), member="ann"))
    told = definition("shop", {})
    told["earn_rules"][0] |= {"name": "Twice", "formula": {"points": 2, "per": "1.00"}}
    path = tmp_path / "later.yaml"
    path.write_text(json.dumps(told))
    program_file.apply(program_file.load(path), at=NOW + DAY, actor="test")
    api = Api(make_key(program=program))
    assert "the rule “Spend” (version 1) gives 1 point for each GBP 1.00" in explain(api, "earn")[1]


def test_the_tier_is_the_one_known_then(ann: Program, api: Api) -> None:
    """A later refund corrects the tier; the order still earned with the tier that was held."""
    tell(ann, order("o0", (1, 60_000), member="ann"), order("o1", (1, 10_000), member="ann", at=START + DAY))
    row = api.get(f"{ANN}/points/statement").json["results"][0]
    tell(ann, refund("r0", ("o0.1", 1, 60_000), member="ann", at=START + DAY / 24))
    sentences = api.get(f"{ANN}/points/transactions/{row['seq']}/explain").json["sentences"]
    assert "It counts 1.25 times for the tier Silver, which was held then." in sentences[1]


# --- orders ----------------------------------------------------------------------------------------------------


def of_order(api: Api, name: str) -> tuple[list[str], dict[str, list[str]]]:
    answer = api.get(f"orders/{name}/explain")
    assert answer.status == 200
    return answer.json["sentences"], {line["order_line"]: line["sentences"] for line in answer.json["lines"]}


def test_an_order_explains_what_each_line_earned_and_what_came_back(ann: Program, api: Api) -> None:
    buy(ann)
    whole, lines = of_order(api, "o1")
    assert whole == ["The order earned 101 points; refunds have taken back 60 points since."]
    assert lines["o1.1"][1:] == ["Since then refund r1 took back 60 points."]
    assert lines["o1.3"][0].endswith("That is 0.9, less than one point, so it earned nothing.")
    first = api.get("orders/o1/explain").json["lines"][0]
    assert first["earned"] == [
        {"wallet": "points", "seq": 1, "rule": "spend", "rule_version": 1, "points": 80, "points_taken_back": 60,
         "points_corrected": 0, "reason": "earned"}
    ]  # fmt: skip


def test_a_line_that_an_edit_added_earned_by_the_tier_of_that_time(ann: Program, api: Api) -> None:
    tell(ann, order("o1", (1, 3_000), member="ann"), order("o2", (1, 60_000), member="ann", at=START + DAY))
    added = OrderLineInput(external_id="o1.2", units=1, amount_minor=1_000)
    edit = OrderEditInput(order="o1", external_id="e1", edited_at=START + 2 * DAY, currency="GBP", lines=(added,))
    intake.edit_order(program=ann, edit=edit, at=NOW)
    assert explain(api, "earn")[0] == "On 2026-01-12, the edit e1 of an order earned 12 points."
    _, lines = of_order(api, "o1")
    assert "It counts" not in lines["o1.1"][0]
    assert lines["o1.2"][0] == (
        "An edit of the order added this line; it earned by the rules and the tier of that time."
    )
    assert "It counts 1.25 times for the tier Silver, which was held then." in lines["o1.2"][1]


def test_a_guests_order_explains_that_it_earned_nothing(ann: Program, api: Api) -> None:
    tell(ann, order("g1", (1, 3_000), member=""))
    whole, lines = of_order(api, "g1")
    assert whole == ["The order names no member: guests earn nothing."]
    assert lines == {"g1.1": ["Line g1.1 earned nothing: the order names no member."]}


def test_a_line_that_no_rule_covers_explains_which_rule_is_not_about_it(shop: Any, make_key: MakeKey) -> None:
    def rule(code: str, **more: Any) -> dict[str, Any]:
        return {"code": code, "name": code, "wallet": "points", "trigger": "order_line", "formula": {"fixed": 5}} | more

    program = shop(rules=[
        rule("golden", tiers=["gold"]), rule("app", channels=["app", "shop"]), rule("tea", categories=["tea"]),
        rule("one", skus=["one"]), rule("large", minimum="50.00"),
    ])  # fmt: skip
    tell(program, order("o1", (1, 3_000), member="ann"))
    _, lines = of_order(Api(make_key(program=program)), "o1")
    assert lines["o1.1"][2:] == [
        (
            "Line o1.1, GBP 30.00: the rule “Gems” (version 1) gives 1 point for each GBP 1.00. "
            "That is 30; the sum of the order is rounded down; the part of this line is 30 points."
        ),
        "Not by the rule “golden” (version 1): it is for gold, and the tier held then was Basic.",
        "Not by the rule “app” (version 1): it is for the channels app, shop, and the order came by “”.",
        "Not by the rule “tea” (version 1): it is for the categories tea, and this is “”.",
        "Not by the rule “one” (version 1): the article “” is not among those it is for.",
    ]
    assert lines["o1.1"][1].endswith("That is below the minimum of GBP 50.00, so it earned nothing.")


def test_an_order_of_nobody_we_know_is_not_found(ann: Program, foreign_program: Program, api: Api) -> None:
    enroll(foreign_program, "eve")
    tell(foreign_program, order("o9", (1, 3_000), member="eve"))
    assert api.get("orders/o9/explain").code == "unknown_order"
    assert api.get("orders/none/explain").code == "unknown_order"


def test_explanations_take_the_same_number_of_statements_however_long_they_are(ann: Program, api: Api) -> None:
    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert api.get(path).status == 200
        return len(queries)

    for name, lines in (("o1", 1), ("o2", 30)):
        tell(ann, order(name, *[(2, 3_000)] * lines, member="ann"))
        parts = [(f"{name}.{n + 1}", 1, 1_500) for n in range(lines)]
        tell(ann, refund(f"r-{name}", *parts, member="ann"))
    rows = {row["source"]["external_id"]: row["seq"] for row in api.get(f"{ANN}/points/statement").json["results"]}
    paths = {name: f"{ANN}/points/transactions/{seq}/explain" for name, seq in rows.items()}
    count(paths["o1"])
    assert count(paths["o1"]) == count(paths["o2"])
    assert count(paths["r-o1"]) == count(paths["r-o2"])
    assert count("orders/o1/explain") == count("orders/o2/explain")


def test_sentences_come_in_the_language_asked_for(ann: Program, api: Api) -> None:
    buy(ann)
    path = f"{ANN}/points/transactions/1/explain"
    assert api.get(path).json["language"] == "en"
    with translation.override("en"):  # a test client leaves the language of its last request behind
        answer = api.call("GET", path, headers={"Accept-Language": "zh-hans"})
    assert answer.json["language"] == "zh-hans"
    assert "2026年1月10日" in answer.json["sentences"][0]
