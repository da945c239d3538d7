"""Orders that pay checkouts: what differs or is too late is refused untouched, what comes at once counts once."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from core.models import Program
from coupons.services import redemptions
from membership import locks as membership_locks
from membership.models import Order
from points.models import LedgerTransaction, TransactionKind
from points.selectors import get_balance
from points.services import holds
from points.services.verify import verify
from storefront import locks
from storefront.models import Checkout
from storefront.services.checkouts import holding, quoting
from tests.api.checkouts import held, make_program, order_of, quoted, written
from tests.api.client import Api, in_parallel
from tests.api.conftest import NOW, Clock
from tests.api.shop import assert_problem
from tests.storefront.checkout_worlds import balance, make_gold, member_id, states, wallet_id

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    return make_program(tmp_path)


# --- what is not as it was -------------------------------------------------------------------------------------


Change = Callable[[dict[str, Any]], None]


def _line(name: str, value: Any) -> Change:
    return lambda order: order["lines"][1].update({name: value})


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        (_line("amount_minor", 1424), "basket_changed", "/lines/1/amount_minor"),
        (_line("units", 2), "basket_changed", "/lines/1/units"),
        (_line("sku", "CAP"), "basket_changed", "/lines/1/sku"),
        (_line("external_id", "c"), "basket_changed", "/lines"),
        (_line("discount_minor", 574), "basket_changed", "/lines/1/discount_minor"),
        (_line("paid_in_points_minor", 374), "basket_changed", "/lines/1/paid_in_points_minor"),
        (lambda order: order["lines"].pop(), "basket_changed", "/lines"),
        (lambda order: order["lines"].append({"external_id": "c", "units": 1, "amount_minor": 0}), *(
            "basket_changed", "/lines/2/external_id")),
        (lambda order: order["lines"].append(order["lines"][0]), "duplicate_line", "/lines"),
        (lambda order: order.update(amount_minor=order["amount_minor"] - 499), "basket_changed", "/amount_minor"),
        (lambda order: order.update(market="us"), "basket_changed", "/market"),
        (lambda order: order.update(currency="EUR", program_amount_minor=1), "basket_changed", "/currency"),
        (lambda order: order.update(member="ben"), "checkout_of_other_member", "/member"),
        (lambda order: order.pop("member"), "checkout_of_other_member", "/member"),
        (lambda order: order.update(checkout="01980000-0000-7000-8000-000000000000"), "unknown_checkout", "/checkout"),
    ],
)  # fmt: skip
def test_an_order_that_differs_from_its_checkout_is_refused_before_anything_is_used(
    program: Program, api: Api, change: Change, code: str, place: str
) -> None:
    order = order_of(held(api))
    change(order)
    before, balances = written(), balance(program)
    assert_problem(api.post("orders", order), 422, code, place)
    batch = api.post("orders/batch", {"orders": [order]})
    assert batch.json["results"][0]["problem"]["code"] == code
    assert (written(), balance(program)) == (before, balances)
    assert states() == {"checkouts": ["held"], "redemptions": ["held"] * 2, "claims": ["held"] * 2}


def test_an_order_may_tell_what_its_checkout_says(program: Program, api: Api) -> None:
    order = order_of(held(api))
    for line, parts in zip(order["lines"], ((625, 625), (575, 375)), strict=True):
        line["discount_minor"], line["paid_in_points_minor"] = parts
    assert api.post("orders", order).status == 201


def test_what_is_not_held_is_not_paid(program: Program, api: Api) -> None:
    before = written()
    assert_problem(api.post("orders", order_of(quoted(api))), 409, "checkout_not_held", "/checkout")
    assert written() == [before[0] + 1, *before[1:]]


def test_what_is_paid_after_the_hold_pays_no_checkout_whether_or_not_it_was_swept(
    program: Program, api: Api, clock: Clock
) -> None:
    checkout = held(api)
    order = order_of(checkout, paid_at=(NOW + 15 * MINUTE).isoformat())
    clock(NOW + 15 * MINUTE)
    before = written()
    assert_problem(api.post("orders", order), 409, "checkout_lapsed")
    assert_problem(api.post(f"checkouts/{checkout['id']}/hold"), 409, "checkout_lapsed")
    assert api.get(f"checkouts/{checkout['id']}").json["state"] == "lapsed"
    assert written() == before
    holding.end_lapsed(at=NOW + 15 * MINUTE)
    assert_problem(api.post("orders", order), 409, "checkout_lapsed")
    assert (balance(program).available, states()["claims"]) == (1_000, ["open"] * 2)


def test_a_payment_that_the_sweep_of_coupons_has_overtaken_uses_them_again(program: Program, api: Api) -> None:
    order = order_of(held(api))
    redemptions.release_lapsed(at=NOW + quoting.lifetime())
    answer = api.post("orders", order)
    assert (answer.status, answer.json["shortfall"]) == (201, None)
    assert states() == {
        "checkouts": ["paid"], "redemptions": ["released"] * 2 + ["committed"] * 2, "claims": ["used"] * 2,
    }  # fmt: skip


def test_a_released_checkout_is_not_paid_and_a_paid_one_not_released(program: Program, api: Api) -> None:
    checkout = held(api)
    first, again = (api.post(f"checkouts/{checkout['id']}/release") for _ in range(2))
    assert (first.json["state"], again.json) == ("released", first.json)
    assert_problem(api.post("orders", order_of(checkout)), 409, "checkout_released")
    paid = held(api)
    api.post("orders", order_of(paid))
    for deed in ("release", "hold"):
        assert_problem(api.post(f"checkouts/{paid['id']}/{deed}"), 409, "checkout_already_paid")
    assert_problem(api.post("orders", order_of(paid, "o2")), 409, "checkout_already_paid")
    assert Order.objects.count() == 1


def test_a_tier_that_changed_meanwhile_changes_the_quote(program: Program, api: Api) -> None:
    checkout = quoted(api)
    make_gold(program)
    before = written()
    refused = api.post(f"checkouts/{checkout['id']}/hold")
    assert_problem(refused, 409, "quote_changed", "/lines/0/amount_minor")
    assert "was GBP 23.75, is GBP 22.25" in refused.text
    assert written() == before
    assert states()["claims"] == ["open"] * 2


def test_an_order_sent_again_is_repeated_and_another_one_conflicts(program: Program, api: Api) -> None:
    checkout = held(api)
    order = order_of(checkout)
    first, again = (api.post("orders", order) for _ in range(2))
    assert (again.status, again.json["outcome"], again.json["order"]) == (200, "repeated", first.json["order"])
    assert api.post("orders/batch", {"orders": [order]}).json["results"][0]["outcome"] == "repeated"
    before = written()
    without = {name: value for name, value in order.items() if name != "checkout"}
    assert_problem(api.post("orders", without), 409, "fact_conflict")
    assert_problem(api.post("orders", order | {"channel": "app"}), 409, "fact_conflict")
    assert written() == before


def test_an_order_that_was_recorded_without_it_does_not_pay_a_checkout(program: Program, api: Api) -> None:
    checkout = quoted(api, member=None)
    order = order_of(checkout)
    api.post("orders", {name: value for name, value in order.items() if name != "checkout"})
    assert_problem(api.post("orders", order), 409, "fact_conflict")
    assert states()["checkouts"] == ["quoted"]


def test_a_batch_takes_the_orders_that_agree_and_refuses_the_others(program: Program, api: Api) -> None:
    good, bare = held(api), quoted(api, member="ben", redeem=None)
    orders = [
        order_of(good), order_of(good, "o2"), order_of(bare, "o3", market="us"), order_of(bare, "o4"),
    ]  # fmt: skip
    results = api.post("orders/batch", {"orders": orders}).json["results"]
    assert [each["outcome"] for each in results] == ["recorded", "refused", "refused", "recorded"]
    assert [each["problem"]["code"] for each in results if each["problem"]] == [
        "checkout_already_paid", "basket_changed",
    ]  # fmt: skip
    assert states()["checkouts"] == ["paid", "paid"]
    assert list(verify(program=program)) == []


def test_a_dry_run_of_a_paying_order_uses_nothing(program: Program, api: Api) -> None:
    checkout = held(api)
    before = written()
    answer = api.post("orders", order_of(checkout), query={"dry_run": "true"})
    assert (answer.status, answer.json["outcome"]) == (200, "recorded")
    assert (written(), states()["checkouts"]) == (before, ["held"])


# --- at once ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_two_holds_of_the_last_points_one_wins(program: Program, api: Api) -> None:
    checkouts = [quoted(api)["id"] for _ in range(2)]
    answers = in_parallel([partial(api.post, f"checkouts/{one}/hold") for one in checkouts])
    assert sorted((answer.status, answer.code) for answer in answers) == [(200, None), (409, "quote_changed")]
    assert sorted(states()["checkouts"]) == ["held", "quoted"]
    assert balance(program).held == 1_000
    assert list(verify(program=program)) == []


@pytest.mark.django_db(transaction=True)
def test_control_without_any_lock_both_checkouts_would_be_held(
    program: Program, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both work out the price before either has posted; only what is locked later could stop them."""
    seen: list[int] = []
    monkeypatch.setattr(membership_locks, "lock_members", lambda _ids: [])
    monkeypatch.setattr(redemptions, "hold", lambda **_told: [])
    monkeypatch.setattr(holds, "hold", lambda **told: seen.append(told["points"]))
    checkouts = [quoted(api)["id"] for _ in range(2)]
    answers = in_parallel([partial(api.post, f"checkouts/{one}/hold") for one in checkouts])
    assert [answer.status for answer in answers] == [200, 200]
    assert seen == [1_000, 1_000]


