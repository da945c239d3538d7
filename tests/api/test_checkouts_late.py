"""Orders that were paid before their checkout lapsed and are told later: taken, as far as what was held is there."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.db import connection

from core.models import Program
from coupons.models import Claim, CounterShard, Redemption
from coupons.services import claims
from membership.models import Member, MemberDay, MemberStatus, Order
from points.models import LedgerTransaction, TransactionKind
from points.selectors import get_balance
from points.services import operations
from points.services.verify import verify
from storefront.models import Checkout
from storefront.services.checkouts import holding
from tests.api.checkouts import HAT, SOCKS, held, make_program, order_of, quoted, written
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW, Clock
from tests.api.shop import assert_problem
from tests.coupons.giving import publish
from tests.storefront.announced import announced, deliver
from tests.storefront.checkout_worlds import balance, give_coupon, give_points, member_id, states, wallet_id
from tests.storefront.shop import DAY

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
LATER = NOW + 20 * MINUTE
Late = Callable[..., dict[str, Any]]


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    return make_program(tmp_path)


@pytest.fixture
def late(program: Program, api: Api, clock: Clock) -> Late:
    """Hold a checkout, let it lapse and be swept, and return the order that was paid a minute after the hold."""

    def make(**basket: Any) -> dict[str, Any]:
        order = order_of(held(api, **basket), paid_at=(NOW + MINUTE).isoformat())
        holding.end_lapsed(at=NOW + 16 * MINUTE)
        clock(LATER)
        return order

    return make


def spend(program: Program, points: int, key: str = "k", at: datetime = LATER) -> None:
    operations.redeem(
        program=program, member_id=member_id(program), wallet_id=wallet_id(program), points=points,
        idempotency_key=key, at=at,
    )  # fmt: skip


def lines_of(answer: Any) -> list[tuple[int, int, int]]:
    names = ("amount_minor", "discount_minor", "paid_in_points_minor")
    return [tuple(line[name] for name in names) for line in answer.json["order"]["lines"]]


# --- all of it is there ----------------------------------------------------------------------------------------


def test_what_was_not_swept_yet_is_used_as_held(program: Program, api: Api, clock: Clock) -> None:
    order = order_of(held(api), paid_at=(NOW + 14 * MINUTE).isoformat())
    clock(LATER)
    answer = api.post("orders", order)
    assert (answer.status, answer.json["shortfall"]) == (201, None), answer.text
    assert states() == {"checkouts": ["paid"], "redemptions": ["committed"] * 2, "claims": ["used"] * 2}
    assert holding.end_lapsed(at=LATER) == 0
    assert (balance(program).held, balance(program).lifetime_redeemed) == (0, 1_000)


def test_what_is_free_again_is_taken_again_and_comes_back_with_the_order(
    program: Program, api: Api, late: Late
) -> None:
    order = late()
    assert states()["checkouts"] == ["lapsed"]
    answer = api.post("orders", order)
    assert (answer.status, answer.json["shortfall"]) == (201, None), answer.text
    assert lines_of(answer) == [(2375, 625, 625), (1425, 575, 375)]
    assert states() == {
        "checkouts": ["paid"], "redemptions": ["released"] * 2 + ["committed"] * 2, "claims": ["used"] * 2,
    }  # fmt: skip
    assert (balance(program).held, balance(program).lifetime_redeemed) == (0, 1_000)
    again = api.post("orders", order)
    assert (again.status, again.json["order"]) == (200, answer.json["order"])
    assert api.post("orders/o1/cancel", {}).status == 201
    assert (balance(program).available, states()["claims"][0]) == (1_000, "open")
    assert list(verify(program=program)) == []


def test_a_quote_that_holds_nothing_is_paid_late_too(program: Program, api: Api, clock: Clock) -> None:
    order = order_of(quoted(api, member=None), paid_at=(NOW + MINUTE).isoformat())
    holding.end_lapsed(at=NOW + 16 * MINUTE)
    clock(LATER)
    assert api.post("orders", order).status == 201
    assert states()["checkouts"] == ["paid"]


def test_a_coupon_whose_end_is_over_was_used_in_time(program: Program, api: Api, late: Late) -> None:
    order = late()
    Claim.objects.update(expires_at=NOW + 2 * MINUTE)
    answer = api.post("orders", order)
    assert (answer.status, answer.json["shortfall"]) == (201, None)
    assert set(states()["claims"]) == {"used"}


def test_what_was_claimed_on_the_way_is_claimed_again(program: Program, api: Api, late: Late) -> None:
    publish(program, "flash", at=NOW - DAY, how="automatic", limit=1)
    order = late()
    assert CounterShard.objects.get().used == 0
    assert api.post("orders", order).json["shortfall"] is None
    assert CounterShard.objects.get().used == 1
    claim = Claim.objects.exclude(state="revoked").get(definition__code="flash")
    assert (claim.state, claim.claimed_at) == ("used", NOW)


def test_a_suspension_since_then_takes_nothing_back(program: Program, api: Api, late: Late) -> None:
    order = late()
    Member.objects.update(status=MemberStatus.SUSPENDED)
    assert api.post("orders", order).json["shortfall"] is None
    assert balance(program).lifetime_redeemed == 1_000


# --- some of it is gone ----------------------------------------------------------------------------------------


def test_points_that_are_gone_are_a_discount_that_the_shop_gave(program: Program, api: Api, late: Late) -> None:
    order = late()
    spend(program, 500)
    operations.adjust(
        program=program, member_id=member_id(program), wallet_id=wallet_id(program), points=-50, reason="test",
        decided_by="test", idempotency_key="a", at=LATER,
    )  # fmt: skip
    answer = api.post("orders", order)
    assert answer.status == 201, answer.text
    # 450 are left, so four steps of a hundred: 4.00 of 10.00, split as the 10.00 were.
    assert answer.json["shortfall"] == {
        "points": {
            "points": 600,
            "amount_minor": 600,
            "text": "600 points were no longer there: the shop gave GBP 6.00.",
        },
        "coupons": [],
    }
    assert answer.json["order"]["amount_minor"] == 3800 + 499 - 600
    assert lines_of(answer) == [(2000, 1000, 250), (1200, 800, 150)]
    # It earns as it would have: 17.50 and 10.50 in money.
    assert {"wallet": "points", "points": 27} in answer.json["effect"]["points"]
    assert MemberDay.objects.get().spend_minor == 3800 + 499 - 600
    assert (balance(program).available, balance(program).held) == (50 + 27, 0)

    shown = api.get(f"checkouts/{order['checkout']}").json
    assert (shown["state"], shown["shortfall"]) == ("paid", answer.json["shortfall"])
    price = shown["price"]
    assert [line["points"] for line in price["lines"]] == [250, 150]
    assert [(step["stage"], step["left_minor"]) for step in price["lines"][0]["steps"]] == [
        ("order_coupon", 2375), ("shortfall", 2000), ("points", 1750),
    ]  # fmt: skip
    assert (price["amount_minor"], price["paid_in_points_minor"], price["to_pay_minor"]) == (3699, 400, 3299)
    assert price["discount_minor"] == 625 + 575 + 600

    again = api.post("orders", order)
    assert (again.status, again.json["order"], again.json["shortfall"]) == (
        200, answer.json["order"], answer.json["shortfall"],
    )  # fmt: skip
    batch = api.post("orders/batch", {"orders": [order]}).json["results"]
    assert batch[0]["outcome"] == "repeated"

    cancelled = api.post("orders/o1/cancel", {}).json["order"]
    assert sum(refund["amount_minor"] for refund in cancelled["refunds"]) == 3699
    assert balance(program).available == 50 + 400
    assert list(verify(program=program)) == []


def test_no_points_at_all_pay_nothing(program: Program, api: Api, late: Late) -> None:
    order = late()
    spend(program, 1_000)
    answer = api.post("orders", order)
    assert answer.json["shortfall"]["points"]["points"] == 1_000
    assert [line["paid_in_points_minor"] for line in answer.json["order"]["lines"]] == [0, 0]
    assert answer.json["order"]["amount_minor"] == 2800 + 499
    assert LedgerTransaction.objects.filter(kind=TransactionKind.CAPTURE).count() == 0
    assert api.post("orders/o1/cancel", {}).status == 201
    assert balance(program).available == 0


def test_a_coupon_that_is_gone_is_named_and_stays_off(program: Program, api: Api, late: Late) -> None:
    publish(program, "flash", at=NOW - DAY, how="automatic", limit=1)
    order = late()
    api.post("members/ben/coupons/issue", {"coupon": "ten", "source": "s"})
    other = held(api, member="ben", redeem=None)
    assert CounterShard.objects.get().used == 1
    answer = api.post("orders", order)
    assert answer.status == 201, answer.text
    (missing,) = answer.json["shortfall"]["coupons"]
    assert (missing["code"], missing["reason"]) == ("flash", "all_given_out")
    assert missing["text"] == "All coupons “Flash” were given out meanwhile."
    assert answer.json["order"]["amount_minor"] == order["amount_minor"]
    committed = Redemption.objects.filter(state="committed")
    assert set(committed.values_list("claim__definition__code", flat=True)) == {"ten", "hats"}
    assert other["state"] == "held"


@pytest.mark.parametrize("gone", ["held", "used", "revoked"])
def test_a_claim_that_is_gone_is_named(program: Program, api: Api, late: Late, gone: str) -> None:
    order = late(redeem=None)
    if gone == "revoked":
        claim = Claim.objects.get(definition__code="ten")
        claims.revoke(program=program, member_id=claim.member_id, claim_id=claim.pk, reason="test", at=LATER)
    else:
        other = held(api, lines=[SOCKS], redeem=None)
        if gone == "used":
            assert api.post("orders", order_of(other, "o2", paid_at=LATER.isoformat())).status == 201
    answer = api.post("orders", order)
    reason = {"held": "held_in_checkout", "used": "already_used", "revoked": "revoked"}[gone]
    assert [(one["code"], one["reason"]) for one in answer.json["shortfall"]["coupons"]] == [("ten", reason)]


def test_what_could_not_be_taken_is_told_as_an_event(program: Program, api: Api, late: Late) -> None:
    order = late()
    spend(program, 900)
    Claim.objects.filter(definition__code="hats").update(state="revoked", revoked_at=LATER)
    api.post("orders", order)
    assert deliver(at=LATER).failed == 0
    ((_, data),) = announced("checkout.shortfall")
    assert data == {
        "checkout": order["checkout"], "order": "o1", "member": "ann", "currency": "GBP", "wallet": "points",
        "points": 900, "amount_minor": 900,
        "coupons": [{"coupon": "hats", "discount_minor": 200, "shipping_discount_minor": 0, "reason": "revoked"}],
    }  # fmt: skip


def test_late_orders_of_one_batch_share_what_is_there(program: Program, api: Api, clock: Clock) -> None:
    redeem = {"wallet": "points", "points": 500}
    checkouts = [held(api, lines=[line], redeem=redeem) for line in (SOCKS, HAT)]
    orders = [order_of(one, f"o{n}", paid_at=(NOW + MINUTE).isoformat()) for n, one in enumerate(checkouts)]
    holding.end_lapsed(at=NOW + 16 * MINUTE)
    spend(program, 300)
    clock(LATER)
    answer = api.post("orders/batch", {"orders": orders})
    assert [one["outcome"] for one in answer.json["results"]] == ["recorded"] * 2
    short = Checkout.objects.order_by("pk").values_list("shortfall__points", flat=True)
    assert list(short) == [None, 300]
    assert balance(program).lifetime_redeemed == 300 + 700
    assert list(verify(program=program)) == []


def test_a_dry_run_of_a_late_order_says_what_is_missing_and_takes_nothing(
    program: Program, api: Api, late: Late
) -> None:
    order = late()
    spend(program, 900)
    before, balances = written(), balance(program)
    answer = api.post("orders", order, query={"dry_run": "true"})
    assert (answer.status, answer.json["shortfall"]["points"]["points"]) == (200, 900)
    assert (written(), balance(program), states()["checkouts"]) == (before, balances, ["lapsed"])


@pytest.mark.parametrize("is_swept", [True, False])
def test_who_releases_what_has_lapsed_gives_up_no_payment_made_in_time(
    program: Program, api: Api, clock: Clock, is_swept: bool
) -> None:
    checkout = held(api)
    order = order_of(checkout, paid_at=(NOW + MINUTE).isoformat())
    clock(LATER)
    if is_swept:
        holding.end_lapsed(at=LATER)
    released = api.post(f"checkouts/{checkout['id']}/release")
    assert (released.status, released.json["state"]) == (200, "lapsed")
    assert balance(program).held == 0
    assert api.post("orders", order).status == 201


# --- what is refused -------------------------------------------------------------------------------------------


def test_what_was_released_is_not_revived(program: Program, api: Api, clock: Clock) -> None:
    checkout = held(api)
    api.post(f"checkouts/{checkout['id']}/release")
    clock(LATER)
    before = written()
    order = order_of(checkout, paid_at=(NOW + MINUTE).isoformat())
    assert_problem(api.post("orders", order), 409, "checkout_released")
    assert written() == before


def test_a_lapsed_quote_of_coupons_that_was_never_held_is_not_paid(program: Program, api: Api, clock: Clock) -> None:
    order = order_of(quoted(api), paid_at=(NOW + MINUTE).isoformat())
    clock(LATER)
    assert_problem(api.post("orders", order), 409, "checkout_not_held")


@pytest.mark.parametrize(
    ("ahead", "is_taken"), [(timedelta(minutes=5), True), (timedelta(minutes=5, seconds=1), False)]
)
def test_an_order_that_was_paid_long_before_its_quote_does_not_pay_it(
    program: Program, api: Api, ahead: timedelta, is_taken: bool
) -> None:
    order = order_of(held(api), paid_at=(NOW - ahead).isoformat())
    before = written()
    answer = api.post("orders", order)
    if is_taken:
        assert answer.status == 201
    else:
        assert_problem(answer, 422, "paid_before_quote", "/paid_at")
        assert written() == before


# --- at once ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_late_order_sent_by_eight_at_once_takes_once(program: Program, api: Api, late: Late) -> None:
    order = late()
    answers = in_parallel([partial(api.post, "orders", order)] * 8)
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    assert Order.objects.count() == 1
    assert LedgerTransaction.objects.filter(kind=TransactionKind.CAPTURE).count() == 1
    assert sorted(states()["redemptions"]) == ["committed"] * 2 + ["released"] * 2
    assert list(verify(program=program)) == []


@pytest.mark.django_db(transaction=True)
def test_points_spent_while_a_late_order_is_written_are_read_again(
    program: Program, api: Api, late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the second reading the hold would find fewer points than the order was filled in with."""
    order = late()
    times: list[int] = []

    def read_and_lose(**account: Any) -> Any:
        found = get_balance(**account)
        times.append(found.available)
        if len(times) == 1:
            thread = Thread(target=_spend_elsewhere, args=(program,))
            thread.start()
            thread.join()
        return found

    monkeypatch.setattr("storefront.services.checkouts.paying.get_balance", read_and_lose)
    answer = api.post("orders", order)
    assert (answer.status, times) == (201, [1_000, 700])
    assert answer.json["shortfall"]["points"]["points"] == 300
    assert list(verify(program=program)) == []


def _spend_elsewhere(program: Program) -> None:
    try:
        spend(program, 300)
    finally:
        connection.close()


def test_two_members_late_orders_keep_apart(program: Program, api: Api, clock: Clock) -> None:
    give_points(program, 200, "ben")
    give_coupon(program, "ten", "ben")
    orders = [order_of(held(api, member=name), name, paid_at=(NOW + MINUTE).isoformat()) for name in ("ann", "ben")]
    holding.end_lapsed(at=NOW + 16 * MINUTE)
    clock(LATER)
    assert {api.post("orders", one).status for one in orders} == {201}
    assert (balance(program, "ben").lifetime_redeemed, balance(program).lifetime_redeemed) == (200, 1_000)
