"""What a refund after a lot's end asks for: all that is due of the lot, less what of it expired."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

import points
from core.models import Program
from points.models import Account, AccrualReturn, TransactionKind, Wallet
from points.postings import Posting
from points.services.posting import ClawbackRefused, post, settle
from points.services.verify import verify
from tests.points.ledgers import DAY, START, clawback, decision, earning

SQL = Path(points.__file__).parent / "sql"
ENDS_AT = START + 10 * DAY
AFTER = ENDS_AT + DAY
Line = tuple[int, int, int]


class Ledger:
    """One member's account, posted to step by step."""

    def __init__(self, program: Program, wallet: Wallet, member_id: int) -> None:
        self.program, self.wallet, self.member_id = program, wallet, member_id

    def post(self, *postings: Posting) -> None:
        post(program_id=self.program.pk, postings=postings, at=START)

    def earn(self, source: int, *points: int) -> None:
        self.post(earning(self.member_id, self.wallet.pk, source, list(points), START, expires_at=ENDS_AT))

    def spend(self, points: int) -> None:
        self.post(decision(TransactionKind.BURN, self.member_id, self.wallet.pk, "b", points, START + DAY))

    def refund(self, source: int, *lines: Line, policy: str = "debt") -> list[tuple[int, int | None, int]]:
        """Take back of lines (line, returned, whole) after the end; return (due, owed, taken) of each."""
        self.post(clawback(self.member_id, self.wallet.pk, source, list(lines), AFTER, policy))
        written = AccrualReturn.objects.filter(transaction__source_id=source).order_by("pk")
        return list(written.values_list("points_due", "points_owed", "points_taken"))

    def settle(self, at: object = ENDS_AT) -> None:
        settle(account_ids=[Account.objects.get(member_id=self.member_id).pk], through=at, at=START)  # type: ignore[arg-type]

    @property
    def debt(self) -> int:
        return Account.objects.get(member_id=self.member_id).debt


@pytest.fixture
def ledger(program: Program, wallet: Wallet, new_member: Callable[[], int]) -> Ledger:
    return Ledger(program, wallet, new_member())


def test_what_expired_is_forgiven_and_what_was_spent_before_the_end_is_owed(ledger: Ledger) -> None:
    ledger.earn(1, 10)
    ledger.spend(7)
    assert ledger.refund(2, (10, 1, 1)) == [(10, 7, 7)]
    assert ledger.debt == -7
    assert list(verify(program=ledger.program)) == []


def test_what_expired_is_forgiven_once_over_all_lines_of_the_lot(ledger: Ledger) -> None:
    ledger.earn(1, 6, 4)
    ledger.spend(7)
    assert ledger.refund(2, (10, 1, 2)) == [(3, 0, 0)]
    assert ledger.refund(3, (10, 2, 2), (11, 1, 1)) == [(3, 3, 3), (4, 4, 4)]
    assert ledger.debt == -7


def test_what_was_owed_before_the_end_counts(ledger: Ledger) -> None:
    ledger.earn(1, 10)
    ledger.spend(7)
    ledger.post(clawback(ledger.member_id, ledger.wallet.pk, 2, [(10, 1, 2)], START + 2 * DAY))
    assert ledger.debt == -2  # 3 of the lot, the rest as debt: nothing is left to expire
    assert ledger.refund(3, (10, 2, 2)) == [(5, 5, 5)]
    assert ledger.debt == -7


@pytest.mark.parametrize(("policy", "taken"), [("write_off", 0), ("own_lot", 0)])
def test_what_was_written_off_is_not_asked_for_again(ledger: Ledger, policy: str, taken: int) -> None:
    ledger.earn(1, 10)
    ledger.spend(10)
    assert ledger.refund(2, (10, 1, 2), policy=policy) == [(5, 5, taken)]
    assert ledger.refund(3, (10, 2, 2)) == [(5, 5, 5)]


def test_a_wallet_that_refuses_refuses_what_was_spent_before_the_end(ledger: Ledger) -> None:
    ledger.earn(1, 10)
    ledger.spend(7)
    with pytest.raises(ClawbackRefused, match="takes back 7 points, 0 are left"):
        ledger.refund(2, (10, 1, 1), policy="refuse")


def install(*names: str) -> None:
    """Put the functions of released files in place of their successors, or these in place of those."""
    with connection.cursor() as cursor:
        for name in names:
            for text in (SQL / name).read_text().split("\nCREATE ")[1:]:
                function = text.removeprefix("OR REPLACE ")
                if function.startswith(("FUNCTION points_do_clawback", "FUNCTION points_bytes(r")):
                    cursor.execute(f"CREATE OR REPLACE {function}")


def test_the_next_refund_takes_what_an_older_release_had_not_asked_for(ledger: Ledger) -> None:
    install("canonical_0001.sql", "post_0001.sql")
    ledger.earn(1, 10)
    ledger.spend(7)
    assert ledger.refund(2, (10, 1, 2)) == [(5, None, 0)]
    install("canonical_0002.sql", "post_0002.sql")
    assert list(verify(program=ledger.program)) == []
    assert ledger.refund(3, (10, 2, 2)) == [(5, 7, 7)]
    assert ledger.debt == -7
    assert list(verify(program=ledger.program)) == []


def test_what_an_older_release_had_asked_for_before_the_end_counts(ledger: Ledger) -> None:
    install("canonical_0001.sql", "post_0001.sql")
    ledger.earn(1, 10)
    ledger.spend(10)
    ledger.post(clawback(ledger.member_id, ledger.wallet.pk, 2, [(10, 1, 2)], START + 2 * DAY, "write_off"))
    install("canonical_0002.sql", "post_0002.sql")
    assert ledger.refund(3, (10, 2, 2)) == [(5, 5, 5)]
