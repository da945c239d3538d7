"""Orders that pay a checkout: they agree with it, and what it holds is used in the same transaction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from core.models import Program
from core.services import outbox
from core.services.feed import utc_text
from coupons.published import list_offers
from coupons.services import first_orders, late_uses, redemptions
from coupons.services.late_uses import NotTaken
from membership.fact_inputs import OrderInput, OrderLineInput
from membership.models import Order, OrderKey
from membership.refusals import RefusedFacts
from points.selectors import get_balance
from points.services import holds
from points.services.earning import terms_of
from storefront import locks
from storefront.checkout_inputs import CheckoutRefused
from storefront.models import Checkout, CheckoutState
from storefront.services.checkouts import shortfalls

_PAID_FIELDS = ["state", "order", "closed_at", "amount_minor", "price", "points", "points_reference", "shortfall"]
# A clock that pays may be so far behind the one that quotes.
CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Payments:
    """Orders with what their checkouts say of them, and the checkouts that they are the first to pay, by order."""

    orders: Sequence[OrderInput]
    paid: Mapping[str, Checkout] = field(default_factory=dict)


def match_orders(*, program: Program, orders: Sequence[OrderInput], at: datetime) -> Payments:
    """Return orders filled in from the checkouts that they pay: what came off each line, what was paid in points.

    An order whose checkout it has paid before is filled in likewise, so that it is the same order. One that was paid
    before its checkout lapsed, and is told when what it held is free again, is filled in with the points that are
    there: what could not be taken is a discount that the shop gave.

    Raises: RefusedFacts, with CheckoutRefused for each that does not agree with its checkout, or whose checkout is not
    there to be paid.
    Locks: the checkouts, ascending; nothing where no order names one.
    """
    named = {order.checkout for order in orders if order.checkout}
    if not named:
        return Payments(orders)
    found = locks.lock_checkouts(program.pk, [UUID(name) for name in named])
    matching = _Matching(program, {str(checkout.public_id): checkout for checkout in found}, at)
    filled, refused = list(orders), {}
    for index, order in enumerate(orders):
        try:
            filled[index] = matching.match(order) if order.checkout else order
        except CheckoutRefused as error:
            refused["order", index] = error
    if refused:
        raise RefusedFacts(refused)
    return Payments(filled, matching.paid)


class _Matching:
    """Orders of one call and the locked checkouts that they pay."""

    def __init__(self, program: Program, checkouts: Mapping[str, Checkout], at: datetime) -> None:
        self.program, self.checkouts, self.at = program, checkouts, at
        self.paid: dict[str, Checkout] = {}
        self.available: dict[tuple[int, int], int] = {}

    def match(self, order: OrderInput) -> OrderInput:
        """Return an order filled in from its checkout.

        Raises: CheckoutRefused.
        """
        checkout = self.checkouts.get(order.checkout)
        if checkout is None:
            raise CheckoutRefused("unknown_checkout", f"there is no checkout {order.checkout}")
        payer = next((name for name, other in self.paid.items() if other.pk == checkout.pk), None)
        if checkout.order is not None:
            payer = checkout.order.external_id
        if payer is not None and payer != order.external_id:
            raise CheckoutRefused("checkout_already_paid", f"order {payer} has paid this checkout")
        if payer is None:
            _refuse_unpayable(checkout, order.paid_at, self.at)
        filled = _agree(order, checkout)
        if payer is None:
            self.paid[order.external_id] = checkout
            if checkout.closed_at is not None and checkout.points:
                self._take_late(checkout)
                filled = _agree(order, checkout)
        return filled

    def _take_late(self, checkout: Checkout) -> None:
        """Let a checkout whose points are free again use those that are there, in whole steps."""
        if checkout.member_id is None or checkout.wallet_id is None:
            return
        account = checkout.member_id, checkout.wallet_id
        if account not in self.available:
            member_id, wallet_id = account
            self.available[account] = get_balance(member_id=member_id, wallet_id=wallet_id, at=self.at).available
        policy = terms_of(self.program).policy_at(checkout.wallet_id, checkout.quoted_at)
        step = policy.redemption.step if policy.redemption else 1
        taken = min(checkout.points, self.available[account] // step * step)
        self.available[account] -= taken
        checkout.points_reference = f"{checkout.public_id}:late"
        shortfalls.drop_points(checkout, taken=taken)


def _refuse_unpayable(checkout: Checkout, paid_at: datetime, at: datetime) -> None:
    """Refuse a checkout that was given up, that holds nothing, or that had lapsed when it was paid.

    Raises: CheckoutRefused.
    """
    if checkout.state == CheckoutState.RELEASED:
        raise CheckoutRefused("checkout_released", "this checkout was released")
    if paid_at < checkout.quoted_at - CLOCK_TOLERANCE:
        reason = f"the checkout was quoted later, at {utc_text(checkout.quoted_at)}"
        raise CheckoutRefused("paid_before_quote", reason, field="paid_at")
    is_open = checkout.closed_at is None and at < checkout.lapses_at
    if not is_open and paid_at >= checkout.lapses_at:
        raise CheckoutRefused("checkout_lapsed", f"this checkout lapsed at {utc_text(checkout.lapses_at)}")
    if checkout.held_at is None and (checkout.points or checkout.price["coupons"]["applied"]):
        raise CheckoutRefused("checkout_not_held", "hold this checkout before its order is paid")


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
    short = checkout.shortfall["amount_minor"] if checkout.shortfall else 0
    if order.amount_minor != checkout.amount_minor + short:
        _changed("amount_minor", f"{checkout.amount_minor + short} was quoted, with shipping")
    told = {line.external_id: (index, line) for index, line in enumerate(order.lines)}
    quoted = {line["external_id"]: line for line in checkout.price["lines"]}
    for name in quoted:
        if name not in told:
            _changed("lines", f"line {name} was quoted and is missing")
    lines = [_agree_line(index, line, quoted, checkout) for index, line in told.values()]
    # A line that comes twice is for the order's own check to refuse.
    if len(lines) != len(order.lines):
        return order
    return replace(order, amount_minor=checkout.amount_minor, lines=tuple(lines))


def _agree_line(
    index: int, line: OrderLineInput, priced: Mapping[str, Mapping[str, Any]], checkout: Checkout
) -> OrderLineInput:
    """Return a line as its checkout prices it; it tells what was quoted."""
    place = f"lines.{index}"
    known = priced.get(line.external_id)
    if known is None:
        _changed(f"{place}.external_id", f"line {line.external_id} was not quoted")
    short = shortfalls.part_of_line(checkout, line.external_id)
    quoted = {name: known[name] for name in ("sku", "category", "units")}
    quoted["amount_minor"] = known["amount_minor"] + short
    for name, value in quoted.items():
        if getattr(line, name) != value:
            _changed(f"{place}.{name}", f"{value or 'none'} was quoted")
    optional = {
        "discount_minor": known["discount_minor"] - short,
        "paid_in_points_minor": known["paid_in_points_minor"] + short,
    }
    for name, value in optional.items():
        if getattr(line, name) not in (0, value):
            _changed(f"{place}.{name}", f"{value} was quoted")
    paid = {name: known[name] for name in ("amount_minor", "discount_minor", "paid_in_points_minor")}
    return replace(line, **paid)


def _changed(place: str, reason: str) -> NoReturn:
    raise CheckoutRefused("basket_changed", reason, field=place)


def use_coupons(*, program: Program, paid: Mapping[str, Checkout], at: datetime) -> None:
    """Put the checkouts of orders that have been recorded on record as paid, and use the coupons that they hold.

    Those that are free again are used as far as they are still to be had; what could not be taken is published.

    Locks: claims and redemptions of their members, and counters of coupons that are claimed anew.
    """
    keys = OrderKey.objects.filter(program=program, external_id__in=list(paid))
    ids = dict(keys.values_list("external_id", "order_id")) if paid else {}
    for name, checkout in paid.items():
        checkout.state, checkout.order_id, checkout.closed_at = CheckoutState.PAID, ids[name], at
    for checkout in _by_member(paid):
        if checkout.price["coupons"]["applied"]:
            shortfalls.note_coupons(checkout, _use_held(program, checkout, at))
    for checkout in paid.values():
        checkout.save(update_fields=_PAID_FIELDS)
        if checkout.shortfall is not None:
            payload = {"checkout": checkout.pk}
            outbox.publish(program_id=program.pk, topic="storefront.checkout_short", payload=payload, at=at)


def _use_held(program: Program, checkout: Any, at: datetime) -> list[NotTaken]:
    """Use the coupons of a checkout, and return those that are gone."""
    told: dict[str, Any] = {
        "program": program,
        "member_id": checkout.member_id,
        "reference": str(checkout.public_id),
        "order_id": checkout.order_id,
        "at": at,
    }
    try:
        redemptions.commit(**told)
    except redemptions.HoldEnded:
        return late_uses.use_again(**told)
    return []


def flag_first_orders(*, program: Program, order_ids: Sequence[int], at: datetime) -> None:
    """Flag coupons for the first order whose order turns out to be none, now that these orders are known."""
    if order_ids and list_offers(program).has_first_order:
        members = Order.objects.filter(pk__in=order_ids, member__isnull=False).values_list("member", flat=True)
        first_orders.flag_used_first_orders(program=program, member_ids=set(members), at=at)


def use_points(*, program: Program, paid: Mapping[str, Checkout], at: datetime) -> None:
    """Capture the points that paid checkouts hold; where they are free again, hold them once more before.

    Raises: InsufficientPoints where they were spent since the checkout was matched.
    Locks: the accounts of their members, one by one.
    """
    for checkout in _by_member(paid):
        if not checkout.points:
            continue
        told: dict[str, Any] = {
            "program": program,
            "member_id": checkout.member_id,
            "wallet_id": checkout.wallet_id,
            "reference": checkout.ledger_reference,
            "at": at,
        }
        if checkout.is_late:
            # What was decided before a suspension stands.
            holds.hold(**told, points=checkout.points, held_until=checkout.lapses_at, needs_active_member=False)
        holds.capture(**told)


def _by_member(paid: Mapping[str, Checkout]) -> Iterator[Any]:
    """Yield checkouts of members in the order in which their rows are locked."""
    of_members = (checkout for checkout in paid.values() if checkout.member_id is not None)
    yield from sorted(of_members, key=lambda checkout: (checkout.member_id or 0, checkout.wallet_id or 0, checkout.pk))
