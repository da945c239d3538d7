"""Orders that pay a checkout: they agree with it, and what it holds is used in the same transaction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from core.models import Program
from coupons.published import list_offers
from coupons.services import first_orders, redemptions
from membership.fact_inputs import OrderInput, OrderLineInput
from membership.models import Order, OrderKey
from points.services import holds
from storefront import locks
from storefront.checkout_inputs import CheckoutRefused
from storefront.models import Checkout, CheckoutState
from storefront.services.checkouts.holding import refuse_closed


@dataclass(frozen=True, slots=True)
class Payments:
    """Orders with what their checkouts say of them, and the checkouts that they are the first to pay, by order."""

    orders: Sequence[OrderInput]
    paid: Mapping[str, Checkout] = field(default_factory=dict)


def match_orders(*, program: Program, orders: Sequence[OrderInput], at: datetime) -> Payments:
    """Return orders filled in from the checkouts that they pay: what came off each line, what was paid in points.

    An order whose checkout it has paid before is filled in likewise, so that it is the same order.

    Raises: CheckoutRefused for one that does not agree with its checkout, or whose checkout is not there to be paid.
    Locks: the checkouts, ascending; nothing where no order names one.
    """
    named = {order.checkout for order in orders if order.checkout}
    if not named:
        return Payments(orders)
    found = locks.lock_checkouts(program.pk, [UUID(name) for name in named])
    checkouts = {str(checkout.public_id): checkout for checkout in found}
    paid: dict[str, Checkout] = {}
    filled = [_match(order, checkouts, paid, at) if order.checkout else order for order in orders]
    return Payments(filled, paid)


def _match(order: OrderInput, checkouts: Mapping[str, Checkout], paid: dict[str, Checkout], at: datetime) -> OrderInput:
    checkout = checkouts.get(order.checkout)
    if checkout is None:
        raise CheckoutRefused("unknown_checkout", f"there is no checkout {order.checkout}")
    payer = next((name for name, other in paid.items() if other.pk == checkout.pk), None)
    if checkout.order is not None:
        payer = checkout.order.external_id
    if payer is not None and payer != order.external_id:
        raise CheckoutRefused("checkout_already_paid", f"order {payer} has paid this checkout")
    if payer is None:
        refuse_closed(checkout, at)
        if checkout.state == CheckoutState.QUOTED and (checkout.points or checkout.price["coupons"]["applied"]):
            raise CheckoutRefused("checkout_not_held", "hold this checkout before its order is paid")
    filled = _agree(order, checkout)
    if payer is None:
        paid[order.external_id] = checkout
    return filled


def _agree(order: OrderInput, checkout: Checkout) -> OrderInput:
    """Return an order filled in from its checkout.

    Raises: CheckoutRefused where they differ.
    """
    if order.member != (checkout.member.external_id if checkout.member else ""):
        reason = "this checkout is another member's"
        raise CheckoutRefused("checkout_of_other_member", reason, field="member")
    for name in ("currency", "market"):
        if getattr(order, name) != getattr(checkout, name):
            _changed(name, f"{getattr(checkout, name) or 'none'} was quoted")
    if order.amount_minor != checkout.amount_minor:
        _changed("amount_minor", f"{checkout.amount_minor} was quoted, with shipping")
    told = {line.external_id: (index, line) for index, line in enumerate(order.lines)}
    quoted = {line["external_id"]: line for line in checkout.price["lines"]}
    for name in quoted:
        if name not in told:
            _changed("lines", f"line {name} was quoted and is missing")
    lines = [_agree_line(index, line, quoted) for index, line in told.values()]
    # A line that comes twice is for the order's own check to refuse.
    return replace(order, lines=tuple(lines)) if len(lines) == len(order.lines) else order


def _agree_line(index: int, line: OrderLineInput, quoted: Mapping[str, Any]) -> OrderLineInput:
    place = f"lines.{index}"
    known = quoted.get(line.external_id)
    if known is None:
        _changed(f"{place}.external_id", f"line {line.external_id} was not quoted")
    for name in ("sku", "category", "units", "amount_minor"):
        if getattr(line, name) != known[name]:
            _changed(f"{place}.{name}", f"{known[name] or 'none'} was quoted")
    for name in ("discount_minor", "paid_in_points_minor"):
        if getattr(line, name) not in (0, known[name]):
            _changed(f"{place}.{name}", f"{known[name]} was quoted")
    return replace(line, discount_minor=known["discount_minor"], paid_in_points_minor=known["paid_in_points_minor"])


def _changed(place: str, reason: str) -> NoReturn:
    raise CheckoutRefused("basket_changed", reason, field=place)


def use_coupons(*, program: Program, paid: Mapping[str, Checkout], at: datetime) -> None:
    """Put the checkouts of orders that have been recorded on record as paid, and use the coupons that they hold.

    Raises: CheckoutRefused where the sweep of coupons came first.
    Locks: claims and redemptions of their members.
    """
    keys = OrderKey.objects.filter(program=program, external_id__in=list(paid))
    for name, order_id in keys.values_list("external_id", "order_id") if paid else ():
        checkout = paid[name]
        checkout.state, checkout.order_id, checkout.closed_at = CheckoutState.PAID, order_id, at
        checkout.save(update_fields=["state", "order", "closed_at"])
    for checkout in _by_member(paid):
        if checkout.price["coupons"]["applied"]:
            try:
                redemptions.commit(
                    program=program,
                    member_id=checkout.member_id,
                    reference=str(checkout.public_id),
                    order_id=checkout.order_id,
                    at=at,
                )
            except redemptions.HoldEnded as error:
                reason = "this checkout lapsed while it was paid: what it held is free again"
                raise CheckoutRefused("checkout_lapsed", reason) from error


def flag_first_orders(*, program: Program, order_ids: Sequence[int], at: datetime) -> None:
    """Flag coupons for the first order whose order turns out to be none, now that these orders are known."""
    if order_ids and list_offers(program).has_first_order:
        members = Order.objects.filter(pk__in=order_ids, member__isnull=False).values_list("member", flat=True)
        first_orders.flag_used_first_orders(program=program, member_ids=set(members), at=at)


def use_points(*, program: Program, paid: Mapping[str, Checkout], at: datetime) -> None:
    """Capture the points that paid checkouts hold.

    Locks: the accounts of their members, one by one.
    """
    for checkout in _by_member(paid):
        if checkout.points:
            holds.capture(
                program=program,
                member_id=checkout.member_id,
                wallet_id=checkout.wallet_id,
                reference=str(checkout.public_id),
                at=at,
            )


def _by_member(paid: Mapping[str, Checkout]) -> Iterator[Any]:
    """Yield checkouts of members in the order in which their rows are locked."""
    of_members = (checkout for checkout in paid.values() if checkout.member_id is not None)
    yield from sorted(of_members, key=lambda checkout: (checkout.member_id or 0, checkout.wallet_id or 0, checkout.pk))
