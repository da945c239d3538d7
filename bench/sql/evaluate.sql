-- The evaluation as one would write it by hand for this one ladder: the same rows as the service's, nothing more.
SET work_mem = '64MB';
SET max_parallel_workers_per_gather = 0;
INSERT INTO membership_tierperiod
    (member_id, ladder_id, tier_id, version_id, valid_from, recorded_at, cause, evidence)
SELECT member_id, :ladder, reached, :version, :'instant', :'instant',
    CASE WHEN reached > tier_id THEN 'upgraded' ELSE 'downgraded' END,
    jsonb_build_object('net_spend:rolling_365', spend)
FROM (
    SELECT member_id, tier_id, coalesce(spend, 0) AS spend,
        CASE WHEN spend >= 1000000 THEN :diamond WHEN spend >= 300000 THEN :platinum WHEN spend >= 100000 THEN :gold
            WHEN spend >= 25000 THEN :silver ELSE :bronze END AS reached
    FROM (
        SELECT DISTINCT ON (member_id) member_id, tier_id FROM membership_tierperiod
        WHERE member_id BETWEEN :first AND :last AND ladder_id = :ladder AND superseded_at IS NULL
            AND valid_from < :'instant'
        ORDER BY member_id, valid_from DESC
    ) held
    LEFT JOIN (
        SELECT member_id, sum(spend_minor - refunds_minor) AS spend FROM membership_memberday
        WHERE member_id BETWEEN :first AND :last AND day BETWEEN :'first_day' AND :'last_day' GROUP BY member_id
    ) days USING (member_id)
) members
WHERE reached <> tier_id;
