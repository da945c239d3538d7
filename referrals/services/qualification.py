"""From bound to qualified: which order counts, when it is settled, and what happens when it comes back.

Every step reads what is true now and moves the referral there, so news that comes twice, late or in another order ends
the same. What follows for members other than the referee goes by outbox, a member at a time.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction

from core.models import Program
from core.services import audit, outbox
from membership.models import Order
from referrals.definitions import ReferralTerms
from referrals.locks import lock_referral
from referrals.models import Referral, ReferralState
from referrals.rules import FLAGGED
from referrals.selectors import find_first_worthy, terms_of, worth_of
from referrals.services.binding import MOVED
from referrals.services.fraud import assess

REWARD_DUE = "referrals.reward_due"
EXISTING_CUSTOMER = "existing_customer"

# Referrals assessed together; each is decided in a transaction of its own.
BATCH = 200


class NotInReview(Exception):
    """The referral does not wait for a review, or no longer."""


@transaction.atomic
def follow_facts(*, program: Program, member_ids: Iterable[int], at: datetime) -> None:
    """Move the referrals of members of whom facts were recorded to where the facts put them.

    Locks: each referral, ascending by referee.
    """
    states = (ReferralState.PENDING, ReferralState.FLAGGED, ReferralState.QUALIFIED)
    touched = Referral.objects.filter(program=program, member_id__in=list(member_ids), state__in=states)
    for referral_id in touched.order_by("member_id").values_list("pk", flat=True):
        _follow(program, lock_referral(referral_id), at)


def mature(*, program: Program, at: datetime, limit: int = BATCH) -> int:
    """Decide referrals whose return window is over, and return how many were looked at.

    What is suspicious waits for a person, the rest qualifies. Safe to run twice and side by side.
    Locks: each referral in a transaction of its own.
    """
    due = Referral.objects.filter(program=program, state=ReferralState.PENDING, due_at__lte=at)
    found = list(due.order_by("due_at", "pk").values_list("pk", flat=True)[:limit])
    signals = assess(program=program, referral_ids=found)
    for referral_id in found:
        with transaction.atomic():
            _decide(program, lock_referral(referral_id), signals[referral_id], at)
    return len(found)


def approve(*, referral: Referral, reason: str, user: User, at: datetime) -> Referral:
    """Let a referral that waits for review qualify.

    Raises: NotInReview.
    Locks: the referral.
    """
    return _review(referral, ReferralState.QUALIFIED, reason=reason, user=user, at=at)


def reject(*, referral: Referral, reason: str, user: User, at: datetime) -> Referral:
    """Refuse a referral that waits for review: nobody has anything for it.

    Raises: NotInReview.
    Locks: the referral.
    """
    return _review(referral, ReferralState.REJECTED, reason=reason, user=user, at=at)


@transaction.atomic
def settle_again(*, referral: Referral, reason: str, user: User, at: datetime) -> None:
    """Ask once more for the rewards of a referral: a coupon that could not be issued is tried again."""
    _tell_beneficiaries(referral, at)
    audit.record(
        action="referral.settled_again", target=f"referral {referral.pk}", actor=user.get_username(), user=user,
        reason=reason, program=referral.program, at=at,
    )  # fmt: skip


@transaction.atomic
def _review(referral: Referral, state: ReferralState, *, reason: str, user: User, at: datetime) -> Referral:
    locked = lock_referral(referral.pk)
    if locked.state != ReferralState.FLAGGED:
        raise NotInReview(locked.state)
    locked.reason, locked.reviewed_by = reason, user.get_username()
    _move(locked, state, at)
    verb = "approved" if state == ReferralState.QUALIFIED else "rejected"
    audit.record(
        action=f"referral.{verb}", target=f"referral {locked.pk}", actor=user.get_username(), user=user, reason=reason,
        program=locked.program, before={"state": ReferralState.FLAGGED}, after={"state": state}, at=at,
    )  # fmt: skip
    return locked


def _follow(program: Program, referral: Referral, at: datetime) -> None:
    terms = terms_of(referral.version, program.currency)
    if referral.state != ReferralState.QUALIFIED and _has_ordered_before(referral):
        referral.reason = EXISTING_CUSTOMER  # learned late: the order came after the binding
        _move(referral, ReferralState.REJECTED, at)
    elif referral.state == ReferralState.PENDING:
        _await_order(referral, terms, at)
    elif referral.order_id is not None and not _is_worthy(referral, terms):
        _move(referral, ReferralState.REVERSED, at)


def _await_order(referral: Referral, terms: ReferralTerms, at: datetime) -> None:
    """Note which order would count by now, if one is to, and when that is decided."""
    if terms.trigger == "enrollment":
        return
    order = find_first_worthy(member_id=referral.member_id, minimum_minor=_minimum(terms))
    order_id, market, due_at = None, "", None
    if order is not None:
        order_id, market, due_at = order.order_id, order.market, order.paid_at + timedelta(days=terms.return_days)
    if (referral.order_id, referral.due_at) != (order_id, due_at):
        referral.order_id, referral.market, referral.due_at = order_id, market, due_at
        referral.save(update_fields=["order_id", "market", "due_at"])
        _tell_beneficiaries(referral, at)


def _has_ordered_before(referral: Referral) -> bool:
    return Order.objects.filter(member_id=referral.member_id, paid_at__lt=referral.bound_at).exists()


def _is_worthy(referral: Referral, terms: ReferralTerms) -> bool:
    """Tell whether the order that counted is still worth the minimum."""
    order = worth_of(member_id=referral.member_id, order_id=referral.order_id or 0)
    return order is not None and order.net_minor >= _minimum(terms)


def _minimum(terms: ReferralTerms) -> int:
    """Return what an order must be worth: never nothing, for then all of it has come back, or nothing was paid."""
    return max(terms.minimum_order, 1)


def _decide(program: Program, referral: Referral, signals: list[tuple[str, int]], at: datetime) -> None:
    if referral.state == ReferralState.PENDING:
        _follow(program, referral, at)
    if referral.state != ReferralState.PENDING or referral.due_at is None or referral.due_at > at:
        return
    referral.signals = [{"signal": name, "points": points} for name, points in signals]
    referral.score = min(sum(points for _, points in signals), 100)
    _move(referral, ReferralState.FLAGGED if referral.score >= FLAGGED else ReferralState.QUALIFIED, at)


def _move(referral: Referral, state: ReferralState, at: datetime) -> None:
    """Bring a locked referral into a state, and tell the world and those who have something by it."""
    referral.state, referral.decided_at = state, at
    if state == ReferralState.QUALIFIED:
        referral.qualified_at = at
    referral.save()
    payload = {"referral": referral.pk, "state": str(state)}
    outbox.publish(program_id=referral.program_id, topic=MOVED, payload=payload, at=at)
    _tell_beneficiaries(referral, at)


def _tell_beneficiaries(referral: Referral, at: datetime) -> None:
    """Ask to bring in line what the referee, the referrer and the referrer's referrer have by it, one by one."""
    people = (referral.member_id, referral.referrer_id, referral.upline_id)
    for level, member_id in enumerate(people):
        if member_id is not None:
            payload = {"referral": referral.pk, "member": member_id, "level": level}
            outbox.publish(program_id=referral.program_id, topic=REWARD_DUE, payload=payload, at=at)
