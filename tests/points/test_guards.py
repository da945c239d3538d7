"""The database refuses what the application must never do, and verify finds what was done all the same."""

from collections.abc import Callable

import pytest
from django.db import Error, connection, transaction

from core.models import Program
from points.models import Account, LedgerTransaction, TransactionKind, Wallet
from points.services.posting import post, settle
from points.services.verify import Finding, verify
from tests.points.ledgers import DAY, START, clawback, decision, earning

TABLES = [
    "points_ledgertransaction", "points_ledgerentry", "points_lot", "points_lotallocation", "points_accrual",
    "points_accrualreturn",
]  # fmt: skip


@pytest.fixture
def history(program: Program, wallet: Wallet, new_member: Callable[[], int]) -> int:
    """A member with every kind of ledger row; returns the account."""
    member = new_member()
    steps = [
        earning(member, wallet.pk, 1, [30, 0], START, expires_at=START + 30 * DAY),
        earning(member, wallet.pk, 2, [50], START + DAY, expires_at=START + 60 * DAY),
        decision(TransactionKind.BURN, member, wallet.pk, "b", 20, START + 2 * DAY),
        clawback(member, wallet.pk, 3, [(20, 1, 5)], START + 3 * DAY),
        decision(TransactionKind.ADJUST, member, wallet.pk, "a", 7, START + 4 * DAY),
    ]
    post(program_id=program.pk, postings=steps, at=START)
    account = Account.objects.get(member_id=member)
    settle(account_ids=[account.pk], through=START + 31 * DAY, at=START)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
    return account.pk


