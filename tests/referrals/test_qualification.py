"""From a friend's first order to both rewards, and back when the order comes back."""

import random
from datetime import timedelta

import pytest
from django.db.models import Sum

from core.models import OutboxReceipt, Program
from membership.models import Member
from points.models import Wallet
from points.services import operations
from points.services.verify import verify
from referrals.models import Referral, ReferralPolicy, ReferralReward
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
    publish_terms,
    rewards_of,
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pair() -> tuple[Program, Member, Member, Referral]:
    """Ann has brought Ben."""
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    return program, ann, ben, bring(ann, ben)


Pair = tuple[Program, Member, Member, Referral]


def test_both_sides_are_rewarded_after_the_return_window(pair: Pair) -> None:
    program, ann, ben, referral = pair
    buy(ben, "o1", 5_000)
    assert rewards_of(ann) == [("order", 1, 500, "pending")]
    settle(program, NOW + 15 * DAY - timedelta(microseconds=1))
    assert (points_of(ann), points_of(ben)) == (0, 0)
    settle(program, NOW + 15 * DAY)
    referral.refresh_from_db()
    assert referral.state == "qualified"
    assert (points_of(ann), points_of(ben)) == (500, 200)
    assert rewards_of(ben) == [("order", 0, 200, "paid")]


@pytest.mark.parametrize("days", [0, 1])
def test_both_sides_are_rewarded_as_soon_as_the_return_window_is_over(days: int) -> None:
    program = make_shop(return_days=days)
    ann, ben = enroll(program, "ann", "ben")
    referral = bring(ann, ben)
    buy(ben, "o1", 5_000)
    settle(program, NOW + DAY + days * DAY)
    referral.refresh_from_db()
    assert (referral.state, points_of(ann), points_of(ben)) == ("qualified", 500, 200)


def test_an_order_below_the_minimum_brings_nothing_and_a_later_one_does(pair: Pair) -> None:
    program, ann, ben, _ = pair
    buy(ben, "o1", 1_999)
    settle(program)
    assert rewards_of(ann) == []
    buy(ben, "o2", 2_000, at=NOW + 30 * DAY)
    settle(program, NOW + 44 * DAY)
    assert rewards_of(ann) == [("order", 1, 500, "paid")]


def test_a_refund_before_payout_cancels_and_another_order_may_still_count(pair: Pair) -> None:
    program, ann, ben, referral = pair
    buy(ben, "o1", 5_000)
    give_back(ben, "r1", "o1", 3_001)
    assert rewards_of(ann) == [("order", 1, 500, "cancelled")]
    settle(program)
    buy(ben, "o2", 2_500, at=NOW + 25 * DAY)
    settle(program, NOW + 60 * DAY)
    referral.refresh_from_db()
    assert referral.state == "qualified"
    assert rewards_of(ann) == [("order", 1, 500, "cancelled"), ("order", 1, 500, "paid")]
    assert points_of(ann) == 500


def test_partial_refunds_take_nothing_while_the_order_is_worth_the_minimum_and_all_of_it_below(pair: Pair) -> None:
    program, ann, ben, referral = pair
    buy(ben, "o1", 5_000)
    settle(program)
    give_back(ben, "r1", "o1", 2_000, at=SETTLED + DAY)
    give_back(ben, "r2", "o1", 1_000, at=SETTLED + 2 * DAY)
    assert (points_of(ann), points_of(ben)) == (500, 200)
    give_back(ben, "r3", "o1", 1, at=SETTLED + 3 * DAY)
    assert (points_of(ann), points_of(ben)) == (0, 0)
    give_back(ben, "r4", "o1", 1_999, at=SETTLED + 4 * DAY)
    assert (points_of(ann), points_of(ben)) == (0, 0)
    referral.refresh_from_db()
    assert referral.state == "reversed"
    assert rewards_of(ann) == [("order", 1, 500, "clawed_back")]


def test_what_was_spent_meanwhile_comes_back_as_debt(pair: Pair) -> None:
    program, ann, ben, _ = pair
    buy(ben, "o1", 5_000)
    settle(program)
    wallet = Wallet.objects.get(program=program)
    operations.redeem(
        program=program, member_id=ann.pk, wallet_id=wallet.pk, points=450, idempotency_key="k", at=SETTLED + DAY
    )
    give_back(ben, "r1", "o1", 5_000, at=SETTLED + 2 * DAY)
    assert points_of(ann) == -450


