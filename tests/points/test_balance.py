"""A balance that is read equals the balance that settling would post."""

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.models import Program
from points.models import Account, LotBalance, TransactionKind, Wallet
from points.postings import Posting
from points.selectors import Balance, NextExpiry, get_balance, list_standings
from points.services.posting import post, settle
from tests.points.ledgers import DAY, START, clawback, decision, earning

days = st.integers(0, 30)
earns = st.tuples(days, st.integers(0, 30), st.sampled_from([0, 0, 3, 8]), st.sampled_from([None, 8, 12]))
refunds = st.tuples(days, st.integers(0, 5), st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    earned=st.lists(earns, min_size=1, max_size=6), spent=st.one_of(st.none(), days),
    refunded=st.lists(refunds, max_size=4), asked=st.integers(0, 45),
)  # fmt: skip
def test_a_balance_is_what_settling_to_its_instant_posts(
    program: Program,
    wallet: Wallet,
    new_member: Callable[[], int],
    earned: list[tuple[int, int, int, int | None]],
    spent: int | None,
    refunded: list[tuple[int, int, bool]],
    asked: int,
) -> None:
    member = new_member()

    def do(posting: Posting) -> None:
        post(program_id=program.pk, postings=[posting], at=START)

    for n, (day, points, pending, expiry) in enumerate(earned):
        at = START + day * DAY
        expires = at + expiry * DAY if expiry else None
        source = member * 100 + n
        do(earning(member, wallet.pk, source, [points], at, available_at=at + pending * DAY, expires_at=expires))
    if spent is not None:
        at = START + spent * DAY
        available = get_balance(member_id=member, wallet_id=wallet.pk, at=at).available
        if available:
            do(decision(TransactionKind.BURN, member, wallet.pk, "all", available, at))
    for n, (day, which, is_whole) in enumerate(refunded):
        line = (member * 100 + which % len(earned)) * 10
        do(clawback(member, wallet.pk, member * 100 + n, [(line, 1 + is_whole, 2)], START + day * DAY))

    at = START + asked * DAY
    read = get_balance(member_id=member, wallet_id=wallet.pk, at=at)
    account = Account.objects.get(member_id=member)
    # Like a posting, a read is judged no earlier than the account's last posting.
    settle(account_ids=[account.pk], through=max(at, account.last_effective_at or at), at=START)
    account.refresh_from_db()
    assert (read.available, read.pending, read.held, read.debt) == (
        account.available,
        account.pending,
        account.held,
        -account.debt,
    )
    (standing,) = list_standings(member_id=member, at=at)
    left = list(LotBalance.objects.filter(member_id=member).order_by("expires_at", "lot_id"))
    assert [(lot.remaining, lot.is_pending, lot.expires_at) for lot in standing.lots] == [
        (lot.remaining, lot.is_pending, lot.expires_at) for lot in left
    ]
    soonest = left[0].expires_at if left else None
    together = sum(lot.remaining for lot in left if lot.expires_at == soonest)
    assert standing.lot_count == len(left)
    assert standing.next_expiry == (NextExpiry(together, soonest) if soonest else None)


def test_a_lot_that_has_vested_unposted_expires_next(
    program: Program, wallet: Wallet, new_member: Callable[[], int]
) -> None:
    member = new_member()
    vests, expires, later = START + 3 * DAY, START + 8 * DAY, START + 9 * DAY
    lots = [
        earning(member, wallet.pk, 1, [7], START, expires_at=later),
        earning(member, wallet.pk, 2, [5], START, available_at=vests, expires_at=expires),
        earning(member, wallet.pk, 3, [4], START, available_at=vests, expires_at=later),
    ]
    post(program_id=program.pk, postings=lots, at=START)

    def read(day: int) -> tuple[int, int, NextExpiry | None]:
        (standing,) = list_standings(member_id=member, at=START + day * DAY)
        return standing.balance.available, standing.balance.pending, standing.next_expiry

    assert read(2) == (7, 9, NextExpiry(5, expires))
    assert read(3) == (16, 0, NextExpiry(5, expires))
    assert read(8) == (11, 0, NextExpiry(11, later))
    assert read(9) == (0, 0, None)


def test_a_balance_in_another_programs_wallet_is_nothing(wallet: Wallet, new_member: Callable[[], int]) -> None:
    other = Program.objects.create(code="other", name="Other", currency="GBP", time_zone="UTC")
    foreign = Wallet.objects.create(program=other, code="points", name="Points")
    member = new_member()
    assert get_balance(member_id=member, wallet_id=foreign.pk, at=START) == Balance(0, 0, 0, 0, 0, 0)
    assert [standing.wallet_id for standing in list_standings(member_id=member, at=START)] == [wallet.pk]
