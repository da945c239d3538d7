"""Rewards: brought in line with what a referral has become, and paid or taken back on the way.

`settle` looks at one referral and one member, reads what is true now and moves that member's rewards there. So it does
not matter how often, how late or in which order it is asked to.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from core.calendar import local_date
from core.models import Program
from core.services import outbox
from membership.locks import lock_members
from membership.models import Member, MemberStatus
from points.models import Wallet
from referrals.definitions import DEEPEST, PointsReward, ReferralTerms, Reward
from referrals.models import STANDING, Referral, ReferralReward, ReferralState, RewardState
from referrals.selectors import count_qualified, terms_of
from referrals.services import payouts
from referrals.services.moves import ask_to_settle

REWARD_MOVED = "referrals.reward_moved"
MILESTONE = "milestone:"
# Why a reward came to nothing, or has not been paid yet.
MONTHLY_CAP, MEMBER_ERASED, SUSPENSION_LAPSED = "monthly_cap", "member_erased", "suspension_lapsed"
REFERRER_REJECTED, REFERRAL_REJECTED = "referrer_rejected", "referral_rejected"
MEMBER_SUSPENDED = "member_suspended"
# After these nothing is promised anew: it was decided for good, or what was given could not be taken back.
_FOR_GOOD = {MONTHLY_CAP, MEMBER_ERASED, SUSPENSION_LAPSED, payouts.COUPON_USED, payouts.POINTS_GONE}
# How long a reward waits for a suspension to end.
SUSPENSION = timedelta(days=180)

_BY_ORDER = {
    ReferralState.FLAGGED: RewardState.FLAGGED,
    ReferralState.QUALIFIED: RewardState.PAID,
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
        if self.terms.trigger_of(self.level) == "enrollment":
            return "enrollment"
        return f"order:{self.referral.order_id}" if self.referral.order_id is not None else None

    @property
    def target(self) -> RewardState:
        """Return where the referral's own reward belongs by what the referral is."""
        state = ReferralState(self.referral.state)
        if state == ReferralState.REJECTED:
            return RewardState.REJECTED
        if self.terms.trigger_of(self.level) == "enrollment" and self.referral.cleared_at is not None:
            return RewardState.PAID  # whatever becomes of the order
        return _BY_ORDER.get(state, RewardState.PENDING)

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


def follow_status(*, program: Program, member_id: int, at: datetime) -> None:
    """Ask for what waits for a member whose status has changed, on whichever side of a referral."""
    sides = Q(member_id=member_id) | Q(referral__member_id=member_id) | Q(referral__referrer_id=member_id)
    unpaid = ReferralReward.objects.filter(sides, program=program, state=RewardState.APPROVED)
    for reward in unpaid.select_related("referral").order_by("pk"):
        ask_to_settle(reward.referral, member_id=reward.member_id, level=reward.level, at=at)
    own = Referral.objects.filter(program=program, member_id=member_id, state=ReferralState.QUALIFIED).first()
    if own is not None:
        ask_to_settle(own, member_id=own.referrer_id, level=1, at=at)  # whose milestones count this friend again


def lapse_waiting(*, program: Program, at: datetime) -> int:
    """Reject rewards that a suspension has held back for too long, and return how many were looked at.

    Safe to run twice and side by side.
    Locks: as `settle`, each in a transaction of its own.
    """
    waiting = ReferralReward.objects.filter(
        program=program, state=RewardState.APPROVED, reason=MEMBER_SUSPENDED, moved_at__lte=at - SUSPENSION
    )
    found = list(waiting.order_by("moved_at", "pk").values_list("referral_id", "member_id", "level"))
    for referral_id, member_id, level in found:
        settle(program=program, referral_id=referral_id, member_id=member_id, level=level, at=at)
    return len(found)


def _settle_own(who: _Beneficiary) -> None:
    target, reason = who.target, REFERRAL_REJECTED
    if target != RewardState.REJECTED and who.level == DEEPEST and _is_referrer_rejected(who):
        target, reason = RewardState.REJECTED, REFERRER_REJECTED
    rewards = ReferralReward.objects.filter(referral=who.referral, member=who.member, level=who.level)
    standing = None
    for reward in rewards.filter(state__in=STANDING).exclude(event__startswith=MILESTONE):
        if reward.event == who.event or _is_paid_as_promised(who, reward, target):
            standing = reward
        else:
            _bring(who, reward, RewardState.CLAWED_BACK)  # the order it was for no longer counts
    if standing is None and target in STANDING and who.event is not None and who.reward is not None:
        standing = _promise(who, who.reward, who.event)
    if standing is not None:
        _bring(who, standing, target, reason)


