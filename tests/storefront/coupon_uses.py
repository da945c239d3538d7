"""Everything that is told of coupons, each once or more."""

from datetime import datetime
from typing import Any

from core.models import Program
from coupons.services import claims, redemptions
from membership.models import Order
from tests.coupons.giving import BASKET, publish, use


def use_coupons(program: Program, *, at: datetime, member: str = "m0") -> None:
    """Issue three coupons; one is given back by its checkout, one is used by the order o1 and comes back in part."""
    publish(program, "birthday", how="code", valid_days=30, at=at)
    order = Order.objects.get(program=program, external_id="o1", member__external_id=member)
    told: dict[str, Any] = {"program": program, "member_id": order.member_id, "at": at}
    for number in range(3):
        claim = claims.issue(**told, definition_code="birthday", source=f"birthday:{number}")
        if number:
            held = {"reference": f"c{number}", "currency": "GBP", "applied": [use(program, claim)], "basket": BASKET}
            redemptions.hold(**told, **held, held_until=at)  # type: ignore[arg-type]
    redemptions.release(**told, reference="c1")
    redemptions.commit(**told, reference="c2", order_id=order.pk)
    redemptions.reverse(**told, order_id=order.pk, lines={"a": (1, 3), "b": (0, 1)})
