"""MemberMonth: what each member did in each local month, recomputed from what changed and never counted up.

News of changed facts and tiers leaves marks (`DirtyMonth`). `refresh` takes the marks away first and reads the facts
in a later statement: a mark that was taken is about facts that this statement sees, and a mark that comes meanwhile
waits for the taking transaction and then stays for the next refresh.

The months of a program end for all its members at the same month, the frontier. Each transaction keeps it so: a new
month is appended for everybody at once, and a member's recomputed months run through the frontier.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Max, Min

from analytics.models import DirtyMonth, MemberMonth
from analytics.services import stats
from core import locks
from core.calendar import add_months, day_start, local_date, period_start
from core.models import Program
from membership.models import Order

# Marks taken in one transaction: about a second of work for members with two years of months.
MARKS_PER_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class MonthValues:
    """What a row of MemberMonth says. Units: minor units of the program's currency."""

    first_month: date
    segment_id: int | None
    tier_start_id: int | None
    tier_before_id: int | None
    orders: int
    net_minor: int


@dataclass(frozen=True, slots=True)
class MonthMismatch:
    """A member's month whose stored row is not what the facts say; None where there is no row at all."""

    member_id: int
    month: date
    expected: MonthValues | None
    stored: MonthValues | None


def mark_dirty(*, program_id: int, members: Mapping[date, Collection[int]]) -> None:
    """Remember that these members changed from these local months (their first days) on.

    Locks: the marks, ascending; one that a refresh is taking is waited for.
    """
    marks = sorted({(member_id, month) for month, ids in members.items() for member_id in ids})
    DirtyMonth.objects.bulk_create(
        (DirtyMonth(program_id=program_id, member_id=member_id, since=since) for member_id, since in marks),
        batch_size=MARKS_PER_CHUNK,
        ignore_conflicts=True,
    )


def refresh(*, program: Program, through: date | datetime, on_progress: Callable[[int], None] | None = None) -> int:
    """Bring every member's months up to date, through the month that contains `through`; return the rows written.

    Killed in between, the next call goes on where it ended. The frontier never moves back.
    Locks: the program row, by each of its transactions: two refreshes of a program take turns.
    """
    day = local_date(through, program.time_zone) if isinstance(through, datetime) else through
    month = period_start(day, "month")
    written = 0
    while (appended := _append_month(program, month)) is not None:
        written += appended
    after: int | None = 0
    while after is not None:
        after, recomputed = _recompute_chunk(program, month, after)
        written += recomputed
        if on_progress:
            on_progress(written)
    return written


@transaction.atomic
def _append_month(program: Program, through: date) -> int | None:
    """Add the month after the frontier for every member who has months; None if the frontier is there already."""
    locks.lock_row(program)
    frontier = _frontier(program)
    if frontier is None or frontier >= through:
        return None
    return _write(_EVERYBODY, program, [add_months(frontier, 1)], {"frontier": frontier})


@transaction.atomic
def _recompute_chunk(program: Program, through: date, after: int) -> tuple[int | None, int]:
    """Take the next marks and recompute their members; return the last member (None: no mark left) and the rows."""
    locks.lock_row(program)
    last = _frontier(program) or through
    marks = _fetch(_TAKE_MARKS, {"program": program.pk, "last": last, "after": after, "limit": MARKS_PER_CHUNK})
    if not marks:
        return None, 0
    members, since = zip(*marks, strict=True)
    stats.recompute(program=program, member_ids=sorted(set(members)))
    starts = _fetch(_FIRST_MONTHS, {"members": list(members), "since": list(since)})
    written = 0
    if starts:
        names = ("members", "first_months", "start_months", "segments")
        chosen = {name: list(column) for name, column in zip(names, zip(*starts, strict=True), strict=True)}
        written = _write(_CHOSEN, program, _months(min(chosen["start_months"]), last), chosen)
    return max(members), written


