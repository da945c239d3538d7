"""Rewards: brought in line with what a referral has become, and paid or taken back on the way.

`settle` looks at one referral and one member, reads what is true now and moves that member's rewards there. So it does
not matter how often, how late or in which order it is asked to.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from core.calendar import local_date
from core.models import Program
from core.services import outbox
from membership.locks import lock_members
from membership.models import Member, MemberStatus
from points.models import Wallet
from referrals.definitions import DEEPEST, CouponReward, PointsReward, ReferralTerms, Reward
from referrals.models import STANDING, Referral, ReferralReward, ReferralState, RewardState
from referrals.selectors import count_qualified, terms_of
from referrals.services import payouts

REWARD_MOVED = "referrals.reward_moved"
MILESTONE = "milestone:"
# Why an approved reward came to nothing, or has not been paid yet.
MONTHLY_CAP, MEMBER_ERASED, REFERRER_REJECTED = "monthly_cap", "member_erased", "referrer_rejected"

_TARGETS = {
    ReferralState.FLAGGED: RewardState.FLAGGED,
    ReferralState.QUALIFIED: RewardState.PAID,
    ReferralState.REJECTED: RewardState.REJECTED,
    ReferralState.REVERSED: RewardState.CLAWED_BACK,
}


@dataclass(frozen=True, slots=True)
class _Beneficiary:
    """Whose rewards are settled, for which referral, by which terms."""

    program: Program
    member: Member
    referral: Referral
    terms: ReferralTerms
    level: int
    at: datetime

    @property
    def event(self) -> str | None:
        """Return what the referral's own reward is for by now; None while there is nothing."""
        if self.terms.trigger == "enrollment":
            return "enrollment"
        return f"order:{self.referral.order_id}" if self.referral.order_id is not None else None

    @property
    def reward(self) -> Reward | None:
        """Return what the terms promise this level."""
        if self.level == 0:
            return self.terms.referee
        if self.level == 1:
            return self.terms.referrer
        chain = self.terms.chain_of(self.referral.market)
        return chain.reward if chain else None

    @property
    def at_most_per_month(self) -> int | None:
        """Return how many rewards of this level one member may have a month."""
        if self.level == 1:
            return self.terms.at_most_per_month
        chain = self.terms.chain_of(self.referral.market) if self.level else None
        return chain.at_most_per_month if chain else None


@transaction.atomic
def settle(*, program: Program, referral_id: int, member_id: int, level: int, at: datetime) -> None:
    """Bring a member's rewards for a referral, and the member's milestones, in line with what the referral is by now.

    Idempotency: what is in line stays.
    Locks: the member, then the account that is paid.
    Raises: as paying does; then nothing has changed, and it is tried again.
    """
    lock_members([member_id])
    referral = Referral.objects.select_related("version").get(pk=referral_id)
    who = _Beneficiary(
        program=program,
        member=Member.objects.get(pk=member_id),
        referral=referral,
        terms=terms_of(referral.version, program.currency),
        level=level,
        at=at,
    )
    _settle_own(who)
    if level == 1:
        _settle_milestones(who)


def _settle_own(who: _Beneficiary) -> None:
    target = _TARGETS.get(ReferralState(who.referral.state), RewardState.PENDING)
    rewards = ReferralReward.objects.filter(referral=who.referral, member=who.member, level=who.level)
    standing = None
    for reward in rewards.filter(state__in=STANDING).exclude(event__startswith=MILESTONE):
        if reward.event == who.event:
            standing = reward
        else:
            _bring(who, reward, RewardState.CLAWED_BACK)  # the order it was for no longer counts
    if standing is None and target in STANDING and who.event is not None:
        earlier = rewards.filter(event=who.event).first()
        if earlier is None:
            standing = _promise(who, who.reward, who.event) if who.reward is not None else None
        elif earlier.state == RewardState.CANCELLED:
            _move(who, earlier, RewardState.PENDING)  # another order counted meanwhile, or none
            standing = earlier
    if standing is not None:
        _bring(who, standing, target)


