"""Rewards while a member on either side is suspended: they wait, are paid when it is over, and lapse in the end."""

import pytest

from core.models import Program
from membership.models import Member
from referrals.models import Referral, ReferralReward
from referrals.services import rewards
from referrals.services.rewards import SUSPENSION
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
    rewards_of,
    set_status,
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)

Pair = tuple[Program, dict[str, Member]]
EITHER = pytest.mark.parametrize("side", ["ann", "ben"])


@pytest.fixture
def pair() -> Pair:
    """Ann has brought Ben, who has ordered."""
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    buy(ben, "o1", 5_000)
    return program, {"ann": ann, "ben": ben}


def balances(people: dict[str, Member]) -> list[int]:
    return [points_of(member) for member in people.values()]


def states() -> list[tuple[str, str]]:
    return list(ReferralReward.objects.order_by("level").values_list("state", "reason"))


@EITHER
def test_a_suspension_on_either_side_holds_back_both_rewards_until_it_is_over(pair: Pair, side: str) -> None:
    program, people = pair
    set_status(people[side], "suspended", at=NOW + 2 * DAY)
    settle(program)
    assert (states(), balances(people)) == ([("approved", "member_suspended")] * 2, [0, 0])
    assert Referral.objects.get().state == "qualified"
    settle(program, SETTLED + 100 * DAY)
    assert balances(people) == [0, 0]
    set_status(people[side], "active", at=SETTLED + 101 * DAY)
    assert (states(), balances(people)) == ([("paid", "")] * 2, [500, 200])


@EITHER
def test_what_waited_180_days_lapses_and_not_before(pair: Pair, side: str) -> None:
    program, people = pair
    set_status(people[side], "suspended", at=NOW + 2 * DAY)
    settle(program)
    assert rewards.lapse_waiting(program=program, at=SETTLED + SUSPENSION - DAY / 86_400) == 0
    assert rewards.lapse_waiting(program=program, at=SETTLED + SUSPENSION) == 2
    assert states() == [("rejected", "suspension_lapsed")] * 2
    set_status(people[side], "active", at=SETTLED + SUSPENSION + DAY)
    settle(program, SETTLED + SUSPENSION + 2 * DAY)
    assert (states(), balances(people)) == ([("rejected", "suspension_lapsed")] * 2, [0, 0])


def test_a_suspension_that_ends_too_late_pays_nothing_however_late_the_clock_is(pair: Pair) -> None:
    program, people = pair
    set_status(people["ben"], "suspended", at=NOW + 2 * DAY)
    settle(program)
    set_status(people["ben"], "active", at=SETTLED + SUSPENSION)
    assert balances(people) == [500, 200]  # nothing had looked since: it was over before it lapsed


def test_what_was_paid_before_a_suspension_stays_paid(pair: Pair) -> None:
    program, people = pair
    settle(program)
    set_status(people["ann"], "suspended", at=SETTLED + DAY)
    settle(program, SETTLED + 2 * SUSPENSION)
    assert (states(), balances(people)) == ([("paid", "")] * 2, [500, 200])


def test_what_waits_is_cancelled_when_the_order_comes_back(pair: Pair) -> None:
    program, people = pair
    set_status(people["ann"], "suspended", at=NOW + 2 * DAY)
    settle(program)
    give_back(people["ben"], "r1", "o1", 5_000, at=SETTLED + DAY)
    assert [state for state, _ in states()] == ["cancelled"] * 2
    set_status(people["ann"], "active", at=SETTLED + 2 * DAY)
    assert balances(people) == [0, 0]


def test_a_suspended_friend_reaches_no_milestone_until_active_again() -> None:
    program = make_shop(milestones=[{"invitees": 2, "reward": {"points": 1_000, "wallet": "points"}}])
    ann, ben, cat = enroll(program, "ann", "ben", "cat")
    for number, friend in enumerate((ben, cat)):
        bring(ann, friend)
        buy(friend, f"o{number}", 5_000)
    set_status(ben, "suspended", at=NOW + 2 * DAY)
    settle(program)
    assert points_of(ann) == 500
    set_status(ben, "active", at=SETTLED + DAY)
    assert points_of(ann) == 2_000
    set_status(cat, "suspended", at=SETTLED + 2 * DAY)
    deliver(SETTLED + 3 * DAY)
    assert points_of(ann) == 2_000
    assert ("milestone", 1, 1_000, "paid") in rewards_of(ann)
