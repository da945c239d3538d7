"""Checkouts: quoted without a trace, held as quoted, released and lapsed without a rest."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from core.models import Program
from coupons.models import Claim, Redemption
from membership.fact_inputs import BadFact, OrderInput, OrderLineInput, RefundInput, RefundLineInput
from membership.models import Member, MemberStatus, Refund
from points.models import Hold, LedgerTransaction
from points.services import operations
from points.services.verify import verify
from storefront.checkout_inputs import CheckoutInput, CheckoutRefused, QuoteChanged
from storefront.models import Checkout
from storefront.quotes import work_out
from storefront.refund_splits import Split, read_splits
from storefront.services import intake
from storefront.services.checkouts import holding, quoting
from storefront.tasks import end_checkouts
from tests.coupons.giving import publish
from tests.storefront.checkout_worlds import (
    HAT,
    SOCKS,
    balance,
    give_coupon,
    give_points,
    make_gold,
    make_shop,
    member_id,
    states,
    told,
    wallet_id,
)
from tests.storefront.shop import DAY, NOW

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def shop(tmp_path: Path) -> Program:
    """Ann has 1,000 points and two coupons."""
    program = make_shop(tmp_path)
    give_points(program, 1_000)
    give_coupon(program, "ten")
    give_coupon(program, "hats")
    return program


def quote(program: Program, basket: CheckoutInput | None = None, **more: Any) -> Checkout:
    return quoting.quote(program=program, told=basket or told(**more), at=NOW)


def rows() -> list[int]:
    return [model._default_manager.count() for model in (Checkout, Claim, Redemption, Hold, LedgerTransaction)]


# --- quotes ----------------------------------------------------------------------------------------------------


def test_a_quote_explains_every_line_and_sets_nothing_aside(shop: Program) -> None:
    before = rows()
    price = quote(shop, wallet="points").price
    assert [after - one for one, after in zip(before, rows(), strict=True)] == [1, 0, 0, 0, 0]
    assert [step["text"] for step in price["lines"][1]["steps"]] == [
        "The coupon hats takes off GBP 2.00.",
        "The coupon ten takes off GBP 3.75 as its share of the order.",
        "Points pay GBP 3.75.",
    ]
    assert [step["left_minor"] for step in price["lines"][1]["steps"]] == [1800, 1425, 1050]
    assert {name: price[name] for name in ("amount_minor", "paid_in_points_minor", "to_pay_minor")} == {
        "amount_minor": 3800 + 499, "paid_in_points_minor": 1000, "to_pay_minor": 2800 + 499,
    }  # fmt: skip
    assert price["points"]["sentences"] == ["1,000 points pay GBP 10.00."]
    assert price["earns"] == [{"wallet": "gems", "points": 28}, {"wallet": "points", "points": 27}]
    assert [(each["code"], each["reason"]) for each in price["coupons"]["refused"]] == [("big", "below_threshold")]


def test_the_tier_takes_off_before_coupons_and_ships_for_nothing(shop: Program) -> None:
    make_gold(shop)
    price = quote(shop).price
    assert price["tier"] == "gold"
    assert [step["stage"] for step in price["lines"][0]["steps"]] == ["tier_discount", "order_coupon"]
    assert price["lines"][0]["steps"][0]["change_minor"] == -150
    assert price["shipping"]["amount_minor"] == 0
    assert price["shipping"]["steps"][0]["text"] == "The tier gold ships for nothing: GBP 4.99 off."


def test_a_guest_is_quoted_without_benefits_coupons_and_points(shop: Program) -> None:
    price = quote(shop, member="", codes=("TEN",), wallet="points", points=500).price
    assert (price["to_pay_minor"], price["earns"], price["points"]["reason"]) == (5499, None, "no_member")
    assert [(each["code"], each["reason"]) for each in price["coupons"]["refused"]] == [("TEN", "no_member")]


def test_a_suspended_member_keeps_the_tier_and_uses_nothing(shop: Program) -> None:
    make_gold(shop)
    Member.objects.filter(external_id="ann").update(status=MemberStatus.SUSPENDED)
    price = quote(shop, wallet="points", codes=("X",)).price
    assert (price["tier"], price["paid_in_points_minor"], price["coupons"]["applied"]) == ("gold", 0, [])
    assert price["points"]["reason"] == price["coupons"]["refused"][0]["reason"] == "member_suspended"


def test_another_currency_takes_no_points_and_promises_none(shop: Program) -> None:
    basket = told(wallet="points")
    foreign = CheckoutInput.from_json(basket.to_json() | {"basket": basket.to_json()["basket"] | {"currency": "EUR"}})
    price = quote(shop, foreign).price
    assert (price["points"]["reason"], price["earns"]) == ("currency_not_covered", None)
    assert {each["reason"] for each in price["coupons"]["refused"]} >= {"currency_not_covered"}


def test_an_unknown_code_says_so(shop: Program) -> None:
    refused = quote(shop, codes=("NOPE",)).price["coupons"]["refused"]
    expected: dict[str, Any] = {
        "code": "NOPE",
        "claim": None,
        "reason": "unknown",
        "details": {},
        "text": "This code is not valid.",
    }
    assert expected in refused


@pytest.mark.parametrize(
    ("basket", "field", "code"),
    [
        (told(SOCKS, SOCKS), "lines.1.external_id", "duplicate_line"),
        (told(member="eve"), "member", "unknown_member"),
        (told(wallet="coins"), "redeem.wallet", "unknown_wallet"),
        (told(shipping=2**53 - 1), "lines", "invalid_value"),
    ],
)
def test_a_basket_that_cannot_be_is_refused(shop: Program, basket: CheckoutInput, field: str, code: str) -> None:
    before = rows()
    with pytest.raises(BadFact) as refusal:
        quote(shop, basket)
    assert (refusal.value.field, refusal.value.code) == (field, code)
    assert rows() == before


def test_what_was_told_comes_back_from_its_json() -> None:
    basket = told(wallet="points", points=5, codes=("A", "B"), channel="web")
    assert CheckoutInput.from_json(basket.to_json()) == basket


# --- holds -----------------------------------------------------------------------------------------------------


def test_a_hold_sets_coupons_and_points_aside_once(shop: Program) -> None:
    checkout = quote(shop, wallet="points")
    moved = [holding.hold(program=shop, public_id=checkout.public_id, at=NOW + n * MINUTE) for n in (1, 2)]
    assert [each.is_new for each in moved] == [True, False]
    assert (moved[1].checkout.held_at, moved[1].checkout.lapses_at) == (NOW + MINUTE, NOW + 16 * MINUTE)
    assert (balance(shop).available, balance(shop).held) == (0, 1_000)
    assert states() == {"checkouts": ["held"], "redemptions": ["held", "held"], "claims": ["held", "held"]}
    assert list(verify(program=shop)) == []


Change = Callable[[Program], object]


def _spend(program: Program) -> None:
    operations.redeem(
        program=program,
        member_id=member_id(program),
        wallet_id=wallet_id(program),
        points=100,
        idempotency_key="k",
        at=NOW,
    )


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (make_gold, {"lines.0.amount_minor", "shipping.amount_minor", "amount_minor"}),
        (_spend, {"points.points", "lines.0.paid_in_points_minor"}),
        (lambda _program: Claim.objects.filter(definition__code="ten").update(expires_at=NOW), {"coupons"}),
        (lambda _program: Member.objects.update(status=MemberStatus.SUSPENDED), {"coupons", "points.points"}),
    ],
)
def test_a_hold_of_a_price_that_changed_is_refused_and_holds_nothing(
    shop: Program, change: Change, fields: set[str]
) -> None:
    checkout = quote(shop, wallet="points")
    change(shop)
    with transaction.atomic():
        before, balances = rows(), balance(shop)
    with pytest.raises(QuoteChanged) as refusal:
        holding.hold(program=shop, public_id=checkout.public_id, at=NOW)
    assert fields <= {each.field for each in refusal.value.differences}
    assert (rows(), balance(shop)) == (before, balances)
    assert set(states()["claims"]) == {"open"}
    assert states()["checkouts"] == ["quoted"]


def test_a_coupon_for_a_first_order_is_held_by_one_checkout(shop: Program) -> None:
    publish(shop, "first", at=NOW - DAY, how="automatic", first_order=True)
    first, second = quote(shop, member="ben"), quote(shop, member="ben")
    holding.hold(program=shop, public_id=first.public_id, at=NOW)
    with pytest.raises(QuoteChanged):
        holding.hold(program=shop, public_id=second.public_id, at=NOW)
    assert [one["reason"] for one in quote(shop, member="ben").price["coupons"]["refused"]] == [
        "below_threshold", "first_order_held",
    ]  # fmt: skip
    holding.release(program=shop, public_id=first.public_id, at=NOW)
    assert holding.hold(program=shop, public_id=second.public_id, at=NOW).is_new


def test_the_checkout_is_locked_before_its_member_and_the_price_is_read(shop: Program) -> None:
    checkout = quote(shop, wallet="points")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        holding.hold(program=shop, public_id=checkout.public_id, at=NOW)
    statements = [query["sql"] for query in queries]
    first = [next(n for n, sql in enumerate(statements) if part in sql) for part in (
        "FROM \"storefront_checkout\"", "FROM membership_member WHERE id = ANY", "points_standings",
    )]  # fmt: skip
    assert first == sorted(first)
    assert "FOR NO KEY UPDATE" in statements[first[0]]


def test_a_release_gives_everything_back_once(shop: Program) -> None:
    checkout = quote(shop, wallet="points")
    before = balance(shop)
    holding.hold(program=shop, public_id=checkout.public_id, at=NOW)
    moved = [holding.release(program=shop, public_id=checkout.public_id, at=NOW) for _ in range(2)]
    assert [each.is_new for each in moved] == [True, False]
    assert balance(shop) == before
    assert states() == {"checkouts": ["released"], "redemptions": ["released"] * 2, "claims": ["open"] * 2}
    with pytest.raises(CheckoutRefused) as refusal:
        holding.hold(program=shop, public_id=checkout.public_id, at=NOW)
    assert refusal.value.code == "checkout_released"
    assert list(verify(program=shop)) == []


def test_a_quote_can_be_held_until_it_lapses(shop: Program) -> None:
    first, second = quote(shop), quote(shop)
    with pytest.raises(CheckoutRefused) as refusal:
        holding.hold(program=shop, public_id=first.public_id, at=NOW + 15 * MINUTE)
    assert refusal.value.code == "checkout_lapsed"
    assert holding.hold(
        program=shop, public_id=second.public_id, at=NOW + 15 * MINUTE - timedelta(microseconds=1)
    ).is_new


def test_the_sweep_frees_what_lapsed_and_leaves_the_rest(shop: Program) -> None:
    give_points(shop, 700, "ben")
    lapsed = quote(shop, wallet="points")
    holding.hold(program=shop, public_id=lapsed.public_id, at=NOW)
    live = quote(shop, member="ben", wallet="points")
    holding.hold(program=shop, public_id=live.public_id, at=NOW + MINUTE)
    quote(shop, member="")
    assert holding.end_lapsed(at=NOW + 15 * MINUTE) == 2
    assert holding.end_lapsed(at=NOW + 15 * MINUTE) == 0
    assert states() == {
        "checkouts": ["lapsed", "held", "lapsed"], "redemptions": ["released"] * 2, "claims": ["open"] * 2,
    }  # fmt: skip
    assert (balance(shop).available, balance(shop, "ben").held) == (1_000, 700)
    assert list(verify(program=shop)) == []
    end_checkouts()  # by the machine's clock, which is past all of this; the one that ended long ago is forgotten
    assert balance(shop, "ben").held == 0
    assert "held" not in states()["checkouts"]


def test_what_ended_unpaid_is_forgotten_in_time(shop: Program) -> None:
    kept, gone = quote(shop), quote(shop)
    holding.release(program=shop, public_id=gone.public_id, at=NOW)
    assert holding.forget_ended(before=NOW, held_before=NOW) == 0
    assert holding.forget_ended(before=NOW + MINUTE, held_before=NOW) == 1
    assert Checkout.objects.get() == kept


def test_the_database_refuses_a_state_without_its_instants(shop: Program) -> None:
    checkout = quote(shop)
    for changes in ({"state": "held"}, {"state": "paid", "closed_at": NOW}, {"closed_at": NOW}, {"points": 5}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Checkout.objects.filter(pk=checkout.pk).update(**changes)
    assert states()["checkouts"] == ["quoted"]


def test_working_out_a_price_reads_only(shop: Program) -> None:
    with CaptureQueriesContext(connection) as queries:
        work_out(program=shop, told=told(wallet="points"), at=NOW)
    assert [query["sql"] for query in queries if not query["sql"].lstrip(" (\n").startswith(("SELECT", "WITH"))] == []


def paid_by(checkout: Checkout) -> OrderInput:
    """Return the order o1 that pays a checkout of the usual basket."""
    lines = tuple(
        OrderLineInput(external_id=line.key, units=line.units, amount_minor=priced["amount_minor"], sku=line.sku,
                       category=line.category)
        for line, priced in zip((SOCKS, HAT), checkout.price["lines"], strict=True)
    )  # fmt: skip
    return OrderInput(
        external_id="o1", member="ann", paid_at=NOW, currency="GBP", amount_minor=checkout.amount_minor, lines=lines,
        checkout=str(checkout.public_id),
    )  # fmt: skip


def test_an_order_that_comes_with_its_refund_gives_back_what_paid_for_it(shop: Program) -> None:
    checkout = quote(shop, told(shipping=0, only=("ten",), wallet="points", points=500))
    holding.hold(program=shop, public_id=checkout.public_id, at=NOW)
    refund = RefundInput(
        external_id="r1", member="ann", order="o1", refunded_at=NOW, currency="GBP", amount_minor=checkout.amount_minor
    )
    intake.record(program=shop, orders=[paid_by(checkout)], refunds=[refund], at=NOW)
    assert balance(shop).available == 1_000
    assert Claim.objects.get(definition__code="ten").state == "open"


def test_a_refund_tells_its_points_beside_an_order_whose_points_the_shop_settles(shop: Program) -> None:
    checkout = quote(shop, told(shipping=0, only=(), wallet="points", points=500))
    holding.hold(program=shop, public_id=checkout.public_id, at=NOW)
    line = OrderLineInput(external_id="x", units=1, amount_minor=1_000, paid_in_points_minor=400)
    own = OrderInput(external_id="o2", member="ann", paid_at=NOW, currency="GBP", amount_minor=1_000, lines=(line,))
    intake.record(program=shop, orders=[paid_by(checkout), own], at=NOW)
    parts = (("o1", SOCKS.key, 3_000), ("o1", HAT.key, 2_000), ("o2", "x", 1_000))
    lines = tuple(
        RefundLineInput(external_id=name, order=order, order_line=name, amount_minor=minor)
        for order, name, minor in parts
    )
    told_refund: dict[str, Any] = {"member": "ann", "refunded_at": NOW, "currency": "GBP"}
    both = RefundInput(external_id="r1", amount_minor=6_000, lines=lines, **told_refund)
    intake.record(program=shop, refunds=[both], at=NOW)
    row = Refund.objects.prefetch_related("lines__order_line").get()
    split = read_splits([row]).of(row)
    assert split.whole == Split(money_minor=5_100, in_points_minor=900, points=500)
    assert [split.lines[line.pk].points for line in row.lines.order_by("pk")] == [300, 200, None]
    assert balance(shop).available == 1_000
