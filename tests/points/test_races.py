"""Many at once: each guard has a control that shows the race without it, and its SQL is asserted."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from core.models import Program
from membership.models import Member
from points.models import Account, LedgerTransaction, TransactionKind, Wallet
from points.services.posting import InsufficientPoints, post, post_batch, settle
from points.services.verify import verify
from tests.points.ledgers import DAY, START, clawback, decision, earning

THREADS = 32

pytestmark = pytest.mark.django_db(transaction=True)


def race(do: Callable[[int], object], threads: int = THREADS) -> list[object]:
    """Run `do(n)` in so many threads, all released at once; return results and exceptions alike."""
    barrier = Barrier(threads)

    def run(n: int) -> object:
        try:
            barrier.wait(timeout=30)
            return do(n)
        except Exception as error:  # noqa: BLE001 -- the outcome of the race
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.fixture
def shop(transactional_db: None) -> tuple[Program, Wallet]:
    program = Program.objects.create(code="shop", name="Shop", currency="GBP", time_zone="UTC")
    return program, Wallet.objects.create(program=program, code="points", name="Points")


@pytest.fixture
def member(shop: tuple[Program, Wallet]) -> int:
    program, wallet = shop
    made = Member.objects.create(program=program, external_id="m1", joined_at=START, recorded_at=START)
    post(program_id=program.pk, postings=[earning(made.pk, wallet.pk, 1, [100], START)], at=START)
    return made.pk


def test_one_balance_is_burned_only_as_far_as_it_goes(shop: tuple[Program, Wallet], member: int) -> None:
    program, wallet = shop

    def burn(n: int) -> object:
        posting = decision(TransactionKind.BURN, member, wallet.pk, f"burn {n}", 10, START + DAY)
        return post(program_id=program.pk, postings=[posting], at=START)

    outcomes = race(burn)
    assert sum(isinstance(o, list) for o in outcomes) == 10
    assert sum(isinstance(o, InsufficientPoints) for o in outcomes) == THREADS - 10
    account = Account.objects.get(member_id=member)
    assert (account.available, account.lifetime_redeemed) == (0, 100)
    assert list(verify(program=program)) == []


def test_control_without_the_lock_the_balance_is_overspent(shop: tuple[Program, Wallet], member: int) -> None:
    """The same race on a plain read-then-write, which is what the account lock prevents."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE control (available int)")
        cursor.execute("INSERT INTO control VALUES (100)")
    paused = Barrier(THREADS)

    def burn(_n: int) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT available FROM control")
            (available,) = cursor.fetchone()
            paused.wait(timeout=30)
            if available >= 10:
                cursor.execute("UPDATE control SET available = %s", [available - 10])
            return bool(available >= 10)

    try:
        assert sum(o is True for o in race(burn)) > 10
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE control")


def test_identical_postings_post_once(shop: tuple[Program, Wallet], member: int) -> None:
    program, wallet = shop
    posting = decision(TransactionKind.BURN, member, wallet.pk, "the same", 60, START + DAY)
    outcomes = race(lambda _n: post(program_id=program.pk, postings=[posting], at=START)[0])
    assert Counter(o.is_new for o in outcomes) == {True: 1, False: THREADS - 1}  # type: ignore[attr-defined]
    assert len({o.transaction_id for o in outcomes}) == 1  # type: ignore[attr-defined]
    assert Account.objects.get(member_id=member).available == 40


def test_first_postings_of_one_account_make_one_account(shop: tuple[Program, Wallet]) -> None:
    program, wallet = shop
    made = Member.objects.create(program=program, external_id="m2", joined_at=START, recorded_at=START)
    race(lambda n: post(program_id=program.pk, postings=[earning(made.pk, wallet.pk, 100 + n, [5], START)], at=START))
    assert Account.objects.get(member_id=made.pk).available == 5 * THREADS
    assert list(verify(program=program)) == []


def test_two_expiry_jobs_and_burns_at_once(shop: tuple[Program, Wallet]) -> None:
    program, wallet = shop
    members = [
        Member.objects.create(program=program, external_id=f"x{n}", joined_at=START, recorded_at=START).pk
        for n in range(40)
    ]
    lots = [
        earning(m, wallet.pk, m * 100 + n, [10], START, expires_at=START + (n + 1) * DAY)
        for m in members
        for n in range(5)
    ]
    post(program_id=program.pk, postings=lots, at=START)
    ids = list(Account.objects.filter(member_id__in=members).values_list("pk", flat=True))

    def act(n: int) -> object:
        if n % 2:
            return settle(account_ids=ids, through=START + 3 * DAY, at=START)
        burn = decision(TransactionKind.BURN, members[n], wallet.pk, f"b{n}", 15, START + 2 * DAY)
        return post(program_id=program.pk, postings=[burn], at=START)

    outcomes = race(act, 16)
    assert not [o for o in outcomes if isinstance(o, Exception)]
    expired = LedgerTransaction.objects.filter(kind=TransactionKind.EXPIRE).values_list("source_id", flat=True)
    assert len(expired) == len(set(expired))
    assert list(verify(program=program)) == []


def test_mixed_batches_and_expiry_jobs_do_not_deadlock(shop: tuple[Program, Wallet]) -> None:
    program, wallet = shop
    members = [
        Member.objects.create(program=program, external_id=f"d{n}", joined_at=START, recorded_at=START).pk
        for n in range(120)
    ]
    lots = [earning(m, wallet.pk, m * 100, [10], START, expires_at=START + DAY) for m in members]
    post(program_id=program.pk, postings=lots, at=START)
    ids = list(Account.objects.filter(member_id__in=members).values_list("pk", flat=True))

    def act(n: int) -> object:
        if n % 2:
            return settle(account_ids=ids, through=START + 3 * DAY, at=START)
        # The first half has refunds and goes one by one, the second goes in bulk: locked alone, the order would turn.
        mixed = [earning(m, wallet.pk, m * 100 + n + 1, [5], START + DAY) for m in members]
        mixed += [
            clawback(m, wallet.pk, m * 100 + n + 1, [((m * 100 + n + 1) * 10, 1, 1)], START + DAY) for m in members[:60]
        ]
        return post_batch(program_id=program.pk, postings=mixed, at=START)

    outcomes = race(act, 12)
    assert not [o for o in outcomes if isinstance(o, Exception)]
    assert list(verify(program=program)) == []


def test_the_account_is_locked_before_the_key_is_looked_up(shop: tuple[Program, Wallet], member: int) -> None:
    program, wallet = shop
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('points_open_account'::regproc)")
        assert "FOR NO KEY UPDATE" in cursor.fetchone()[0]
        cursor.execute("SELECT pg_get_functiondef('points_post'::regproc)")
        body = cursor.fetchone()[0]
        assert body.index("points_open_account(") < body.index("key_digest")
        cursor.execute("SELECT pg_get_functiondef('points_post_earnings'::regproc)")
        body = cursor.fetchone()[0]
        assert body.index("points_lock_accounts(") < body.index("key_digest")
        cursor.execute("SELECT pg_get_functiondef('points_lock_accounts'::regproc)")
        assert "ORDER BY a.member_id, a.wallet_id FOR NO KEY UPDATE" in cursor.fetchone()[0]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        posting = decision(TransactionKind.BURN, member, wallet.pk, "counted", 1, START + DAY)
        post(program_id=program.pk, postings=[posting], at=START)
    statements = [q["sql"] for q in queries]
    assert [s.split()[0] for s in statements] == ["SELECT"]
