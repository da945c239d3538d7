"""What someone who can switch triggers off does to what stands around the chains, verify finds as well."""

from collections.abc import Callable

import pytest
from django.db import Error, connection, transaction

from core.models import Program
from points.models import Account, LotBalance, TransactionKind, Wallet
from points.services.posting import post
from points.services.verify import Finding, verify
from tests.points.ledgers import DAY, START, clawback, decision, earning


@pytest.fixture
def account(program: Program, wallet: Wallet, new_member: Callable[[], int]) -> Account:
    """An account with open, used up and pending lots, a redemption, its reversal's rival and an adjustment."""
    member = new_member()
    new_member()
    Wallet.objects.create(program=program, code="diamonds", name="Diamonds")
    steps = [
        earning(member, wallet.pk, 1, [30], START, expires_at=START + 30 * DAY),
        earning(member, wallet.pk, 2, [30], START, available_at=START + 20 * DAY, expires_at=START + 40 * DAY),
        decision(TransactionKind.ADJUST, member, wallet.pk, "a", 30, START, expires_at=START + 50 * DAY),
        decision(TransactionKind.BURN, member, wallet.pk, "b", 30, START + DAY),
        clawback(member, wallet.pk, 3, [(20, 0, 5)], START + 3 * DAY),
    ]
    post(program_id=program.pk, postings=steps, at=START)
    return Account.objects.get(member_id=member)


def tamper(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(sql)
        assert cursor.rowcount > 0
        cursor.execute("SET session_replication_role = origin")


def find(program: Program) -> list[Finding]:
    return list(verify(program=program))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("lifetime_earned = lifetime_earned + 1", "balance"),
        ("lifetime_redeemed = lifetime_redeemed + 1", "balance"),
        ("member_id = (SELECT max(id) FROM membership_member)", "account"),
        ("wallet_id = (SELECT max(id) FROM points_wallet)", "account"),
        ("last_effective_at = last_effective_at + interval '1 day'", "account"),
        ("last_effective_at = NULL", "account"),
        ("next_due_at = NULL", "account"),
        ("next_due_at = next_due_at + interval '1 microsecond'", "account"),
        ("head_hash = '\\x00'::bytea || substr(head_hash, 2)", "head"),
        ("seq = seq + 1", "head"),
    ],
)
def test_a_changed_account_is_found(program: Program, account: Account, change: str, problem: str) -> None:
    assert find(program) == []
    tamper(f"UPDATE points_account SET {change} WHERE id = {account.pk}")
    assert problem in {f.problem for f in find(program) if f.account_id == account.pk}


@pytest.mark.parametrize(
    "change", ["expires_at = NULL", "available_at = available_at - interval '1 day'", "member_id = member_id + 1",
               "is_pending = NOT is_pending"],
)  # fmt: skip
def test_a_changed_open_lot_is_found(program: Program, account: Account, change: str) -> None:
    lots = LotBalance.objects.values_list("remaining", "is_pending")
    assert sorted(lots) == [(30, False), (30, True)], "equal sums, which hide an exchange of states"
    tamper(f"UPDATE points_lotbalance SET {change}")
    assert "lot" in {f.problem for f in find(program)}


def test_an_account_deleted_with_its_open_lots_is_found(program: Program, account: Account) -> None:
    tamper("DELETE FROM points_lotbalance")
    tamper("DELETE FROM points_account")
    findings = find(program)
    assert {(f.account_id, f.seq) for f in findings if f.problem == "head"} == {(account.pk, account.seq)}
    assert any(f.breaks_chain for f in findings)


def test_rows_cut_to_nothing_are_found(program: Program, account: Account) -> None:
    for table in ("ledgertransaction", "ledgerentry", "lot", "lotallocation", "accrual", "accrualreturn"):
        tamper(f"DELETE FROM points_{table}")
    assert ("head", account.seq) in {(f.problem, f.seq) for f in find(program)}


def test_another_programs_accounts_are_not_reported(program: Program, account: Account) -> None:
    other = Program.objects.create(code="other", name="Other", currency="GBP", time_zone="UTC")
    tamper("UPDATE points_account SET available = available + 1")
    assert find(other) == []
    assert find(program) != []


def test_a_byte_moved_between_two_digests_is_refused(account: Account) -> None:
    with pytest.raises(Error, match="ledgertransaction_widths"), transaction.atomic():
        tamper(
            "UPDATE points_ledgertransaction SET key_digest = substr(key_digest, 1, 15),"
            " request_digest = substr(key_digest, 16) || request_digest"
        )


def test_a_lot_that_ends_before_it_begins_is_refused(program: Program, account: Account) -> None:
    posting = earning(
        account.member_id,
        account.wallet_id,
        9,
        [5],
        START,
        available_at=START + 5 * DAY,
        expires_at=START + 3 * DAY,
    )
    with pytest.raises(Error, match="lot_lives"), transaction.atomic():
        post(program_id=program.pk, postings=[posting], at=START)
    assert find(program) == []
