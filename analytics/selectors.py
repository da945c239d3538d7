"""Retention in raw counts: what the replay reports, each number by one statement over a set.

No maturity filter, no intervals. Days and months are the stored local ones; SQL converts no zones. A guest has no
numbers but a count, and a member known from refunds alone is counted nowhere.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from django.db import connection
from django.db.models import Max, Min

from analytics.models import MemberMonth
from core.calendar import add_months
from core.models import VersionStatus
from membership.models import Ladder

DAY_N = (1, 7, 30, 60, 90)
MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Cell:
    """How many members held a tier at a month's start, and how many of them ordered in the month."""

    n: int = 0
    retained: int = 0


@dataclass(frozen=True, slots=True)
class Moves:
    """Members at a month's start by what became of their tier since the month start before."""

    new: int = 0
    up: int = 0
    down: int = 0
    same: int = 0


@dataclass(frozen=True, slots=True)
class DayCounts:
    """Members with an order other than their first on local day 0..N, 1..N, or N and later after the first's."""

    within_incl_day0: int
    within_excl_day0: int
    on_or_after: int


@dataclass(frozen=True, slots=True)
class Repurchase:
    """Mean over all pairs of consecutive orders of one member; None without a pair."""

    members_2plus_orders: int
    mean_days_between_orders: float | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Members who ordered, their orders, and the orders of guests."""

    members: int
    orders: int
    guest_orders: int


def list_months(*, program_id: int) -> list[date]:
    """Return every month whose start lies after the first member order and not after the last one.

    first order < start of M is: the first order's month is before M. Start of M <= last order is: the last order's
    month is M or later. An order at exactly 00:00 on the 1st belongs to the month that begins there, in both.
    """
    months = MemberMonth.objects.filter(program_id=program_id)
    first: date | None = months.aggregate(month=Min("month"))["month"]
    last: date | None = months.filter(orders__gt=0).aggregate(month=Max("month"))["month"]
    found: list[date] = []
    while first is not None and last is not None and first < last:
        first = add_months(first, 1)
        found.append(first)
    return found


def get_retention_by_tier(*, program_id: int, months: Sequence[date] | None = None) -> dict[date, dict[str, Cell]]:
    """Return the cells of each month start and tier, all tiers of the main ladder, lowest first, zeros included.

    A member belongs to M from their first order strictly before M on, in the tier held as of the start of M. Who had
    ordered, but held no tier yet, is in no cell.
    """
    tiers = list_main_tiers(program_id=program_id)
    chosen = list_months(program_id=program_id) if months is None else list(months)
    cells = {month: {code: Cell() for code in tiers.values()} for month in chosen}
    for month, tier_id, n, retained in _fetch(_CELLS, {"program": program_id, "months": chosen}):
        cells[month][tiers[tier_id]] = Cell(n, retained)
    return cells


def get_tier_moves(*, program_id: int) -> dict[date, Moves]:
    """Return for each month start who is new to the cells and who moved up, moved down or stayed since the one before.

    Ranks are those of the main ladder's version published last.
    """
    ranks = list(list_main_tiers(program_id=program_id))
    found: dict[date, dict[str, int]] = {month: {} for month in list_months(program_id=program_id)}
    for month, move, members in _fetch(_MOVES, {"program": program_id, "tiers": ranks}):
        if month in found:
            found[month][move] = members
    return {month: Moves(**moves) for month, moves in found.items()}


def get_cohorts(*, program_id: int) -> dict[date, dict[int, int]]:
    """Return by month of the first order how many members ordered k calendar months later; absent means none."""
    cohorts: dict[date, dict[int, int]] = {}
    for month, k, members in _fetch(_COHORTS, {"program": program_id}):
        cohorts.setdefault(month, {})[k] = members
    return cohorts


def get_day_n(*, program_id: int, days: Sequence[int] = DAY_N) -> dict[int, DayCounts]:
    """Return for each N >= 1 who ordered again within N local days of the first order's day, and on day N or later.

    An order other than the first on the first day counts as day 0: which of them is the first makes no difference.
    """
    rows = _fetch(_DAY_N, {"program": program_id, "days": list(days)})
    return {n: DayCounts(*counts) for n, *counts in rows}


def get_repurchase(*, program_id: int) -> Repurchase:
    """Return who ordered twice or more and the mean time between consecutive orders.

    The gaps of one member add up to last order - first order, in whole microseconds; the division comes last.
    """
    members, pairs, microseconds = _fetch(_REPURCHASE, {"program": program_id})[0]
    mean = int(microseconds) / (int(pairs) * MICROSECONDS_PER_DAY) if pairs else None
    return Repurchase(members, mean)


def get_counts(*, program_id: int) -> Counts:
    """Return how many members ordered, how many orders are theirs, and how many are guests'."""
    return Counts(*_fetch(_COUNTS, {"program": program_id})[0])


