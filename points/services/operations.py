"""What members and operators do with points: redeem, adjust, reverse."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from core.models import Program
from core.services import audit
from membership.models import Member
from points.models import LedgerTransaction, SourceKind, TransactionKind, Wallet
from points.postings import DECIDED_BY, Posting, Return
from points.selectors import get_balance
from points.services.earning import Terms, terms_of
from points.services.posting import (
    IdempotencyKeyReused,
    NotReversible,
    Posted,
    PostingError,
    decide,
    has_posted,
)

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
    redeemed_by: str = "",
) -> Posted:
    """Burn points from the lots that expire first and post one redemption.

    Repeating the call with the same key returns the first posting and changes nothing, however much later it comes.

    redeemed_by: the key that asked for it, for the audit trail; empty where no key did.
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
    if not redeemed_by:
        return decide(program_id=program.pk, posting=posting, at=at, needs_active_member=True)
    with transaction.atomic():
        posted = decide(program_id=program.pk, posting=posting, at=at, needs_active_member=True)
        if posted.is_new:
            _note_redeemed(program, posting, posted, redeemed_by, at=at)
    return posted


def _note_redeemed(program: Program, posting: Posting, posted: Posted, redeemed_by: str, *, at: datetime) -> None:
    wallet = Wallet.objects.values_list("code", flat=True).get(pk=posting.wallet_id)
    audit.record(
        action="points.redeemed",
        target=f"member {Member.objects.values_list('external_id', flat=True).get(pk=posting.member_id)}",
        actor=redeemed_by,
        program=program,
        reason=posting.note.get("reason", ""),
        after={"wallet": wallet, "points": -posting.points, "available": posted.available},
        at=at,
    )


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
    debt: bool = False,
    user: User | None = None,
    action: str = "points.adjusted",
) -> Posted:
    """Give (points > 0) or take (points < 0) by a decision; the note has the reason and who decided.

    Given points open a lot with the wallet's expiry from today; taken points come from the lots that expire first, and
    what is not there becomes debt if `debt` says so. Above the wallet's limit the database wants an approved request:
    `approvals.adjust` asks for one. The audit trail calls it `action`.

    Raises: InvalidPoints on zero, too many, or without a reason; InsufficientPoints; UnknownAccount;
    IdempotencyKeyReused.
    Locks: the account row.
    """
    check_adjustment(points, reason)
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
        debt=debt or None,
        available_at=available_at,
        expires_at=expires_at,
        note={"reason": reason, DECIDED_BY: decided_by},
    )
    return _decide_audited(program, posting, action=action, at=at, user=user)


def check_adjustment(points: int, reason: str) -> None:
    """Refuse what no adjustment can be.

    Raises: InvalidPoints.
    """
    if not points or abs(points) > MAX_ADJUSTMENT or not reason.strip():
        raise InvalidPoints(f"an adjustment needs a reason, and 1 to {MAX_ADJUSTMENT:,} points either way")


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
    debt: bool = True,
    user: User | None = None,
) -> Posted:
    """Post the opposite of a redemption or an adjustment, or take back what an activity earned.

    Points go back to the lots they came from; those whose lot has expired meanwhile expire at once. Points that the
    decision or the activity gave are taken from their own lot, then from others; for the rest there is debt, or it is
    given up. What they had taken as debt comes back as a lot of today.

    Raises: NotReversible; UnknownAccount; IdempotencyKeyReused.
    Locks: the account row.
    Idempotency: the key; of an activity's points the posting itself, whatever the key.
    """
    note = {"reason": reason, DECIDED_BY: decided_by}
    found = LedgerTransaction.objects.filter(pk=transaction_id, member_id=member_id, wallet_id=wallet_id)
    if found.filter(kind=TransactionKind.EARN, source_kind=SourceKind.ACTIVITY).exists():
        posting = _take_back(found.get(), debt=debt, note=note, at=at)
        try:
            return _decide_audited(program, posting, action="points.reversed", at=at, user=user)
        except IdempotencyKeyReused as error:
            raise NotReversible("the points have been taken back already") from error
    terms = Terms(program)
    expires_at = terms.lot_span(wallet_id, at)[1] if terms.has_wallet(wallet_id) else None
    posting = Posting(
        kind=TransactionKind.REVERSE,
        member_id=member_id,
        wallet_id=wallet_id,
        key=_key(idempotency_key),
        effective_at=at,
        source_kind=SourceKind.TRANSACTION,
        source_id=transaction_id,
        reverses_id=transaction_id,
        debt=debt,
        available_at=at,
        expires_at=expires_at,
        note=note,
    )
    return _decide_audited(program, posting, action="points.reversed", at=at, user=user)


