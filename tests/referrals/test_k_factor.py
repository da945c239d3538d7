"""K by hand: whose invite it was, and of which month."""

from datetime import UTC, date, datetime
from fractions import Fraction

import pytest

from referrals import k_factor
from referrals.models import ReferralPolicyVersion
from referrals.selectors import terms_of
from referrals.services import binding
from tests.referrals.worlds import DAY, buy, code_of, enroll, make_shop, settle

pytestmark = pytest.mark.django_db(transaction=True)
LAST_OF_MAY = datetime(2026, 5, 31, 12, tzinfo=UTC)


def test_a_friend_belongs_to_the_month_of_the_first_click() -> None:
    program = make_shop()
    (ann,) = enroll(program, "ann", at=LAST_OF_MAY - 10 * DAY)
    for n in range(3):
        binding.record_touch(program=program, code=code_of(ann), visitor="the visitor", at=LAST_OF_MAY + n * DAY)
    (ben,) = enroll(program, "ben", at=LAST_OF_MAY + 2 * DAY)
    binding.bind(program=program, member=ben, visitor="the visitor", at=LAST_OF_MAY + 3 * DAY)
    buy(ben, "o1", 5_000, at=LAST_OF_MAY + 4 * DAY)
    settle(program, LAST_OF_MAY + 18 * DAY)
    terms = terms_of(ReferralPolicyVersion.objects.get(), "GBP")
    june, may = k_factor.list_cohorts(program=program, terms=terms, at=datetime(2026, 6, 30, tzinfo=UTC), months=2)
    assert (june.month, june.invites, june.qualified) == (date(2026, 6, 1), 0, 0)
    assert (may.invites, may.qualified, may.kept, may.members) == (1, 1, 1, 1)
    ripe = datetime(2026, 5, 31, 23, tzinfo=UTC) + k_factor.horizon_days(terms) * DAY
    for at, is_mature in ((ripe - DAY / 86_400, False), (ripe, True)):
        found = k_factor.list_cohorts(program=program, terms=terms, at=at, months=4)
        (cohort,) = (cohort for cohort in found if cohort.month == date(2026, 5, 1))
        assert (cohort.is_mature, cohort.conversion) == (is_mature, Fraction(1) if is_mature else None)