def list_main_tiers(*, program_id: int) -> dict[int, str]:
    """Return the tiers of the program's main ladder by id, lowest first, by the version published last."""
    ladder = Ladder.objects.filter(program_id=program_id).order_by("id").first()
    version = ladder.versions.exclude(status=VersionStatus.DRAFT).order_by("-number").first() if ladder else None
    if ladder is None or version is None:
        return {}
    ids = dict(ladder.tiers.values_list("code", "id"))
    return {ids[tier["code"]]: tier["code"] for tier in version.definition["tiers"]}


def get_report(*, program_id: int) -> dict[str, Any]:
    """Return all of the above as JSON-ready values, in the shape of the replay's report."""
    cells = get_retention_by_tier(program_id=program_id)
    return asdict(get_counts(program_id=program_id)) | {
        "tiers": {str(month): {tier: asdict(cell) for tier, cell in row.items()} for month, row in cells.items()},
        "tier_moves": {str(m): asdict(moves) for m, moves in get_tier_moves(program_id=program_id).items()},
        "cohorts": {
            f"{month:%Y-%m}": {str(k): members for k, members in row.items()}
            for month, row in get_cohorts(program_id=program_id).items()
        },
        "day_n": {str(n): asdict(counts) for n, counts in get_day_n(program_id=program_id).items()},
        "repurchase": asdict(get_repurchase(program_id=program_id)),
    }


def _fetch(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


# month > first_month: the first order lies strictly before the month's start. It lies in first_month, which ends where
# the next month starts; so it is before the start of every later month, and of no other.
_CELLS = """
SELECT month, tier_start_id, count(*), count(*) FILTER (WHERE orders > 0)
FROM analytics_membermonth
WHERE program_id = %(program)s AND month = ANY(%(months)s::date[]) AND month > first_month AND tier_start_id IS NOT NULL
GROUP BY month, tier_start_id
"""

# A member's rows have no gap: the row before is the month before. The first row is in no cell, so the second is new.
_MOVES = """
WITH ranked AS (
    SELECT month, first_month, array_position(%(tiers)s::bigint[], tier_start_id) AS rank, member_id
    FROM analytics_membermonth WHERE program_id = %(program)s AND month > first_month AND tier_start_id IS NOT NULL
), compared AS (
    SELECT month, rank, lag(rank) OVER (PARTITION BY member_id ORDER BY month) AS rank_before FROM ranked
)
SELECT month, CASE WHEN rank_before IS NULL THEN 'new' WHEN rank > rank_before THEN 'up'
                   WHEN rank < rank_before THEN 'down' ELSE 'same' END, count(*)
FROM compared GROUP BY 1, 2
"""

_COHORTS = """
SELECT first_month, (12 * (extract(year FROM month) - extract(year FROM first_month))
                     + extract(month FROM month) - extract(month FROM first_month))::int AS k, count(*)
FROM analytics_membermonth WHERE program_id = %(program)s AND orders > 0
GROUP BY 1, 2 ORDER BY 1, 2
"""

# One row per distinct (day 0, next, last), then the few N over those.
_DAY_N = """
WITH shape AS (
    SELECT same_day, next_gap AS next, last_day - entry_day AS last, count(*) AS members
    FROM analytics_memberstat WHERE program_id = %(program)s GROUP BY 1, 2, 3
)
SELECT n, coalesce(sum(members) FILTER (WHERE same_day OR next <= n), 0)::bigint,
       coalesce(sum(members) FILTER (WHERE next <= n), 0)::bigint,
       coalesce(sum(members) FILTER (WHERE last >= n), 0)::bigint
FROM unnest(%(days)s::int[]) AS wanted(n) LEFT JOIN shape ON true
GROUP BY n ORDER BY n
"""

_REPURCHASE = """
SELECT count(*) FILTER (WHERE orders > 1), coalesce(sum(orders - 1), 0),
       coalesce(sum((extract(epoch FROM last) - extract(epoch FROM first)) * 1000000), 0)
FROM (SELECT count(*) AS orders, min(paid_at) AS first, max(paid_at) AS last
      FROM membership_order WHERE program_id = %(program)s AND member_id IS NOT NULL GROUP BY member_id) AS member
"""

_COUNTS = """
SELECT count(DISTINCT member_id), count(member_id), count(*) - count(member_id)
FROM membership_order WHERE program_id = %(program)s
"""
