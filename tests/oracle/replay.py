"""The replay's figures by brute force, from the files alone.

Written from the contract's text and meant to be read top to bottom: lists, sums and loops, no set-based
statement, no state carried from one month to the next. It checks a program of this shape: a ladder of net
spend over rolling local days, evaluated at 00:00 on the 1st of each month, and one point per whole unit of
money per line with one expiry.

Readings of the text, each one decided here:
- A day is a local day of the program's zone; a month starts at the first instant of its 1st.
- A lot earned on local day D ends when day D + expiry_days ends. At that very instant it has expired, so a
  refund dated exactly then takes nothing back.
- Units that come back after a lot expired are lost for clawback for good; units that came back before count.
- What came back of an order is the answer of `tests/oracle/returns.py` of all its refunds: those that name it, and
  those whose lines name its lines.
- The sums of `points` read lots one by one: what came back of a lot before it expired (and before as_of) is
  clawed back; the rest is expired or outstanding. Nobody spends points here, so a lot always holds the rest.
- The default as_of looks at every order and refund in the files, guests' too.
- Of two orders at one instant, order_id as text decides which was first.
- With no two orders of one member the mean between orders is None.
"""

import csv
import gzip
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle import returns
from tests.oracle.local_days import ONE_DAY, add_months, day_start, local_day

DAY_N = (1, 7, 30, 60, 90)

GBP_CUTS = {"bronze": 0, "silver": 25_000, "gold": 100_000, "platinum": 300_000, "diamond": 1_000_000}
USD_CUTS = {"bronze": 0, "silver": 5_000, "gold": 15_000, "platinum": 40_000, "diamond": 100_000}


@dataclass
class Line:
    line_id: str
    units: int
    amount: int


@dataclass
class Order:
    order_id: str
    at: datetime
    day: date
    amount: int
    lines: list[Line] = field(default_factory=list)
    refunds: list[returns.Refund] = field(default_factory=list)


@dataclass
class History:
    """What one member did. Orders by (ordered_at, order_id)."""

    orders: list[Order] = field(default_factory=list)
    refunds: list[tuple[datetime, date, int]] = field(default_factory=list)  # (refunded_at, local day, amount)


@dataclass
class Facts:
    """Everything in the directory. `members` holds those with an order of their own, and only those."""

    zone: ZoneInfo
    members: dict[str, History]
    guest_orders: int
    last_event: datetime


def compute(
    directory: Path | str,
    *,
    cuts: Mapping[str, int],
    time_zone: str = "UTC",
    as_of: Sequence[str] = (),
    window_days: int = 365,
    expiry_days: int = 365,
    minor_per_point: int = 100,
) -> dict[str, Any]:
    """Return the replay's JSON without `verify`, `seconds` and `peak_rss_mb`.

    Units: cuts are minor units by tier, lowest tier first; as_of are ISO 8601 texts with zone, used as keys.
    """
    facts = load(Path(directory), ZoneInfo(time_zone))
    members, zone = list(facts.members.values()), facts.zone
    instants = list(as_of) or [default_as_of(facts)]
    months = month_starts(members, zone)
    return {
        "members": len(members),
        "orders": sum(len(member.orders) for member in members),
        "guest_orders": facts.guest_orders,
        "points": {text: points(members, zone, parse(text), expiry_days, minor_per_point) for text in instants},
        "tiers": {str(month): tier_cells(members, zone, month, cuts, window_days) for month in months},
        "tier_moves": {str(month): tier_moves(facts, month, cuts, window_days) for month in months},
        "cohorts": cohorts(members),
        "day_n": {str(n): within_days(members, n) for n in DAY_N},
        "repurchase": repurchase(members),
    }


# --- the files ---------------------------------------------------------------------------------------------


def parse(text: str) -> datetime:
    """Return the instant of an ISO 8601 text, in UTC."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return at.astimezone(UTC)


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of one file; a file that is not there has none."""
    if path.exists():
        with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)


