"""The removal of clicks and fingerprints that have served their time. Referrals and rewards are kept for ever."""

from datetime import datetime

from core.services.cleanup import delete
from referrals.models import Fingerprint, Touch


def forget_traces(*, touches_before: datetime, fingerprints_before: datetime) -> dict[str, int]:
    """Remove clicks and fingerprints from before two instants, and return how many of each went.

    Idempotency: a second call finds nothing.
    """
    return {
        "touches": delete(Touch.objects.filter(touched_at__lt=touches_before)),
        "fingerprints": delete(Fingerprint.objects.filter(seen_at__lt=fingerprints_before)),
    }
