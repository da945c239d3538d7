"""Coupons that members got, and what became of them at checkout, as the world is told."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from core.event_types import EventType
from core.services import feed
from core.services.feed import News, utc_text
from coupons.models import Claim, Redemption, ReturnOutcome
from membership.models import Order

# When a redemption came to what is told of it.
_MOVED_AT = {
    EventType.COUPON_HELD: "held_at",
    EventType.COUPON_REDEEMED: "committed_at",
    EventType.COUPON_RELEASED: "released_at",
}


def announce_claims(*, program_id: int, claim_ids: Sequence[int], at: datetime) -> None:
    """Tell who got a coupon.

    Locks: the feed.
    """
    claims = Claim.objects.filter(pk__in=claim_ids).select_related("member", "definition", "code").order_by("pk")
    news = [News(EventType.COUPON_ISSUED, each.member.external_id, _claim(each), each.claimed_at) for each in claims]
    feed.announce(program_id=program_id, news=news, at=at)


def announce_revoked(*, program_id: int, claim_ids: Sequence[int], at: datetime) -> None:
    """Tell whose coupons were taken back before they were used.

    Locks: the feed.
    """
    claims = Claim.objects.filter(pk__in=claim_ids).select_related("member", "definition", "code").order_by("pk")
    news = [
        News(EventType.COUPON_REVOKED, each.member.external_id, _claim(each), each.revoked_at or at) for each in claims
    ]
    feed.announce(program_id=program_id, news=news, at=at)


def announce_first_order_used(*, program_id: int, redemption_id: int, first_order_id: int, at: datetime) -> None:
    """Tell that an order used a coupon for the first order, though another one came before it.

    Locks: the feed.
    """
    first = Order.objects.filter(pk=first_order_id).values_list("external_id", flat=True).first()
    news = [
        News(
            EventType.COUPON_FIRST_ORDER_USED,
            each.member.external_id,
            _redemption(each, is_paid=True) | {"first_order": first},
            at,
        )
        for each in _read([redemption_id])
    ]
    feed.announce(program_id=program_id, news=news, at=at)


def announce_guessing(*, program_id: int, wrong_codes: int, at: datetime) -> None:
    """Tell that more than so many wrong codes were tried within a minute.

    Locks: the feed.
    """
    news = News(EventType.COUPON_CODES_GUESSED, "", {"wrong_codes": wrong_codes, "seconds": 60}, at)
    feed.announce(program_id=program_id, news=[news], at=at)


def announce_redemptions(*, program_id: int, kind: EventType, redemption_ids: Sequence[int], at: datetime) -> None:
    """Tell which coupons were held, redeemed or released.

    Locks: the feed.
    """
    news = [
        News(kind, each.member.external_id, _redemption(each, is_paid=kind is EventType.COUPON_REDEEMED),
             getattr(each, _MOVED_AT[kind]))
        for each in _read(redemption_ids)
    ]  # fmt: skip
    feed.announce(program_id=program_id, news=news, at=at)


def announce_reversal(
    *, program_id: int, redemption_id: int, reversed_minor: int, is_whole: bool, reversed_at: datetime, at: datetime
) -> None:
    """Tell how much of a discount a refund has reversed.

    Locks: the feed.
    """
    news = [
        News(
            EventType.COUPON_REVERSED,
            each.member.external_id,
            _redemption(each, is_paid=True)
            | {"reversed_minor": reversed_minor, "is_whole": is_whole}
            | (_outcome(each) if is_whole else {"outcome": None, "expires_at": None}),
            reversed_at,
        )
        for each in _read([redemption_id])
    ]
    feed.announce(program_id=program_id, news=news, at=at)


def _read(ids: Sequence[int]) -> list[Redemption]:
    rows = Redemption.objects.filter(pk__in=ids).order_by("pk")
    return list(rows.select_related("member", "claim__definition"))


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "claim": str(claim.public_id),
        "member": claim.member.external_id,
        "coupon": claim.definition.code,
        "code": claim.code.shown if claim.code else None,
        "source": claim.source or None,
        "valid_from": utc_text(claim.valid_from),
        "expires_at": utc_text(claim.expires_at) if claim.expires_at else None,
    }


def _outcome(redemption: Redemption) -> dict[str, Any]:
    """Return what became of the coupon of an order that came back whole, and until when it can be used again."""
    is_restored = redemption.outcome == ReturnOutcome.RESTORED and not redemption.claim.is_automatic
    ends_at = redemption.claim.expires_at if is_restored else None
    return {"outcome": redemption.outcome or None, "expires_at": utc_text(ends_at) if ends_at else None}


def _redemption(redemption: Redemption, *, is_paid: bool) -> dict[str, Any]:
    """Return what is told of a redemption. What it was before it was paid names no order, whenever that is told."""
    orders = Order.objects.filter(pk=redemption.order_id or 0).values_list("external_id", flat=True)
    return {
        "redemption": str(redemption.public_id),
        "claim": str(redemption.claim.public_id),
        "member": redemption.member.external_id,
        "coupon": redemption.claim.definition.code,
        "reference": redemption.reference,
        "order": orders.first() if is_paid else None,
        "currency": redemption.currency,
        "discount_minor": redemption.discount_minor,
        "shipping_discount_minor": redemption.shipping_discount_minor,
    }
