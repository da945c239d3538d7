"""A program file for each row of policies: what the row says, and around it what makes it matter."""

from typing import Any

from tests.journeys.policies import Row, Values, read_policies

# Policies on which neither tiers nor credits, referrals and accruals of facts depend, each with its reason.
LEFT_OUT = {
    "program.sandbox": "says which API keys open the program",
    "ladders.tiers.benefits.free_shipping": "is read by quotes; what an order cost is told with it",
    "coupons.discount": "is taken off by quotes; what an order cost is told with it",
    "coupons.first_order": "decides about claims, with what was known; orders here use no coupon",
    "coupons.how": "is how members come to claims; here referrals issue them",
    "coupons.exclusive": "is about coupons beside each other in a quote",
    "coupons.once_per_person": "decides about claims, with what was known",
    "coupons.on_cancel": "is about the claims that orders used; orders here use no coupon",
    "coupons.on_refund": "is about the claims that orders used; orders here use no coupon",
    "earn_rules.trigger": "every file has rules of both kinds",
    "earn_rules.once_per_day": "is true of every rule for activities in a file, and of no other",
}
# Beside the choices that are read from the types: numbers and parts of the file that may be left out.
ADDED: dict[str, Values] = {
    "ladders.minimum_stay_days": (0, 9),
    "wallets.pending_days": (0, 2),
    "wallets.expiry_days": (None, 12),
    "referrals.return_days": (0, 5),
}
ENTRY, STAY = "ladders.tiers.entry.any_of.all_of", "ladders.tiers.stay.any_of.all_of"
AT_LEAST: dict[str, tuple[Any, Any]] = {
    "net_spend": ("100.00", "260.00"), "order_count": (2, 4), "credits": (3, 6), "active_days": (2, 4),
}  # fmt: skip
# Rows in which what comes late moves points both ways, often: what returned orders gave was earned with. In them tiers
# are kept by what reaches them.
TELLING: list[Row] = [
    {
        "program.corrections": "both", "earn_rules.tier_multiplier": True, "earn_rules.formula": "PerAmount",
        "ladders.upgrade": "immediate", "ladders.evaluation.every": "day", "ladders.downgrade.when": when,
        f"{ENTRY}.metric": metric, f"{ENTRY}.window": "RollingWindow", f"{STAY}.metric": None,
        "ladders.minimum_stay_days": 0, "wallets.expiry_days": None, "wallets.pending_days": 2,
        "wallets.rounding": "line", "wallets.clawback": "write_off",
    }
    for when, metric in (("never", "net_spend"), ("at_evaluation", "order_count"))
]  # fmt: skip
COUPONS = [{"code": "thanks", "name": "Thanks", "discount": {"amount": {"GBP": "5.00"}}, "how": "issued"}]


def list_varied() -> dict[str, Values]:
    """Return the policies that rows vary."""
    return {path: values for path, values in read_policies().items() if path not in LEFT_OUT} | ADDED


def is_sound(row: Row) -> bool:
    """Tell whether a file accepts these beside each other: a second level is paid for orders alone."""
    usual = row["referrals.trigger"]
    sides = {row[f"referrals.{side}.trigger"] or usual for side in ("referrer", "referee") if row[f"referrals.{side}"]}
    return row["referrals.chains.depth"] == 1 or "first_order" in sides | {usual}


def document(code: str, row: Row) -> dict[str, Any]:
    """Return the program file of a row."""
    return {
        "program": {
            "code": code, "name": code, "currency": "GBP", "time_zone": "Europe/London",
            "corrections": row["program.corrections"],
        },
        "markets": [
            {"code": "uk", "currency": "GBP", "time_zone": "Europe/London", "locales": ["en-GB"], "countries": ["GB"]}
        ],
        "ladders": [_ladder(row)],
        "coupons": COUPONS,
        "wallets": [_wallet(row), {"code": "gems", "name": "Gems"}],
        "earn_rules": _rules(row),
        "referrals": _referrals(row),
    }  # fmt: skip


