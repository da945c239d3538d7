"""What each cell of retention is, as one statement over MemberMonth and MemberStat. `analytics.models.Report` says it.

Parameters: program; follow_up, survival, repurchase (days, see analytics.rules).
"""

from analytics.rules import BRACKETS, DAY_N

COLUMNS = "report, period, step, tier_id, to_tier_id, segment_id, ends_on, n, retained, span"

# A member is in a tier's cell from the month after the first order's on: before every later month's start lies the
# first order, before no other's.
_MONTHS = """
SELECT 'active', month, 0, tier_start_id, NULL::bigint, segment_id, (month + interval '1 month')::date,
       sum(n), sum(retained), NULL::numeric
FROM grouped WHERE month > first_month AND tier_start_id IS NOT NULL GROUP BY month, tier_start_id, segment_id
UNION ALL
SELECT 'cohort', first_month, (12 * (extract(year FROM month) - extract(year FROM first_month))
           + extract(month FROM month) - extract(month FROM first_month))::int,
       NULL, NULL, segment_id, (month + interval '1 month')::date, sum(n), sum(retained), NULL
FROM grouped GROUP BY first_month, month, segment_id
UNION ALL
SELECT 'migration', month, 0, tier_before_id, tier_start_id, segment_id, month, sum(n), sum(n), NULL
FROM grouped WHERE month > first_month AND (tier_before_id IS NOT NULL OR tier_start_id IS NOT NULL)
GROUP BY month, tier_before_id, tier_start_id, segment_id
"""

_COUNTED = {
    **{("within", n): f"next_gap <= {n}" for n in DAY_N},
    **{("same_day", n): f"same_day OR next_gap <= {n}" for n in DAY_N},
    **{("bracket", n): f"in_{n}" for n in BRACKETS},
    **{("after", n): f"last_gap >= {n}" for n in DAY_N},
    **{("ever", n): f"last_day - entry_day >= {n}" for n in DAY_N},
    ("repurchase", 0): "same_day OR next_gap <= %(repurchase)s",
}
# Days after the last entry day's end through which a cell goes on; a cell without end has none.
_ENDS = {"after": "%(follow_up)s", "ever": "NULL::int", "repurchase": "%(repurchase)s"}

_FILTERS = ",\n       ".join(
    f"count(*) FILTER (WHERE {condition}) AS {report}_{step}" for (report, step), condition in _COUNTED.items()
)
_VALUES = ",\n    ".join(
    f"('{report}', {step}, {_ENDS.get(report, step)}, {report}_{step})" for report, step in _COUNTED
)

_STATS = f"""
SELECT report, period, step, NULL, NULL, segment_id, (period + interval '1 month')::date + days, n, retained, NULL
FROM entered CROSS JOIN LATERAL (VALUES
    {_VALUES}
) AS counted(report, step, days, retained)
UNION ALL
SELECT 'cycle', period, 0, NULL, NULL, segment_id, NULL, pairs, repeated, span FROM entered
UNION ALL
SELECT 'survival', period, step, NULL, NULL, segment_id, (period + interval '1 month')::date + %(follow_up)s, n, n, NULL
FROM (SELECT date_trunc('month', entry_day::timestamp)::date AS period, segment_id,
             least(last_gap, %(survival)s) AS step, count(*) AS n
      FROM analytics_memberstat WHERE program_id = %(program)s GROUP BY 1, 2, 3) AS lasting
"""  # noqa: S608 own texts

CELLS = f"""
WITH grouped AS MATERIALIZED (
    SELECT month, first_month, segment_id, tier_start_id, tier_before_id,
           count(*) AS n, count(*) FILTER (WHERE orders > 0) AS retained
    FROM analytics_membermonth WHERE program_id = %(program)s GROUP BY 1, 2, 3, 4, 5
), entered AS MATERIALIZED (
    SELECT date_trunc('month', entry_day::timestamp)::date AS period, segment_id, count(*) AS n,
       sum(orders - 1) AS pairs, count(*) FILTER (WHERE orders > 1) AS repeated,
       sum(((extract(epoch FROM last_at) - extract(epoch FROM first_at)) * 1000000)::bigint) AS span,
       {_FILTERS}
    FROM analytics_memberstat WHERE program_id = %(program)s GROUP BY 1, 2
), cell({COLUMNS}) AS (
{_MONTHS}
UNION ALL
{_STATS}
)
SELECT {COLUMNS} FROM cell
"""  # noqa: S608 own texts