def _is_paid_as_promised(who: _Beneficiary, reward: ReferralReward, target: RewardState) -> bool:
    """Tell whether a reward that was paid for one order is what another one gives, that counts in its place by now."""
    if not reward.state == target == RewardState.PAID or who.reward is None:
        return False
    return (reward.wallet_id, reward.points, reward.coupon) == _what(who, who.reward)


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
    count = count_qualified(who.member.pk, without_suspended=True)
    for milestone in who.terms.milestones:
        if milestone.invitees <= count and milestone.invitees not in reached:
            promised = _promise(who, milestone.reward, f"{MILESTONE}{milestone.invitees}")
            if promised is not None:
                _bring(who, promised, RewardState.PAID)


def _promise(who: _Beneficiary, reward: Reward, event: str) -> ReferralReward | None:
    """Promise a reward for an event, for the first time or anew; None if that was decided for good before."""
    rows = ReferralReward.objects.filter(referral=who.referral, member=who.member, level=who.level, event=event)
    last = rows.order_by("round").last()
    if last is not None and last.state == RewardState.CANCELLED:
        last.reason = ""
        _move(who, last, RewardState.PENDING)  # another order counted meanwhile, or none
        return last
    if last is not None and last.reason in _FOR_GOOD:
        return None
    wallet_id, points, coupon = _what(who, reward)
    return ReferralReward.objects.create(
        program=who.program,
        member=who.member,
        referral=who.referral,
        event=event,
        level=who.level,
        round=1 if last is None else last.round + 1,
        wallet_id=wallet_id,
        points=points,
        coupon=coupon,
        created_at=who.at,
        moved_at=who.at,
    )


def _what(who: _Beneficiary, reward: Reward) -> tuple[int | None, int | None, str]:
    """Return the wallet, the points and the coupon of what the terms promise."""
    if isinstance(reward, PointsReward):
        return Wallet.objects.get(program=who.program, code=reward.wallet).pk, reward.points, ""
    return None, None, reward.coupon


def _bring(who: _Beneficiary, reward: ReferralReward, target: RewardState, reason: str = "") -> None:
    """Move a reward toward a state, as far as it goes. reason: why, where that is to be rejected.

    What is paid stays, unless it is to be taken back: it waits for no review and no order.
    """
    is_lost = target in (RewardState.CLAWED_BACK, RewardState.REJECTED)
    if reward.state == RewardState.PAID:
        if is_lost:
            _take_back(who, reward)
    elif target == RewardState.PAID:
        if reward.state != RewardState.APPROVED:
            _approve(who, reward)
        if reward.state == RewardState.APPROVED:
            _pay_unless_held_back(who, reward)
    elif target != reward.state:
        reward.reason = reason if target == RewardState.REJECTED else ""
        _move(who, reward, RewardState.CANCELLED if target == RewardState.CLAWED_BACK else target)


def _approve(who: _Beneficiary, reward: ReferralReward) -> None:
    """Approve a reward, or reject it where the month is full."""
    reward.month = local_date(who.at, who.program.time_zone).replace(day=1)
    if not reward.event.startswith(MILESTONE) and _is_month_full(who, reward):
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


def _pay_unless_held_back(who: _Beneficiary, reward: ReferralReward) -> None:
    """Pay an approved reward, unless a member on either side was closed, which ends it, or is suspended: it waits."""
    sides = {who.member.pk}
    if not reward.event.startswith(MILESTONE):
        sides |= {who.referral.member_id, who.referral.referrer_id}
    statuses = set(Member.objects.filter(pk__in=sides).order_by("pk").values_list("status", flat=True))
    if MemberStatus.ERASED in statuses:
        reward.reason = MEMBER_ERASED
        _move(who, reward, RewardState.REJECTED)
    elif MemberStatus.SUSPENDED not in statuses:
        _pay(who, reward)
    elif reward.reason == MEMBER_SUSPENDED and reward.moved_at <= who.at - SUSPENSION:
        reward.reason = SUSPENSION_LAPSED
        _move(who, reward, RewardState.REJECTED)
    else:
        reward.reason = MEMBER_SUSPENDED
        reward.save(update_fields=["reason"])


def _pay(who: _Beneficiary, reward: ReferralReward) -> None:
    """Give what was promised; what cannot be given leaves the reward approved, with the reason."""
    try:
        reward.claim_id = payouts.pay(program=who.program, reward=reward, at=who.at)
    except payouts.CannotPay as error:
        reward.reason = str(error)
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
