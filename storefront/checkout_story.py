"""A price as it is stored and shown: step by step for each line, with sentences in the active language."""

from collections.abc import Iterator
from typing import Any

from django.utils.translation import get_language
from django.utils.translation import gettext as _

from core.money import format_minor
from coupons.explain import explain_applied, explain_code, explain_refused
from points.tender import explain_tender
from storefront.pricing import Price, Stage, Step
from storefront.quotes import Quote


def tell_price(quote: Quote, *, time_zone: str) -> dict[str, Any]:
    """Return what a basket costs and why; instants are told in the zone."""
    price, basket = quote.price, quote.told.basket
    return {
        "language": get_language() or "en",
        "lines": [_line(price, index) for index in range(len(basket.lines))],
        "shipping": {
            "list_minor": basket.shipping_minor,
            "amount_minor": price.shipping_minor,
            "steps": list(_steps(price, None)),
        },
        "list_minor": sum(line.list_minor for line in basket.lines) + basket.shipping_minor,
        "discount_minor": sum(price.discounts) + basket.shipping_minor - price.shipping_minor,
        "tax_minor": sum(line.tax_minor for line in basket.lines),
        "amount_minor": price.amount_minor,
        "paid_in_points_minor": price.in_points_minor,
        "to_pay_minor": price.money_minor,
        "coupons": _coupons(quote, time_zone),
        "points": _points(quote),
        "tier": quote.benefits.tier,
        "earns": None
        if quote.earns is None
        else [{"wallet": code, "points": points} for code, points in sorted(quote.earns.items())],
    }


def _line(price: Price, index: int) -> dict[str, Any]:
    line = price.basket.lines[index]
    return {
        "external_id": line.key,
        "sku": line.sku,
        "category": line.category,
        "units": line.units,
        "list_minor": line.list_minor,
        "discount_minor": price.discounts[index],
        "tax_minor": line.tax_minor,
        "amount_minor": price.amounts[index],
        "paid_in_points_minor": price.in_points[index],
        "points": price.points[index],
        "steps": list(_steps(price, index)),
    }


def _steps(price: Price, index: int | None) -> Iterator[dict[str, Any]]:
    """Yield what each step did to a line, or to shipping, and what it left."""
    left = price.basket.shipping_minor if index is None else price.basket.lines[index].list_minor
    for step in price.steps:
        change = step.shipping_minor if index is None else step.line_minor[index]
        if change:
            left += change
            text = _sentence(step, format_minor(abs(change), price.basket.currency))
            yield {"stage": step.stage, "code": step.code, "change_minor": change, "left_minor": left, "text": text}


def _sentence(step: Step, amount: str) -> str:
    told = {"amount": amount, "code": step.code}
    texts = {
        Stage.TIER_DISCOUNT: _("The tier %(code)s takes off %(amount)s."),
        Stage.LINE_COUPON: _("The coupon %(code)s takes off %(amount)s."),
        Stage.ORDER_COUPON: _("The coupon %(code)s takes off %(amount)s as its share of the order."),
        Stage.FREE_SHIPPING: _("The tier %(code)s ships for nothing: %(amount)s off."),
        Stage.SHIPPING_COUPON: _("The coupon %(code)s takes off %(amount)s of the shipping."),
        Stage.TAX: _("Tax adds %(amount)s."),
        Stage.POINTS: _("Points pay %(amount)s."),
    }
    return texts[step.stage] % told


def _coupons(quote: Quote, time_zone: str) -> dict[str, Any]:
    evaluation, currency = quote.price.evaluation, quote.told.basket.currency
    refused = [
        {
            "code": each.candidate.code,
            "claim": each.candidate.claim or None,
            "reason": each.reason,
            "details": each.details,
            "text": explain_refused(each, time_zone),
        }
        for each in evaluation.refused
    ]
    if not quote.is_spender:
        reason = "no_member" if quote.member is None else "member_suspended"
        refused += [_refused_code(code, reason, {}, _no_spender(quote)) for code in quote.told.codes]
    refused += [
        _refused_code(code, one.reason, one.details, explain_code(one, time_zone))
        for code, one in quote.unknown_codes.items()
    ]
    return {
        "applied": [
            {
                "code": each.candidate.code,
                "claim": each.candidate.claim or None,
                "name": each.candidate.terms.name,
                "discount_minor": each.discount_minor,
                "shipping_minor": each.shipping_minor,
                "text": explain_applied(each, currency),
            }
            for each in evaluation.applied
        ],
        "refused": refused,
        "exact": evaluation.exact,
        "gap_minor": evaluation.gap_minor,
    }


def _refused_code(code: str, reason: str, details: dict[str, Any], text: str) -> dict[str, Any]:
    return {"code": code, "claim": None, "reason": reason, "details": details, "text": text}


def _no_spender(quote: Quote) -> str:
    if quote.member is None:
        return _("Coupons and points are for members.")
    return _("Coupons and points cannot be used while the membership is suspended.")


def _points(quote: Quote) -> dict[str, Any] | None:
    """Return how points are used; None where none were asked for."""
    if quote.wallet is None or quote.policy is None:
        return None
    tender, currency = quote.price.tender, quote.told.basket.currency
    reason: str | None = "no_member" if quote.member is None else "member_suspended"
    sentences = [_no_spender(quote)]
    if tender is not None:
        reason, sentences = tender.reason, explain_tender(tender, quote.policy, currency=currency)
    return {
        "wallet": quote.wallet.code,
        "asked": quote.told.points,
        "points": quote.points,
        "amount_minor": quote.price.in_points_minor,
        "reason": reason,
        "sentences": sentences,
    }
