"""What happened to accounts, row by row of the ledger: each told once, in the order of the account."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from core.event_types import EventType
from core.locks import lock_feed
from core.services import feed
from core.services.feed import News, utc_text
from points.models import SEQ_BITS, Bucket, SourceKind, TransactionKind
from storefront.models import AnnouncedAccount
from storefront.services.announcements import HISTORY_AGE

_TYPES = {
    TransactionKind.EARN: EventType.POINTS_EARNED,
    TransactionKind.BURN: EventType.POINTS_REDEEMED,
    TransactionKind.REVERSE: EventType.POINTS_REVERSED,
    TransactionKind.EXPIRE: EventType.POINTS_EXPIRED,
    TransactionKind.VEST: EventType.POINTS_VESTED,
    TransactionKind.ADJUST: EventType.POINTS_ADJUSTED,
    TransactionKind.CLAWBACK: EventType.POINTS_CLAWED_BACK,
    TransactionKind.HOLD: EventType.POINTS_HELD,
    TransactionKind.CAPTURE: EventType.POINTS_CAPTURED,
    TransactionKind.RELEASE: EventType.POINTS_RELEASED,
    TransactionKind.GIVE_BACK: EventType.POINTS_GIVEN_BACK,
}
_SIGNED = {EventType.POINTS_ADJUSTED, EventType.POINTS_REVERSED}

# All rows up to an account's seq are committed: whoever posts holds the account until then.
_DUE = """
    SELECT a.id, a.member_id, coalesce(told.seq, 0), a.seq
    FROM points_account a LEFT JOIN storefront_announcedaccount told ON told.account_id = a.id
    WHERE a.id = ANY (%s) AND a.seq > coalesce(told.seq, 0)
    ORDER BY a.id"""

# Points: what came to (+) or left (-) the member's balances; of a vest, a hold and a release, which move inside them,
# what moved.
_ROWS = """
    WITH due AS MATERIALIZED (SELECT * FROM unnest(%(first)s::bigint[], %(last)s::bigint[]) AS d (first, last)),
    moved AS (
        SELECT e.transaction_id, sum(e.points * CASE
            WHEN e.from_bucket = %(pending)s AND e.to_bucket = %(available)s THEN 1
            WHEN %(held)s IN (e.from_bucket, e.to_bucket) THEN 1
            ELSE (e.to_bucket <= %(debt)s)::int - (e.from_bucket <= %(debt)s)::int END)::bigint AS points
        FROM due JOIN points_ledgerentry e ON e.id BETWEEN due.first AND due.last
        GROUP BY 1)
    SELECT t.id, t.kind, m.external_id, w.code, moved.points, t.effective_at, o.external_id, r.external_id,
        a.external_id, CASE t.source_kind WHEN %(transaction)s THEN t.source_id ELSE t.reverses_id END,
        own.available_at, own.expires_at, fallen.transaction_id
    FROM due
    JOIN points_ledgertransaction t ON t.id BETWEEN due.first AND due.last
    JOIN moved ON moved.transaction_id = t.id
    JOIN membership_member m ON m.id = t.member_id
    JOIN points_wallet w ON w.id = t.wallet_id
    LEFT JOIN membership_orderedit ed ON t.source_kind = %(edit)s AND ed.id = t.source_id
    LEFT JOIN membership_refund r ON t.source_kind = %(refund)s AND r.id = t.source_id
    LEFT JOIN membership_order o
        ON o.id = CASE t.source_kind WHEN %(order)s THEN t.source_id ELSE coalesce(ed.order_id, r.order_id) END
    LEFT JOIN membership_activity a ON t.source_kind = %(activity)s AND a.id = t.source_id
    LEFT JOIN points_lot own ON own.id = t.id + 1 AND own.transaction_id = t.id
    LEFT JOIN points_lot fallen ON t.source_kind = %(lot)s AND fallen.id = t.source_id
    WHERE moved.points <> 0 AND t.effective_at >= t.recorded_at - %(age)s::interval
    ORDER BY t.id"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A transaction that moved points, with the names of what it came from.

    `about_id`: the transaction that it undoes, or the hold that it is about.
    """

    id: int
    kind: int
    member: str
    wallet: str
    points: int
    effective_at: datetime
    order: str | None
    refund: str | None
    activity: str | None
    about_id: int | None
    available_at: datetime | None
    expires_at: datetime | None
    opened_in_id: int | None


@transaction.atomic
def announce_postings(*, program_id: int, transaction_ids: Sequence[int], at: datetime) -> None:
    """Tell everything that happened to these transactions' accounts and has not been told.

    So vests and expiries that were posted on the way are told in their place, and a row that two news name is told
    once.
    Locks: the feed.
    """
    lock_feed(program_id)
    with connection.cursor() as cursor:
        cursor.execute(_DUE, [sorted({pk >> SEQ_BITS for pk in transaction_ids})])
        due = cursor.fetchall()
    rows = _read([(account << SEQ_BITS) + told + 1 for account, _, told, _ in due],
                 [(account << SEQ_BITS) + seq for account, _, _, seq in due])  # fmt: skip
    feed.announce(program_id=program_id, news=[_news(row) for row in rows if row.kind in _TYPES], at=at)
    AnnouncedAccount.objects.bulk_create(
        (AnnouncedAccount(account_id=account, member_id=member_id, seq=seq) for account, member_id, _, seq in due),
        update_conflicts=True,
        unique_fields=["account_id"],
        update_fields=["seq"],
    )


def _read(first: list[int], last: list[int]) -> list[_Row]:
    values: dict[str, Any] = {
        "first": first,
        "last": last,
        "available": Bucket.AVAILABLE,
        "pending": Bucket.PENDING,
        "held": Bucket.HELD,
        "debt": Bucket.DEBT,
        "order": SourceKind.ORDER,
        "edit": SourceKind.ORDER_EDIT,
        "refund": SourceKind.REFUND,
        "activity": SourceKind.ACTIVITY,
        "lot": SourceKind.LOT,
        "transaction": SourceKind.TRANSACTION,
        "age": HISTORY_AGE,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, values)
        return [_Row(*row) for row in cursor.fetchall()]


def _news(row: _Row) -> News:
    kind = _TYPES[TransactionKind(row.kind)]
    if kind is EventType.POINTS_CLAWED_BACK and row.about_id is not None:
        kind = EventType.POINTS_REVERSED  # what an activity had earned, by a decision
    data: dict[str, Any] = {
        "member": row.member,
        "wallet": row.wallet,
        "seq": _seq(row.id),
        "points": row.points if kind in _SIGNED else abs(row.points),
    }
    match kind:
        case EventType.POINTS_EARNED:
            data |= {"order": row.order, "activity": row.activity}
            data |= {"available_at": _text(row.available_at), "expires_at": _text(row.expires_at)}
        case EventType.POINTS_CLAWED_BACK:
            data |= {"order": row.order, "refund": row.refund}
        case EventType.POINTS_REVERSED:
            data |= {"reverses": _seq(row.about_id)}
        case EventType.POINTS_CAPTURED | EventType.POINTS_RELEASED:
            data |= {"hold": _seq(row.about_id)}
        case EventType.POINTS_GIVEN_BACK:
            data |= {"order": row.order, "refund": row.refund, "hold": _seq(row.about_id)}
        case EventType.POINTS_VESTED | EventType.POINTS_EXPIRED:
            data |= {"opened_in": _seq(row.opened_in_id)}
    return News(kind, row.member, data, row.effective_at)


def _seq(row_id: int | None) -> int | None:
    """Return the number by which a wallet's transaction is addressed."""
    return None if row_id is None else row_id & (1 << SEQ_BITS) - 1


def _text(at: datetime | None) -> str | None:
    return None if at is None else utc_text(at)
