"""Coupons for the first order: one checkout of a member holds them at a time, and a use that was none is flagged."""

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from core.models import Program
from core.services import outbox
from coupons.models import Redemption, RedemptionFlag, RedemptionState
from membership.first_orders import find_order_before
from membership.models import Order

_IS_FOR_FIRST_ORDER = {"claim__version__definition__first_order": True}


def find_first_order_hold(member_id: int, *, at: datetime) -> Redemption | None:
    """Return what a checkout of the member, not paid yet, holds for the first order."""
    held = Redemption.objects.filter(member=member_id, state=RedemptionState.HELD, held_until__gt=at)
    return held.filter(**_IS_FOR_FIRST_ORDER).order_by("pk").first()


@transaction.atomic
def flag_used_first_orders(*, program: Program, member_ids: Collection[int], at: datetime) -> int:
    """Flag what used a coupon for the first order with an order that was none, and publish each; return how many.

    What was paid stays as it was held. Called after orders of these members were recorded, early or late.

    Idempotency: what is flagged stays so, and is published once.
    """
    used = Redemption.objects.filter(
        member__in=member_ids,
        state__in=[RedemptionState.COMMITTED, RedemptionState.REVERSED],
        flag="",
        **_IS_FOR_FIRST_ORDER,
    )
    orders = Order.objects.in_bulk([each.order_id for each in used if each.order_id is not None])
    return sum(_flag(program, each, orders[each.order_id or 0], at) for each in used)


def _flag(program: Program, redemption: Redemption, order: Order, at: datetime) -> bool:
    first = find_order_before(order)
    unflagged = Redemption.objects.filter(pk=redemption.pk, member=redemption.member_id, flag="")
    if first is None or not unflagged.update(flag=RedemptionFlag.FIRST_ORDER_USED):
        return False
    payload = {"redemption": redemption.pk, "first_order": first.pk}
    outbox.publish(program_id=program.pk, topic="coupons.first_order_used", payload=payload, at=at)
    return True
