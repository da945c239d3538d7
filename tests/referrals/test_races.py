"""Referrals and rewards moved by many at once: each lock, what it keeps, and what goes wrong without it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import OutboxEvent, Program
from membership.models import Member
from referrals.models import Referral, ReferralReward
from referrals.services import qualification, rewards
from tests.api.client import in_parallel
from tests.referrals.worlds import SETTLED, bring, buy, enroll, make_shop, points_of, settle

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 20


def _due(program: Program, name: str, friends: int) -> tuple[Member, list[Referral]]:
    """A member with friends whose orders are settled, and nothing decided."""
    ann, *others = enroll(program, name, *(f"{name}-{n}" for n in range(friends)))
    found = [bring(ann, friend) for friend in others]
    for friend in others:
        buy(friend, f"of {friend.external_id}", 5_000)
    return ann, found


def _qualified(program: Program, name: str, friends: int) -> tuple[Member, list[Referral]]:
    """The same, decided, with the news not delivered."""
    ann, found = _due(program, name, friends)
    qualification.mature(program=program, at=SETTLED)
    return ann, found


def _settle_at_once(program: Program, member: Member, referrals: list[Referral], times: int) -> None:
    def one(referral: Referral) -> None:
        rewards.settle(program=program, referral_id=referral.pk, member_id=member.pk, level=1, at=SETTLED)

    in_parallel([partial(one, referral) for referral in referrals for _ in range(times)])


def _mature_at_once(program: Program) -> None:
    in_parallel([lambda: qualification.mature(program=program, at=SETTLED)] * 4)


def _told(program: Program) -> int:
    return OutboxEvent.objects.filter(program=program, payload__state="qualified").count()


def test_a_referral_is_locked_before_it_is_moved() -> None:
    program = make_shop()
    _due(program, "ann", 1)
    with CaptureQueriesContext(connection) as queries:
        qualification.mature(program=program, at=SETTLED)
    said = [query["sql"] for query in queries]
    lock = next(n for n, sql in enumerate(said) if "FOR NO KEY UPDATE" in sql and "referrals_referral" in sql)
    assert lock < next(n for n, sql in enumerate(said) if sql.startswith('UPDATE "referrals_referral"'))


def test_a_member_is_locked_before_the_referral_is_read() -> None:
    program = make_shop()
    ann, (referral,) = _qualified(program, "ann", 1)
    with CaptureQueriesContext(connection) as queries:
        rewards.settle(program=program, referral_id=referral.pk, member_id=ann.pk, level=1, at=SETTLED)
    said = [query["sql"] for query in queries]
    lock = next(n for n, sql in enumerate(said) if "membership_member" in sql and "FOR NO KEY UPDATE" in sql)
    assert lock < next(n for n, sql in enumerate(said) if 'FROM "referrals_referral"' in sql)


def test_many_who_decide_at_once_decide_once() -> None:
    program = make_shop()
    _due(program, "ann", 6)
    _mature_at_once(program)
    assert _told(program) == 6


def test_control_without_the_referrals_lock_it_is_decided_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qualification, "lock_referral", lambda pk: Referral.objects.get(pk=pk))
    program, expected = make_shop(), 0
    for round_ in range(ROUNDS):
        _due(program, f"a{round_}", 6)
        expected += 6
        _mature_at_once(program)
        if _told(program) > expected:
            return
    pytest.fail("the lock is not needed")


def test_one_reward_settled_by_many_is_paid_once() -> None:
    program = make_shop()
    ann, found = _qualified(program, "ann", 2)
    _settle_at_once(program, ann, found, 4)
    assert points_of(ann) == 1_000
    assert ReferralReward.objects.filter(member=ann).count() == 2


def _full_months(program: Program, rounds: int) -> list[int]:
    """Return how many rewards of three settled at once were paid, of one that the month allows."""
    paid = []
    for round_ in range(rounds):
        ann, found = _qualified(program, f"a{round_}", 3)
        _settle_at_once(program, ann, found, 1)
        paid.append(ReferralReward.objects.filter(member=ann, state="paid").count())
    return paid


def test_a_months_cap_holds_for_rewards_settled_at_once() -> None:
    assert _full_months(make_shop(at_most_per_month=1), 5) == [1] * 5


def test_control_without_the_members_lock_the_cap_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Callable[[Any], None] = lambda _ids: None  # noqa: E731
    monkeypatch.setattr(rewards, "lock_members", nothing)
    assert max(_full_months(make_shop(at_most_per_month=1), ROUNDS)) > 1


def test_settled_in_any_order_it_ends_the_same() -> None:
    program = make_shop()
    ann, (referral,) = _due(program, "ann", 1)
    settle(program)
    before = list(ReferralReward.objects.order_by("pk").values())
    _settle_at_once(program, ann, [referral], 3)
    assert list(ReferralReward.objects.order_by("pk").values()) == before
