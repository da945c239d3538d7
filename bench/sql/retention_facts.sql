-- Orders over two years, from each member's own first day on, with the days they add up to; a tier at joining, and for a
-- fifth of the members another one a year later.
SELECT setseed(0.5);
SET session_replication_role = replica;
CREATE TEMP TABLE told AS
SELECT m.id AS member_id, timestamptz '2025-01-01 00:00+00' + (starts + (n * (729 - starts) / :orders)
    + random() * ((729 - starts) / :orders)) * interval '1 day' AS paid_at, (1000 + random() * 9000)::int AS minor,
    (ARRAY['uk', 'eu'])[1 + m.id % 2] AS market, (ARRAY['web', 'app', 'store'])[1 + m.id % 3] AS channel
FROM (SELECT id, random() * 600 AS starts FROM membership_member WHERE id BETWEEN :first AND :last ORDER BY id) m
CROSS JOIN generate_series(0, :orders - 1) n;
INSERT INTO membership_order (program_id, member_id, external_id, paid_at, local_date, currency, amount_minor,
    program_amount_minor, market, country, channel, device, content_digest, recorded_at)
SELECT :program, member_id, 'o' || row_number() OVER (), paid_at, (paid_at AT TIME ZONE 'UTC')::date, 'GBP', minor, minor,
    market, '', channel, '', '\x00', paid_at FROM told ORDER BY paid_at;
INSERT INTO membership_memberday (member_id, day, orders, orders_returned, spend_minor, refunds_minor, credits, activities)
SELECT member_id, (paid_at AT TIME ZONE 'UTC')::date, count(*), 0, sum(minor), 0, 0, 0 FROM told GROUP BY 1, 2 ORDER BY 1, 2;
INSERT INTO membership_tierperiod (member_id, ladder_id, tier_id, version_id, valid_from, recorded_at, cause, evidence)
SELECT id, :ladder, :tier, :version, joined_at, recorded_at, 'enrolled', '{}' FROM membership_member
WHERE id BETWEEN :first AND :last ORDER BY id;
INSERT INTO membership_tierperiod (member_id, ladder_id, tier_id, version_id, valid_from, recorded_at, cause, evidence)
SELECT id, :ladder, :other, :version, '2026-01-01 00:00+00', '2026-01-01 00:00+00', 'upgraded', '{}' FROM membership_member
WHERE id BETWEEN :first AND :last AND id % 5 = 0 ORDER BY id;
DROP TABLE told;
