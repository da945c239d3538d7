"""36, a reward after the order comes back: by units, by money below the minimum, without lines, once it is spent."""

from typing import Any

import pytest

from core.models import Program
from coupons.models import Claim
from coupons.services import redemptions
from membership.fact_inputs import RefundInput, RefundLineInput
from membership.models import Member
from points.models import Wallet
from points.services import operations
from referrals.models import ReferralReward
from tests.coupons.giving import BASKET, publish, use
from tests.referrals.worlds import (
    DAY,
    SETTLED,
    bring,
    buy,
    enroll,
    make_shop,
    points_of,
    record,
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)

BACK = SETTLED + DAY


def _paid(**terms: Any) -> tuple[Program, Member, Member]:
    program = make_shop(**terms)
    if "referee" in terms:
        publish(program, "hello", how="issued")
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    buy(ben, "o1", 5_000)
    settle(program)
    program.refresh_from_db()
    return program, ann, ben


def _give_back(member: Member, minor: int, *lines: RefundLineInput) -> None:
    told = RefundInput(
        external_id="r1", member=member.external_id, order="o1", refunded_at=BACK, currency="GBP", amount_minor=minor,
        lines=lines,
    )  # fmt: skip
    record(member.program, told)


@pytest.mark.parametrize(
    ("minor", "lines"),
    [
        (5_000, (RefundLineInput(external_id="r1.1", order_line="o1.1", units=1, amount_minor=5_000),)),
        (4_000, (RefundLineInput(external_id="r1.1", order_line="o1.1", units=1, amount_minor=4_000),)),
        (3_001, (RefundLineInput(external_id="r1.1", order_line="o1.1", units=None, amount_minor=3_001),)),
        (5_000, ()),
        (3_001, ()),
    ],
    ids=["units", "units less a fee", "money below the minimum", "all without lines", "a part without lines"],
)
def test_both_rewards_are_taken_back(minor: int, lines: tuple[RefundLineInput, ...]) -> None:
    _, ann, ben = _paid()
    assert (points_of(ann), points_of(ben)) == (500, 200)
    _give_back(ben, minor, *lines)
    assert (points_of(ann), points_of(ben)) == (0, 0)
    assert set(ReferralReward.objects.values_list("state", flat=True)) == {"clawed_back"}


def test_while_the_order_is_worth_the_minimum_they_stay() -> None:
    _, ann, ben = _paid()
    _give_back(ben, 3_000)
    assert (points_of(ann), points_of(ben)) == (500, 200)


def test_what_is_spent_becomes_debt_and_a_used_coupon_stays_used() -> None:
    program, ann, ben = _paid(referee={"coupon": "hello"})
    claim = Claim.objects.get(member=ben)
    redemptions.hold(
        program=program, member_id=ben.pk, reference="c1", currency="GBP", applied=[use(program, claim)],
        basket=BASKET, held_until=BACK + DAY, at=SETTLED,
    )  # fmt: skip
    wallet = Wallet.objects.get(program=program)
    operations.redeem(
        program=program, member_id=ann.pk, wallet_id=wallet.pk, points=500, idempotency_key="k", at=SETTLED
    )
    _give_back(ben, 5_000)
    assert points_of(ann) == -500
    reward = ReferralReward.objects.get(member=ben)
    assert (reward.state, reward.reason) == ("clawed_back", "coupon_used")
