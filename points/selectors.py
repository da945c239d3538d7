"""Balances and totals. Reads never write: what is due by the instant asked counts as fallen."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from django.db import connection
from django.db.models import QuerySet

from points.models import SEQ_BITS, Account, Bucket, LotBalance, TransactionKind, Wallet

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Balance:
    """Points of one account as of an instant. `debt` is shown positive."""

    available: int
    pending: int
    held: int
    debt: int
    lifetime_earned: int
    lifetime_redeemed: int


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """Points of a program by an instant: earned = clawed_back + expired + redeemed + adjusted + outstanding."""

    earned: int
    clawed_back: int
    expired: int
    redeemed: int
    adjusted: int
    outstanding: int


@dataclass(frozen=True, slots=True)
class OpenLot:
    """What is left of points that were earned together. Usable in [available_at, expires_at)."""

    seq: int
    remaining: int
    is_pending: bool
    available_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class NextExpiry:
    """Points that expire together, before all others, unless they are used."""

    points: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """A member in one wallet: balances, what expires next, the first open lots and how many there are."""

    wallet_id: int
    code: str
    name: str
    balance: Balance
    next_expiry: NextExpiry | None
    lots: tuple[OpenLot, ...]
    lot_count: int


# What a page shows of a member's open lots, those that expire first first.
LOTS_SHOWN = 20

_NOTHING = Balance(0, 0, 0, 0, 0, 0)
_STANDINGS = "SELECT * FROM points_standings(%s, %s, %s, %s)"


def list_standings(*, member_id: int, at: datetime, wallet_id: int | None = None) -> list[Standing]:
    """Return how a member stands at `at` in every wallet of the program, or in one: always one statement.

    What is due counts as done, whether or not a job ran: due lots have expired, due pending lots have vested and repaid
    debt. Before an account's last posting there is no way back: like a posting, an earlier `at` is judged at that one.
    """
    with connection.cursor() as cursor:
        cursor.execute(_STANDINGS, [member_id, at, wallet_id, LOTS_SHOWN])
        return [_standing(*row) for row in cursor.fetchall()]


def get_balance(*, member_id: int, wallet_id: int, at: datetime) -> Balance:
    """Return the balances at `at` as `list_standings` does; none of it in a wallet of another program."""
    standings = list_standings(member_id=member_id, at=at, wallet_id=wallet_id)
    return standings[0].balance if standings else _NOTHING


def _standing(
    wallet_id: int, code: str, name: str, account_id: int | None, available: int, pending: int, held: int, debt: int,
    earned: int, redeemed: int, at: datetime, due: str | None, live: str | None, live_count: int | None,
    next_points: int | None,
) -> Standing:  # fmt: skip
    if account_id is None:
        return Standing(wallet_id, code, name, _NOTHING, None, (), 0)
    lots, vested = _read_lots(live), []
    next_expiry = NextExpiry(next_points, lots[0].expires_at) if next_points and lots[0].expires_at else None
    for lot in _read_lots(due):
        left = lot.remaining
        if lot.is_pending:
            repaid = min(debt, left)
            debt, pending, left = debt - repaid, pending - left, left - repaid
            available += left
        if lot.expires_at and lot.expires_at <= at:
            available -= left
        elif left:
            vested.append(replace(lot, remaining=left, is_pending=False))
    lots = sorted([*lots, *vested], key=lambda lot: (lot.expires_at or NEVER, lot.seq))
    return Standing(
        wallet_id,
        code,
        name,
        Balance(available, pending, held, debt, earned, redeemed),
        soonest(next_expiry, vested),
        tuple(lots[:LOTS_SHOWN]),
        (live_count or 0) + len(vested),
    )


def _read_lots(text: str | None) -> list[OpenLot]:
    return [
        OpenLot(
            lot_id & (1 << SEQ_BITS) - 1,
            remaining,
            is_pending,
            datetime.fromisoformat(available_at),
            datetime.fromisoformat(expires_at) if expires_at else None,
        )
        for lot_id, remaining, is_pending, available_at, expires_at in json.loads(text or "[]")
    ]


def soonest(known: NextExpiry | None, lots: Sequence[OpenLot]) -> NextExpiry | None:
    """Return the next expiry, lots that it does not know yet included."""
    for lot in lots:
        if lot.expires_at is None or (known and lot.expires_at > known.expires_at):
            continue
        together = known.points if known and known.expires_at == lot.expires_at else 0
        known = NextExpiry(together + lot.remaining, lot.expires_at)
    return known


def open_lots(account: Account) -> QuerySet[LotBalance]:
    """Return the account's open lots as they were last posted, those that expire first first."""
    first = account.pk << SEQ_BITS
    lots = LotBalance.objects.filter(lot_id__gte=first, lot_id__lt=first + (1 << SEQ_BITS))
    return lots.order_by("expires_at", "lot_id")


def get_totals(*, wallet: Wallet, before: datetime) -> LedgerTotals:
    """Return what the wallet's ledger says as of an instant.

    Facts count strictly before it; a lot whose expires_at is the instant has expired. Settle the program to
    the instant first: what has not been posted is not here.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT t.kind, e.from_bucket, e.to_bucket, sum(e.points)::bigint
            FROM points_ledgerentry e JOIN points_ledgertransaction t ON t.id = e.transaction_id
            WHERE t.wallet_id = %s
                AND (t.effective_at < %s OR t.effective_at = %s AND t.kind IN (%s, %s))
            GROUP BY 1, 2, 3""",
            [wallet.pk, before, before, TransactionKind.EXPIRE, TransactionKind.VEST],
        )
        rows = cursor.fetchall()
    balances = {Bucket.AVAILABLE, Bucket.PENDING, Bucket.HELD, Bucket.DEBT}

    def flow(kinds: set[int], bucket: int) -> int:
        """Net points that went from the balances to the counter bucket."""
        return sum(
            points * ((target == bucket) - (source == bucket)) for kind, source, target, points in rows if kind in kinds
        )

    everything = {int(kind) for kind in TransactionKind}
    outstanding = sum(points * ((target in balances) - (source in balances)) for _, source, target, points in rows)
    return LedgerTotals(
        earned=-flow({TransactionKind.EARN}, Bucket.ISSUED),
        clawed_back=flow(everything, Bucket.CLAWED_BACK),
        expired=flow(everything, Bucket.EXPIRED),
        redeemed=flow(everything, Bucket.REDEEMED),
        adjusted=flow(everything - {TransactionKind.EARN}, Bucket.ISSUED),
        outstanding=outstanding,
    )
