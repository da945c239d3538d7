"""Referrals and rewards as the world is told of them."""

from datetime import datetime

from core.event_types import EventType
from core.services import feed
from core.services.feed import News, utc_text
from points.models import Wallet
from referrals.models import Referral, ReferralReward, ReferralState, RewardState

# What a referral came to. That an order came back is told of the rewards it takes back.
_OF_REFERRAL = {
    ReferralState.PENDING: EventType.REFERRAL_BOUND,
    ReferralState.FLAGGED: EventType.REFERRAL_FLAGGED,
    ReferralState.QUALIFIED: EventType.REFERRAL_QUALIFIED,
    ReferralState.REJECTED: EventType.REFERRAL_REJECTED,
}
_OF_REWARD = {
    RewardState.PAID: EventType.REFERRAL_REWARDED,
    RewardState.CLAWED_BACK: EventType.REFERRAL_CLAWED_BACK,
}


def announce_referral(*, program_id: int, referral_id: int, state: str, before: str | None, at: datetime) -> None:
    """Tell that a referral has come into a state. before: the one it was in; None for one that has just been bound.

    Locks: the feed.
    """
    kind = _OF_REFERRAL.get(ReferralState(state))
    if before is not None and state == ReferralState.PENDING:
        kind = EventType.REFERRAL_REOPENED
    if kind is not None:
        _announce(program_id, referral_id, kind, at)


def announce_suspicion(*, program_id: int, referral_id: int, at: datetime) -> None:
    """Tell that new evidence speaks against a referral that has qualified.

    Locks: the feed.
    """
    _announce(program_id, referral_id, EventType.REFERRAL_FLAGGED, at)


def _announce(program_id: int, referral_id: int, kind: EventType, at: datetime) -> None:
    referral = Referral.objects.select_related("member", "code__member").get(pk=referral_id)
    is_bound = kind is EventType.REFERRAL_BOUND
    moved_at = referral.bound_at if is_bound else referral.suspected_at or referral.decided_at or at
    data = {
        "referral": str(referral.pk),
        "member": referral.member.external_id,
        "referrer": referral.code.member.external_id,
        "source": referral.source,
        "bound_at": utc_text(referral.bound_at),
    }
    news = [News(kind, referral.member.external_id, data, moved_at)]
    feed.announce(program_id=program_id, news=news, at=at)


def announce_reward(*, program_id: int, reward_id: int, state: str, at: datetime) -> None:
    """Tell that a reward was paid or taken back.

    Locks: the feed.
    """
    kind = _OF_REWARD.get(RewardState(state))
    if kind is None:
        return
    reward = ReferralReward.objects.select_related("member").get(pk=reward_id)
    wallets = Wallet.objects.filter(pk=reward.wallet_id or 0).values_list("code", flat=True)
    data = {
        "reward": str(reward.pk),
        "referral": str(reward.referral_id),
        "member": reward.member.external_id,
        "level": reward.level,
        "event": "order" if reward.event.startswith("order:") else reward.event,
        "wallet": wallets.first(),
        "points": reward.points,
        "coupon": reward.coupon or None,
    }
    moved_at = reward.paid_at if kind is EventType.REFERRAL_REWARDED else reward.moved_at
    news = [News(kind, reward.member.external_id, data, moved_at or reward.moved_at)]
    feed.announce(program_id=program_id, news=news, at=at)
