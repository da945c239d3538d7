"""Checkouts over HTTP: quoted, held, paid by an order that names it, refunded until all is accounted for."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program, Scope
from coupons.models import CounterShard, RedemptionLine
from membership.models import MemberDay
from points.models import Hold
from points.services.verify import verify
from storefront.models import Checkout
from tests.api.checkouts import BASKET, HAT, SOCKS, held, make_program, order_of, quoted, refund_of, split, written
from tests.api.client import Api
from tests.api.conftest import NOW, MakeKey
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.storefront.checkout_worlds import balance, give_coupon, make_shop, states
from tests.storefront.shop import DAY

pytestmark = pytest.mark.django_db


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    return make_program(tmp_path)


# --- the whole way ---------------------------------------------------------------------------------------------


def test_from_quote_to_refund_every_point_and_every_penny_is_accounted_for(program: Program, api: Api) -> None:
    checkout = held(api)
    assert (checkout["state"], checkout["price"]["to_pay_minor"]) == ("held", 2800 + 499)
    assert [line["amount_minor"] for line in checkout["price"]["lines"]] == [2375, 1425]
    assert [line["points"] for line in checkout["price"]["lines"]] == [625, 375]
    paid = api.post("orders", order_of(checkout))
    assert paid.status == 201, paid.text
    assert [(line["discount_minor"], line["paid_in_points_minor"]) for line in paid.json["order"]["lines"]] == [
        (625, 625),
        (575, 375),
    ]
    # What was paid in points earns none: 17.50 and 10.50.
    assert {"wallet": "points", "points": 27} in paid.json["effect"]["points"]
    assert api.get(f"checkouts/{checkout['id']}").json["order"] == "o1"
    assert states() == {"checkouts": ["paid"], "redemptions": ["committed"] * 2, "claims": ["used"] * 2}
    assert (balance(program).available, balance(program).held, balance(program).lifetime_redeemed) == (27, 0, 1_000)

    first = api.post("refunds", refund_of("r1", ("a", 1, 791), ("b", None, 700)))
    assert first.status == 201, first.text
    assert split(first) == [(583, 208, 208), (516, 184, 184)]
    second = api.post("refunds", refund_of("r2", ("a", 2, 1584), ("b", 1, 725)))
    assert split(second) == [(1167, 417, 417), (534, 191, 191)]
    parts = [part for answer in (first, second) for part in split(answer)]
    assert [sum(part[n] for part in parts) for n in range(3)] == [2800, 1000, 1000]
    assert split(api.get("refunds/r2")) == split(second)
    assert [split(one) for one in api.get("orders/o1").json["refunds"]] == [split(first), split(second)]

    assert (balance(program).available, balance(program).debt) == (1_000, 0)
    assert Hold.objects.get().returned == 1_000
    assert list(RedemptionLine.objects.values_list("reversed_minor", flat=True)) == list(
        RedemptionLine.objects.values_list("discount_minor", flat=True)
    )
    # `ten` comes back when all of it has come back, `hats` does not.
    assert states() == {"checkouts": ["paid"], "redemptions": ["reversed"] * 2, "claims": ["open", "used"]}
    assert list(verify(program=program)) == []


def test_cancelling_a_paid_order_gives_back_what_is_left(program: Program, api: Api) -> None:
    api.post("orders", order_of(held(api)))
    api.post("refunds", refund_of("r1", ("a", 1, 791)))
    cancelled = api.post("orders/o1/cancel", {})
    assert cancelled.status == 201, cancelled.text
    parts = [part for one in cancelled.json["order"]["refunds"] for part in split(one)]
    assert [sum(part[n] for part in parts) for n in range(3)] == [2800, 1000, 1000]
    assert (balance(program).available, states()["claims"]) == (1_000, ["open", "open"]), "the shop cancelled it"
    assert list(verify(program=program)) == []


def whole(refund: dict[str, Any]) -> tuple[Any, ...]:
    return refund["money_minor"], refund["in_points_minor"], refund["points"]


def test_a_refund_without_lines_is_money_first_then_points_and_restores_the_coupon(program: Program, api: Api) -> None:
    api.post("orders", order_of(held(api)))
    refund = api.post("refunds", refund_of("r1", amount_minor=4299))
    assert refund.status == 201, refund.text
    assert whole(refund.json["refund"]) == (3299, 1000, 1000)
    assert (balance(program).available, balance(program).debt) == (1_000, 0)
    assert states() == {"checkouts": ["paid"], "redemptions": ["reversed"] * 2, "claims": ["open", "used"]}
    assert [line["returned_minor"] for line in api.get("orders/o1").json["lines"]] == [2375, 1425]
    assert list(verify(program=program)) == []


def test_all_money_without_lines_takes_all_that_was_earned_and_a_cancel_gives_the_points(
    program: Program, api: Api
) -> None:
    api.post("orders", order_of(held(api)))
    assert balance(program).available == 27
    refund = api.post("refunds", refund_of("first", amount_minor=3299))
    assert (whole(refund.json["refund"]), refund.json["refund"]["lines"]) == ((3299, 0, 0), [])
    assert {"wallet": "points", "points": -27} in refund.json["effect"]["points"]
    assert (balance(program).available, states()["claims"]) == (0, ["used", "used"])
    cancelled = api.post("orders/o1/cancel", {})
    assert [whole(one) for one in cancelled.json["order"]["refunds"]] == [(3299, 0, 0), (0, 1000, 1000)]
    # What the shop cancelled gives the coupons back.
    assert (balance(program).available, states()["claims"]) == (1_000, ["open", "open"])
    assert list(verify(program=program)) == []


def test_a_refund_told_late_changes_those_after_it_and_the_difference_is_posted(program: Program, api: Api) -> None:
    api.post("orders", order_of(held(api)))
    assert whole(api.post("refunds", refund_of("r2", amount_minor=2874)).json["refund"]) == (2874, 0, 0)
    # Of two refunds at one instant the ids say which counts first.
    late = api.post("refunds", refund_of("r1", ("b", 1, 1425)))
    # Named parts stand first: 14.25 of the hat, in money and points; then the sum finds that much less money.
    assert whole(late.json["refund"]) == (1050, 375, 375)
    assert whole(api.get("refunds/r2").json) == (2249, 625, 625)
    assert balance(program).available == 1_000
    assert states()["redemptions"] == ["reversed"] * 2
    assert list(verify(program=program)) == []


def test_a_spent_order_counts_whole_for_the_tier(program: Program, api: Api) -> None:
    api.post("orders", order_of(held(api)))
    assert MemberDay.objects.get().spend_minor == 3800 + 499


def test_an_order_may_pay_a_quote_that_has_nothing_to_hold(program: Program, api: Api) -> None:
    checkout = quoted(api, member=None)
    assert checkout["price"]["points"]["reason"] == "no_member"
    answer = api.post("orders", order_of(checkout))
    assert (answer.status, states()["checkouts"]) == (201, ["paid"])


def test_an_order_without_a_checkout_may_tell_what_was_paid_in_points(program: Program, api: Api) -> None:
    line = {"external_id": "a", "units": 1, "amount_minor": 1000, "paid_in_points_minor": 400}
    told = {"external_id": "o1", "member": "ann", "paid_at": NOW.isoformat(), "currency": "GBP", "amount_minor": 1000}
    answer = api.post("orders", told | {"lines": [line]})
    assert answer.json["order"]["lines"][0]["paid_in_points_minor"] == 400
    assert {"wallet": "points", "points": 6} in answer.json["effect"]["points"]
    back = api.post("refunds", refund_of("r1", ("a", None, 501)))
    assert split(back) == [(301, 200, None)]
    assert Hold.objects.count() == 0


# --- quotes ----------------------------------------------------------------------------------------------------


def test_a_key_sent_again_gives_the_same_quote(program: Program, api: Api) -> None:
    first, again = (api.post("checkouts", BASKET, key="k") for _ in range(2))
    assert (again.status, again.json) == (201, first.json)
    assert Checkout.objects.count() == 1
    assert_problem(api.post("checkouts", BASKET | {"shipping_minor": 1}, key="k"), 422, "idempotency_key_reused")


def test_a_dry_run_answers_the_price_and_keeps_nothing(program: Program, api: Api) -> None:
    before = written()
    answer = api.post("checkouts", BASKET, query={"dry_run": "true"})
    assert (answer.status, answer.json["id"], answer.json["price"]) == (200, None, quoted(api)["price"])
    assert written() == [before[0] + 1, *before[1:]]


def test_a_quote_speaks_the_language_asked_for(program: Program, api: Api) -> None:
    answer = api.post("checkouts", BASKET, headers={"Accept-Language": "zh-hans"})
    assert answer.json["price"]["language"] == "zh-hans"


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        ({"member": "eve"}, "unknown_member", "/member"),
        ({"redeem": {"wallet": "coins"}}, "unknown_wallet", "/redeem/wallet"),
        ({"lines": [SOCKS, SOCKS]}, "duplicate_line", "/lines/1/external_id"),
        ({"lines": []}, "invalid_request", "/lines"),
        ({"lines": [SOCKS | {"list_minor": -1}]}, "invalid_request", "/lines/0/list_minor"),
        ({"redeem": {"wallet": "points", "points": 0}}, "invalid_request", "/redeem/points"),
        ({"without": ["ten", "tenn"]}, "unknown_coupon", "/without/1"),
        ({"only": ["tenn"]}, "unknown_coupon", "/only/0"),
    ],
)
def test_a_basket_that_cannot_be_is_refused(
    program: Program, api: Api, change: dict[str, Any], code: str, place: str
) -> None:
    before = written()
    assert_problem(api.post("checkouts", BASKET | change), 422, code, place)
    assert written() == before


def test_a_checkout_belongs_to_its_program_and_opens_to_its_scope(
    program: Program, api: Api, make_key: MakeKey, tmp_path: Path
) -> None:
    one = quoted(api)["id"]
    other = make_shop(tmp_path, code="other")
    foreign = Api(make_key(program=other))
    assert_problem(foreign.get(f"checkouts/{one}"), 404, "unknown_checkout")
    assert_problem(foreign.post(f"checkouts/{one}/hold"), 404, "unknown_checkout")
    assert_problem(foreign.post(f"checkouts/{one}/release"), 404, "unknown_checkout")
    refused = foreign.post("orders", order_of(quoted(api) | {"member": None}))
    assert_problem(refused, 422, "unknown_checkout", "/checkout")
    assert_problem(Api(make_key(Scope.FACTS_WRITE)).post("checkouts", BASKET), 403, "scope_missing")
    token = Api(api.post("members/ann/tokens").json["token"])
    assert token.post("checkouts", BASKET).status == 403


def test_a_coupon_comes_back_only_with_what_it_made_free(program: Program, api: Api) -> None:
    terms: dict[str, Any] = {"discount": {"percent": "100%"}, "categories": ["hats"], "on_refund": "restore"}
    publish(program, "gift", at=NOW - 100 * DAY, how="issued", **terms)
    gift = give_coupon(program, "gift", "ben")
    order = order_of(held(api, member="ben", redeem=None))
    assert [line["amount_minor"] for line in order["lines"]] == [3000, 0]
    assert api.post("orders", order).status == 201
    assert api.post("refunds", refund_of("r1", ("a", 3, 3000), member="ben")).status == 201
    gift.refresh_from_db()
    assert gift.state == "used"
    assert api.post("refunds", refund_of("r2", ("b", 1, 0), member="ben")).status == 201
    gift.refresh_from_db()
    assert gift.state == "open"


def test_refunds_of_several_members_lock_counters_in_ascending_order(program: Program, api: Api) -> None:
    terms: dict[str, Any] = {"how": "automatic", "limit": 5, "on_refund": "restore"}
    coupons = [
        publish(program, f"for-{name}", at=NOW - 100 * DAY, categories=[name], **terms) for name in ("hats", "socks")
    ]
    refunds = []
    for name, line in (("ann", SOCKS), ("ben", HAT)):
        order = order_of(held(api, member=name, lines=[line], redeem=None), name)
        assert api.post("orders", order).status == 201
        part = order["lines"][0]
        told = (part["external_id"], part["units"], part["amount_minor"])
        refunds.append(refund_of(name, told, member=name, order=name))
    with CaptureQueriesContext(connection) as ran:
        assert api.post("refunds/batch", {"refunds": refunds}).status == 200
    on_counters = [query["sql"] for query in ran if "coupons_countershard" in query["sql"]]
    touched = [re.search(r'definition_id" = (\d+)', sql) for sql in on_counters]
    assert list(dict.fromkeys(int(one[1]) for one in touched if one)) == [one.pk for one in coupons]
    assert list(CounterShard.objects.values_list("used", flat=True)) == [0, 0]


def test_a_refund_is_told_in_the_currency_of_its_order_and_splits_in_it(program: Program, api: Api) -> None:
    line = {"external_id": "a", "units": 2, "amount_minor": 1000, "program_amount_minor": 701}
    order = {"external_id": "o1", "member": "ann", "currency": "JPY", "paid_at": NOW.isoformat(), "amount_minor": 1000}
    order |= {"program_amount_minor": 701, "lines": [line | {"paid_in_points_minor": 500}]}
    assert api.post("orders", order).status == 201
    assert_problem(api.post("refunds", refund_of("r0", ("a", 1, 351))), 422, "wrong_currency", "/currency")
    told = [
        api.post("refunds", refund_of(name, ("a", 1, minor), currency="JPY"))
        for name, minor in (("r1", 501), ("r2", 499))
    ]
    assert [split(one) for one in told] == [[(251, 250, None)], [(249, 250, None)]]
    # At the order's rate: floor(701 x 501 / 1000), and the rest.
    assert [one.json["refund"]["program_amount_minor"] for one in told] == [351, 350]
