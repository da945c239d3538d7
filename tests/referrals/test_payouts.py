"""Rewards that are coupons, and members who cannot have what was promised."""

from datetime import datetime

import pytest
from django.contrib.auth.models import User

from core import versions
from core.models import AuditEntry, Program
from coupons.models import Claim
from coupons.services import redemptions
from membership.models import Member
from points.models import Wallet
from points.services import operations
from referrals.models import Referral, ReferralReward
from referrals.services import reviews
from tests.coupons.giving import BASKET, publish, use
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
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


def shop_with_coupon(limit: int | None = None) -> tuple[Program, Member, Member]:
    """Ben, brought by Ann, has a coupon coming, and has ordered."""
    program = make_shop(referee={"coupon": "hello"})
    publish(program, "hello", how="issued", limit=limit)
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    buy(ben, "o1", 5_000)
    return program, ann, ben


def settle_again(member: Member, at: datetime) -> None:
    ops, _ = User.objects.get_or_create(username="ops")
    reviews.settle_again(
        referral=Referral.objects.get(member=member), reason="there are more", actor="ops", user=ops, at=at
    )


def reward_of(member: Member) -> ReferralReward:
    return ReferralReward.objects.get(member=member)


def test_a_coupon_is_issued_once_and_taken_back_while_it_is_open() -> None:
    program, _, ben = shop_with_coupon()
    settle(program)
    claim = Claim.objects.get(member=ben)
    assert (claim.state, reward_of(ben).claim_id, reward_of(ben).state) == ("open", claim.pk, "paid")
    settle_again(ben, SETTLED)
    deliver(SETTLED)
    assert Claim.objects.count() == 1
    give_back(ben, "r1", "o1", 5_000, at=SETTLED + DAY)
    claim.refresh_from_db()
    assert (claim.state, reward_of(ben).state, reward_of(ben).reason) == ("revoked", "clawed_back", "")


def test_a_coupon_that_is_used_stays_used() -> None:
    program, ann, ben = shop_with_coupon()
    settle(program)
    program.refresh_from_db()
    claim = Claim.objects.get(member=ben)
    redemptions.hold(
        program=program, member_id=ben.pk, reference="c1", currency="GBP", applied=[use(program, claim)],
        basket=BASKET, held_until=SETTLED + 2 * DAY, at=SETTLED,
    )  # fmt: skip
    give_back(ben, "r1", "o1", 5_000, at=SETTLED + DAY)
    claim.refresh_from_db()
    assert (claim.state, reward_of(ben).state, reward_of(ben).reason) == ("held", "clawed_back", "coupon_used")
    assert points_of(ann) == 0


def test_a_coupon_that_has_run_out_leaves_the_reward_approved_until_there_are_more() -> None:
    program, ann, ben = shop_with_coupon(limit=1)
    (cat,) = enroll(program, "cat", at=SETTLED - 5 * DAY)
    bring(ann, cat, at=SETTLED - 4 * DAY)
    buy(cat, "o2", 5_000, at=SETTLED - 3 * DAY)
    settle(program)
    settle(program, SETTLED + 15 * DAY)
    assert (reward_of(ben).state, reward_of(cat).state) == ("paid", "approved")
    assert (reward_of(cat).reason, Claim.objects.filter(member=cat).count()) == ("coupon_unavailable", 0)
    assert points_of(ann) == 1_000
    publish(program, "hello", how="issued", limit=5, at=SETTLED + 16 * DAY)
    settle_again(cat, SETTLED + 17 * DAY)
    entry = AuditEntry.objects.get(action="referral.settled_again")
    assert (entry.reason, entry.actor) == ("there are more", "ops")
    deliver(SETTLED + 17 * DAY)
    assert (reward_of(cat).state, reward_of(cat).reason) == ("paid", "")
    assert Claim.objects.filter(member=cat).count() == 1


def test_an_approved_reward_is_cancelled_when_the_order_comes_back() -> None:
    program, _, ben = shop_with_coupon(limit=1)
    (cat,) = enroll(program, "cat", at=SETTLED - 5 * DAY)
    bring(Member.objects.get(external_id="ann"), cat, at=SETTLED - 4 * DAY)
    buy(cat, "o2", 5_000, at=SETTLED - 3 * DAY)
    settle(program)
    settle(program, SETTLED + 15 * DAY)
    give_back(cat, "r2", "o2", 5_000, at=SETTLED + 16 * DAY)
    assert (reward_of(cat).state, reward_of(ben).state) == ("cancelled", "paid")


@pytest.mark.parametrize("side", ["ann", "ben"])
def test_nobody_has_anything_by_who_was_erased(side: str) -> None:
    program, ann, ben = shop_with_coupon()
    Member.objects.filter(external_id=side).update(status="erased")
    settle(program)
    for who in (ann, ben):
        assert (reward_of(who).state, reward_of(who).reason) == ("rejected", "member_erased")
    assert (points_of(ann), Claim.objects.count()) == (0, 0)


def test_a_wallet_that_refuses_refunds_does_not_keep_a_reward_from_being_taken_back() -> None:
    program = make_shop()
    wallet = Wallet.objects.get(program=program)
    versions.publish(wallet, {"expiry_days": 365, "clawback": "refuse"}, at=NOW - 50 * DAY)
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    buy(ben, "o1", 5_000)
    settle(program)
    operations.redeem(
        program=program, member_id=ann.pk, wallet_id=wallet.pk, points=450, idempotency_key="k", at=SETTLED
    )
    give_back(ben, "r1", "o1", 5_000, at=SETTLED + DAY)
    assert [(reward_of(who).state, reward_of(who).reason, points_of(who)) for who in (ann, ben)] == [
        ("clawed_back", "points_gone", 0),
        ("clawed_back", "", 0),
    ]
