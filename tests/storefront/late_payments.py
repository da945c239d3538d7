"""An order that is told late, when a coupon that its checkout had held is gone."""

from datetime import datetime, timedelta

from core.models import Program
from coupons.services import claims
from membership.fact_inputs import OrderInput, OrderLineInput
from membership.models import Member
from storefront.checkout_inputs import CheckoutInput
from storefront.pricing import Basket, Line
from storefront.services import intake
from storefront.services.checkouts import holding, quoting
from tests.coupons.giving import publish


def pay_late(program: Program, *, at: datetime, member: str = "m0") -> None:
    """Hold a checkout an hour ago, let it lapse, take its coupon back, and tell of the order that was paid in time."""
    held_at = at - timedelta(hours=1)
    publish(program, "gone", how="issued", at=held_at)
    member_id = Member.objects.get(program=program, external_id=member).pk
    claim = claims.issue(program=program, member_id=member_id, definition_code="gone", source="late", at=held_at)
    basket = CheckoutInput(basket=Basket("GBP", (Line("a", 1, 2_000),)), member=member, only=("gone",))
    checkout = quoting.quote(program=program, told=basket, at=held_at)
    holding.hold(program=program, public_id=checkout.public_id, at=held_at)
    holding.end_lapsed(at=at)
    claims.revoke(program=program, member_id=member_id, claim_id=claim.pk, reason="a mistake", at=at)
    order = OrderInput(
        external_id="late",
        member=member,
        paid_at=held_at,
        currency="GBP",
        amount_minor=1_500,
        checkout=str(checkout.public_id),
        lines=(OrderLineInput(external_id="a", units=1, amount_minor=1_500),),
    )
    intake.record(program=program, orders=[order], at=at)
