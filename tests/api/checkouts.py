"""Ann's basket, how a storefront takes it through a checkout, and how its refunds split."""

from pathlib import Path
from typing import Any

from core.models import Program
from coupons.models import Claim, Redemption, RedemptionLine
from membership.models import MemberDay, Order, OrderLine, Refund
from points.models import Hold, LedgerTransaction
from storefront.models import Checkout
from tests.api.client import Api, Reply
from tests.api.conftest import NOW
from tests.storefront.checkout_worlds import give_coupon, give_points, make_shop

SOCKS = {"external_id": "a", "units": 3, "list_minor": 3000, "sku": "SOCK", "category": "socks"}
HAT = {"external_id": "b", "units": 1, "list_minor": 2000, "sku": "HAT", "category": "hats"}
BASKET: dict[str, Any] = {
    "member": "ann",
    "market": "uk",
    "currency": "GBP",
    "lines": [SOCKS, HAT],
    "shipping_minor": 499,
    "redeem": {"wallet": "points"},
}


def make_program(tmp_path: Path) -> Program:
    """Ann has 1,000 points and two coupons: with them the basket costs 23.75 + 14.25, of which 10.00 in points."""
    shop = make_shop(tmp_path)
    give_points(shop, 1_000)
    give_coupon(shop, "ten")
    give_coupon(shop, "hats")
    return shop


def quoted(api: Api, **more: Any) -> dict[str, Any]:
    answer = api.post("checkouts", BASKET | more)
    assert answer.status == 201, answer.text
    body: dict[str, Any] = answer.json
    return body


def held(api: Api, **more: Any) -> dict[str, Any]:
    answer = api.post(f"checkouts/{quoted(api, **more)['id']}/hold")
    assert answer.status == 200, answer.text
    body: dict[str, Any] = answer.json
    return body


def order_of(checkout: dict[str, Any], name: str = "o1", **more: Any) -> dict[str, Any]:
    """The order that pays a checkout, as a storefront tells it."""
    names = ("external_id", "sku", "category", "units", "amount_minor")
    lines = [{name: line[name] for name in names} for line in checkout["price"]["lines"]]
    return {
        "external_id": name,
        "member": checkout["member"],
        "market": checkout["market"],
        "currency": checkout["currency"],
        "paid_at": NOW.isoformat(),
        "amount_minor": checkout["price"]["amount_minor"],
        "checkout": checkout["id"],
        "lines": lines,
    } | more


def refund_of(name: str, *parts: tuple[str, int | None, int], **more: Any) -> dict[str, Any]:
    lines = [
        {"external_id": f"{n}", "order_line": line, "units": units, "amount_minor": minor}
        for n, (line, units, minor) in enumerate(parts)
    ]
    total = sum(minor for _, _, minor in parts)
    told = {"external_id": name, "member": "ann", "order": "o1", "refunded_at": NOW.isoformat(), "currency": "GBP"}
    return told | {"amount_minor": total, "lines": lines} | more


def written() -> list[int]:
    models = (Checkout, Order, OrderLine, Refund, MemberDay, Claim, Redemption, RedemptionLine, Hold, LedgerTransaction)
    return [model._default_manager.count() for model in models]


def split(answer: Reply | dict[str, Any]) -> list[tuple[Any, ...]]:
    body = answer if isinstance(answer, dict) else answer.json
    lines = body.get("refund", body)["lines"]
    return [(line["money_minor"], line["in_points_minor"], line["points"]) for line in lines]
