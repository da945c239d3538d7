-- Who held which tier as of each month's start, having ordered before it, and who of them ordered in the month.
WITH paid AS (
    SELECT DISTINCT member_id, date_trunc('month', local_date::timestamp)::date AS month
    FROM membership_order WHERE program_id = %(program)s AND member_id IS NOT NULL
), first AS (
    SELECT member_id, min(month) AS month FROM paid GROUP BY member_id
), period AS (
    SELECT member_id, tier_id, valid_from,
           lead(valid_from, 1, 'infinity') OVER (PARTITION BY member_id ORDER BY valid_from) AS valid_to
    FROM membership_tierperiod WHERE ladder_id = %(ladder)s AND superseded_at IS NULL
)
SELECT cell.month, period.tier_id, count(*), count(paid.member_id)
FROM first
JOIN unnest(%(months)s::date[], %(starts)s::timestamptz[]) AS cell(month, starts_at) ON cell.month > first.month
JOIN period ON period.member_id = first.member_id AND period.valid_from <= cell.starts_at
    AND period.valid_to > cell.starts_at
LEFT JOIN paid ON paid.member_id = first.member_id AND paid.month = cell.month
GROUP BY 1, 2