@pytest.mark.django_db(transaction=True)
def test_the_same_paid_order_sent_by_eight_at_once_captures_once(program: Program, api: Api) -> None:
    order = order_of(held(api))
    answers = in_parallel([lambda: api.post("orders", order)] * 8)
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    assert LedgerTransaction.objects.filter(kind=TransactionKind.CAPTURE).count() == 1
    assert Order.objects.count() == 1
    assert states() == {"checkouts": ["paid"], "redemptions": ["committed"] * 2, "claims": ["used"] * 2}
    assert balance(program).lifetime_redeemed == 1_000
    assert list(verify(program=program)) == []


@pytest.mark.django_db(transaction=True)
def test_paid_and_released_at_once_is_one_of_them(program: Program, api: Api) -> None:
    checkout = held(api)
    paid, released = in_parallel([
        lambda: api.post("orders", order_of(checkout)),
        lambda: api.post(f"checkouts/{checkout['id']}/release"),
    ])  # fmt: skip
    assert (paid.status, released.status) in {(201, 409), (409, 200)}
    assert (states()["checkouts"] == ["paid"]) == (paid.status == 201)
    wallet = {"member_id": member_id(program), "wallet_id": wallet_id(program)}
    assert get_balance(**wallet, at=NOW).held == 0
    assert list(verify(program=program)) == []


@pytest.mark.django_db(transaction=True)
def test_control_without_the_checkouts_lock_two_orders_pay_one_checkout(
    program: Program, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = quoted(api, member=None)
    orders = [order_of(checkout, name) for name in ("o1", "o2")]
    guarded = in_parallel([partial(api.post, "orders", one) for one in orders])
    assert sorted(answer.status for answer in guarded) == [201, 409]
    bare = quoted(api, member=None)

    both = Barrier(2)

    def unlocked(program_id: int, public_ids: Any) -> list[Checkout]:
        found = list(Checkout.objects.filter(program_id=program_id, public_id__in=public_ids, order=None))
        both.wait(timeout=30)
        return found

    monkeypatch.setattr(locks, "lock_checkouts", unlocked)
    orders = [order_of(bare, name) for name in ("o3", "o4")]
    loose = in_parallel([partial(api.post, "orders", one) for one in orders])
    assert [answer.status for answer in loose] == [201, 201]
