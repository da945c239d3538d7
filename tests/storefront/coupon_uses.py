"""Everything that is told of coupons, each once or more."""

from datetime import datetime, timedelta
from typing import Any

from core.models import Program
from coupons.services import claims, first_orders, redemptions
from membership.models import Order
from tests.coupons.giving import BASKET, publish, use


def use_coupons(program: Program, *, at: datetime, member: str = "m0") -> None:
    """Issue four coupons; one is given back by its checkout, one is used by the order o1 and comes back in part.

    One is taken back. That of the order o1 was for the first order, and it is not the first.
    """
    publish(program, "birthday", how="code", valid_days=30, first_order=True, at=at)
    order = Order.objects.get(program=program, external_id="o1", member__external_id=member)
    told: dict[str, Any] = {"program": program, "member_id": order.member_id, "at": at}
    for number in range(4):
        claim = claims.issue(**told, definition_code="birthday", source=f"birthday:{number}")
        if number == 3:
            claims.revoke(**told, claim_id=claim.pk, reason="too many")
        elif number:
            held = {"reference": f"c{number}", "currency": "GBP", "applied": [use(program, claim)], "basket": BASKET}
            redemptions.hold(**told, **held, held_until=at)  # type: ignore[arg-type]
            if number == 1:
                redemptions.release(**told, reference="c1")
    redemptions.commit(**told, reference="c2", order_id=order.pk)
    Order.objects.create(
        program=program, member_id=order.member_id, external_id="o0", paid_at=order.paid_at - timedelta(days=1),
        local_date=order.local_date, currency="GBP", amount_minor=1, program_amount_minor=1, content_digest=b"",
        recorded_at=at,
    )  # fmt: skip
    first_orders.flag_used_first_orders(program=program, member_ids=[told["member_id"]], at=at)
    redemptions.reverse(**told, order_id=order.pk, lines={"a": (1, 3), "b": (0, 1)}, is_whole=False)
