"""What a basket costs, step by step: pure arithmetic, the same for quote and hold.

List price -> tier discount off each line -> line coupons -> order coupons -> free shipping of the tier, then shipping
coupons -> tax as told -> points. Each step hands on whole minor units of every line, none below zero. Points are a way
to pay: they do not change what a line costs. They pay for lines with their tax, not for shipping.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from core.money import BPS, allocate
from coupons import rules as coupons
from coupons.definitions import FreeShipping
from points.tender import Tender


class Stage(StrEnum):
    """The steps of a price, in their order."""

    TIER_DISCOUNT = "tier_discount"
    LINE_COUPON = "line_coupon"
    ORDER_COUPON = "order_coupon"
    FREE_SHIPPING = "free_shipping"
    SHIPPING_COUPON = "shipping_coupon"
    TAX = "tax"
    POINTS = "points"


_COUPON_STAGES = (Stage.LINE_COUPON, Stage.ORDER_COUPON, Stage.SHIPPING_COUPON)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a basket. `list_minor`: the list price of all its units; `tax_minor`: what is added to what is paid."""

    key: str
    units: int
    list_minor: int
    tax_minor: int = 0
    sku: str = ""
    category: str = ""


@dataclass(frozen=True, slots=True)
class Basket:
    """What is about to be bought."""

    currency: str
    lines: tuple[Line, ...]
    shipping_minor: int = 0
    market: str = ""


@dataclass(frozen=True, slots=True)
class Benefits:
    """What the tier gives at a checkout; no tier gives nothing."""

    tier: str = ""
    discount_bps: int = 0
    has_free_shipping: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a step adds to each line and to shipping: negative where it takes off."""

    stage: Stage
    code: str
    line_minor: tuple[int, ...]
    shipping_minor: int = 0


@dataclass(frozen=True)
class Price:
    """A basket with the steps that lead to what is paid for it. Amounts by line are in the order of its lines."""

    basket: Basket
    steps: tuple[Step, ...]
    evaluation: coupons.Evaluation
    coupon_basket: coupons.Basket
    tender: Tender | None

    @cached_property
    def amounts(self) -> tuple[int, ...]:
        """What each line costs, with its tax, however it is paid."""
        changes = self._sum(step for step in self.steps if step.stage is not Stage.POINTS)
        return tuple(line.list_minor + change for line, change in zip(self.basket.lines, changes, strict=True))

    @cached_property
    def discounts(self) -> tuple[int, ...]:
        """What came off the list price of each line."""
        off = (step for step in self.steps if step.stage not in (Stage.TAX, Stage.POINTS))
        return tuple(-change for change in self._sum(off))

    @cached_property
    def in_points(self) -> tuple[int, ...]:
        """What of each line is paid in points."""
        return tuple(-change for change in self._sum(step for step in self.steps if step.stage is Stage.POINTS))

    @cached_property
    def points(self) -> tuple[int, ...]:
        """How many points each line takes."""
        return tuple(allocate(self.tender.points if self.tender else 0, self.in_points))

    @cached_property
    def shipping_minor(self) -> int:
        return self.basket.shipping_minor + sum(step.shipping_minor for step in self.steps)

    @property
    def amount_minor(self) -> int:
        """All that is paid, in money and points."""
        return sum(self.amounts) + self.shipping_minor

    @property
    def in_points_minor(self) -> int:
        return sum(self.in_points)

    @property
    def money_minor(self) -> int:
        return self.amount_minor - self.in_points_minor

    def _sum(self, steps: Iterable[Step]) -> list[int]:
        chosen = list(steps)
        return [sum(step.line_minor[i] for step in chosen) for i in range(len(self.basket.lines))]


def price(
    basket: Basket,
    *,
    benefits: Benefits,
    evaluate: Callable[[coupons.Basket], coupons.Evaluation],
    tender: Callable[[int], Tender] | None,
) -> Price:
    """Return what a basket costs.

    evaluate: the coupons off a basket. tender: the points for an amount to be paid, None if none are to be used.
    """
    steps = [_tier_discount(basket, benefits)]
    if benefits.has_free_shipping:
        steps.append(Step(Stage.FREE_SHIPPING, benefits.tier, _nothing(basket), -basket.shipping_minor))
    left = basket.shipping_minor + sum(step.shipping_minor for step in steps)
    coupon_basket = coupons.Basket(
        currency=basket.currency,
        lines=tuple(
            coupons.Line(line.key, line.sku, line.category, line.units, line.list_minor, line.list_minor + off)
            for line, off in zip(basket.lines, steps[0].line_minor, strict=True)
        ),
        shipping_minor=left,
        market=basket.market,
    )
    evaluation = evaluate(coupon_basket)
    steps += [_coupon(applied) for applied in evaluation.applied]
    steps.append(Step(Stage.TAX, "", tuple(line.tax_minor for line in basket.lines)))
    paid = None
    if tender is not None:
        amounts = [line.list_minor + sum(s.line_minor[i] for s in steps) for i, line in enumerate(basket.lines)]
        paid = tender(sum(amounts))
        steps.append(Step(Stage.POINTS, "", tuple(-part for part in allocate(paid.amount_minor, amounts))))
    order = list(Stage)
    told = sorted((s for s in steps if any(s.line_minor) or s.shipping_minor), key=lambda s: order.index(s.stage))
    return Price(basket, tuple(told), evaluation, coupon_basket, paid)


def _tier_discount(basket: Basket, benefits: Benefits) -> Step:
    off = tuple(-(line.list_minor * benefits.discount_bps // BPS) for line in basket.lines)
    return Step(Stage.TIER_DISCOUNT, benefits.tier, off)


def _coupon(applied: coupons.Applied) -> Step:
    terms = applied.candidate.terms
    is_shipping = isinstance(terms.discount, FreeShipping)
    line, order, shipping = _COUPON_STAGES
    stage = shipping if is_shipping else line if terms.has_scope else order
    return Step(stage, applied.candidate.code, tuple(-off for off in applied.line_minor), -applied.shipping_minor)


def _nothing(basket: Basket) -> tuple[int, ...]:
    return (0,) * len(basket.lines)
