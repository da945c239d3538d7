"""Referrals whose facts come late, twice over or at the very moment of the binding."""

from typing import Any

import pytest
from django.db import transaction

from core.models import Program
from membership.fact_inputs import RefundInput, RefundLineInput
from membership.models import Member
from membership.services import fingerprints
from referrals.models import Referral, Touch
from referrals.services import binding
from referrals.services.cleanup import forget_touches
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
    give_back,
    make_shop,
    points_of,
    record,
    rewards_of,
    settle,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)


def _pair(**terms: Any) -> tuple[Program, Member, Member]:
    program = make_shop(**terms)
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben)
    return program, ann, ben


def test_an_order_that_counts_anew_is_rewarded_after_all() -> None:
    program, ann, ben = _pair()
    buy(ben, "o2", 5_000, at=NOW + 3 * DAY)
    buy(ben, "o1", 5_000, at=NOW + DAY)
    assert rewards_of(ann) == [("order", 1, 500, "cancelled"), ("order", 1, 500, "pending")]
    give_back(ben, "r1", "o1", 5_000, at=NOW + 4 * DAY)
    assert rewards_of(ann) == [("order", 1, 500, "pending"), ("order", 1, 500, "cancelled")]
    settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)
    give_back(ben, "r2", "o2", 5_000, at=SETTLED + DAY)
    assert (points_of(ann), points_of(ben)) == (0, 0)
    assert [state for *_, state in rewards_of(ann)] == ["clawed_back", "cancelled"]


def test_an_order_told_while_the_binding_is_under_way_is_rewarded() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    code_of(ann)
    with transaction.atomic():
        bring(ann, ben)
        in_parallel([lambda: buy(ben, "o1", 5_000)])  # whose news finds no referral yet
    deliver(NOW + DAY)
    assert rewards_of(ann) == [("order", 1, 500, "pending")]
    settle(program)
    assert (points_of(ann), points_of(ben)) == (500, 200)


def test_an_order_of_which_every_unit_came_back_counts_for_nothing_though_a_fee_was_kept() -> None:
    program, ann, ben = _pair()
    buy(ben, "o1", 10_000)
    line = RefundLineInput(external_id="r1.1", order_line="o1.1", units=1, amount_minor=7_000)
    record(
        program,
        RefundInput(
            external_id="r1", member="ben", order="o1", refunded_at=NOW + 2 * DAY, currency="GBP",
            amount_minor=7_000, lines=(line,),
        ),
    )  # fmt: skip
    settle(program)
    assert rewards_of(ann) == [("order", 1, 500, "cancelled")]
    assert points_of(ann) == 0


def test_an_order_of_before_the_binding_ends_the_wait_of_an_enrollment() -> None:
    program, ann, ben = _pair(trigger="enrollment")
    buy(ben, "o0", 100, at=NOW - DAY / 2)
    settle(program)
    referral = Referral.objects.get()
    assert (referral.state, referral.reason, points_of(ann)) == ("rejected", "existing_customer", 0)


def test_an_order_of_before_the_binding_ends_a_review() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    referral = bring(ann, ben)
    for member in (ann, ben):
        fingerprints.record(member=member, seen_with={"device": "d"}, at=NOW)
    buy(ben, "o1", 5_000)
    settle(program)
    referral.refresh_from_db()
    assert referral.state == "flagged"
    buy(ben, "o0", 100, at=NOW - DAY / 2)
    referral.refresh_from_db()
    assert (referral.state, referral.reason) == ("rejected", "existing_customer")
    assert [state for *_, state in rewards_of(ann)] == ["rejected"]


def test_clicks_are_forgotten_and_referrals_are_not() -> None:
    program = make_shop()
    ann, ben = enroll(program, "ann", "ben")
    for n in (0, 10):
        binding.record_touch(program=program, code=code_of(ann), visitor=f"visitor {n}", at=NOW + n * DAY)
    bring(ann, ben)
    assert [forget_touches(before=NOW + DAY) for _ in range(2)] == [1, 0]
    assert (Touch.objects.count(), Referral.objects.count()) == (1, 1)
