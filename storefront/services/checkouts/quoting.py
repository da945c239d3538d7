"""Quotes: what a basket costs now, kept to be held or paid."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from core.models import Program
from storefront.checkout_inputs import CheckoutInput
from storefront.checkout_story import tell_price
from storefront.models import Checkout
from storefront.quotes import work_out


def lifetime() -> timedelta:
    """Return for how long a quote stands, and a hold after it."""
    return timedelta(minutes=settings.CHECKOUT_MINUTES)


@transaction.atomic
def quote(*, program: Program, told: CheckoutInput, at: datetime) -> Checkout:
    """Work out what a basket costs and keep it, explained in the active language. Nothing is set aside.

    Raises: BadFact for a member, a wallet or lines that cannot be.
    """
    quoted = work_out(program=program, told=told, at=at)
    return Checkout.objects.create(
        program=program,
        member=quoted.member,
        market=told.basket.market,
        currency=told.basket.currency,
        basket=told.to_json(),
        price=tell_price(quoted, time_zone=program.time_zone),
        combination=[(one.code, one.claim) for one in quoted.price.evaluation.combined],
        digest=quoted.digest,
        amount_minor=quoted.price.amount_minor,
        wallet=quoted.wallet if quoted.points else None,
        points=quoted.points,
        quoted_at=at,
        lapses_at=at + lifetime(),
    )
