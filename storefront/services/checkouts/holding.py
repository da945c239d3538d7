"""Holds: what a checkout uses is set aside until it is paid, released or lapses."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from core.models import Program
from coupons.services import redemptions
from membership import locks as membership_locks
from points.services import holds
from points.services.posting import InsufficientPoints
from storefront import locks
from storefront.checkout_inputs import CheckoutInput, CheckoutRefused, Difference, QuoteChanged
from storefront.models import Checkout, CheckoutState
from storefront.quotes import Quote, work_out
from storefront.services.checkouts import quoting
from storefront.services.checkouts.differences import find_differences

# Quotes for one statement.
_QUOTES = 1_000


@dataclass(frozen=True, slots=True)
class Moved:
    """A checkout, and whether this call moved it."""

    checkout: Checkout
    is_new: bool


@transaction.atomic
def hold(*, program: Program, public_id: UUID, at: datetime) -> Moved:
    """Set aside the coupons and points that a checkout uses, if it still costs what was quoted.

    What it costs is worked out again, behind the member's lock: of two holds of one member the second sees the first.

    Raises: CheckoutRefused; QuoteChanged; as `redemptions.hold` and `holds.hold`.
    Locks: the checkout, its member, then coupons and points.
    Idempotency: a checkout is held once; again, it is answered as it is.
    """
    checkout = find_locked(program, public_id)
    refuse_closed(checkout, at)
    if checkout.state == CheckoutState.HELD:
        return Moved(checkout, is_new=False)
    if checkout.member_id is not None:
        membership_locks.lock_members([checkout.member_id])
    quoted = work_out(program=program, told=CheckoutInput.from_json(checkout.basket), at=at)
    if quoted.digest != bytes(checkout.digest):
        raise QuoteChanged(find_differences(checkout, quoted))
    checkout.state, checkout.held_at, checkout.lapses_at = CheckoutState.HELD, at, at + quoting.lifetime()
    checkout.save(update_fields=["state", "held_at", "lapses_at"])
    _set_aside(program, checkout, quoted, at)
    return Moved(checkout, is_new=True)


def _set_aside(program: Program, checkout: Checkout, quoted: Quote, at: datetime) -> None:
    """Hold coupons and points. What another way of using them took meanwhile is a change of the quote too."""
    told: dict[str, Any] = {
        "program": program,
        "member_id": checkout.member_id,
        "reference": str(checkout.public_id),
        "held_until": checkout.lapses_at,
        "at": at,
    }
    price = quoted.price
    try:
        if price.evaluation.applied:
            applied, basket = price.evaluation.applied, price.coupon_basket
            redemptions.hold(**told, currency=checkout.currency, applied=applied, basket=basket)
        if checkout.wallet_id is not None:
            holds.hold(**told, wallet_id=checkout.wallet_id, points=checkout.points)
    except redemptions.CouponUnavailable as error:
        raise QuoteChanged([Difference("coupons", f"{error.code} can no longer be had")]) from error
    except InsufficientPoints as error:
        reason = f"was {error.asked:,}, {error.available:,} can be used now"
        raise QuoteChanged([Difference("points.points", reason)]) from error


@transaction.atomic
def release(*, program: Program, public_id: UUID, at: datetime) -> Moved:
    """Give up a checkout that is not paid, and free what it holds. One that has ended like this is left as it is.

    Raises: CheckoutRefused.
    Locks: the checkout, then coupons and points.
    """
    checkout = find_locked(program, public_id)
    if checkout.state == CheckoutState.PAID:
        raise CheckoutRefused("checkout_already_paid", "an order has paid this checkout")
    if checkout.closed_at is not None:
        return Moved(checkout, is_new=False)
    _end(program, checkout, CheckoutState.RELEASED, at)
    return Moved(checkout, is_new=True)


def end_lapsed(*, at: datetime) -> int:
    """Free what lapsed checkouts hold, each in a transaction of its own, and close lapsed quotes. Returns how many.

    Idempotency: what has been freed is left out, as is what somebody else works on.
    Locks: as `release`.
    """
    ended = 0
    while _end_one(at):
        ended += 1
    while count := _end_quotes(at):
        ended += count
    return ended


def forget_ended(*, before: datetime) -> int:
    """Delete checkouts that ended unpaid before an instant; the coupons and points they held keep their own history."""
    ended = Checkout.objects.filter(state__in=[CheckoutState.RELEASED, CheckoutState.LAPSED], closed_at__lt=before)
    deleted, _ = Checkout.objects.filter(
        pk__in=list(ended.order_by("closed_at").values_list("pk", flat=True)[:_QUOTES])
    ).delete()
    return deleted


@transaction.atomic
def _end_quotes(at: datetime) -> int:
    lapsed = Checkout.objects.filter(pk__in=locks.lock_lapsed_quotes(at=at, limit=_QUOTES))
    return lapsed.update(state=CheckoutState.LAPSED, closed_at=at)


@transaction.atomic
def _end_one(at: datetime) -> bool:
    checkout = locks.lock_lapsed_checkout(at=at)
    if checkout is None:
        return False
    _end(checkout.program, checkout, CheckoutState.LAPSED, at)
    return True


def _end(program: Program, checkout: Checkout, state: CheckoutState, at: datetime) -> None:
    is_held = checkout.state == CheckoutState.HELD
    checkout.state, checkout.closed_at = state, at
    checkout.save(update_fields=["state", "closed_at"])
    if not is_held or checkout.member_id is None:
        return
    reference = str(checkout.public_id)
    told: dict[str, Any] = {"program": program, "member_id": checkout.member_id, "reference": reference, "at": at}
    if checkout.price["coupons"]["applied"]:
        redemptions.release(**told)
    if checkout.wallet_id is not None:
        holds.release(**told, wallet_id=checkout.wallet_id)


def find_locked(program: Program, public_id: UUID) -> Checkout:
    """Return a checkout, locked; its state is read after the lock.

    Raises: CheckoutRefused.
    """
    found = locks.lock_checkouts(program.pk, [public_id])
    if not found:
        raise CheckoutRefused("unknown_checkout", f"there is no checkout {public_id}")
    return found[0]


def refuse_closed(checkout: Checkout, at: datetime) -> None:
    """Refuse a checkout that has ended, or whose time has run out, whether or not somebody has noticed.

    Raises: CheckoutRefused.
    """
    if checkout.state == CheckoutState.PAID:
        raise CheckoutRefused("checkout_already_paid", "an order has paid this checkout")
    if checkout.state == CheckoutState.RELEASED:
        raise CheckoutRefused("checkout_released", "this checkout was released")
    if checkout.closed_at is not None or checkout.lapses_at <= at:
        raise CheckoutRefused("checkout_lapsed", f"this checkout lapsed at {checkout.lapses_at.isoformat()}")
