"""The row locks of storefront. A checkout comes before everything that it moves: facts, coupons, points."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from storefront.models import Checkout, CheckoutState


def lock_checkouts(program_id: int, public_ids: Collection[UUID]) -> list[Checkout]:
    """Lock checkouts of a program, ascending, until the transaction ends: of two who pay or hold one, one is first.

    The order is not read with them: what is joined is as it was before the lock was waited for.
    """
    checkouts = Checkout.objects.select_for_update(no_key=True, of=("self",)).select_related("member")
    return list(checkouts.filter(program_id=program_id, public_id__in=public_ids).order_by("pk"))


def lock_lapsed_checkout(*, at: datetime) -> Checkout | None:
    """Lock a held checkout that has lapsed, leaving out those that somebody else works on."""
    held = Checkout.objects.filter(state=CheckoutState.HELD, closed_at=None, lapses_at__lte=at).order_by("lapses_at")
    held = held.select_related("program")
    return held.select_for_update(no_key=True, skip_locked=True, of=("self",)).first()


def lock_lapsed_quotes(*, at: datetime, limit: int) -> list[int]:
    """Lock quotes that have lapsed without a hold, leaving out those that somebody else works on."""
    quotes = Checkout.objects.filter(state=CheckoutState.QUOTED, closed_at=None, lapses_at__lte=at)
    locked = quotes.select_for_update(no_key=True, skip_locked=True).order_by("lapses_at")
    return list(locked.values_list("pk", flat=True)[:limit])
