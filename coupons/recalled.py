"""Which claims a recall has ended: all that were made by then, from that instant on."""

from django.db.models import Exists, OuterRef

from coupons.models import CouponRecall


def is_recalled() -> Exists:
    """Return the condition that a claim's coupon was called back after the claim was made."""
    return Exists(
        CouponRecall.objects.filter(definition=OuterRef("definition"), recalled_at__gte=OuterRef("claimed_at"))
    )
