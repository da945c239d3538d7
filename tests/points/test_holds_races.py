"""One hold is settled once, and points are held or spent, never both, whoever asks how often at the same time."""

from collections import Counter
from collections.abc import Callable
from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from core.models import Program
from core.versions import publish
from membership.models import Member
from points.models import Account, Hold, LedgerTransaction, SourceKind, TransactionKind, Wallet
from points.services import grants, holds
from points.services.posting import HoldSettled, IdempotencyKeyReused, InsufficientPoints, Posted, post
from points.services.verify import verify
from tests.points.ledgers import DAY, START, clawback, decision, earning
from tests.points.test_races import race, shop

__all__ = ["shop"]
pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 16


@pytest.fixture
def who(shop: tuple[Program, Wallet]) -> dict[str, Any]:
    """A member with 100 points."""
    program, wallet = shop
    member = Member.objects.create(program=program, external_id="m1", joined_at=START, recorded_at=START)
    post(program_id=program.pk, postings=[earning(member.pk, wallet.pk, 1, [100], START)], at=START)
    return {"program": program, "member_id": member.pk, "wallet_id": wallet.pk}


def hold(who: dict[str, Any], points: int, reference: str = "r") -> Posted:
    return holds.hold(**who, points=points, reference=reference, held_until=START + DAY, at=START + DAY)


def balances(who: dict[str, Any]) -> tuple[int, int, int]:
    account = Account.objects.get(member_id=who["member_id"])
    assert list(verify(program=who["program"])) == []
    return account.available, account.held, account.lifetime_redeemed


def count(outcomes: list[object]) -> Counter[str]:
    """Count what was posted, what was repeated, and refusals by their names."""
    posted = {True: "posted", False: "repeated"}
    return Counter(posted[o.is_new] if isinstance(o, Posted) else type(o).__name__ for o in outcomes)


def test_one_hold_sent_many_times_holds_once(who: dict[str, Any]) -> None:
    outcomes = race(lambda _n: hold(who, 60), THREADS)
    assert count(outcomes) == {"posted": 1, "repeated": THREADS - 1}
    assert balances(who) == (40, 60, 0)


def test_one_capture_sent_many_times_captures_once(who: dict[str, Any]) -> None:
    hold(who, 60)
    outcomes = race(lambda _n: holds.capture(**who, reference="r", at=START + DAY), THREADS)
    assert count(outcomes) == {"posted": 1, "repeated": THREADS - 1}
    assert balances(who) == (40, 0, 60)


def test_of_different_captures_of_one_hold_one_succeeds(who: dict[str, Any]) -> None:
    hold(who, 60)
    outcomes = race(lambda n: holds.capture(**who, reference="r", points=40 + n, at=START + DAY), THREADS)
    assert count(outcomes) == {"posted": 1, IdempotencyKeyReused.__name__: THREADS - 1}
    captured = Hold.objects.get().captured
    assert balances(who) == (40, 60 - captured, captured)


def test_a_hold_is_captured_or_released_never_both(who: dict[str, Any]) -> None:
    for number in range(8):
        reference = str(number)
        hold(who, 10, reference)
        act: list[Callable[..., Posted]] = [holds.capture, holds.release]

        def settle(n: int, reference: str = reference, act: list[Callable[..., Posted]] = act) -> Posted:
            return act[n](**who, reference=reference, at=START + DAY)

        assert count(race(settle, 2)) == {"posted": 1, HoldSettled.__name__: 1}
    _, held, redeemed = balances(who)
    captured = Hold.objects.filter(captured=10).count()
    assert (held, redeemed, Hold.objects.filter(released=10).count()) == (0, 10 * captured, 8 - captured)


def test_refunds_give_back_no_more_than_was_paid(who: dict[str, Any]) -> None:
    hold(who, 60)
    holds.capture(**who, reference="r", at=START + DAY)
    outcomes = race(lambda n: holds.give_back(**who, reference="r", points=10, refund_id=n, at=START + DAY), THREADS)
    assert count(outcomes) == {"posted": 6, HoldSettled.__name__: THREADS - 6}
    assert balances(who) == (100, 0, 0)


def test_holds_and_redemptions_share_one_balance(who: dict[str, Any]) -> None:
    def act(n: int) -> object:
        if n % 2:
            return hold(who, 15, str(n))
        burn = decision(TransactionKind.BURN, who["member_id"], who["wallet_id"], f"b{n}", 15, START + DAY)
        return post(program_id=who["program"].pk, postings=[burn], at=START)[0]

    outcomes = race(act, THREADS)
    assert count(outcomes) == {"posted": 6, InsufficientPoints.__name__: THREADS - 6}
    available, held, redeemed = balances(who)
    assert (available, held + redeemed) == (10, 90)


def test_a_refund_beside_a_hold_takes_only_what_is_free(who: dict[str, Any]) -> None:
    def act(n: int) -> object:
        if n:
            return hold(who, 60)
        back = clawback(who["member_id"], who["wallet_id"], 9, [(10, 1, 1)], START + DAY)
        return post(program_id=who["program"].pk, postings=[back], at=START)[0]

    outcomes = count(race(act, 2))
    account = Account.objects.get(member_id=who["member_id"])
    if outcomes == {"posted": 2}:
        assert (account.available, account.held, account.debt) == (0, 60, -60)
    else:
        assert outcomes == {"posted": 1, InsufficientPoints.__name__: 1}
        assert (account.available, account.held, account.debt) == (0, 0, 0)
    assert list(verify(program=who["program"])) == []


def test_one_grant_sent_many_times_gives_once(shop: tuple[Program, Wallet], who: dict[str, Any]) -> None:
    publish(shop[1], {}, at=START)
    outcomes = race(
        lambda n: grants.grant(
            **who, points=50, source_kind=SourceKind.REFERRAL_REWARD, source_id=1, reason="", at=START + n * DAY
        ),
        THREADS,
    )
    assert count(outcomes) == {"posted": 1, "repeated": THREADS - 1}
    assert balances(who) == (150, 0, 0)
    assert LedgerTransaction.objects.filter(kind=TransactionKind.EARN).count() == 2


def test_control_a_hold_read_before_it_is_locked_is_captured_twice(who: dict[str, Any]) -> None:
    """The same race on what is left of a hold, read first and written then, which the account lock prevents."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE control (held int, captured int)")
        cursor.execute("INSERT INTO control VALUES (60, 0)")
    paused = Barrier(4)

    def capture(_n: int) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT held - captured FROM control")
            (left,) = cursor.fetchone()
            paused.wait(timeout=30)
            if left >= 60:
                cursor.execute("UPDATE control SET captured = captured + 60")
            return bool(left >= 60)

    try:
        assert sum(o is True for o in race(capture, 4)) > 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT captured > held FROM control")
            assert cursor.fetchone() == (True,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE control")


def test_the_hold_is_read_after_the_account_is_locked(who: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('points_post'::regproc)")
        body = cursor.fetchone()[0]
        assert body.index("points_open_account(") < body.index("points_post_new(")
        cursor.execute("SELECT pg_get_functiondef('points_post_new'::regproc)")
        assert "points_find_hold(" in cursor.fetchone()[0]
        cursor.execute(
            "SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%FROM points_hold%' AND proname LIKE 'points_%'"
        )
        assert cursor.fetchone() == (2,), "points_find_hold and points_verify alone read holds"