def _ladder(row: Row) -> dict[str, Any]:
    when = row["ladders.downgrade.when"]
    tiers: list[dict[str, Any]] = [{"code": "basic", "name": "Basic"}]
    for rank, (name, multiplier) in enumerate([("silver", "1.5"), ("gold", "2")]):
        tier = {"code": name, "name": name, "entry": _need(row, ENTRY, rank)}
        if row[f"{STAY}.metric"]:
            tier["stay"] = _need(row, STAY, rank)
        tiers.append(tier | {"benefits": {"points_multiplier": multiplier}})
    return {
        "code": "main", "name": "Tiers", "upgrade": row["ladders.upgrade"],
        "evaluation": {"every": row["ladders.evaluation.every"], "on": "02-27"},
        "downgrade": {"when": when, "to": row["ladders.downgrade.to"], "grace_days": 4 if when == "after_grace" else 0},
        "minimum_stay_days": row["ladders.minimum_stay_days"], "tiers": tiers,
    }  # fmt: skip


def _need(row: Row, path: str, rank: int) -> dict[str, Any]:
    metric, window = row[f"{path}.metric"], row[f"{path}.window"]
    shapes = {"RollingWindow": {"rolling_days": 6}, "CalendarWindow": {"calendar": row[f"{path}.window.calendar"]}}
    need = {"metric": metric, "at_least": AT_LEAST[metric][rank], "window": shapes.get(window, window)}
    return {"any_of": [{"all_of": [need]}]}


def _wallet(row: Row) -> dict[str, Any]:
    told = {name: row[f"wallets.{name}"] for name in ("rounding", "clawback", "pending_days", "expiry_days")}
    return {"code": "points", "name": "Points"} | {name: value for name, value in told.items() if value is not None}


def _rules(row: Row) -> list[dict[str, Any]]:
    by_amount = {"points": 1, "per": "1.00", "whole_steps": bool(row["earn_rules.formula.whole_steps"])}
    formula = by_amount if row["earn_rules.formula"] == "PerAmount" else {"fixed": 7}
    multiplied = {"tier_multiplier": row["earn_rules.tier_multiplier"]}
    line = {"trigger": "order_line"}
    return [
        {"code": "spend", "name": "Spend", "wallet": "points", "formula": formula} | line | multiplied,
        {"code": "gold", "name": "Gold", "wallet": "gems", "formula": by_amount, "tiers": ["gold"]} | line,
        {"code": "review", "name": "Reviews", "wallet": "points", "trigger": "activity", "activity_kinds": ["review"],
         "formula": {"fixed": 5}} | multiplied,
    ]  # fmt: skip


def _referrals(row: Row) -> dict[str, Any]:
    chain: dict[str, Any] = {"market": "uk", "depth": row["referrals.chains.depth"]}
    if chain["depth"] == 2:
        # A second level has to say what it gives.
        chain |= {"reward": _reward(row["referrals.chains.reward"] or "PointsReward", 30), "at_most_per_month": 10_000}
    told = {
        "name": "Friends", "minimum_order": "20.00", "trigger": row["referrals.trigger"],
        "return_days": row["referrals.return_days"], "chains": [chain],
        "milestones": [{"invitees": 2, "reward": _reward(row["referrals.milestones.reward"], 90)}],
    }  # fmt: skip
    for side, points in (("referrer", 50), ("referee", 20)):
        if row[f"referrals.{side}"]:
            trigger = row[f"referrals.{side}.trigger"]
            told[side] = _reward(row[f"referrals.{side}"], points) | ({"trigger": trigger} if trigger else {})
    return told


def _reward(shape: str, points: int) -> dict[str, Any]:
    return {"coupon": "thanks"} if "Coupon" in shape else {"points": points, "wallet": "points"}
