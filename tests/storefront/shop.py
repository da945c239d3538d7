"""A shop in pounds for the tests of intake: its program, what it tells, and what its members then have."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps

from core.models import Program
from membership.fact_inputs import ActivityInput, OrderInput, OrderLineInput, RefundInput, RefundLineInput
from membership.models import Member
from points.models import Wallet
from points.selectors import Balance, get_balance
from points.services import operations
from storefront.services import intake

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
START = datetime(2026, 1, 10, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
LATER = START + 20 * DAY
Fact = OrderInput | RefundInput | ActivityInput


def tier(code: str, cut: str, multiplier: str) -> dict[str, Any]:
    requirement = {"metric": "net_spend", "at_least": cut, "window": {"rolling_days": 365}}
    return {
        "code": code, "name": code, "entry": {"any_of": [{"all_of": [requirement]}]},
        "benefits": {"points_multiplier": multiplier},
    }  # fmt: skip


def definition(code: str, policy: dict[str, Any]) -> dict[str, Any]:
    """A program in London with immediate upgrades at 100 and 300 pounds, which multiply points by 1.5 and 2."""
    return {
        "program": {"code": code, "name": code, "currency": "GBP", "time_zone": "Europe/London"},
        "ladders": [{
            "code": "main", "name": "Tiers", "upgrade": "immediate", "evaluation": {"every": "month"},
            "tiers": [{"code": "basic", "name": "Basic"}, tier("silver", "100.00", "1.5"), tier("gold", "300.00", "2")],
        }],
        "wallets": [
            {"code": "points", "name": "Points", "expiry_days": 60} | policy,
            {"code": "gems", "name": "Gems", "rounding": "order"},
        ],
        "earn_rules": [
            {"code": "spend", "name": "Spend", "wallet": "points", "trigger": "order_line",
             "formula": {"points": 1, "per": "1.00"}, "tier_multiplier": True},
            {"code": "gem", "name": "Gems", "wallet": "gems", "trigger": "order_line",
             "formula": {"points": 1, "per": "1.00"}},
            {"code": "review", "name": "Reviews", "wallet": "points", "trigger": "activity",
             "activity_kinds": ["review"], "formula": {"fixed": 5}, "tier_multiplier": True},
        ],
    }  # fmt: skip


def order(name: str, *lines: tuple[int, int], at: datetime = START, member: str = "m0") -> OrderInput:
    """An order of lines (units, minor), called `<name>.1`, `<name>.2`."""
    told = tuple(
        OrderLineInput(external_id=f"{name}.{n}", units=units, amount_minor=minor)
        for n, (units, minor) in enumerate(lines, 1)
    )
    total = sum(minor for _, minor in lines)
    return OrderInput(external_id=name, member=member, paid_at=at, currency="GBP", amount_minor=total, lines=told)


def refund(name: str, *parts: tuple[str, int | None, int], at: datetime = LATER, member: str = "m0") -> RefundInput:
    """A refund of parts (order line, units or None, minor)."""
    told = tuple(
        RefundLineInput(
            external_id=f"{name}.{n}", units=units, amount_minor=minor, order=line.split(".")[0], order_line=line
        )
        for n, (line, units, minor) in enumerate(parts, 1)
    )
    total = sum(minor for _, _, minor in parts)
    return RefundInput(external_id=name, member=member, refunded_at=at, currency="GBP", amount_minor=total, lines=told)


def review(name: str, *, at: datetime = START, kind: str = "review", member: str = "m0") -> ActivityInput:
    return ActivityInput(external_id=name, member=member, kind=kind, occurred_at=at)


def tell(program: Program, *facts: Fact) -> None:
    intake.record(
        program=program,
        orders=[fact for fact in facts if isinstance(fact, OrderInput)],
        refunds=[fact for fact in facts if isinstance(fact, RefundInput)],
        activities=[fact for fact in facts if isinstance(fact, ActivityInput)],
        at=NOW,
    )


def balance(program: Program, *, wallet: str = "points", member: str = "m0", at: datetime = LATER) -> Balance:
    return get_balance(
        member_id=Member.objects.get(program=program, external_id=member).pk,
        wallet_id=Wallet.objects.get(program=program, code=wallet).pk,
        at=at,
    )


def redeem(program: Program, points: int, *, at: datetime = LATER) -> None:
    operations.redeem(
        program=program,
        member_id=Member.objects.get(program=program, external_id="m0").pk,
        wallet_id=Wallet.objects.get(program=program, code="points").pk,
        points=points,
        idempotency_key=f"redeem {points}",
        at=at,
    )


def content() -> dict[str, list[dict[str, Any]]]:
    """Return every row of the project's tables."""
    own = ("core", "membership", "points", "analytics")
    models = [model for model in apps.get_models() if model._meta.app_label in own]
    return {model.__name__: list(model._default_manager.order_by("pk").values()) for model in models}
