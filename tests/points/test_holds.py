"""Points held for a purchase are out of everyone's reach until they are captured or released, and come back exactly."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from core.models import Program
from membership.models import Member
from points.models import Account, Hold, LedgerTransaction, LotBalance, SourceKind, TransactionKind, Wallet
from points.postings import Posting
from points.services import holds
from points.services.operations import InvalidPoints
from points.services.posting import (
    HoldSettled,
    IdempotencyKeyReused,
    InsufficientPoints,
    MemberSuspended,
    UnknownAccount,
    UnknownHold,
    post,
    settle,
)
from points.services.verify import verify
from tests.points.ledgers import DAY, START, clawback, decision, earning

BASKET = "checkout-1"


class Shopper:
    """A member with 30 points that expire on day 10, 50 that expire on day 20 and 20 that never do."""

    def __init__(self, program: Program, wallet: Wallet, member_id: int) -> None:
        self.program, self.wallet, self.member_id = program, wallet, member_id
        who: dict[str, Any] = {"program": program, "member_id": member_id, "wallet_id": wallet.pk}
        self.hold = partial(holds.hold, **who, reference=BASKET, held_until=START + 2 * DAY)
        self.capture = partial(holds.capture, **who, reference=BASKET)
        self.release = partial(holds.release, **who, reference=BASKET)
        self.give_back = partial(holds.give_back, **who, reference=BASKET)
        for number, (points, days) in enumerate([(30, 10), (50, 20), (20, None)]):
            expires_at = START + days * DAY if days else None
            self.post(earning(member_id, wallet.pk, number, [points], START, expires_at=expires_at))

    def post(self, *postings: Posting) -> None:
        post(program_id=self.program.pk, postings=postings, at=START)

    @property
    def account(self) -> Account:
        return Account.objects.get(member_id=self.member_id)

    @property
    def balances(self) -> tuple[int, int, int]:
        """Available, held and debt."""
        return self.account.available, self.account.held, self.account.debt

    @property
    def lots(self) -> list[int]:
        """What is left of the open lots, what expires first first."""
        return list(LotBalance.objects.order_by("expires_at", "lot_id").values_list("remaining", flat=True))

    @property
    def counters(self) -> tuple[int, int, int, int]:
        hold = Hold.objects.get(member_id=self.member_id)
        return hold.points, hold.captured, hold.released, hold.returned

    def expired(self) -> list[tuple[int, datetime]]:
        """What has expired, and when."""
        rows = LedgerTransaction.objects.filter(kind=TransactionKind.EXPIRE).order_by("pk")
        return [(row.entries.get().points, row.effective_at) for row in rows]


@pytest.fixture
def shopper(program: Program, wallet: Wallet, new_member: Callable[[], int]) -> Any:
    shopper = Shopper(program, wallet, new_member())
    yield shopper
    assert list(verify(program=program)) == []


def test_a_hold_takes_what_expires_first_out_of_reach(shopper: Shopper) -> None:
    posted = shopper.hold(points=60, at=START + DAY)
    assert (posted.available, posted.held) == (40, 60)
    assert shopper.lots == [20, 20]
    assert shopper.counters == (60, 0, 0, 0)
    hold = Hold.objects.get()
    assert (hold.transaction_id, hold.reference, hold.held_until) == (
        posted.transaction_id, BASKET, START + 2 * DAY,
    )  # fmt: skip
    with pytest.raises(InsufficientPoints) as refused:
        shopper.post(decision(TransactionKind.BURN, shopper.member_id, shopper.wallet.pk, "b", 41, START + DAY))
    assert (refused.value.asked, refused.value.available) == (41, 40)
    assert shopper.balances == (40, 60, 0)


def test_more_than_is_available_is_not_held(shopper: Shopper) -> None:
    with pytest.raises(InsufficientPoints) as refused:
        shopper.hold(points=101, at=START + DAY)
    assert (refused.value.asked, refused.value.available) == (101, 100)
    assert not Hold.objects.exists()
    assert shopper.balances == (100, 0, 0)


def test_a_capture_spends_all_that_is_held(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    shopper.capture(at=START + DAY)
    assert shopper.balances == (40, 0, 0)
    assert shopper.account.lifetime_redeemed == 60
    assert shopper.counters == (60, 60, 0, 0)


def test_what_a_part_capture_leaves_is_released_to_the_same_lots(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    shopper.capture(points=35, at=START + DAY)
    assert (shopper.balances, shopper.account.lifetime_redeemed) == ((40, 25, 0), 35)
    shopper.release(at=START + DAY)
    assert shopper.balances == (65, 0, 0)
    assert shopper.lots == [45, 20], "the first 30 of the capture were of the lot that expires first"
    assert shopper.counters == (60, 35, 25, 0)


def test_a_release_restores_every_lot_exactly(shopper: Shopper) -> None:
    shopper.hold(points=85, at=START + DAY)
    assert shopper.lots == [15]
    shopper.release(at=START + DAY)
    assert (shopper.balances, shopper.lots) == ((100, 0, 0), [30, 50, 20])


def test_what_is_held_does_not_expire_and_what_is_released_late_expires_at_once(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    settle(account_ids=[shopper.account.pk], through=START + 15 * DAY, at=START)
    assert (shopper.balances, shopper.expired()) == ((40, 60, 0), [])
    shopper.release(at=START + 15 * DAY)
    assert shopper.balances == (70, 0, 0)
    assert shopper.expired() == [(30, START + 15 * DAY)]
    assert shopper.lots == [50, 20]


def test_a_capture_after_the_lot_has_ended_still_pays(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    shopper.capture(at=START + 15 * DAY)
    assert (shopper.balances, shopper.expired()) == ((40, 0, 0), [])


def test_points_that_were_paid_come_back_to_their_lots_latest_expiry_first(shopper: Shopper) -> None:
    shopper.hold(points=85, at=START + DAY)
    shopper.capture(at=START + DAY)
    shopper.give_back(points=15, refund_id=1, at=START + 2 * DAY)
    assert shopper.lots == [10, 20], "5 of the lot that never expires, 10 of the one of day 20"
    shopper.give_back(points=70, refund_id=2, at=START + 2 * DAY)
    assert shopper.lots == [30, 50, 20]
    assert (shopper.balances, shopper.account.lifetime_redeemed) == ((100, 0, 0), 0)
    assert shopper.counters == (85, 85, 0, 85)


def test_points_given_back_past_their_end_expire_at_once(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    shopper.capture(at=START + DAY)
    shopper.give_back(points=50, refund_id=1, at=START + 12 * DAY)
    assert shopper.balances == (70, 0, 0)
    assert shopper.expired() == [(20, START + 12 * DAY)]


def test_given_back_between_capture_and_release_the_parts_stay_apart(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    shopper.capture(points=40, at=START + DAY)
    shopper.give_back(points=15, refund_id=1, at=START + DAY)
    assert shopper.lots == [5, 30, 20]
    shopper.release(at=START + DAY)
    assert shopper.lots == [5, 50, 20]
    assert shopper.counters == (60, 40, 20, 15)


def test_a_refund_never_breaks_a_hold(shopper: Shopper) -> None:
    shopper.hold(points=90, at=START + DAY)
    shopper.post(clawback(shopper.member_id, shopper.wallet.pk, 7, [(10, 1, 1)], START + DAY))
    assert shopper.balances == (0, 90, -40), "10 were left, the other 40 became debt"
    assert shopper.counters == (90, 0, 0, 0)
    shopper.release(at=START + DAY)
    assert shopper.balances == (50, 0, 0), "what is released repays debt first"


@pytest.mark.parametrize("again", [0, 1])
def test_each_step_may_be_sent_twice(shopper: Shopper, again: int) -> None:
    steps: list[Callable[..., Any]] = [
        partial(shopper.hold, points=60),
        partial(shopper.capture, points=40),
        partial(shopper.give_back, points=10, refund_id=1),
        shopper.release,
    ]
    first = [step(at=START + DAY) for step in steps]
    seq = shopper.account.seq
    for step, posted in zip(steps, first, strict=True):
        repeated = step(at=START + DAY + again * DAY)
        assert (repeated.transaction_id, repeated.is_new) == (posted.transaction_id, False)
    assert (shopper.account.seq, shopper.counters) == (seq, (60, 40, 20, 10))


def test_another_number_of_points_under_the_same_reference_is_refused(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    with pytest.raises(IdempotencyKeyReused):
        shopper.hold(points=61, at=START + DAY)
    shopper.capture(points=40, at=START + DAY)
    with pytest.raises(IdempotencyKeyReused):
        shopper.capture(points=41, at=START + DAY)
    assert (shopper.balances, shopper.counters) == ((40, 20, 0), (60, 40, 0, 0))


def test_what_is_not_held_is_named(shopper: Shopper) -> None:
    for step in (shopper.capture, shopper.release, partial(shopper.give_back, points=1, refund_id=1)):
        with pytest.raises(UnknownHold):
            step(at=START + DAY)
    assert shopper.balances == (100, 0, 0)


def test_a_settled_hold_gives_no_more(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    for asked, left, step in (
        (61, 60, partial(shopper.capture, points=61)),
        (1, 0, partial(shopper.give_back, points=1, refund_id=1)),
    ):
        with pytest.raises(HoldSettled) as refused:
            step(at=START + DAY)
        assert (refused.value.asked, refused.value.left) == (asked, left)
    shopper.release(at=START + DAY)
    with pytest.raises(HoldSettled):
        shopper.capture(at=START + DAY)
    assert (shopper.balances, shopper.counters) == ((100, 0, 0), (60, 0, 60, 0))


def test_a_hold_is_captured_once_under_whatever_key(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    shopper.capture(points=20, at=START + DAY)
    again = decision(TransactionKind.CAPTURE, shopper.member_id, shopper.wallet.pk, "another key", 20, START + DAY)
    with pytest.raises(HoldSettled) as refused:
        shopper.post(replace(again, source_kind=SourceKind.TRANSACTION, reference=BASKET))
    assert refused.value.left == 0
    assert (shopper.balances, shopper.counters) == ((40, 40, 0), (60, 20, 0, 0))


def test_a_captured_hold_has_nothing_to_release(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    shopper.capture(at=START + DAY)
    with pytest.raises(HoldSettled):
        shopper.release(at=START + DAY)
    with pytest.raises(HoldSettled) as refused:
        shopper.give_back(points=61, refund_id=1, at=START + DAY)
    assert refused.value.left == 60
    assert (shopper.balances, shopper.counters) == ((40, 0, 0), (60, 60, 0, 0))


def test_a_suspended_member_holds_nothing_but_what_was_held_is_settled(shopper: Shopper) -> None:
    shopper.hold(points=60, at=START + DAY)
    suspend(shopper.member_id)
    with pytest.raises(MemberSuspended):
        holds.hold(
            program=shopper.program, member_id=shopper.member_id, wallet_id=shopper.wallet.pk, points=1,
            reference="other", held_until=START + 2 * DAY, at=START + DAY,
        )  # fmt: skip
    shopper.capture(points=10, at=START + DAY)
    shopper.release(at=START + DAY)
    assert shopper.balances == (90, 0, 0)


def test_another_programs_member_has_no_account(shopper: Shopper) -> None:
    other = Program.objects.create(code="other", name="Other", currency="GBP", time_zone="UTC")
    with pytest.raises(UnknownAccount):
        shopper.hold(program=other, points=1, at=START + DAY)


@pytest.mark.parametrize("points", [0, -5])
def test_nothing_is_not_held_captured_or_given_back(shopper: Shopper, points: int) -> None:
    shopper.hold(points=60, at=START + DAY)
    for step in (shopper.hold, shopper.capture, partial(shopper.give_back, refund_id=1)):
        with pytest.raises(InvalidPoints):
            step(points=points, at=START + DAY)
    assert shopper.balances == (40, 60, 0)


def suspend(member_id: int) -> None:
    Member.objects.filter(pk=member_id).update(status="suspended")
