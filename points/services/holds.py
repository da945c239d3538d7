"""Points set aside for a purchase: hold, capture when it is paid, release when it is not, give back when it returns.

A hold is known by the caller's reference, one per member and wallet. Each of the four may be sent twice: the reference
(of points given back: the refund too) is its key, and the second call answers with the first posting.
"""

from datetime import datetime

from core.models import Program
from points.models import Hold, SourceKind, TransactionKind
from points.postings import Posting
from points.services.operations import InvalidPoints
from points.services.posting import Posted, decide


def hold(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    points: int,
    reference: str,
    held_until: datetime,
    at: datetime,
    needs_active_member: bool = True,
) -> Posted:
    """Set points aside, from the lots that expire first: nobody else can use them, and they do not expire meanwhile.

    `held_until` is kept for the caller, who releases a hold that has lapsed.
    needs_active_member: False for what the member had decided before a suspension.

    Raises: InvalidPoints; InsufficientPoints; MemberSuspended; UnknownAccount; IdempotencyKeyReused if the reference
    holds another number of points.
    Locks: the account row.
    """
    if points <= 0:
        raise InvalidPoints(f"points must be at least 1, not {points}")
    posting = Posting(
        kind=TransactionKind.HOLD,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"hold:{reference}",
        effective_at=at,
        points=points,
        reference=reference,
        held_until=held_until,
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=needs_active_member)


def extend(*, member_id: int, wallet_id: int, reference: str, held_until: datetime) -> None:
    """Note until when the caller holds points now; the ledger itself ends no hold."""
    Hold.objects.filter(member=member_id, wallet=wallet_id, reference=reference).update(held_until=held_until)


def capture(
    *, program: Program, member_id: int, wallet_id: int, reference: str, at: datetime, points: int | None = None
) -> Posted:
    """Spend what is held, or a part of it: the points that expire first. A hold is captured once.

    What is not captured stays held until it is released.

    Raises: InvalidPoints; UnknownHold; HoldSettled if it was captured before, released, or holds fewer points;
    UnknownAccount; IdempotencyKeyReused.
    Locks: the account row.
    """
    if points is not None and points <= 0:
        raise InvalidPoints(f"points must be at least 1, not {points}")
    posting = Posting(
        kind=TransactionKind.CAPTURE,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"capture:{reference}",
        effective_at=at,
        source_kind=SourceKind.TRANSACTION,
        points=points or 0,
        reference=reference,
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)


def release(*, program: Program, member_id: int, wallet_id: int, reference: str, at: datetime) -> Posted:
    """Free what is still held: the same lots get it back. What has expired meanwhile expires at once.

    Raises: UnknownHold; HoldSettled if all of it was captured; UnknownAccount.
    Locks: the account row.
    """
    posting = Posting(
        kind=TransactionKind.RELEASE,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"release:{reference}",
        effective_at=at,
        source_kind=SourceKind.TRANSACTION,
        reference=reference,
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)


def give_back(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    reference: str,
    points: int,
    refund_id: int,
    beside: int = 0,
    at: datetime,
) -> Posted:
    """Return points that were paid, after a refund: to the lots they came from, latest expiry first.

    What has expired meanwhile expires at once. A refund gives back once for each hold.

    beside: how many were given back before, where they were too few and are given for a refund that had given already.

    Raises: InvalidPoints; UnknownHold; HoldSettled if fewer points were paid and not yet given back; UnknownAccount;
    IdempotencyKeyReused.
    Locks: the account row.
    """
    if points <= 0:
        raise InvalidPoints(f"points must be at least 1, not {points}")
    posting = Posting(
        kind=TransactionKind.GIVE_BACK,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"give_back:{refund_id}:{reference}" + (f":beside:{beside}" if beside else ""),
        effective_at=at,
        source_kind=SourceKind.REFUND,
        source_id=refund_id,
        points=points,
        reference=reference,
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)
