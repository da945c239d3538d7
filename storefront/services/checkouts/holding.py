"""Holds: what a checkout uses is set aside until it is paid, released or lapses."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from core.models import Program
from core.services.feed import utc_text
from coupons.services import redemptions
from membership import locks as membership_locks
from points.services import holds
from points.services.posting import InsufficientPoints
from storefront import locks
from storefront.checkout_inputs import CheckoutRefused, Difference, QuoteChanged
from storefront.models import Checkout, CheckoutPolicy, CheckoutState
from storefront.program_section import get_policy
from storefront.quotes import Quote, work_out_again
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
def hold(*, program: Program, public_id: UUID, minutes: int | None = None, at: datetime) -> Moved:
    """Set aside the coupons and points that a checkout uses, if it still costs what was quoted.

    The combination of coupons and the points that were quoted are priced again, behind the member's lock: of two holds
    of one member the second sees the first. What came since, and would take off more, changes nothing.

    minutes: for how long; None for the default, or the program's maximum if that is less.
    Raises: CheckoutRefused; QuoteChanged; as `redemptions.hold` and `holds.hold`.
    Locks: the checkout, its member, then coupons and points.
    Idempotency: a checkout is held once; again, it is answered as it is.
    """
    checkout = find_locked(program, public_id)
    refuse_closed(checkout, at)
    if checkout.state == CheckoutState.HELD:
        return Moved(checkout, is_new=False)
    policy = get_policy(program)
    held_until = _end_of_hold(policy, held_at=at, minutes=minutes, at=at)
    if checkout.member_id is not None:
        membership_locks.lock_members([checkout.member_id])
        _refuse_many(policy, checkout.member_id, at)
    quoted = work_out_again(program=program, checkout=checkout, at=at)
    if quoted.digest != bytes(checkout.digest):
        raise QuoteChanged(find_differences(checkout, quoted))
    checkout.state, checkout.held_at, checkout.lapses_at = CheckoutState.HELD, at, held_until
    checkout.points_reference = str(checkout.public_id) if checkout.wallet_id is not None else ""
    checkout.save(update_fields=["state", "held_at", "lapses_at", "points_reference"])
    _set_aside(program, checkout, quoted, at)
    return Moved(checkout, is_new=True)


@transaction.atomic
def extend(*, program: Program, public_id: UUID, minutes: int, at: datetime) -> Moved:
    """Hold a checkout for so many minutes from now on, unless it is held for longer already.

    Raises: CheckoutRefused.
    Locks: the checkout, then coupons.
    Idempotency: sent again at the same instant, nothing changes; it never shortens a hold.
    """
    checkout = find_locked(program, public_id)
    refuse_closed(checkout, at)
    if checkout.held_at is None:
        raise CheckoutRefused("checkout_not_held", "hold this checkout before it is extended")
    held_until = _end_of_hold(get_policy(program), held_at=checkout.held_at, minutes=minutes, at=at)
    if held_until <= checkout.lapses_at:
        return Moved(checkout, is_new=False)
    checkout.lapses_at = held_until
    checkout.save(update_fields=["lapses_at"])
    if checkout.member_id is not None:
        reference = str(checkout.public_id)
        redemptions.extend(member_id=checkout.member_id, reference=reference, held_until=held_until)
        if checkout.wallet_id is not None:
            holds.extend(
                member_id=checkout.member_id,
                wallet_id=checkout.wallet_id,
                reference=checkout.ledger_reference,
                held_until=held_until,
            )
    return Moved(checkout, is_new=True)


def _end_of_hold(policy: CheckoutPolicy, *, held_at: datetime, minutes: int | None, at: datetime) -> datetime:
    """Return until when a checkout is held.

    Raises: CheckoutRefused beyond what the program allows, counted from the beginning of the hold.
    """
    most = policy.maximum_hold_minutes
    if minutes is None:
        return at + min(quoting.lifetime(), timedelta(minutes=most))
    held_until, end = at + timedelta(minutes=minutes), held_at + timedelta(minutes=most)
    if held_until > end:
        reason = f"a hold lasts {most:,} minutes at most: this one until {utc_text(end)}"
        raise CheckoutRefused("hold_too_long", reason, field="minutes")
    return held_until


def _refuse_many(policy: CheckoutPolicy, member_id: int, at: datetime) -> None:
    """Refuse one more hold to a member whose checkouts hold as many as may be: abandoned ones tie up no more.

    Raises: CheckoutRefused.
    """
    held = Checkout.objects.filter(member=member_id, state=CheckoutState.HELD, lapses_at__gt=at).order_by("held_at")
    names = [str(name) for name in held.values_list("public_id", flat=True)]
    if len(names) >= policy.holds_per_member:
        reason = f"the member has {len(names)} checkouts on hold, as many as may be: release one of {', '.join(names)}"
        raise CheckoutRefused("too_many_holds", reason)


def _set_aside(program: Program, checkout: Checkout, quoted: Quote, at: datetime) -> None:
    """Hold coupons and points. What another way of using them took meanwhile is a change of the quote too."""
    told: dict[str, Any] = {
        "program": program,
        "member_id": checkout.member_id,
        "held_until": checkout.lapses_at,
        "at": at,
    }
    price = quoted.price
    try:
        if price.evaluation.applied:
            applied, basket = price.evaluation.applied, price.coupon_basket
            reference = str(checkout.public_id)
            redemptions.hold(**told, reference=reference, currency=checkout.currency, applied=applied, basket=basket)
        if checkout.wallet_id is not None:
            reference = checkout.ledger_reference
            holds.hold(**told, reference=reference, wallet_id=checkout.wallet_id, points=checkout.points)
    except redemptions.CouponUnavailable as error:
        raise QuoteChanged([Difference("coupons", f"{error.code} can no longer be had")]) from error
    except InsufficientPoints as error:
        reason = f"was {error.asked:,}, {error.available:,} can be used now"
        raise QuoteChanged([Difference("points.points", reason)]) from error


@transaction.atomic
def release(*, program: Program, public_id: UUID, at: datetime) -> Moved:
    """Give up a checkout that is not paid, and free what it holds. One whose time is over has lapsed, swept or not.

    Raises: CheckoutRefused.
    Locks: the checkout, then coupons and points.
    """
    checkout = find_locked(program, public_id)
    if checkout.state == CheckoutState.PAID:
        raise CheckoutRefused("checkout_already_paid", "an order has paid this checkout")
    if checkout.closed_at is not None:
        return Moved(checkout, is_new=False)
    _end(program, checkout, CheckoutState.RELEASED if at < checkout.lapses_at else CheckoutState.LAPSED, at)
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


def forget_ended(*, before: datetime, held_before: datetime) -> int:
    """Delete checkouts that ended unpaid before an instant, those that had been held before another one.

    The coupons and points they held keep their own history. A payment that is told late finds its checkout until then.
    """
    ended = Checkout.objects.filter(state__in=[CheckoutState.RELEASED, CheckoutState.LAPSED])
    ended = ended.filter(Q(closed_at__lt=held_before, held_at__isnull=False) | Q(closed_at__lt=before, held_at=None))
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
    told: dict[str, Any] = {"program": program, "member_id": checkout.member_id, "at": at}
    if checkout.price["coupons"]["applied"]:
        redemptions.release(**told, reference=str(checkout.public_id))
    if checkout.wallet_id is not None:
        holds.release(**told, reference=checkout.ledger_reference, wallet_id=checkout.wallet_id)


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
