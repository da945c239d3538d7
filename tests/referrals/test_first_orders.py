"""Which orders make an existing customer, which one counts, and that it does not matter when they are told."""

from datetime import timedelta
from itertools import permutations

import pytest

from core.models import Program
from membership.fact_inputs import OrderInput, OrderLineInput, RefundInput, RefundLineInput
from membership.models import Member
from referrals.models import Referral
from referrals.services.binding import ExistingCustomer
from tests.referrals.worlds import (
    DAY,
    NOW,
    SETTLED,
    bring,
    buy,
    deliver,
    enroll,
    give_back,
    make_shop,
    points_of,
    record,
    rewards_of,
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def state_of(member: Member) -> tuple[str, str]:
    referral = Referral.objects.get(member=member)
    return referral.state, referral.reason


def test_an_order_that_came_back_whole_makes_no_existing_customer() -> None:
    program = make_shop()
    ann, ben, cat = enroll(program, "ann", "ben", "cat", at=NOW - 20 * DAY)
    for name, member in (("b0", ben), ("c0", cat)):
        buy(member, name, 5_000, at=NOW - 15 * DAY)
    give_back(ben, "r1", "b0", 5_000, at=NOW - 10 * DAY)
    give_back(cat, "r2", "c0", 4_999, at=NOW - 10 * DAY)
    bring(ann, ben)
    with pytest.raises(ExistingCustomer):
        bring(ann, cat)
    buy(ben, "b1", 5_000)
    settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)


def test_an_order_of_before_that_is_told_late_and_comes_back_gives_the_referral_back() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben", at=NOW - 10 * DAY)
    bring(ann, ben)
    buy(ben, "o1", 5_000)
    settle(program)
    buy(ben, "o0", 5_000, at=NOW - DAY)
    assert (state_of(ben), points_of(ann)) == (("rejected", "existing_customer"), 0)
    give_back(ben, "r0", "o0", 5_000, at=NOW + DAY)
    settle(program)
    assert (state_of(ben), points_of(ann), points_of(ben)) == (("qualified", ""), 500, 200)
    assert rewards_of(ann) == [("order", 1, 500, "clawed_back"), ("order", 1, 500, "paid")]


@pytest.mark.parametrize(
    ("paid", "is_new_customer"),
    [(60 * MINUTE, True), (60 * MINUTE + SECOND, False), (MINUTE, True), (timedelta(), True)],
)
@pytest.mark.parametrize("is_told_first", [True, False])
def test_the_order_with_which_a_friend_joins_counts(
    paid: timedelta, is_new_customer: bool, is_told_first: bool
) -> None:
    program = make_shop()
    (ann,) = enroll(program, "ann")
    (ben,) = enroll(program, "ben", at=NOW)
    if is_told_first:
        buy(ben, "o1", 5_000, at=NOW - paid)
        if not is_new_customer:
            with pytest.raises(ExistingCustomer):
                bring(ann, ben, at=NOW + 2 * SECOND)
            return
    bring(ann, ben, at=NOW + 2 * SECOND)
    if not is_told_first:
        buy(ben, "o1", 5_000, at=NOW - paid)
    deliver(NOW + 2 * SECOND)
    settle(program)
    assert points_of(ann) == (500 if is_new_customer else 0)
    assert state_of(ben) == (("qualified", "") if is_new_customer else ("rejected", "existing_customer"))


@pytest.mark.parametrize("minutes", [0, 30])
def test_how_shortly_before_joining_is_the_policys(minutes: int) -> None:
    program = make_shop(minutes_before_joining=minutes)
    (ann,) = enroll(program, "ann")
    (ben,) = enroll(program, "ben", at=NOW)
    buy(ben, "o1", 5_000, at=NOW - 20 * MINUTE)
    if minutes:
        assert bring(ann, ben, at=NOW).state == "pending"
    else:
        with pytest.raises(ExistingCustomer):
            bring(ann, ben, at=NOW)


def test_of_two_orders_before_joining_neither_counts() -> None:
    program = make_shop()
    (ann,) = enroll(program, "ann")
    (ben,) = enroll(program, "ben", at=NOW)
    buy(ben, "o1", 5_000, at=NOW - 20 * MINUTE)
    buy(ben, "o2", 5_000, at=NOW - 10 * MINUTE)
    with pytest.raises(ExistingCustomer):
        bring(ann, ben)