def tamper(sql: str) -> None:
    """Run a statement as someone who can switch triggers off."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(sql)
        assert cursor.rowcount != 0
        cursor.execute("SET session_replication_role = origin")


def find(program: Program) -> list[Finding]:
    return list(verify(program=program))


@pytest.mark.parametrize("statement", ["DELETE FROM points_account", "TRUNCATE points_account CASCADE"])
def test_an_account_cannot_be_removed(history: int, statement: str) -> None:
    with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_member_has_no_account_in_another_programs_wallet(new_member: Callable[[], int]) -> None:
    other = Program.objects.create(code="other", name="Other", currency="GBP", time_zone="UTC")
    wallet = Wallet.objects.create(program=other, code="points", name="Points")
    posting = earning(new_member(), wallet.pk, 1, [5], START)
    with pytest.raises(Error, match="different programs"), transaction.atomic():
        post(program_id=other.pk, postings=[posting], at=START)
    assert not Account.objects.exists()


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", ["UPDATE {} SET member_id = member_id", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_append_only_rows_cannot_be_changed(history: int, table: str, statement: str) -> None:
    with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table))


def test_an_untouched_ledger_is_sound(program: Program, history: int) -> None:
    assert find(program) == []


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("points_ledgerentry", "points = points + 1"),
        ("points_ledgertransaction", "effective_at = effective_at + interval '1 microsecond'"),
        ("points_ledgertransaction", "key_digest = set_byte(key_digest, 0, get_byte(key_digest, 0) # 1)"),
        ("points_ledgertransaction", "hash = set_byte(hash, 31, get_byte(hash, 31) # 1)"),
        ("points_lot", "expires_at = '2100-01-01'"),
        ("points_lotallocation", "points = points - 1"),
        ("points_accrual", "basis = basis + 1"),
        ("points_accrualreturn", "returned = 2"),
        ("points_accrualreturn", "points_owed = points_owed + 1"),
        ("points_accrualreturn", "points_owed = NULL"),
    ],
)
def test_a_changed_row_is_found_by_account_and_seq(program: Program, history: int, table: str, change: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {table} WHERE id >> 24 = %s", [history])
        (row_id,) = cursor.fetchone()
        column = "id" if table == "points_ledgertransaction" else "transaction_id"
        cursor.execute(f"SELECT {column} FROM {table} WHERE id = %s", [row_id])
        (transaction_id,) = cursor.fetchone()
    tamper(f"UPDATE {table} SET {change} WHERE id = {row_id}")
    findings = [f for f in find(program) if f.problem == "chain"]
    assert (findings[0].account_id, findings[0].seq) == (history, transaction_id & 0xFFFFFF)


@pytest.mark.parametrize("table", TABLES)
def test_a_deleted_row_is_found_by_account_and_seq(program: Program, history: int, table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT max(id) FROM {table} WHERE id >> 24 = %s", [history])
        (row_id,) = cursor.fetchone()
    tamper(f"DELETE FROM {table} WHERE id = {row_id}")
    missing = [f for f in find(program) if f.problem == "missing" or (f.problem == "head" and f.seq)]
    assert any((f.account_id, f.seq) == (history, row_id & 0xFFFFFF) for f in missing) or any(
        f.problem == "head" for f in missing
    )
    assert any(f.breaks_chain and f.account_id == history for f in find(program))


def test_reordered_transactions_are_found(program: Program, history: int) -> None:
    first, second = LedgerTransaction.objects.order_by("pk").values_list("pk", flat=True)[:2]
    aside = first | 0xFFFFFE
    for old, new in ((first, aside), (second, first), (aside, second)):
        tamper(f"UPDATE points_ledgertransaction SET id = {new} WHERE id = {old}")
    chain = {f.seq for f in find(program) if f.problem == "chain"}
    assert {first & 0xFFFFFF, second & 0xFFFFFF} <= chain


def test_an_entry_moved_to_another_transaction_is_found(program: Program, history: int) -> None:
    first, second = LedgerTransaction.objects.order_by("pk").values_list("pk", flat=True)[:2]
    tamper(f"UPDATE points_ledgerentry SET transaction_id = {first} WHERE transaction_id = {second}")
    chain = {f.seq for f in find(program) if f.problem == "chain"}
    assert {first & 0xFFFFFF, second & 0xFFFFFF} <= chain


@pytest.mark.parametrize("table", TABLES[1:])
def test_a_row_cannot_name_a_transaction_of_another_account(history: int, table: str) -> None:
    with pytest.raises(Error, match="_follows"), transaction.atomic():
        tamper(f"UPDATE {table} SET transaction_id = transaction_id + (1::bigint << 24)")


def test_the_whole_last_transaction_cut_off_is_found(program: Program, history: int) -> None:
    last = LedgerTransaction.objects.order_by("-pk").values_list("pk", flat=True)[0]
    for table in TABLES:
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(f"DELETE FROM {table} WHERE id >= {last}")
            cursor.execute("SET session_replication_role = origin")
    assert any(f.problem == "head" and f.account_id == history for f in find(program))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("UPDATE points_account SET available = available + 1", "balance"),
        ("UPDATE points_lotbalance SET remaining = remaining + 1", "lot"),
        ("DELETE FROM points_lotbalance", "lot"),
        ('UPDATE points_ledgernote SET body = \'{"reason": "other"}\'', "note"),
    ],
)
def test_a_drifted_projection_is_found(
    program: Program, wallet: Wallet, history: int, change: str, problem: str
) -> None:
    member = Account.objects.get(pk=history).member_id
    note = decision(TransactionKind.BURN, member, wallet.pk, "noted", 1, START + 32 * DAY)
    object.__setattr__(note, "note", {"reason": "as posted"})
    post(program_id=program.pk, postings=[note], at=START)
    assert find(program) == []
    tamper(change)
    assert problem in {f.problem for f in find(program)}


def test_an_erased_note_is_sound(program: Program, wallet: Wallet, history: int) -> None:
    member = Account.objects.get(pk=history).member_id
    note = decision(TransactionKind.BURN, member, wallet.pk, "noted", 1, START + 32 * DAY)
    object.__setattr__(note, "note", {"reason": "gone later"})
    post(program_id=program.pk, postings=[note], at=START)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM points_ledgernote")
        assert cursor.rowcount == 1
    assert find(program) == []


@pytest.mark.parametrize(
    "change",
    ["available = -1", "pending = -1", "held = -1", "debt = 1", "debt = -1", "seq = 16777216"],
)
def test_impossible_balances_are_refused(history: int, change: str) -> None:
    with pytest.raises(Error, match="account_"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE points_account SET {change} WHERE id = {history}")
