"""Balances and statements. Reads never write: what is due by the instant asked counts as fallen."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Model, Prefetch, Q, QuerySet

from points.models import (
    SEQ_BITS,
    Account,
    Accrual,
    AccrualReturn,
    Bucket,
    LedgerEntry,
    LedgerTransaction,
    Lot,
    LotAllocation,
    LotBalance,
    TransactionKind,
    Wallet,
)


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


def get_balance(*, member_id: int, wallet_id: int, at: datetime) -> Balance:
    """Return the balances at `at`, with due lots expired and due pending lots vested, whether or not a job ran.

    Before the account's last posting there is no way back: like a posting, an earlier `at` is judged at that one.
    """
    account = Account.objects.filter(member_id=member_id, wallet_id=wallet_id).first()
    if account is None:
        return Balance(0, 0, 0, 0, 0, 0)
    at = max(at, account.last_effective_at or at)
    available, pending, debt = account.available, account.pending, -account.debt
    due = open_lots(account).filter(is_pending=True, available_at__lte=at).order_by("available_at", "lot_id")
    for lot in due:
        repaid = min(debt, lot.remaining)
        debt -= repaid
        pending -= lot.remaining
        available += lot.remaining - repaid
        if lot.expires_at and lot.expires_at <= at:
            available -= lot.remaining - repaid
    for lot in open_lots(account).filter(is_pending=False, expires_at__lte=at):
        available -= lot.remaining
    return Balance(available, pending, account.held, debt, account.lifetime_earned, account.lifetime_redeemed)


def open_lots(account: Account) -> QuerySet[LotBalance]:
    """Return the account's open lots, those that expire first first."""
    first = account.pk << SEQ_BITS
    lots = LotBalance.objects.filter(lot_id__gte=first, lot_id__lt=first + (1 << SEQ_BITS))
    return lots.order_by("expires_at", "lot_id")


def list_statement(account: Account) -> QuerySet[LedgerTransaction]:
    """Return the account's transactions, newest first, with all that was posted with them.

    Every table is read by the account's range of ids: there is no index by transaction.
    """
    first = account.pk << SEQ_BITS
    own = Q(pk__gte=first, pk__lt=first + (1 << SEQ_BITS))
    parts: dict[str, type[Model]] = {"entries": LedgerEntry, "accruals": Accrual, "returns": AccrualReturn, "lots": Lot,
             "allocations": LotAllocation}  # fmt: skip
    prefetches = [Prefetch(name, model._default_manager.filter(own).order_by("pk")) for name, model in parts.items()]
    return LedgerTransaction.objects.filter(own).order_by("-pk").prefetch_related(*prefetches)


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
