"""What of a price is not what it was when it was quoted."""

from collections.abc import Iterator

from core.money import format_minor
from storefront.checkout_inputs import Difference
from storefront.models import Checkout
from storefront.quotes import Quote


def find_differences(checkout: Checkout, now: Quote) -> list[Difference]:
    """Return what differs between a checkout and what its basket costs now."""
    return list(_differences(checkout, now))


def _differences(checkout: Checkout, now: Quote) -> Iterator[Difference]:
    was, price, currency = checkout.price, now.price, checkout.currency

    def money(field: str, before: int, after: int) -> Iterator[Difference]:
        if before != after:
            reason = f"was {format_minor(before, currency)}, is {format_minor(after, currency)}"
            yield Difference(field, reason)

    for index, line in enumerate(was["lines"]):
        yield from money(f"lines.{index}.amount_minor", line["amount_minor"], price.amounts[index])
        yield from money(f"lines.{index}.paid_in_points_minor", line["paid_in_points_minor"], price.in_points[index])
    yield from money("shipping.amount_minor", was["shipping"]["amount_minor"], price.shipping_minor)
    yield from money("amount_minor", was["amount_minor"], price.amount_minor)
    if checkout.points != now.points:
        yield Difference("points.points", f"was {checkout.points:,}, is {now.points:,}")
    before = [applied["code"] for applied in was["coupons"]["applied"]]
    after = [applied.candidate.code for applied in price.evaluation.applied]
    if before != after:
        yield Difference("coupons", f"was {', '.join(before) or 'none'}, is {', '.join(after) or 'none'}")
