"""What members and operators do with points: redeem, adjust, reverse."""

from datetime import datetime

from core.models import Program
from points.models import SourceKind, TransactionKind
from points.services.earning import Terms
from points.services.posting import Posted, Posting, post


class InvalidPoints(ValueError):
    """The number of points is not one that can be posted."""


def redeem(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    points: int,
    idempotency_key: str,
    at: datetime,
    reason: str = "",
) -> Posted:
    """Burn points from the lots that expire first and post one redemption.

    Repeating the call with the same key returns the first posting and changes nothing.

    Units: whole points, > 0; `at` is aware UTC.
    Raises: InvalidPoints; InsufficientPoints; IdempotencyKeyReused.
    Locks: the account row only (its lots are covered by it).
    """
    if points <= 0:
        raise InvalidPoints(f"points must be at least 1, not {points}")
    return _decide(program, TransactionKind.BURN, member_id, wallet_id, points, idempotency_key, at, reason)


def adjust(
    *, program: Program, member_id: int, wallet_id: int, points: int, reason: str, idempotency_key: str, at: datetime
) -> Posted:
    """Give (points > 0) or take (points < 0) by an operator's decision, with the reason in the note.

    Given points open a lot with the wallet's expiry from today; taken points come from the lots that expire first.

    Raises: InvalidPoints on zero or without a reason; InsufficientPoints; IdempotencyKeyReused.
    Locks: the account row.
    """
    if not points or not reason.strip():
        raise InvalidPoints("an adjustment needs points other than 0 and a reason")
    return _decide(program, TransactionKind.ADJUST, member_id, wallet_id, points, idempotency_key, at, reason)


def reverse(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    transaction_id: int,
    reason: str,
    idempotency_key: str,
    at: datetime,
) -> Posted:
    """Post the opposite of a redemption or an adjustment; points go back to the lots they came from.

    Points that come back to a lot that has expired meanwhile expire at once.

    Raises: NotReversible; IdempotencyKeyReused.
    Locks: the account row.
    """
    posting = Posting(
        kind=TransactionKind.REVERSE,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"client:{idempotency_key}",
        effective_at=at,
        source_kind=SourceKind.TRANSACTION,
        source_id=transaction_id,
        reverses_id=transaction_id,
        note={"reason": reason},
    )
    return post(program_id=program.pk, postings=[posting], at=at)[0]


def _decide(
    program: Program,
    kind: TransactionKind,
    member_id: int,
    wallet_id: int,
    points: int,
    key: str,
    at: datetime,
    reason: str,
) -> Posted:
    spans = kind is TransactionKind.ADJUST and points > 0
    available_at, expires_at = Terms(program).lot_span(wallet_id, at) if spans else (None, None)
    posting = Posting(
        kind=kind,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"client:{key}",
        effective_at=at,
        points=points,
        available_at=available_at,
        expires_at=expires_at,
        note={"reason": reason} if reason else {},
    )
    return post(program_id=program.pk, postings=[posting], at=at)[0]
