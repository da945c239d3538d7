"""Facts as the API shows them, and what followed from them."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from core.api.pages import PageOf
from core.api.types import Answer, Outcome
from membership.models import Activity, Order, OrderEdit, OrderLine, Refund
from storefront.refund_splits import Splits, read_splits

OrderStatus = Literal["paid", "returned"]


class OrderLineAnswer(Answer):
    """A line and what has come back of it; `edit`: the edit that added it.

    `returned_minor`: what was told to come back of its amount, by refunds of the line and of the order;
    `returned_program_minor`: that share of its program amount.
    """

    external_id: str
    edit: str | None
    sku: str
    category: str
    units: int
    amount_minor: int
    program_amount_minor: int
    discount_minor: int
    paid_in_points_minor: int
    returned_units: int
    returned_minor: int
    returned_program_minor: int


class OrderEditAnswer(Answer):
    """An edit and what its lines cost. What it removed is the refund `<order>:<edit>`."""

    external_id: str
    edited_at: datetime
    amount_minor: int
    program_amount_minor: int
    recorded_at: datetime


class RefundSummary(Answer):
    """A refund. `program_amount_minor`: what it counts against spend. `goodwill_minor`: given on top of the amount."""

    external_id: str
    member: str | None
    order: str | None
    refunded_at: datetime
    currency: str
    amount_minor: int
    program_amount_minor: int
    goodwill_minor: int
    recorded_at: datetime


class RefundPage(PageOf):
    """Refunds, the last recorded first."""

    results: list[RefundSummary]


class RefundLineAnswer(Answer):
    """What came back of an order line: units, or money alone; and what of the order line goes back with it.

    `money_minor` in money, `in_points_minor` in points, which are `points` where a checkout was paid with them (null:
    the storefront settles points by itself). What is told above what is left of a line gives nothing back.
    """

    external_id: str
    order: str | None
    order_line: str | None
    sku: str
    units: int | None
    amount_minor: int
    program_amount_minor: int
    money_minor: int
    in_points_minor: int
    points: int | None


class RefundAnswer(RefundSummary):
    """A refund with its lines, and what it gives back in all: in money and in points, as of its lines.

    It gives what all refunds of its orders up to its date give, less what those before it give. A refund that is told
    late, with an earlier date, changes the later ones.
    """

    money_minor: int
    in_points_minor: int
    points: int | None
    lines: list[RefundLineAnswer]


class OrderSummary(Answer):
    """An order. `returned`: all of it has come back."""

    external_id: str
    member: str | None
    status: OrderStatus
    paid_at: datetime
    currency: str
    amount_minor: int
    program_amount_minor: int
    market: str
    country: str
    channel: str
    device: str
    returned_at: datetime | None
    recorded_at: datetime


class OrderPage(PageOf):
    """Orders, the last recorded first."""

    results: list[OrderSummary]


class OrderAnswer(OrderSummary):
    """An order with all its lines, its edits and its refunds."""

    lines: list[OrderLineAnswer]
    edits: list[OrderEditAnswer]
    refunds: list[RefundAnswer]


class ActivityAnswer(Answer):
    """Something a member did, as corrected. `voided_at`: when it was found that it never happened."""

    external_id: str
    member: str
    kind: str
    source: str
    occurred_at: datetime
    quality: int | None
    order: str | None
    product: str
    recorded_at: datetime
    voided_at: datetime | None


class ActivityPage(PageOf):
    """Activities, the last recorded first."""

    results: list[ActivityAnswer]


class PointsEffect(Answer):
    """Points that a fact earned in a wallet, or took back (negative)."""

    wallet: str
    points: int


class TierEffect(Answer):
    """The tier held when it happened, and the one held from then on; null before the first one."""

    ladder: str
    before: str | None
    after: str | None


class Effect(Answer):
    """What followed from a fact for its member; nothing for a guest."""

    points: list[PointsEffect]
    tiers: list[TierEffect]


class MissingPointsAnswer(Answer):
    """Points that a checkout had held and that were no longer there, and what they did not pay."""

    points: int
    amount_minor: int
    text: str


class MissingCouponAnswer(Answer):
    """A coupon that a checkout had held and that could not be used any more; what it takes off stays off."""

    code: str
    name: str
    discount_minor: int
    shipping_minor: int
    reason: Literal[
        "held_in_checkout", "already_used", "revoked", "all_given_out", "code_gone", "ended", "member_suspended"
    ]
    text: str


class ShortfallAnswer(Answer):
    """What an order that was paid in time and told late could not take of its checkout: the shop gave it."""

    points: MissingPointsAnswer | None
    coupons: list[MissingCouponAnswer]


class OrderRecorded(Answer):
    """The order as it is stored now, and what followed from what was told."""

    outcome: Outcome
    order: OrderAnswer
    effect: Effect


class PaidOrderRecorded(OrderRecorded):
    """The order as it is stored now, and what followed from its payment.

    `shortfall`: what it could not take of the checkout that it pays, because it was told late; the order is without it.
    """

    shortfall: ShortfallAnswer | None


class RefundRecorded(Answer):
    """The refund as it is stored, and what followed from it."""

    outcome: Outcome
    refund: RefundAnswer
    effect: Effect


class ActivityRecorded(Answer):
    """The activity as it is stored, and what followed from it."""

    outcome: Outcome
    activity: ActivityAnswer
    effect: Effect


def show_order(order: Order) -> dict[str, Any]:
    """Return an order as a list shows it. It has its member selected."""
    return {
        "external_id": order.external_id,
        "member": order.member.external_id if order.member else None,
        "status": "returned" if order.returned_at else "paid",
        "paid_at": order.paid_at,
        "currency": order.currency,
        "amount_minor": order.amount_minor,
        "program_amount_minor": order.program_amount_minor,
        "market": order.market,
        "country": order.country,
        "channel": order.channel,
        "device": order.device,
        "returned_at": order.returned_at,
        "recorded_at": order.recorded_at,
    }


def show_refund(refund: Refund) -> dict[str, Any]:
    """Return a refund as a list shows it. It has its member and order selected."""
    return {
        "external_id": refund.external_id,
        "member": refund.member.external_id if refund.member else None,
        "order": refund.order.external_id if refund.order else None,
        "refunded_at": refund.refunded_at,
        "currency": refund.currency,
        "amount_minor": refund.amount_minor,
        "program_amount_minor": refund.counted_minor,
        "goodwill_minor": refund.goodwill_minor,
        "recorded_at": refund.recorded_at,
    }


def show_activity(activity: Activity) -> dict[str, Any]:
    """Return an activity. It has its member selected."""
    return {
        "external_id": activity.external_id,
        "member": activity.member.external_id,
        "kind": activity.kind,
        "source": activity.source,
        "occurred_at": activity.occurred_at,
        "quality": activity.quality,
        "order": activity.order or None,
        "product": activity.product,
        "recorded_at": activity.recorded_at,
        "voided_at": activity.voided_at,
    }


def show_refund_whole(refund: Refund, splits: Splits) -> dict[str, Any]:
    """Return a refund with its lines, which it has prefetched with their order lines and orders."""
    split = splits.of(refund)
    return show_refund(refund) | {
        **asdict(split.whole),
        "lines": [
            {
                "external_id": line.external_id,
                "order": line.order_line.order.external_id if line.order_line else None,
                "order_line": line.order_line.external_id if line.order_line else None,
                "sku": line.sku,
                "units": line.units,
                "amount_minor": line.amount_minor,
                "program_amount_minor": line.program_amount_minor,
                **asdict(split.lines[line.pk]),
            }
            for line in refund.lines.all()
        ],
    }


def show_order_whole(
    order: Order, lines: list[OrderLine], edits: list[OrderEdit], refunds: list[Refund]
) -> dict[str, Any]:
    """Return an order with its lines, its edits, and the refunds that touch it."""
    splits = read_splits(refunds)
    found = splits.find_order(order.pk)
    back = {pk: line.returned_minor for pk, line in found.lines.items()} if found else {}
    names = {edit.pk: edit.external_id for edit in edits}
    return show_order(order) | {
        "lines": [
            {
                "external_id": line.external_id,
                "edit": names[line.edit_id] if line.edit_id else None,
                "sku": line.sku,
                "category": line.category,
                "units": line.units,
                "amount_minor": line.amount_minor,
                "program_amount_minor": line.program_amount_minor,
                "discount_minor": line.discount_minor,
                "paid_in_points_minor": line.paid_in_points_minor,
                "returned_units": line.returned_units,
                "returned_minor": back.get(line.pk, 0),
                "returned_program_minor": _program_share(line, back.get(line.pk, 0)),
            }
            for line in lines
        ],
        "edits": [
            {
                "external_id": edit.external_id,
                "edited_at": edit.edited_at,
                "amount_minor": edit.amount_minor,
                "program_amount_minor": edit.program_amount_minor,
                "recorded_at": edit.recorded_at,
            }
            for edit in edits
        ],
        "refunds": [show_refund_whole(refund, splits) for refund in refunds],
    }


def _program_share(line: OrderLine, minor: int) -> int:
    return line.program_amount_minor * minor // line.amount_minor if line.amount_minor else 0
