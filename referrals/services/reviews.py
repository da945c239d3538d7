"""What a person decides about a referral: approved, rejected with what was paid taken back, or reopened."""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from core.services import audit
from referrals.locks import lock_referral
from referrals.models import Referral, ReferralState
from referrals.selectors import terms_of
from referrals.services.moves import move, tell_beneficiaries
from referrals.services.qualification import follow
from referrals.verdict import Outcome, judge

# What a referral becomes when a review lets it pass, by what the facts say of it.
_PASSED = {
    Outcome.SETTLED: ReferralState.QUALIFIED,
    Outcome.WAITING: ReferralState.PENDING,
    Outcome.REVERSED: ReferralState.REVERSED,
    Outcome.EXISTING_CUSTOMER: ReferralState.REJECTED,
}


class WrongState(Exception):
    """A referral of this state cannot be decided so; nothing has changed. The text is the state."""


@transaction.atomic
def approve(*, referral: Referral, reason: str, actor: str, at: datetime, user: User | None = None) -> Referral:
    """Let a referral pass that waits for a review: it qualifies, or waits for the order that it would wait for.

    Raises: WrongState.
    Locks: the referral.
    """
    locked = lock_referral(referral.pk)
    before = _state(locked)
    if not is_waiting_for_review(locked):
        raise WrongState(locked.state)
    locked.reason, locked.reviewed_by = reason, actor
    if locked.state == ReferralState.QUALIFIED:
        locked.suspected_at = None
        locked.save()
    else:
        verdict = judge(locked, terms_of(locked.version, locked.program.currency), at=at)
        locked.cleared_at = locked.cleared_at or at
        locked.due_at = verdict.due_at
        move(locked, _PASSED[verdict.outcome], at)
    _audit("referral.approved", locked, before, reason=reason, actor=actor, user=user, at=at)
    return locked


@transaction.atomic
def reject(*, referral: Referral, reason: str, actor: str, at: datetime, user: User | None = None) -> Referral:
    """Refuse a referral, whatever it has come to: nobody has anything for it, and what was paid is taken back.

    Raises: WrongState for one that is rejected.
    Locks: the referral.
    """
    locked = lock_referral(referral.pk)
    before = _state(locked)
    if locked.state == ReferralState.REJECTED:
        raise WrongState(locked.state)
    locked.reason, locked.reviewed_by = reason, actor
    move(locked, ReferralState.REJECTED, at)
    _audit("referral.rejected", locked, before, reason=reason, actor=actor, user=user, at=at)
    return locked


@transaction.atomic
def reopen(*, referral: Referral, reason: str, actor: str, at: datetime, user: User | None = None) -> Referral:
    """Take a rejection back: the referral is decided anew, and orders of before it make no existing customer.

    Raises: WrongState for one that is not rejected.
    Locks: the referral.
    """
    locked = lock_referral(referral.pk)
    before = _state(locked)
    if locked.state != ReferralState.REJECTED:
        raise WrongState(locked.state)
    locked.reason = locked.reviewed_by = ""
    locked.reopened_at, locked.cleared_at = at, None
    move(locked, ReferralState.PENDING, at)
    follow(locked.program, locked, at)
    _audit("referral.reopened", locked, before, reason=reason, actor=actor, user=user, at=at)
    return locked


@transaction.atomic
def settle_again(*, referral: Referral, reason: str, actor: str, at: datetime, user: User | None = None) -> None:
    """Ask once more for the rewards of a referral: a coupon that could not be issued is tried again."""
    tell_beneficiaries(referral, at)
    audit.record(
        action="referral.settled_again", target=f"referral {referral.pk}", actor=actor, user=user, reason=reason,
        program=referral.program, at=at,
    )  # fmt: skip


def is_waiting_for_review(referral: Referral) -> bool:
    """Tell whether a person has to look at a referral: before it is paid, or at new evidence afterwards."""
    return referral.state == ReferralState.FLAGGED or referral.suspected_at is not None


def _state(referral: Referral) -> dict[str, str]:
    return {"state": referral.state}


def _audit(
    action: str,
    referral: Referral,
    before: dict[str, str],
    *,
    reason: str,
    actor: str,
    user: User | None,
    at: datetime,
) -> None:
    audit.record(
        action=action, target=f"referral {referral.pk}", actor=actor, user=user, reason=reason,
        program=referral.program, before=before, after=_state(referral), at=at,
    )  # fmt: skip