def test_an_order_of_before_joining_counts_for_a_binding_at_joining_alone() -> None:
    program = make_shop()
    (ann,) = enroll(program, "ann")
    (ben,) = enroll(program, "ben", at=NOW)
    buy(ben, "o1", 5_000, at=NOW - 20 * MINUTE)
    with pytest.raises(ExistingCustomer):
        bring(ann, ben, at=NOW + 61 * MINUTE)
    assert bring(ann, ben, at=NOW + 60 * MINUTE).state == "pending"


def test_clocks_that_differ_by_seconds_reject_nothing() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben", at=NOW - 10 * DAY)
    bring(ann, ben)
    buy(ben, "o1", 5_000, at=NOW - 30 * SECOND)
    settle(program)
    assert (state_of(ben), points_of(ann)) == (("qualified", ""), 500)


def _live(program: Program, steps: tuple[str, ...]) -> tuple[Member, Member]:
    """Tell what happened to Ben in an order, with the clock running after each step."""
    ann, ben = enroll(program, f"{program.code} ann", f"{program.code} ben", at=NOW - 10 * DAY)
    bring(ann, ben)
    for number, step in enumerate(steps):
        match step:
            case "first":
                buy(ben, f"{program.code} o1", 5_000, at=NOW + DAY)
            case "second":
                buy(ben, f"{program.code} o2", 5_000, at=NOW + 3 * DAY)
            case "back in time":
                give_back(ben, f"{program.code} r1", f"{program.code} o1", 4_000, at=NOW + 5 * DAY)
            case "back too late":
                give_back(ben, f"{program.code} r2", f"{program.code} o2", 4_000, at=NOW + 19 * DAY)
        settle(program, SETTLED + number * DAY)
    return ann, ben


# The second order takes the place of the first, which came back within its window, and qualifies; what comes back
# after its own window reverses the referral.
@pytest.mark.parametrize(
    ("facts", "state", "points"),
    [
        (("first", "second", "back in time"), "qualified", 500),
        (("first", "second", "back too late"), "qualified", 500),
        (("first", "second", "back in time", "back too late"), "reversed", 0),
    ],
)
def test_in_whichever_order_facts_are_told_it_ends_the_same(facts: tuple[str, ...], state: str, points: int) -> None:
    orders = [
        order
        for order in permutations(facts)
        if order.index("first") < (order.index("back in time") if "back in time" in order else 9)
        and order.index("second") < (order.index("back too late") if "back too late" in order else 9)
    ]
    assert len(orders) > 1
    for number, order in enumerate(orders):
        program = make_shop(f"shop{number}")
        ann, ben = _live(program, order)
        assert (state_of(ben)[0], points_of(ann)) == (state, points), order


@pytest.mark.parametrize("is_late", [True, False])
def test_an_order_of_before_ends_a_paid_referral_too(is_late: bool) -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben", at=NOW - 10 * DAY)
    bring(ann, ben)
    buy(ben, "o1", 5_000)
    if is_late:
        settle(program)
        assert points_of(ann) == 500
    buy(ben, "o0", 100, at=NOW - DAY)
    settle(program)
    assert (state_of(ben), points_of(ann), points_of(ben)) == (("rejected", "existing_customer"), 0, 0)


@pytest.mark.parametrize(
    ("goods", "in_points", "shipping", "counts"),
    [
        (2_000, 0, 0, True),
        (1_999, 0, 500, False),
        (2_000, 1, 500, False),
        (2_500, 500, 500, True),
        (0, 0, 5_000, False),
    ],
)
def test_the_minimum_reads_goods_without_shipping_and_what_was_paid_in_points(
    goods: int, in_points: int, shipping: int, counts: bool
) -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    line = OrderLineInput(external_id="o1.1", units=1, amount_minor=goods, paid_in_points_minor=in_points)
    told = OrderInput(
        external_id="o1", member="ben", paid_at=NOW + DAY, currency="GBP", amount_minor=goods + shipping, lines=(line,)
    )
    record(program, told)
    settle(program)
    assert points_of(ann) == (500 if counts else 0)


def test_shipping_that_comes_back_takes_nothing_from_the_goods() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    line = OrderLineInput(external_id="o1.1", units=1, amount_minor=2_500)
    told = OrderInput(
        external_id="o1", member="ben", paid_at=NOW + DAY, currency="GBP", amount_minor=3_000, lines=(line,)
    )
    back = RefundInput(
        external_id="r1", member="ben", order="o1", refunded_at=NOW + 2 * DAY, currency="GBP", amount_minor=900,
        lines=(RefundLineInput(external_id="r1.1", order_line="o1.1", units=None, amount_minor=400),),
    )  # fmt: skip
    record(program, told, back)
    settle(program)
    assert points_of(ann) == 500  # 21.00 are left
