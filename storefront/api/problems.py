"""Refusals of checkouts, as problems."""

from django.utils.text import capfirst

from core.api.problems import FieldError, Problem, pointer, translates
from storefront.checkout_inputs import CheckoutRefused, QuoteChanged

# What the order or the checkout told cannot be; everything else is a matter of when.
UNPROCESSABLE = (
    "basket_changed",
    "checkout_of_other_member",
    "hold_too_long",
    "paid_before_quote",
    "unknown_checkout",
)


@translates(CheckoutRefused)
def _refused(error: CheckoutRefused) -> Problem:
    errors = [FieldError(pointer=pointer(error.field.split(".")), code=error.code, detail=error.reason)]
    status = 422 if error.code in UNPROCESSABLE else 409
    return Problem(status, error.code, f"{capfirst(error.reason)}.", errors=errors)


@translates(QuoteChanged)
def _changed(error: QuoteChanged) -> Problem:
    errors = [
        FieldError(pointer=pointer(each.field.split(".")), code="quote_changed", detail=each.reason)
        for each in error.differences
    ]
    return Problem(409, "quote_changed", "The basket does not cost any more what was quoted.", errors=errors)
