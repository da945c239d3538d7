"""WalletDay: what moved in each wallet on each local day, summed anew for the days that new postings touch.

What was recorded lately says which days are stale; each of them is summed again from the ledger. So a refresh that
comes twice, late or beside another writes what is true, whatever was stored.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Max

from analytics.models import WalletDay
from core.calendar import day_start, local_date
from core.models import Program
from points.models import SEQ_BITS, Bucket, TransactionKind, Wallet

# A posting may commit long after the instant it is recorded at: a replay of years takes one instant for all.
LONGEST_TRANSACTION = timedelta(days=1)
# Days summed by one statement: a few seconds for a million members.
DAYS_PER_STATEMENT = 7


@transaction.atomic
def refresh(*, program: Program, at: datetime) -> int:
    """Sum the days again that postings recorded since the last refresh touch; return how many days those are.

    Locks: the rows it writes. Two refreshes at once write the same; what one of them misses the next one finds, for
    each looks back further than the last.
    """
    wallet_ids = list(Wallet.objects.filter(program=program).values_list("pk", flat=True))
    days = _stale_days(program, wallet_ids)
    for start in range(0, len(days), DAYS_PER_STATEMENT):
        some = days[start : start + DAYS_PER_STATEMENT]
        _execute(_WRITE, _cells(program, some) | _CODES | {"wallets": wallet_ids, "at": at})
    return len(days)


def _stale_days(program: Program, wallet_ids: Sequence[int]) -> list[date]:
    last = WalletDay.objects.filter(wallet__program=program).aggregate(at=Max("refreshed_at"))["at"]
    asked = {"wallets": wallet_ids, "since": last - LONGEST_TRANSACTION if last else None}
    (first, latest), *_ = _execute(_SPAN, asked)
    if first is None:
        return []
    days = list(_days(local_date(first, program.time_zone), local_date(latest, program.time_zone)))
    starts = [day_start(day, program.time_zone) for day in days]
    return [days[position - 1] for (position,) in _execute(_TOUCHED, asked | {"starts": starts})]


def _days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += timedelta(days=1)


def _cells(program: Program, days: Sequence[date]) -> dict[str, Any]:
    return {
        "days": list(days),
        "starts": [day_start(day, program.time_zone) for day in days],
        "ends": [day_start(day + timedelta(days=1), program.time_zone) for day in days],
    }


def _execute(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


_CODES = {
    "earn": TransactionKind.EARN.value,
    "issued": Bucket.ISSUED.value,
    "redeemed": Bucket.REDEEMED.value,
    "expired": Bucket.EXPIRED.value,
    "clawed_back": Bucket.CLAWED_BACK.value,
    "account": 1 << SEQ_BITS,
}

_RECENT = """points_ledgertransaction WHERE wallet_id = ANY(%(wallets)s)
    AND recorded_at >= coalesce(%(since)s::timestamptz, '-infinity')"""

_SPAN = f"SELECT min(effective_at), max(effective_at) FROM {_RECENT}"  # noqa: S608 no values

_TOUCHED = f"""SELECT DISTINCT width_bucket(effective_at, %(starts)s::timestamptz[]) FROM {_RECENT}
    ORDER BY 1"""  # noqa: S608 no values

# The rows of a transaction have ids between its own and the next transaction's of the account: there is no index by
# transaction. A counter bucket's sign: points that came out of it count, or points that went into it.
_WRITE = """
INSERT INTO analytics_walletday AS stored
    (wallet_id, day, earned, adjusted, redeemed, expired, clawed_back, refreshed_at)
SELECT t.wallet_id, cell.day,
    coalesce(sum(e.issued) FILTER (WHERE t.kind = %(earn)s), 0),
    coalesce(sum(e.issued) FILTER (WHERE t.kind <> %(earn)s), 0),
    coalesce(sum(e.redeemed), 0), coalesce(sum(e.expired), 0), coalesce(sum(e.clawed_back), 0), %(at)s
FROM unnest(%(days)s::date[], %(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS cell(day, starts_at, ends_at)
JOIN points_ledgertransaction t ON t.effective_at >= cell.starts_at AND t.effective_at < cell.ends_at
    AND t.wallet_id = ANY(%(wallets)s)
CROSS JOIN LATERAL (
    SELECT sum(points * ((from_bucket = %(issued)s)::int - (to_bucket = %(issued)s)::int)) AS issued,
        sum(points * ((to_bucket = %(redeemed)s)::int - (from_bucket = %(redeemed)s)::int)) AS redeemed,
        sum(points * ((to_bucket = %(expired)s)::int - (from_bucket = %(expired)s)::int)) AS expired,
        sum(points * ((to_bucket = %(clawed_back)s)::int - (from_bucket = %(clawed_back)s)::int)) AS clawed_back
    FROM points_ledgerentry
    WHERE id > t.id AND transaction_id = t.id AND id < coalesce(
        (SELECT min(following.id) FROM points_ledgertransaction following
         WHERE following.id > t.id AND following.id < (t.id / %(account)s + 1) * %(account)s),
        (t.id / %(account)s + 1) * %(account)s)
) AS e
GROUP BY 1, 2
ON CONFLICT (wallet_id, day) DO UPDATE
SET (earned, adjusted, redeemed, expired, clawed_back, refreshed_at) = (
    excluded.earned, excluded.adjusted, excluded.redeemed, excluded.expired, excluded.clawed_back,
    excluded.refreshed_at)
"""
