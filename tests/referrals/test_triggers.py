"""A side with a trigger of its own: the friend at enrollment, the referrer at the first order, or the other way."""

from typing import Any

import pytest
from pydantic import ValidationError

from membership.models import Member
from membership.services import fingerprints
from referrals.definitions import ReferralTerms
from referrals.models import Referral
from referrals.services import reviews
from tests.referrals.worlds import (
    DAY,
    NOW,
    SETTLED,
    TERMS,
    bring,
    buy,
    deliver,
    enroll,
    give_back,
    make_shop,
    points_of,
    rewards_of,
    settle,
)  # fmt: skip

AT_ENROLLMENT: dict[str, Any] = {"referee": {"points": 200, "wallet": "points", "trigger": "enrollment"}}
SOON = NOW + DAY / 24


def read(**terms: Any) -> ReferralTerms:
    return ReferralTerms.model_validate(TERMS | terms, context={"currency": "GBP"})


def test_a_side_without_a_trigger_has_the_policys() -> None:
    plain, mixed = read(), read(**AT_ENROLLMENT)
    assert (plain.awaits_order, plain.pays_for_enrollment) == (True, False)
    assert (mixed.awaits_order, mixed.pays_for_enrollment) == (True, True)
    assert (mixed.trigger_of(0), mixed.trigger_of(1), mixed.trigger_of(2)) == (
        "enrollment", "first_order", "first_order",
    )  # fmt: skip
    same = read(trigger="enrollment", referrer={"points": 500, "wallet": "points", "trigger": "first_order"})
    assert (same.trigger_of(0), same.trigger_of(1), same.awaits_order) == ("enrollment", "first_order", True)
    assert not read(trigger="enrollment").awaits_order


def test_a_milestone_and_a_chain_have_no_trigger() -> None:
    reward = {"points": 5, "wallet": "points", "trigger": "enrollment"}
    chain = {"market": "uk", "depth": 2, "reward": reward, "at_most_per_month": 1}
    for terms in ({"milestones": [{"invitees": 2, "reward": reward}]}, {"chains": [chain]}):
        with pytest.raises(ValidationError, match="trigger"):
            read(**terms)


@pytest.fixture
def pair(transactional_db: None) -> tuple[Any, Member, Member, Referral]:
    """Ann has brought Ben, who has something for joining."""
    program = make_shop(**AT_ENROLLMENT)
    ann, ben = enroll(program, "ann", "ben")
    return program, ann, ben, bring(ann, ben)


def test_the_friend_is_paid_on_joining_and_the_referrer_for_the_order(pair: Any) -> None:
    program, ann, ben, referral = pair
    settle(program, SOON)
    referral.refresh_from_db()
    assert (referral.state, referral.due_at) == ("pending", None)
    assert (points_of(ann), points_of(ben)) == (0, 200)
    assert (rewards_of(ben), rewards_of(ann)) == ([("enrollment", 0, 200, "paid")], [])
    buy(ben, "o1", 5_000)
    settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)
    assert (rewards_of(ben), rewards_of(ann)) == ([("enrollment", 0, 200, "paid")], [("order", 1, 500, "paid")])


def test_an_order_that_comes_back_takes_what_was_for_the_order_alone(pair: Any) -> None:
    program, ann, ben, referral = pair
    settle(program, SOON)
    buy(ben, "o1", 5_000)
    settle(program)
    give_back(ben, "r1", "o1", 5_000, at=SETTLED + DAY)
    referral.refresh_from_db()
    assert (referral.state, points_of(ann), points_of(ben)) == ("reversed", 0, 200)
    reviews.reject(referral=referral, reason="a fake", actor="ops", at=SETTLED + 2 * DAY)
    deliver(SETTLED + 2 * DAY)
    assert (points_of(ann), points_of(ben)) == (0, 0)


def test_an_order_that_came_before_the_clock_did_pays_both(pair: Any) -> None:
    program, ann, ben, _ = pair
    buy(ben, "o1", 5_000)
    for _ in range(2):
        settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)


def test_suspicion_holds_back_what_joining_gives_and_a_review_lets_it_pass(pair: Any) -> None:
    program, ann, ben, referral = pair
    for member in (ann, ben):
        fingerprints.record(member=member, seen_with={"device": "d"}, at=NOW)
    settle(program, SOON)
    referral.refresh_from_db()
    assert (referral.state, rewards_of(ben)) == ("flagged", [("enrollment", 0, 200, "flagged")])
    assert reviews.approve(referral=referral, reason="a family", actor="ops", at=SOON).state == "pending"
    deliver(SOON)
    assert (points_of(ann), points_of(ben)) == (0, 200)
    buy(ben, "o1", 5_000)
    settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)


def test_the_other_way_round_the_referrer_is_paid_for_the_head(transactional_db: None) -> None:
    program = make_shop(referrer={"points": 500, "wallet": "points", "trigger": "enrollment"})
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    settle(program, SOON)
    assert (points_of(ann), points_of(ben)) == (500, 0)
    buy(ben, "o1", 5_000)
    settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)


def test_an_order_from_before_takes_back_what_joining_gave(pair: Any) -> None:
    program, _, ben, _ = pair
    settle(program, SOON)
    buy(ben, "o0", 100, at=NOW - DAY / 2)
    assert points_of(ben) == 0
    assert rewards_of(ben) == [("enrollment", 0, 200, "clawed_back")]
