"""What each type of event carries as `data`: the shapes of docs/events.md, for the OpenAPI document.

A type keeps its keys for ever; a new key may join them.
"""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from core.api.types import Instant
from core.event_types import EventType


class EventData(BaseModel):
    """The data of an event; `member` is the external id of the member it is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MemberUpdatedData(EventData):
    member: str


class MemberEnrolledData(MemberUpdatedData):
    kind: str
    joined_at: Instant


class _Amounts(EventData):
    """Minor units of the currency, and of the program's; `member`: null of a guest's."""

    member: str | None
    amount_minor: int
    currency: str
    program_amount_minor: int


class OrderPaidData(_Amounts):
    order: str
    paid_at: Instant


class OrderEditedData(_Amounts):
    edit: str
    order: str
    edited_at: Instant


class RefundRecordedData(_Amounts):
    refund: str
    order: str | None
    refunded_at: Instant


class ActivityRecordedData(EventData):
    activity: str
    source: str
    member: str
    kind: str
    occurred_at: Instant


class FactCorrectedData(EventData):
    """A fact that says something else now; `is_void`: it never happened. `member`: null of a guest's."""

    member: str | None
    fact_kind: Literal["activity", "order"]
    fact: str
    source: str
    correction: str
    is_void: bool


class PointsData(EventData):
    """Points of a wallet; `seq` numbers the posting in it."""

    member: str
    wallet: str
    seq: int
    points: int


class PointsEarnedData(PointsData):
    order: str | None
    activity: str | None
    available_at: Instant | None
    expires_at: Instant | None


class PointsClawedBackData(PointsData):
    order: str | None
    refund: str | None


class PointsReversedData(PointsData):
    reverses: int | None


class PointsDueData(PointsData):
    opened_in: int | None


class PointsSettledData(PointsData):
    hold: int | None


class PointsGivenBackData(PointsData):
    order: str | None
    refund: str | None
    hold: int | None


class PointsCorrectedData(EventData):
    """Points that will be added, or taken back (negative); `fact` is what came late or was corrected."""

    member: str
    wallet: str
    points: int
    order: str | None
    activity: str | None
    fact_kind: str | None
    fact: str | None


class PointsExpiringData(EventData):
    member: str
    wallet: str
    points: int
    expires_at: Instant


class TierData(EventData):
    member: str
    ladder: str
    tier: str
    previous_tier: str | None
    valid_from: Instant


class CouponIssuedData(EventData):
    claim: UUID
    member: str
    coupon: str
    code: str | None
    source: str | None
    valid_from: Instant | None
    expires_at: Instant | None


class CouponUseData(EventData):
    """A coupon in a checkout; amounts in minor units of the currency."""

    redemption: UUID
    claim: UUID | None
    member: str
    coupon: str
    reference: str
    order: str | None
    currency: str
    discount_minor: int
    shipping_discount_minor: int


class CouponReversedData(CouponUseData):
    reversed_minor: int
    is_whole: bool
    outcome: Literal["kept", "restored", "lost"] | None
    expires_at: Instant | None


class FirstOrderUsedData(CouponUseData):
    first_order: str | None


class ShortfallCoupon(EventData):
    """A coupon that could not be used any more, and why."""

    coupon: str
    discount_minor: int
    shipping_discount_minor: int
    reason: str


class CheckoutShortfallData(EventData):
    """What a checkout that was paid in time could not take any more; amounts in minor units of the currency."""

    checkout: UUID
    order: str
    member: str | None
    currency: str
    wallet: str | None
    points: int
    amount_minor: int
    coupons: list[ShortfallCoupon]


class CodesGuessedData(EventData):
    wrong_codes: int
    seconds: int


class ReferralData(EventData):
    referral: str
    member: str
    referrer: str
    source: str
    bound_at: Instant


class ReferralRewardData(EventData):
    reward: str
    referral: str
    member: str
    level: int
    event: str
    wallet: str | None
    points: int | None
    coupon: str | None


class WebhookTestData(EventData):
    endpoint: UUID


