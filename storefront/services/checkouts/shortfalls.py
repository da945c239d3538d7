"""What of a price could not be taken any more when a payment that was made in time was told late.

The shopper has paid the money that was quoted. Points that are gone are a discount that the shop gave: each line costs
less by them, so that they earn nothing, are no spend and cannot be refunded. A coupon that is gone was one already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils import translation
from django.utils.translation import gettext as _

from core.money import allocate, format_minor
from coupons.services.late_uses import NotTaken
from storefront.models import Checkout
from storefront.pricing import Stage

# The step of a price by which the shop gives what points no longer pay.
SHORTFALL = "shortfall"


def drop_points(checkout: Checkout, *, taken: int) -> None:
    """Let a checkout cost what it does when only so many of its points can be taken. It is not saved.

    Units: whole steps of points, as many as the checkout has or fewer.
    """
    if taken == checkout.points:
        return
    lines = checkout.price["lines"]
    quoted = [line["paid_in_points_minor"] for line in lines]
    paid = allocate(sum(quoted) * taken // checkout.points, quoted)
    gone = [before - after for before, after in zip(quoted, paid, strict=True)]
    with translation.override(checkout.price["language"]):
        changed = [
            _drop(line, part, minor, points, checkout.currency)
            for line, part, minor, points in zip(lines, gone, paid, allocate(taken, paid), strict=True)
        ]
    _shortfall(checkout).update(
        points=checkout.points - taken,
        amount_minor=sum(gone),
        lines={line["external_id"]: part for line, part in zip(lines, gone, strict=True) if part},
    )
    checkout.price = _drop_total(checkout.price, sum(gone), taken) | {"lines": changed}
    checkout.points, checkout.amount_minor = taken, checkout.amount_minor - sum(gone)


def note_coupons(checkout: Checkout, missing: Sequence[NotTaken]) -> None:
    """Note which coupons of a checkout its order could not use. It is not saved."""
    if missing:
        _shortfall(checkout)["coupons"] = [one._asdict() for one in missing]


def part_of_line(checkout: Checkout, line: str) -> int:
    """Return by how much less a line costs than was quoted."""
    parts: Mapping[str, int] = checkout.shortfall["lines"] if checkout.shortfall else {}
    return parts.get(line, 0)


def show_shortfall(checkout: Checkout) -> dict[str, Any] | None:
    """Return what could not be taken, in sentences of the active language; None if everything was."""
    short = checkout.shortfall
    if short is None:
        return None
    points = None
    if short["points"]:
        told = {"points": f"{short['points']:,}", "amount": format_minor(short["amount_minor"], checkout.currency)}
        points = {
            "points": short["points"],
            "amount_minor": short["amount_minor"],
            "text": _("%(points)s points were no longer there: the shop gave %(amount)s.") % told,
        }
    return {"points": points, "coupons": [one | {"text": _explain_coupon(one)} for one in short["coupons"]]}


def find_shortfall(order_id: int) -> dict[str, Any] | None:
    """Return what an order could not take of the checkout that it paid, as `show_shortfall` does."""
    checkout = Checkout.objects.filter(order=order_id).first()
    return show_shortfall(checkout) if checkout else None


def _shortfall(checkout: Checkout) -> dict[str, Any]:
    if checkout.shortfall is None:
        checkout.shortfall = {"points": 0, "amount_minor": 0, "lines": {}, "coupons": []}
    shortfall: dict[str, Any] = checkout.shortfall
    return shortfall


def _drop(line: Mapping[str, Any], gone: int, paid: int, points: int, currency: str) -> dict[str, Any]:
    """Return a line that costs less by the part of its points that is gone."""
    if not gone:
        return dict(line)
    before = line["amount_minor"]
    steps = [step for step in line["steps"] if step["stage"] != Stage.POINTS]
    given, pay = _("Points that were no longer there: the shop gives %(amount)s."), _("Points pay %(amount)s.")
    steps.append(_step(SHORTFALL, gone, before - gone, given, currency))
    if paid:
        steps.append(_step(Stage.POINTS, paid, before - gone - paid, pay, currency))
    return {
        **line,
        "discount_minor": line["discount_minor"] + gone,
        "amount_minor": before - gone,
        "paid_in_points_minor": paid,
        "points": points,
        "steps": steps,
    }


def _step(stage: str, off: int, left: int, text: str, currency: str) -> dict[str, Any]:
    told = text % {"amount": format_minor(off, currency)}
    return {"stage": stage, "code": "", "change_minor": -off, "left_minor": left, "text": told}


def _drop_total(price: Mapping[str, Any], gone: int, taken: int) -> dict[str, Any]:
    paid = price["paid_in_points_minor"] - gone
    return {
        **price,
        "discount_minor": price["discount_minor"] + gone,
        "amount_minor": price["amount_minor"] - gone,
        "paid_in_points_minor": paid,
        "points": {**price["points"], "points": taken, "amount_minor": paid},
    }


def _explain_coupon(coupon: Mapping[str, Any]) -> str:
    reasons = {
        "held_in_checkout": _("“%(name)s” is in use in another checkout."),
        "already_used": _("“%(name)s” has been used meanwhile."),
        "revoked": _("“%(name)s” was taken back meanwhile."),
        "all_given_out": _("All coupons “%(name)s” were given out meanwhile."),
        "code_gone": _("The code of “%(name)s” is no longer to be had."),
        "ended": _("“%(name)s” has ended."),
        "member_suspended": _("“%(name)s” cannot be used while the membership is suspended."),
    }
    return reasons[coupon["reason"]] % {"name": coupon["name"]}
