"""What a storefront does in a trial: quote a basket, hold it, pay it, cancel or return the order."""

from collections.abc import Sequence
from typing import Any

from tests.api.client import Api, Reply
from tests.api.conftest import NOW


def line(name: str = "a", list_minor: int = 10_000, *, units: int = 1, **more: Any) -> dict[str, Any]:
    return {"external_id": name, "units": units, "list_minor": list_minor} | more


def quote(
    api: Api,
    *lines: dict[str, Any],
    codes: Sequence[str] = (),
    member: str = "ada",
    currency: str = "GBP",
    shipping_minor: int = 0,
    **more: Any,
) -> Any:
    """Quote a basket, of one line of 100.00 unless lines are named."""
    body = {"member": member, "currency": currency, "lines": list(lines) or [line()], "codes": list(codes)}
    answer = api.post("checkouts", body | {"shipping_minor": shipping_minor} | more)
    assert answer.status == 201, answer.text
    return answer.json


def try_to_hold(api: Api, checkout: Any) -> Reply:
    return api.post(f"checkouts/{checkout['id']}/hold")


def hold(api: Api, *lines: dict[str, Any], **basket: Any) -> Any:
    held = try_to_hold(api, quote(api, *lines, **basket))
    assert held.status == 200, held.text
    return held.json


def order_of(checkout: Any, name: str = "o1", **more: Any) -> dict[str, Any]:
    """The order that pays a checkout."""
    names = ("external_id", "sku", "category", "units", "amount_minor")
    return {
        "external_id": name,
        "member": checkout["member"],
        "market": checkout["market"],
        "currency": checkout["currency"],
        "paid_at": NOW.isoformat(),
        "amount_minor": checkout["price"]["amount_minor"],
        "checkout": checkout["id"],
        "lines": [{key: one[key] for key in names} for one in checkout["price"]["lines"]],
    } | more


def pay(api: Api, checkout: Any, name: str = "o1", **more: Any) -> Any:
    answer = api.post("orders", order_of(checkout, name, **more))
    assert answer.status == 201, answer.text
    return answer.json


def order(api: Api, name: str, minor: int = 10_000, *, member: str = "ada", **more: Any) -> Any:
    """Pay an order without a checkout."""
    told = {"external_id": name, "member": member, "currency": "GBP", "amount_minor": minor}
    answer = api.post("orders", told | {"paid_at": NOW.isoformat()} | more)
    assert answer.status == 201, answer.text
    return answer.json


def give_back(api: Api, name: str, checkout: Any, *returned: tuple[str, int], order: str = "o1") -> Any:
    """Refund units of lines at what was paid for them."""
    paid = {one["external_id"]: one for one in checkout["price"]["lines"]}
    lines = [
        {"external_id": key, "order_line": key, "units": units,
         "amount_minor": paid[key]["amount_minor"] * units // paid[key]["units"]}
        for key, units in returned
    ]  # fmt: skip
    body = {"external_id": name, "member": checkout["member"], "order": order, "currency": checkout["currency"]}
    body |= {"refunded_at": NOW.isoformat(), "amount_minor": sum(one["amount_minor"] for one in lines), "lines": lines}
    answer = api.post("refunds", body)
    assert answer.status == 201, answer.text
    return answer.json


def applied(checkout: Any) -> set[str]:
    return {one["code"] for one in checkout["price"]["coupons"]["applied"]}


def refused(checkout: Any) -> dict[str, str]:
    """Why each coupon or code of a quote takes nothing off."""
    return {one["code"]: one["reason"] for one in checkout["price"]["coupons"]["refused"]}


def off(checkout: Any) -> int:
    minor: int = checkout["price"]["discount_minor"]
    return minor
