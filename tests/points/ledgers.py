"""Make postings for tests and read a ledger back as plain values."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from points.models import AccrualReason, LedgerEntry, LedgerTransaction, SourceKind, TransactionKind
from points.postings import Posting, Return
from points.rules import LineAccrual

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Moved(NamedTuple):
    """An entry as everyone can compare it."""

    kind: str
    source: tuple[int, int]
    wallet: int
    from_bucket: int
    to_bucket: int
    points: int
    effective_at: datetime


def earning(
    member_id: int,
    wallet_id: int,
    source_id: int,
    points: list[int],
    at: datetime,
    *,
    available_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> Posting:
    """An order that earns these points, one number a line; line ids are source_id * 10 + position."""
    accruals = [
        LineAccrual(
            source_kind=SourceKind.ORDER_LINE,
            source_id=source_id * 10 + position,
            rule_version_id=1,
            basis=part * 100,
            multiplier_bps=10_000,
            points=part,
            reason=AccrualReason.EARNED if part else AccrualReason.BELOW_ONE_POINT,
        )
        for position, part in enumerate(points)
    ]
    return Posting(
        kind=TransactionKind.EARN,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"earn:{source_id}",
        effective_at=at,
        source_kind=SourceKind.ORDER,
        source_id=source_id,
        available_at=available_at or at,
        expires_at=expires_at,
        accruals=accruals,
    )


def decision(
    kind: TransactionKind,
    member_id: int,
    wallet_id: int,
    key: str,
    points: int,
    at: datetime,
    *,
    expires_at: datetime | None = None,
) -> Posting:
    """A redemption or an adjustment."""
    return Posting(
        kind=kind,
        member_id=member_id,
        wallet_id=wallet_id,
        key=key,
        effective_at=at,
        points=points,
        available_at=at,
        expires_at=expires_at,
    )


def clawback(
    member_id: int,
    wallet_id: int,
    source_id: int,
    returns: list[tuple[int, int, int]],
    at: datetime,
    policy: str = "debt",
) -> Posting:
    """A refund: (line, returned so far, whole) for each refund line; refund line ids are source_id * 10 + position."""
    parts = [Return(line, source_id * 10 + n, returned, whole) for n, (line, returned, whole) in enumerate(returns)]
    return Posting(
        kind=TransactionKind.CLAWBACK,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"clawback:{source_id}",
        effective_at=at,
        source_kind=SourceKind.REFUND,
        source_id=source_id,
        policy=policy,
        returns=parts,
    )


def read_entries(member_id: int) -> list[Moved]:
    """The member's entries in recording order. A lot's source is its own transaction's."""
    transactions = {t.pk: t for t in LedgerTransaction.objects.filter(member_id=member_id)}

    def source(t: LedgerTransaction) -> tuple[int, int]:
        if t.source_kind == SourceKind.LOT:
            return (SourceKind.LOT, transactions[max(pk for pk in transactions if pk < t.source_id)].source_id)
        return (t.source_kind, t.source_id)

    moved = []
    for e in LedgerEntry.objects.filter(member_id=member_id).order_by("pk"):
        t = transactions[e.transaction_id]
        name = TransactionKind(t.kind).name.lower()
        moved.append(Moved(name, source(t), t.wallet_id, e.from_bucket, e.to_bucket, e.points, t.effective_at))
    return moved
