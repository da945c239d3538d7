"""How deep rewards go: one level, two where a market says so, never three."""

from typing import Any

import pytest
from pydantic import ValidationError

from referrals.definitions import ReferralTerms
from referrals.models import ReferralReward
from tests.referrals.worlds import (
    DAY,
    NOW,
    SETTLED,
    TERMS,
    bring,
    buy,
    enroll,
    give_back,
    make_shop,
    points_of,
    settle,
)  # fmt: skip

SECOND = {"market": "uk", "depth": 2, "reward": {"points": 50, "wallet": "points"}, "at_most_per_month": 2}


def read(**terms: Any) -> ReferralTerms:
    return ReferralTerms.model_validate(TERMS | terms, context={"currency": "GBP"})


def problem(**terms: Any) -> str:
    with pytest.raises(ValidationError) as refusal:
        read(**terms)
    return str(refusal.value)


def test_a_third_level_is_refused_with_its_reason() -> None:
    told = problem(chains=[SECOND | {"depth": 3}])
    assert "3 levels are refused" in told
    assert "pyramid selling" in told


def test_a_second_level_needs_its_own_reward_and_cap() -> None:
    assert "depth 2 needs a reward and at_most_per_month" in problem(chains=[{"market": "uk", "depth": 2}])
    assert "go with depth 2" in problem(chains=[SECOND | {"depth": 1}])
    assert "twice" in problem(chains=[SECOND, SECOND])


def test_a_second_level_is_paid_for_orders_and_not_for_heads() -> None:
    assert "orders alone" in problem(trigger="enrollment", chains=[SECOND])


def test_one_level_unless_a_market_says_otherwise() -> None:
    assert read().chain_of("uk") is None
    terms = read(chains=[SECOND, {"market": "cn", "depth": 1}])
    assert terms.chain_of("uk") is not None
    assert terms.chain_of("cn") is None


@pytest.mark.django_db(transaction=True)
def test_the_second_level_is_paid_by_the_orders_market_up_to_its_cap_and_taken_back() -> None:
    program = make_shop(chains=[SECOND])
    root, ann, ben, *friends = enroll(program, "root", "ann", "ben", *(f"f{n}" for n in range(4)))
    bring(root, ann)
    bring(ann, ben)
    for number, (friend, market) in enumerate(zip(friends, ["uk", "cn", "uk", "uk"], strict=True)):
        bring(ben, friend)
        buy(friend, f"o{number}", 5_000, market=market)
    settle(program)
    assert points_of(ben) == 4 * 500
    # Of three friends' friends in the market two fit in the month; the root, three levels up, has nothing.
    assert (points_of(ann), points_of(root)) == (100, 0)
    assert ReferralReward.objects.get(level=2, state="rejected").reason == "monthly_cap"
    give_back(friends[0], "r1", "o0", 5_000, at=SETTLED + DAY)
    assert (points_of(ann), points_of(ben)) == (50, 1_500)
    assert not ReferralReward.objects.filter(member=root).exists()


@pytest.mark.django_db(transaction=True)
def test_nothing_passes_through_a_referral_that_was_rejected() -> None:
    program = make_shop(chains=[SECOND])
    ann, ben, cat = enroll(program, "ann", "ben", "cat")
    bring(ann, ben)
    bring(ben, cat)
    buy(cat, "o1", 5_000, market="uk")
    buy(ben, "o0", 100, at=NOW - DAY / 2)
    settle(program)
    assert (points_of(ann), points_of(ben), points_of(cat)) == (0, 500, 200)
    assert ReferralReward.objects.get(level=2).reason == "referrer_rejected"
