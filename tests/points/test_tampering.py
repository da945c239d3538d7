"""What someone who can switch triggers off does to what stands around the chains, verify finds as well."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error, connection, transaction

from core.models import Program
from points.models import Account, Hold, LedgerTransaction, Lot, LotBalance, TransactionKind, Wallet
from points.services import holds
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


@pytest.fixture
def hold(program: Program, wallet: Wallet, new_member: Callable[[], int]) -> Hold:
    """A hold of 50 points of two lots: 20 captured, 5 of them given back, 30 released."""
    who: dict[str, Any] = {"program": program, "member_id": new_member(), "wallet_id": wallet.pk, "reference": "r"}
    new_member()
    Wallet.objects.create(program=program, code="diamonds", name="Diamonds")
    lots = [earning(who["member_id"], wallet.pk, n, [30], START, expires_at=START + n * DAY) for n in (10, 20)]
    post(program_id=program.pk, postings=lots, at=START)
    holds.hold(**who, points=50, held_until=START + DAY, at=START)
    holds.capture(**who, points=20, at=START)
    holds.release(**who, at=START)
    holds.give_back(**who, points=5, refund_id=1, at=START)
    holds.hold(**(who | {"reference": "other"}), points=7, held_until=START + DAY, at=START)
    return Hold.objects.get(reference="r")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("points = points + 1, released = released + 1", "hold"),
        ("captured = captured + 1, released = released - 1", "hold"),
        ("released = released - 1", "holds"),
        ("returned = returned + 1", "hold"),
        ("reference = 'another'", "hold"),
        ("member_id = (SELECT max(id) FROM membership_member)", "hold"),
        ("wallet_id = (SELECT max(id) FROM points_wallet)", "hold"),
    ],
)
def test_a_changed_hold_is_found(program: Program, hold: Hold, change: str, problem: str) -> None:
    assert find(program) == []
    tamper(f"UPDATE points_hold SET {change} WHERE transaction_id = {hold.pk}")
    assert problem in {f.problem for f in find(program)}


def test_a_hold_deleted_or_made_up_is_found(program: Program, hold: Hold) -> None:
    tamper(f"DELETE FROM points_hold WHERE transaction_id = {hold.pk}")
    assert [(f.problem, f.seq) for f in find(program)] == [("hold", hold.pk & 0xFFFFFF)]
    tamper(
        "INSERT INTO points_hold (transaction_id, member_id, wallet_id, reference, points, captured, released,"
        " returned, held_until)"
        " SELECT transaction_id + 1, member_id, wallet_id, 'third', 1, 0, 0, 0, held_until FROM points_hold"
    )
    assert {f.problem for f in find(program)} == {"hold", "holds"}


def test_points_that_came_back_to_another_lot_are_found(program: Program, hold: Hold) -> None:
    """Whoever can also forge the chain: the lots that a hold took are the lots that get it back."""
    release = LedgerTransaction.objects.get(kind=TransactionKind.RELEASE)
    first, second = Lot.objects.order_by("pk")
    part = release.allocations.get(lot=first)
    tamper(f"UPDATE points_lotallocation SET lot_id = {second.pk}, points = points - 11 WHERE id = {part.pk}")
    assert "hold" in {f.problem for f in find(program)}


@pytest.mark.parametrize(
    "change",
    ["captured = points + 1", "captured = captured + 1", "released = released + 1", "returned = captured + 1",
     "points = 0", "released = -1", "returned = -1"],
)  # fmt: skip
def test_an_impossible_hold_is_refused(hold: Hold, change: str) -> None:
    with pytest.raises(Error, match="hold_"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE points_hold SET {change} WHERE transaction_id = {hold.pk}")


def test_a_second_hold_under_one_reference_is_refused(hold: Hold) -> None:
    with pytest.raises(Error, match="hold_reference"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE points_hold SET reference = 'r'")


@pytest.mark.parametrize("change", ["rule_version_id = NULL", "reason = 4"])
def test_an_accrual_without_a_rule_is_a_grant_and_no_other(account: Account, change: str) -> None:
    with pytest.raises(Error, match="accrual_granted"), transaction.atomic():
        tamper(f"UPDATE points_accrual SET {change} WHERE id >> 24 = {account.pk}")


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
