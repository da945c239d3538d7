"""Points that something else than an earn rule gives, such as a referral, and takes back when its reason is gone."""

from datetime import datetime

from django.db.models import Sum

from core.models import Program
from core.money import BPS
from points.models import AccrualReason, AccrualReturn, SourceKind, TransactionKind
from points.postings import Posting, Return
from points.rules import LineAccrual
from points.services.earning import Terms
from points.services.operations import MAX_ADJUSTMENT, InvalidPoints
from points.services.posting import Posted, UnknownAccount, decide


class UnknownGrant(Exception):
    """Nothing was granted for this source."""


def grant(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    points: int,
    source_kind: SourceKind,
    source_id: int,
    reason: str,
    at: datetime,
) -> Posted:
    """Give a member points for a source, once; they live by the wallet's policy from today, as earned ones do.

    Raises: InvalidPoints; UnknownAccount; IdempotencyKeyReused if the source has given other points.
    Locks: the account row.
    Idempotency: the source.
    """
    if not 0 < points <= MAX_ADJUSTMENT:
        raise InvalidPoints(f"a grant gives 1 to {MAX_ADJUSTMENT:,} points, not {points}")
    terms = _terms_with(program, wallet_id)
    available_at, expires_at = terms.lot_span(wallet_id, at)
    accrual = LineAccrual(source_kind, source_id, None, 1, BPS, points, AccrualReason.GRANTED)
    posting = Posting(
        kind=TransactionKind.EARN,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"grant:{source_kind.name}:{source_id}",
        effective_at=at,
        source_kind=source_kind,
        source_id=source_id,
        available_at=available_at,
        expires_at=expires_at,
        accruals=[accrual],
        note={"reason": reason} if reason else {},
    )
    return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)


def claw_back(
    *,
    program: Program,
    member_id: int,
    wallet_id: int,
    source_kind: SourceKind,
    source_id: int,
    returned: int,
    whole: int,
    cause_id: int,
    at: datetime,
    cause_kind: SourceKind = SourceKind.REFUND,
) -> int:
    """Take back the share `returned / whole` of a grant, rounded down, less what was asked before.

    Answers how many points were taken. `returned` is what has come back in all, this time included. What has been
    spent is taken as the wallet's policy for refunds says; what has expired is forgiven. Where the
    policy is to refuse, the rest is given up: the reason of the grant is gone already, and nobody is there to refuse.

    Raises: UnknownGrant; UnknownAccount; IdempotencyKeyReused.
    Locks: the account row.
    Idempotency: the source and the cause.
    """
    terms = _terms_with(program, wallet_id)
    policy = terms.policy_at(wallet_id, at).clawback
    back = Return(source_id, cause_id, returned, whole, line_kind=source_kind, source_kind=cause_kind)
    posting = Posting(
        kind=TransactionKind.CLAWBACK,
        member_id=member_id,
        wallet_id=wallet_id,
        key=f"clawback:{source_kind.name}:{source_id}:{cause_kind.name}:{cause_id}",
        effective_at=at,
        source_kind=source_kind,
        source_id=source_id,
        policy="write_off" if policy == "refuse" else policy,
        returns=[back],
    )
    posted = decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)
    if posted.transaction_id is None:
        raise UnknownGrant(f"nothing was granted for {source_kind.label.lower()} {source_id}")
    taken = AccrualReturn.objects.filter(transaction_id=posted.transaction_id, member_id=member_id)
    return int(taken.aggregate(taken=Sum("points_taken"))["taken"])


def _terms_with(program: Program, wallet_id: int) -> Terms:
    terms = Terms(program)
    if not terms.has_wallet(wallet_id):
        raise UnknownAccount(f"the program has no wallet {wallet_id}")
    return terms