def _write(members: str, program: Program, months: list[date], parameters: dict[str, Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_WRITE.format(members=members), parameters | _grid(program, months))
        return int(cursor.rowcount)


def _grid(program: Program, months: list[date]) -> dict[str, Any]:
    """Return the SQL parameters for the months: their days and their first instants in the program's zone."""
    return {
        "program": program.pk,
        "ladder": stats.main_ladder_id(program),
        "months": months,
        "next_months": [add_months(month, 1) for month in months],
        "starts": [day_start(month, program.time_zone) for month in months],
        "months_before": [add_months(month, -1) for month in months],
        "starts_before": [day_start(add_months(month, -1), program.time_zone) for month in months],
    }


def _months(first: date, last: date) -> list[date]:
    months = [first]
    while months[-1] < last:
        months.append(add_months(months[-1], 1))
    return months


def _frontier(program: Program) -> date | None:
    frontier: date | None = MemberMonth.objects.filter(program=program).aggregate(last=Max("month"))["last"]
    return frontier


def _fetch(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def find_month_mismatches(*, program: Program) -> list[MonthMismatch]:
    """Compare every stored month with one raw statement over orders, refunds and tier periods.

    The segment is compared with the member's own, which `stats.find_stat_mismatches` compares with the facts.

    Marked members are left out: they wait for the next refresh. Facts whose news the outbox has not delivered show
    as mismatches, so drain it first. A program that was never refreshed has nothing to compare.
    """
    frontier = _frontier(program)
    if frontier is None:
        return []
    orders = Order.objects.filter(program=program, member__isnull=False)
    first: date = orders.aggregate(day=Min("local_date"))["day"] or frontier
    rows = _fetch(_MISMATCHES, _grid(program, _months(period_start(first, "month"), frontier)))
    return [MonthMismatch(row[0], row[1], _values(row[2:8]), _values(row[8:14])) for row in rows]


def _values(columns: Sequence[Any]) -> MonthValues | None:
    return MonthValues(*columns) if columns[0] is not None else None


# Rows below `after` are taken already; new marks on them wait for the next refresh. Marks beyond the frontier wait
# until it has come to them: a member without rows would otherwise be forgotten.
_TAKE_MARKS = """
DELETE FROM analytics_dirtymonth WHERE (member_id, since) IN (
    SELECT member_id, since FROM analytics_dirtymonth
    WHERE program_id = %(program)s AND since <= %(last)s AND member_id >= %(after)s
    ORDER BY member_id, since LIMIT %(limit)s
) RETURNING member_id, since
"""

# From where on a marked member's months are recomputed: from the mark, or from the first order's month if that has no
# row yet (the news of the first order may still be on its way) or another segment. Who never ordered has no months.
_FIRST_MONTHS = """
SELECT marked.member_id, first.month, CASE
    WHEN EXISTS (SELECT FROM analytics_membermonth AS stored
                 WHERE stored.member_id = marked.member_id AND stored.month = first.month
                   AND stored.segment_id = first.segment_id)
    THEN greatest(marked.since, first.month) ELSE first.month END, first.segment_id
FROM (SELECT member_id, min(since) AS since
      FROM unnest(%(members)s::bigint[], %(since)s::date[]) AS mark(member_id, since) GROUP BY member_id) AS marked
JOIN (SELECT member_id, segment_id, date_trunc('month', entry_day::timestamp)::date AS month
      FROM analytics_memberstat WHERE member_id = ANY(%(members)s::bigint[])) AS first USING (member_id)
"""

_EVERYBODY = """
SELECT member_id, first_month, %(frontier)s::date AS start_month, segment_id FROM analytics_membermonth
WHERE program_id = %(program)s AND month = %(frontier)s
"""

_CHOSEN = """
SELECT * FROM unnest(%(members)s::bigint[], %(first_months)s::date[], %(start_months)s::date[], %(segments)s::int[])
    AS chosen(member_id, first_month, start_month, segment_id)
"""

# A month's last tier is the next one's tier before: of a member's first month nothing is before.
_WRITE = """
INSERT INTO analytics_membermonth AS stored
    (program_id, member_id, month, first_month, segment_id, tier_start_id, tier_before_id, orders, net_minor)
SELECT %(program)s, member.member_id, cell.month, member.first_month, member.segment_id, held.tier_id,
       before.tier_id, coalesce(done.orders, 0), coalesce(done.net_minor, 0)
FROM ({members}) AS member
JOIN unnest(%(months)s::date[], %(next_months)s::date[], %(starts)s::timestamptz[], %(starts_before)s::timestamptz[],
            %(months_before)s::date[])
    AS cell(month, next_month, starts_at, before_at, month_before) ON cell.month >= member.start_month
LEFT JOIN LATERAL (
    SELECT period.tier_id FROM membership_tierperiod AS period
    WHERE period.member_id = member.member_id AND period.ladder_id = %(ladder)s
      AND period.superseded_at IS NULL AND period.valid_from <= cell.starts_at
    ORDER BY period.valid_from DESC LIMIT 1
) AS held ON true
LEFT JOIN LATERAL (
    SELECT period.tier_id FROM membership_tierperiod AS period
    WHERE cell.month_before > member.first_month
      AND period.member_id = member.member_id AND period.ladder_id = %(ladder)s
      AND period.superseded_at IS NULL AND period.valid_from <= cell.before_at
    ORDER BY period.valid_from DESC LIMIT 1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT sum(day.orders) AS orders, sum(day.spend_minor - day.refunds_minor) AS net_minor
    FROM membership_memberday AS day
    WHERE day.member_id = member.member_id AND day.day >= cell.month AND day.day < cell.next_month
) AS done ON true
ON CONFLICT (member_id, month) DO UPDATE
SET first_month = excluded.first_month, segment_id = excluded.segment_id, tier_start_id = excluded.tier_start_id,
    tier_before_id = excluded.tier_before_id, orders = excluded.orders, net_minor = excluded.net_minor
WHERE (stored.first_month, stored.segment_id, stored.tier_start_id, stored.tier_before_id, stored.orders,
       stored.net_minor)
    IS DISTINCT FROM (excluded.first_month, excluded.segment_id, excluded.tier_start_id, excluded.tier_before_id,
       excluded.orders, excluded.net_minor)
"""

# Independent of MemberDay: the facts themselves, by their stored local dates.
_MISMATCHES = """
WITH fact AS (
    SELECT member_id, local_date, 1 AS orders, program_amount_minor AS net_minor
    FROM membership_order WHERE program_id = %(program)s AND member_id IS NOT NULL
    UNION ALL
    SELECT e.member_id, e.local_date, 0, e.program_amount_minor
    FROM membership_orderedit e JOIN membership_member m ON m.id = e.member_id WHERE m.program_id = %(program)s
    UNION ALL
    SELECT member_id, local_date, 0, -counted_minor
    FROM membership_refund WHERE program_id = %(program)s AND member_id IS NOT NULL
), done AS (
    SELECT member_id, date_trunc('month', local_date::timestamp)::date AS month,
           sum(orders) AS orders, sum(net_minor) AS net_minor
    FROM fact GROUP BY 1, 2
), first AS (
    SELECT member_id, min(month) AS month FROM done WHERE orders > 0 GROUP BY 1
), held AS (
    SELECT first.member_id, cell.month, first.month AS first_month, (
               SELECT period.tier_id FROM membership_tierperiod AS period
               WHERE period.member_id = first.member_id AND period.ladder_id = %(ladder)s
                 AND period.superseded_at IS NULL AND period.valid_from <= cell.starts_at
               ORDER BY period.valid_from DESC LIMIT 1
           ) AS tier_start_id, coalesce(done.orders, 0) AS orders, coalesce(done.net_minor, 0) AS net_minor
    FROM first
    JOIN unnest(%(months)s::date[], %(next_months)s::date[], %(starts)s::timestamptz[])
        AS cell(month, next_month, starts_at) ON cell.month >= first.month
    LEFT JOIN done ON done.member_id = first.member_id AND done.month = cell.month
), expected AS (
    SELECT held.*, stat.segment_id, CASE WHEN lag(month, 2) OVER own IS NOT NULL THEN
               lag(tier_start_id) OVER own END AS tier_before_id
    FROM held LEFT JOIN analytics_memberstat AS stat USING (member_id)
    WINDOW own AS (PARTITION BY member_id ORDER BY month)
), stored AS (
    SELECT * FROM analytics_membermonth WHERE program_id = %(program)s
)
SELECT member_id, month,
       expected.first_month, expected.segment_id, expected.tier_start_id, expected.tier_before_id,
       expected.orders::int, expected.net_minor::bigint,
       stored.first_month, stored.segment_id, stored.tier_start_id, stored.tier_before_id,
       stored.orders, stored.net_minor
FROM expected FULL JOIN stored USING (member_id, month)
WHERE (expected.first_month, expected.segment_id, expected.tier_start_id, expected.tier_before_id, expected.orders,
       expected.net_minor)
    IS DISTINCT FROM (stored.first_month, stored.segment_id, stored.tier_start_id, stored.tier_before_id,
       stored.orders, stored.net_minor)
  AND member_id NOT IN (SELECT mark.member_id FROM analytics_dirtymonth AS mark WHERE mark.program_id = %(program)s)
ORDER BY member_id, month
"""