def test_news_of_an_order_delivered_again_gives_one_reward(pair: Pair) -> None:
    program, ann, ben, _ = pair
    buy(ben, "o1", 5_000)
    settle(program)
    before = (rewards_of(ann), rewards_of(ben), points_of(ann), Referral.objects.values().get())
    for _ in range(3):
        OutboxReceipt.objects.filter(subscriber__startswith="referrals.").update(done_at=None, next_attempt_at=SETTLED)
        deliver(SETTLED + DAY)
    settle(program, SETTLED + DAY)
    assert (rewards_of(ann), rewards_of(ben), points_of(ann), Referral.objects.values().get()) == before
    assert before[2] == 500


def test_an_order_of_before_the_binding_that_comes_in_late_makes_an_existing_customer(pair: Pair) -> None:
    program, ann, ben, referral = pair
    buy(ben, "o1", 5_000)
    buy(ben, "o0", 100, at=NOW - DAY)
    settle(program)
    referral.refresh_from_db()
    assert (referral.state, referral.reason) == ("rejected", "existing_customer")
    assert (points_of(ann), points_of(ben)) == (0, 0)
    assert rewards_of(ann) == [("order", 1, 500, "rejected")]


def test_a_policy_that_pays_for_enrollment_needs_no_order() -> None:
    program = make_shop(trigger="enrollment")
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    settle(program, NOW + timedelta(minutes=5))
    assert rewards_of(ann) == [("enrollment", 1, 500, "paid")]
    buy(ben, "o1", 5_000)
    give_back(ben, "r1", "o1", 5_000)
    assert rewards_of(ben) == [("enrollment", 0, 200, "paid")]


def test_terms_are_those_of_the_binding() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    publish_terms(ReferralPolicy.objects.get(), at=NOW + DAY, referrer={"points": 1, "wallet": "points"})
    buy(ben, "o1", 5_000, at=NOW + 2 * DAY)
    settle(program)
    assert points_of(ann) == 500


def test_a_milestone_is_given_when_reached_and_taken_back_when_it_no_longer_is() -> None:
    program = make_shop(milestones=[{"invitees": 2, "reward": {"points": 1_000, "wallet": "points"}}])
    ann, *friends = enroll(program, "ann", "f1", "f2", "f3")
    for number, friend in enumerate(friends[:2]):
        bring(ann, friend)
        buy(friend, f"o{number}", 5_000)
    settle(program)
    assert points_of(ann) == 2_000
    assert ("milestone", 1, 1_000, "paid") in rewards_of(ann)
    give_back(friends[0], "r1", "o0", 5_000, at=SETTLED + DAY)
    assert points_of(ann) == 500
    bring(ann, friends[2], at=NOW + 5 * DAY)
    buy(friends[2], "o9", 5_000, at=NOW + 6 * DAY)
    settle(program, NOW + 40 * DAY)
    assert points_of(ann) == 2_000
    states = [state for event, _, _, state in rewards_of(ann) if event == "milestone"]
    assert states == ["clawed_back", "paid"]


def test_a_full_month_gives_no_more() -> None:
    program = make_shop(at_most_per_month=2)
    ann, *friends = enroll(program, "ann", "f1", "f2", "f3")
    for number, friend in enumerate(friends):
        bring(ann, friend)
        buy(friend, f"o{number}", 5_000)
    settle(program)
    assert points_of(ann) == 1_000
    assert ReferralReward.objects.get(member=ann, state="rejected").reason == "monthly_cap"
    assert [points_of(friend) for friend in friends] == [200] * 3


def test_every_paid_reward_stands_in_the_ledger_and_no_other() -> None:
    """Random orders and refunds of twenty friends: rewards and ledger agree, and both with the facts."""
    dice = random.Random(20)
    program = make_shop()
    ann, *friends = enroll(program, "ann", *(f"f{n}" for n in range(20)))
    for number, friend in enumerate(friends):
        bring(ann, friend)
        buy(friend, f"o{number}", 4_000)
    left = dict.fromkeys(range(20), 4_000)
    low: set[int] = set()
    for step in range(60):
        at = NOW + DAY + step * DAY
        number = dice.randrange(20)
        minor = min(left[number], dice.choice([300, 900, 2_500]))
        if minor:
            give_back(friends[number], f"r{step}", f"o{number}", minor, at=at)
            left[number] -= minor
        low |= {n for n, minor in left.items() if minor < 2_000}
        settle(program, at)
        due = 0 if step < 14 else 20 - len(low)
        pending = ReferralReward.objects.filter(member=ann, state="pending").count()
        assert pending == (20 - len(low) if step < 14 else 0)
        assert points_of(ann) == 500 * due
        assert sum(points_of(friend) for friend in friends) == 200 * due
    paid = ReferralReward.objects.filter(state="paid").aggregate(total=Sum("points"))["total"] or 0
    assert paid == points_of(ann) + sum(points_of(friend) for friend in friends)
    assert 0 < len(low) < 20
    assert list(verify(program=program)) == []
