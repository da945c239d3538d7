"""The removal of clicks that have served their time. Referrals and rewards are kept for ever."""

from datetime import datetime

from core.services.cleanup import delete
from referrals.models import Touch


def forget_touches(*, before: datetime) -> int:
    """Remove clicks from before an instant, and return how many went.

    Idempotency: a second call finds nothing.
    """
    return delete(Touch.objects.filter(touched_at__lt=before))
