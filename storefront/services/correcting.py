"""Orders that were told wrong, as far as a checkout has not fixed what they cost."""

from datetime import datetime

from django.contrib.auth.models import User

from core.models import Program
from membership.field_checks import Check
from membership.services import order_corrections
from membership.services.order_corrections import OrderCorrection
from storefront.models import Checkout


def correct_order(
    *,
    program: Program,
    correction: OrderCorrection,
    decided_by: str,
    last: datetime | None = None,
    at: datetime,
    user: User | None = None,
) -> bool:
    """Correct an order that paid no checkout, and tell whether it is news.

    Raises, Locks, Idempotency: as `order_corrections.correct_order`.
    """
    # An order pays its checkout as it is recorded, or never.
    if Checkout.objects.filter(program=program, order__external_id=correction.order).exists():
        reason = (
            f"order {correction.order} paid a checkout, which says what it cost: refund what is wrong, or cancel it"
        )
        Check(correction.external_id).refuse("", reason, code="order_of_checkout")
    return order_corrections.correct_order(
        program=program, correction=correction, decided_by=decided_by, last=last, at=at, user=user
    )
