-- Who ordered again within N local days of the first order's day, and on day N or later.
WITH ordered AS (
    SELECT member_id, local_date, min(local_date) OVER (PARTITION BY member_id) AS first_day
    FROM membership_order WHERE program_id = %(program)s AND member_id IS NOT NULL
), again AS (
    SELECT count(*) FILTER (WHERE local_date = first_day) > 1 AS on_day0,
           min(local_date - first_day) FILTER (WHERE local_date > first_day) AS next,
           max(local_date - first_day) AS last
    FROM ordered GROUP BY member_id
), shape AS (
    SELECT on_day0, next, last, count(*) AS members FROM again GROUP BY 1, 2, 3
)
SELECT n, coalesce(sum(members) FILTER (WHERE on_day0 OR next <= n), 0)::bigint,
       coalesce(sum(members) FILTER (WHERE next <= n), 0)::bigint,
       coalesce(sum(members) FILTER (WHERE last >= n), 0)::bigint
FROM unnest(%(days)s::int[]) AS wanted(n) LEFT JOIN shape ON true
GROUP BY n
