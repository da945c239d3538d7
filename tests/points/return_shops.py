"""Shops whose programs choose differently among the policies that matter when something comes back."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from core.models import Program
from core.money import decimal_text
from points.models import EarnRuleVersion, Wallet
from storefront.services import program_file

START = datetime(2026, 1, 10, tzinfo=UTC)
LONG_AGO = START - timedelta(days=400)
MINUTE = timedelta(minutes=1)
EXPIRY_DAYS = 60
CLAWBACKS = ["debt", "write_off", "own_lot", "refuse"]
CORRECTIONS = ["both", "upward", "never"]
# What one unit of the program's currency is in units of others, about; in minor units of both.
WORTH = {"GBP": 100, "EUR": 115, "JPY": 190, "KWD": 390}
# (minor units paid, by how many points): whole, not whole, and more than one point a minor unit.
STEPS = [(1, 1), (7, 3), (1, 10)]
_numbers = count(1)


@dataclass
class Shop:
    """A program of these. `expiry_days` are of its points; its gems live for ever."""

    program: Program
    currency: str
    clawback: dict[str, str]
    rounding: dict[str, str]
    expiry_days: int | None
    has_multiplier: bool
    step: int  # points are used in multiples of it
    wallets: dict[str, int]
    rules: dict[int, str]  # by version

    def points_of(self, rule: str, basis: int) -> int:
        """Return what a rule says of one line, without a multiplier and where it rounds line by line."""
        one = WORTH[self.currency] if self.currency != "KWD" else 1_000
        one = 100 if self.currency == "JPY" else one
        return {
            "spend": basis // one,
            "steps": 3 * (basis // (5 * one)),
            "hats": 7 if basis else 0,
            "shoes": 2 * basis // one if basis >= 2 * one else 0,
        }[rule]


def make_shops(folder: Path, how_many: int = 12) -> list[Shop]:
    """Return shops that between them have every policy, and most pairs of them."""
    return [make_shop(folder, number) for number in range(how_many)]


def make_shop(folder: Path, number: int) -> Shop:
    currency = ["GBP", "JPY", "KWD"][number % 3]
    clawback = {"points": CLAWBACKS[number % 4], "gems": CLAWBACKS[(number // 3) % 4]}
    rounding = {"points": ["line", "order"][number // 2 % 2], "gems": ["order", "line"][number // 3 % 2]}
    expiry_days = EXPIRY_DAYS if number % 5 < 3 else None
    has_multiplier = number % 4 in (1, 2)
    step = STEPS[number // 4 % 3]
    told = definition(f"returns{next(_numbers)}", currency, CORRECTIONS[number % 3 - number // 6], step)
    for wallet in told["wallets"]:
        wallet |= {"clawback": clawback[wallet["code"]], "rounding": rounding[wallet["code"]]}
    told["wallets"][0] |= {"expiry_days": expiry_days} if expiry_days else {}
    if not has_multiplier:
        del told["earn_rules"][0]["tier_multiplier"]
    path = folder / f"{told['program']['code']}.yaml"
    path.write_text(json.dumps(told))
    program = program_file.apply(program_file.load(path), at=LONG_AGO, actor="test")
    wallets = {wallet.code: wallet.pk for wallet in Wallet.objects.filter(program=program)}
    versions = EarnRuleVersion.objects.filter(owner__program=program).select_related("owner")
    rules = {version.pk: version.owner.code for version in versions}
    return Shop(program, currency, clawback, rounding, expiry_days, has_multiplier, step[1], wallets, rules)


def definition(code: str, currency: str, corrections: str, step: tuple[int, int]) -> dict[str, Any]:
    """Two wallets, of which points pay; rules by amount, by whole steps, fixed, and by category."""
    one = {"GBP": 100, "JPY": 100, "KWD": 1_000}[currency]

    def money(units: int) -> str:
        return decimal_text(units * one, currency)

    def by_amount(points: int, units: int) -> dict[str, Any]:
        return {"points": points, "per": money(units)}

    need = {"metric": "net_spend", "at_least": money(60), "window": "lifetime"}
    worth = {name: decimal_text(step[0], name) for name in WORTH}
    line = {"trigger": "order_line"}
    return {
        "program": {"code": code, "name": code, "currency": currency, "time_zone": "UTC", "corrections": corrections},
        "ladders": [{
            "code": "main", "name": "Tiers", "upgrade": "immediate", "evaluation": {"every": "year"},
            "downgrade": {"when": "never"},
            "tiers": [
                {"code": "basic", "name": "Basic"},
                {"code": "silver", "name": "Silver", "entry": {"any_of": [{"all_of": [need]}]},
                 "benefits": {"points_multiplier": "1.5"}},
            ],
        }],
        "wallets": [
            {"code": "points", "name": "Points", "redemption": {"step": step[1], "worth": worth}},
            {"code": "gems", "name": "Gems"},
        ],
        "earn_rules": [
            {"code": "spend", "name": "Spend", "wallet": "points", "formula": by_amount(1, 1), "tier_multiplier": True}
            | line,
            {"code": "steps", "name": "Steps", "wallet": "gems", "formula": by_amount(3, 5) | {"whole_steps": True}}
            | line,
            {"code": "hats", "name": "Hats", "wallet": "points", "formula": {"fixed": 7}, "categories": ["hats"]}
            | line,
            {"code": "shoes", "name": "Shoes", "wallet": "gems", "formula": by_amount(2, 1), "categories": ["shoes"],
             "minimum": money(2)} | line,
        ],
    }  # fmt: skip
