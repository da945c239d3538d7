"""35, a reward once per friend: an order told three times, a second one, twenty threads, two referrers at once."""

from functools import partial

import pytest

from referrals.models import Referral, ReferralReward
from referrals.services import binding, qualification
from referrals.services.binding import AlreadyBound
from tests.api.client import in_parallel
from tests.referrals.worlds import (
    DAY,
    NOW,
    SETTLED,
    bring,
    buy,
    code_of,
    deliver,
    enroll,
    make_shop,
    points_of,
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


def test_one_friend_is_one_binding_and_one_reward() -> None:
    program = make_shop()
    ann, zoe, ben = enroll(program, "ann", "zoe", "ben")

    def bind(code: str) -> bool:
        try:
            return binding.bind(program=program, member=ben, code=code, at=NOW).is_new
        except AlreadyBound:
            return False

    codes = [code_of(member) for member in (ann, zoe)]
    assert sum(in_parallel([partial(bind, code) for code in codes * 10])) == 1
    for _ in range(3):
        buy(ben, "o1", 5_000)
    buy(ben, "o2", 5_000, at=NOW + 2 * DAY)
    in_parallel([lambda: qualification.mature(program=program, at=SETTLED)] * 20)
    deliver(SETTLED)
    settle(program, SETTLED + DAY)
    referral = Referral.objects.get()
    referrer = next(member for member in (ann, zoe) if member.pk == referral.referrer_id)
    assert (points_of(referrer), points_of(ann) + points_of(zoe), points_of(ben)) == (500, 500, 200)
    assert ReferralReward.objects.count() == 2


def test_bound_again_it_is_the_same_referral() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    assert bring(ann, ben) == bring(ann, ben, at=NOW + DAY)