def load(directory: Path, zone: ZoneInfo) -> Facts:
    """Read the four files."""
    histories: dict[str, History] = {}
    orders: dict[str, Order] = {}
    order_of: dict[str, str] = {}
    events: list[datetime] = []
    guest_orders = 0
    for row in rows(directory / "orders.csv.gz"):
        at = parse(row["ordered_at"])
        order = Order(row["order_id"], at, local_day(at, zone), int(row["amount"]))
        orders[order.order_id] = order
        events.append(at)
        if row["member_id"]:
            histories.setdefault(row["member_id"], History()).orders.append(order)
        else:
            guest_orders += 1
    for row in rows(directory / "order_lines.csv.gz"):
        order_of[row["line_id"]] = row["order_id"]
        orders[row["order_id"]].lines.append(Line(row["line_id"], int(row["qty"]), int(row["amount"])))
    told: dict[str, list[returns.RefundLine]] = {}
    for row in rows(directory / "refund_lines.csv.gz"):
        matched = row["matched_line_id"]
        line = returns.RefundLine(matched or None, int(row["qty"]), int(row["amount"]), order_of.get(matched))
        told.setdefault(row["refund_id"], []).append(line)
    for row in rows(directory / "refunds.csv.gz"):
        at = parse(row["refunded_at"])
        events.append(at)
        if row["member_id"]:
            refund = (at, local_day(at, zone), int(row["amount"]))
            histories.setdefault(row["member_id"], History()).refunds.append(refund)
        own, lines = row.get("order_id") or None, tuple(told.get(row["refund_id"], ()))
        back = returns.Refund(row["refund_id"], at, int(row["amount"]), lines, own)  # type: ignore[arg-type]
        for name in {own, *(line.order for line in lines)} - {None}:
            orders[str(name)].refunds.append(back)
    for order in orders.values():
        order.lines = order.lines or [Line("1", 1, order.amount)]
    for history in histories.values():
        history.orders.sort(key=lambda order: (order.at, order.order_id))
    members = {name: history for name, history in histories.items() if history.orders}
    return Facts(zone, members, guest_orders, max(events))


def default_as_of(facts: Facts) -> str:
    """Return 00:00 of the local day after the last event, as UTC text."""
    at = day_start(local_day(facts.last_event, facts.zone) + ONE_DAY, facts.zone)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- points ------------------------------------------------------------------------------------------------


