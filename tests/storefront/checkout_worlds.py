"""A shop in pounds with coupons, a tier discount and points that pay: where checkouts are tested."""

import json
from pathlib import Path
from typing import Any

from core.models import Program
from coupons.models import Claim, Redemption
from coupons.services import claims
from membership.fact_inputs import MemberInput
from membership.models import Member
from membership.services.members import enroll_members
from points.models import Wallet
from points.selectors import Balance, get_balance
from points.services import operations
from storefront.checkout_inputs import CheckoutInput
from storefront.models import Checkout
from storefront.pricing import Basket, Line
from storefront.services import program_file
from tests.storefront.shop import DAY, NOW, START, definition, order, tell

COUPONS: list[dict[str, Any]] = [
    {"code": "ten", "name": "Ten off", "discount": {"amount": {"GBP": "10.00"}}, "on_refund": "restore"},
    {"code": "hats", "name": "Hats", "discount": {"percent": "10%"}, "categories": ["hats"]},
    {"code": "big", "name": "Big", "discount": {"percent": "50%"}, "threshold": {"GBP": "500.00"}, "how": "automatic"},
]
SOCKS = Line("a", 3, 3000, sku="SOCK", category="socks")
HAT = Line("b", 1, 2000, sku="HAT", category="hats")


def make_shop(tmp_path: Path, *members: str, code: str = "shop", **changes: Any) -> Program:
    """A program whose gold members, from 300 pounds on, get 5% off and free shipping; 100 points pay a pound."""
    told = definition(code, {"redemption": {"step": 100, "worth": {"GBP": "1.00"}}})
    told["ladders"][0]["tiers"][2]["benefits"] |= {"discount": "5%", "free_shipping": True}
    told |= {"coupons": COUPONS} | changes
    path = tmp_path / f"{code}.yaml"
    path.write_text(json.dumps(told))
    program = program_file.apply(program_file.load(path), at=START - 50 * DAY, actor="test")
    joined = [MemberInput(external_id=name, joined_at=START - DAY) for name in members or ("ann", "ben")]
    enroll_members(program=program, members=joined, at=START - DAY)
    return program


def member_id(program: Program, name: str = "ann") -> int:
    return Member.objects.get(program=program, external_id=name).pk


def wallet_id(program: Program) -> int:
    return Wallet.objects.get(program=program, code="points").pk


def give_points(program: Program, points: int, name: str = "ann") -> None:
    operations.adjust(
        program=program,
        member_id=member_id(program, name),
        wallet_id=wallet_id(program),
        points=points,
        reason="a start",
        decided_by="test",
        idempotency_key=f"start {name} {points}",
        at=NOW - DAY,
    )


def give_coupon(program: Program, code: str, name: str = "ann", source: str = "test") -> Claim:
    member = member_id(program, name)
    return claims.issue(program=program, member_id=member, definition_code=code, source=source, at=NOW - DAY)


def make_gold(program: Program, name: str = "ann") -> None:
    """Spend what makes gold; its points go, so that balances in tests are round."""
    tell(program, order(f"gold {name}", (1, 30_000), at=NOW - 10 * DAY, member=name))


def balance(program: Program, name: str = "ann") -> Balance:
    return get_balance(member_id=member_id(program, name), wallet_id=wallet_id(program), at=NOW)


def told(*lines: Line, shipping: int = 499, member: str = "ann", **more: Any) -> CheckoutInput:
    basket = Basket("GBP", lines or (SOCKS, HAT), shipping)
    return CheckoutInput(basket=basket, member=member, **more)


def states() -> dict[str, list[str]]:
    """Return the states of everything that a checkout moves."""
    return {
        "checkouts": list(Checkout.objects.order_by("pk").values_list("state", flat=True)),
        "redemptions": list(Redemption.objects.order_by("pk").values_list("state", flat=True)),
        "claims": list(Claim.objects.order_by("pk").values_list("state", flat=True)),
    }
