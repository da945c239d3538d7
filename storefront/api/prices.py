"""The price of a basket as the API shows it, step by step."""

from typing import Any, Literal
from uuid import UUID

from core.api.types import Answer


class PriceStepAnswer(Answer):
    """What a step added (taken off: negative), and what it left. `code`: the tier or the coupon."""

    stage: Literal[
        "tier_discount",
        "line_coupon",
        "order_coupon",
        "free_shipping",
        "shipping_coupon",
        "tax",
        "shortfall",
        "points",
    ]
    code: str
    change_minor: int
    left_minor: int
    text: str


class PricedLineAnswer(Answer):
    """A line from its list price to what is paid in money. `amount_minor`: what it costs, in money and points.

    The order that pays the checkout tells `amount_minor`; `points`: how many this line takes.
    """

    external_id: str
    sku: str
    category: str
    units: int
    list_minor: int
    discount_minor: int
    tax_minor: int
    amount_minor: int
    paid_in_points_minor: int
    points: int
    steps: list[PriceStepAnswer]


class PricedShippingAnswer(Answer):
    """Shipping, from what was told to what is paid for it."""

    list_minor: int
    amount_minor: int
    steps: list[PriceStepAnswer]


class AppliedCouponAnswer(Answer):
    """A coupon of the best combination, and what it takes off lines and shipping. `claim`: null if it needs none."""

    code: str
    claim: UUID | None
    name: str
    discount_minor: int
    shipping_minor: int
    text: str


class RefusedCouponAnswer(Answer):
    """A coupon, or a code that was typed, that takes nothing off, and why. `details` are the figures of the reason.

    `held_in_checkout` names the `checkout`, which can be released, and `until` when it holds the coupon.
    """

    code: str
    claim: UUID | None
    reason: str
    details: dict[str, Any]
    text: str


class PricedCouponsAnswer(Answer):
    """The best combination of coupons. Not `exact`: another may take off up to `gap_minor` more."""

    applied: list[AppliedCouponAnswer]
    refused: list[RefusedCouponAnswer]
    exact: bool
    gap_minor: int


class PricedPointsAnswer(Answer):
    """The points that are used, what they pay, and why not more."""

    wallet: str
    asked: int | None
    points: int
    amount_minor: int
    reason: str | None
    sentences: list[str]


class EarnedPointsAnswer(Answer):
    """Points that the order would earn in a wallet."""

    wallet: str
    points: int


class PriceAnswer(Answer):
    """What a basket costs, step by step, in the language asked for (Accept-Language: en, zh-hans).

    `amount_minor`: all that is paid, with shipping; `to_pay_minor` of it in money. `earns`: a preview and no promise;
    null for a guest and in another currency than the program's.
    """

    language: str
    tier: str
    lines: list[PricedLineAnswer]
    shipping: PricedShippingAnswer
    list_minor: int
    discount_minor: int
    tax_minor: int
    amount_minor: int
    paid_in_points_minor: int
    to_pay_minor: int
    coupons: PricedCouponsAnswer
    points: PricedPointsAnswer | None
    earns: list[EarnedPointsAnswer] | None