def _settle_milestones(who: _Beneficiary) -> None:
    """Give the milestones that are reached, and take back those that no longer are."""
    count = count_qualified(who.member.pk)
    standing = ReferralReward.objects.filter(
        member=who.member, event__startswith=MILESTONE, state__in=STANDING
    ).select_related("referral")
    reached = {int(reward.event.removeprefix(MILESTONE)): reward for reward in standing}
    for invitees, reward in reached.items():
        _bring(who, reward, RewardState.PAID if invitees <= count else RewardState.CLAWED_BACK)
    if who.referral.state != ReferralState.QUALIFIED:
        return
    of_this = set(
        ReferralReward.objects.filter(referral=who.referral, member=who.member).values_list("event", flat=True)
    )
    for milestone in who.terms.milestones:
        event = f"{MILESTONE}{milestone.invitees}"
        # One that this referral reached before, and that was taken back since, is for the friend who reaches it anew.
        if milestone.invitees <= count and milestone.invitees not in reached and event not in of_this:
            _bring(who, _promise(who, milestone.reward, event), RewardState.PAID)


def _promise(who: _Beneficiary, reward: Reward, event: str) -> ReferralReward:
    wallet_id = points = None
    if isinstance(reward, PointsReward):
        wallet_id, points = Wallet.objects.get(program=who.program, code=reward.wallet).pk, reward.points
    return ReferralReward.objects.create(
        program=who.program,
        member=who.member,
        referral=who.referral,
        event=event,
        level=who.level,
        wallet_id=wallet_id,
        points=points,
        coupon=reward.coupon if isinstance(reward, CouponReward) else "",
        created_at=who.at,
        moved_at=who.at,
    )


def _bring(who: _Beneficiary, reward: ReferralReward, target: RewardState) -> None:
    """Move a reward toward a state, as far as it goes."""
    if target == RewardState.CLAWED_BACK and reward.state != RewardState.PAID:
        target = RewardState.CANCELLED
    if target == RewardState.PAID and reward.state in (RewardState.PENDING, RewardState.FLAGGED):
        _approve(who, reward)
    if target == RewardState.PAID and reward.state == RewardState.APPROVED:
        _pay(who, reward)
    elif target == RewardState.CLAWED_BACK:
        _take_back(who, reward)
    elif target not in (reward.state, RewardState.PAID):
        _move(who, reward, target)


def _approve(who: _Beneficiary, reward: ReferralReward) -> None:
    """Approve a reward, or reject it where the month is full or nobody is left to have it."""
    reward.month = local_date(who.at, who.program.time_zone).replace(day=1)
    if who.member.status == MemberStatus.ERASED:
        reward.reason = MEMBER_ERASED
    elif who.level == DEEPEST and _is_referrer_rejected(who):
        reward.reason = REFERRER_REJECTED
    elif not reward.event.startswith(MILESTONE) and _is_month_full(who, reward):
        reward.reason = MONTHLY_CAP
    _move(who, reward, RewardState.REJECTED if reward.reason else RewardState.APPROVED)


def _is_referrer_rejected(who: _Beneficiary) -> bool:
    """Tell whether the link between the member and the referrer was refused: no rewards pass through it."""
    own = Referral.objects.filter(member_id=who.referral.referrer_id, state=ReferralState.REJECTED)
    return own.exists()


def _is_month_full(who: _Beneficiary, reward: ReferralReward) -> bool:
    if who.at_most_per_month is None:
        return False
    approved = ReferralReward.objects.filter(
        member=who.member, level=who.level, month=reward.month, state__in=(RewardState.APPROVED, RewardState.PAID)
    )
    return approved.exclude(event__startswith=MILESTONE).count() >= who.at_most_per_month


def _pay(who: _Beneficiary, reward: ReferralReward) -> None:
    """Give what was promised; what cannot be given leaves the reward approved, with the reason."""
    try:
        reward.claim_id = payouts.pay(program=who.program, reward=reward, at=who.at)
    except payouts.CannotPay as reason:
        reward.reason = str(reason)
        reward.save(update_fields=["reason"])
        return
    reward.paid_at, reward.reason = who.at, ""
    _move(who, reward, RewardState.PAID)


def _take_back(who: _Beneficiary, reward: ReferralReward) -> None:
    reward.reason = payouts.take_back(program=who.program, reward=reward, at=who.at)
    _move(who, reward, RewardState.CLAWED_BACK)


def _move(who: _Beneficiary, reward: ReferralReward, state: RewardState) -> None:
    reward.state, reward.moved_at = state, who.at
    reward.save(update_fields=["state", "reason", "month", "claim_id", "paid_at", "moved_at"])
    payload = {"reward": reward.pk, "state": str(state)}
    outbox.publish(program_id=who.program.pk, topic=REWARD_MOVED, payload=payload, at=who.at)