def list_reversible() -> QuerySet[LedgerTransaction]:
    """Return what `reverse` undoes: redemptions, adjustments and what activities earned, if it is not undone yet."""
    undone = LedgerTransaction.objects.filter(member_id=OuterRef("member_id"), reverses_id=OuterRef("pk"))
    taken = LedgerTransaction.objects.filter(
        member_id=OuterRef("member_id"), wallet_id=OuterRef("wallet_id"), kind=TransactionKind.CLAWBACK,
        source_kind=SourceKind.TRANSACTION, source_id=OuterRef("pk"),
    )  # fmt: skip
    decided = Q(kind__in=[TransactionKind.BURN, TransactionKind.ADJUST]) & ~Exists(undone)
    earned = Q(kind=TransactionKind.EARN, source_kind=SourceKind.ACTIVITY) & ~Exists(taken)
    return LedgerTransaction.objects.filter(decided | earned)


def find_reversal(posted: LedgerTransaction) -> LedgerTransaction | None:
    """Return what undid a posting, if something has."""
    own = LedgerTransaction.objects.filter(member_id=posted.member_id, wallet_id=posted.wallet_id)
    taken = Q(kind=TransactionKind.CLAWBACK, source_kind=SourceKind.TRANSACTION, source_id=posted.pk)
    return own.filter(Q(reverses_id=posted.pk) | taken).first()


def _take_back(earning: LedgerTransaction, *, debt: bool, note: dict[str, Any], at: datetime) -> Posting:
    """Return the posting that takes back all that an activity earned in one wallet."""
    back = Return(earning.source_id, earning.pk, 1, 1, SourceKind.ACTIVITY, SourceKind.TRANSACTION)
    return Posting(
        kind=TransactionKind.CLAWBACK,
        member_id=earning.member_id,
        wallet_id=earning.wallet_id,
        key=f"take_back:{earning.pk}",
        effective_at=at,
        source_kind=SourceKind.TRANSACTION,
        source_id=earning.pk,
        policy="debt" if debt else "write_off",
        returns=[back],
        note=note,
    )


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


@transaction.atomic
def _decide_audited(program: Program, posting: Posting, *, action: str, at: datetime, user: User | None) -> Posted:
    """Post what somebody decided, and write it into the audit trail with the balances around it."""
    account = {"member_id": posting.member_id, "wallet_id": posting.wallet_id}
    before = get_balance(**account, at=at)
    posted = decide(program_id=program.pk, posting=posting, at=at, needs_active_member=False)
    if posted.is_new:
        after = get_balance(**account, at=at)
        named = Member.objects.values_list("external_id", flat=True).get(pk=posting.member_id)
        wallet = Wallet.objects.values_list("code", flat=True).get(pk=posting.wallet_id)
        change = after.available + after.pending - after.debt - before.available - before.pending + before.debt
        audit.record(
            action=action,
            target=f"member {named}",
            actor=posting.note[DECIDED_BY],
            user=user,
            program=program,
            reason=posting.note["reason"],
            before={"wallet": wallet, "available": before.available, "debt": before.debt},
            after={"wallet": wallet, "available": after.available, "debt": after.debt, "points": change},
            at=at,
        )
    return posted


def is_posted(*, member_id: int, wallet_id: int, idempotency_key: str) -> bool:
    """Tell whether a decision with this key has been posted."""
    return has_posted(member_id=member_id, wallet_id=wallet_id, key=_key(idempotency_key))


def _key(idempotency_key: str) -> str:
    """Return the posting's own key, which never lapses."""
    return f"client:{idempotency_key}"
