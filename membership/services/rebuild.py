"""Recompute from the facts what is kept beside them, and report where the two differ."""

from dataclasses import dataclass
from datetime import date

from django.db import connection

from core.models import Program
from membership.engagement import NO_ENGAGEMENT

# The local day of an order's return is that of the refund that brought back the last unit: the refund of this
# member at that very instant. SQL converts no time zone.
_DAY_MISMATCHES = """
    WITH facts AS (
        SELECT o.member_id, o.local_date AS day, 1 AS orders, 0 AS orders_returned,
               o.program_amount_minor AS spend, 0::bigint AS refunds, 0 AS credits, 0 AS activities
        FROM membership_order o WHERE o.program_id = %(program)s AND o.member_id IS NOT NULL
        UNION ALL
        SELECT e.member_id, e.local_date, 0, 0, e.program_amount_minor, 0, 0, 0
        FROM membership_orderedit e JOIN membership_member m ON m.id = e.member_id WHERE m.program_id = %(program)s
        UNION ALL
        SELECT o.member_id, (SELECT min(r.local_date) FROM membership_refund r
                             WHERE r.member_id = o.member_id AND r.refunded_at = o.returned_at), 0, 1, 0, 0, 0, 0
        FROM membership_order o
        WHERE o.program_id = %(program)s AND o.member_id IS NOT NULL AND o.returned_at IS NOT NULL
        UNION ALL
        SELECT r.member_id, r.local_date, 0, 0, 0, r.counted_minor, 0, 0
        FROM membership_refund r WHERE r.program_id = %(program)s AND r.member_id IS NOT NULL
        UNION ALL
        SELECT c.member_id, c.local_date, 0, 0, 0, 0, c.credits, 0
        FROM membership_qualifyingcredit c JOIN membership_member m ON m.id = c.member_id
        WHERE m.program_id = %(program)s
        UNION ALL
        SELECT f.member_id, f.local_date, 0, 0, 0, 0, 0, (f.kind <> ALL(%(idle)s))::int
        FROM membership_activity f JOIN membership_member m ON m.id = f.member_id
        WHERE m.program_id = %(program)s AND f.voided_at IS NULL
    ), expected AS (
        SELECT member_id, day, ARRAY[sum(orders), sum(orders_returned), sum(spend), sum(refunds), sum(credits),
                                     sum(activities)]::bigint[] AS sums
        FROM facts GROUP BY member_id, day
    ), kept AS (
        SELECT d.member_id, d.day, ARRAY[d.orders, d.orders_returned, d.spend_minor, d.refunds_minor, d.credits,
                                         d.activities]::bigint[] AS sums
        FROM membership_memberday d JOIN membership_member m ON m.id = d.member_id WHERE m.program_id = %(program)s
    )
    SELECT member_id, day, kept.sums, expected.sums
    FROM kept FULL JOIN expected USING (member_id, day)
    WHERE kept.sums IS DISTINCT FROM expected.sums
    ORDER BY member_id, day"""

_LINE_MISMATCHES = """
    SELECT l.id, l.returned_units, back.units
    FROM membership_orderline l
    JOIN membership_order o ON o.id = l.order_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(r.units), 0) FROM membership_refundline r WHERE r.order_line_id = l.id
    ) AS back (units)
    WHERE o.program_id = %(program)s AND l.returned_units <> back.units
    ORDER BY l.id"""


@dataclass(frozen=True, slots=True)
class DayMismatch:
    """A member's day whose sums differ from its facts. None where there is no row, or no fact.

    Sums: orders, orders returned, spend, refunds, credits, activities.
    """

    member_id: int
    day: date | None
    kept: list[int] | None
    expected: list[int] | None


@dataclass(frozen=True, slots=True)
class LineMismatch:
    """An order line whose returned units differ from its refund lines."""

    order_line_id: int
    kept_units: int
    expected_units: int


def find_day_mismatches(program: Program) -> list[DayMismatch]:
    """Return the days of members that differ from the facts: none, unless something wrote around the services."""
    with connection.cursor() as cursor:
        cursor.execute(_DAY_MISMATCHES, {"program": program.pk, "idle": list(NO_ENGAGEMENT)})
        return [DayMismatch(*row) for row in cursor.fetchall()]


def find_line_mismatches(program: Program) -> list[LineMismatch]:
    """Return the order lines whose returned units differ from their refund lines."""
    with connection.cursor() as cursor:
        cursor.execute(_LINE_MISMATCHES, {"program": program.pk})
        return [LineMismatch(*map(int, row)) for row in cursor.fetchall()]
