"""The row locks that points takes outside its posting function, which locks accounts by itself.

A request's row comes before the account of its posting, and so does the day of goodwill.
"""

from points.models import AdjustmentRequest


def lock_request(request_id: int) -> AdjustmentRequest:
    """Lock a request for an adjustment until the transaction ends, so that it is decided once."""
    return AdjustmentRequest.objects.select_for_update(no_key=True).get(pk=request_id)
