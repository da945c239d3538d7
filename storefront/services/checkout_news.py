"""What became of checkouts, as the world is told."""

from datetime import datetime

from core.event_types import EventType
from core.services import feed
from core.services.feed import News
from storefront.models import Checkout


def announce_shortfall(*, program_id: int, checkout_id: int, at: datetime) -> None:
    """Tell what of a checkout its order could not take, because the payment was told late.

    Locks: the feed.
    """
    checkout = Checkout.objects.select_related("member", "order", "wallet").get(pk=checkout_id)
    member = checkout.member.external_id if checkout.member else None
    short = checkout.shortfall or {}
    data = {
        "checkout": str(checkout.public_id),
        "order": checkout.order.external_id if checkout.order else None,
        "member": member,
        "currency": checkout.currency,
        "wallet": checkout.wallet.code if checkout.wallet and short["points"] else None,
        "points": short["points"],
        "amount_minor": short["amount_minor"],
        "coupons": [
            {
                "coupon": one["code"],
                "discount_minor": one["discount_minor"],
                "shipping_discount_minor": one["shipping_minor"],
                "reason": one["reason"],
            }
            for one in short["coupons"]
        ],
    }
    happened_at = checkout.closed_at or at
    feed.announce(
        program_id=program_id, news=[News(EventType.CHECKOUT_SHORTFALL, member or "", data, happened_at)], at=at
    )