def points(
    members: list[History], zone: ZoneInfo, as_of: datetime, expiry_days: int, minor_per_point: int
) -> dict[str, int]:
    """Return what was earned before as_of and where it is then: clawed back, expired or outstanding."""
    earned = clawed_back = expired = 0
    for order in (order for member in members for order in member.orders if order.at < as_of):
        expires_at = day_start(order.day + (expiry_days + 1) * ONE_DAY, zone)
        lines = tuple(
            returns.Line(line.line_id, line.units, line.amount, earned=line.amount // minor_per_point, paid_at=order.at)  # type: ignore[arg-type]
            for line in order.lines
        )
        paid = returns.Order(order.order_id, order.amount, lines, order.at)  # type: ignore[arg-type]
        back = [refund for refund in order.refunds if refund.at < as_of and refund.at < expires_at]  # type: ignore[operator]
        worth, taken = sum(line.earned for line in lines), sum(returns.answer(paid, back).due.values())
        earned += worth
        clawed_back += taken
        if expires_at <= as_of:
            expired += worth - taken
    outstanding = earned - clawed_back - expired
    return {"earned": earned, "clawed_back": clawed_back, "expired": expired, "outstanding": outstanding}


# --- tiers -------------------------------------------------------------------------------------------------


def month_starts(members: list[History], zone: ZoneInfo) -> list[date]:
    """Return the 1st of every month M with first member order < M <= last member order."""
    instants = [order.at for member in members for order in member.orders]
    if not instants:
        return []
    month, months = local_day(min(instants), zone).replace(day=1), []
    while day_start(month, zone) <= max(instants):
        if min(instants) < day_start(month, zone):
            months.append(month)
        month = add_months(month, 1)
    return months


def tier_at(member: History, zone: ZoneInfo, month: date, cuts: Mapping[str, int], window_days: int) -> str | None:
    """Return the tier given at the month's start, None for who had not ordered before it."""
    if not any(order.at < day_start(month, zone) for order in member.orders):
        return None
    first_day, last_day = month - window_days * ONE_DAY, month - ONE_DAY
    net = sum(order.amount for order in member.orders if first_day <= order.day <= last_day)
    net -= sum(amount for _, day, amount in member.refunds if first_day <= day <= last_day)
    lowest, *others = cuts
    return max((tier for tier in others if net >= cuts[tier]), key=lambda tier: cuts[tier], default=lowest)


def tier_cells(
    members: list[History], zone: ZoneInfo, month: date, cuts: Mapping[str, int], window_days: int
) -> dict[str, dict[str, int]]:
    """Return, by tier, how many members hold it at the month's start and how many of them order in the month."""
    start, end = day_start(month, zone), day_start(add_months(month, 1), zone)
    cells = {tier: {"n": 0, "retained": 0} for tier in cuts}
    for member in members:
        tier = tier_at(member, zone, month, cuts, window_days)
        if tier is not None:
            cells[tier]["n"] += 1
            cells[tier]["retained"] += any(start <= order.at < end for order in member.orders)
    return cells


def tier_moves(facts: Facts, month: date, cuts: Mapping[str, int], window_days: int) -> dict[str, int]:
    """Compare each member's tier at the month's start with the one at the month start before."""
    moves = {"new": 0, "up": 0, "down": 0, "same": 0}
    rank = {tier: position for position, tier in enumerate(cuts)}
    for member in facts.members.values():
        now = tier_at(member, facts.zone, month, cuts, window_days)
        before = tier_at(member, facts.zone, add_months(month, -1), cuts, window_days)
        if now is None:
            continue
        if before is None:
            moves["new"] += 1
        elif rank[now] > rank[before]:
            moves["up"] += 1
        elif rank[now] < rank[before]:
            moves["down"] += 1
        else:
            moves["same"] += 1
    return moves


# --- retention ---------------------------------------------------------------------------------------------


def cohorts(members: list[History]) -> dict[str, dict[str, int]]:
    """Return, by month of first order, how many members ordered k calendar months later. Zeros are left out."""
    counts: dict[str, dict[int, int]] = {}
    for member in members:
        first = member.orders[0].day
        cohort = counts.setdefault(f"{first:%Y-%m}", {})
        for k in {(o.day.year - first.year) * 12 + o.day.month - first.month for o in member.orders}:
            cohort[k] = cohort.get(k, 0) + 1
    return {month: {str(k): counts[month][k] for k in sorted(counts[month])} for month in sorted(counts)}


def within_days(members: list[History], n: int) -> dict[str, int]:
    """Count members who ordered again within n local days of the first order's day, and on day n or later."""
    counts = {"within_incl_day0": 0, "within_excl_day0": 0, "on_or_after": 0}
    for member in members:
        first, *others = member.orders
        days = [(order.day - first.day).days for order in others]
        counts["within_incl_day0"] += any(0 <= day <= n for day in days)
        counts["within_excl_day0"] += any(1 <= day <= n for day in days)
        counts["on_or_after"] += any(day >= n for day in days)
    return counts


def repurchase(members: list[History]) -> dict[str, Any]:
    """Return how many members ordered twice or more, and the mean days between consecutive orders."""
    gaps = [b.at - a.at for member in members for a, b in pairwise(member.orders)]
    seconds = sum(gap.total_seconds() for gap in gaps)
    return {
        "members_2plus_orders": sum(len(member.orders) >= 2 for member in members),
        "mean_days_between_orders": seconds / len(gaps) / 86_400 if gaps else None,
    }


if __name__ == "__main__":
    # python -m tests.oracle.replay DIR gbp|usd [as_of ...]: print the JSON.
    source, currency, *wanted = sys.argv[1:]
    figures = compute(source, cuts={"gbp": GBP_CUTS, "usd": USD_CUTS}[currency], as_of=wanted)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
