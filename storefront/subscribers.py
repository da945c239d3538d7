"""News from below, told to the world."""

from datetime import datetime
from typing import Any

from core.event_types import EventType
from core.events import subscribe
from storefront.services import (
    announcements,
    checkout_news,
    correction_news,
    coupon_news,
    fact_news,
    posting_news,
    referral_news,
    tier_news,
)


@subscribe("membership.members_enrolled", name="storefront.announce")
def announce_enrolled(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell of new members."""
    announcements.announce_members(
        program_id=program_id, kind=EventType.MEMBER_ENROLLED, member_ids=payload["members"], at=at
    )


@subscribe("membership.member_updated", name="storefront.announce")
def announce_updated(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell whose profile has changed."""
    announcements.announce_members(
        program_id=program_id, kind=EventType.MEMBER_UPDATED, member_ids=payload["members"], at=at
    )


@subscribe("membership.facts_recorded", name="storefront.announce")
def announce_facts(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell of orders, edits, refunds and activities."""
    announcements.announce_facts(
        program_id=program_id,
        order_ids=payload["orders"],
        edit_ids=payload["edits"],
        refund_ids=payload["refunds"],
        activity_ids=payload["activities"],
        at=at,
    )


@subscribe("membership.facts_corrected", name="storefront.announce")
def announce_corrected_facts(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell of facts that say something else now."""
    fact_news.announce_corrected(program_id=program_id, correction_ids=payload["corrections"], at=at)


@subscribe("membership.tiers_moved", name="storefront.announce")
def announce_tiers(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell who holds another tier than before."""
    tier_news.announce_tiers(
        program_id=program_id,
        ladder_id=payload["ladder_id"],
        members=payload["members"],
        moved_at=datetime.fromisoformat(payload["at"]),
        at=at,
    )


@subscribe("points.posted", name="storefront.announce")
def announce_postings(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell what happened to accounts."""
    posting_news.announce_postings(program_id=program_id, transaction_ids=payload["transactions"], at=at)


@subscribe("points.correcting", name="storefront.announce")
def announce_corrections(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell whose points are corrected, before the posting that does it is told."""
    correction_news.announce_corrections(program_id=program_id, corrections=payload["corrections"], at=at)


@subscribe("points.expiring", name="storefront.announce")
def announce_expiring(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell whose points expire soon."""
    announcements.announce_expiring(program_id=program_id, reminder_ids=payload["reminders"], at=at)


@subscribe("referrals.referral_moved", name="storefront.announce")
def announce_referral(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell what a referral has come to."""
    referral_news.announce_referral(
        program_id=program_id,
        referral_id=payload["referral"],
        state=payload["state"],
        before=payload.get("before"),  # not there in news of an earlier release
        at=at,
    )


@subscribe("referrals.referral_suspected", name="storefront.announce")
def announce_suspicion(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell that a person has to look at a referral that has qualified."""
    referral_news.announce_suspicion(program_id=program_id, referral_id=payload["referral"], at=at)


@subscribe("referrals.reward_moved", name="storefront.announce")
def announce_reward(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell which reward was paid or taken back."""
    referral_news.announce_reward(program_id=program_id, reward_id=payload["reward"], state=payload["state"], at=at)


@subscribe("storefront.checkout_short", name="storefront.announce")
def announce_shortfall(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell what of a checkout its order could not take."""
    checkout_news.announce_shortfall(program_id=program_id, checkout_id=payload["checkout"], at=at)


@subscribe("coupons.codes_guessed", name="storefront.announce")
def announce_guessing(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell that many wrong codes were tried."""
    coupon_news.announce_guessing(program_id=program_id, wrong_codes=payload["wrong_codes"], at=at)


@subscribe("coupons.claimed", name="storefront.announce")
def announce_claims(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell who got a coupon."""
    coupon_news.announce_claims(program_id=program_id, claim_ids=payload["claims"], at=at)


@subscribe("coupons.revoked", name="storefront.announce")
def announce_revoked(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell whose coupons were taken back."""
    coupon_news.announce_revoked(program_id=program_id, claim_ids=payload["claims"], at=at)


@subscribe("coupons.first_order_used", name="storefront.announce")
def announce_first_order_used(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell which coupon for a first order was used by another order than the first."""
    coupon_news.announce_first_order_used(
        program_id=program_id, redemption_id=payload["redemption"], first_order_id=payload["first_order"], at=at
    )


@subscribe("coupons.held", name="storefront.announce")
def announce_held(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell which coupons a checkout holds."""
    coupon_news.announce_redemptions(
        program_id=program_id, kind=EventType.COUPON_HELD, redemption_ids=payload["redemptions"], at=at
    )


@subscribe("coupons.redeemed", name="storefront.announce")
def announce_redeemed(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell which coupons a paid order used."""
    coupon_news.announce_redemptions(
        program_id=program_id, kind=EventType.COUPON_REDEEMED, redemption_ids=payload["redemptions"], at=at
    )


@subscribe("coupons.released", name="storefront.announce")
def announce_released(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell which coupons a checkout gave back."""
    coupon_news.announce_redemptions(
        program_id=program_id, kind=EventType.COUPON_RELEASED, redemption_ids=payload["redemptions"], at=at
    )


@subscribe("coupons.reversed", name="storefront.announce")
def announce_reversed(*, program_id: int, payload: dict[str, Any], at: datetime) -> None:
    """Tell how much of a discount a refund has reversed."""
    coupon_news.announce_reversal(
        program_id=program_id,
        redemption_id=payload["redemption"],
        reversed_minor=payload["reversed_minor"],
        is_whole=payload["is_whole"],
        reversed_at=datetime.fromisoformat(payload["at"]),
        at=at,
    )
