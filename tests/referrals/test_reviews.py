"""What a person decides: rejected from any state with what was paid taken back, reopened, and looked at once more."""

from typing import Any

import pytest

from core.models import AuditEntry, Event, Program
from coupons.models import Claim
from membership.models import Member
from membership.services import fingerprints
from points.services.verify import verify
from referrals.models import Referral, ReferralReward
from referrals.services import qualification, reviews
from referrals.services.qualification import RECHECKED_EVERY, RECHECKED_FOR
from tests.coupons.giving import publish
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
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)

Pair = tuple[Program, Member, Member, Referral]


@pytest.fixture
def pair() -> Pair:
    """Ann has brought Ben, who has ordered."""
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    referral = bring(ann, ben)
    buy(ben, "o1", 5_000)
    return program, ann, ben, referral


def decide(review: Any, referral: Referral, at: Any = SETTLED + DAY) -> Referral:
    decided: Referral = review(referral=referral, reason="seen the papers", actor="ops", at=at)
    deliver(at)
    return decided


def test_a_pending_one_can_be_rejected_and_nothing_is_paid(pair: Pair) -> None:
    program, ann, ben, referral = pair
    decide(reviews.reject, referral, NOW + 2 * DAY)
    settle(program)
    assert (rewards_of(ann), rewards_of(ben)) == ([("order", 1, 500, "rejected")], [("order", 0, 200, "rejected")])
    assert set(ReferralReward.objects.values_list("reason", flat=True)) == {"referral_rejected"}
    assert (points_of(ann), points_of(ben)) == (0, 0)


def test_a_qualified_one_can_be_rejected_and_what_was_paid_is_taken_back(pair: Pair) -> None:
    program, ann, ben, referral = pair
    settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)
    decide(reviews.reject, referral)
    assert (points_of(ann), points_of(ben)) == (0, 0)
    assert rewards_of(ann) == [("order", 1, 500, "clawed_back")]
    entry = AuditEntry.objects.get(action="referral.rejected")
    assert (entry.actor, entry.reason, entry.before, entry.after) == (
        "ops", "seen the papers", {"state": "qualified"}, {"state": "rejected"},
    )  # fmt: skip
    assert list(verify(program=program)) == []


def test_a_coupon_that_was_issued_is_taken_back_and_one_that_could_not_be_is_not() -> None:
    program = make_shop(referee={"coupon": "hello"})
    publish(program, "hello", how="issued", limit=1)
    ann, ben, cat = enroll(program, "ann", "ben", "cat")
    for number, friend in enumerate((ben, cat)):
        bring(ann, friend)
        buy(friend, f"o{number}", 5_000)
    settle(program)
    for friend in (ben, cat):
        decide(reviews.reject, Referral.objects.get(member=friend))
    assert Claim.objects.get().state == "revoked"
    assert [state for friend in (ben, cat) for *_, state in rewards_of(friend)] == ["clawed_back", "rejected"]


def test_a_milestone_goes_with_a_friend_who_is_rejected(pair: Pair) -> None:
    program = make_shop("other", milestones=[{"invitees": 1, "reward": {"points": 1_000, "wallet": "points"}}])
    ann, ben = enroll(program, "ann", "ben")
    referral = bring(ann, ben)
    buy(ben, "of ben", 5_000)
    settle(program)
    assert points_of(ann) == 1_500
    decide(reviews.reject, referral)
    assert points_of(ann) == 0
    decide(reviews.reopen, referral, SETTLED + 2 * DAY)
    settle(program, SETTLED + 2 * DAY)
    assert points_of(ann) == 1_500


def test_what_a_person_rejected_is_moved_by_no_fact_and_cannot_be_rejected_again(pair: Pair) -> None:
    program, ann, ben, referral = pair
    decide(reviews.reject, referral, NOW + 2 * DAY)
    buy(ben, "o2", 5_000, at=NOW + 3 * DAY)
    settle(program)
    referral.refresh_from_db()
    assert (referral.state, referral.reason, points_of(ann)) == ("rejected", "seen the papers", 0)
    for review in (reviews.reject, reviews.approve):
        with pytest.raises(reviews.WrongState):
            decide(review, referral)
    assert AuditEntry.objects.filter(action__startswith="referral.").count() == 1