DATA: Mapping[EventType, type[EventData]] = {
    EventType.MEMBER_ENROLLED: MemberEnrolledData,
    EventType.MEMBER_UPDATED: MemberUpdatedData,
    EventType.ORDER_PAID: OrderPaidData,
    EventType.ORDER_EDITED: OrderEditedData,
    EventType.REFUND_RECORDED: RefundRecordedData,
    EventType.ACTIVITY_RECORDED: ActivityRecordedData,
    EventType.FACT_CORRECTED: FactCorrectedData,
    EventType.POINTS_EARNED: PointsEarnedData,
    EventType.POINTS_REDEEMED: PointsData,
    EventType.POINTS_ADJUSTED: PointsData,
    EventType.POINTS_CLAWED_BACK: PointsClawedBackData,
    EventType.POINTS_REVERSED: PointsReversedData,
    EventType.POINTS_VESTED: PointsDueData,
    EventType.POINTS_EXPIRED: PointsDueData,
    EventType.POINTS_EXPIRING: PointsExpiringData,
    EventType.POINTS_CORRECTED: PointsCorrectedData,
    EventType.POINTS_HELD: PointsData,
    EventType.POINTS_CAPTURED: PointsSettledData,
    EventType.POINTS_RELEASED: PointsSettledData,
    EventType.POINTS_GIVEN_BACK: PointsGivenBackData,
    EventType.TIER_UPGRADED: TierData,
    EventType.TIER_DOWNGRADED: TierData,
    EventType.TIER_OVERRIDDEN: TierData,
    EventType.TIER_CORRECTED: TierData,
    EventType.COUPON_ISSUED: CouponIssuedData,
    EventType.COUPON_REVOKED: CouponIssuedData,
    EventType.COUPON_HELD: CouponUseData,
    EventType.COUPON_REDEEMED: CouponUseData,
    EventType.COUPON_RELEASED: CouponUseData,
    EventType.COUPON_REVERSED: CouponReversedData,
    EventType.COUPON_FIRST_ORDER_USED: FirstOrderUsedData,
    EventType.CHECKOUT_SHORTFALL: CheckoutShortfallData,
    EventType.COUPON_CODES_GUESSED: CodesGuessedData,
    EventType.REFERRAL_BOUND: ReferralData,
    EventType.REFERRAL_QUALIFIED: ReferralData,
    EventType.REFERRAL_FLAGGED: ReferralData,
    EventType.REFERRAL_REWARDED: ReferralRewardData,
    EventType.REFERRAL_REJECTED: ReferralData,
    EventType.REFERRAL_CLAWED_BACK: ReferralRewardData,
    EventType.REFERRAL_REOPENED: ReferralData,
    EventType.WEBHOOK_TEST: WebhookTestData,
}


def add_webhooks(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Say in the OpenAPI document what is sent to webhooks, type by type: the feed's events have the same data."""
    models = dict.fromkeys(DATA.values())
    _names, document = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    result["components"]["schemas"] |= document["$defs"]
    result["webhooks"] = {kind.value: _webhook(kind, model.__name__) for kind, model in DATA.items()}
    return result


def _webhook(kind: EventType, data: str) -> dict[str, Any]:
    typed = {"type": {"type": "string", "const": kind.value}, "data": {"$ref": f"#/components/schemas/{data}"}}
    message = {"allOf": [{"$ref": "#/components/schemas/EventAnswer"}, {"type": "object", "properties": typed}]}
    names = {
        "webhook-id": "The event's id",
        "webhook-timestamp": "The second of the attempt",
        "webhook-signature": "`v1,` and the signature; during a rotation two with a blank between",
    }
    return {
        "post": {
            "operationId": "receive_" + kind.value.replace(".", "_"),
            "summary": f"{kind.value} happened",
            "tags": ["events"],
            "security": [],
            "parameters": [
                {"name": name, "in": "header", "required": True, "description": told, "schema": {"type": "string"}}
                for name, told in names.items()
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": message}}},
            "responses": {"2XX": {"description": "Received; anything else is sent again"}},
        }
    }
