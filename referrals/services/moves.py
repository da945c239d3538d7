"""Moves of a referral from state to state, and the news that go with them."""

from datetime import datetime

from core.services import outbox
from referrals.definitions import DEEPEST
from referrals.models import Referral, ReferralState

MOVED = "referrals.referral_moved"
SUSPECTED = "referrals.referral_suspected"
REWARD_DUE = "referrals.reward_due"

# In these an order counts, or may yet.
_ALIVE = (ReferralState.PENDING, ReferralState.FLAGGED, ReferralState.QUALIFIED)


def move(referral: Referral, state: ReferralState, at: datetime) -> None:
    """Bring a locked referral into a state, and tell the world and those who have something by it."""
    before, referral.state = ReferralState(referral.state), state
    referral.decided_at = None if state == ReferralState.PENDING else at
    if state in (ReferralState.PENDING, ReferralState.QUALIFIED):
        referral.qualified_at = referral.decided_at
    referral.suspected_at = None
    referral.save()
    announce(referral, before=before, at=at)
    tell_beneficiaries(referral, at)
    if ReferralState.REJECTED in (before, state):
        _tell_second_level(referral, at)


def announce(referral: Referral, *, before: ReferralState | None, at: datetime) -> None:
    """Tell what a referral has come to. before: what it was; None for one that has just been bound."""
    payload = {"referral": referral.pk, "state": str(referral.state), "before": before and str(before)}
    outbox.publish(program_id=referral.program_id, topic=MOVED, payload=payload, at=at)


def tell_suspicion(referral: Referral, at: datetime) -> None:
    """Tell that new evidence speaks against a referral that has qualified."""
    outbox.publish(program_id=referral.program_id, topic=SUSPECTED, payload={"referral": referral.pk}, at=at)


def tell_beneficiaries(referral: Referral, at: datetime) -> None:
    """Ask to bring in line what the referee, the referrer and the referrer's referrer have by it, one by one."""
    people = (referral.member_id, referral.referrer_id, referral.upline_id)
    for level, member_id in enumerate(people):
        if member_id is not None:
            ask_to_settle(referral, member_id=member_id, level=level, at=at)


def ask_to_settle(referral: Referral, *, member_id: int, level: int, at: datetime) -> None:
    """Ask to bring in line what one member has by a referral."""
    payload = {"referral": referral.pk, "member": member_id, "level": level}
    outbox.publish(program_id=referral.program_id, topic=REWARD_DUE, payload=payload, at=at)


def _tell_second_level(referral: Referral, at: datetime) -> None:
    """Ask to bring in line what the referrer has by the friends of the referee: it passes through this referral."""
    passing = Referral.objects.filter(
        program_id=referral.program_id, referrer_id=referral.member_id, upline_id=referral.referrer_id, state__in=_ALIVE
    )
    for below in passing.exclude(order_id=None).order_by("pk").iterator():
        ask_to_settle(below, member_id=referral.referrer_id, level=DEEPEST, at=at)
