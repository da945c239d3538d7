"""What members and operators do with points: redeem, adjust, reverse."""

from datetime import datetime

from core.models import Program
from points.models import SourceKind, TransactionKind
from points.services.earning import Terms, terms_of
from points.services.posting import DECIDED_BY, Posted, Posting, PostingError, decide, has_posted

# One account can hold at most 2^24 rows: with it no balance leaves the integers that every JSON reader has.
MAX_ADJUSTMENT = 500_000_000


class InvalidPoints(ValueError):
    """The number of points is not one that can be posted."""


class RedemptionRefused(PostingError):
    """The wallet lets points be used in other steps only, or more at a time."""

    def __init__(self, points: int, step: int, minimum: int) -> None:
        super().__init__(f"{points} points asked, in steps of {step} from {minimum} on")
        self.points, self.step, self.minimum = points, step, minimum


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

    Repeating the call with the same key returns the first posting and changes nothing, however much later it comes.

    Units: whole points, > 0; `at` is aware UTC.
    Raises: InvalidPoints; RedemptionRefused; InsufficientPoints; MemberSuspended; UnknownAccount; IdempotencyKeyReused.
    Locks: the account row only (its lots are covered by it).
    """
    if points <= 0:
        raise InvalidPoints(f"points must be at least 1, not {points}")
    _check_terms(program, member_id, wallet_id, points, idempotency_key, at)
    posting = Posting(
        kind=TransactionKind.BURN,
        member_id=member_id,
        wallet_id=wallet_id,
        key=_key(idempotency_key),
        effective_at=at,
        points=points,
        note={"reason": reason} if reason else {},
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=True)


def adjust(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    points: int,
    reason: str,
    decided_by: str,
    idempotency_key: str,
    at: datetime,
) -> Posted:
    """Give (points > 0) or take (points < 0) by a decision; the note has the reason and who decided.

    Given points open a lot with the wallet's expiry from today; taken points come from the lots that expire first.

    Raises: InvalidPoints on zero, too many, or without a reason; InsufficientPoints; UnknownAccount;
    IdempotencyKeyReused.
    Locks: the account row.
    """
    if not points or abs(points) > MAX_ADJUSTMENT or not reason.strip():
        raise InvalidPoints(f"an adjustment needs a reason, and 1 to {MAX_ADJUSTMENT:,} points either way")
    terms = Terms(program)
    available_at, expires_at = None, None
    if points > 0 and terms.has_wallet(wallet_id):
        available_at, expires_at = terms.lot_span(wallet_id, at)
    posting = Posting(
        kind=TransactionKind.ADJUST,
        member_id=member_id,
        wallet_id=wallet_id,
        key=_key(idempotency_key),
        effective_at=at,
        points=points,
        available_at=available_at,
        expires_at=expires_at,
        note={"reason": reason, DECIDED_BY: decided_by},
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)


def reverse(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    transaction_id: int,
    reason: str,
    decided_by: str,
    idempotency_key: str,
    at: datetime,
) -> Posted:
    """Post the opposite of a redemption or an adjustment; points go back to the lots they came from.

    Points that come back to a lot that has expired meanwhile expire at once.

    Raises: NotReversible; UnknownAccount; IdempotencyKeyReused.
    Locks: the account row.
    """
    posting = Posting(
        kind=TransactionKind.REVERSE,
        member_id=member_id,
        wallet_id=wallet_id,
        key=_key(idempotency_key),
        effective_at=at,
        source_kind=SourceKind.TRANSACTION,
        source_id=transaction_id,
        reverses_id=transaction_id,
        note={"reason": reason, DECIDED_BY: decided_by},
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)


def _check_terms(program: Program, member_id: int, wallet_id: int, points: int, key: str, at: datetime) -> None:
    """Keep to the step and the minimum of the wallet's policy. What has been posted is answered, whatever they are now.

    Raises: RedemptionRefused.
    """
    terms = terms_of(program)
    redemption = terms.policy_at(wallet_id, at).redemption if terms.has_wallet(wallet_id) else None
    if redemption is None or redemption.allows(points):
        return
    if not has_posted(member_id=member_id, wallet_id=wallet_id, key=_key(key)):
        raise RedemptionRefused(points, redemption.step, max(redemption.minimum, redemption.step))


def _key(idempotency_key: str) -> str:
    """Return the posting's own key, which never lapses."""
    return f"client:{idempotency_key}"