def test_a_rejected_one_that_is_reopened_is_paid_anew(pair: Pair) -> None:
    program, ann, ben, referral = pair
    settle(program)
    decide(reviews.reject, referral)
    assert decide(reviews.reopen, referral, SETTLED + 2 * DAY).state == "pending"
    settle(program, SETTLED + 2 * DAY)
    referral.refresh_from_db()
    assert (referral.state, points_of(ann), points_of(ben)) == ("qualified", 500, 200)
    assert rewards_of(ann) == [("order", 1, 500, "clawed_back"), ("order", 1, 500, "paid")]
    assert list(ReferralReward.objects.filter(member=ann).values_list("round", flat=True).order_by("round")) == [1, 2]
    with pytest.raises(reviews.WrongState):
        decide(reviews.reopen, referral)
    give_back(ben, "r1", "o1", 5_000, at=SETTLED + 3 * DAY)
    assert (points_of(ann), points_of(ben)) == (0, 0)
    told = Event.objects.filter(subject="ben", type__startswith="referral.r").order_by("number")
    assert list(told.values_list("type", flat=True)) == [
        "referral.rewarded", "referral.rejected", "referral.reopened", "referral.rewarded",
    ]  # fmt: skip
    assert list(verify(program=program)) == []


def test_who_had_ordered_before_counts_when_a_person_reopens_it() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben", at=NOW - 10 * DAY)
    referral = bring(ann, ben)
    buy(ben, "o0", 5_000, at=NOW - DAY)
    referral.refresh_from_db()
    assert (referral.state, referral.reason) == ("rejected", "existing_customer")
    decide(reviews.reopen, referral, NOW + 2 * DAY)
    settle(program)
    referral.refresh_from_db()
    assert (referral.state, referral.reopened_at, points_of(ann)) == ("qualified", NOW + 2 * DAY, 500)


def test_what_is_reopened_is_looked_at_once_more() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    referral = bring(ann, ben)
    for member in (ann, ben):
        fingerprints.record(member=member, seen_with={"device": "d"}, at=NOW)
    buy(ben, "o1", 5_000)
    settle(program)
    decide(reviews.reject, referral)
    decide(reviews.reopen, referral, SETTLED + 2 * DAY)
    settle(program, SETTLED + 2 * DAY)
    referral.refresh_from_db()
    assert (referral.state, points_of(ann)) == ("flagged", 0)


def suspect(ann: Member, ben: Member, program: Program, at: Any) -> int:
    for member in (ann, ben):
        fingerprints.record(member=member, seen_with={"device": "d"}, at=at)
    looked_at = qualification.recheck(program=program, at=at)
    deliver(at)
    return looked_at


def test_new_evidence_against_a_paid_one_asks_for_a_review_and_takes_nothing_back(pair: Pair) -> None:
    program, ann, ben, referral = pair
    settle(program)
    assert suspect(ann, ben, program, SETTLED + RECHECKED_EVERY) == 1
    referral.refresh_from_db()
    assert (referral.state, referral.score) == ("qualified", 60)
    assert reviews.is_waiting_for_review(referral)
    assert (points_of(ann), points_of(ben)) == (500, 200)
    assert Event.objects.filter(type="referral.flagged", subject="ben").count() == 1
    decide(reviews.approve, referral, SETTLED + 2 * DAY)
    referral.refresh_from_db()
    assert not reviews.is_waiting_for_review(referral)
    qualification.recheck(program=program, at=SETTLED + 5 * DAY)
    referral.refresh_from_db()
    assert not reviews.is_waiting_for_review(referral)  # what the review has accepted
    assert Event.objects.filter(type="referral.flagged").count() == 1


def test_rejected_at_new_evidence_it_is_taken_back(pair: Pair) -> None:
    program, ann, ben, referral = pair
    settle(program)
    suspect(ann, ben, program, SETTLED + DAY)
    decide(reviews.reject, referral, SETTLED + 2 * DAY)
    assert (points_of(ann), points_of(ben)) == (0, 0)


def test_a_paid_one_is_looked_at_once_a_day_for_a_while(pair: Pair) -> None:
    program, *_ = pair
    settle(program)
    for at, looked_at in [
        (SETTLED + RECHECKED_EVERY - DAY / 86_400, 0),
        (SETTLED + RECHECKED_EVERY, 1),
        (SETTLED + RECHECKED_EVERY, 0),
        (SETTLED + RECHECKED_FOR, 0),
    ]:
        assert qualification.recheck(program=program, at=at) == looked_at
