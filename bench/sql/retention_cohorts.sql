-- By month of the first order, who ordered k months later.
WITH paid AS (
    SELECT DISTINCT member_id, date_trunc('month', local_date::timestamp)::date AS month
    FROM membership_order WHERE program_id = %(program)s AND member_id IS NOT NULL
), joined AS (
    SELECT month, min(month) OVER (PARTITION BY member_id) AS first_month FROM paid
)
SELECT first_month, (12 * (extract(year FROM month) - extract(year FROM first_month))
                     + extract(month FROM month) - extract(month FROM first_month))::int AS k, count(*)
FROM joined GROUP BY 1, 2
