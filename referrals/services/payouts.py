"""How a reward reaches its member: points by the ledger, coupons by a claim. The reward is the key of both."""

from datetime import datetime

from django.db import transaction

from core.models import Program
from coupons.services import claims
from points.models import SourceKind
from points.services import grants
from referrals.models import ReferralReward

# Why an approved reward is not paid yet, and why one that was taken back was not.
COUPON_UNAVAILABLE, COUPON_USED, POINTS_GONE = "coupon_unavailable", "coupon_used", "points_gone"


class CannotPay(Exception):
    """What was promised cannot be given now; the text is a code that says why."""


def pay(*, program: Program, reward: ReferralReward, at: datetime) -> int | None:
    """Give a reward to its member, once, and return the claim if it is a coupon.

    Raises: CannotPay.
    Locks: the account, or what a claim locks.
    """
    if reward.wallet_id is not None and reward.points is not None:
        grants.grant(
            program=program, member_id=reward.member_id, wallet_id=reward.wallet_id, points=reward.points,
            source_kind=SourceKind.REFERRAL_REWARD, source_id=reward.pk, reason="", at=at,
        )  # fmt: skip
        return None
    try:
        with transaction.atomic():
            claim = claims.issue(
                program=program, member_id=reward.member_id, definition_code=reward.coupon,
                source=f"referral:{reward.pk}", at=at,
            )  # fmt: skip
    except claims.CouponRefused as error:
        raise CannotPay(COUPON_UNAVAILABLE) from error
    return claim.pk


def take_back(*, program: Program, reward: ReferralReward, at: datetime) -> str:
    """Take back what was paid, all points by the wallet's policy, a coupon unless it is used; return why not, if so.

    Points that were spent or have expired may stay gone, all or a part.
    Raises: UnknownGrant.
    Locks: as `pay`.
    """
    if reward.wallet_id is not None:
        taken = grants.claw_back(
            program=program, member_id=reward.member_id, wallet_id=reward.wallet_id,
            source_kind=SourceKind.REFERRAL_REWARD, source_id=reward.pk, returned=1, whole=1,
            cause_kind=SourceKind.REFERRAL_REWARD, cause_id=reward.pk, at=at,
        )  # fmt: skip
        return "" if taken == reward.points else POINTS_GONE
    if reward.claim_id is not None:
        try:
            claims.revoke(
                program=program, member_id=reward.member_id, claim_id=reward.claim_id, reason="referral reversed",
                actor="referrals", at=at,
            )  # fmt: skip
        except claims.ClaimNotOpen:
            return COUPON_USED
    return ""
