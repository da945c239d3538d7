"""A statement shows what was posted and reads no more than the account's own rows."""

from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.models import Program
from points.models import SEQ_BITS, Account, Bucket, TransactionKind, Wallet
from points.selectors import list_statement
from points.services.posting import post
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
        shown = [
            (t.kind, [(e.to_bucket, e.points) for e in t.entries.all()], len(t.accruals.all()), len(t.returns.all()),
             len(t.lots.all()), [a.points for a in t.allocations.all()])
            for t in list_statement(account)
        ]  # fmt: skip
    assert shown == [
        (TransactionKind.CLAWBACK, [(Bucket.CLAWED_BACK, 10)], 0, 1, 0, [10]),
        (TransactionKind.BURN, [(Bucket.REDEEMED, 20)], 0, 0, 0, [20]),
        (TransactionKind.EARN, [(Bucket.AVAILABLE, 30)], 2, 0, 1, []),
    ]
    assert len(queries) == 6
    for query in queries:
        assert f'"id" >= {account.pk << SEQ_BITS}' in query["sql"]
        assert f'"id" < {(account.pk + 1) << SEQ_BITS}' in query["sql"]
