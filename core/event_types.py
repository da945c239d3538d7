"""What the world may be told: the types of public events. Their data is described in docs/events.md."""

from django.db import models


class EventType(models.TextChoices):
    """A type, once published, keeps its name and the keys of its data for ever."""

    MEMBER_ENROLLED = "member.enrolled"
    MEMBER_UPDATED = "member.updated"
    ORDER_PAID = "order.paid"
    ORDER_EDITED = "order.edited"
    REFUND_RECORDED = "refund.recorded"
    ACTIVITY_RECORDED = "activity.recorded"
    POINTS_EARNED = "points.earned"
    POINTS_REDEEMED = "points.redeemed"
    POINTS_ADJUSTED = "points.adjusted"
    POINTS_CLAWED_BACK = "points.clawed_back"
    POINTS_REVERSED = "points.reversed"
    POINTS_VESTED = "points.vested"
    POINTS_EXPIRED = "points.expired"
    POINTS_EXPIRING = "points.expiring"
    TIER_UPGRADED = "tier.upgraded"
    TIER_DOWNGRADED = "tier.downgraded"
    TIER_OVERRIDDEN = "tier.overridden"
    TIER_CORRECTED = "tier.corrected"
    WEBHOOK_TEST = "webhook.test"
