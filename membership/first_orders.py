"""Which order of a member is the first: one that had come back whole by then counts for nothing."""

from datetime import datetime

from django.db.models import Q

from membership.models import Order


def has_ordered(*, member_id: int, at: datetime) -> bool:
    """Tell whether a member has an order that had not come back whole by an instant."""
    return Order.objects.filter(_stands(at), member=member_id).exists()


def find_order_before(order: Order) -> Order | None:
    """Return the first of the member's orders that was paid before another and had not come back whole by then.

    None says that the other is a first order. Of two paid at one instant the smaller external id came first.
    """
    earlier = Q(paid_at__lt=order.paid_at) | Q(paid_at=order.paid_at, external_id__lt=order.external_id)
    found = Order.objects.filter(earlier, _stands(order.paid_at), member=order.member_id)
    return found.order_by("paid_at", "external_id").first()


def _stands(at: datetime) -> Q:
    return Q(returned_at=None) | Q(returned_at__gt=at)
