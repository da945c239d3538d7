"""MemberStat and Segment: each member's first order and what came after it, recomputed from the facts."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from analytics.rules import FOLLOW_UP_DAYS
from core.models import Program
from membership.models import Ladder


@dataclass(frozen=True, slots=True)
class StatMismatch:
    """A member whose stored row is not what the facts say, both as texts of all columns; None: there is no row."""

    member_id: int
    expected: str | None
    stored: str | None


def recompute(*, program: Program, member_ids: Sequence[int]) -> int:
    """Write the members' rows, and the segments that they are the first of; return how many changed.

    Locks: the rows it writes; `months.refresh` calls it under the program's.
    """
    asked = {"program": program.pk, "ladder": main_ladder_id(program), "members": list(member_ids)}
    with connection.cursor() as cursor:
        cursor.execute(_SEGMENTS, asked)
        cursor.execute(_WRITE, asked | {"follow_up": FOLLOW_UP_DAYS})
        return int(cursor.rowcount)


def find_stat_mismatches(*, program: Program) -> list[StatMismatch]:
    """Compare every stored row with one raw statement over orders and tier periods.

    Members who are marked or were never refreshed are left out: they wait for the next refresh.
    """
    asked = {"program": program.pk, "ladder": main_ladder_id(program), "follow_up": FOLLOW_UP_DAYS}
    with connection.cursor() as cursor:
        cursor.execute(_MISMATCHES, asked)
        return [StatMismatch(*row) for row in cursor.fetchall()]


def main_ladder_id(program: Program) -> int | None:
    """Return the program's main ladder, whose tiers retention goes by."""
    return Ladder.objects.filter(program=program).order_by("id").values_list("pk", flat=True).first()


# Of two orders at one instant the external id decides. A tier moved by the order itself holds one tick later.
_FIRST = """
    SELECT marked.member_id, entry.*, held.tier_id
    FROM unnest(%(members)s::bigint[]) AS marked(member_id)
    CROSS JOIN LATERAL (
        SELECT paid_at, market, country, channel, device FROM membership_order
        WHERE member_id = marked.member_id ORDER BY paid_at, external_id COLLATE "C" LIMIT 1
    ) AS entry
    LEFT JOIN LATERAL (
        SELECT tier_id FROM membership_tierperiod
        WHERE member_id = marked.member_id AND ladder_id = %(ladder)s AND superseded_at IS NULL
          AND valid_from <= entry.paid_at + interval '1 microsecond' ORDER BY valid_from DESC LIMIT 1
    ) AS held ON true
"""

_SEGMENTS = f"""
INSERT INTO analytics_segment (program_id, tier_id, market, country, channel, device)
SELECT DISTINCT %(program)s::bigint, tier_id, market, country, channel, device FROM ({_FIRST}) AS first
WHERE NOT EXISTS (
    SELECT FROM analytics_segment AS known WHERE known.program_id = %(program)s
      AND known.tier_id IS NOT DISTINCT FROM first.tier_id AND known.market = first.market
      AND known.country = first.country AND known.channel = first.channel AND known.device = first.device
) ON CONFLICT DO NOTHING
"""  # noqa: S608 own texts

_NAMES = (
    *("segment_id", "entry_day", "last_day", "first_at", "last_at", "orders", "next_gap", "last_gap", "same_day"),
    *("in_30", "in_60", "in_90"),
)
_COLUMNS = ", ".join(_NAMES)
_EXCLUDED = ", ".join(f"excluded.{name}" for name in _NAMES)
_STORED = ", ".join(f"stored.{name}" for name in _NAMES)

# What follows the first day, from the days (or orders by day) of one member: `day`, `orders`.
_GAPS = """
    min(gap) FILTER (WHERE gap > 0) AS next_gap,
    coalesce(max(gap) FILTER (WHERE gap <= %(follow_up)s), 0) AS last_gap, bool_or(gap = 0 AND orders > 1) AS same_day,
    bool_or(gap BETWEEN 1 AND 30) AS in_30, bool_or(gap BETWEEN 31 AND 60) AS in_60,
    bool_or(gap BETWEEN 61 AND 90) AS in_90
"""

_WRITE = f"""
INSERT INTO analytics_memberstat AS stored (member_id, program_id, {_COLUMNS})
SELECT first.member_id, %(program)s, segment.id, day.entry_day, day.last_day, first.paid_at, latest.paid_at, day.orders,
       day.next_gap, day.last_gap, day.same_day, day.in_30, day.in_60, day.in_90
FROM ({_FIRST}) AS first
JOIN analytics_segment AS segment ON segment.program_id = %(program)s
    AND segment.tier_id IS NOT DISTINCT FROM first.tier_id AND segment.market = first.market
    AND segment.country = first.country AND segment.channel = first.channel AND segment.device = first.device
CROSS JOIN LATERAL (
    SELECT min(day) AS entry_day, max(day) AS last_day, sum(orders) AS orders, {_GAPS}
    FROM (SELECT day, orders, day - min(day) OVER () AS gap FROM membership_memberday
          WHERE member_id = first.member_id AND orders > 0) AS own
) AS day
CROSS JOIN LATERAL (SELECT max(paid_at) AS paid_at FROM membership_order WHERE member_id = first.member_id) AS latest
ON CONFLICT (member_id) DO UPDATE SET ({_COLUMNS}) = ROW({_EXCLUDED})
WHERE ({_STORED}) IS DISTINCT FROM ({_EXCLUDED})
"""  # noqa: S608 own texts

# Independent of MemberDay. The segment is compared by what it says.
_MISMATCHES = f"""
WITH paid AS (
    SELECT *, local_date - min(local_date) OVER (PARTITION BY member_id) AS gap,
           row_number() OVER (PARTITION BY member_id ORDER BY paid_at, external_id COLLATE "C") AS place
    FROM membership_order WHERE program_id = %(program)s AND member_id IS NOT NULL
), by_day AS (
    SELECT member_id, local_date AS day, gap, count(*) AS orders, min(paid_at) AS first_at, max(paid_at) AS last_at
    FROM paid GROUP BY 1, 2, 3
), summed AS (
    SELECT member_id, min(day) AS entry_day, max(day) AS last_day, min(first_at) AS first_at, max(last_at) AS last_at,
           sum(orders) AS orders, {_GAPS} FROM by_day GROUP BY 1
), expected AS (
    SELECT member_id, (SELECT tier_id FROM membership_tierperiod AS period WHERE period.member_id = paid.member_id
               AND ladder_id = %(ladder)s AND superseded_at IS NULL
               AND valid_from <= paid.paid_at + interval '1 microsecond' ORDER BY valid_from DESC LIMIT 1) AS tier_id,
           market, country, channel, device, entry_day, last_day, first_at, last_at, orders, next_gap, last_gap,
           same_day, in_30, in_60, in_90
    FROM paid JOIN summed USING (member_id) WHERE place = 1
), stored AS (
    SELECT member_id, tier_id, market, country, channel, device, entry_day, last_day, first_at, last_at, orders,
           next_gap, last_gap, same_day, in_30, in_60, in_90
    FROM analytics_memberstat AS stat JOIN analytics_segment AS segment ON segment.id = stat.segment_id
    WHERE stat.program_id = %(program)s
)
SELECT member_id, expected::text, stored::text FROM expected FULL JOIN stored USING (member_id)
WHERE expected::text IS DISTINCT FROM stored::text
  AND member_id NOT IN (SELECT mark.member_id FROM analytics_dirtymonth AS mark WHERE mark.program_id = %(program)s)
ORDER BY member_id
"""  # noqa: S608 own texts
