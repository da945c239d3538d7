"""What the facts say of a referral: which order counts, when it is settled, whether the friend was a customer before.

It is worked out from the facts with the instants at which they happened, so it does not matter in which order, how late
or how often they are told. The friend's first order that is worth the minimum when its return window ends is the one
that counts, for good. Until then another may take its place; what comes back afterwards takes the rewards back.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from core.calendar import CLOCK_TOLERANCE
from membership.models import Order
from referrals.definitions import ReferralTerms
from referrals.models import Referral
from referrals.selectors import goods_left_minor, iter_orders_of


class Outcome(Enum):
    EXISTING_CUSTOMER = "existing_customer"
    WAITING = "waiting"
    SETTLED = "settled"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a referral comes to by its facts. The order that counts, or would, and when its return window ends."""

    outcome: Outcome
    order_id: int | None = None
    market: str = ""
    due_at: datetime | None = None


def judge(referral: Referral, terms: ReferralTerms, *, at: datetime) -> Verdict:
    """Return what the facts known by now say of a referral."""
    has_ordered_before = is_existing_customer(
        member_id=referral.member_id,
        joined_at=referral.member_joined_at,
        bound_at=referral.bound_at,
        terms=terms,
        before=referral.bound_at - CLOCK_TOLERANCE,
    )
    if has_ordered_before and referral.reopened_at is None:
        return Verdict(Outcome.EXISTING_CUSTOMER)
    if not terms.awaits_order:
        return Verdict(Outcome.SETTLED, due_at=referral.bound_at)
    minimum = minimum_minor(terms)
    for order in iter_orders_of(member_id=referral.member_id, minimum_minor=minimum):
        due_at = order.paid_at + timedelta(days=terms.return_days)
        if goods_left_minor(order, until=due_at) < minimum:
            continue
        if due_at > at:
            outcome = Outcome.WAITING
        else:
            outcome = Outcome.SETTLED if goods_left_minor(order) >= minimum else Outcome.REVERSED
        return Verdict(outcome, order.pk, order.market, due_at)
    return Verdict(Outcome.WAITING)


def is_existing_customer(
    *,
    member_id: int,
    joined_at: datetime,
    bound_at: datetime,
    terms: ReferralTerms,
    before: datetime | None = None,
) -> bool:
    """Tell whether a member had ordered before being brought by a friend. What came back whole is no order.

    The order with which somebody joins is not one from before: the only one, paid shortly before joining at most, and
    bound as shortly after it.
    before: orders paid from then on are not looked at; left out, all are.
    """
    orders = Order.objects.filter(member_id=member_id, returned_at=None)
    if before is not None:
        orders = orders.filter(paid_at__lt=before)
    paid_at = list(orders.order_by("paid_at").values_list("paid_at", flat=True)[:2])
    shortly = timedelta(minutes=terms.minutes_before_joining)
    is_joining = len(paid_at) == 1 and paid_at[0] >= joined_at - shortly and bound_at <= joined_at + shortly
    return bool(paid_at) and not is_joining


def minimum_minor(terms: ReferralTerms) -> int:
    """Return what an order must be worth: never nothing, for then all of it has come back, or nothing was paid."""
    return max(terms.minimum_order, 1)
