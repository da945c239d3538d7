"""Retention by brute force, from the facts alone: what each member did, and the tiers they held.

Written from the definitions of docs/retention.md: loops over members, one cell at a time, nothing carried over. Tiers
are given, each with the instant from which it holds; that they are right is another oracle's matter.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.oracle.local_days import ONE_DAY, add_months, day_start, local_day

DAY_N = (1, 7, 14, 30, 60, 90)
FOLLOW_UP = 180
SETTLE = 14
MICROSECOND = timedelta(microseconds=1)


class Bought(NamedTuple):
    at: datetime
    order_id: str
    market: str
    country: str
    channel: str
    device: str


@dataclass
class Customer:
    """Who ordered at least once. `tiers`: from when each was held, ascending."""

    orders: list[Bought]
    tiers: list[tuple[datetime, str]] = field(default_factory=list)

    def held(self, at: datetime) -> str | None:
        return next((tier for since, tier in reversed(self.tiers) if since <= at), None)


class Key(NamedTuple):
    report: str
    period: date
    step: int
    tier: str | None
    to_tier: str | None


class Part(NamedTuple):
    entry_tier: str | None
    market: str
    country: str
    channel: str
    device: str


# n, retained
Cells = dict[tuple[Key, Part], tuple[int, int]]


def cells(customers: Iterable[Customer], zone: ZoneInfo, last_month: date) -> Cells:
    """Return every cell with somebody in it, through `last_month`."""
    n: Counter[tuple[Key, Part]] = Counter()
    retained: Counter[tuple[Key, Part]] = Counter()
    for customer in customers:
        first = min(customer.orders, key=lambda one: (one.at, one.order_id))
        part = Part(customer.held(first.at + MICROSECOND), *first[2:])
        for key, is_in, is_retained in _of_one(customer, first, zone, last_month):
            n[key, part] += is_in
            retained[key, part] += is_retained
    return {key: (n[key], retained[key]) for key in n}


def _of_one(customer: Customer, first: Bought, zone: ZoneInfo, last_month: date) -> Iterable[tuple[Key, int, int]]:
    days = [local_day(one.at, zone) for one in customer.orders]
    entry = local_day(first.at, zone)
    entry_month = entry.replace(day=1)
    month, k = entry_month, 0
    while month <= last_month:
        bought = any(day.replace(day=1) == month for day in days)
        yield Key("cohort", entry_month, k, None, None), 1, bought
        if k > 0:
            yield from _at_start(customer, zone, month, k, bought=bought)
        month, k = add_months(month, 1), k + 1
    # Every order but the first, by the days since then.
    others = sorted((day - entry).days for day in days)[1:]
    for step in DAY_N:
        yield Key("within", entry_month, step, None, None), 1, any(1 <= gap <= step for gap in others)
        yield Key("same_day", entry_month, step, None, None), 1, any(gap <= step for gap in others)
        yield Key("after", entry_month, step, None, None), 1, any(step <= gap <= FOLLOW_UP for gap in others)
        yield Key("ever", entry_month, step, None, None), 1, any(gap >= step for gap in others)
    for step in (30, 60, 90):
        yield Key("bracket", entry_month, step, None, None), 1, any(step - 30 < gap <= step for gap in others)
    last = max((gap for gap in others if gap <= FOLLOW_UP), default=0)
    yield Key("survival", entry_month, min(last, 90), None, None), 1, 1
    yield Key("repurchase", entry_month, 0, None, None), 1, any(gap <= 90 for gap in others)
    yield Key("cycle", entry_month, 0, None, None), len(others), bool(others)


def _at_start(
    customer: Customer, zone: ZoneInfo, month: date, k: int, *, bought: bool
) -> Iterable[tuple[Key, int, int]]:
    now = customer.held(day_start(month, zone))
    before = customer.held(day_start(add_months(month, -1), zone)) if k > 1 else None
    if now:
        yield Key("active", month, 0, now, None), 1, bought
    if now or before:
        yield Key("migration", month, 0, before, now), 1, 1


def state(key: Key, watermark: date) -> str:
    """Return what may be said of a cell when the facts are in through the watermark."""
    last = add_months(key.period, 1) - ONE_DAY
    match key.report:
        case "cohort":
            last = add_months(key.period, key.step + 1) - ONE_DAY
        case "within" | "same_day" | "bracket":
            last += key.step * ONE_DAY
        case "after" | "survival":
            last += FOLLOW_UP * ONE_DAY
        case "repurchase":
            last += 90 * ONE_DAY
        case "migration":
            last = key.period - ONE_DAY
        case "ever" | "cycle":
            return "provisional"
    if watermark < last:
        return "immature"
    return "final" if watermark >= last + SETTLE * ONE_DAY else "provisional"


def whole(parts: Cells) -> dict[Key, tuple[int, int]]:
    """Return the cells of all parts together."""
    found: dict[Key, tuple[int, int]] = {}
    for (key, _), (n, retained) in parts.items():
        before = found.get(key, (0, 0))
        found[key] = (before[0] + n, before[1] + retained)
    return found
