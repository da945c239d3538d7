-- Members' days with one order each, spread over fourteen months; a tenth of them with a refund. What members spend
-- differs by a factor of a hundred and fifty, so that every tier has some of them.
SELECT setseed(0.5);
INSERT INTO membership_memberday
    (member_id, day, orders, orders_returned, spend_minor, refunds_minor, credits, activities)
SELECT m.id, date '2025-02-01' + n * (420 / :orders) + (random() * (420 / :orders - 1))::int, 1, 0,
    (m.scale * (0.5 + random()))::bigint, CASE WHEN random() < 0.1 THEN (m.scale * 0.3)::bigint ELSE 0 END, 0, 0
FROM (SELECT id, exp(random() * 5) * 1000 AS scale FROM membership_member WHERE id BETWEEN :first AND :last ORDER BY id) m
CROSS JOIN generate_series(0, :orders - 1) n;
