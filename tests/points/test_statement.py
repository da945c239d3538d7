"""A statement shows what was posted and reads no more than the account's own rows."""

from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from points.models import SEQ_BITS, Account, SourceKind, TransactionKind, Wallet
from points.services.posting import post
from points.statement import Moves, Source, list_statement, read_moves, read_source
from tests.points.ledgers import DAY, START, clawback, decision, earning


def test_a_statement_reads_the_accounts_own_range_of_ids(
    program: Program, wallet: Wallet, new_member: Callable[[], int]
) -> None:
    member, other = new_member(), new_member()
    steps = [
        earning(member, wallet.pk, 1, [30, 0], START),
        earning(other, wallet.pk, 2, [8], START),
        decision(TransactionKind.BURN, member, wallet.pk, "b", 20, START + DAY),
        clawback(member, wallet.pk, 3, [(10, 1, 3)], START + 2 * DAY),
    ]
    post(program_id=program.pk, postings=steps, at=START)
    account = Account.objects.get(member_id=member)
    with CaptureQueriesContext(connection) as queries:
        shown = [(row.kind, read_moves(row), read_source(row)) for row in list_statement(account.pk)]
    assert shown == [
        (TransactionKind.CLAWBACK, Moves(-10, {"available": -10}, {"available": 0}), Source(SourceKind.REFUND)),
        (TransactionKind.BURN, Moves(-20, {"available": -20}, {"available": 10}), Source(SourceKind.NONE)),
        (TransactionKind.EARN, Moves(30, {"available": 30}, {"available": 30}), Source(SourceKind.ORDER)),
    ]
    assert len(queries) == 1
    assert f'"id" >= {account.pk << SEQ_BITS}' in queries[0]["sql"]
    assert f'"id" < {(account.pk + 1) << SEQ_BITS}' in queries[0]["sql"]


def test_without_an_account_there_is_no_statement(db: None) -> None:
    assert list(list_statement(None)) == []
